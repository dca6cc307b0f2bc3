"""Losses: functions of logits and labels that ask for margins.

A network whose differences of logits zᵢ − zⱼ have constants sᵢⱼ classifies at radius r what it
classifies with margins of r sᵢⱼ, so a loss for certified networks must say how large a margin it asks
for.  Builders take that wish, in logits or as a radius, and return a `Loss`, whose value is the mean
over the batch; those that are given a radius need the constants as well.  docs/losses.md compares
them.
"""

__all__ = [
    "Loss",
    "build",
    "certificate_regularization",
    "cross_entropy",
    "emma",
    "focal",
    "gloro",
    "hinge_kr",
    "logit_annealing",
    "lse_hkr",
    "multi_margin",
    "names",
    "registry",
    "soft_hkr",
    "trades",
    "with_slope_penalty",
]

from ._loss import Loss, with_slope_penalty
from ._registry import registry
from .cross_entropy import certificate_regularization, cross_entropy
from .focal import focal, logit_annealing
from .globally_robust import emma, gloro, trades
from .kantorovich import hinge_kr, lse_hkr, soft_hkr
from .multi_margin import multi_margin

build, names = registry.build, registry.names
