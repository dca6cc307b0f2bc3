"""Activations part by part: a part of a batch stays in the cache from its first operation to its last.

On a CPU, what an activation costs is memory that is read and written, by each of its operations.
"""

__all__ = ["compare", "fuses", "marks", "parts", "weights", "writes"]

import torch
from torch import Tensor
from torch._C import _are_functorch_transforms_active as transforms_are_active
from torch._C._functorch import is_legacy_batchedtensor
from torch.autograd import forward_ad

_PART = 2**18  # entries of a part


def writes(*tensors: Tensor) -> bool:
    """Whether operations may write into tensors: neither traced nor transformed nor differentiated."""
    return not (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
        or _transformed(*tensors)
        or any(is_legacy_batchedtensor(tensor) for tensor in tensors)  # of batched gradients
    )


def fuses(*tensors: Tensor) -> bool:
    """Whether a graph that is compiled may take derivatives as they are written here."""
    return (
        torch.compiler.is_compiling()
        and not torch.compiler.is_exporting()
        and not _transformed(*tensors)
        and torch.is_grad_enabled()
        and any(tensor.requires_grad for tensor in tensors)
    )


def _transformed(*tensors: Tensor) -> bool:
    """Whether torch.func transforms what is computed, or forward derivatives are taken of tensors."""
    return transforms_are_active() or any(
        forward_ad.unpack_dual(tensor).tangent is not None for tensor in tensors
    )


def parts(x: Tensor) -> list[slice]:
    """Slices of the first dimension that fit in the cache of a processor core."""
    if x.device.type != "cpu" or not x.numel():
        return [slice(None)]
    step = max(1, _PART // x[0].numel())
    return [slice(start, start + step) for start in range(0, len(x), step)]


def compare(first: Tensor, second: Tensor | float, mask: Tensor) -> None:
    """Writes into `mask`, of booleans, where first ≥ second."""
    if first.device.type == "cpu":  # three times as fast by way of floating-point numbers
        mask.copy_(torch.ge(first, second, out=torch.empty_like(first)))
    else:
        torch.ge(first, second, out=mask)


def marks(first: Tensor, second: Tensor | float) -> Tensor:
    """Where first ≥ second, as bytes that are 1, else 0, for graphs that are compiled.

    By way of floating-point numbers, since the code that is generated for a CPU stores and loads
    booleans one at a time, and all else in vectors.
    """
    return torch.where(first >= second, 1.0, 0.0).to(torch.uint8)


def weights(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """1 where a mask is true, else 0: on a CPU `torch.where` takes ten times as long as products."""
    return mask.view(torch.uint8).to(dtype)  # from bytes ten times as fast as from booleans
