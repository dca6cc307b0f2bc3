"""The gain of convolutions per spatial frequency, over training."""

__all__ = ["frequencies"]

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ..bounds import Shape
from ..dynamics import Convolution, Followed, band_edges, follow
from ..dynamics.leading import start_vectors
from ..dynamics.terms import decomposed
from ..records import Record
from ..training import Step
from ._registry import Recorder, registry

_FINALISTS = 4  # frequencies of a band that are decomposed, of the largest estimates


@registry.register
def frequencies(model: nn.Module, shape: Shape, bands: int = 4) -> Recorder:
    """Builds the recorder of what convolutions do to each spatial frequency.

    For each convolution of torch.nn, with the weight in use, it yields `gain/band`, the largest norm of
    the symbol over the frequencies of a band, with `low` and `high` in cycles per pixel, and
    `gain/peak`, the frequency at which it is largest.  With a stride, a frequency is the lowest of its
    aliases; bands that have no frequency on the torus of the image are left out.

    Arguments:
        model: The model that is trained, of which layers and sizes of images are read now; weights are
            those of `Step.trained` or `Step.model`, by the names of layers.
        shape: The shape of an image, (C, H, W).
        bands: The number of bands up to 1/2 cycles per pixel, the last with the corners beyond.
    """
    edges = band_edges(bands, len(shape) - 1)
    convolutions = [
        each for each in follow(model, shape, effective=True) if isinstance(each.lens, Convolution)
    ]

    def record(step: Step) -> Iterator[Record]:
        when = {"step": step.index, "epoch": step.epoch}
        source = step.model if step.trained is None else step.trained
        for each in convolutions:
            layer = source.get_submodule(each.name)
            here = Followed(each.name, layer, each.lens, each.role)  # pyright: ignore
            yield from _gains(here, edges, when)

    return record


@torch.no_grad()
def _gains(followed: Followed, edges: list[float], when: dict[str, Any]) -> Iterator[Record]:
    lens, weight = followed.lens, followed.read().detach()
    if not isinstance(lens, Convolution):
        return
    estimates = lens.norms(weight).cpu()
    details = {"layer": followed.name, "role": followed.role}
    best, peak = -1.0, 0.0
    for low, high in pairwise(edges):
        inside = lens.within(low, high).nonzero()[:, 0]
        if not len(inside):
            continue
        ranked = estimates[inside].argsort(descending=True, stable=True)
        places = lens.folded(inside[ranked[: 2 * _FINALISTS]]).unique()  # of pairs ±θ, one
        norms = torch.cat([_norm(lens.matrices(weight, place[None])) for place in places])
        value = norms.max().item()
        if value > best:
            highest = places[norms.argmax().cpu()] % len(lens.cycles)
            best, peak = value, lens.cycles[highest].item()
        band = {**details, "low": low, "high": high}
        yield Record("gain/band", value, "1", details=band, **when)
    yield Record("gain/peak", peak, "cycles/pixel", details=details, **when)


def _norm(matrix: Tensor) -> Tensor:
    """The norm of a matrix (1, m, n), in float64, with shape (1,)."""
    return decomposed(matrix, start_vectors(matrix)).value
