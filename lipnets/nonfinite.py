"""Where numbers stop to be finite: what is to blame for a step that cannot be taken."""

__all__ = ["failed_factorization", "first_cause"]

import contextlib
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .distributed import gathered

Finding: TypeAlias = tuple[int, str]  # its place in the order of execution, what was found


@torch.no_grad()
def first_cause(
    model: nn.Module,
    forward: Callable[[Tensor], Tensor],
    images: Tensor,
    logits: Tensor,
    loss: Tensor,
    slopes: Tensor | None = None,
) -> str:
    """Says in a sentence where the first number that is not finite came from.

    Images and weights are looked at, then the layers, in a second forward on the same batch, and then
    the gradients.  The model is left as it was found.

    Arguments:
        model: The model, with the weights and the mode of the step, and its gradients.
        forward: What gave the logits: it calls the model.
        images: The images, with shape (B, C, H, W).
        logits: The logits, with shape (B, K).
        loss: Their loss.
        slopes: The slopes that the loss was given.
    """
    if bad := sum(not _finite(image) for image in images):
        return f"{bad} of the {len(images)} images of the batch hold values that are not finite"
    if told := _spoilt_weights(model):
        return told
    if not _finite(logits):
        findings: list[Finding] = []
        with _watched(model, findings), torch.compiler.set_stance("force_eager"):
            forward(images)
        # Each rank has seen its part of the batch.
        found = [each for part in gathered(findings[:1]) for each in part]
        if not found:
            return "a second forward on the batch was finite: look for what is drawn at random"
        return min(found)[1]
    if not _finite(loss):
        if slopes is not None and not _finite(slopes):
            return "the slopes that the loss was given are not finite, the logits are"
        largest = logits.abs().max().item()
        return f"the logits are finite, the largest of size {largest:.3g}, and their loss is not"
    names = [
        name
        for name, each in model.named_parameters()
        if each.grad is not None and not _finite(each.grad)
    ]
    if names:
        return f"the loss and all before it are finite, and the gradient is not of {_listed(names)}"
    return "each value of the gradient is finite, and the sum of their squares is not"


@torch.no_grad()
def failed_factorization(model: nn.Module, images: Tensor) -> str:
    """Says in a sentence which weights a factorization failed of, of what a forward computes.

    The model is left as it was found.

    Arguments:
        model: The model, with the weights and the mode of the step.
        images: Images that its forward takes, with shape (B, C, H, W): the first one will do.
    """
    if told := _spoilt_weights(model):
        return told
    names = {module: name for name, module in model.named_modules()}
    running: list[nn.Module] = []

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        running.append(module)

    def leave(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        running.pop()

    with _hooked(model, enter, leave):
        try:
            model(images[:1])
        except torch.linalg.LinAlgError:  # pyright: ignore[reportPrivateImportUsage]
            module = running[-1]
            return f"a factorization failed in '{names[module]}', a {type(module).__name__}"
    return "a factorization failed, and not again in a second forward"


def _spoilt_weights(model: nn.Module) -> str:
    names = [name for name, each in model.named_parameters() if not _finite(each)]
    told = "before the step, there were values that are not finite in "
    return f"{told}{_listed(names)}" if names else ""


@contextlib.contextmanager
def _watched(model: nn.Module, findings: list[Finding]) -> Iterator[None]:
    """Notes the modules that make what is not finite of what is, in the order of execution."""
    calls: list[bool] = []  # whether inputs were finite, of the modules that are being run
    done = 0

    def enter(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        calls.append(_finite((args, kwargs)))  # now, as some modules write over their inputs

    def leave(module: nn.Module, args: tuple[Any, ...], out: Any) -> None:
        nonlocal done
        done += 1
        if calls.pop() and not _finite(out):
            findings.append((done, _described(module, names[module], out)))

    names = {module: name for name, module in model.named_modules()}
    with _hooked(model, enter, leave):
        yield


@contextlib.contextmanager
def _hooked(
    model: nn.Module, enter: Callable[..., None], leave: Callable[..., None]
) -> Iterator[None]:
    """Calls functions before and after the forward of each module; buffers are put back at the end."""
    buffers = [(each, each.clone()) for each in model.buffers()]
    handles = []
    for module in model.modules():
        handles.append(module.register_forward_pre_hook(enter, with_kwargs=True))
        handles.append(module.register_forward_hook(leave))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for buffer, value in buffers:
            buffer.copy_(value)


def _described(module: nn.Module, name: str, out: Any) -> str:
    values = torch.cat([each.detach().flatten().float() for each in _tensors(out)])
    kind = "nan" if values.isnan().any() else "inf"
    named = f"'{name}', a {type(module).__name__}" if name else "the model itself"
    own = [key for key, each in module.named_buffers(recurse=False) if not _finite(each)]
    state = f", whose {_listed(own)} is not finite" if own else ""
    return f"the first layer with finite inputs and {kind} in its outputs is {named}{state}"


def _finite(values: Any) -> bool:
    return all(bool(each.isfinite().all()) for each in _tensors(values))


def _tensors(values: Any) -> Iterator[Tensor]:
    """The tensors in something that a module takes or returns."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, dict):
        yield from _tensors(list(values.values()))
    elif isinstance(values, list | tuple):
        for each in values:
            yield from _tensors(each)


def _listed(names: list[str]) -> str:
    shown = ", ".join(f"'{name}'" for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
