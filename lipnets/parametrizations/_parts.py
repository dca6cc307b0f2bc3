"""Complex tensors and their real and imaginary parts, each one pass over memory, gradients too."""

__all__ = ["join", "split"]

from typing import Any

import torch
from torch import Tensor, complex
from torch.autograd import Function


def join(parts: Tensor) -> Tensor:
    """Complex numbers from their real and imaginary parts, (2, ...) -> (...)."""
    return _Join.apply(parts)  # pyright: ignore[reportReturnType]


def split(numbers: Tensor) -> Tensor:
    """The real and the imaginary parts of complex numbers, (...) -> (2, ...)."""
    return _Split.apply(numbers)  # pyright: ignore[reportReturnType]


class _Join(Function):
    @staticmethod
    def forward(parts: Tensor) -> Tensor:
        return complex(parts[0], parts[1])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return split(grads[0])


class _Split(Function):
    @staticmethod
    def forward(numbers: Tensor) -> Tensor:
        if torch.compiler.is_exporting():  # ONNX has no tensors that are not filled
            return torch.stack([numbers.real, numbers.imag])
        parts = numbers.new_empty(2, *numbers.shape, dtype=numbers.real.dtype)
        parts[0].copy_(numbers.real)
        parts[1].copy_(numbers.imag)
        return parts

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        return join(grads[0])
