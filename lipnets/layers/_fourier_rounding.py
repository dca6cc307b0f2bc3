"""What is rounded where images are multiplied by matrices at their frequencies."""

__all__ = ["Transform", "fourier_rounding"]

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, Shape, class_name
from ..linalg import ETA
from ..rounding import UP, Analysis, Ball, norms, number
from ..rounding_rules import moduli_norm, product_error
from ._fourier import factors

Size = tuple[int, int]


@dataclass(frozen=True, eq=False)
class Transform:
    """How images are transformed.

    Arguments:
        channels: The number of channels of what is transformed.
        period: The height H and the width W of the torus.
        size: The height and width of images on it.
        outs: Those of the images that are transformed back.
        waves: The cosines and sines of frequencies at all pixels, with shape (2F, HW), where one product
            by them is the transform; None where it is one along each axis.
    """

    channels: int
    period: Size
    size: Size
    outs: Size
    waves: Tensor | None = None


@dataclass(frozen=True)
class _Stage:
    """A product with a matrix: bounds of its norm, of that of its moduli, and of its entries.

    Arguments:
        terms: The number of products in a sum.
        outputs: The number of sums.
        norm: A bound of the norm of the exact matrix.
        moduli: A bound of the norm of the moduli of the matrix that is stored.
        off: A bound of the norm of the moduli of the difference of the two.
        largest: A bound of its entries.
    """

    terms: int
    outputs: int
    norm: float
    moduli: float
    off: float
    largest: float


def fourier_rounding(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    symbols: Tensor,
    bias: Tensor | None,
    transform: Transform,
) -> Ball:
    """The ball behind T = C R* Re₀ S R P and a bias, computed by matrix products (`_fourier`).

    *Proof.*  P and C move numbers.  The others are products with real matrices, one after another; one of
    norm L behind which numbers are off by e, and that is itself off, adds to them Le + ‖M′ − M‖ N + what
    `product_error` says, where N bounds the norm of computed numbers before.
    (a) *Along the width,* cosines and −sines of frequencies k ≤ W/2: the sum of |x̂ₖ|² is W ‖x‖² at most.
    (b) *Along the height,* [C S; −S C] on real and imaginary parts, the same with H.
    (c) *At a frequency,* [A −B; B A] for the symbol A + iB, of norm max ‖S(ω)‖.  The norm of [|A| |B|; |B| |A|]
    is that of |A| + |B|, and sums have twice as many terms as there are channels.
    (d), (e) *Back*, by the adjoints of (b) and (a), in which frequencies count once or twice and are divided by
    HW: of norms 2√H and √W / HW at most.
    Waves of few frequencies do (a) and (b) at once, with the norm √(HW), and (d) and (e), with 2 / √(HW).
    Entries of the matrices are within 2⁻⁵⁰ of the truth in float64, relative to the largest
    (`convolutions.roots_of_unity`, products of two and of a weight), and stored: off by u of it more.
    The bias is stored, off by a part of itself, and added to what was stored: u of the sum.  ∎

    Arguments:
        module: The layer.
        shape: The shape of an example.
        ball: The ball of its inputs.
        analysis: The analysis that asks.
        symbols: The matrices, as products take them, with shape (P, I, O, 2).
        bias: What is added to channels, with shape (O,), or None.
        transform: How images are transformed.

    Raises:
        NotCertifiedError: In formats of 16 bits, which have no complex numbers.
    """
    a = analysis.arithmetic
    if a.unit > 2.0**-24:
        raise NotCertifiedError(
            f"{class_name(module)} computes with complex numbers, which {a.name} lacks: use float32."
        )
    constant = analysis.lipschitz(module, shape)
    outs = analysis.output_shape(module, shape)
    name = ("stages", shape, a.name)
    stages = analysis.once(
        module, name, lambda: _stages(analysis, symbols, transform, outs, constant)
    )
    inner = Ball(ball.norm)
    for stage in stages:
        norm = number(inner.norm)
        moduli, off = stage.moduli * norm, stage.off * norm
        result = (stage.norm * norm + off) * UP
        size = torch.maximum(norm, number(stage.largest)) * 2
        local = product_error(a, stage.terms, stage.outputs, moduli * UP, result, size) + off
        error = (stage.norm * number(inner.error) + local) * UP
        # A bound without errors grows by the norms; computed numbers are off by `error` from it.
        inner = replace(inner, norm=stage.norm * norm + local, error=error)
    if bias is None:
        return analysis.step(module, shape, ball, inner.error)
    repeated = math.sqrt(math.prod(outs[1:]))
    stored, exact = a.stored(bias), bias.detach().double()
    added = norms(stored[None]).item() * repeated * UP
    off = norms((stored - exact)[None]).item() * repeated * UP + ETA * math.prod(outs)
    local = inner.error + off + a.unit * (number(inner.norm) + added)
    return analysis.step(module, shape, ball, local * UP, offset=(added + off) * UP)


def _stages(
    analysis: Analysis,
    symbols: Tensor,
    transform: Transform,
    outs: Shape,
    constant: float,
) -> list[_Stage]:
    (height, width), (rows, columns) = transform.period, transform.size
    pixels, frequencies = height * width, len(symbols)
    if not frequencies:
        return []  # zeros, which nothing rounds
    double = symbols.detach().double()
    stored = analysis.arithmetic.stored(double)
    channels, after = transform.channels, math.prod(outs)
    lost = (stored - double).abs() * UP + ETA
    held = torch.equal(stored, double)
    product = _Stage(
        terms=2 * symbols.shape[1],
        outputs=2 * frequencies * symbols.shape[2],
        norm=constant,
        moduli=moduli_norm(stored.abs().sum(dim=3) * UP),
        off=0.0 if held else moduli_norm(lost.sum(dim=3) * UP),
        largest=max(1.0, stored.abs().max().item()),
    )
    if transform.waves is not None:
        waves, root = transform.waves, math.sqrt(pixels) * UP
        there = _stage(analysis, waves, pixels, 2 * frequencies * channels, root)
        back = _stage(analysis, 2 * waves / pixels, 2 * frequencies, after, 2 / root * UP**3)
        return [there, product, back]
    high, wide = math.sqrt(height) * UP, math.sqrt(width) * UP
    across, _, full = factors(transform.period, transform.size, weighted=False)
    both = _complex(full)
    half = width // 2 + 1
    first = _stage(analysis, across.flatten(0, 1), columns, 2 * half * channels * rows, wide)
    second = _stage(analysis, both, 2 * rows, 2 * half * height * channels, high)
    across, _, full = factors(transform.period, transform.outs, weighted=True)
    lines = 2 * half * transform.outs[0] * outs[0]
    third = _stage(analysis, _complex(full), 2 * height, lines, 2 * high)
    last = _stage(analysis, across.flatten(0, 1), 2 * half, after, wide / pixels * UP)
    return [first, second, product, third, last]


def _complex(factor: Tensor) -> Tensor:
    """The real matrix of a product with cosines + i sines, up to signs."""
    return torch.cat([torch.cat(list(factor), dim=1), torch.cat(list(factor.flip(0)), dim=1)])


def _stage(analysis: Analysis, matrix: Tensor, terms: int, outputs: int, norm: float) -> _Stage:
    """A product with a matrix of roots of unity, or with its adjoint."""
    a, moduli = analysis.arithmetic, matrix.abs()
    largest = moduli.max().item()
    unit = (a.unit + 2.0**-50) * largest + a.tiny
    off = unit * math.sqrt(matrix.numel()) * UP
    return _Stage(terms, outputs, norm, moduli_norm(moduli) * UP + off, off, max(1.0, largest))
