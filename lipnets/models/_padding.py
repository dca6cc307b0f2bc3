"""Zeros around images whose sides do not divide as a model divides them, and channels of zeros."""

__all__ = ["pad_to_multiple", "with_channels"]

from torch import nn


def pad_to_multiple(
    size: tuple[int, int], multiple: int
) -> tuple[list[nn.Module], tuple[int, int]]:
    """Zeros that make both sides of an image multiples of a number.

    Arguments:
        size: The height and width of images.
        multiple: The number.

    Returns:
        The layer, in a list that is empty where none is needed, and the height and width after it.
    """
    height, width = size
    down, right = -height % multiple, -width % multiple
    if not down and not right:
        return [], size
    pad = nn.ZeroPad2d((right // 2, -(-right // 2), down // 2, -(-down // 2)))
    return [pad], (height + down, width + right)


def with_channels(channels: int, wanted: int) -> nn.Module:
    """Appends channels of zeros to images, or drops the last ones: to `nn.ZeroPad3d`, depths."""
    return nn.ZeroPad3d((0, 0, 0, 0, 0, wanted - channels))
