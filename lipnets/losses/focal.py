"""Cross-entropies that turn away from examples with large margins.

References:
    | Focal Loss for Dense Object Detection (Lin et al., 2017) https://arxiv.org/abs/1708.02002
    | Enhancing Certified Robustness via Block Reflector Orthogonal Layers and Logit Annealing Loss
    | (Lai et al., 2025) https://arxiv.org/abs/2505.15174

What differs: temperature and offset can be left to a radius.  The code of the second paper
(https://github.com/ntuaislab/BRONet) has a further factor of 1/4 for its LipConvNets alone, which a
learning rate makes up for; with EMMA offsets in place of the constant one, use `emma`.
"""

__all__ = ["focal", "logit_annealing"]

import math

import torch.nn.functional as F
from torch import Tensor

from ._loss import Loss
from ._margin import ScaledLogits, without_true
from ._registry import registry


@registry.register
def focal(
    gamma: float = 2.0,
    temperature: float | None = None,
    offset: float | None = None,
    radius: float | None = None,
) -> Loss:
    """Builds the focal loss of logits from which a margin was taken.

    With t the temperature, o the offset and p = softmax((z − o eᵧ) / t),

        ℓ(z, y) = −t (1 − pᵧ)^γ log pᵧ.

    Arguments:
        gamma: The exponent γ, not negative: 0 gives `cross_entropy`.
        temperature: The temperature t, in logits: see `cross_entropy`.
        offset: The margin o asked for, in logits: see `cross_entropy`.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: see `cross_entropy`.

    Raises:
        ValueError: As `cross_entropy`, and if γ is negative.
    """
    if not 0 <= gamma < math.inf:
        raise ValueError(f"'gamma' should not be negative, got {gamma}.")
    return _annealed(gamma, ScaledLogits(temperature, offset, radius))


@registry.register
def logit_annealing(
    beta: float = 5.0,
    temperature: float | None = None,
    offset: float | None = None,
    radius: float | None = None,
) -> Loss:
    """Builds the logit annealing loss, which stops to ask of margins that are large already.

    With T the temperature, ξ the offset and p = softmax((z − ξ eᵧ) / T),

        ℓ(z, y) = −T (1 − pᵧ)^β log pᵧ.

    Arguments:
        beta: The exponent β, not negative: larger spends less of the capacity on easy examples.
        temperature: The temperature T, in logits; 0.75, as in the paper, if it is given neither here
            nor by the radius.
        offset: The margin ξ asked for, in logits; 2, as in the paper, if it is given neither here nor
            by the radius.
        radius: The radius to train for, ℓ2 in [0, 1] pixels: see `cross_entropy`.

    Raises:
        ValueError: As `cross_entropy`, and if β is negative.
    """
    if not 0 <= beta < math.inf:
        raise ValueError(f"'beta' should not be negative, got {beta}.")
    if radius is None:
        temperature = 0.75 if temperature is None else temperature
        offset = 2.0 if offset is None else offset
    return _annealed(beta, ScaledLogits(temperature, offset, radius))


def _annealed(power: float, scaled: ScaledLogits) -> Loss:
    def loss(logits: Tensor, labels: Tensor, slopes: Tensor) -> Tensor:
        logits, t = scaled(logits, labels, slopes)
        entropies = F.cross_entropy(logits, labels, reduction="none")  # (B,), −log pᵧ
        if power == 0 or logits.shape[1] == 1:
            return entropies.mean() * t
        # log(1 − pᵧ) from the logits, finite where 1 − pᵧ would round to 0.
        others = without_true(logits, labels, -math.inf).logsumexp(dim=1) - logits.logsumexp(dim=1)
        return ((power * others).exp() * entropies).mean() * t

    return Loss(loss, scaled.needs_slopes)
