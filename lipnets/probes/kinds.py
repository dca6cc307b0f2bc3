"""What other certificates than that of pairs of classes would give, from the same bounds.

Let y be the predicted class, m_j = f_y − f_j, and L a Lipschitz constant of the logits:

- joint: m_j / (√2 L), as for any network;
- per logit: m_j / (L_y + L_j), with a constant for each logit, of f = Wh + b: L_h ‖w_j‖;
- pairwise: m_j / (L_h ‖w_y − w_j‖), which is at least as large as either: the certificate itself.

GloRo nets say the same with a class more, ⊥, whose logit is max_{j≠y} f_j + ε L_yj: what wins against it is
certified at ε.  Their public code masks all logits that equal the largest, so that it certifies exact ties;
here a tie is rejected.

References:
    | Globally-Robust Neural Networks (Leino et al., 2021) https://arxiv.org/abs/2102.08452
    | Relaxing Local Robustness (Leino & Fredrikson, 2021) https://arxiv.org/abs/2106.06624
    | Lipschitz-Margin Training (Tsuzuku et al., 2018), for the joint one https://arxiv.org/abs/1802.04034
"""

__all__ = ["joint", "lead_over_bottom", "per_logit", "set_radii"]

from dataclasses import replace

import torch
from torch import Tensor, nn

from ..bounds import chain
from ..certify import Certificate
from ..linalg import ROOT_2_UP, U, mul_up, row_distances

_LOW = -1e100  # a logit that nothing is compared with


def joint(certificate: Certificate) -> Certificate:
    """The certificate that knows no more than the constant of the whole network."""
    slope = mul_up(certificate.lipschitz, ROOT_2_UP)
    others = 1 - torch.eye(certificate.num_classes, dtype=torch.float64)
    return replace(certificate, slopes=slope * others)


def per_logit(certificate: Certificate) -> Certificate | None:
    """The certificate that knows a constant of each logit; None if the network does not end in a linear layer."""
    *before, head = (
        [module for _, module in chain(certificate.program)] if certificate.program else []
    )
    if not before or type(head) is not nn.Linear:
        return None
    backbone = mul_up(1.0, *(part.value for part in certificate.bound.parts[:-1]))
    rows = torch.cat([head.weight, torch.zeros_like(head.weight[:1])])
    constants = row_distances(rows)[-1, :-1] * backbone * (1 + 4 * U)  # of each logit, (K,)
    slopes = (constants[:, None] + constants) * (1 + 4 * U)
    return replace(certificate, slopes=slopes.fill_diagonal_(0.0))


def lead_over_bottom(logits: Tensor, slopes: Tensor, labels: Tensor, radius: float) -> Tensor:
    """By how much the label wins against every other class and against ⊥, as computed.

    Arguments:
        logits: The logits, with shape (B, K).
        slopes: Bounds of the Lipschitz constants of margins, with shape (K, K).
        labels: The classes, with shape (B,).
        radius: The radius ε that ⊥ stands for.

    Returns:
        The lead, with shape (B,): certified where it is positive; −∞ where a logit is not finite.
    """
    raised = (logits + radius * slopes[labels]).scatter(1, labels[:, None], -torch.inf)
    lead = logits.gather(1, labels[:, None])[:, 0] - raised.amax(dim=1)
    return lead.where(logits.isfinite().all(dim=1), -torch.inf)


def set_radii(certificate: Certificate, logits: Tensor, top: int) -> tuple[Tensor, Tensor]:
    """Radii in which the set of the k largest logits stays the same: relaxed top-k robustness.

    It is the smallest radius of any class in the set against any outside of it, which need not be that of
    the k-th: a class with a larger lead may lose it faster.

    Arguments:
        certificate: The certificate.
        logits: The logits, with shape (B, K).
        top: The number k, below K.

    Returns:
        The set, with shape (B, k), and the radii, with shape (B,).
    """
    chosen = logits.argsort(dim=1, descending=True, stable=True)[:, :top]
    outside = logits.scatter(1, chosen, _LOW)
    radii = []
    for member in chosen.unbind(dim=1):
        own = member[:, None]
        alone = outside.scatter(1, own, logits.gather(1, own))
        radii.append(certificate.radii_of(alone, member))
    return chosen, torch.stack(radii).amin(dim=0)
