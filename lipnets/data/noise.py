"""Labels that are wrong: what a network learns by heart."""

__all__ = ["with_label_noise"]

import torch

from .dataset import Split


def with_label_noise(split: Split, share: float, num_classes: int, seed: int) -> Split:
    """The same images, with some labels drawn anew, each class as likely as any other.

    Some are drawn right: of K classes, a share of 1 / K.

    Arguments:
        split: The images and their labels.
        share: The share of labels that are drawn, to the nearest number of images.
        num_classes: The number K of classes.
        seed: What decides which, and what becomes of them.

    Raises:
        ValueError: If the share is not in [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"'share' should be in [0, 1], got {share}.")
    generator = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(len(split), generator=generator)[: round(share * len(split))]
    labels = split.labels.clone()
    drawn = torch.randint(num_classes, (len(chosen),), generator=generator)
    labels[chosen.to(labels.device)] = drawn.to(labels)
    return Split(split.images, labels)
