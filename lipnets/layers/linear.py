"""Linear layers with constrained weights, by name, with the arguments of `nn.Linear`."""

__all__ = [
    "aol_linear",
    "bjorck_linear",
    "cayley_linear",
    "geotorch_linear",
    "spectral_linear",
    "unit_norm_linear",
]

from torch import nn
from torch.nn.utils.parametrize import register_parametrization

from ..parametrizations import AOL, Bjorck, Cayley, Spectral, Stiefel, UnitNorm
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
    register_parametrization(linear, "weight", AOL())


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
    """Builds a linear layer of norm 1: its largest singular value is 1, started orthogonal."""
    _start_orthogonal(linear)
    register_parametrization(linear, "weight", Spectral())


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


def _start_orthogonal(linear: nn.Linear) -> None:
    _zero_bias(linear)
    nn.init.orthogonal_(linear.weight)


def _zero_bias(linear: nn.Linear) -> None:
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
