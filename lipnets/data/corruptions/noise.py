"""Noise, independent at every pixel and channel."""

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]

import torch
from torch import Tensor

from ._draws import normal, uniform
from ._registry import Generators, corruptions


@corruptions.register
def gaussian_noise(images: Tensor, sigma: float, generators: Generators) -> Tensor:
    """Noise of sensors in the dark: x + σN, with N normal."""
    return images + sigma * normal(generators, images.shape[1:], images)


@corruptions.register
def shot_noise(images: Tensor, photons: float, generators: Generators) -> Tensor:
    """Noise of the counts of photons: P/c, with P Poisson of mean cx."""
    counts = [
        torch.poisson(rates, generator=generator)
        for rates, generator in zip(images.cpu() * photons, generators, strict=True)
    ]
    return torch.stack(counts).to(images) / photons


@corruptions.register
def impulse_noise(images: Tensor, share: float, generators: Generators) -> Tensor:
    """Salt and pepper: with probability p a value is replaced, by 0 or 1 equally often."""
    draws = uniform(generators, images.shape[1:], 0, 1, images)
    # Below p/2 is pepper, from there to p is salt.
    return torch.where(draws < share, (draws >= share / 2).to(images), images)


@corruptions.register
def speckle_noise(images: Tensor, sigma: float, generators: Generators) -> Tensor:
    """Noise in proportion to light: x + σxN, with N normal."""
    return images + sigma * images * normal(generators, images.shape[1:], images)
