"""Rounding rules of activations that act on each entry alone.  The docstring of a rule is its proof.

Let a rule show |F(X)ᵢ − f(X)ᵢ| ≤ r |Xᵢ| + e for each of the n entries; then ‖F(X) − f(X)‖ ≤ r ‖X‖ + e √n.
u is the unit of the format, ε = 2 · `ELEMENTARY` · u what R3 allows a function relatively, a unit of
the last place being 2u of a number at most.  Formats of 16 bits compute in float32 and round once or
more often: ε covers it.  Products of small numbers are rounded up into the constants: below, 1.01 is more
than (1 + ε)⁴ for every format but those of 16 bits, and for these 2 is.
"""

__all__ = []

import math

import torch
from torch import nn

from .bounds import NotCertifiedError, Shape
from .rounding import ELEMENTARY, FLOAT32, UP, Analysis, Ball, Number, bits, number, rounding_rule


def _step(
    module: nn.Module,
    shape: Shape,
    ball: Ball,
    analysis: Analysis,
    *,
    relative: Number = 0.0,
    each: float = 0.0,
    zero: float = 0.0,
    elementary: bool = True,
) -> Ball:
    """The ball behind an activation, from r, e and a bound of |f(0)|; what underflows comes with it."""
    if elementary:
        analysis.assumptions.add("R3")
    a, root = analysis.arithmetic, math.sqrt(math.prod(shape))
    more = 2.0 if a.unit > 2.0**-12 else 1.01
    local = (relative * number(ball.norm) + (each + 8 * a.tiny) * root) * more
    return analysis.step(module, shape, ball, local * UP, offset=zero * root * UP)


def _elementary(analysis: Analysis) -> tuple[float, float, float]:
    """u, ε, and what of a function is lost where an exponential overflows.

    Beyond log(largest) = t, σ(−x), its products with x and the like are below (t + 2) e⁻ᵗ, as they
    decrease: 2¹¹ / largest is more.
    """
    unit = analysis.arithmetic.unit
    largest = max(analysis.arithmetic.largest, FLOAT32.largest)  # of what computes exponentials
    return unit, 2 * ELEMENTARY * unit, 2.0**11 / largest


# Piecewise linear


@rounding_rule(nn.LeakyReLU, nn.PReLU)
def _leaky(module: nn.LeakyReLU | nn.PReLU, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Either x, or a x with a slope that is stored, off by u or a tiny number, and one product: (2u + u²) |a| |x|.

    Products with 0, 1 and −1 are exact, and products on grids that fit the format.  A slope that the
    format stores as infinite bounds nothing.
    """
    a = analysis.arithmetic.elementwise
    slopes = (
        module.weight.detach().double().cpu()
        if isinstance(module, nn.PReLU)
        else torch.tensor([module.negative_slope], dtype=torch.float64)
    )
    largest = slopes.abs().max().item()
    if not a.stored(slopes).isfinite().all():
        return analysis.step(module, shape, ball, math.inf)
    if torch.isin(slopes.abs(), torch.tensor([0.0, 1.0], dtype=torch.float64)).all():
        return analysis.step(module, shape, ball, 0.0, grid=ball.grid)
    step = bits(slopes)
    if ball.grid is not None and step is not None and a.holds(slopes):
        grid = ball.grid + step
        if a.sums(max(1.0, largest) * ball.largest, grid):
            return analysis.step(module, shape, ball, 0.0, grid=grid)
    relative = a.unit * (2 + a.unit) * largest + a.tiny
    return _step(module, shape, ball, analysis, relative=relative, elementary=False)


@rounding_rule(nn.Hardtanh)
def _hardtanh(module: nn.Hardtanh, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Exact, but for its two limits, which are stored: off by u of themselves or a tiny number."""
    a = analysis.arithmetic
    limits = torch.tensor([module.min_val, module.max_val], dtype=torch.float64)
    root = math.sqrt(math.prod(shape))
    local = (a.stored(limits) - limits).abs().max().item() * root * UP
    zero = min(max(0.0, module.min_val), module.max_val)
    step, grid = bits(limits), None
    if ball.grid is not None and step is not None and local == 0:
        fine = max(ball.grid, step)
        grid = fine if a.sums(limits.abs().max().item(), fine) else None
    return analysis.step(module, shape, ball, local, offset=abs(zero) * root * UP, grid=grid)


@rounding_rule(nn.Softshrink)
def _softshrink(module: nn.Softshrink, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Computes x ∓ λ outside of [−λ, λ], else 0: continuous in x and λ, with constants 1.

    λ is stored, off by u or a tiny number, and |x ∓ λ| ≤ |x| is rounded once.
    """
    a = analysis.arithmetic
    threshold = torch.tensor([module.lambd], dtype=torch.float64)
    off = (a.stored(threshold) - threshold).abs().item()
    step = bits(threshold)
    if ball.grid is not None and step is not None and off == 0:
        grid = max(ball.grid, step)
        if a.elementwise.sums(ball.largest + abs(module.lambd), grid):
            return analysis.step(module, shape, ball, 0.0, grid=grid)
    return _step(module, shape, ball, analysis, relative=a.unit, each=off, elementary=False)


@rounding_rule(nn.Softsign)
def _softsign(module: nn.Softsign, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Computes x / (1 + |x|): a sum and a quotient, u each, of a number of modulus |x| at most."""
    unit = analysis.arithmetic.unit
    return _step(module, shape, ball, analysis, relative=2 * unit, elementary=False)


# Smooth: under R3


@rounding_rule(nn.Tanh)
def _tanh(module: nn.Tanh, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """R3, and |tanh x| ≤ |x|: ε |x|; and ≤ 1: ε.  The smaller norm of the two."""
    _, epsilon, _ = _elementary(analysis)
    relative = torch.minimum(
        number(epsilon), epsilon * math.sqrt(math.prod(shape)) / number(ball.norm)
    )
    return _step(module, shape, ball, analysis, relative=relative * UP)


@rounding_rule(nn.Tanhshrink)
def _tanhshrink(module: nn.Tanhshrink, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Computes x − tanh x: ε |tanh x| ≤ ε |x|, and u of a difference that is no larger than |x|."""
    unit, epsilon, _ = _elementary(analysis)
    return _step(module, shape, ball, analysis, relative=epsilon + unit)


@rounding_rule(nn.Sigmoid)
def _sigmoid(module: nn.Sigmoid, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """1 / (1 + e⁻ˣ): ε of the exponential, a sum and a quotient, of a number below 1; σ(0) = ½."""
    unit, epsilon, lost = _elementary(analysis)
    return _step(module, shape, ball, analysis, each=epsilon + 2 * unit + lost, zero=0.5)


@rounding_rule(nn.SiLU)
def _silu(module: nn.SiLU, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Computes x σ(x), or x / (1 + e⁻ˣ): as σ, with one more product, of a number of modulus |x| at most."""
    unit, epsilon, lost = _elementary(analysis)
    return _step(module, shape, ball, analysis, relative=epsilon + 3 * unit, each=lost)


@rounding_rule(nn.GELU)
def _gelu(module: nn.GELU, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Computes x · ½(1 + g(z)), g = erf or tanh, off by (ε/2 + 7u) |x|.

    z = x √½ is off by 2u of itself, by the constant and the product; z = √(2/π)(x + c x³), of two terms of
    one sign, by 8u.  Neither |z| erf′(z) ≤ 0.49 nor |z| tanh′(z) ≤ 0.45 is above ½: g is off by 4u for that,
    and by ε by itself; the sum 1 + g, 2 at the most, by 2u.  The half of these is ε/2 + 3u; two
    products, of numbers of modulus |x| at most, add 2u.  (Where x³ overflows, tanh is ±1, as it should be.)
    """
    unit, epsilon, _ = _elementary(analysis)
    return _step(module, shape, ball, analysis, relative=epsilon / 2 + 7 * unit)


@rounding_rule(nn.ELU)
def _elu(module: nn.ELU, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """Either x, or α (eˣ − 1) for x ≤ 0: off by (ε + 3u) |α|.

    eˣ ≤ 1 is off by ε, whether 1 is subtracted or a function does both; u for the difference, for α as
    it is stored and for the product, each of a number of modulus 1 or |α| at most.
    """
    unit, epsilon, _ = _elementary(analysis)
    alpha = abs(float(module.alpha))
    return _step(
        module, shape, ball, analysis, relative=2 * unit, each=(epsilon + 3 * unit) * alpha
    )


@rounding_rule(nn.LogSigmoid)
def _log_sigmoid(module: nn.LogSigmoid, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """min(x, 0) − log(1 + e^{−|x|}): off by (3ε/2 + 2u) and u |x|.

    The exponential, 1 at the most, is off by ε of itself, and its logarithm by half of that, as
    E ↦ log(1 + E) has the slope 1 / (1 + E) and E / (1 + E) ≤ ½; by u more if 1 + E is rounded first; the
    logarithm, below 0.7, by ε of itself; the sum, below |x| + 0.7, by u.
    """
    unit, epsilon, _ = _elementary(analysis)
    each = 1.5 * epsilon + 3 * unit
    return _step(module, shape, ball, analysis, relative=unit, each=each, zero=math.log(2) * UP)


@rounding_rule(nn.Softplus)
def _softplus(module: nn.Softplus, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """log(1 + e^{βx}) / β, replaced by x where βx is above a threshold t: a jump of e⁻ᵗ / β at most.

    z = βx is off by 2u |z|, for β as it is stored and the product; the slope σ(z) is below 1.  The exponential is
    off by ε, hence its logarithm by ε σ(z) ≤ ε; the logarithm by ε of itself, and |z| + 0.7 is above it;
    the quotient by u of that, and by u for β.  (ε + 4u)(|z| + 0.7) + ε in all, over β.  The jump is
    log(1 + e⁻ᶻ) / β, z ≥ t (1 − 2u).
    """
    unit, epsilon, _ = _elementary(analysis)
    beta, threshold = float(module.beta), float(module.threshold)
    top = math.log(max(analysis.arithmetic.largest, FLOAT32.largest)) - 1
    if min(threshold, beta * ball.largest) > top:
        raise NotCertifiedError(
            f"Exponentials of Softplus may overflow below its threshold {threshold:g}: use the default."
        )
    jump = math.exp(-threshold * (1 - 2 * unit)) if beta * ball.largest * 1.1 > threshold else 0.0
    each = (0.7 * (epsilon + 4 * unit) + epsilon + jump * UP) / beta
    zero = math.log(2) / beta * UP
    relative = epsilon + 4 * unit
    return _step(module, shape, ball, analysis, relative=relative, each=each, zero=zero)
