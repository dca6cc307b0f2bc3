"""The arithmetic of parametrizations: outside autocast, in float32 at least, for any scale."""

__all__ = ["full_precision", "inverse_sqrt", "unit_scale"]

from collections.abc import Callable
from contextlib import nullcontext
from functools import wraps
from typing import Any

import torch
from torch import Tensor


def full_precision(forward: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Makes the `forward` of a parametrization compute in float32 at least, without autocast.

    Under autocast the products inside a parametrization would be rounded to 8 bits: the norm of an
    orthogonal matrix is then wrong by 2e-3.  The result has the dtype of the first argument.
    """

    @wraps(forward)
    def guarded(self: Any, *raw: Tensor) -> Tensor:
        dtype, device = raw[0].dtype, raw[0].device.type
        wide = torch.promote_types(dtype, torch.float32)
        available = torch.amp.is_autocast_available(device)
        with torch.autocast(device, enabled=False) if available else nullcontext():
            return forward(self, *(tensor.to(wide) for tensor in raw)).to(dtype)

    return guarded


def unit_scale(weight: Tensor, dim: int | tuple[int, ...] | None = None) -> Tensor:
    """Divides a weight by its largest entry, so that its squares neither overflow nor vanish.

    For maps that do not depend on the scale of the weight, or of its rows: the divisor is a
    constant to autograd, and the gradient is still theirs.  A weight of zeros is left as it is.
    """
    size = weight.detach().abs()
    largest = size.amax() if dim is None else size.amax(dim=dim, keepdim=True)
    return weight / torch.where(largest > 0, largest, torch.ones_like(largest))


def inverse_sqrt(squares: Tensor) -> Tensor:
    """Computes 1 / √x, and 1 where x is 0: a gradient of 0 rather than none."""
    return torch.where(squares > 0, squares, torch.ones_like(squares)).rsqrt()
