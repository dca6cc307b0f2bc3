"""A fast program that decides where it is sure, and float64 that decides the rest.

**Theorem F5.**  Let F̂ be what a fast program computes at an input, F what the float64 program does, and
f their real function.  If |(F̂_y − F̂_j) − (f_y − f_j)| ≤ ε̂_yj, |(F_y − F_j) − (f_y − f_j)| ≤ ε_yj and
F̂_y − F̂_j > ε̂_yj + ε_yj for all j ≠ y, then F_y > F_j for all of them: float64 predicts y as well.

So predictions are those of the float64 program at each input, whoever decides, and its certified
radii hold of them: the fast program costs no radius, only some of its speed where it is not sure.

**The error of the fast program** at one image is much smaller than over a ball around it.  What is
rounded by a layer is bounded by ‖|W|‖ ‖X‖, X being its computed input: the norms of those are measured while
the program runs, which costs next to nothing, where a bound of them would grow from layer to layer.
"""

__all__ = ["Decision", "Deployed"]

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Tensor, nn

from .bounds import NotCertifiedError, Shape, chain, without_autocast
from .certify import Certificate, certify
from .exact import Round
from .layers.concat import Concat
from .layers.parallel import Parallel
from .layers.residual import Residual
from .linalg import U
from .rounding import (
    FLOAT32,
    FLOAT64,
    Analysis,
    Arithmetic,
    Ball,
    arithmetic,
    float32_products,
    number,
)

_arithmetic = arithmetic  # where an argument bears its name


@dataclass(frozen=True, eq=False)
class Decision:
    """What was predicted, and by whom.

    Arguments:
        predictions: The classes, with shape (B,).
        logits: The logits of the program that decided, in float64, with shape (B, K).
        fast: Whether the fast program decided, with shape (B,).
    """

    predictions: Tensor
    logits: Tensor
    fast: Tensor


class Deployed(nn.Module):
    """Predicts as the certified float64 program does, at about the speed of a faster one.

    Called with images, it returns their classes; `decide` tells more.  `calls` counts images,
    `fallbacks` those among them that float64 decided.

    The fast program should compute as its arithmetic says: no Winograd, no FFT, none of torch's modes of
    lower precision.  The latter are refused; convolutions on CUDA are computed without cuDNN.

    Arguments:
        model: A classifier in evaluation mode, or its certificate, with its program.
        shape: The shape of one image, without batch dimension; that of the certificate by default.
        arithmetic: That of the fast program, "float32", "tf32", "bfloat16" or "float16".

    Raises:
        ValueError: If the shape is missing or is not that of the certificate, or the certificate was
            loaded without its program.
        NotCertifiedError: If the model cannot be certified, or no rule bounds what it rounds.

    Example:
        >>> model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3)).eval()
        >>> deployed = Deployed(model, (1, 2, 2))
        >>> deployed(torch.rand(8, 1, 2, 2)).shape, deployed.calls
        (torch.Size([8]), 8)
    """

    def __init__(
        self,
        model: nn.Module | Certificate,
        shape: Shape | None = None,
        arithmetic: str | Arithmetic = "float32",
    ) -> None:
        super().__init__()
        if isinstance(model, Certificate):
            certificate = model
        elif shape is None:
            raise ValueError("'shape' should be that of one image, got None: certificates know it.")
        else:
            certificate = certify(model, tuple(shape))
        if shape is not None and tuple(shape) != tuple(certificate.shape):
            raise ValueError(f"'shape' should be {certificate.shape}, got {tuple(shape)}.")
        if certificate.program is None:
            raise ValueError("This certificate was loaded without its network: give the model.")
        self.certificate = certificate
        self.arithmetic = _arithmetic(arithmetic)
        self.calls = self.fallbacks = 0
        self.slow = certificate.program
        # The program that the fast one is a program of too, without what `Round` costs.
        self._real = [_unrounded(certificate.program)]  # in a list: no submodule
        self.fast = copy.deepcopy(self._real[0]).to(self.arithmetic.dtype).requires_grad_(False)
        self._facts = Analysis(FLOAT64, certificate._facts)  # noqa: SLF001
        self._diagonal = 1.01 * math.sqrt(math.prod(certificate.shape))  # measured norms are above
        labels = torch.arange(certificate.num_classes)
        sizes = torch.full((len(labels),), self._diagonal, dtype=torch.float64)
        self._slow_errors = certificate.errors(labels, sizes)  # ε, with shape (K, K)
        self._roof: tuple[list[int], Tensor, Tensor] | None = None
        self._watch = self._measured_modules()
        self._versions = self._current()
        self.train(False)
        self._errors(labels[:1], sizes[:1], {})  # refuses now what it would later

    def forward(self, images: Tensor) -> Tensor:  # (B, *S) -> (B,)
        return self.decide(images).predictions

    @torch.no_grad()
    def decide(self, images: Tensor) -> Decision:
        """Predicts, and tells who decided.

        Arguments:
            images: The images, with shape (B, *shape), in [0, 1] and floating point; others are left
                to float64.

        Raises:
            ValueError: If images are of another shape.
            NotCertifiedError: If torch is in a mode of lower precision than the arithmetic, or weights
                were changed, as far as torch counts changes: not through `.data`.
        """
        if tuple(images.shape[1:]) != tuple(self.certificate.shape):
            raise ValueError(
                f"Images should have shape (B, {self.certificate.shape}), got {tuple(images.shape)}."
            )
        self._refuse_changes(images)
        sizes: dict[int, Tensor] = {}
        with _arithmetic_of(self.fast, images.is_cuda), self._measuring(sizes, len(images)):
            logits = self.fast(images.to(self.arithmetic.dtype, copy=True)).double().cpu()
        predictions, norm = logits.argmax(dim=1), _norms(images)
        known = (norm <= self._diagonal) & logits.isfinite().all(dim=1)
        fast = known & self._sure(logits, self._below_roof(predictions, norm, sizes, known))
        if not fast[known].all():
            rest = known & ~fast
            own = {number: size[rest] for number, size in sizes.items()}
            errors = self._errors(predictions[rest], norm[rest], own)
            fast[rest] = self._sure(logits[rest], errors)
        self.calls += len(images)
        if not fast.all():
            rest = ~fast
            logits[rest] = self.certificate.logits(images[rest.to(images.device)])
            predictions = logits.argmax(dim=1)
            self.fallbacks += int(rest.sum())
        return Decision(predictions.to(images.device), logits, fast)

    def radii(self, images: Tensor, labels: Tensor) -> Tensor:
        """Radii within which the predictions stay the labels: those of the float64 program."""
        return self.certificate.radii(images, labels)

    def _sure(self, logits: Tensor, errors: Tensor) -> Tensor:
        """Whether the largest logits leave no doubt, for bounds ε̂ with shape (B, K); with shape (B,)."""
        predictions = logits.argmax(dim=1)
        margins = logits.gather(1, predictions[:, None]) - logits
        allowed = (errors + self._slow_errors[predictions]) * (1 + 4 * U)
        sure = margins * (1 - 2 * U) > allowed
        return (sure | (torch.arange(logits.shape[1]) == predictions[:, None])).all(dim=1)

    def _below_roof(
        self, labels: Tensor, norm: Tensor, sizes: dict[int, Tensor], known: Tensor
    ) -> Tensor:
        """Bounds ε̂ of images whose norms are below those that were met before, for no analysis of their own.

        What is proved of activations up to some norms holds of all that are below.  The roof rises where
        images exceed it, and bounds are proved anew then, once; for images above, they are infinite.
        """
        found = torch.stack([norm, *sizes.values()])  # (M, B)
        known = known & found.isfinite().all(dim=0)
        if self._roof is None or self._roof[0] != list(sizes):
            self._roof = list(sizes), torch.zeros(len(found), dtype=torch.float64), norm
        numbers, roof, errors = self._roof
        if known.any() and (found[:, known] > roof[:, None]).any():
            roof = torch.maximum(roof, found[:, known].amax(dim=1) * 1.1)
            every = torch.arange(self.certificate.num_classes)
            tops = {
                each: top.expand(len(every)) for each, top in zip(numbers, roof[1:], strict=True)
            }
            errors = self._errors(every, roof[0].expand(len(every)), tops)
            self._roof = numbers, roof, errors
        inside = known & (found <= roof[:, None]).all(dim=0)
        if not inside.any():
            return torch.full((len(labels), self.certificate.num_classes), math.inf).double()
        return errors[labels].where(inside[:, None], math.inf)

    def _errors(self, labels: Tensor, norm: Tensor, sizes: dict[int, Tensor]) -> Tensor:
        """Bounds ε̂ of the errors of the fast program in margins, with shape (B, K)."""
        a = self.arithmetic
        lost = a.tiny * math.sqrt(math.prod(self.certificate.shape))
        reach = (norm * (1 + a.unit) + lost) * (1 + 8 * U)
        ball = Ball(norm=reach, error=a.unit * reach + lost)
        analysis = _Measured(a, self._facts, sizes)
        return self.certificate.margin_errors(self._real[0], ball, analysis, labels)

    def _measured_modules(self) -> list[tuple[nn.Module, int]]:
        """Modules of the fast program whose inputs are measured, and the numbers of those analyzed."""
        pairs = zip(self._real[0].modules(), self.fast.modules(), strict=True)
        containers = (nn.Sequential, nn.ModuleList, Residual, Concat, Parallel)
        return [
            (fast, id(real))
            for real, fast in pairs
            if not isinstance(real, containers) and any(True for _ in real.parameters())
        ]

    @contextmanager
    def _measuring(self, sizes: dict[int, Tensor], count: int) -> Iterator[None]:
        """Notes norms of what modules of the fast program are called with, the larger one if twice.

        Arguments:
            sizes: Where they are noted, by the numbers of modules.
            count: The number of images.
        """

        def note(number: int) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
            def hook(module: nn.Module, args: tuple[Tensor, ...]) -> None:
                size = _norms(args[0])
                if len(size) != count:  # not one for each image
                    size = torch.full((count,), math.inf, dtype=torch.float64)
                sizes[number] = torch.maximum(size, sizes[number]) if number in sizes else size

            return hook

        handles = [module.register_forward_pre_hook(note(number)) for module, number in self._watch]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _refuse_changes(self, images: Tensor) -> None:
        if self._versions != self._current():
            raise NotCertifiedError(
                "Weights were changed since they were certified: build it anew."
            )
        if self.arithmetic.name != "float32":
            return
        # Convolutions on CUDA are computed without cuDNN.
        if float32_products(images.device, cudnn=False) != FLOAT32:
            raise NotCertifiedError(
                "Matrix products of float32 are computed in lower precision: call "
                "torch.set_float32_matmul_precision('highest'), leave the 'fp32_precision' of "
                "torch.backends as it is, or deploy arithmetic='bfloat16'."
            )

    def _current(self) -> list[int]:
        # Tensors made in inference mode have no versions.
        return [0 if p.is_inference() else p._version for p in self.parameters()]  # noqa: SLF001

    def train(self, mode: bool = True) -> Self:
        """Stays in evaluation mode."""
        return super().train(False)

    def _apply(self, fn: Callable[..., Any], recurse: bool = True) -> Self:
        """Moves to devices; the dtypes are those of the arithmetics.

        Raises:
            ValueError: If the dtype would change.
        """
        formats = (torch.float64, self.arithmetic.dtype)
        if any(fn(torch.zeros(1, dtype=each)).dtype != each for each in formats):
            raise ValueError("'arithmetic' says in which format Deployed computes: build it anew.")
        moved = super()._apply(fn, recurse)
        self._versions = self._current()
        return moved

    def __deepcopy__(self, memo: dict[int, Any]) -> "Deployed":
        return Deployed(copy.deepcopy(self.certificate, memo), arithmetic=self.arithmetic)

    def __reduce_ex__(self, protocol: Any) -> Any:
        raise TypeError("Deployed is not pickled: save the model, and build it anew.")


class _Measured(Analysis):
    """An analysis at images for which norms of computed inputs of modules were measured.

    Arguments:
        arithmetic: The arithmetic.
        known: What was proved of the program before.
        sizes: By the number of a module, bounds of the norms of its inputs, with shape (B,).
    """

    def __init__(self, arithmetic: Arithmetic, known: Analysis, sizes: dict[int, Tensor]) -> None:
        super().__init__(arithmetic, known)
        self.sizes, self.away = sizes, 0

    def entering(self, module: nn.Module, ball: Ball) -> Ball:
        """With the norm that was measured, if it is the smaller one."""
        size = self.sizes.get(id(module))
        if size is None or self.away:
            return ball
        return replace(ball, norm=torch.minimum(number(ball.norm), size))

    def once(self, module: nn.Module, what: Any, compute: Callable[[], Any]) -> Any:
        """As in any analysis: what is kept is not about the images, and uses nothing measured at them."""
        self.away += 1
        try:
            return super().once(module, what, compute)
        finally:
            self.away -= 1


def _norms(x: Tensor) -> Tensor:
    """Norms of examples, rounded upwards, in float64 on the CPU, with shape (B,); computed in float32.

    A number that is cast to float32 is off by u of itself, a sum of n squares by γ_{n+1}, and a root by
    u: less than 2(n + 8)u in all for n < 2²⁰, above which float64 is used.  Numbers below 2⁻⁶² may vanish.
    """
    flat = x.flatten(1)
    count = flat.shape[1]
    wide = flat.double() if count >= 2**20 else flat.float()
    found = torch.linalg.vector_norm(wide, dim=1).double().cpu()
    return found * (1 + 2 * (min(count, 2**20) + 8) * 2.0**-24) + 2.0**-60 * math.sqrt(count)


def _unrounded(program: nn.Module) -> nn.Module:
    """A program of the same real function, without the `Round`s between its operations."""
    if not chain(program):
        return program
    kept = [(name, module) for name, module in chain(program) if not isinstance(module, Round)]
    if len(kept) == len(program._modules):  # noqa: SLF001
        return program
    out = nn.Sequential()
    for name, module in kept:
        out.add_module(name, module)
    return out.eval()


@contextmanager
def _arithmetic_of(program: nn.Module, cuda: bool) -> Iterator[None]:
    """Computes in the dtypes of tensors, and without the algorithms of cuDNN, which are not all sums."""
    with without_autocast(program):
        if cuda:
            with torch.backends.cudnn.flags(enabled=False):
                yield
        else:
            yield
