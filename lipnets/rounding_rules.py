"""Rounding rules for operations of torch.nn and of `program`.  The docstring of a rule is its proof.

**Linear maps.**  A layer x ↦ Wx + b of an arithmetic computes with the weights W′ and b′ that its
format stores.  `LinearMap` says how a layer applies given weights; `LinearMap.rounding` bounds what is
rounded, for all layers alike.

**Norms of moduli.**  The error of a sum is bounded by |W||X|: ‖|W|‖ is needed, for which `moduli_norm`
is enough.  Norms of moduli of a convolution: `convolutions.tap_sums`.
"""

__all__ = ["LinearMap", "linear_step", "moduli_norm", "product_error", "row_errors"]

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules import conv

from . import rounding_elementwise  # noqa: F401 - registers its rules
from .bounds import NotCertifiedError, Shape, class_name
from .convolutions import tap_sums
from .linalg import ETA, add_up, gamma, matrix_norm, scale_up, sqrt_up, unit_scale
from .program import Affine, AxisMaps, Gather
from .rounding import UP, Analysis, Arithmetic, Ball, Number, bits, norms, number, rounding_rule

# Operations that compute nothing


@rounding_rule(nn.Identity, nn.ReLU, Gather)
def _exact(module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: what moves numbers, or picks one of two, is exact, and stays on a grid."""
    return analysis.step(module, shape, ball, 0.0, grid=ball.grid)


@rounding_rule(
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.MaxPool3d,
    nn.AdaptiveMaxPool1d,
    nn.AdaptiveMaxPool2d,
    nn.AdaptiveMaxPool3d,
)
def _max_pool(module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: the largest of some numbers is one of them; of zeros it is 0, if no window is empty."""

    def empty() -> bool:
        return not module(torch.zeros(1, *shape, dtype=torch.float64)).isfinite().all()

    if analysis.once(module, ("empty", shape), empty):
        raise NotCertifiedError(f"{class_name(module)} has windows without a pixel: infinite.")
    return _exact(module, shape, ball, analysis)


# Linear maps


def moduli_norm(matrices: Tensor) -> float:
    """Bounds the norms of matrices with entries that are not negative.

    *Proof* (Collatz, Wielandt).  For a positive vector x, AᵀAx ≤ λx entrywise implies ‖A‖² ≤ λ: with
    D = diag(x), D⁻¹AᵀAD is similar to AᵀA and has row sums of λ at most.  The vector is a guess, by power
    iteration.  Its two products sum terms that are not negative: each is off by γ of itself, and what
    underflows in them is below 2⁻⁹⁰⁰ as entries are below 1.  ∎

    Arguments:
        matrices: The matrices, with shape (M, N) or (B, M, N).

    Returns:
        A number that is at least the largest of the norms; infinite if an entry is not finite.
    """
    scaled, exponent, lost = unit_scale(matrices)
    if scaled is None:
        return math.inf
    if not scaled.any():
        return lost
    if scaled.ndim == 2:
        scaled = scaled[None]
    x = torch.ones(len(scaled), scaled.shape[2], 1, dtype=torch.float64)
    square = math.inf
    for _ in range(8):
        y = scaled.mT @ (scaled @ x)
        square = min(square, (y / x).max().item())
        x = (y / y.amax(dim=1, keepdim=True).clamp_min(2.0**-100)).clamp_min(2.0**-60)
    square = square * (1 + 2 * gamma(sum(scaled.shape[1:]) + 8)) + 2.0**-800
    return add_up(scale_up(sqrt_up(square), exponent), lost)


def product_error(
    arithmetic: Arithmetic,
    terms: int,
    outputs: int,
    moduli: Number,
    result: Number = 0.0,
    size: Number = 0.0,
) -> Tensor:
    """Bounds what is rounded in sums of products of stored weights with X, plus a bias.

    *Proof.*  Let the entries of |W||X| + |b| have the norm `moduli` at the most.  Operands are cut to
    w(1 + v) and x(1 + v), v in modulus `operand` at most: products are off by (1 + v)² − 1 of |w||x|, and
    their sums by γ_{k+1} of what they then are (R1): entrywise, off by γ(1 + v)² + 2v + v² of |W||X| + |b|.
    Where sums have a unit of their own, Wx and then Wx + b are rounded once more, to be stored: u each
    of ‖WX‖ and of ‖WX + b‖ and of these errors.  What underflows is at most one of the smallest numbers
    in each of the k products, the bias and two numbers stored; where operands are cut, also one of the
    smallest in each of them: times the other, k tiny (‖X‖ + ‖W‖_∞ + tiny), where a weight that is not below
    one in modulus counts in `moduli`.  A number of the modulus of the largest one may overflow: nothing is known.

    Arguments:
        arithmetic: The arithmetic.
        terms: The number k of products in a sum.
        outputs: The number of sums.
        moduli: A bound of the norm of |W||X| + |b|, for the weights that are stored.
        result: A bound of ‖WX‖ and of ‖WX + b‖, where sums have a unit of their own.
        size: A bound of ‖X‖, and of the largest weight, where operands are cut.
    """
    a, moduli, result = arithmetic, number(moduli), number(result)
    g, v = a.gamma(terms + 1), a.operand
    relative = (g * (1 + v) ** 2 + v * (2 + v)) * UP
    lost = (terms + 3) * math.sqrt(outputs) * a.tiny
    if v:
        lost = lost * (1 + number(size))
    error = relative * moduli + lost
    if a.summing != a.unit:
        error = error + 2 * a.unit * (1 + a.unit) * (result + error)
    return (error * UP).where(moduli * (1 + relative) < a.largest, math.inf)


@dataclass(frozen=True, eq=False)
class LinearMap:
    """A linear layer, as what it does with weights.

    Arguments:
        weight: Its weights.
        bias: Its bias, or None.
        terms: The number of products in one of its sums, at the most.
        outputs: The number of its sums.
        constant: A bound of its norm.
        moduli: Bounds the norm of the layer with given weights that are not negative.
        rows: Bounds Σ |wᵢ xᵢ| over any products of one sum, for given weights and ‖x‖ ≤ 1.
        apply: Applies the layer with given weights and bias.
        arithmetic: That of its sums.
    """

    weight: Tensor
    bias: Tensor | None
    terms: int
    outputs: int
    constant: float
    moduli: Callable[[Tensor], float]
    rows: Callable[[Tensor], float]
    apply: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    arithmetic: Arithmetic

    def facts(self, analysis: Analysis, key: tuple[nn.Module, Any]) -> "_Facts":
        """What is known of the weights in the arithmetic, computed once for each module and name."""
        module, name = key
        a = self.arithmetic
        bias = None if self.bias is None else self.bias.detach()

        def measure() -> _Facts:
            weight = a.stored(self.weight)
            added = 0.0 if bias is None else _tiled(a.stored(bias), self.outputs)
            held = a.holds(self.weight) and (bias is None or a.holds(bias))
            if held:
                shares = (0.0, 0.0)
            else:  # differences are exact, but for those that underflow
                off = 0.0 if bias is None else _tiled(a.stored(bias) - bias.double(), self.outputs)
                lost = (weight - self.weight.detach().double()).abs() * UP + ETA
                shares = (self.moduli(lost), off + ETA * self.outputs)
            finite = bool(weight.isfinite().all())
            moduli = self.moduli(weight.abs()) if finite else math.inf
            largest = weight.abs().max().item() if finite and weight.numel() else 0.0
            return _Facts(moduli, added, *shares, held, max(largest, 1.0))

        return analysis.once(module, (name, "facts", self.outputs, a.name, a.bits), measure)

    def rounding(
        self, ball: Ball, analysis: Analysis, key: tuple[nn.Module, Any]
    ) -> tuple[Tensor, float, int | None]:
        """Bounds what the layer rounds.

        *Proof.*  With W′ and b′ stored, F(X) − f(X) = [F(X) − (W′X + b′)] + (W′ − W)X + (b′ − b).  The first
        is bounded by `product_error`, with ‖|W′||X| + |b′|‖ ≤ ‖|W′|‖ ‖X‖ + ‖b′‖, or, for X within d of a center
        c, ≤ ‖|W′||c| + |b′|‖ + ‖|W′|‖ d, which float64 computes from terms that are not negative; the rest by
        the norms of moduli of differences.

        On a grid 2⁻ᵍ, with weights that are stored as they are and multiples of 2⁻ᵗ, all partial sums are
        multiples of 2⁻⁽ᵍ⁺ᵗ⁾, below `rows` ‖X‖ + max |b|: if they need no more bits than the format has,
        nothing is rounded.  (Nor are operands cut: 2⁻ᵗ |x| ≤ |w||x| for any w ≠ 0, so x needs no more bits
        than the sum, and w likewise.)  ∎

        Arguments:
            ball: The ball of the inputs.
            analysis: The analysis that asks.
            key: The module whose weights these are, and a name of the map, which tells shapes apart too,
                for what is kept of them.

        Returns:
            A bound of ‖F(X) − f(X)‖, one of ‖f(0)‖, and the grid of outputs if they are on one.
        """
        a, known, norm = self.arithmetic, self.facts(analysis, key), number(ball.norm)
        bias = None if self.bias is None else self.bias.detach()
        offset = (known.added + known.off) * UP
        if ball.grid is not None and known.held:
            module, name = key
            steps = analysis.once(module, (name, "bits"), lambda: _bits(self.weight, bias))
            rows = analysis.once(module, (name, "rows"), lambda: self.rows(self.weight.detach()))
            if steps is not None:
                grid = max(ball.grid + steps[0], steps[1])
                top = rows * ball.largest + (0.0 if bias is None else bias.abs().max().item())
                if a.sums(top, grid):
                    return number(0.0), offset, grid
        moduli = known.moduli * norm + known.added
        if ball.center is not None and math.isfinite(known.moduli):
            weight = a.stored(self.weight).abs().to(ball.center)
            extra = None if bias is None else a.stored(bias).abs().to(ball.center)
            here = norms(self.apply(ball.center.abs(), weight, extra))
            here = here * (1 + 2 * gamma(self.terms + 4)) + self.terms * self.outputs * 4 * ETA
            moduli = torch.minimum(moduli, here + known.moduli * number(ball.drift))
        result = self.constant * norm + known.moved * norm + known.added + offset
        size = torch.maximum(norm, number(known.largest)) * 2
        local = product_error(a, self.terms, self.outputs, moduli * UP, result * UP, size)
        return (local + known.moved * norm + known.off) * UP, offset, None


@dataclass(frozen=True)
class _Facts:
    """Of the weights of a layer in an arithmetic.

    Arguments:
        moduli: A bound of the norm of the layer with the moduli of what is stored.
        added: A bound of the norm of the bias that is stored, over all outputs.
        moved: A bound of the norm of the layer with the moduli of what storing changes.
        off: The same of the bias.
        held: Whether storing changes nothing.
        largest: The largest modulus of a weight, or 1.
    """

    moduli: float
    added: float
    moved: float
    off: float
    held: bool
    largest: float


def linear_step(
    module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis, linear: LinearMap
) -> Ball:
    """The ball behind a module that is a linear map."""
    local, offset, grid = linear.rounding(ball, analysis, (module, ("map", shape)))
    return analysis.step(module, shape, ball, local, offset=offset, grid=grid)


def _tiled(bias: Tensor, outputs: int) -> float:
    """A bound of the norm of a bias that is repeated over all outputs."""
    repeated = math.sqrt(outputs / max(bias.numel(), 1))
    return norms(bias.reshape(1, -1)).item() * repeated * UP


def _bits(weight: Tensor, bias: Tensor | None) -> tuple[int, int] | None:
    """The grids of weights and of the bias; None if they have none."""
    found = [bits(tensor) for tensor in (weight, bias) if tensor is not None]
    if any(step is None for step in found):
        return None
    return found[0] or 0, (found[1] or 0) if bias is not None else 0


@rounding_rule(nn.Linear)
def _linear(module: nn.Linear, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A product of I terms for each output, on each row of an example alike."""
    return linear_step(module, shape, ball, analysis, linear_map(module, shape, analysis))


def linear_map(module: nn.Linear, shape: Shape, analysis: Analysis) -> LinearMap:
    """A linear layer on the last axis: rows of an example are apart, the norm is that of the matrix."""
    return LinearMap(
        module.weight,
        module.bias,
        terms=module.weight.shape[1],
        outputs=math.prod(shape[:-1]) * module.weight.shape[0],
        constant=analysis.lipschitz(module, shape),
        moduli=moduli_norm,
        rows=_row_norm,
        apply=F.linear,
        arithmetic=analysis.arithmetic,
    )


def _row_norm(weight: Tensor) -> float:
    """The largest norm of a row; Σ |wᵢ xᵢ| ≤ ‖w‖ ‖x‖."""
    return norms(weight).max().item() if weight.numel() else 0.0


@rounding_rule(nn.Conv1d, nn.Conv2d, nn.Conv3d)
def _convolution(module: conv._ConvNd, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A sum of k products for each output, k the number of entries of its kernel: see `conv_map`."""
    return linear_step(module, shape, ball, analysis, conv_map(module, shape, analysis))


def conv_map(module: conv._ConvNd, shape: Shape, analysis: Analysis) -> LinearMap:
    """A convolution with zero or circular padding.

    ‖|W|‖ ≤ ‖Σ_t |K_t|‖ (`tap_sums`) without wrapping, and in a circle of n pixels, of which a stride keeps
    some: each tap is then a permutation followed by a selection; phases are those of the torus if the
    stride divides n, else strides are left out.  A sum may read a pixel more than once where the
    kernel is larger than the circle: Σ |wᵢ xᵢ| ≤ Σ |wᵢ| max |x| then.
    """
    constant = analysis.lipschitz(module, shape)  # refuses what this is not true of
    weight, bias = module.weight, module.bias
    stride, wraps = list(module.stride), False
    if module.padding_mode == "circular":
        for axis, size in enumerate(shape[1:]):
            stride[axis] = stride[axis] if size % stride[axis] == 0 else 1
            wraps |= module.dilation[axis] * (module.kernel_size[axis] - 1) + 1 > size

    def moduli(weights: Tensor) -> float:
        sums = tap_sums(weights, groups=module.groups, stride=stride, dilation=module.dilation)
        return moduli_norm(sums * (1 + 2 * gamma(weights[0, 0].numel() + 4)))

    def rows(weights: Tensor) -> float:
        if wraps:
            sums = weights.double().abs().flatten(1).sum(dim=1).max().item()
            return sums * (1 + 2 * gamma(weights[0].numel() + 4))
        return _row_norm(weights)

    return LinearMap(
        weight,
        bias,
        terms=weight[0].numel(),
        outputs=math.prod(analysis.output_shape(module, shape)),
        constant=constant,
        moduli=moduli,
        rows=rows,
        apply=module._conv_forward,  # noqa: SLF001
        arithmetic=analysis.arithmetic,
    )


_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@rounding_rule(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
def _transposed(
    module: conv._ConvTransposeNd, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """The adjoint of a convolution, whose norm of moduli is that of the adjoint of the moduli.

    An output sums the products of all input channels of its group with some taps, one pixel with one
    tap each: all the kernels to its channel bound them.
    """
    weight = module.weight

    def moduli(weights: Tensor) -> float:
        sums = tap_sums(
            weights, groups=module.groups, stride=module.stride, dilation=module.dilation
        )
        return moduli_norm(sums * (1 + 2 * gamma(weights[0, 0].numel() + 4)))

    def rows(weights: Tensor) -> float:
        grouped = weights.unflatten(0, (module.groups, -1)).transpose(1, 2).flatten(0, 1)
        return _row_norm(grouped)

    def apply(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        return _TRANSPOSED[weights.ndim - 2](
            x, weights, bias, module.stride,
            tuple(map(int, module.padding)), module.output_padding,
            module.groups, module.dilation,
        )  # fmt: skip

    linear = LinearMap(
        weight,
        module.bias,
        terms=weight.shape[0] // module.groups * weight[0, 0].numel(),
        outputs=math.prod(analysis.output_shape(module, shape)),
        constant=analysis.lipschitz(module, shape),
        moduli=moduli,
        rows=rows,
        apply=apply,
        arithmetic=analysis.arithmetic,
    )
    return linear_step(module, shape, ball, analysis, linear)


@rounding_rule(Affine)
def _affine(module: Affine, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A sum of one product, c x, and b, entry by entry: ‖|c| x‖ ≤ max |c| ‖x‖."""
    constant = analysis.lipschitz(module, shape)  # refuses what does not broadcast
    scale = torch.ones(()) if module.scale is None else module.scale
    like = torch.zeros(shape, dtype=torch.float64, device=scale.device)
    shift = None if module.shift is None else (module.shift.double() + like).flatten()

    def apply(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        out = weights * x
        return out if bias is None else out + bias.reshape(shape)

    def largest(weights: Tensor) -> float:
        return weights.double().abs().max().item()

    linear = LinearMap(
        scale,
        shift,
        terms=0 if module.scale is None else 1,
        outputs=math.prod(shape),
        constant=constant,
        moduli=largest,
        rows=largest,
        apply=apply,
        arithmetic=analysis.arithmetic.elementwise,
    )
    return linear_step(module, shape, ball, analysis, linear)


@rounding_rule(AxisMaps)
def _axis_maps(module: AxisMaps, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """One product after another, each on all lines along an axis: products with zeros are exact."""
    sizes, inner = list(shape), Ball(ball.norm, 0.0, ball.grid, ball.center, ball.drift)
    for number_, (axis, matrix) in enumerate(zip(module.axes, module.matrices, strict=True)):
        sizes[axis] = matrix.shape[0]

        def apply(x: Tensor, weights: Tensor, bias: Tensor | None, axis: int = axis) -> Tensor:
            return (x.movedim(axis + 1, -1) @ weights.mT).movedim(-1, axis + 1)

        name = f"axis {number_}"
        norm = analysis.once(module, (name, "norm"), lambda m=matrix: matrix_norm(m))
        linear = LinearMap(
            matrix,
            None,
            terms=int((matrix != 0).sum(dim=1).max()),
            outputs=math.prod(sizes),
            constant=norm,
            moduli=moduli_norm,
            rows=_row_norm,
            apply=apply,
            arithmetic=analysis.arithmetic,
        )
        local, _, grid = linear.rounding(inner, analysis, (module, name))
        weights = matrix.detach().double()
        inner = analysis.move(
            inner, lambda x, w=weights, f=apply: f(x, w, None), norm, local, grid=grid
        )
    return analysis.step(module, shape, ball, inner.error, grid=inner.grid)


def row_errors(head: nn.Linear, ball: Ball, analysis: Analysis) -> Tensor:
    """Bounds |Fᵢ(X) − fᵢ(X)| for each output of a linear layer, with shape (K,) or (B, K).

    As `LinearMap.rounding`, of one output: the norm of |wᵢ||X| + |bᵢ| is ‖wᵢ‖ ‖X‖ + |bᵢ| at most.
    """
    a, norm = analysis.arithmetic, number(ball.norm)
    bias = head.weight.new_zeros(len(head.weight)) if head.bias is None else head.bias.detach()

    def measure() -> tuple[Tensor, ...]:
        weight, added = a.stored(head.weight), a.stored(bias).abs().cpu()
        lost = (weight - head.weight.detach().double()).abs() * UP + ETA
        off = (added - bias.double().abs().cpu()).abs() * UP + ETA
        held = a.holds(head.weight) and a.holds(bias)
        share = torch.zeros(2, len(weight), dtype=torch.float64) if held else (norms(lost), off)
        return norms(weight), added, *share

    rows, biases, moved, off = analysis.once(head, ("head", a.name), measure)
    moduli = norm[..., None] * rows + biases
    if ball.grid is not None and not moved.any() and not off.any():
        steps = analysis.once(head, "bits", lambda: _bits(head.weight, bias))
        grid = None if steps is None else max(ball.grid + steps[0], steps[1])
        if grid is not None and a.sums(moduli.max().item(), grid):
            return torch.zeros_like(moduli)
    if ball.center is not None:
        weight = a.stored(head.weight).abs().to(ball.center)
        here = F.linear(ball.center.abs(), weight).cpu() + biases
        here = here * (1 + 2 * gamma(head.in_features + 4)) + 4 * head.in_features * ETA
        moduli = torch.minimum(moduli, here + number(ball.drift)[..., None] * rows)
    wide = (norm[..., None] * rows + biases) * 2
    size = torch.maximum(norm, rows.max().clamp_min(1))[..., None] * 2
    errors = product_error(a, head.in_features, 1, moduli * UP, wide * UP, size)
    return (errors + moved * norm[..., None] + off) * UP
