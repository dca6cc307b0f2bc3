"""Gradients of single examples, as a lens shows them, of which none is ever stored.

References:
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588, whose noise covariance this is for

How a gradient N moves σ₁ is known from Nv₁ and N*u₁, see `singular`.  With the inputs x and the output
gradients d of a layer, the gradient of an example is a sum over positions p,

    Nv₁ = Σ_p d_p s_p        with s the inputs seen through v₁: (x * w)_p for the wave w = v₁ e^{iθ·k},
    u₁*N = Σ_p r_p x_p e^{iθ·k}   with r_p = u₁*d_p: x times the transposed convolution of r with e^{iθ·k},

which are convolutions of one complex channel.
"""

__all__ = ["Examples", "Seen", "Sight"]

from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .lenses import Convolution, Lens
from .singular import Top, top

Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d

_CONVOLVE: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSE: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


@dataclass(frozen=True)
class Seen:
    """What is seen of U gradients of a weight, each the matrix N at one place of a lens.

    Arguments:
        pushed: Nv₁, with shape (U, m).
        pulled: N*u₁, with shape (U, n).
    """

    pushed: Tensor
    pulled: Tensor


@dataclass(frozen=True)
class Sight:
    """A weight, seen at one place of a lens.

    Arguments:
        name: The qualified name of the layer.
        role: What the weight is to the layer, see `Followed`; `"gain"` for that of a normalization.
        parameter: The weight.
        lens: The lens.
        place: The place.
        top: The largest singular value of the weight there.
        module: The layer whose inputs and outputs tell the gradients of examples, if they do.
    """

    name: str
    role: str
    parameter: nn.Parameter
    lens: Lens
    place: int
    top: Top
    module: nn.Module | None = None

    def matrix(self, weight: Tensor) -> Tensor:
        """The matrix of a weight there, with shape (1, m, n)."""
        return self.lens.matrices(weight.detach(), torch.tensor([self.place]))

    def value(self) -> float:
        """The largest singular value of the weight as it is now, there."""
        return top(self.matrix(self.parameter)).value.item()

    def of(self, gradient: Tensor) -> Seen:
        """What is seen of one gradient, as autograd gives it."""
        matrix = self.matrix(gradient)[0].to(self.top.right)
        pushed = matrix @ self.top.right[0]
        pulled = matrix.mH @ self.top.left[0]
        return Seen(pushed[None], pulled[None])

    def examples(self, inputs: Tensor, gradients: Tensor) -> Seen:
        """What is seen of the gradients of examples.

        Arguments:
            inputs: The inputs of the layer, with shape (U, ..., I) or (U, I, *S).
            gradients: The gradients of its outputs, each that of the loss of its own example.
        """
        left, right = self.top.left[0], self.top.right[0]
        if isinstance(self.module, nn.Linear):
            left, right = left.to(gradients), right.to(inputs)
            inputs = inputs.reshape(len(inputs), -1, inputs.shape[-1])  # (U, P, I)
            gradients = gradients.reshape(len(gradients), -1, gradients.shape[-1])  # (U, P, O)
            pushed = torch.einsum("upo,up->uo", gradients, inputs @ right)
            pulled = torch.einsum("upi,up->ui", inputs, gradients @ left)
        elif isinstance(self.module, Conv):
            pushed, pulled = self._convolved(self.module, inputs, gradients)
        else:
            raise TypeError(f"No gradients of examples are known of {self.module}.")
        return Seen(pushed.to(self.top.right), pulled.to(self.top.right))

    def _convolved(self, conv: Conv, inputs: Tensor, gradients: Tensor) -> tuple[Tensor, Tensor]:
        """The same of a convolution: a place is one group, all of them are where there are no places."""
        taps = conv.weight[0, 0].numel()
        if isinstance(self.lens, Convolution):
            group, wave, phases = self.lens.wave(self.place)
            part = slice(group, group + 1)
        else:
            wave, phases, part = torch.ones(taps), torch.arange(taps), slice(None)
        inputs = _padded(conv, inputs).unflatten(1, (conv.groups, -1))[:, part]  # (U, G, I, *S)
        gradients = gradients.unflatten(1, (conv.groups, -1))[:, part].flatten(3)  # (U, G, O, P)
        groups, channels = inputs.shape[1:3]

        phases = phases.to(inputs.device)
        wave = wave.to(inputs.device, torch.complex128)
        right = self.top.right[0].unflatten(0, (channels, -1)).to(wave)[:, phases] * wave  # (I, K)
        window = torch.stack([right.real, right.imag]).to(inputs)
        window = window.repeat(groups, 1, 1).unflatten(2, conv.kernel_size)  # (G 2, I, *K)
        how = {"stride": conv.stride, "dilation": conv.dilation}
        convolve = _CONVOLVE[len(conv.kernel_size)]
        through = convolve(inputs.flatten(1, 2), window, groups=groups, **how)
        through = through.flatten(2).unflatten(1, (groups, 2))  # (U, G, 2, P)
        pushed = torch.einsum("ugop,ugzp->zugo", gradients, through).flatten(2)

        left = self.top.left[0].unflatten(0, (groups, -1)).to(wave).conj()  # (G, O)
        left = torch.stack([left.real, left.imag]).to(gradients)
        along = torch.einsum("ugop,zgo->ugzp", gradients, left).flatten(0, 1)  # (U G, 2, P)
        along = along.unflatten(2, _outputs(conv, inputs.shape[3:]))
        spread = _TRANSPOSE[len(conv.kernel_size)](
            along, _spreading(conv, wave, phases, along), **how
        )
        reached = (..., *(slice(size) for size in spread.shape[2:]))
        spread = (
            spread.unflatten(1, (2, -1)).unflatten(0, (-1, groups)).flatten(4)
        )  # (U, G, 2, A, Q)
        pulled = torch.einsum("ugiq,ugzaq->zuia", inputs[reached].flatten(3), spread).flatten(2)
        if not self.top.right.is_complex():
            return pushed[0], pulled[0]
        return torch.complex(*pushed), torch.complex(*pulled).conj()


class Examples:
    """Watches layers through a forward and a backward, for what is seen of each example.

    Hooks are there inside the context only.  The loss is a mean over examples.

    Arguments:
        sights: What to look at.
        count: The number of examples.
    """

    def __init__(self, sights: list[Sight], count: int) -> None:
        self._sights, self._count = sights, count
        self._seen: dict[int, Seen | None] = {}
        self._handles: list[Any] = []

    def __enter__(self) -> Self:
        for place, sight in enumerate(self._sights):
            if sight.module is not None:
                self._handles.append(sight.module.register_forward_hook(self._hook(place, sight)))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def seen(self, sight: int) -> Seen | None:
        """What was seen of a sight, by its index; None if its examples could not be told apart."""
        return self._seen.get(sight)

    def _hook(self, place: int, sight: Sight) -> Any:
        weight = sight.parameter
        dims = None if isinstance(sight.module, nn.Linear) else weight.ndim

        def note(module: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> Tensor:
            inputs = arguments[0].detach()
            if inputs.shape[0] != self._count or dims not in (None, inputs.ndim):
                self._seen[place] = None
            elif output.requires_grad:
                output.register_hook(lambda gradients: add(inputs, gradients))
            return output.clone()  # as what works in place on a view takes the hook from it

        @torch.no_grad()
        def add(inputs: Tensor, gradients: Tensor) -> None:
            before = self._seen.get(place, _NOTHING)
            if before is None:
                return
            each = sight.examples(inputs, gradients * self._count)
            if before is not _NOTHING:  # a layer that is used several times
                each = Seen(before.pushed + each.pushed, before.pulled + each.pulled)
            self._seen[place] = each

        return note


_NOTHING = Seen(torch.empty(0), torch.empty(0))


def _padded(conv: Conv, inputs: Tensor) -> Tensor:
    """The inputs as the taps meet them."""
    sides: list[int] = []
    for axis, (size, dilation) in enumerate(zip(conv.kernel_size, conv.dilation, strict=True)):
        if conv.padding == "same":
            total = dilation * (size - 1)
            sides = [total // 2, total - total // 2, *sides]
        elif conv.padding != "valid":
            sides = [int(conv.padding[axis]), int(conv.padding[axis]), *sides]
    mode = "constant" if conv.padding_mode == "zeros" else conv.padding_mode
    return F.pad(inputs, sides, mode=mode) if any(sides) else inputs


def _outputs(conv: Conv, sizes: torch.Size) -> list[int]:
    """The number of outputs along each axis, of padded inputs."""
    reaches = [(k - 1) * d for k, d in zip(conv.kernel_size, conv.dilation, strict=True)]
    axes = zip(sizes, reaches, conv.stride, strict=True)
    return [(size - reach - 1) // stride + 1 for size, reach, stride in axes]


def _spreading(conv: Conv, wave: Tensor, phases: Tensor, like: Tensor) -> Tensor:
    """The kernel of a complex product, of r with the wave of each phase, with shape (2, 2 A, *K)."""
    count = int(phases.max()) + 1
    waves = F.one_hot(phases, count).mT * wave  # (A, K)
    real, imaginary = waves.real, waves.imag
    rows = [torch.cat([real, imaginary]), torch.cat([-imaginary, real])]
    return torch.stack(rows).to(like).unflatten(2, conv.kernel_size)
