"""The bounds of the network and of its layers, over training."""

__all__ = ["bounds"]

from collections.abc import Iterator

from torch import nn

from ..bounds import Bound
from ..records import Record
from ..training import Step
from ._registry import Recorder, registry


@registry.register
def bounds() -> Recorder:
    """Builds the recorder of proved bounds.

    Yields `bound/network`, then `bound/layer` for each layer that the network composes: only
    `nn.Sequential` is opened, so that the product over layers is the bound of the network.
    Details are the qualified name of the layer and the rule that gives its bound.
    """

    def record(step: Step) -> Iterator[Record]:
        when = {"step": step.index, "epoch": step.epoch}
        network, program = step.certificate.bound, step.certificate.program
        yield Record("bound/network", network.value, "1", **when)
        if program is None:  # never of a certificate that was just proved
            return
        for name, bound in _layers(program, network):
            details = {"layer": name, "rule": bound.rule}
            yield Record("bound/layer", bound.value, "1", details=details, **when)

    return record


def _layers(module: nn.Module, bound: Bound, prefix: str = "") -> Iterator[tuple[str, Bound]]:
    """Layers by qualified name, with the part of the derivation that is about them."""
    if not isinstance(module, nn.Sequential) or len(bound.parts) != len(module):
        yield prefix, bound
        return
    for (name, child), part in zip(module.named_children(), bound.parts, strict=True):
        yield from _layers(child, part, f"{prefix}.{name}" if prefix else name)
