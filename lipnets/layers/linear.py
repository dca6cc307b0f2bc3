"""Linear layers with constrained weights, by name, with the arguments of `nn.Linear`."""

__all__ = [
    "aol_linear",
    "bjorck_linear",
    "cayley_linear",
    "cholesky_linear",
    "exp_linear",
    "fixed_rank_linear",
    "frobenius_linear",
    "geotorch_linear",
    "householder_linear",
    "low_rank_linear",
    "newton_schulz_linear",
    "qr_linear",
    "spectral_linear",
    "unit_norm_linear",
]

import torch
from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations.aol_matrix import AOLMatrix
from ..parametrizations.bjorck import Bjorck
from ..parametrizations.cayley import Cayley
from ..parametrizations.cholesky import Cholesky
from ..parametrizations.exponential import Exponential
from ..parametrizations.frobenius import Frobenius
from ..parametrizations.householder import Householder
from ..parametrizations.low_rank import FixedRank, LowRank
from ..parametrizations.newton_schulz import NewtonSchulz
from ..parametrizations.qr import QR
from ..parametrizations.spectral_matrix import SpectralMatrix
from ..parametrizations.stiefel import Stiefel
from ..parametrizations.unit_norm import UnitNorm
from ._registry import Card, add, drop_in

add(
    "linear",
    nn.Linear,
    Card(
        kind="dense",
        guarantee="none",
        paper="",
        url="",
        choose="As an unconstrained baseline, whose norm is certified all the same.",
        arguments={"in_features": 6, "out_features": 6},
        shape=(6,),
    ),
)


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="1-Lipschitz",
        paper="Prach & Lampert, 2022",
        url="https://arxiv.org/abs/2208.03160",
        choose="Cheap, and a bound that needs no iteration: the default for large layers.",
    ),
)
def aol_linear(linear: nn.Linear) -> None:
    """Builds a linear layer that is 1-Lipschitz by AOL rescaling, started orthogonal."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", AOLMatrix())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="1-Lipschitz",
        paper="Miyato et al., 2018",
        url="https://arxiv.org/abs/1802.05957",
        choose="Where one direction may dominate: only the largest singular value is held at 1.",
    ),
)
def spectral_linear(linear: nn.Linear) -> None:
    """Builds a linear layer of norm 1, to a thousandth below, started orthogonal."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", SpectralMatrix())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Anil, Lucas & Grosse, 2019",
        url="https://arxiv.org/abs/1811.05381",
        choose="Orthogonal, started from any weight: the orthogonal matrix nearest to it.",
    ),
)
def bjorck_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, the polar factor of its raw weight."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", Bjorck())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Trockman & Kolter, 2021",
        url="https://arxiv.org/abs/2104.07167",
        choose="The default orthogonal layer: one solve.",
    ),
)
def cayley_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer by the Cayley map, started near the identity."""
    _zero_bias(linear)
    nn.init.normal_(linear.weight, std=0.1 * max(linear.weight.shape) ** -0.5)
    register_parametrization(linear, "weight", Cayley())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Lezcano-Casado, 2019",
        url="https://arxiv.org/abs/1909.09501",
        choose="Optimization on the manifold itself, around a base point.",
    ),
)
def geotorch_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer by geotorch: a Cayley map around a random start.

    The start is a buffer, which neither training nor evaluation moves.
    """
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", Stiefel.like(linear.weight))


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="bounded",
        paper="Singla, Singla & Feizi, 2022",
        url="https://arxiv.org/abs/2108.04062",
        choose="As a last layer: each logit is 1-Lipschitz, margins use differences of rows.",
    ),
)
def unit_norm_linear(linear: nn.Linear) -> None:
    """Builds a last layer whose rows have norm 1: each logit is 1-Lipschitz, the layer need not be.

    Certificates read the differences of its rows.  Started at orthonormal rows.
    """
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", UnitNorm())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="1-Lipschitz",
        paper="Serrurier et al., 2021",
        url="https://arxiv.org/abs/2006.06520",
        choose="For one output, where it is exact, or as the cheapest constraint there is.",
    ),
)
def frobenius_linear(linear: nn.Linear) -> None:
    """Builds a linear layer of Frobenius norm 1."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", Frobenius())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Amsel, Persson, Musco & Gower, 2025",
        url="https://arxiv.org/abs/2505.16932",
        choose="The nearest orthogonal matrix by products alone, as accelerators like it.",
    ),
)
def newton_schulz_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, the polar factor of its raw weight, by quintic steps."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", NewtonSchulz())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Lezcano-Casado & Martínez-Rubio, 2019",
        url="https://arxiv.org/abs/1901.08428",
        choose="Orthogonal of determinant 1, without the singularity of the Cayley map.",
    ),
)
def exp_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer by the matrix exponential, started near the identity."""
    _zero_bias(linear)
    nn.init.normal_(linear.weight, std=0.1 * max(linear.weight.shape) ** -0.5)
    register_parametrization(linear, "weight", Exponential())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Mhammedi, Hellicar, Rahman & Bailey, 2017",
        url="https://arxiv.org/abs/1612.00188",
        choose="Orthogonal whatever happens to the raw weight, zeros and weight decay included.",
    ),
)
def householder_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, a product of reflections, started at random."""
    _zero_bias(linear)
    nn.init.normal_(linear.weight, std=max(linear.weight.shape) ** -0.5)
    register_parametrization(linear, "weight", Householder())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Mezzadri, 2007",
        url="https://arxiv.org/abs/math-ph/0609050",
        choose="Orthogonal for every raw weight, by LAPACK: the most robust factorization.",
    ),
)
def qr_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, the factor Q of its raw weight, with positive diagonal R."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", QR())


@drop_in(
    nn.Linear,
    Card(
        kind="dense",
        guarantee="orthogonal",
        paper="Hu, Leino, Wang & Fredrikson, 2024",
        url="https://arxiv.org/abs/2310.02513",
        choose="The matrix of QR by products and triangular solves, where QR is slow.",
    ),
)
def cholesky_linear(linear: nn.Linear) -> None:
    """Builds an orthogonal linear layer, orthonormalized by Cholesky factors."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", Cholesky())


def low_rank_linear(
    in_features: int,
    out_features: int,
    rank: int,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Linear:
    """Builds a 1-Lipschitz linear layer of rank `rank` or less, started with singular values of 1.

    Arguments:
        in_features: As of `nn.Linear`.
        out_features: As of `nn.Linear`.
        rank: The rank, from 1 to the smaller of the numbers of features.
        bias: As of `nn.Linear`.
        device: As of `nn.Linear`.
        dtype: As of `nn.Linear`.

    Raises:
        ValueError: If the rank is another.
    """
    linear = nn.Linear(in_features, out_features, bias, device, dtype)
    manifold = LowRank(linear.weight, rank)
    _start_of_rank(linear, rank)
    register_parametrization(linear, "weight", manifold)
    return linear


def fixed_rank_linear(
    in_features: int,
    out_features: int,
    rank: int,
    bias: bool = True,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> nn.Linear:
    """Builds a 1-Lipschitz linear layer of rank `rank`, started with singular values of 1.

    Arguments:
        in_features: As of `nn.Linear`.
        out_features: As of `nn.Linear`.
        rank: The rank, from 1 to the smaller of the numbers of features.
        bias: As of `nn.Linear`.
        device: As of `nn.Linear`.
        dtype: As of `nn.Linear`.

    Raises:
        ValueError: If the rank is another.
    """
    linear = nn.Linear(in_features, out_features, bias, device, dtype)
    manifold = FixedRank(linear.weight, rank)
    _start_of_rank(linear, rank)
    register_parametrization(linear, "weight", manifold)
    return linear


for _build, _choose in (
    (low_rank_linear, "A bottleneck, whose singular values up to the rank are learned in [−1, 1]."),
    (fixed_rank_linear, "A bottleneck of exactly that rank, without singular values of zero."),
):
    add(
        _build.__name__,
        _build,
        Card(
            kind="dense",
            guarantee="1-Lipschitz",
            paper="Lezcano-Casado, 2019",
            url="https://arxiv.org/abs/1909.09501",
            choose=_choose,
            arguments={"in_features": 6, "out_features": 5, "rank": 3},
            shape=(6,),
        ),
    )


def _start_of_rank(linear: nn.Linear, rank: int) -> None:
    _start_orthogonal(linear)
    if linear.weight.is_meta:
        return
    with torch.no_grad():
        short = linear.weight if len(linear.weight) <= linear.in_features else linear.weight.mT
        short[rank:] = 0


def _start_orthogonal(linear: nn.Linear) -> None:
    _zero_bias(linear)
    nn.init.orthogonal_(linear.weight)


def _zero_bias(linear: nn.Linear) -> None:
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
