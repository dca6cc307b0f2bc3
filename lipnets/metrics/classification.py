"""Which predictions are right, and by how much."""

__all__ = ["accuracy", "correct", "margins", "predictions"]

import torch
from torch import Tensor


def predictions(logits: Tensor) -> Tensor:
    """The class of the largest logit, the first one on ties.

    Arguments:
        logits: The logits, with shape (B, K).

    Returns:
        The classes, with shape (B,); −1 where a logit is not finite.
    """
    if logits.ndim != 2 or logits.shape[1] == 0:
        raise ValueError(f"'logits' should have shape (B, K), K > 0, got {tuple(logits.shape)}.")
    finite = logits.isfinite().all(dim=1)
    return torch.where(finite, logits.argmax(dim=1), -1)


def correct(logits: Tensor, labels: Tensor) -> Tensor:
    """Whether the prediction is the label.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, integers in [0, K), with shape (B,).

    Returns:
        Booleans, with shape (B,).

    Raises:
        ValueError: If the shapes do not fit, or if a label is not a class.
    """
    predicted = predictions(logits)
    _check_labels(logits, labels)
    return predicted == labels


def margins(logits: Tensor, labels: Tensor) -> Tensor:
    """The logit of the label, minus the largest of the others.

    Arguments:
        logits: The logits, with shape (B, K).
        labels: The classes, integers in [0, K), with shape (B,).

    Returns:
        The margins in float64, with shape (B,): −∞ where a logit is not finite, otherwise ∞ if
        there is one class only.
    """
    _check_labels(logits, labels)
    finite, logits = logits.isfinite().all(dim=1), logits.double()
    of_label = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    margin = (of_label - others).amin(dim=1)
    return torch.where(finite, margin, -torch.inf)


def accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of predictions that are right.

    Raises:
        ValueError: If there are no examples, if the shapes do not fit, or a label is not a class.
    """
    return _share(correct(logits, labels))


def _share(mask: Tensor) -> float:
    if mask.numel() == 0:
        raise ValueError("There is no average over no examples: the data are empty.")
    return int(mask.sum()) / mask.numel()


def _check_labels(logits: Tensor, labels: Tensor) -> None:
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        raise ValueError(
            "'logits' and 'labels' should have shapes (B, K) and (B,), "
            f"got {tuple(logits.shape)} and {tuple(labels.shape)}."
        )
    if labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"'labels' should be integers, got {labels.dtype}.")
    outside = ((labels < 0) | (labels >= logits.shape[1])).nonzero().flatten()
    if len(outside):
        index = int(outside[0])
        raise ValueError(
            f"Labels should be classes 0 to {logits.shape[1] - 1}, "
            f"got {int(labels[index])} at index {index}."
        )
