"""Standardization of images, inside the model and inside the certificate."""

__all__ = ["Standardize"]

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import div_up
from ..program import Affine, channels, lowering


class Standardize(nn.Module):
    """Subtracts a mean from each channel and divides it by a standard deviation.

    As a layer of the model it counts in the Lipschitz constant: radii stay in [0, 1] pixels.

    Arguments:
        mean: The mean of each channel.
        std: The standard deviation of each channel, positive.

    Raises:
        ValueError: If their numbers differ, or a standard deviation is not positive.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        if len(mean) != len(std) or not all(value > 0 for value in std):
            raise ValueError(
                "'mean' and 'std' should have one number for each channel, 'std' positive ones, "
                f"got {tuple(mean)} and {tuple(std)}."
            )
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))

    def extra_repr(self) -> str:
        if self.mean.is_meta:
            return f"channels={len(self.mean)}"
        return f"mean={self.mean.tolist()}, std={self.std.tolist()}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, ...) -> (B, C, ...)
        if len(self.std) not in (1, x.shape[1]):
            raise ValueError(
                f"Standardize has statistics of {len(self.std)} channels, got shape {tuple(x.shape)}."
            )
        axes = (-1, *[1] * (x.ndim - 2))
        return (x - self.mean.view(axes)) / self.std.view(axes)


@rule(Standardize)
def standardize(module: Standardize, shape: Shape) -> Bound:
    """A linear map up to a constant, of slope 1/σ in each channel: 1 / min σ.

    Statistics of several channels, either of them, on an image of one would repeat it: refused.
    """
    for values in (module.mean, module.std):
        if not shape or values.numel() not in (1, shape[0]):
            raise NotCertifiedError(
                f"Standardize has statistics of {values.numel()} channels, and takes no examples of "
                f"shape {tuple(shape)}."
            )
    smallest = module.std.double().abs().min().item()
    return Bound(div_up(1.0, smallest), f"Standardize: 1 / min std, {smallest:.6g}")


@lowering(Standardize)
def _lowered(module: Standardize, shape: Shape) -> nn.Module:
    """1/σ and −m/σ, as float64 computes them once."""
    scale = 1 / module.std.double()
    shift = -module.mean.double() * scale
    return Affine(channels(scale, shape), channels(shift, shape))
