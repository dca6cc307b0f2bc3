"""What files claim of images: radii and errors, with room for the roundings of a checker."""

__all__ = ["error_bound", "radii_in_file"]

import math
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import NotCertifiedError, Shape
from ..exact import Sums
from ..linalg import U, row_distances
from ..rounding import Analysis, Ball, norms
from ._nodes import NEAR, ROOM, Node, product


def _of_head(certificate: Any, analysis: Analysis, sizes: Tensor) -> Tensor:
    """What the last matrix alone rounds, for inputs of these norms, with shape (B,)."""
    *before, head = certificate.program
    shape = certificate.shape
    ball = Ball(norm=sizes)
    for module in before:
        ball, shape = analysis(module, shape, ball), analysis.output_shape(module, shape)
    alone = analysis(head, shape, Ball(norm=ball.norm)).error
    return torch.as_tensor(alone, dtype=torch.float64).expand(len(sizes))


def _room(exact: bool) -> float:
    """By how much errors of rounding are enlarged: those of exact programs are known, but for rounding."""
    return 1 + 2.0**-10 if exact else ROOM


def radii_in_file(
    certificate: Any,
    network: list[Node],
    analysis: Sums,
    images: Tensor,
    labels: Tensor,
    logits: Tensor,
) -> tuple[Tensor, bool]:
    """Radii from the bounds in the file, with room, and whether the program is exact at all these images."""
    classes, head = certificate.num_classes, certificate.program[-1]
    diagonal = math.sqrt(math.prod(certificate.shape))
    slopes = row_distances(head.weight) * product(network[:-1]) * NEAR
    sizes = norms(images)
    known = certificate.radii_of(logits, labels, images=images)
    around = known.clamp(0, diagonal) + 2.0**-100
    reach = (sizes + around) * (1 + 2.0**-40)
    everywhere = reach.clamp_min(diagonal)
    exact = analysis.are_exact(certificate.program, certificate.shape, everywhere)
    errors = certificate.errors(labels, sizes) + certificate.errors(labels, sizes, around)
    if not exact:  # a checker bounds what the last matrix rounds as a whole
        errors = errors + _of_head(certificate, analysis, reach)[:, None]
    margins = logits.gather(1, labels[:, None]) - logits
    quotients = (margins * (1 - 8 * U) - errors * _room(exact)) / (slopes[labels] * (1 + 8 * U))
    quotients[slopes[labels] == 0] = math.inf
    constant = (margins - errors * _room(exact) <= 0) & (slopes[labels] == 0)
    quotients[constant] = 0.0
    own = torch.arange(classes) == labels[:, None]
    quotients = quotients.masked_fill(own, math.inf).amin(dim=1) * (1 - 2.0**-30)
    right = quotients.nan_to_num(0.0).clamp(0, diagonal * (1 - 8 * U))
    return torch.minimum(right, around).where(known > 0, 0.0), exact


def error_bound(
    analysis: Analysis, program: nn.Module, shape: Shape, sizes: Tensor, exact: bool
) -> float | None:
    """What the program rounds on inputs of a norm, with room; None where nothing is known of it."""
    try:
        after = analysis(program, shape, Ball(norm=sizes))
    except NotCertifiedError:
        return None
    error = float(torch.as_tensor(after.error).max()) * _room(exact) + 2.0**-500
    return error if math.isfinite(error) else None
