"""Rounding rules for operations of torch.nn and of `program`.  The docstring of a rule is its proof."""

__all__ = ["product_error", "row_errors"]

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from .bounds import Shape
from .linalg import matrix_norm
from .program import Gather
from .rounding import Analysis, Arithmetic, Ball, Number, bits, norms, rounding_rule

_UP = 1 + 2.0**-40

# Operations that compute nothing


@rounding_rule(nn.Identity, nn.ReLU, Gather)
def _exact(module: nn.Module, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R2: what moves numbers, or picks one of two, is exact, and stays on a grid."""
    return analysis.step(module, shape, ball, 0.0, grid=ball.grid)


# Matrix products


def product_error(
    arithmetic: Arithmetic,
    terms: int,
    outputs: int,
    moduli: Number,
    result: Number,
    *,
    stored: bool,
) -> Number:
    """Bounds ‖F(X) − f(X)‖ for products of weights with X, plus a bias.

    *Proof.*  Let |W||X| + |b| have the norm `moduli`, at the most.  Operands are rounded by v at most,
    weights that the format does not hold by u: the products of the rounded numbers differ by
    (1 + v)²(1 + u) − 1 of |w||x|, and their sums by γ_{k+1} of what they then are (R1).  So they are off by
    ((1 + γ)(1 + v)²(1 + u) − 1)(|W||X| + |b|) entrywise.  Where sums have a unit of their own, one more
    rounding stores them: u (‖f(X)‖ + that).  Underflow costs at most k + 2 of the smallest numbers in
    each output.  A number of the modulus of the largest one may overflow: then nothing is known.

    Arguments:
        arithmetic: The arithmetic.
        terms: The number k of products in a sum.
        outputs: The number of sums.
        moduli: A bound of the norm of |W||X| + |b|.
        result: A bound of ‖f(X)‖.
        stored: Whether the format holds the weights and the bias as they are.
    """
    a = arithmetic
    factor = (1 + a.gamma(terms + 1)) * (1 + a.operand) ** 2 * (1.0 if stored else 1 + a.unit)
    # (factor − 1) in float64 may round to less: 2⁻⁵¹ is more than the roundings of `factor`.
    relative = (factor - 1) * _UP + (0.0 if factor > 1.25 else 2.0**-51)
    error = relative * moduli
    if a.summing != a.unit:
        error = error + a.unit * (result + error)
    error = (error + (terms + 2) * math.sqrt(outputs) * a.tiny) * _UP
    over = torch.as_tensor(moduli) * (1 + relative) >= a.largest
    return torch.where(over, math.inf, error) if over.any() else error


def _product(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    *,
    terms: int,
    moduli_norm: float,
    row_norm: float,
    absolute: Callable[[Tensor], Tensor],
) -> Ball:
    """The ball behind a module of weights `weight` and `bias`: the errors of `product_error`, or none.

    If inputs are on a grid, weights and bias multiples of 2⁻ᵗ, and no partial sum, of modulus
    ‖w‖ ‖X‖ + |b| at most for a row w, can need more bits than the format has: exact.

    Arguments:
        module: The module.
        shape: The shape of an example.
        ball: The ball of its inputs.
        analysis: The analysis that asks.
        terms: The number of products in a sum.
        moduli_norm: A bound of ‖|W|‖, the norm of the map with the moduli of the weights.
        row_norm: A bound of the norms ‖w‖ of rows.
        absolute: Applies |W|, and adds |b|, to moduli with shape (B, *shape).
    """
    a = analysis.arithmetic
    weight, bias = module.weight, module.bias
    tensors = [weight] if bias is None else [weight, bias]
    out = analysis.output_shape(module, shape)
    outputs = math.prod(out)
    stored = analysis.once(module, ("holds", a.name), lambda: all(map(a.holds, tensors)))
    offset = 0.0
    if bias is not None:
        repeated = outputs / len(bias)
        offset = float(norms(bias[None])) * math.sqrt(repeated) * _UP

    if ball.grid is not None and stored:
        steps = analysis.once(module, "bits", lambda: [bits(tensor) for tensor in tensors])
        grid = _product_grid(ball.grid, steps)
        if grid is not None:
            top = row_norm * ball.largest + (0.0 if bias is None else bias.abs().max().item())
            if top * _UP < math.ldexp(1.0, a.bits - grid):
                return analysis.step(module, shape, ball, 0.0, offset=offset, grid=grid)

    moduli = moduli_norm * ball.norm + offset
    if ball.center is not None:
        here = norms(absolute(ball.center.abs()))
        here = here * (1 + 2 * (terms + 4) * 2.0**-53)  # itself computed in float64
        moduli = torch.minimum(torch.as_tensor(moduli), here + moduli_norm * ball.drift)
    result = analysis.lipschitz(module, shape) * ball.norm + offset
    local = product_error(a, terms, outputs, moduli * _UP, result * _UP, stored=stored)
    return analysis.step(module, shape, ball, local, offset=offset)


@rounding_rule(nn.Linear)
def _linear(module: nn.Linear, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """A product of I terms for each output, on each row of an example alike."""
    moduli = module.weight.detach().abs()
    bias = None if module.bias is None else module.bias.detach().abs()
    return _product(
        module,
        shape,
        ball,
        analysis,
        terms=module.in_features,
        moduli_norm=analysis.once(module, "moduli", lambda: matrix_norm(moduli)),
        row_norm=analysis.once(module, "rows", lambda: norms(moduli).max().item()),
        absolute=lambda x: nn.functional.linear(x, moduli, bias),
    )


def _product_grid(grid: int, steps: list[int | None]) -> int | None:
    """The grid of sums of products of inputs on a grid, and of a bias; None if it is too fine."""
    weight, *biases = [1074 if step is None else step for step in steps]
    finest = max(grid + weight, *biases, 0)
    return finest if finest < 1000 else None


def row_errors(head: nn.Linear, ball: Ball, analysis: Analysis) -> Tensor:
    """Bounds |Fᵢ(X) − fᵢ(X)| for each output of a linear layer, with shape (K,) or (B, K).

    As `product_error` of one output: the norm of |wᵢ||X| + |bᵢ| is ‖wᵢ‖ ‖X‖ + |bᵢ| at most.
    """
    a = analysis.arithmetic
    tensors = [head.weight] if head.bias is None else [head.weight, head.bias]
    rows = norms(head.weight)
    biases = (
        torch.zeros_like(rows) if head.bias is None else head.bias.detach().double().abs().cpu()
    )
    size = torch.as_tensor(ball.norm, dtype=torch.float64)
    moduli = size[..., None] * rows + biases
    if ball.center is not None:
        here = ball.center.abs() @ head.weight.detach().abs().mT + biases
        here = here * (1 + 2 * (head.in_features + 4) * 2.0**-53)
        drift = torch.as_tensor(ball.drift, dtype=torch.float64)
        moduli = torch.minimum(moduli, here + drift[..., None] * rows)
    stored = all(map(a.holds, tensors))
    if ball.grid is not None and stored:
        grid = _product_grid(ball.grid, [bits(tensor) for tensor in tensors])
        if grid is not None and moduli.max() * _UP < math.ldexp(1.0, a.bits - grid):
            return torch.zeros_like(moduli)
    errors = product_error(a, head.in_features, 1, moduli * _UP, moduli * _UP, stored=stored)
    return torch.as_tensor(errors)
