"""Images drawn on rubber."""

__all__ = ["elastic_transform"]

import torch
from torch import Tensor

from ._draws import uniform
from ._filters import blur_matrix, sample, separable
from ._registry import Generators, corruptions


@corruptions.register
def elastic_transform(
    images: Tensor, constants: tuple[float, float, float], generators: Generators
) -> Tensor:
    """A random affine map, then a smooth random field of displacements.

    Three points around the middle go to places within ±c₂ of theirs, and the image with them;
    then each pixel is what lies at a displacement a·G_σ u, with u uniform in ±1.  The first sees a
    mirror at the centres of the border pixels, the second one at their far sides.
    """
    side = min(images.shape[2:])
    strength, sigma, jitter = (side * constant for constant in constants)
    shifts = uniform(generators, (3, 2), -jitter, jitter, images)
    moved = sample(images, *_affine(images, shifts), "mirror")
    if strength == 0:
        return moved
    height, width = images.shape[2:]
    field = uniform(generators, (2, height, width), -1, 1, images)
    rows, columns = (blur_matrix(size, sigma, "double", truncate=3) for size in (height, width))
    right, down = (strength * separable(field, rows, columns)).unbind(dim=1)
    y, x = _grid(images)
    return sample(moved, y + down, x + right, "double")


def _affine(images: Tensor, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Where the pixels of an image come from if three points x, y of it move, with shape (B, H, W)."""
    height, width = images.shape[2:]
    reach = max(min(height, width) // 3, 1)
    middle = images.new_tensor([width // 2, height // 2])
    points = middle + reach * images.new_tensor([[1, 1], [1, -1], [-1, -1]])
    ones = images.new_ones(len(images), 3, 1)
    back = torch.linalg.solve(torch.cat([points + shifts, ones], dim=2), points)  # (B, 3, 2)
    y, x = _grid(images)
    grid = torch.stack([x, y, torch.ones_like(x)], dim=-1)  # (H, W, 3)
    at_x, at_y = torch.einsum("hwi,bij->jbhw", grid, back.expand(len(images), -1, -1))
    return at_y, at_x


def _grid(images: Tensor) -> tuple[Tensor, Tensor]:
    height, width = images.shape[2:]
    y = torch.arange(height, device=images.device).to(images)
    x = torch.arange(width, device=images.device).to(images)
    rows, columns = torch.meshgrid(y, x, indexing="ij")
    return rows, columns
