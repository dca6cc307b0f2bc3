"""Bounds of networks whose constants are not all multiplied.

**Folding.**  A factor for each channel before or after a linear map is a part of it: ‖diag(c) W‖ instead
of max |c| ‖W‖.  In floats W̃ = fl(cW) is off by u |W̃| entrywise, and a convolution with a kernel of T taps K_t
has a norm of Σ ‖K_t‖_F ≤ √T ‖K‖_F at most, being a sum of T shifts, each times a matrix: so
‖diag(c) W‖ ≤ ‖W̃‖ + 2u √T ‖W̃‖_F.

**Frequencies.**  Convolutions with what is between them are bounded by the theorem of `frequencies`, as many
together as take little time.  Factors moved from one convolution into the next, through activations that
allow it, are among its multipliers.

**Windows.**  A chain is cut into pieces, each bounded as a whole by the theorem of `joint` where it
is small enough, the last one for each pair of outputs; constants of pieces multiply.
"""

__all__ = ["Operation", "Tightened", "bounded", "flattened", "tighter_chain", "tighter_pairs"]

import copy
import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules import conv

from ..bounds import Bound, Shape, chain, forward_owner
from ..layers.concat import Concat
from ..layers.parallel import Parallel
from ..layers.residual import Residual
from ..linalg import ETA, ROOT_2_UP, U, add_up, mul_up, sqrt_up, sums_of_squares
from ..program import Affine
from ..rounding import Analysis
from .frequencies import frequency_bound, frequency_costs
from .joint import LINEAR, joint_bounds, unknowns

LARGEST = 768  # unknowns of a window
WIDEST = 4096  # coordinates of activations of which bases are written down
_EFFORT = 1e10  # floating-point operations for the multipliers of a window
_FREQUENCIES = 2e10  # and for convolutions of which more are bounded together than need be
_FEWEST = 3e11  # and for the fewest


@dataclass(frozen=True)
class Tightened:
    """A bound of a network and of its pairs of outputs.

    Arguments:
        bound: The bound and its derivation.
        pairs: Bounds of the differences of outputs, with shape (K, K).
    """

    bound: Bound
    pairs: Tensor


@dataclass(frozen=True)
class Operation:
    """A module of a chain, the shapes of what it takes and gives, and how many unknowns it needs."""

    module: nn.Module
    shape: Shape
    after: Shape
    unknowns: int

    @property
    def linear(self) -> bool:
        return forward_owner(type(self.module)) in LINEAR


def tighter_pairs(
    program: nn.Module, shape: Shape, analysis: Analysis, known: Tensor | None = None
) -> Tightened:
    """Bounds a network that ends in a row of outputs, and the differences of its outputs.

    The smallest of three bounds for each pair: that of windows, that of the last affine operations
    alone with the front they follow, and √2 times the bound of the whole.

    Arguments:
        program: The network, in operations of `program`.
        shape: The shape of an example.
        analysis: What is known of it.
        known: Bounds of the differences that are proved already, with shape (K, K): where gradients come
            within 1 % of all of them there is nothing to gain, and they are returned.
    """
    if known is not None and not _may_gain(program, shape, known):
        return Tightened(analysis.bound(program, shape), known)
    operations = flattened(program, shape, analysis)
    bound, found = bounded(operations, analysis, last=True)
    outputs = math.prod(operations[-1].after) if operations else math.prod(shape)
    pairs = mul_up(bound.value, ROOT_2_UP) * (1 - torch.eye(outputs, dtype=torch.float64))
    if found is not None:
        pairs = torch.minimum(pairs, found)
    count = next((i for i, e in enumerate(reversed(operations)) if not e.linear), len(operations))
    tail = operations[len(operations) - count :]
    if tail and math.prod(tail[0].shape) <= WIDEST and count < len(operations):
        last = joint_bounds([each.module for each in tail], tail[0].shape, analysis, 0.0)
        if last is not None:
            front = bounded(operations[: len(operations) - count], analysis, last=False)[0]
            pairs = torch.minimum(pairs, last.pairs * front.value * (1 + 4 * U))
    return Tightened(bound, pairs)


@torch.enable_grad()
def _may_gain(program: nn.Module, shape: Shape, known: Tensor, points: int = 4) -> bool:
    """Whether gradients of margins at some images, which no bound is below, leave more than 1 % of room.

    An estimate: it decides what is tried, and proves nothing.  Two classes are enough to say yes.
    """
    if not 2 <= len(known) <= 64:
        return True
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(points, *shape, generator=generator, dtype=torch.float64)
    device = next((each.device for each in program.parameters()), torch.device("cpu"))
    images = images.to(device).requires_grad_()
    logits = program(images.clone())  # it may work in place
    if not logits.requires_grad:  # of a constant
        return True
    rows: list[Tensor] = []
    for index, logit in enumerate(logits.unbind(1)):
        (row,) = torch.autograd.grad(logit.sum(), images, retain_graph=True)
        rows.append(row.flatten(1).cpu())
        if index != 1 and index != len(known) - 1:
            continue
        stacked = torch.stack(rows, dim=1)  # (points, classes, coordinates)
        gaps = torch.cdist(stacked, stacked).amax(dim=0)
        if (gaps < 0.99 * known[: index + 1, : index + 1]).any():
            return True
    return False


def tighter_chain(module: nn.Module, shape: Shape, analysis: Analysis) -> Bound:
    """Bounds a module, a part of a network: see `tighter_pairs`."""
    return bounded(flattened(module, shape, analysis), analysis, last=False)[0]


def flattened(module: nn.Module, shape: Shape, analysis: Analysis) -> list[Operation]:
    """The modules that a network applies one after another, however they are nested."""
    if forward_owner(type(module)) is not nn.Sequential:
        after = analysis.output_shape(module, shape)
        few = math.prod(after) <= WIDEST and (math.prod(shape) <= WIDEST or _dense(module, shape))
        count = unknowns(module, shape) if few else WIDEST
        return [Operation(module, tuple(shape), after, count)]
    found = []
    for _, child in chain(module):
        found += flattened(child, shape, analysis)
        shape = found[-1].after if found else shape
    return found


def bounded(
    operations: list[Operation], analysis: Analysis, *, last: bool
) -> tuple[Bound, Tensor | None]:
    """Windows from the last to the first, each as long as it may be; what fits none is folded."""
    parts: list[Bound] = []
    loose: list[Operation] = []  # operations that are in no window, before those that are done
    pairs, end = None, len(operations)

    def settle() -> None:
        if loose:
            parts.insert(0, _product(loose, analysis))
            loose.clear()

    while end > 0:
        final = last and end == len(operations)
        start = _window(operations[:end], LARGEST if final else LARGEST // 2)
        piece = operations[start:end]
        found = None
        if piece and (final or any(not each.linear for each in piece[:-1])):
            power, effort = (1, _EFFORT) if final else (8, _EFFORT / 4)
            modules = [each.module for each in piece]
            found = joint_bounds(modules, piece[0].shape, analysis, effort, power=power)
        if found is None:
            piece = piece or [operations[end - 1]]
            loose[:0] = piece
            end -= len(piece)
            continue
        settle()
        rule = f"Joint: {len(piece)} operations, {found.secants} unknowns of secants"
        plain = _product(piece, analysis, frequencies=False)
        joint = Bound(found.joint, rule, (plain,)) if found.joint < plain.value else plain
        pairs = found.pairs if final else pairs
        parts.insert(0, joint)
        end = start
    settle()
    if pairs is not None:
        pairs = pairs * mul_up(*(part.value for part in parts[:-1])) * (1 + 4 * U)
    return _multiplied(parts), pairs


def _dense(module: nn.Module, shape: Shape) -> bool:
    """Whether the matrix of a module is at hand, however wide its input."""
    return type(module) is nn.Linear and len(shape) == 1


def _window(operations: list[Operation], largest: int) -> int:
    """Where the longest window that ends a chain begins; its end if there is none."""
    best, total = len(operations), 0
    for start in range(len(operations) - 1, -1, -1):
        each = operations[start]
        total += each.unknowns
        wide = math.prod(each.shape) > WIDEST
        if total > largest or (wide and not _dense(each.module, each.shape)):
            break
        least = math.prod(each.shape)
        for following in operations[start:]:
            if not following.linear:
                break
            least = min(least, math.prod(following.after))
        if total + least <= largest:
            best = start
    return best


def _multiplied(parts: list[Bound]) -> Bound:
    if len(parts) == 1:
        return parts[0]
    return Bound(mul_up(*(part.value for part in parts)), "Product of its parts", tuple(parts))


def _product(operations: list[Operation], analysis: Analysis, *, frequencies: bool = True) -> Bound:
    """The product of constants: convolutions together, factors of channels with their neighbours."""
    parts, index = [], 0
    while index < len(operations):
        count = _together(operations[index:], analysis) if frequencies else 0
        if count:
            piece = operations[index : index + count]
            parts.append(_by_frequencies(piece, analysis))
            index += count
            continue
        pair = operations[index : index + 2]
        folded = _folded(pair, analysis) if len(pair) == 2 else None
        parts.append(_single(pair[0], analysis) if folded is None else folded)
        index += 1 if folded is None else 2
    return _multiplied(parts) if parts else Bound(1.0, "Nothing is applied")


def _together(operations: list[Operation], analysis: Analysis) -> int:
    """How many operations, the first of them, are bounded by `frequencies`: 0 for none.

    They begin and end with a convolution or a sum, but for factors of channels, and are at least two
    of them, or one sum.
    """
    if not (_heavy(operations[0]) or type(operations[0].module) is Affine):
        return 0
    modules = [each.module for each in operations]
    costs = frequency_costs(modules, operations[0].shape, analysis)
    best, seen = 0, 0
    for index, (each, cost) in enumerate(zip(operations, costs, strict=False)):
        if not _heavy(each):
            best += index == best > 0 and type(each.module) is Affine
            continue
        seen += 1
        few = seen == 2 or forward_owner(type(each.module)) is Residual
        if cost <= _FREQUENCIES or (few and not best and cost <= _FEWEST):
            best = index + 1 if few or best else 0
    return best


def _heavy(operation: Operation) -> bool:
    module = operation.module
    return isinstance(module, conv._ConvNd) or forward_owner(type(module)) is Residual  # noqa: SLF001


def _by_frequencies(operations: list[Operation], analysis: Analysis) -> Bound:
    """The bound of `frequencies`, or, where constants of operations are better, their product."""
    modules = [each.module for each in operations]
    plain = _multiplied([analysis.bound(each.module, each.shape) for each in operations])
    found = frequency_bound(modules, operations[0].shape, analysis, _FEWEST)
    if found is None or found.value >= plain.value:
        return _product(operations, analysis, frequencies=False)
    rule = f"Frequencies: {len(operations)} operations, {found.secants} unknowns of secants"
    return Bound(found.value, rule, (plain,))


def _single(operation: Operation, analysis: Analysis) -> Bound:
    """An operation by its rule, or, of combinators, from tighter bounds of their parts."""
    module, shape = operation.module, operation.shape
    known = analysis.bound(module, shape)
    owner = forward_owner(type(module))
    if owner is Residual:
        shortcut = module.shortcut
        own = [Bound(1.0, "The input")] if shortcut is None else []
        own += [
            tighter_chain(part, shape, analysis)
            for part in (shortcut, module.branch)
            if isinstance(part, nn.Module)
        ]
        found = Bound(add_up(*(part.value for part in own)), "Residual: sum", tuple(own))
    elif owner is Concat:
        own = [tighter_chain(each, shape, analysis) for each in module.branches]  # pyright: ignore
        squares = add_up(*(mul_up(part.value, part.value) for part in own))
        found = Bound(sqrt_up(squares), "Concat: √ΣL²", tuple(own))
    elif owner is Parallel:
        pairs = zip(module.branches, module.split_sizes, strict=True)  # pyright: ignore
        own = [tighter_chain(each, (size, *shape[1:]), analysis) for each, size in pairs]
        found = Bound(max(part.value for part in own), "Parallel: largest", tuple(own))
    else:
        return known
    return found if found.value < known.value else known


def _folded(pair: list[Operation], analysis: Analysis) -> Bound | None:
    """A linear map with a factor for each channel before or after it, if that is tighter."""
    first, second = (each.module for each in pair)
    if type(first) is Affine and isinstance(second, (nn.Linear, conv._ConvNd)):  # noqa: SLF001
        affine, linear, axis, shape = first, second, 1, pair[0].shape
    elif type(second) is Affine and isinstance(first, (nn.Linear, conv._ConvNd)):  # noqa: SLF001
        affine, linear, axis, shape = second, first, 0, pair[1].shape
    else:
        return None
    owner = forward_owner(type(linear))
    if owner not in LINEAR or isinstance(linear, conv._ConvTransposeNd):  # noqa: SLF001
        return None
    if affine.scale is None or affine.scale.numel() == 1:
        return None
    along = len(shape) - 1 if owner is nn.Linear else 0
    factors = affine.scale.detach().double().cpu()
    factors = factors.reshape([1] * (len(shape) - factors.ndim) + list(factors.shape))
    if any(size > 1 for i, size in enumerate(factors.shape) if i != along):
        return None
    if axis == 1 and getattr(linear, "groups", 1) != 1:
        return None
    weight = linear.weight.detach().double().cpu()
    factors = factors.flatten().reshape([-1 if i == axis else 1 for i in range(weight.ndim)])
    copied = copy.deepcopy(linear)
    copied.weight = nn.Parameter(weight * factors)
    before = pair[0].shape
    norm = Analysis("float64").lipschitz(copied, before)
    taps = math.prod(weight.shape[2:])
    size = sqrt_up(float(sums_of_squares(copied.weight.detach().flatten()[None, None])))
    value = add_up(norm, mul_up(2 * U, sqrt_up(float(taps)), size), mul_up(ETA, weight.numel()))
    known = [analysis.bound(each.module, each.shape) for each in pair]
    if value >= mul_up(known[0].value, known[1].value):
        return None
    return Bound(value, "Factors of channels folded into a linear map", tuple(known))
