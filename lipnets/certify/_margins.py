"""Margins of classes: how steep they are, what programs round in them, and radii from both."""

__all__ = ["check_images", "check_labels", "column", "margin_errors", "nearest", "slopes_of"]

import math

import torch
from torch import Tensor, nn

from ..bounds import Shape, chain
from ..linalg import ROOT_2_UP, U, mul_up, row_distances
from ..rounding import Analysis, Ball
from ..rounding_rules import row_errors


def slopes_of(program: nn.Module, constant: float, backbone: float, num_classes: int) -> Tensor:
    """Bounds of the Lipschitz constants of all margins, with shape (K, K), in float64.

    Arguments:
        program: The program.
        constant: A bound of its Lipschitz constant.
        backbone: The same of all that comes before its last layer.
        num_classes: The number K of classes.
    """
    joint = mul_up(constant, ROOT_2_UP)
    slopes = joint * (1 - torch.eye(num_classes, dtype=torch.float64))
    # Exact types: a subclass may have a forward, hence a rule, of its own.
    *before, head = [module for _, module in chain(program)] or [program]
    if before and type(head) is nn.Linear:
        slopes = torch.minimum(slopes, row_distances(head.weight) * backbone * (1 + 4 * U))
    return slopes


def nearest(margins: Tensor, slopes: Tensor, labels: Tensor, top: int) -> Tensor:
    """The k-th smallest quotient of margins and slopes over the other classes, rounded downwards.

    Two roundings, of a margin and of a quotient, and one of this factor: 4u.

    Arguments:
        margins: The margins of labels, with shape (B, K).
        slopes: Bounds of the Lipschitz constants of margins, with shape (K, K).
        labels: The classes, with shape (B,).
        top: The number k.
    """
    slopes = slopes[labels]  # (B, K)
    radii = margins / slopes
    # Two classes whose margin is constant: it decides for ever, and a tie is a tie.
    constant = torch.where(margins > 0, math.inf, torch.where(margins < 0, -math.inf, 0.0))
    radii = torch.where(slopes == 0, constant.double(), radii)
    radii = torch.where(radii > 0, radii * (1 - 4 * U), radii)
    own = torch.arange(slopes.shape[1]) == labels[:, None]
    return radii.masked_fill(own, math.inf).kthvalue(top, dim=1).values


def margin_errors(
    program: nn.Module, shape: Shape, ball: Ball, analysis: Analysis, labels: Tensor, count: int
) -> Tensor:
    """Bounds of what a program rounds in the margins of labels, with shape (B, K).

    Arguments:
        program: The program.
        shape: The shape of one image, without batch dimension.
        ball: The ball of its inputs.
        analysis: The analysis that bounds what it rounds.
        labels: The classes y, with shape (B,).
        count: The number K of classes.
    """
    *before, head = [module for _, module in chain(program)] or [program]
    if not before or type(head) is not nn.Linear:
        after = analysis(program, shape, ball)
        return (ROOT_2_UP * column(after.error, labels)).expand(-1, count)
    for module in before:
        ball = analysis(module, shape, ball)
        shape = analysis.output_shape(module, shape)
    own = row_errors(head, analysis.entering(head, ball), analysis).expand(
        len(labels), -1
    )  # (B, K)
    distances = analysis.once(head, "distances", lambda: row_distances(head.weight))
    moved = distances[labels] * column(ball.error, labels)
    errors = (moved + own + own.gather(1, labels[:, None])) * (1 + 8 * U)
    return errors.where(~errors.isnan(), math.inf)  # what overflowed, between equal rows


def column(value: float | Tensor, labels: Tensor) -> Tensor:
    """A number for each image, with shape (B, 1)."""
    return torch.as_tensor(value, dtype=torch.float64).expand(len(labels))[:, None]


def check_images(images: Tensor, shape: Shape) -> None:
    if not images.is_floating_point():
        raise ValueError(
            f"Images should be floating point in [0, 1], got {images.dtype}: divide bytes by 255."
        )
    if tuple(images.shape[1:]) != tuple(shape):
        raise ValueError(f"Images should have shape (B, {shape}), got {tuple(images.shape)}.")
    if not len(images):
        raise ValueError("There are no images to certify: expected one at least.")


def check_labels(labels: Tensor, count: int, num_classes: int) -> None:
    if labels.shape != (count,) or labels.is_floating_point():
        raise ValueError(
            f"Labels should be {count} integers, got shape {tuple(labels.shape)} of {labels.dtype}."
        )
    if count and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f"Labels should be from 0 to {num_classes - 1}, got {int(labels.min())} to "
            f"{int(labels.max())}."
        )
