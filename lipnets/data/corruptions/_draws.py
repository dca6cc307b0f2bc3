"""What is drawn for an image: a function of a key and its index, and of nothing else.

Each image has a generator of its own, on the CPU: what is drawn of it does not depend on the batch
it is in.  It only draws; what is made of the draws is computed for all images of a batch at once.
"""

__all__ = ["generators_of", "integers", "normal", "signs", "uniform"]

from collections.abc import Sequence
from hashlib import blake2b

import torch
from torch import Tensor

from ._registry import Generators


def generators_of(
    seed: int, name: str, severity: int, indices: Tensor | Sequence[int]
) -> list[torch.Generator]:
    """The sources of randomness of images, by their index in the data set."""
    numbers = indices.tolist() if isinstance(indices, Tensor) else indices
    return [_generator(f"{seed}|{name}|{severity}|{int(index)}") for index in numbers]


def normal(generators: Generators, shape: Sequence[int], like: Tensor) -> Tensor:
    """Normal draws, with shape (B, *shape)."""
    draws = [torch.randn(tuple(shape), generator=g, dtype=torch.float64) for g in generators]
    return torch.stack(draws).to(like)


def uniform(
    generators: Generators, shape: Sequence[int], low: float, high: float, like: Tensor
) -> Tensor:
    """Draws that are uniform in [low, high), with shape (B, *shape)."""
    draws = [torch.rand(tuple(shape), generator=g, dtype=torch.float64) for g in generators]
    return (torch.stack(draws) * (high - low) + low).to(like)


def integers(generators: Generators, shape: Sequence[int], low: int, high: int) -> Tensor:
    """Draws of low, ..., high − 1, on the CPU, with shape (B, *shape)."""
    return torch.stack([torch.randint(low, high, tuple(shape), generator=g) for g in generators])


def signs(generators: Generators, shape: Sequence[int]) -> Tensor:
    """Draws of −1 and 1, on the CPU, with shape (B, *shape)."""
    return 2 * integers(generators, shape, 0, 2) - 1


def _generator(key: str) -> torch.Generator:
    digest = blake2b(key.encode(), digest_size=8).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest, "big"))
