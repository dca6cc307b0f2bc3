"""Which frequencies of an image the logits are sensitive to: the spectrum of the Jacobian.

For infinitely small changes this says what the Fourier heat map says for those of some size, of all
frequencies at once and without a wave: |F ∂f_k/∂x|² at a frequency is the square of what the wave of
norm 1 there does to f_k, over its phases.

References:
    | Fourier Sensitivity and Regularization of Computer Vision Models
    | (Krishnamachari, Ng & Foo, 2023) https://arxiv.org/abs/2301.13514
"""

__all__ = ["jacobian"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..data.filters import radial_frequency, ring_means
from ..metrics import predictions
from ..records import Record
from ._jacobians import jacobians, spectra
from ._registry import Probe, presets, registry
from .invariants import require
from .subject import Subject

presets("jacobian", quick={"limit": 48}, full={"limit": 1000})


@registry.register
def jacobian(limit: int | None = 200) -> Probe:
    """Builds the probe of the spectrum of gradients.

    With the orthonormal Fourier transform F, G(ω) = E_x Σ_{c,k} |F ∂f_k/∂x_c|² of the logits f_k, and
    `of="logits"`; and the same of f_y − f_j, the predicted class and the runner-up, `of="margin"`.  Of both
    it yields

    - `jacobian_power`, with Σ_ω G(ω) = E ‖J‖_F² for its value; the detail `power` holds the means
      of G over the rings of `lipnets.data.filters`, which have `counts` frequencies, `shape` these
      over their sum, `map` all of G(ω) with frequency 0 in the middle, and `limit` what is proved of the
      value: min(K, C H W) L², or the mean of the squared slopes of margins;
    - `jacobian_centroid`, the mean frequency, weighted with G;
    - `jacobian_high_ratio`, the power above ¼ cycle per pixel over that below;

    and `image/jacobian_centroid`, that of the margin of each image.

    Arguments:
        limit: The number of images, evenly spaced; None for all.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        if len(subject.shape) != 3:
            return
        subject = subject.sample(limit)
        height, width = subject.shape[-2:]
        maps = {of: torch.zeros(height, width, dtype=torch.float64) for of in ("logits", "margin")}
        energies = {of: torch.zeros(len(subject), dtype=torch.float64) for of in maps}
        each = torch.zeros(len(subject), height, width, dtype=torch.float64)
        limits = _limits(subject)
        top, second = _top_two(subject)
        seen, closest = 0, 0.0
        for chosen, gradients in jacobians(subject, "gradients"):
            rows = torch.arange(len(gradients))
            margin = gradients[rows, top[chosen]] - gradients[rows, second[chosen]]
            for of, parts in (("logits", gradients), ("margin", margin[:, None])):
                power = spectra(parts).abs().square().sum(dim=(1, 2))  # (B, H, W)
                energies[of][chosen] = parts.flatten(1).square().sum(dim=1)
                closest = max(closest, _check(subject, chosen, power, energies[of], limits, of))
                maps[of] += power.sum(dim=0) / len(subject)
                if of == "margin":
                    each[chosen] = power
            seen += len(gradients)
        if not seen:
            yield subject.record(
                "jacobian_skipped", 1.0, "1", says="no gradient reaches images through this network"
            )
            return
        for of, power in maps.items():
            if of == "margin" and subject.certificate.vacuous:
                continue
            limit_of = None if limits is None else float(limits[of].mean())
            yield from _records(subject, of, power, float(energies[of].mean()), limit_of)
        centroids = _centroids(each)
        yield subject.column("jacobian_centroid", centroids, "cycles per image")
        if subject.proved:
            yield subject.record(
                "check/jacobian",
                closest,
                "1",
                2 * len(subject),
                says="spectra of gradients have the energy of these, and no more than is proved: "
                "‖J‖_F² ≤ min(K, d) L², ‖∇(f_y − f_j)‖ ≤ its slope; closest: the largest share",
            )

    return probe


def _limits(subject: Subject) -> dict[str, Tensor] | None:
    """What is proved of ‖J‖_F² and of ‖∇(f_y − f_j)‖² at each image, with shape (N,)."""
    certificate = subject.proved
    if not certificate:
        return None
    rank = min(subject.logits.shape[1], math.prod(subject.shape))
    whole = torch.full((len(subject),), rank * certificate.lipschitz**2, dtype=torch.float64)
    top, second = _top_two(subject)
    return {"logits": whole, "margin": certificate.slopes[top, second].double().cpu().square()}


def _top_two(subject: Subject) -> tuple[Tensor, Tensor]:
    """The predicted class of each image and the runner-up; where nothing is predicted, class 0."""
    top = predictions(subject.logits).clamp(min=0)
    rest = subject.logits.nan_to_num(nan=-math.inf).scatter(1, top[:, None], -math.inf)
    return top, rest.argmax(dim=1)


def _check(
    subject: Subject,
    chosen: slice,
    power: Tensor,
    energies: Tensor,
    limits: dict[str, Tensor] | None,
    of: str,
) -> float:
    """How close energies come to what is proved of them; spectra should have the same."""
    found = energies[chosen]
    lost = (power.sum(dim=(1, 2)) - found).abs() / (1e-300 + found)
    names = subject.indices[chosen].tolist()
    worst = int(lost.argmax())
    require(
        float(lost[worst]) <= 1e-9 or float(found[worst]) < 1e-200,
        law="the Fourier coefficients of a gradient have the energy of the gradient",
        came=f"at test image {names[worst]} they are off by {lost[worst]:.3g}, relatively",
    )
    if limits is None:
        return 0.0
    limit = limits[of][chosen]
    over = found - limit * (1 + 1e-9)
    worst = int(over.argmax())
    require(
        float(over[worst]) <= 1e-12,
        law="the energy of gradients is at most min(K, d) L², and that of a margin its slope squared",
        came=f"at test image {names[worst]} that of the {of} is {found[worst]:.9g}, above "
        f"{limit[worst]:.9g}",
    )
    return float((found / limit.where(limit > 0, 1.0)).max())


def _records(
    subject: Subject, of: str, power: Tensor, energy: float, limit: float | None
) -> Iterator[Record]:
    """What a map of power comes to."""
    means, counts = ring_means(power)
    total = float(means.sum())
    require(
        math.isclose(float((means * counts).sum()), energy, rel_tol=1e-9, abs_tol=1e-200),
        law="rings of frequencies have together the energy of the gradients",
        came=f"they have {float((means * counts).sum()):.9g}, not {energy:.9g}",
    )
    details = {"of": of, "kind": "measured", "examples": len(subject)}
    yield subject.record(
        "jacobian_power",
        energy,
        "1",
        power=means.tolist(),
        counts=counts.tolist(),
        shape=(means / total if total > 0 else means).tolist(),
        map=torch.fft.fftshift(power).tolist(),
        limit=limit,
        **details,
    )
    center = float(_centroids(power[None])[0])
    unit = "cycles per image"
    yield subject.record("jacobian_centroid", center, unit, len(subject), of=of, kind="measured")
    radius = radial_frequency(*power.shape) / min(power.shape)
    high = float(power[radius > 0.25].sum())
    low = float(power[radius <= 0.25].sum())
    if low > 0:
        yield subject.record("jacobian_high_ratio", high / low, "1", above=0.25, **details)


def _centroids(power: Tensor) -> Tensor:
    """Mean frequencies in cycles per image, weighted with power (N, H, W); 0 without any."""
    radius = radial_frequency(*power.shape[-2:])
    total = power.sum(dim=(1, 2))
    return (power * radius).sum(dim=(1, 2)) / total.where(total > 0, 1.0)
