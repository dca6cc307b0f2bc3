"""Activations: piecewise linear, smooth, and of pairs of channels."""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import nn

from ..bounds import Shape
from ..layers.absolute import Abs, BetaAbs, SoftHuber
from ..layers.groupsort import FullSort, GroupSort
from ..layers.householder_activation import StoredHouseholder
from ..layers.n_activation import NActivation
from ..layers.spline import LinearSpline
from ..operations import GroupNorms, PiecewiseLinear
from ..program import Affine, Gather
from ._linear import conv
from ._rewriting import Done, Parts, rewriting


def pieces(knots: Any, slopes: Any, first: Any) -> Parts:
    parts = [torch.as_tensor(each, dtype=torch.float64) for each in (knots, slopes, first)]
    return [PiecewiseLinear(*parts).double().eval()]


@rewriting(nn.LeakyReLU, nn.PReLU, Abs, BetaAbs)
def _prelu(module: Any, shape: Shape) -> Parts:
    if isinstance(module, BetaAbs):
        below = torch.ones(shape[0], dtype=torch.float64)
        below[: int(module.beta * shape[0])] = -1
    elif isinstance(module, nn.PReLU):
        below = module.weight.detach().double()
    else:
        below = torch.tensor([getattr(module, "negative_slope", -1.0)], dtype=torch.float64)
    zeros = torch.zeros_like(below)
    return pieces(zeros[:, None], torch.stack([below, zeros + 1], dim=1), zeros)


@rewriting(nn.Hardtanh, nn.ReLU6)
def _hardtanh(module: nn.Hardtanh, shape: Shape) -> Parts:
    ends = [float(module.min_val), float(module.max_val)]
    return pieces([ends], [[0.0, 1.0, 0.0]], ends[:1])


@rewriting(nn.Softshrink)
def _softshrink(module: nn.Softshrink, shape: Shape) -> Parts:
    width = float(module.lambd)
    return pieces([[-width, width]], [[1.0, 0.0, 1.0]], [0.0])


@rewriting(NActivation)
def _n_activation(module: NActivation, shape: Shape) -> Parts:
    ends = module.thresholds.detach().double().sort(dim=0).values.mT
    slopes = torch.tensor([[1.0, -1.0, 1.0]], dtype=torch.float64).expand(len(ends), 3)
    return pieces(ends, slopes, -ends[:, 0])


@rewriting(LinearSpline)
def _spline(module: LinearSpline, shape: Shape) -> Parts:
    slopes = module.slopes.detach().double().clamp(-1, 1)
    knots = torch.linspace(-module.limit, module.limit, module.knots, dtype=torch.float64)
    return pieces(knots.expand(len(slopes), -1), slopes, module.offset.detach())


def _line(slope: float, value: float = 0.0) -> Parts:
    """A line as a piecewise linear function, which blocks know the slope of."""
    return pieces([[0.0]], [[slope, slope]], [value])


@rewriting(nn.Sigmoid)
def _sigmoid(module: nn.Sigmoid, shape: Shape) -> Parts:
    """σ(x) = ½ + ½ tanh(x / 2)."""
    return [*_line(0.5), nn.Tanh(), *_line(0.5, 0.5)]


@rewriting(nn.Softplus)
def _softplus(module: nn.Softplus, shape: Shape) -> Parts:
    """log(1 + e^{βx}) / β = −log σ(−βx) / β."""
    beta = float(module.beta)
    return [*_line(-beta), nn.LogSigmoid(), *_line(-1 / beta)]


@rewriting(nn.ELU)
def _elu(module: nn.ELU, shape: Shape) -> Parts:
    """α (eˣ − 1) is α times a number that is negative where x is."""
    alpha = float(module.alpha)
    return [Done(nn.ELU()), *([] if alpha == 1 else pieces([[0.0]], [[alpha, 1.0]], [0.0]))]


@rewriting(SoftHuber)
def _soft_huber(module: SoftHuber, shape: Shape) -> Parts:
    """The norm of (x, δ), minus δ."""
    count = math.prod(shape)
    pair = torch.tensor([1.0, 0.0], dtype=torch.float64).repeat(count)[:, None, None]
    delta = torch.tensor([0.0, module.delta], dtype=torch.float64).repeat(count)
    shift = Affine(shift=torch.full((1,), -module.delta, dtype=torch.float64))
    wide = [Gather(None, (count, 1)), conv(pair, delta, groups=count), GroupNorms(2)]
    return [*wide, Gather(None, shape), shift]


@rewriting(FullSort)
def _full_sort(module: FullSort, shape: Shape) -> Parts:
    return [GroupSort(shape[0])]


@rewriting(StoredHouseholder)
def _householder(module: StoredHouseholder, shape: Shape) -> Parts:
    """Absolute values along normals v, in coordinates in which they are the first of a pair."""
    slopes = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).double().repeat(shape[0] // 2, 1)
    zeros = torch.zeros(shape[0], 1).double()
    absolute = pieces(zeros, slopes, zeros[:, 0])
    found: list[nn.Module | Done] = []
    for normals in module.normals.detach().double():
        s, c = normals.unbind(1)
        turn = torch.stack([s, -c, c, s], dim=1).view(-1, 2, 1)  # rows v and its orthogonal
        back = turn.view(-1, 2, 2).mT.reshape(-1, 2, 1)
        pair = (conv(turn, groups=len(s)), conv(back, groups=len(s)))
        found += [pair[0], *absolute, pair[1]]
    wide = (shape[0], math.prod(shape[1:]))
    return [Gather(None, wide), *found, Gather(None, shape)]
