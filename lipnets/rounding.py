"""How far a program in floating point may be from the real function of its weights.

**Model of arithmetic.**  For a format of unit roundoff u and smallest number η:

R1. A real number of a matrix product or a convolution is the root of some binary tree over its k
    products and its bias, each operation correctly rounded: any order, any blocking, fused or not.
    Then it is off by γ_{k+1} (Σ |wᵢ||xᵢ| + |b|) + (k + 1) η at most, γₖ = ku / (1 − ku).  Accelerators
    that sum with a unit u′ > u, and round operands first with a unit v, are `Arithmetic`s too.
R2. + − × ÷ √ of two numbers are correctly rounded; max, min, |·| and what moves numbers are exact.
R3. What torch computes by its library of elementary functions (exp, tanh, erf, ...) is within
    `ELEMENTARY` units of the last place, in float32 at least: an assumption, not a theorem, which
    certificates of networks that need it name (`Analysis.assumptions`).
R4. Numbers are stored by correct rounding, weights and inputs too, and subnormal numbers are kept by
    the formats whose `tiny` says so.

Winograd and FFT convolutions and Strassen's products are not of the kind R1.  Nor is torch's float32
`FLOAT32` where `torch.get_float32_matmul_precision()` is not "highest" or cuDNN may use TF32, nor a
product on a GPU with parts that are summed in 16 bits (`allow_bf16_reduced_precision_reduction`).

**What is propagated** is a `Ball` around what is computed: a bound of the norm of a computed
activation, a bound of its distance from the exact one, and, if activations were measured, how far
from the measured ones it may be.  A program F of a function f with constant L, whose operation is
off by e, has, by the triangle inequality,

    ‖F(X) − f(x)‖ ≤ ‖F(X) − f(X)‖ + ‖f(X) − f(x)‖ ≤ e + L ‖X − x‖.

**Exactness is derived, not promised.**  If all entries of X are multiples of 2⁻ᵍ and all weights of 2⁻ᵗ,
every partial sum is a multiple of 2⁻⁽ᵍ⁺ᵗ⁾; if none can reach 2ᵖ⁻ᵍ⁻ᵗ in a format of p bits, none is
rounded.  A program whose activations are put on such grids (`exact`) has thus no error but that of
putting them there, whatever the order of its sums.

References:
    | Accuracy and Stability of Numerical Algorithms (Higham, 2002), chapters 2 and 3
    | Numerical behavior of NVIDIA tensor cores (Fasi, Higham, Mikaitis & Pranesh, 2021)
    | https://doi.org/10.7717/peerj-cs.330
"""

__all__ = [
    "ARITHMETICS",
    "BFLOAT16",
    "ELEMENTARY",
    "FLOAT16",
    "FLOAT32",
    "FLOAT64",
    "TF32",
    "UP",
    "Analysis",
    "Arithmetic",
    "Ball",
    "Number",
    "arithmetic",
    "bits",
    "float32_products",
    "norms",
    "number",
    "rounding_rule",
]

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .bounds import (
    Bound,
    NotCertifiedError,
    Proved,
    Shape,
    class_name,
    forward_owner,
    lipschitz,
    output_shape,
    refuse_unknown,
    remembering,
    without_autocast,
)

Number = float | Tensor  # one for all images, or one for each, with shape (B,), in float64
ELEMENTARY = 16  # units of the last place
UP = 1 + 2.0**-40  # covers the roundings of 4,000 sums, products and roots of positive numbers


@dataclass(frozen=True)
class Arithmetic:
    """A format of numbers, and what is known of the products computed with it.

    Arguments:
        name: Its name.
        dtype: That of the tensors.
        unit: The unit roundoff u of an operation and of a number that is stored.
        summing: The unit roundoff u′ of the sums within a matrix product.
        operand: The unit v by which operands of a product are rounded first, 0 for none.
        tiny: The smallest positive number.
        largest: The largest finite number.
        bits: The number p of bits of a significand in which sums within a product are exact.
    """

    name: str
    dtype: torch.dtype
    unit: float
    summing: float
    operand: float
    tiny: float
    largest: float
    bits: int

    def gamma(self, operations: int) -> float:
        """γₖ of sums within products: the relative error of k roundings in a row; infinite for too many."""
        k = operations * self.summing
        return k / (1 - k) * UP if k < 0.5 else math.inf

    @property
    def elementwise(self) -> "Arithmetic":
        """The arithmetic outside of products: no number is rounded first, none is summed otherwise."""
        return replace(self, summing=self.unit, operand=0.0, bits=-round(math.log2(self.unit)))

    def stored(self, tensor: Tensor) -> Tensor:
        """The numbers that the format holds of those of a tensor, in float64; infinite above all."""
        double = tensor.detach().double()
        return double.to(self.dtype).double()

    def holds(self, tensor: Tensor) -> bool:
        """Whether the format holds the numbers of a tensor as they are."""
        return torch.equal(self.stored(tensor), tensor.detach().double())

    def sums(self, top: float, grid: int) -> bool:
        """Whether sums of multiples of 2^-grid, none of them above `top` in modulus, are exact.

        They are whole numbers below 2ᵖ of a power of two that the format has.
        """
        fine = 0 <= grid <= 1074 and math.ldexp(1.0, -grid) >= self.tiny
        return fine and top * UP < min(math.ldexp(1.0, self.bits - grid), self.largest)


# Tensor cores add products in aligned blocks that are cut off: 2⁻²² is a safe reading of the
# measurements in the reference, and TF32 operands are cut to 11 bits.  Neither is guaranteed by a vendor.
_F32 = torch.finfo(torch.float32)
FLOAT64 = Arithmetic(
    "float64",
    torch.float64,
    2.0**-53,
    2.0**-53,
    0.0,
    2.0**-1074,
    torch.finfo(torch.float64).max,
    53,
)
FLOAT32 = Arithmetic("float32", torch.float32, 2.0**-24, 2.0**-24, 0.0, 2.0**-149, _F32.max, 24)
TF32 = Arithmetic("tf32", torch.float32, 2.0**-24, 2.0**-22, 2.0**-10, 2.0**-126, _F32.max, 11)
BFLOAT16 = Arithmetic(
    "bfloat16",
    torch.bfloat16,
    2.0**-8,
    2.0**-22,
    0.0,
    2.0**-126,
    torch.finfo(torch.bfloat16).max,
    8,
)
FLOAT16 = Arithmetic("float16", torch.float16, 2.0**-11, 2.0**-22, 0.0, 2.0**-24, 65504.0, 11)
ARITHMETICS = {each.name: each for each in (FLOAT64, FLOAT32, TF32, BFLOAT16, FLOAT16)}


def arithmetic(name: str | Arithmetic) -> Arithmetic:
    """The arithmetic of a name.

    Raises:
        ValueError: If there is none of that name.
    """
    if isinstance(name, Arithmetic):
        return name
    if name not in ARITHMETICS:
        raise ValueError(f"'arithmetic' should be one of {', '.join(ARITHMETICS)}, got {name!r}.")
    return ARITHMETICS[name]


def float32_products(device: torch.device | str = "cpu", *, cudnn: bool = True) -> Arithmetic:
    """The arithmetic that torch's float32 products may have on a device, with its settings as they are.

    A certificate is about an arithmetic, and not about a machine: `Certificate.radii(arithmetic="float32")`
    is true of programs whose products are of float32.  Torch has settings that cut their operands to TF32
    or bfloat16 where the hardware can, and cuDNN's convolutions use TF32 unless told otherwise.

    Arguments:
        device: The device: a CPU, or one of CUDA.
        cudnn: Whether cuDNN may compute convolutions, on CUDA.

    Returns:
        `FLOAT32`; or `TF32` or `BFLOAT16` if any setting lets products be cut to it, the coarser one if
        several do, or if settings of torch's two families disagree.

    Example:
        >>> float32_products("cpu").name
        'float32'
    """
    backends, cuda = torch.backends, torch.device(device).type == "cuda"
    places = [backends, backends.cuda.matmul] if cuda else [backends, backends.mkldnn]
    if cuda and cudnn:
        places += [backends.cudnn, backends.cudnn.conv]
    if not cuda:
        places += [getattr(backends.mkldnn, each, None) for each in ("matmul", "conv")]
    found = {getattr(place, "fp32_precision", "none") for place in places}
    try:
        found.add(torch.get_float32_matmul_precision())
        found |= {"tf32"} if cuda and backends.cuda.matmul.allow_tf32 else set()
        found |= {"tf32"} if cuda and cudnn and backends.cudnn.allow_tf32 else set()
    except RuntimeError:  # settings of both families disagree
        found.add("medium")
    if found <= {"none", "ieee", "highest"}:
        return FLOAT32
    return TF32 if found <= {"none", "ieee", "highest", "high", "tf32"} else BFLOAT16


_arithmetic = arithmetic  # where an argument bears its name


@dataclass(frozen=True, eq=False)
class Ball:
    """Where the computed activations of a program lie, for inputs in a ball.

    Arguments:
        norm: A bound of their norms.
        error: A bound of their distances from the exact activations of the same inputs.
        grid: The number g if all their entries are multiples of 2⁻ᵍ, else None.
        center: Activations that were measured, in float64, with shape (B, *S), or None.
        drift: A bound of their distances from the center, with shape (B,).

    Numbers become tensors in float64 on the CPU, with shape () or (B,); one that is not a number
    bounds nothing, and becomes infinite.
    """

    norm: Number
    error: Number = 0.0
    grid: int | None = None
    center: Tensor | None = None
    drift: Number = math.inf

    def __post_init__(self) -> None:
        for name in ("norm", "error", "drift"):
            object.__setattr__(self, name, number(getattr(self, name)))

    @property
    def largest(self) -> float:
        """A bound of the norms of all images."""
        norm = number(self.norm)
        return norm.max().item() if norm.numel() else 0.0


def number(value: Number) -> Tensor:
    """A number, or one for each image, in float64 on the CPU; infinite where it is not a number."""
    double = torch.as_tensor(value, dtype=torch.float64, device="cpu")
    return double.where(~double.isnan(), math.inf)


Rule = Callable[[Any, Shape, Ball, "Analysis"], Ball]
R = TypeVar("R", bound=Callable[..., Ball])
_RULES: dict[type[nn.Module], Rule] = {}


def rounding_rule(*owners: type[nn.Module]) -> Callable[[R], R]:
    """Registers the decorated function as the rounding of the `forward` that `owners` define.

    The function takes a module, the shape of an example, the `Ball` of its inputs and the `Analysis`
    that asks; it returns the `Ball` of its outputs, mostly by `Analysis.step`.  Its docstring is its proof.

    Raises:
        ValueError: If one of the owners has a rounding rule.
    """

    def register(fn: R) -> R:
        for owner in owners:
            if owner in _RULES:
                raise ValueError(f"{owner.__name__} already has a rounding rule, {_RULES[owner]}.")
            _RULES[owner] = fn
        return fn

    return register


class Analysis:
    """Bounds the rounding errors of a program in one arithmetic.

    Arguments:
        arithmetic: The arithmetic, or its name.
        known: What was proved of the program before, by another analysis of it: weights are
            bounded once for all arithmetics.

    `assumptions` names what its bounds rest on beside R1, R2 and R4: "R3" if a rule needed it.

    Example:
        >>> program = nn.Sequential(nn.Linear(3, 2), nn.ReLU()).double().eval()
        >>> bool(Analysis("float64")(program, (3,), Ball(norm=2.0)).error < 1e-14)
        True
    """

    def __init__(
        self, arithmetic: str | Arithmetic = FLOAT64, known: "Analysis | None" = None
    ) -> None:
        self.arithmetic = _arithmetic(arithmetic)
        self.facts: dict[Any, Any] = {} if known is None else known.facts
        self.proved: Proved = {} if known is None else known.proved
        self.assumptions: set[str] = set() if known is None else known.assumptions

    @torch.no_grad()
    def __call__(self, module: nn.Module, shape: Shape, ball: Ball) -> Ball:
        """The ball of the outputs of a module, from that of its inputs.

        Raises:
            NotCertifiedError: If no rule bounds the rounding of a module.
        """
        owner = forward_owner(type(module))
        if owner not in _RULES:
            raise NotCertifiedError(
                f"No rule bounds the rounding of {class_name(module)}: write one with "
                "@lipnets.rounding_rule, or build the model of modules that have one."
            )
        self.once(module, "known", lambda: refuse_unknown(module, owner, vars(owner)["forward"]))
        with without_autocast(module):
            return _RULES[owner](module, tuple(shape), self.entering(module, ball), self)

    def entering(self, module: nn.Module, ball: Ball) -> Ball:
        """The ball of the inputs of a module, for analyses that know more of them."""
        return ball

    def once(self, module: nn.Module, what: Any, compute: Callable[[], Any]) -> Any:
        """What is computed of a module once, and kept under the name `what`."""
        key = (id(module), what)
        if key not in self.facts:
            self.facts[key] = (compute(), module)  # the module lives as long: its id is its own
        return self.facts[key][0]

    def lipschitz(self, module: nn.Module, shape: Shape) -> float:
        """The proved Lipschitz constant of a module."""
        return self.bound(module, shape).value

    def bound(self, module: nn.Module, shape: Shape) -> Bound:
        """The bound of a module, which is proved once, as are those of the modules in it."""
        with remembering(self.proved):
            return lipschitz(module, shape)

    def output_shape(self, module: nn.Module, shape: Shape) -> Shape:
        return self.once(module, ("shape", shape), lambda: output_shape(module, shape))

    def step(
        self,
        module: nn.Module,
        shape: Shape,
        ball: Ball,
        local: Number,
        *,
        offset: Number = 0.0,
        grid: int | None = None,
    ) -> Ball:
        """The ball behind a module: see `move`.

        Arguments:
            module: The operation.
            shape: The shape of an example of its input.
            ball: The ball of its inputs.
            local: A bound e of ‖F(X) − f(X)‖ for inputs in the ball.
            offset: A bound of ‖f(0)‖.
            grid: The grid of its outputs, if they are on one.
        """
        constant = self.lipschitz(module, shape)
        return self.move(ball, module, constant, local, offset=offset, grid=grid)

    def move(
        self,
        ball: Ball,
        operation: Callable[[Tensor], Tensor],
        constant: float,
        local: Number,
        *,
        offset: Number = 0.0,
        grid: int | None = None,
    ) -> Ball:
        """The ball behind an operation.

        *Theorem.*  Let F be the operation in the arithmetic, F₆₄ in float64, and f its function, with
        constant L.  Let ‖F(X) − f(X)‖ ≤ e and ‖F₆₄(X) − f(X)‖ ≤ e for every X with ‖X‖ ≤ `norm`, on the
        grid if there is one, and, if activations were measured, ‖X − c‖ ≤ `drift` for the center c.
        Then the computed activations F(X) are in the ball that is returned, and so is its center.

        *Proof.*  Let X be computed from inputs of which x is the exact activation.
        ‖F(X)‖ ≤ ‖f(X) − f(0)‖ + ‖f(0)‖ + e ≤ L ‖X‖ + ‖f(0)‖ + e.  ‖F(X) − f(x)‖ ≤ e + L ‖X − x‖.  The center
        c is in its own ball: ‖c − c‖ = 0, its norm is below the two that `norm` is the smaller of, and
        where computed numbers are on a grid, by a rounding that is a part of f or by exact sums of
        such, so is what float64 computes of c.  So the new center F₆₄(c) is within e of f(c), and
        ‖F(X) − F₆₄(c)‖ ≤ ‖F(X) − f(X)‖ + ‖f(X) − f(c)‖ + ‖f(c) − F₆₄(c)‖ ≤ e + L ‖X − c‖ + e.  Hence
        ‖F(X)‖ ≤ ‖F₆₄(c)‖ + that, a second bound of the norm, and both hold of F₆₄(c) itself.  ∎

        That e serves float64 as well is so because float64 has the smallest units of all arithmetics,
        the smallest of all numbers, and the largest: every bound of a rule grows with the former, and
        a number that would not fit the latter is bounded by nothing.

        Arguments:
            ball: The ball of the inputs of the operation.
            operation: What applies it, to a batch in float64.
            constant: A bound of L.
            local: The bound e.
            offset: A bound of ‖f(0)‖.
            grid: The grid of its outputs, if they are on one.
        """
        norm, error = number(ball.norm), number(ball.error)
        local = number(local)
        size = number((constant * norm + offset + local) * UP)
        after = Ball(size, (constant * error + local) * UP, grid)
        if ball.center is not None:
            center = operation(ball.center.clone())  # it may work in place
            drift = (constant * number(ball.drift) + 2 * local) * UP
            size = torch.minimum(size, number((norms(center) + drift) * UP))
            after = Ball(size, after.error, grid, center, drift)
        # A number above the largest one is infinite: nothing is known of what comes after.
        fits = size < self.arithmetic.largest
        if fits.all():
            return after
        return replace(after, error=number(after.error).where(fits, math.inf))


def norms(images: Tensor) -> Tensor:
    """Norms of examples, rounded upwards, with shape (B,), in float64.

    A sum of n squares is off by γ_{n+1} of itself in any order, and by n η where they underflow.
    """
    flat = images.detach().double().flatten(1)
    count = flat.shape[1]
    squares = flat.square().sum(dim=1)
    return ((squares + count * 2.0**-1073).sqrt() * (1 + (count + 8) * 2.0**-53)).cpu()


def bits(tensor: Tensor, limit: int = 1074) -> int | None:
    """The smallest t ≥ 0 such that all numbers of a tensor are multiples of 2⁻ᵗ; None if above the limit."""
    double = tensor.detach().double().cpu().flatten()
    double = double[double != 0]
    if not len(double):
        return 0
    mantissa, exponent = torch.frexp(double)  # double = mantissa · 2^exponent, ½ ≤ |mantissa| < 1
    whole = (mantissa * 2.0**53).long()
    trailing = torch.frexp((whole & -whole).double())[1].long() - 1  # of a power of two
    finest = int((53 - exponent.long() - trailing).max())
    return max(finest, 0) if finest <= limit else None


@rounding_rule(nn.Sequential)
def _sequential(module: nn.Sequential, shape: Shape, ball: Ball, analysis: Analysis) -> Ball:
    """One after another."""
    for child in module._modules.values():  # noqa: SLF001 - named_children skips repetitions
        if child is not None:
            ball = analysis(child, shape, ball)
            shape = analysis.output_shape(child, shape)
    return ball
