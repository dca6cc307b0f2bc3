"""Programs rewritten in the few operations that certificate files know.

`normal_form` takes a program of `program`'s operations and gives one with the same real function, but for
roundings of what it precomputes, made of a chain of

    gathers, convolutions of stride and dilation 1 (matrices on vectors), piecewise linear functions,
    sorts, pools of given windows, blocks, branches, and roundings.

A file's certificate is of the rewritten program: its logits, bounds and radii are those of what is written.
Were a rewriting wrong, it would be a true certificate of another program, which the tests compare.

**Fourier convolutions** become a matrix product with cosines and sines, orthonormal ones, real matrices
[A −B; B A] for frequencies with the symbol A + iB, and the transposed matrix: no theorem of Fourier is needed to
bound them.  Frequencies that are their own opposites have real coefficients, and two of them fill a matrix.
"""

__all__ = ["normal_form"]

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .bounds import NotCertifiedError, Shape, class_name, forward_owner, output_shape
from .exact import Round
from .layers._fourier import half_plane, waves
from .layers.absolute import Abs, BetaAbs, SoftHuber
from .layers.concat import Concat
from .layers.filtered_conv2d import StoredFilter2d, _frequencies
from .layers.groupsort import FullSort, GroupSort, MaxMin
from .layers.householder_activation import StoredHouseholder
from .layers.n_activation import NActivation
from .layers.parallel import Parallel
from .layers.pooling import AdaptiveL2NormPool2d, L2NormPool2d
from .layers.potential import PotentialConv2d, PotentialLinear
from .layers.residual import Residual
from .layers.sandwich import SandwichConv2d, SandwichLinear
from .layers.spline import LinearSpline
from .layers.symbol_conv2d import StoredConv2d
from .operations import PiecewiseLinear, WindowPool
from .program import Affine, AxisMaps, Gather


@dataclass(frozen=True)
class _Done:
    """An operation that is in its form, and is not rewritten again."""

    module: Any


Parts = Sequence[nn.Module | _Done]
Rewriting = Callable[[Any, Shape], Parts]
_REWRITINGS: dict[type[nn.Module], Rewriting] = {}
_CONVS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def _rewriting(*owners: type[nn.Module]) -> Callable[[Rewriting], Rewriting]:
    """Registers what gives the operations of modules, one after another; they are rewritten again."""

    def register(fn: Rewriting) -> Rewriting:
        _REWRITINGS.update(dict.fromkeys(owners, fn))
        return fn

    return register


@torch.no_grad()
def normal_form(program: nn.Module, shape: Shape) -> nn.Sequential:
    """Rewrites a program of operations.

    Arguments:
        program: The program, in float64 and in evaluation mode, as `lower` gives it.
        shape: The shape of one example, without batch dimension.

    Returns:
        A chain of operations that ends in a linear layer, in evaluation mode.

    Raises:
        NotCertifiedError: If an operation has no form in files.
    """
    chain = _chain(program, tuple(shape))
    outputs = output_shape(chain.eval(), tuple(shape))
    if len(outputs) == 1 and (not len(chain) or type(chain[-1]) is not nn.Linear):
        chain.append(
            _linear(torch.eye(outputs[0], dtype=torch.float64))
        )  # whose products are exact
    return chain.double().eval()


def _chain(module: nn.Module, shape: Shape) -> nn.Sequential:
    """The operations of a module, none of which is a chain; gathers in a row are one."""
    found: list[nn.Module] = []
    for operation in _operations(module, shape):
        last = found[-1] if found else None
        if isinstance(operation, Gather) and isinstance(last, Gather):
            found[-1] = _composed(last, operation)
        else:
            found.append(operation)
    return nn.Sequential(*found)


def _operations(module: nn.Module, shape: Shape) -> list[nn.Module]:
    owner = forward_owner(type(module))
    if owner not in _REWRITINGS:
        raise NotCertifiedError(
            f"{class_name(module)} has no form in certificate files: its program cannot be stored."
        )
    found: list[nn.Module] = []
    for part in _REWRITINGS[owner](module, shape):
        done = part.module if isinstance(part, _Done) else part
        inner = [done] if done is not part or part is module else _operations(done, shape)
        found += inner
        for operation in inner:
            shape = _shape_behind(operation, shape)
    return found


_SAME: tuple[type[nn.Module], ...] = (nn.ReLU, PiecewiseLinear, MaxMin, GroupSort, Round)


def _shape_behind(operation: nn.Module, shape: Shape) -> Shape:
    """As `output_shape`, but fast where it is known."""
    if isinstance(operation, Gather | WindowPool):
        return operation.shape
    return shape if isinstance(operation, _SAME) else output_shape(operation.eval(), shape)


def _composed(first: Gather, second: Gather) -> Gather:
    if first.index is None or second.index is None:
        index = second.index if first.index is None else first.index
        return Gather(index, second.shape)
    index = first.index[second.index.clamp_min(0)].where(second.index >= 0, -1)
    return Gather(index, second.shape)


# Containers


@_rewriting(nn.Sequential)
def _sequential(module: nn.Sequential, shape: Shape) -> Parts:
    return [child for child in module._modules.values() if child is not None]  # noqa: SLF001


@_rewriting(nn.Identity)
def _identity(module: nn.Identity, shape: Shape) -> Parts:
    return []


@_rewriting(Residual)
def _residual(module: Residual, shape: Shape) -> Parts:
    shortcut = None if module.shortcut is None else _chain(module.shortcut, shape)
    branch = _chain(module.branch, shape)
    return [_Done(Residual(branch, shortcut if shortcut is not None and len(shortcut) else None))]


@_rewriting(Concat)
def _concat(module: Concat, shape: Shape) -> Parts:
    return [_Done(Concat(*(_chain(branch, shape) for branch in module.branches)))]


@_rewriting(Parallel)
def _parallel(module: Parallel, shape: Shape) -> Parts:
    pairs = zip(module.branches, module.split_sizes, strict=True)
    branches = [_chain(branch, (size, *shape[1:])) for branch, size in pairs]
    return [_Done(Parallel(branches, module.split_sizes))]


_SMOOTH = (
    *(nn.Tanh, nn.Sigmoid, nn.Softplus, nn.GELU, nn.SiLU, nn.ELU),
    *(nn.Softsign, nn.LogSigmoid, nn.Tanhshrink, SoftHuber),
)


@_rewriting(Round, WindowPool, nn.ReLU, MaxMin, GroupSort, PiecewiseLinear, *_SMOOTH)
def _kept(module: nn.Module, shape: Shape) -> Parts:
    return [module]


@_rewriting(Gather)
def _gather(module: Gather, shape: Shape) -> Parts:
    count = math.prod(shape)
    if module.index is not None and torch.equal(module.index.cpu(), torch.arange(count)):
        return [_Done(Gather(None, module.shape))]
    return [module]


def _places(shape: Shape) -> Tensor:
    """The number of each coordinate."""
    return torch.arange(math.prod(shape)).view(shape)


def _picked(index: Tensor) -> Gather:
    return Gather(index, tuple(index.shape))


# Linear maps


def _linear(weight: Tensor, bias: Tensor | None = None) -> nn.Linear:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return _filled(module, weight, bias)  # pyright: ignore[reportReturnType]


def _conv(
    weight: Tensor,
    bias: Tensor | None = None,
    groups: int = 1,
    padding: Sequence[int] | None = None,
    *,
    circular: bool = False,
) -> _Done:
    """A convolution of stride and dilation 1."""
    axes = weight.ndim - 2
    pads: Any = "same" if circular else tuple(padding or (0,) * axes)
    kernel: Any = tuple(weight.shape[2:])
    module = _CONVS[axes - 1](
        weight.shape[1] * groups, weight.shape[0], kernel, padding=pads, groups=groups,
        bias=bias is not None, padding_mode="circular" if circular else "zeros",
    )  # fmt: skip
    return _Done(_filled(module, weight, bias))


def _filled(module: Any, weight: Tensor, bias: Tensor | None) -> nn.Module:
    """A module with these weights, and not those it was built with."""
    module.weight = nn.Parameter(_own(weight))
    if bias is not None:
        module.bias = nn.Parameter(_own(bias))
    return module.double().eval()


def _own(tensor: Tensor) -> Tensor:
    """A copy, in order in memory."""
    return tensor.detach().double().clone(memory_format=torch.contiguous_format)


@_rewriting(nn.Linear)
def _rows(module: nn.Linear, shape: Shape) -> Parts:
    if len(shape) == 1:
        return [module]
    return _along(module.weight, len(shape) - 1, shape, module.bias)


def _along(matrix: Tensor, axis: int, shape: Shape, bias: Tensor | None = None) -> Parts:
    """A matrix along an axis: in front, it is that of channels."""
    if len(shape) == 1:
        return [_linear(matrix, bias)]
    if axis == 0 and len(shape) <= 4:
        return [_conv(matrix.view(*matrix.shape, *[1] * (len(shape) - 1)), bias)]
    rest = (*shape[:axis], *shape[axis + 1 :])
    first = _picked(_places(shape).movedim(axis, 0).reshape(shape[axis], -1))
    back = _places((len(matrix), *rest)).movedim(0, axis)
    return [first, _conv(matrix[:, :, None], bias), _picked(back)]


@_rewriting(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape) -> Parts:
    found: list[nn.Module | _Done] = []
    for axis, matrix in zip(module.axes, module.matrices, strict=True):
        found += _along(matrix, axis, shape)
        shape = (*shape[:axis], len(matrix), *shape[axis + 1 :])
    return found


@_rewriting(Affine)
def _affine(module: Affine, shape: Shape) -> Parts:
    """A factor and a constant of each channel, or, if they differ in it, of each coordinate."""
    like = torch.ones(shape, dtype=torch.float64)
    scale = like if module.scale is None else module.scale.double() * like
    shift = None if module.shift is None else module.shift.double() + 0 * like
    flat = [each.reshape(shape[0], -1) for each in (scale, shift) if each is not None]
    if 1 < len(shape) <= 4 and all(torch.equal(each, each[:, :1].expand_as(each)) for each in flat):
        return [_depthwise(flat[0][:, 0], shift if shift is None else flat[-1][:, 0], shape)]
    single = (scale.numel(), 1)
    middle = _depthwise(scale.flatten(), None if shift is None else shift.flatten(), single)
    return [Gather(None, single), middle, Gather(None, shape)]


def _depthwise(scale: Tensor, shift: Tensor | None, shape: Shape) -> _Done:
    return _conv(scale.view(-1, 1, *[1] * (len(shape) - 1)), shift, groups=len(scale))


@_rewriting(*_CONVS)
def _convolution(module: Any, shape: Shape) -> Parts:
    """Convolutions of stride and dilation 1, of images whose phases are channels.

    Along an axis, output j reads the pixel sj + dq − b for the tap q: with dq − b = st + a, 0 ≤ a < s, the pixel j + t
    of the phase a.  Padding that is not the same on both sides is gathered.
    """
    circular = module.padding_mode == "circular"
    pads = _padding(module)
    plain = all(e == 1 for e in (*module.stride, *module.dilation))
    outs = output_shape(module, shape)
    centered = all(
        b == (k - 1) // 2 and a == k // 2
        for (b, a), k in zip(pads, module.kernel_size, strict=True)
    )
    fits = all(k <= n for k, n in zip(module.kernel_size, shape[1:], strict=True))
    if plain and circular and centered and fits:
        return [_conv(module.weight, module.bias, module.groups, circular=True)]
    if plain and not circular and all(a == b for a, b in pads):
        return [_conv(module.weight, module.bias, module.groups, [b for b, _ in pads])]
    before, weight, padding, after = _phases(
        module.weight, shape, outs, module.stride, module.dilation, [b for b, _ in pads], circular
    )
    conv = _conv(weight, module.bias, module.groups, padding, circular=circular)
    return [before, conv, *after]


def _padding(module: Any) -> list[tuple[int, int]]:
    reach = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
    if module.padding == "same":
        return [(total // 2, total - total // 2) for total in reach]
    if module.padding == "valid":
        return [(0, 0) for _ in reach]
    return [(int(p), int(p)) for p in module.padding]


def _phases(
    weight: Tensor,
    shape: Shape,
    outs: Shape,
    stride: Sequence[int],
    dilation: Sequence[int],
    pads: Sequence[int],
    circular: bool,
) -> tuple[Gather, Tensor, list[int], list[Gather]]:
    """Pixels of phases, their kernel, its padding, and what is taken of outputs."""
    steps, lines, taps, padding, kept, sizes = [], [], [], [], [], []
    axes = zip(shape[1:], outs[1:], weight.shape[2:], stride, dilation, pads, strict=True)
    for n, m, k, s, e, b in axes:
        step = 1 if circular and n % s else s
        moved = [divmod(e * q - b, step) for q in range(k)]
        low, high = moved[0][0], moved[-1][0]
        count, period = high - low + 1, n // step
        if circular:
            count = min(count, period)
            pixels = torch.arange(period) + low + (count - 1) // 2
            padding.append(0)
            wanted = m if step == s else s * (m - 1) + 1
            kept.append(torch.arange(0, wanted, 1 if step == s else s))
            sizes.append(period)
            line = (pixels % period)[None] * step + torch.arange(step)[:, None]
        else:
            last = m - 1 + high
            pad = max(0, min(-low, last + 1 - -(-n // step), count - 1))
            line = (
                torch.arange(low + pad, last - pad + 1)[None] * step + torch.arange(step)[:, None]
            )
            line = line.where((line >= 0) & (line < n), -1)
            padding.append(pad)
            kept.append(torch.arange(m))
            sizes.append(m)
        steps.append(step)
        lines.append(line)  # (phases, pixels)
        taps.append(([(a, (t - low) % count) for t, a in moved], count))
    kernel = weight.new_zeros(*weight.shape[:2], *steps, *(count for _, count in taps)).double()
    for tap in itertools.product(*(range(k) for k in weight.shape[2:])):
        moved = [places[q] for q, (places, _) in zip(tap, taps, strict=True)]
        kernel[(..., *(a for a, _ in moved), *(t for _, t in moved))] += weight[(..., *tap)]
    index = torch.arange(shape[0])
    for n, line in zip(shape[1:], lines, strict=True):
        joint = index[..., None, None] * n + line
        index = joint.where((index[..., None, None] >= 0) & (line >= 0), -1)
    d = len(steps)  # (I, a₁, n₁, a₂, n₂, ...)
    index = index.permute(0, *range(1, 2 * d, 2), *range(2, 2 * d + 1, 2))
    before = _picked(index.flatten(0, d))
    channels = outs[0]
    after = _places((channels, *sizes))
    for axis, some in enumerate(kept, start=1):
        after = after.index_select(axis, some)
    tails = [] if tuple(sizes) == tuple(outs[1:]) else [_picked(after)]
    return before, kernel.flatten(1, d + 1), padding, tails


@_rewriting(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _transposed(module: Any, shape: Shape) -> Parts:
    """Zeros between the pixels, and a convolution with the kernel turned around."""
    outs, index = output_shape(module, shape), torch.arange(shape[0])
    axes = zip(
        shape[1:], outs[1:], module.kernel_size, module.stride, module.dilation, module.padding,
        strict=True,
    )  # fmt: skip
    for n, m, k, s, e, p in axes:
        places = torch.arange(m + e * (k - 1)) - (e * (k - 1) - int(p))
        line = (places // s).where((places % s == 0) & (places >= 0) & (places // s < n), -1)
        joint = index[..., None] * n + line
        index = joint.where((index[..., None] >= 0) & (line >= 0), -1)
    weight = module.weight.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
    conv = _CONVS[weight.ndim - 3](
        shape[0], outs[0], module.kernel_size, dilation=module.dilation, groups=module.groups,
        bias=module.bias is not None,
    )  # fmt: skip
    return [_picked(index), _filled(conv, weight.flip(*range(2, weight.ndim)), module.bias)]


# Fourier


@_rewriting(StoredConv2d)
def _stored_conv(module: StoredConv2d, shape: Shape) -> Parts:
    size = (shape[1], shape[2])
    geometry = module.geometry
    numbers = _places(shape).double()[None] + 1
    phases = geometry._phases_of(numbers)[0].long() - 1  # noqa: SLF001
    symbols = module.symbols(size).detach()[:, None]
    period = geometry.period(size)
    outs = geometry.outputs(size)
    parts = _fourier(symbols, half_plane(period), period, tuple(phases.shape), outs)
    return [_picked(phases), *parts, *_shift(module.bias)]


@_rewriting(StoredFilter2d)
def _stored_filter(module: StoredFilter2d, shape: Shape) -> Parts:
    symbols = torch.view_as_complex(module.weight.detach()).mT  # (F, G, O/G, I/G)
    frequencies = _frequencies(module.size, module.band)[1]
    parts = _fourier(symbols, frequencies, module.size, shape, module.size)
    return [*parts, *_shift(module.bias)]


def _shift(bias: Tensor | None) -> Parts:
    return [] if bias is None else [Affine(shift=bias.detach().double().view(-1, 1, 1))]


def _fourier(
    symbols: Tensor, frequencies: Any, period: tuple[int, int], shape: Shape, outs: tuple[int, int]
) -> Parts:
    """Cosines and sines, a matrix for each pair of coordinates, and back.

    Arguments:
        symbols: The matrices, complex, with shape (F, G, O / G, I / G).
        frequencies: What they are of, with shape (F, 2).
        period: The height and width of the torus.
        shape: The shape of an image in its corner.
        outs: The height and width of the corner that is taken.
    """
    _, groups, after, before = symbols.shape
    listed = torch.from_numpy(half_plane(period).copy())
    rows = {tuple(each): i for i, each in enumerate(listed.tolist())}
    own = [rows[tuple(each)] for each in torch.as_tensor(frequencies).tolist()]
    alone = ((2 * torch.as_tensor(frequencies) % torch.tensor(period)) == 0).all(dim=1)
    pairs, singles = (~alone).nonzero()[:, 0], alone.nonzero()[:, 0]
    # Coordinates: cosines of pairs and − sines of them, then frequencies that are alone, two by two.
    slots = [[(f, 0), (f, 1)] for f in pairs.tolist()]
    slots += [[(f, 0) for f in some] for some in _by_two(singles.tolist())]
    flat = [each for slot in slots for each in slot]
    base = [
        _basis(waves(period, range(h), range(w))[:, own], flat, alone, period)
        for h, w in ((shape[1], shape[2]), outs)
    ]
    blocks = symbols.real.new_zeros(len(slots), groups, 2, after, 2, before)
    starts = torch.tensor([len(slot) for slot in slots]).cumsum(0).tolist()
    index_in = torch.full((len(slots), groups, 2, before), -1)
    index_out = torch.zeros(len(flat), groups, after, dtype=torch.long)
    inputs = _places((len(flat), groups, before))
    outputs = _places((len(slots), groups, 2, after))
    for i, (slot, end) in enumerate(zip(slots, starts, strict=True)):
        first = end - len(slot)
        index_in[i, :, : len(slot)] = inputs[first:end].movedim(0, 1)
        index_out[first:end] = outputs[i, :, : len(slot)].movedim(1, 0)
        if i < len(pairs):
            a, b = symbols[slot[0][0]].real, symbols[slot[0][0]].imag
            blocks[i, :, 0, :, 0], blocks[i, :, 0, :, 1] = a, -b
            blocks[i, :, 1, :, 0], blocks[i, :, 1, :, 1] = b, a
        else:
            for j, (f, _) in enumerate(slot):
                blocks[i, :, j, :, j] = symbols[f].real
    kernel = blocks.reshape(-1, 2 * before, 1)
    channels = groups * after
    flat_in, flat_out = math.prod(shape[1:]), math.prod(outs)
    return [
        _picked(_places((shape[0], flat_in)).mT),
        _conv(base[0][:, :, None]),
        _picked(index_in.reshape(-1, 1)),
        _conv(kernel, groups=len(slots) * groups),
        _picked(index_out.reshape(len(flat), channels)),
        _conv(base[1].mT[:, :, None]),
        _picked(_places((flat_out, channels)).mT.reshape(channels, *outs)),
    ]


def _by_two(numbers: list[int]) -> list[list[int]]:
    return [numbers[i : i + 2] for i in range(0, len(numbers), 2)]


def _basis(
    table: Tensor, flat: list[tuple[int, int]], alone: Tensor, period: tuple[int, int]
) -> Tensor:
    """Rows √(2/N) cos and −√(2/N) sin, or √(1/N) cos where a frequency is alone."""
    found = []
    for f, part in flat:
        weight = math.sqrt((1 if alone[f] else 2) / math.prod(period))
        found.append(table[part, f] * (-weight if part else weight))
    return torch.stack(found)


# Piecewise linear functions


def _pieces(knots: Any, slopes: Any, first: Any) -> Parts:
    parts = [torch.as_tensor(each, dtype=torch.float64) for each in (knots, slopes, first)]
    return [PiecewiseLinear(*parts).double().eval()]


@_rewriting(nn.LeakyReLU, nn.PReLU, Abs, BetaAbs)
def _prelu(module: Any, shape: Shape) -> Parts:
    if isinstance(module, BetaAbs):
        below = torch.ones(shape[0], dtype=torch.float64)
        below[: int(module.beta * shape[0])] = -1
    elif isinstance(module, nn.PReLU):
        below = module.weight.detach().double()
    else:
        below = torch.tensor([getattr(module, "negative_slope", -1.0)], dtype=torch.float64)
    zeros = torch.zeros_like(below)
    return _pieces(zeros[:, None], torch.stack([below, zeros + 1], dim=1), zeros)


@_rewriting(nn.Hardtanh, nn.ReLU6)
def _hardtanh(module: nn.Hardtanh, shape: Shape) -> Parts:
    ends = [float(module.min_val), float(module.max_val)]
    return _pieces([ends], [[0.0, 1.0, 0.0]], ends[:1])


@_rewriting(nn.Softshrink)
def _softshrink(module: nn.Softshrink, shape: Shape) -> Parts:
    width = float(module.lambd)
    return _pieces([[-width, width]], [[1.0, 0.0, 1.0]], [0.0])


@_rewriting(NActivation)
def _n_activation(module: NActivation, shape: Shape) -> Parts:
    ends = module.thresholds.detach().double().sort(dim=0).values.mT
    slopes = torch.tensor([[1.0, -1.0, 1.0]], dtype=torch.float64).expand(len(ends), 3)
    return _pieces(ends, slopes, -ends[:, 0])


@_rewriting(LinearSpline)
def _spline(module: LinearSpline, shape: Shape) -> Parts:
    slopes = module.slopes.detach().double().clamp(-1, 1)
    knots = torch.linspace(-module.limit, module.limit, module.knots, dtype=torch.float64)
    return _pieces(knots.expand(len(slopes), -1), slopes, module.offset.detach())


@_rewriting(FullSort)
def _full_sort(module: FullSort, shape: Shape) -> Parts:
    return [GroupSort(shape[0])]


@_rewriting(StoredHouseholder)
def _householder(module: StoredHouseholder, shape: Shape) -> Parts:
    """Absolute values along normals v, in coordinates in which they are the first of a pair."""
    slopes = torch.tensor([[-1.0, 1.0], [1.0, 1.0]]).double().repeat(shape[0] // 2, 1)
    zeros = torch.zeros(shape[0], 1).double()
    absolute = _pieces(zeros, slopes, zeros[:, 0])
    found: list[nn.Module | _Done] = []
    for normals in module.normals.detach().double():
        s, c = normals.unbind(1)
        turn = torch.stack([s, -c, c, s], dim=1).view(-1, 2, 1)  # rows v and its orthogonal
        back = turn.view(-1, 2, 2).mT.reshape(-1, 2, 1)
        pair = (_conv(turn, groups=len(s)), _conv(back, groups=len(s)))
        found += [pair[0], *absolute, pair[1]]
    wide = (shape[0], math.prod(shape[1:]))
    return [Gather(None, wide), *found, Gather(None, shape)]


# Pooling

_MAX = (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)
_ADAPTIVE = (nn.AdaptiveMaxPool1d, nn.AdaptiveMaxPool2d, nn.AdaptiveMaxPool3d)


@_rewriting(*_MAX, *_ADAPTIVE, L2NormPool2d, AdaptiveL2NormPool2d)
def _pool(module: Any, shape: Shape) -> Parts:
    sizes, outs = shape[1:], output_shape(module, shape)
    norm = isinstance(module, L2NormPool2d | AdaptiveL2NormPool2d)
    index = torch.arange(shape[0])[:, None]  # (outputs, window)
    shared = 1
    for axis, (n, m) in enumerate(zip(sizes, outs[1:], strict=True)):
        windows = _windows(module, axis, n, m)
        shared *= max(sum(i in window for window in windows) for i in range(n))
        line = torch.full((m, max(map(len, windows))), -1)
        for row, window in zip(line, windows, strict=True):
            inside = [i for i in window if 0 <= i < n]
            row[: len(inside)] = torch.tensor(inside, dtype=torch.long)
        joint = index[:, None, :, None] * n + line[None, :, None, :]
        fits = (index[:, None, :, None] >= 0) & (line[None, :, None, :] >= 0)
        index = joint.where(fits, -1).flatten(2).flatten(0, 1)
    pool = WindowPool("l2" if norm else "max", index, outs)
    divisor = int(getattr(module, "shared", None) or shared)
    return [pool, Affine(torch.tensor(divisor**-0.5).double())] if norm and divisor > 1 else [pool]


def _windows(module: Any, axis: int, n: int, m: int) -> list[range]:
    """The pixels of windows along an axis, some of which may be outside of the image."""
    if isinstance(module, (*_ADAPTIVE, AdaptiveL2NormPool2d)):
        return [range(j * n // m, -(-(j + 1) * n // m)) for j in range(m)]
    given = (module.kernel_size, module.stride, module.padding, getattr(module, "dilation", 1))
    k, s, p, e = (int(v[axis]) if isinstance(v, Sequence) else int(v) for v in given)
    return [range(j * s - p, j * s - p + e * (k - 1) + 1, e) for j in range(m)]


# Blocks


@_rewriting(PotentialLinear, PotentialConv2d, SandwichLinear, SandwichConv2d)
def _block(module: Any, shape: Shape) -> Parts:
    """A block of channels: around a matrix on vectors, or a convolution of stride and dilation 1."""
    if isinstance(module, PotentialConv2d | SandwichConv2d):
        return _spatial(module.inner, module.activation, shape, _outputs(module))
    inner, outs = module.inner, _outputs(module)
    if len(shape) > 1:  # rows are pixels of a line
        wide = (shape[-1], math.prod(shape[:-1]), 1)
        first = _places(shape).movedim(-1, 0).reshape(wide)
        back = _places((outs or shape[-1], *shape[:-1])).movedim(0, -1)
        matrix = _conv(inner.weight[:, :, None, None], inner.bias).module
        return [_picked(first), *_spatial(matrix, module.activation, wide, outs), _picked(back)]
    ins = math.prod(shape)
    activation = _activation(module.activation, output_shape(inner, (outs + ins,)))
    block: Any = SandwichLinear(ins, outs) if outs else PotentialLinear(ins, ins)
    block.inner, block.activation = inner, activation
    return [_Done(block.double().eval())]


def _outputs(module: Any) -> int:
    """The number of outputs of a sandwich; 0 of the other block."""
    if isinstance(module, SandwichConv2d):
        return module.out_channels
    return module.out_features if isinstance(module, SandwichLinear) else 0


def _spatial(inner: Any, activation: nn.Module, shape: Shape, outs: int) -> Parts:
    joint = (outs + shape[0], *shape[1:])
    conv: Any
    *before, conv = _convolution(inner, joint)
    conv = conv.module
    hidden = output_shape(inner, joint)
    block: Any = (
        SandwichConv2d(shape[0], outs, 1) if outs else PotentialConv2d(shape[0], shape[0], 1)
    )
    block.inner, block.activation = conv, _activation(activation, hidden)
    if not before:
        return [_Done(block.double().eval())]
    [gather] = before
    assert isinstance(gather, Gather)
    assert gather.index is not None
    # The pixels of a channel move alike: those that are read, and back from there.
    pixels = math.prod(shape[1:])
    moved = gather.index[: math.prod(gather.shape[1:])]
    inverse = torch.full((pixels,), -1)
    kept = (moved >= 0).nonzero()[:, 0]
    inverse[moved[kept]] = kept
    if bool((inverse < 0).any()) or gather.shape[0] != joint[0]:
        raise NotCertifiedError("A block that leaves pixels out has no form in certificate files.")
    forth = _shifted(moved, shape[0], pixels).view(shape[0], *gather.shape[1:])
    back = _shifted(inverse, outs or shape[0], len(moved)).view(outs or shape[0], *shape[1:])
    return [_picked(forth), _Done(block.double().eval()), _picked(back)]


def _shifted(index: Tensor, channels: int, pixels: int) -> Tensor:
    """Where each channel reads, from where the first does."""
    first = pixels * torch.arange(channels)[:, None]
    return (index + first).where(index >= 0, -1)


def _activation(activation: nn.Module, shape: Shape) -> nn.Sequential:
    """One piecewise linear function, and what rounds."""
    found = _chain(activation, shape)
    if not any(isinstance(each, nn.ReLU | PiecewiseLinear) for each in found):
        zero = torch.zeros(1, 1, dtype=torch.float64)
        found.insert(0, PiecewiseLinear(zero, zero.new_ones(1, 2), zero[0]))
    return found
