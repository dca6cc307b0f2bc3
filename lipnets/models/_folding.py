"""How often blocks of 2 × 2 pixels of an image can become channels."""

__all__ = ["foldings"]


def foldings(size: tuple[int, int], most: int) -> int:
    """The number of times that an image can be folded until its shorter side is one pixel.

    Arguments:
        size: The height and width, in pixels; sides are padded where they are odd.
        most: The number of times wanted.
    """
    return min(most, (min(size) - 1).bit_length())
