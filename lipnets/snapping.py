"""The exact program of a network: weights and activations on grids, so that every sum is exact.

Each product gets grids of its own.  Where its sums stay below 2ᵏ there are 53 − k binary places to
share between activations and weights: the more go to weights, the less the network differs from the
one that was trained; the more to activations, the smaller the error that certificates pay for.
Rounded weights have norms of their own: they are shrunk before they are rounded, until the proved
constant is the one before.

That the program is exact is not taken from here: `lipnets.rounding` derives it from the weights.
"""

__all__ = ["exact"]

import copy
import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.modules import conv

from .bounds import NotCertifiedError, Shape, class_name, forward_owner
from .exact import Round, Sums, snap
from .layers.concat import Concat
from .layers.n_activation import NActivation
from .layers.parallel import Parallel
from .layers.potential import PotentialConv2d, PotentialLinear
from .layers.residual import Residual
from .layers.sandwich import SandwichConv2d, SandwichLinear
from .program import Affine, AxisMaps, Gather
from .rounding import FLOAT64, Ball, bits

_GAIN = 1 + 2.0**-27  # that rounded weights may add to a proved constant
_TRIES = 8  # of a grid, or of a factor to shrink by

Maker = Callable[[Any, Shape, Ball, "_Snapper"], list[nn.Module]]
M = TypeVar("M", bound=Maker)
_MAKERS: dict[type[nn.Module], Maker] = {}


@torch.no_grad()
def exact(program: nn.Module, shape: Shape) -> nn.Sequential:
    """Rounds the weights of a program, and its activations between operations, so that sums are exact.

    Exact for any images in [0, 1] and any perturbation of them that is no longer than their diagonal.

    Arguments:
        program: A program of operations, in float64: see `lipnets.program.lower`.
        shape: The shape of an example, without batch dimension.

    Returns:
        A program of operations, among them `Round`, whose only rounding is theirs.

    Raises:
        NotCertifiedError: If an operation is exact on no grid, such as a smooth activation.
    """
    norm = 2 * math.sqrt(math.prod(shape)) * (1 + 2.0**-20)
    ball = Ball(norm=norm, error=norm * FLOAT64.unit)
    snapper = _Snapper()
    modules, _ = snapper.run(program, shape, ball)
    found = nn.Sequential(*_merged(modules)).eval()
    snapper.after([found], shape, ball)
    return found


class _Snapper:
    """Rewrites operations one by one, and follows what they compute."""

    def __init__(self) -> None:
        self.analysis = Sums(FLOAT64)

    def run(self, module: nn.Module, shape: Shape, ball: Ball) -> tuple[list[nn.Module], Ball]:
        """What to compute instead of a module, and the ball of its outputs."""
        owner = forward_owner(type(module))
        if owner is nn.Sequential:
            every: list[nn.Module] = []
            for child in module._modules.values():  # noqa: SLF001 - children skips repetitions
                if child is not None:
                    modules, ball = self.run(child, shape, ball)
                    shape = self.analysis.output_shape(child, shape)
                    every += modules
            return every, ball
        if ball.grid is None and owner in (nn.Identity, Gather):  # images, not yet on a grid
            return [copy.deepcopy(module)], self.analysis(module, shape, ball)
        first = [] if ball.grid is not None else [_round(_room(2 * ball.largest))]
        ball = self.after(first, shape, ball)
        maker = _MAKERS.get(owner)
        modules = [copy.deepcopy(module)] if maker is None else maker(module, shape, ball, self)
        return [*first, *modules], self.after(modules, shape, ball)

    def after(self, modules: Iterable[nn.Module], shape: Shape, ball: Ball) -> Ball:
        """The ball behind modules.

        Raises:
            NotCertifiedError: If one of them is not exact there.
        """
        for module in modules:
            self.analysis.inexact = False
            ball = self.analysis(module, shape, ball)
            if ball.grid is None or self.analysis.inexact:
                raise NotCertifiedError(
                    f"{class_name(module)} is not exact, on no grid of weights and activations: build "
                    "the network of linear layers and piecewise linear activations, or deploy the "
                    "float64 program."
                )
            shape = self.analysis.output_shape(module, shape)
        return ball

    def first_exact(
        self, candidates: Iterable[list[nn.Module]], shape: Shape, ball: Ball
    ) -> list[nn.Module]:
        """The first list of modules that is exact; that of the last one tells why it is not."""
        modules: list[nn.Module] = []
        for modules in candidates:
            try:
                self.after(modules, shape, ball)
            except NotCertifiedError:
                continue
            break
        return modules

    def settled(self, module: nn.Module, shape: Shape, places: int, name: str = "weight") -> Any:
        """A copy whose weight is on a grid, and whose proved constant is not larger than before.

        Rounding moves the norm by a multiple of 2⁻ᵗ, which shrinking by as much takes back.
        """
        weight = module.get_parameter(name)
        if (bits(weight) or math.inf) <= places:
            return copy.deepcopy(module)
        target, factor = self.analysis.lipschitz(module, shape), 1.0
        candidate = module
        for _ in range(_TRIES):
            candidate = copy.deepcopy(module)
            candidate.get_parameter(name).copy_(snap(weight * factor, places))
            value = self.analysis.lipschitz(candidate, shape)
            if value <= target * _GAIN:
                return candidate
            factor *= target / value * (1 - 2.0**-30)
        return candidate  # of coarse grids: what it costs, its certificate says


def _maker(*owners: type[nn.Module]) -> Callable[[M], M]:
    """Registers what makes modules with the forward of `owners` exact."""

    def register(fn: M) -> M:
        _MAKERS.update(dict.fromkeys(owners, fn))
        return fn

    return register


def _room(top: float) -> int:
    """The largest g such that numbers up to `top`, with some room, are below 2⁵³⁻ᵍ; 0 if there is none."""
    return max(FLOAT64.bits - math.frexp(top * (1 + 2.0**-38))[1], 0)


def _places(room: int, *, count: int, gain: float, spread: float, weight: Tensor) -> int:
    """How many of the binary places are for weights.

    Activations rounded to q places are off by 2⁻⁽ᵍ⁺¹⁾ √n, times the gain of the layer: their error, at
    the worst.  Weights rounded to t places change a perturbation of norm 1 by 2⁻ᵗ / √12 times `spread`,
    by the norm of a random matrix.  With q + t places in all, the sum is least where both are equal.
    """
    ratio = 0.5 * math.sqrt(count) * max(gain, 2.0**-20) / (0.3 * spread)
    places = min(round((room - math.log2(ratio)) / 2), room)
    enough = bits(weight)  # on a coarse grid as it is
    return max(places if enough is None else min(places, enough), 0)


def _round(places: int) -> nn.Module:
    return Round(max(places, 0)).eval()


def _rounded(ball: Ball, places: int) -> list[nn.Module]:
    """A `Round` where activations are not on that grid."""
    return [] if ball.grid is not None and ball.grid <= places else [_round(places)]


def _peak(tensor: Tensor | None) -> float:
    return 0.0 if tensor is None or not tensor.numel() else tensor.abs().max().item()


def _with_bias(module: nn.Module, places: int) -> Any:
    """A copy whose bias is on a grid."""
    out = copy.deepcopy(module)
    bias = getattr(out, "bias", None)
    if isinstance(bias, Tensor):
        bias.copy_(snap(bias, places))
    return out


def _rows(module: nn.Module) -> tuple[float, float]:
    """The largest norm of the weights of one sum, and the norm of random weights of deviation 1."""
    weight = module.get_parameter("weight").detach()
    if isinstance(module, conv._ConvTransposeNd):  # noqa: SLF001
        weight = weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    groups = getattr(module, "groups", 1)
    rows, taps = len(weight) / groups, math.prod(weight.shape[2:])
    spread = math.sqrt(taps) * (math.sqrt(rows) + math.sqrt(weight.shape[1]))
    return weight.flatten(1).norm(dim=1).max().item(), spread


@_maker(
    nn.Linear,
    *(nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
)
def _product(module: Any, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Rounds inputs, weights and bias."""
    row, spread = _rows(module)
    peak = _peak(module.bias)
    places = _places(
        _room(row * ball.largest + peak),
        count=math.prod(shape),
        gain=snapper.analysis.lipschitz(module, shape),
        spread=spread,
        weight=module.weight,
    )
    settled = snapper.settled(module, shape, places)
    places = bits(settled.weight) or 0
    room = _room(_rows(settled)[0] * ball.largest * (1 + 2.0**-20) + peak)
    candidates = (
        [*_rounded(ball, total - places), _with_bias(settled, total)]
        for total in range(room, max(room - _TRIES, places - 1), -1)
    )
    return snapper.first_exact(candidates, shape, ball)


@_maker(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Rounds inputs, weights and bias, and hidden units before their activation."""
    inner = module.inner
    joint: Shape = shape
    if isinstance(module, SandwichLinear):
        joint = (*shape[:-1], shape[-1] + module.out_features)
    if isinstance(module, SandwichConv2d):
        joint = (shape[0] + module.out_channels, *shape[1:])
    gain = snapper.analysis.lipschitz(inner, joint)
    row, spread = _rows(inner)
    flipped = inner.weight.transpose(0, 1).flatten(1).norm(dim=1).max().item()
    peak, bias = _peak(inner.bias), inner.bias
    hidden = snapper.analysis.output_shape(inner, joint)
    offset = 0.0 if bias is None else bias.norm().item() * math.sqrt(math.prod(hidden) / len(bias))
    after = gain * ball.largest + offset  # a bound of the norm of hidden units
    tops = (row * ball.largest + peak, flipped * after + ball.largest)
    rooms = [_room(top * (1 + 2.0**-20)) for top in tops]
    places = _places(
        min(rooms),
        count=math.prod(shape) + math.prod(hidden),
        gain=max(gain, gain**2),
        spread=2 * spread,
        weight=inner.weight,
    )
    settled = snapper.settled(inner, joint, places)
    places = bits(settled.weight) or 0

    def candidates() -> Iterable[list[nn.Module]]:
        for less in range(min(_TRIES, min(rooms) - places)):
            block = copy.deepcopy(module)
            block.inner = _with_bias(settled, rooms[0] - less)
            within = Ball(norm=after, grid=rooms[1] - less - places)
            activation, _ = snapper.run(module.activation, hidden, within)
            block.activation = nn.Sequential(_round(rooms[1] - less - places), *activation).eval()
            yield [*_rounded(ball, rooms[0] - less - places), block]

    return snapper.first_exact(candidates(), shape, ball)


@_maker(Affine)
def _affine(module: Affine, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Rounds inputs, factors towards zero, and the constant."""
    scale = torch.ones(1) if module.scale is None else module.scale.detach()
    room = _room(_peak(scale) * ball.largest * (1 + 2.0**-20) + _peak(module.shift))
    places = _places(room, count=math.prod(shape), gain=_peak(scale), spread=2.0, weight=scale)
    scale = None if module.scale is None else (scale * 2.0**places).trunc() * 2.0**-places
    candidates = (
        [
            *_rounded(ball, total - places),
            Affine(scale, None if module.shift is None else snap(module.shift, total)).eval(),
        ]
        for total in range(room, max(room - _TRIES, places - 1), -1)
    )
    return snapper.first_exact(candidates, shape, ball)


@_maker(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Axis by axis, each rounded as a product."""
    every: list[nn.Module] = []
    for axis, matrix in zip(module.axes, module.matrices, strict=True):
        single = AxisMaps([matrix if at == axis else None for at in range(len(shape))]).eval()
        row = matrix.norm(dim=1).max().item()
        places = _places(
            _room(row * ball.largest),
            count=math.prod(shape),
            gain=snapper.analysis.lipschitz(single, shape),
            spread=sum(map(math.sqrt, matrix.shape)),
            weight=matrix,
        )
        settled = snapper.settled(single, shape, places, "matrices.0")
        places = bits(settled.matrices[0]) or 0
        room = _room(settled.matrices[0].norm(dim=1).max().item() * ball.largest * (1 + 2.0**-20))
        candidates = (
            [*_rounded(ball, total - places), settled]
            for total in range(room, max(room - _TRIES, places - 1), -1)
        )
        modules = snapper.first_exact(candidates, shape, ball)
        ball = snapper.after(modules, shape, ball)
        shape = snapper.analysis.output_shape(settled, shape)
        every += modules
    return every


@_maker(nn.PReLU, nn.LeakyReLU)
def _slopes(module: Any, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Rounds inputs, and slopes towards zero."""
    leaky = isinstance(module, nn.LeakyReLU)
    slopes = torch.tensor(float(module.negative_slope)) if leaky else module.weight.detach()
    room = _room(max(1.0, _peak(slopes)) * ball.largest)
    places = _places(room, count=math.prod(shape), gain=1.0, spread=2.0, weight=slopes)
    cut = (slopes * 2.0**places).trunc() * 2.0**-places
    out = copy.deepcopy(module)
    if leaky:
        out.negative_slope = cut.item()
    else:
        out.weight.copy_(cut)
    candidates = (
        [*_rounded(ball, total - places), out]
        for total in range(room, max(room - _TRIES, places - 1), -1)
    )
    return snapper.first_exact(candidates, shape, ball)


@_maker(nn.Hardtanh, nn.ReLU6, nn.Softshrink, NActivation)
def _thresholds(module: Any, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Rounds inputs, and the places where slopes change."""
    names = [
        name for name in ("min_val", "max_val", "lambd", "thresholds") if hasattr(module, name)
    ]
    peak = max(float(torch.as_tensor(getattr(module, name)).abs().max()) for name in names)
    room = _room(ball.largest + 2 * peak)

    def candidates() -> Iterable[list[nn.Module]]:
        for places in range(room, max(room - _TRIES, -1), -1):
            out = copy.deepcopy(module)
            for name in names:
                value = torch.as_tensor(getattr(module, name), dtype=torch.float64)
                if name == "thresholds":
                    out.thresholds.copy_(snap(value, places))
                else:
                    setattr(out, name, snap(value, places).item())
            yield [*_rounded(ball, places), out]

    return snapper.first_exact(candidates(), shape, ball)


@_maker(Residual)
def _residual(module: Residual, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Each branch, and what they give rounded so that their sum is exact."""
    branches = [module.branch] if module.shortcut is None else [module.branch, module.shortcut]
    runs = [snapper.run(branch, shape, ball) for branch in branches]
    norm = sum(after.largest for _, after in runs)
    room = _room(norm + (ball.largest if module.shortcut is None else 0.0))

    def candidates() -> Iterable[list[nn.Module]]:
        for places in range(room, max(room - _TRIES, -1), -1):
            parts = [
                nn.Sequential(*_merged([*modules, *_rounded(after, places)])).eval()
                for modules, after in runs
            ]
            before = _rounded(ball, places) if module.shortcut is None else []
            yield [*before, Residual(*parts).eval()]

    return snapper.first_exact(candidates(), shape, ball)


@_maker(Concat)
def _concat(module: Concat, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Each branch."""
    parts = [snapper.run(branch, shape, ball)[0] for branch in module.branches]
    return [Concat(*(nn.Sequential(*_merged(part)) for part in parts)).eval()]


@_maker(Parallel)
def _parallel(module: Parallel, shape: Shape, ball: Ball, snapper: _Snapper) -> list[nn.Module]:
    """Each branch, on inputs of no larger norm."""
    parts = [
        snapper.run(branch, (size, *shape[1:]), ball)[0]
        for branch, size in zip(module.branches, module.split_sizes, strict=True)
    ]
    branches = [nn.Sequential(*_merged(part)) for part in parts]
    return [Parallel(branches, module.split_sizes).eval()]


def _merged(modules: list[nn.Module]) -> list[nn.Module]:
    """Two roundings in a row are one, to the coarser grid."""
    out: list[nn.Module] = []
    for module in modules:
        if out and isinstance(module, Round) and isinstance(out[-1], Round):
            out[-1] = _round(min(module.bits, out[-1].bits))
        else:
            out.append(module)
    return out
