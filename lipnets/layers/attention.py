"""Self-attention by distances, whose ℓ2 Lipschitz constant is proved.

References:
    | The Lipschitz Constant of Self-Attention (Kim, Papamakarios & Mnih, 2021)
    | https://arxiv.org/abs/2006.04710

What differs: the paper's constant √N (4φ⁻¹(N − 1) + 1) for each head is replaced by a smaller one,
proved in the rule below: 23 instead of 82 at 64 tokens; heads are joined by the norms of the two
matrices around them, not by a sum over heads; and what the paper writes as P X WWᵀ W_V W_O is here
P U O with U = XW and a free matrix O, which is the same family of functions or a larger one.
"""

__all__ = [
    "L2SelfAttention",
    "TokenAverages",
    "attention_bound",
    "l2_attention",
    "token_spread",
]

import math
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, rule
from ..linalg import add_up, mul_up, sqrt_up
from ..parametrizations import Cayley
from ..rounding import ELEMENTARY, UP, Analysis, Ball, number, rounding_rule
from ..rounding_rules import linear_map
from ._registry import Card, drop_in


class L2SelfAttention(nn.Module):
    """Replaces each token by an average of all, weighted by their distances.

    With U = XW + b split into heads, each head computes P U where Pᵢⱼ ∝ exp(−s² ‖uᵢ − uⱼ‖²) sums to 1
    over j, and s is learned for each head.  The heads, side by side, pass a last linear map.

    Arguments:
        embed_dim: The number D of channels of a token.
        num_heads: The number of heads, a divisor of D.
        num_tokens: The number of tokens up to which the output is divided by the constant of
            attention, so that orthogonal weights make the layer 1-Lipschitz; None divides by nothing.
        bias: Whether the two linear maps have biases.

    Raises:
        ValueError: If the heads do not divide the channels, or there are no tokens.
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        num_tokens: int | None,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or embed_dim % num_heads:
            raise ValueError(
                f"'num_heads' should divide 'embed_dim', got {num_heads} and {embed_dim}."
            )
        if num_tokens is not None and num_tokens < 1:
            raise ValueError(f"'num_tokens' should be at least 1, got {num_tokens}.")
        self.num_heads = num_heads
        self.num_tokens = num_tokens
        self.factor = 1.0 if num_tokens is None else 1 / attention_bound(num_tokens)
        self.queries = nn.Linear(embed_dim, embed_dim, bias, device, dtype)  # and keys, and values
        self.output = nn.Linear(embed_dim, embed_dim, bias, device, dtype)
        start = (embed_dim // num_heads) ** -0.25  # the paper's: distances over the root of d
        sharpness = torch.full((num_heads, 1, 1), start, device=device, dtype=dtype)
        self.sharpness = nn.Parameter(sharpness)

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}, num_tokens={self.num_tokens}"

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        return self.factor * self.output(self.average(self.queries(x)))

    def average(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        """Replaces the rows of U by averages of them, head by head."""
        return averages(x, self.sharpness)


def averages(x: Tensor, sharpness: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
    """Averages of tokens, for a sharpness of each head with shape (H, 1, 1)."""
    u = x.unflatten(2, (len(sharpness), -1)).transpose(1, 2)  # (B, H, N, d)
    scaled = sharpness * u
    squares = scaled.square().sum(dim=3)[:, :, None]  # ‖uᵢ‖² is common to a row: left out
    weights = (2 * scaled @ scaled.mT - squares).softmax(dim=3)
    return (weights @ u).transpose(1, 2).flatten(2)


@rule(L2SelfAttention)
def _l2_self_attention(module: L2SelfAttention, shape: Shape) -> Bound:
    """‖W‖ (√((N + 1)/2) + 2c + 2√(c c₂ (N − 1))) ‖O‖, for N tokens, where c e^{1+c} = N − 1.

    *Proof.*  The two linear maps act on each token, heads on disjoint coordinates: it remains to
    bound one head, g(U) = PU.  A sharpness s > 0 changes it to g(sU)/s, of the same constant; s = 0
    averages the tokens, of norm 1.  So let s = 1, k_ij = exp(−‖uᵢ − uⱼ‖²), P_ij = k_ij / Σⱼ k_ij,
    v_j = u_j − uᵢ, and v̄ = Σⱼ P_ij v_j.  Differentiating,

        dgᵢ = Σⱼ P_ij duⱼ + 2 Cᵢ duᵢ − 2 Σⱼ P_ij (vⱼ − v̄) ⟨vⱼ, duⱼ⟩,   Cᵢ = Σⱼ P_ij (vⱼ − v̄)(vⱼ − v̄)ᵀ.

    (a) *Σⱼ P_ij ‖vⱼ‖² ≤ c, and P_ij ‖vⱼ‖² ≤ c₂, c of N = 2.*  With t_j = ‖vⱼ‖² ∈ [0, ∞], j ≠ i, and
    vᵢ = 0 the sum is E = Σ t_j e^{−t_j} / (1 + Σ e^{−t_j}), a continuous function on a compact set.  Its
    derivative by t_j has the sign of 1 − t_j + E: positive at 0, so that at the maximum all t_j that are
    finite, n ≤ N − 1 of them, are 1 + E.  Then E (1 + n e^{−1−E}) = n (1 + E) e^{−1−E}, that is
    E e^{1+E} = n ≤ N − 1.  And P_ij ‖vⱼ‖² ≤ t e^{−t} / (1 + e^{−t}) for t = t_j, the case N = 2.

    (b) *‖P‖² ≤ (N + 1)/2.*  Rows sum to 1.  P_ij ≤ k_ij / (1 + k_ij) ≤ ½ for j ≠ i, as k_ii = 1; so
    columns sum to 1 + (N − 1)/2 at the most.  ‖P‖² is at most the product of the largest sums.

    (c) *‖Cᵢ‖ ≤ c.*  Its trace is Σⱼ P_ij ‖vⱼ‖² − ‖v̄‖² ≤ c.  These are the blocks of a diagonal.

    (d) *The last sum is a matrix of norm √(c c₂ (N − 1)) at most.*  By the Cauchy-Schwarz inequality
    ‖Σⱼ P_ij (vⱼ − v̄) ⟨vⱼ, wⱼ⟩‖² ≤ Σⱼ P_ij ‖vⱼ − v̄‖² · Σⱼ P_ij ‖vⱼ‖² ‖wⱼ‖².  The first factor is at most c by
    (c).  Summed over i, the second is at most Σⱼ (N − 1) c₂ ‖wⱼ‖² by (a), the term i = j being zero.

    The constant is the largest norm of dg / dU: (b) + 2 (c) + 2 (d).  ∎
    """
    if len(shape) != 2:
        raise NotCertifiedError(
            f"L2SelfAttention takes tokens with channels, got examples of shape {tuple(shape)}."
        )
    parts = (lipschitz(module.queries, shape), lipschitz(module.output, shape))
    constant, factor = attention_bound(shape[0]), abs(float(module.factor))
    value = mul_up(parts[0].value, constant, parts[1].value, factor)
    return Bound(value, f"L2SelfAttention: {constant:.4g} at {shape[0]} tokens, scaled", parts)


@rounding_rule(L2SelfAttention)
def _attention_rounding(
    module: L2SelfAttention, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """What is rounded on the way through W, the heads (`_average_rounding`), O and the last factor.

    The factor is stored, off by u of itself, and its product is rounded once.
    """
    constant, u = attention_bound(shape[0]), analysis.arithmetic.unit
    maps = [linear_map(module.queries, shape, analysis), linear_map(module.output, shape, analysis)]
    inner, offsets = Ball(ball.norm, 0.0, None, ball.center, ball.drift), []
    for name, linear, layer in zip("WO", maps, (module.queries, module.output), strict=True):
        local, offset, _ = linear.rounding(inner, analysis, (module, (name, shape)))
        inner = analysis.move(inner, layer, linear.constant, local, offset=offset)
        offsets.append(offset)
        if layer is module.queries:
            rounded = _average_rounding(module, shape, inner, analysis)
            inner = analysis.move(inner, module.average, constant, rounded)
    # f(0): equal rows are their own averages.
    factor = abs(float(module.factor))
    local = factor * (inner.error + (2 * u + u * u) * number(inner.norm))
    local = local + analysis.arithmetic.tiny * math.sqrt(math.prod(shape))
    offset = factor * (maps[1].constant * offsets[0] + offsets[1]) * UP
    return analysis.step(module, shape, ball, local * UP, offset=offset)


def _average_rounding(
    module: "L2SelfAttention | TokenAverages", shape: Shape, ball: Ball, analysis: Analysis
) -> Tensor:
    """Bounds what is rounded in the average P U of a computed U, under R3 for exponentials.

    *Proof.*  Let a row of sU have the norm M at most; ρₖ be what product of k terms are off by, relative to
    the products of moduli, and γₖ what sums of k numbers are.  (a) sU is off by 3u of itself, entry by
    entry: s is stored, and the product rounded.  So 2⟨sUᵢ, sUⱼ⟩ is off by 2M² ((1 + 3u)² (1 + ρ_d) − 1),
    ‖sUⱼ‖² by M² ((1 + 3u)² (1 + γ_{d+1}) − 1), and their difference by u of 3M² and of these: δ in all.
    (b) With scores off by δ, and by uR after the largest of a row was subtracted, R ≤ 4M² + 2δ, as scores of
    row i are M² − ‖sUᵢ − sUⱼ‖² up to a number common to it, each Pᵢⱼ is off by a factor of e^{±2(δ + uR)}.
    (c) Exponentials are off by ε, their sum by γ_N, the quotient, by a reciprocal perhaps, by 2u: factors of
    (1 + ε) / (1 − ε) · (1 + γ_N) / (1 − γ_N) · (1 + 2u)², or what underflows, 2 tiny, as sums are 1 at least.
    So P is off by ηP, entrywise, for a number η, and by 2 tiny.
    (d) The product is off by ρ_N of (1 + η) P|U|, and rounded to be stored: ((1 + η)(1 + ρ_N)(1 + 2u) − 1) of P|U|,
    ‖P|U|‖ ≤ √((N + 1) / 2) ‖U‖ by (b) of the rule; and by what underflows.  ∎
    """
    analysis.assumptions.add("R3")
    a, (tokens, channels) = analysis.arithmetic, shape
    u, tiny, width = a.unit, a.tiny, channels // module.num_heads
    epsilon = 2 * ELEMENTARY * u
    plain = a.elementwise
    norm = number(ball.norm)
    longest = norm
    if ball.center is not None:
        rows = ball.center.square().sum(dim=2).sqrt().amax(dim=1).cpu() * (1 + 2.0**-30)
        longest = torch.minimum(norm, rows + number(ball.drift))
    sharpness = module.sharpness.detach().double().abs().max().item() + tiny
    square = (longest * sharpness * UP) ** 2 * UP

    def product(terms: int) -> float:
        stored = 2 * a.unit if a.summing != a.unit else 0.0
        return (1 + a.gamma(terms + 1)) * (1 + a.operand) ** 2 * (1 + stored) - 1 + 2.0**-51

    scaled = (1 + 3 * u) ** 2
    scores = 2 * (scaled * (1 + product(width)) - 1)
    scores += scaled * (1 + plain.gamma(width + 1)) - 1 + 2.0**-50
    delta = square * (scores + u * (3 + scores)) * UP
    delta = delta + 8 * width * tiny * (1 + square.sqrt())
    spread = 4 * square + 2 * delta
    sums = plain.gamma(tokens + 1)
    if epsilon >= 0.5 or sums >= 0.5:
        return torch.full_like(norm, math.inf)
    quotient = (1 + epsilon) / (1 - epsilon) * (1 + sums) / (1 - sums) * (1 + 2 * u) ** 2
    factor = torch.exp(2 * (delta + u * spread) * UP) * quotient * (1 + product(tokens))
    # What float64 rounds in a number near 1 is below 2⁻⁴⁷ of it.
    relative = factor * (1 + 2 * u) * (1 + 2.0**-47) - 1
    columns = math.sqrt((tokens + 1) / 2)
    local = columns * norm * relative + 8 * tokens * tiny * (tokens * norm + tokens + channels)
    return (local * UP).where(square * (3 + 2 * scores) < a.largest, math.inf)


class TokenAverages(nn.Module):
    """What `L2SelfAttention` computes between its linear maps, of tokens along the last axis.

    It is what programs are rewritten in: see `normal_form`.

    Arguments:
        sharpness: The sharpness of each head, with shape (H,).
    """

    def __init__(self, sharpness: Tensor) -> None:
        super().__init__()
        self.num_heads = sharpness.numel()
        self.sharpness = nn.Parameter(sharpness.detach().clone().view(-1, 1, 1))

    def extra_repr(self) -> str:
        return f"num_heads={self.num_heads}"

    def forward(self, x: Tensor) -> Tensor:  # (B, D, N) -> (B, D, N)
        return averages(x.mT, self.sharpness).mT


@rule(TokenAverages)
def _token_averages(module: TokenAverages, shape: Shape) -> Bound:
    """Heads have disjoint channels, and each has the constant that the rule above proves."""
    if len(shape) != 2 or shape[0] % module.num_heads:
        raise NotCertifiedError(
            f"TokenAverages takes tokens of {module.num_heads} heads, got shape {tuple(shape)}."
        )
    constant = attention_bound(shape[1])
    return Bound(constant, f"TokenAverages: {constant:.4g} at {shape[1]} tokens")


@rounding_rule(TokenAverages)
def _token_averages_round(
    module: TokenAverages, shape: Shape, ball: Ball, analysis: Analysis
) -> Ball:
    """As `_average_rounding` proves, of an example with its axes in another order; equal rows stay."""
    center = None if ball.center is None else ball.center.mT
    turned = Ball(ball.norm, ball.error, None, center, ball.drift)
    local = _average_rounding(module, (shape[1], shape[0]), turned, analysis)
    return analysis.step(module, shape, ball, local)


@lru_cache(maxsize=256)
def attention_bound(num_tokens: int) -> float:
    """Bounds the Lipschitz constant of one head of L2 self-attention: see the rule.

    Arguments:
        num_tokens: The number N of tokens.

    Returns:
        √((N + 1)/2) + 2c + 2√(c c₂ (N − 1)), rounded upwards; it grows with N, and is 1 for N = 1.
    """
    if num_tokens == 1:
        return 1.0
    c, pair = token_spread(num_tokens - 1), token_spread(1)
    columns = sqrt_up((num_tokens + 1) / 2)
    cross = mul_up(2.0, sqrt_up(mul_up(c, pair, num_tokens - 1)))
    return add_up(columns, mul_up(2.0, c), cross)


def token_spread(others: int) -> float:
    """The solution c of c e^{1+c} = n, for n = N − 1 other tokens, rounded upwards: (a) of the rule.

    The left-hand side increases, and partial sums of the exponential series, in rationals, are below
    it: a number at which they reach n is not below c.
    """
    c = math.log1p(others)
    for _ in range(50):  # Newton's method, a guess
        c -= (c - others * math.exp(-1 - c)) / (1 + others * math.exp(-1 - c))
    while True:
        c *= 1 + 2.0**-40
        x, term, series = Fraction(c) + 1, Fraction(1), Fraction(1)
        for k in range(1, 80):
            term = term * x / k
            series += term
        if Fraction(c) * series >= others:
            return c


@drop_in(
    L2SelfAttention,
    Card(
        kind="attention",
        guarantee="1-Lipschitz",
        paper="Kim, Papamakarios & Mnih, 2021",
        url="https://arxiv.org/abs/2006.04710",
        choose="Attention that can be certified: for few tokens, as its constant grows with them.",
        arguments={"embed_dim": 6, "num_heads": 2, "num_tokens": 4},
        shape=(4, 6),
    ),
)
def l2_attention(attention: L2SelfAttention) -> None:
    """Builds self-attention by distances between orthogonal maps, 1-Lipschitz up to `num_tokens`.

    Arguments are those of `L2SelfAttention`.
    """
    for linear in (attention.queries, attention.output):
        if linear.bias is not None:
            nn.init.zeros_(linear.bias)
        nn.init.normal_(linear.weight, std=0.1 * linear.in_features**-0.5)
        register_parametrization(linear, "weight", Cayley())
