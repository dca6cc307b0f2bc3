"""The Jacobian of the logits at each image, exact to rounding."""

__all__ = ["jacobians", "spectra"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .subject import Subject

_NUMBERS = 2**24  # in memory at once


def jacobians(subject: Subject, what: str) -> Iterator[tuple[slice, Tensor]]:
    """Differentiates all logits, batch by batch.

    Arguments:
        subject: The network and the images.
        what: What to call it where progress is shown.

    Yields:
        Which images, and ∂f_k/∂x in float64 on the CPU, with shape (B, K, C, H, W).  A network from
        which no gradient reaches images yields nothing.
    """
    size = max(1, _NUMBERS // (subject.logits.shape[1] * math.prod(subject.shape)))
    size = min(size, subject.batch_size)
    for start in subject.track(range(0, len(subject), size), what):
        chosen = slice(start, min(start + size, len(subject)))
        images = subject.images[chosen].to(subject.device, torch.float64)
        images.requires_grad_(True)
        with torch.enable_grad():
            logits = subject.precise(images)
            if not logits.requires_grad:
                continue
            rows = [
                torch.autograd.grad(
                    logits[:, k].sum(), images, retain_graph=True, materialize_grads=True
                )[0]
                for k in range(logits.shape[1])
            ]
        yield chosen, torch.stack(rows, dim=1).cpu()


def spectra(jacobian: Tensor) -> Tensor:
    """The orthonormal Fourier coefficients of gradients, with the shape that these have, complex."""
    return torch.fft.fft2(jacobian, norm="ortho")
