"""The certificate algebra: upper bounds on Lipschitz constants, derived by rules.

The trusted kernel of lipnets is this file, `linalg.py`, `convolutions.py`, `rules.py`, `certify/`
and the functions marked `@rule` beside the layers they bound.  A certificate is sound if they are:
a wrong parametrization, initialization or training run can make it worse, never false.

All constants are for the ℓ2 norm of the flattened example, in real arithmetic, of the function
that the stored weights define.
"""

__all__ = [
    "Bound",
    "NotCertifiedError",
    "Proved",
    "Shape",
    "chain",
    "class_name",
    "fake_forward",
    "forward_owner",
    "lipschitz",
    "output_shape",
    "refuse_inplace",
    "refuse_unknown",
    "remembering",
    "rule",
    "rule_of",
    "without_autocast",
]

import logging
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode
from torch.nn.modules import module as torch_module
from torch.nn.utils import parametrize

from .linalg import show

Shape = tuple[int, ...]  # of one example: the batch dimension is left out


class NotCertifiedError(TypeError):
    """No proof covers this module as it stands: a certificate is refused rather than guessed."""


@dataclass(frozen=True)
class Bound:
    """A number L with ‖f(x) − f(y)‖₂ ≤ L ‖x − y‖₂ for all x and y, and how it was derived.

    Arguments:
        value: The number L, finite and not negative.
        rule: The theorem that gives it, in a few words.
        parts: The bounds it was derived from.

    Raises:
        NotCertifiedError: If the value is negative, infinite or not a number.
    """

    value: float
    rule: str
    parts: tuple["Bound", ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.value < math.inf:  # also refuses nan
            raise NotCertifiedError(f"The bound of {self.rule!r} is {self.value}, not a number.")

    def __str__(self) -> str:
        lines = [f"{show(self.value):<11} {self.rule}"]
        lines += [f"    {line}" for part in self.parts for line in str(part).splitlines()]
        return "\n".join(lines)


Rule = Callable[[Any, Shape], Bound]  # (module, shape) -> bound, with `module` narrowed to its type
R = TypeVar("R", bound=Callable[..., Bound])
_RULES: dict[type[nn.Module], tuple[Callable[..., Any], Rule]] = {}  # with the forward it describes


def rule(*owners: type[nn.Module]) -> Callable[[R], R]:
    """Registers the decorated function as the bound of the `forward` that `owners` define.

    The function takes a module and the shape of an example, without batch dimension, and returns a
    `Bound`; its docstring is its proof.

    Raises:
        ValueError: If one of the owners has a rule, or defines no `forward` of its own.
    """

    def register(fn: R) -> R:
        for owner in owners:
            if owner in _RULES:
                raise ValueError(f"{owner.__name__} already has a rule, {_RULES[owner][1]}.")
            if "forward" not in vars(owner):
                raise ValueError(
                    f"{owner.__name__} inherits its forward: bound the class it is of."
                )
            _RULES[owner] = (vars(owner)["forward"], fn)
        return fn

    return register


@torch.no_grad()
def lipschitz(module: nn.Module, shape: Shape) -> Bound:
    """Bounds the Lipschitz constant of `module`, on examples of shape `shape`.

    Arguments:
        module: The module, in evaluation mode.
        shape: The shape of one example, without batch dimension.

    Returns:
        The bound, which prints as its own derivation.

    Raises:
        NotCertifiedError: If no rule covers the module; if it is in training mode, hooked or
            patched; if a weight is not finite; or if its configuration has no proved constant.
    """
    known, key = _PROVED.get(), (id(module), tuple(shape))
    if known is not None and key in known:
        return known[key][0]
    find = rule_of(module)
    with without_autocast(module):
        bound = find(module, shape)
    if known is not None:
        known[key] = (bound, module)  # the module lives as long: its id is its own
    return bound


Proved = dict[tuple[int, Shape], tuple[Bound, nn.Module]]
_PROVED: ContextVar[Proved | None] = ContextVar("_PROVED", default=None)


@contextmanager
def remembering(proved: Proved) -> Iterator[None]:
    """A context in which each module is bounded once, and its bound put in `proved`.

    For modules that do not change as long as `proved` is used.
    """
    before = _PROVED.set(proved)
    try:
        yield
    finally:
        _PROVED.reset(before)


def rule_of(module: nn.Module) -> Rule:
    """The rule that bounds the forward of a module.

    A rule describes a forward, not a class: a subclass that overrides forward loses it.

    Raises:
        NotCertifiedError: If there is none, or if the module is in training mode, hooked or patched,
            or has weights that are not finite.
    """
    owner = forward_owner(type(module))
    if owner not in _RULES:
        if hasattr(module, "_orig_mod"):
            raise NotCertifiedError(
                "What torch.compile returns is not the module itself: certify that, or compile it in "
                "place by module.compile()."
            )
        raise NotCertifiedError(
            f"No rule bounds {owner.__name__}.forward: write one with @lipnets.rule, "
            "or build the model of modules that have one."
        )
    forward, bound = _RULES[owner]
    refuse_unknown(module, owner, forward)
    return bound


def forward_owner(cls: type[nn.Module]) -> type[nn.Module]:
    """The class that defines the forward of the instances of `cls`."""
    return next(each for each in cls.__mro__ if "forward" in vars(each))


def chain(module: nn.Module) -> list[tuple[str, nn.Module]]:
    """Names and modules that a network applies one after another; none if it does something else."""
    if isinstance(module, nn.Sequential) and forward_owner(type(module)) is nn.Sequential:
        return list(module._modules.items())  # named_children would skip repetitions
    return []


def refuse_unknown(module: nn.Module, owner: type[nn.Module], forward: Callable[..., Any]) -> None:
    """Refuses a module that computes something else than `forward`, defined by its class `owner`.

    Raises:
        NotCertifiedError: If it is in training mode, hooked or patched, or has weights that are
            not finite real numbers.
    """
    for complaint in _complaints(module, owner, forward):
        raise NotCertifiedError(f"{type(module).__name__} {complaint}")


def output_shape(module: nn.Module, shape: Shape) -> Shape:
    """Shape of `module(x)` for an example `x` of shape `shape`, without computing it.

    Raises:
        ValueError: If the module does not take examples of this shape.
    """
    return tuple(fake_forward(module, shape).shape[1:])


def fake_forward(module: nn.Module, shape: Shape) -> Tensor:
    """`module(x)` for a batch of one example of shape `shape`, without computing its values.

    Raises:
        ValueError: If the module does not take examples of this shape.
    """
    try:
        fake = FakeTensorMode(allow_non_fake_inputs=True)
        with without_autocast(module), fake, torch.no_grad(), _silent():
            # The dtype of a weight, for modules that refuse to mix dtypes.
            weight = next((p for p in module.parameters() if p.is_floating_point()), None)
            example = torch.empty(1, *shape, dtype=None if weight is None else weight.dtype)
            return module(example)
    except (RuntimeError, ValueError, IndexError) as error:
        name = class_name(module)
        raise ValueError(f"{name} does not take examples of shape {shape}: {error}") from error


@contextmanager
def _silent() -> Iterator[None]:
    """Keeps torch from logging the traceback of an error that is caught and told in a sentence."""
    logger = logging.getLogger("torch._subclasses.fake_tensor")
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def without_autocast(module: nn.Module) -> torch.autocast:
    """A context in which `module` computes in the dtypes of its tensors."""
    device = next((tensor.device.type for tensor in module.parameters()), "cpu")
    return torch.autocast("cpu" if device == "meta" else device, enabled=False)


def class_name(module: nn.Module) -> str:
    """The name of the class of a module, whether or not tensors of it are parametrized."""
    cls = type(module)
    return (cls.__bases__[0] if parametrize.is_parametrized(module) else cls).__name__


def refuse_inplace(module: nn.Module) -> None:
    """Refuses modules that overwrite their input, for rules of modules that use it twice.

    Raises:
        NotCertifiedError: If a module works in place: x + f(x) with an f that overwrites x is
            another function.
    """
    for name, child in module.named_modules():
        if getattr(child, "inplace", False):
            raise NotCertifiedError(
                f"{class_name(module)} uses its input more than once, and '{name}' overwrites "
                "it: build that module with inplace=False."
            )


def _complaints(
    module: nn.Module, owner: type[nn.Module], forward: Callable[..., Any]
) -> Iterator[str]:
    """What about this module its rule does not know, as ends of sentences."""
    if any(child.training for child in module.modules()):
        yield "is in training mode, or a module of it is: call .eval() before certifying."
    if vars(owner)["forward"] is not forward or "forward" in vars(module):
        yield "has a patched forward, which its rule does not know."
    if _hooked(module):
        yield "carries forward hooks, which its rule does not know: remove them."
    if names := _overridden(module, owner):
        yield (
            f"overrides {', '.join(names)} of {owner.__name__}, whose rule does not know them: "
            "give the class a forward and a rule of its own."
        )
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if tensor.is_meta:
            yield f"has no weights yet: '{name}' is on the meta device."
        elif tensor.is_complex() or tensor.is_quantized:
            yield f"holds '{name}' in {tensor.dtype}, for which there is no rule."
        elif not tensor.isfinite().all():
            yield f"holds values in '{name}' that are not finite."


def _hooked(module: nn.Module) -> bool:
    hooks = [module._forward_hooks, module._forward_pre_hooks]
    hooks += [torch_module._global_forward_hooks, torch_module._global_forward_pre_hooks]
    return any(hooks)


# What a subclass may define anew without changing the function that its instances compute.
_HARMLESS = {
    *("__init__", "__doc__", "__module__", "__annotations__", "__qualname__", "__firstlineno__"),
    *("__static_attributes__", "__dict__", "__weakref__", "__parameters__", "__orig_bases__"),
    *("__repr__", "extra_repr", "reset_parameters", "__constants__", "__deepcopy__"),
    *("__getstate__", "__setstate__", "__classcell__", "__slots__"),
}


def _overridden(module: nn.Module, owner: type[nn.Module]) -> list[str]:
    """Names that `owner.forward` may look up and that this instance, or its class, replaces.

    Parametrized tensors are such names and are let through: rules read them as forward does.
    Torch's own subclasses of `owner`, which its rule was written for, are let through as well.
    """
    cls = type(module)
    below = cls.__mro__[: cls.__mro__.index(owner)]
    below = tuple(each for each in below if not each.__module__.startswith("torch.nn.modules."))
    known = set(dir(owner)) | set(vars(owner).get("__annotations__", {}))
    known -= _HARMLESS | set(getattr(module, "parametrizations", ()))
    replaced = {name for ancestor in below for name in vars(ancestor)} & known
    patched = {name for name in vars(module) if callable(getattr(owner, name, None))}
    return sorted(replaced | patched)
