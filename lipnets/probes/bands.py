"""What is proved against perturbations of each band of spatial frequencies."""

__all__ = ["bands"]

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise

import torch

from ..bands import band_constant, waves
from ..metrics import RADII
from ..records import Record
from ._jacobians import jacobians
from ._registry import Probe, presets, registry
from .invariants import require
from .subject import Subject

presets("bands", quick={"edges": (0.125, 0.25), "gradients": 16}, full={"gradients": None})


@registry.register
def bands(
    edges: Sequence[float] = (0.125, 0.25, 0.375),
    radii: Sequence[float] = RADII,
    gradients: int | None = 64,
) -> Probe:
    """Builds the probe of certificates by bands of frequencies: see `lipnets.bands`.

    For each band, and for all frequencies at once, it yields `band_certified_accuracy` at each
    radius, and `band_mean_radius`, the mean of certified radii where wrong ones count as 0.  Details
    are `begin` and `end`, in cycles per pixel: the lower one is in the band, the upper one not.

    Of the Lipschitz budget of a band it yields `band_bound`, what is proved of ‖f(x + δ) − f(x)‖ / ‖δ‖
    for perturbations δ of the band; `band_slope`, the largest ‖J P‖₂ over images, with the Jacobian J
    and the projection P to the band: attained; and `band_ratio`, the slope over the bound.

    Images that are too large for their waves to be written down, or not images, yield nothing.

    Arguments:
        edges: The frequencies between bands, in cycles per pixel, ascending.
        radii: The radii, ℓ2 in pixels of [0, 1].
        gradients: The number of images to take the Jacobian at, evenly spaced; None for all, 0 for none.

    Raises:
        ValueError: If edges do not ascend from above 0.
    """
    if any(low >= high for low, high in pairwise([0.0, *edges])):
        raise ValueError(f"'edges' should ascend from above 0, got {tuple(edges)}.")

    def probe(subject: Subject) -> Iterator[Record]:
        # The corners of the spectrum lie at √½; a band that ends above them is open.
        ends = [0.0, *(edge for edge in edges if edge < math.sqrt(0.5)), 1.0]
        whole = subject.radii
        certificate = subject.proved
        if not certificate or len(subject.shape) != 3 or math.prod(subject.shape) > 4096:
            return
        diameter = math.sqrt(math.prod(subject.shape))
        chosen = [*pairwise(ends), (0.0, 1.0)]
        for low, high in subject.track(chosen, "bands"):
            found = whole
            if (low, high) != (0.0, 1.0):
                confined = certificate.confined_to((low, high))
                found = confined.radii_of(subject.logits, subject.labels)
            behind = (whole.clamp(min=0) - found.clamp(min=0)).max().item()
            require(
                behind <= 1e-9,
                law="a band of frequencies allows no more than all of them",
                came=f"a radius that is smaller by {behind:.3g} for frequencies in [{low}, {high})",
            )
            details = {"begin": low, "end": high, "kind": "proved"}
            mean = found.clamp(0, diameter).mean().item()
            yield subject.record("band_mean_radius", mean, "l2 pixels", len(subject), **details)
            for radius in radii:
                safe = found > radius
                yield subject.share("band_certified_accuracy", safe, radius=radius, **details)
        if gradients != 0:
            yield from _budgets(subject.sample(gradients), chosen)

    return probe


def _budgets(subject: Subject, chosen: Sequence[tuple[float, float]]) -> Iterator[Record]:
    """What is proved of the slope in each band, and what the Jacobian attains of it."""
    program = subject.certificate.program
    if program is None:
        return
    closest = 0.0
    shape = (1, *subject.shape[-2:])  # the channels of an image have the same waves
    bases = {band: waves(shape, band)[0][:, 0].flatten(1) for band in chosen}  # (m, H W)
    slopes = dict.fromkeys(chosen, 0.0)
    for _, jacobian in jacobians(subject, "gradients"):
        rows = jacobian.flatten(3)  # (B, K, C, H W)
        for band, basis in bases.items():
            if len(basis):
                norms = torch.linalg.matrix_norm((rows @ basis.mT).flatten(2), ord=2)
                slopes[band] = max(slopes[band], float(norms.max()))
    for band, slope in slopes.items():
        bound = subject.certificate.lipschitz
        if band != (0.0, 1.0):
            bound = min(bound, band_constant(program, subject.shape, band))
        require(
            slope <= bound * (1 + 1e-9),
            law="no slope within a band of frequencies is above the bound of the band",
            came=f"one in [{band[0]}, {band[1]}) is {slope:.9g}, above {bound:.9g}",
        )
        ratio = slope / bound if bound else 0.0
        closest = max(closest, ratio)
        for name, value, kind in (
            ("bound", bound, "proved"),
            ("slope", slope, "attained"),
            ("ratio", ratio, "attained"),
        ):
            yield subject.record(
                f"band_{name}",
                value,
                "1",
                kind=kind,
                begin=band[0],
                end=band[1],
                examples=len(subject),
            )
    yield subject.record(
        "check/bands",
        closest,
        "1",
        len(subject) * len(chosen),
        says="no slope within a band of frequencies is above the bound of the band; closest: the "
        "largest ratio",
    )
