"""What tells programs apart: hashes of their tensors, and checksums that are quick to compare."""

__all__ = ["hashes", "state"]

import hashlib
from typing import Any

import torch
from torch import Tensor, nn


def state(program: nn.Module) -> tuple[Any, ...]:
    """What tells whether a program was changed: its settings, hooks, and checksums of its tensors."""
    tensors = [*program.named_parameters(), *program.named_buffers()]
    sums = [(name, each.dtype, tuple(each.shape), _checksum(each)) for name, each in tensors]
    hooks = [(len(m._forward_hooks), len(m._forward_pre_hooks)) for m in program.modules()]  # noqa: SLF001
    patched = [name for name, each in program.named_modules() if "forward" in vars(each)]
    return repr(program), tuple(sums), tuple(hooks), tuple(patched)


def _checksum(tensor: Tensor) -> int:
    """A sum of the bits of a tensor, weighted by their places, which changes with nearly any of them.

    In integers: the same on any device.  Quicker than a hash, and enough where nobody lies.
    """
    data = tensor.detach().contiguous().reshape(-1).view(torch.uint8)
    words = data.view(torch.int64) if len(data) % 8 == 0 else data.long()
    odd = torch.arange(1, 2 * _WORDS, 2, device=words.device)
    total = 0
    for index, part in enumerate(words.split(_WORDS)):
        mixed = part ^ (part >> 32)  # or an even number of signs would cancel
        total += (2 * index + 1) * int(torch.dot(mixed, odd[: len(part)]))
    return total % 2**64


_WORDS = 2**15  # at a time: what the nearest cache holds


def hashes(plain: nn.Module) -> dict[str, str]:
    """The SHA-256 of each stored tensor: of its dtype, its shape and its bytes."""
    found = {}
    for name, tensor in [*plain.named_parameters(), *plain.named_buffers()]:
        head = f"{tensor.dtype} {tuple(tensor.shape)} ".encode()
        data = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        found[name] = hashlib.sha256(head + data).hexdigest()
    return found
