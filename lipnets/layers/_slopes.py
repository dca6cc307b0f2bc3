"""Activations with slopes in [0, 1], which blocks of a proof of their own are built around."""

__all__ = ["check_slopes", "has_unit_slopes", "refuse_slopes"]

from torch import nn

from ..bounds import NotCertifiedError, lipschitz
from ..exact import Round
from ..operations import Mask, PiecewiseLinear

_ALWAYS = (
    *(nn.Identity, nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.Tanh, nn.Sigmoid),
    *(nn.Softsign, nn.LogSigmoid, nn.Softshrink, nn.Tanhshrink),
)


def has_unit_slopes(activation: nn.Module) -> bool:
    """Whether an activation acts on each entry alone and σ(s) − σ(t) = d (s − t) with 0 ≤ d ≤ 1.

    So do continuous functions whose derivatives are in [0, 1]: 1 − tanh², σ(1 − σ) ≤ ¼, (1 + |x|)⁻²,
    1 − σ, tanh², and pieces of slope 0 and 1; slopes of 1 and a for LeakyReLU, of 1 and αeˣ, x ≤ 0,
    for ELU.  Sorting is 1-Lipschitz, but its secants are permutations: it is none of them.  Slopes
    of compositions multiply; a `Round` is the program of the identity, and a `Mask` has slopes of 0 and 1.
    """
    if type(activation) is nn.Sequential:
        return all(type(child) in (Round, Mask) or has_unit_slopes(child) for child in activation)
    if type(activation) is PiecewiseLinear:
        return activation.has_slopes_in(0, 1)
    if isinstance(activation, nn.LeakyReLU):
        return type(activation) is nn.LeakyReLU and 0 <= activation.negative_slope <= 1
    if isinstance(activation, nn.ELU):
        return type(activation) is nn.ELU and 0 <= activation.alpha <= 1
    return type(activation) in _ALWAYS  # a subclass may compute something else


def check_slopes(activation: nn.Module) -> nn.Module:
    """Returns the activation.

    Raises:
        ValueError: If it is not known to have slopes in [0, 1].
    """
    if not has_unit_slopes(activation):
        names = ", ".join(cls.__name__ for cls in (*_ALWAYS, nn.LeakyReLU, nn.ELU))
        raise ValueError(
            f"The activation inside this block should have slopes in [0, 1], as {names} do, "
            f"got {activation}."
        )
    return activation


def refuse_slopes(activation: nn.Module) -> None:
    """Refuses to certify a block around an activation that has not, or no longer, such slopes.

    Raises:
        NotCertifiedError: If so, or if the activation is hooked, patched or in training mode.
    """
    if not has_unit_slopes(activation):
        raise NotCertifiedError(f"{activation} is not known to have slopes in [0, 1].")
    lipschitz(activation, ())  # of no shape: it acts on each entry alone
