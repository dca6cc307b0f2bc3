"""Noise, independent at every pixel and channel."""

__all__ = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]

import torch
from torch import Tensor

from ._registry import Generators, corruptions


@corruptions.register
def gaussian_noise(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """Noise of sensors in the dark: x + σN, with N normal."""
    sigma = (0.04, 0.06, 0.08, 0.09, 0.10)[severity - 1]
    return images + sigma * _normal(images, generators)


@corruptions.register
def shot_noise(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """Noise of the counts of photons: P/c, with P Poisson of mean cx."""
    photons = (500, 250, 100, 75, 50)[severity - 1]
    counts = [
        torch.poisson(rates, generator=generator)
        for rates, generator in zip(images.cpu().double() * photons, generators, strict=True)
    ]
    return torch.stack(counts).to(images) / photons


@corruptions.register
def impulse_noise(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """Salt and pepper: with probability p a value is replaced, by 0 or 1 equally often."""
    p = (0.01, 0.02, 0.03, 0.05, 0.07)[severity - 1]
    draws = _uniform(images, generators)  # below p/2 is pepper, from there to p is salt
    return torch.where(draws < p, (draws >= p / 2).to(images), images)


@corruptions.register
def speckle_noise(images: Tensor, severity: int, generators: Generators) -> Tensor:
    """Noise in proportion to light: x + σxN, with N normal."""
    sigma = (0.06, 0.1, 0.12, 0.16, 0.2)[severity - 1]
    return images + sigma * images * _normal(images, generators)


def _normal(images: Tensor, generators: Generators) -> Tensor:
    shape = images.shape[1:]
    draws = [torch.randn(shape, generator=g, dtype=torch.float64) for g in generators]
    return torch.stack(draws).to(images)


def _uniform(images: Tensor, generators: Generators) -> Tensor:
    shape = images.shape[1:]
    draws = [torch.rand(shape, generator=g, dtype=torch.float64) for g in generators]
    return torch.stack(draws).to(images.device)
