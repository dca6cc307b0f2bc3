"""Convolutions on the torus in the frequency domain, where each frequency has a matrix of its own."""

__all__ = ["apply_symbols", "spatial_size"]

import torch
from torch import Tensor


def apply_symbols(x: Tensor, symbols: Tensor) -> Tensor:
    """Multiplies the channels of images by a matrix at each spatial frequency.

    y = Re F⁻¹(2 − [ω is its own mirror along the last axis]) S(ω) x̂(ω), summed over the half spectrum:
    where S(−ω) is the conjugate of S(ω), the real map with the symbol S.  In any case its norm is at
    most max ‖S(ω)‖: the real part of the inverse transform is an orthogonal projection of the
    spectrum that S gives, to the one that is symmetric.

    Arguments:
        x: Images, with shape (B, I, H, W).
        symbols: The matrices, complex, for the frequencies that `torch.fft.rfft2` keeps, with shape
            (H, W // 2 + 1, O, I).

    Returns:
        Images, with shape (B, O, H, W).
    """
    size = spatial_size(x)
    spectrum = torch.fft.rfft2(x).permute(2, 3, 1, 0)  # (H, W/2 + 1, I, B)
    product = symbols.to(spectrum.dtype) @ spectrum  # (H, W/2 + 1, O, B)
    return torch.fft.irfft2(product.permute(3, 2, 0, 1), s=size)


def spatial_size(x: Tensor) -> tuple[int, int]:
    """Height and width of images."""
    return x.shape[-2], x.shape[-1]
