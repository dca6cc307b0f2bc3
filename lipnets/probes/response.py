"""Whether the frequencies of a corruption, and of the network's gradients, explain what it does.

The linear response: a small change δ of an image changes the logits by Jδ.  If the coefficients of δ
at different frequencies are not correlated, with each other and with the image,
E ‖Jδ‖² = Σ_ω Σ_{c,c'} S_{cc'}(ω) G_{c'c}(ω), with the spectra S of δ and G of the gradients.
"""

__all__ = ["response"]

from collections.abc import Iterator, Sequence

import torch
from scipy.stats import rankdata
from torch import Tensor

from ..data import corruptions as catalogue
from ..metrics import correct
from ..records import Record
from ._jacobians import jacobians, spectra
from ._registry import Probe, presets, registry
from .invariants import Pairs
from .subject import Subject

presets(
    "response",
    quick={"severities": (3,), "limit": 32},
    full={"severities": (1, 2, 3, 4, 5), "limit": 300},
)


@registry.register
def response(
    names: Sequence[str] | None = None,
    severities: Sequence[int] = (1, 3, 5),
    limit: int | None = 100,
    seed: int = 0,
) -> Probe:
    """Builds the probe of the linear response to corruptions.

    For each corruption and severity it yields `response`, the mean ‖Δf‖² that was measured; details
    are the `corruption`, the `severity`, what was `predicted` from spectra alone, what the gradient at each
    image gives for its own change, `linear`, the `accuracy` and its `drop`, and the mean squared
    ℓ2 `length` of changes, of images whose outputs are finite.  Where `linear` is right and `predicted`
    is not, the corruption is tied to the image; where both are wrong, the network is not linear at that
    distance.

    `response_correlation` is Spearman's rank correlation over corruptions of the prediction with the
    measurement, `of="change"`, and with the drop, `of="drop"`; with fewer than 3 there is none.

    Arguments:
        names: The corruptions; by default all of `lipnets.data.corruptions` that apply.
        severities: The severities, from 1 to 5.
        limit: The number of images, evenly spaced; None for all.
        seed: Which draw of the noise.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        if len(subject.shape) != 3:
            return
        subject = subject.sample(limit).finite()
        gains, gradients = _gains(subject)
        if not len(gradients):
            yield subject.record(
                "response_skipped", 1.0, "1", says="no gradient reaches images through this network"
            )
            return
        right = correct(subject.logits, subject.labels)
        chosen = catalogue.applicable(subject.shape[0]) if names is None else names
        cells = [(name, severity) for name in chosen for severity in severities]
        pairs = Pairs(subject)
        found: list[tuple[float, float, float]] = []
        for name, severity in subject.track(cells, "responses"):
            images = catalogue.corrupt(subject.images, name, severity, subject.indices, seed)
            logits = subject.run(images)
            pairs.check(images, logits, f"{name} of severity {severity}")
            whole = logits.isfinite().all(dim=1)
            if not whole.any():
                continue
            change = images.double() - subject.images.double()
            measured = float((logits - subject.logits)[whole].square().sum(dim=1).mean())
            predicted = _predicted(change, gains)
            linear = torch.einsum("nkchw,nchw->nk", gradients, change).square().sum(dim=1)[whole]
            stays = correct(logits, subject.labels)
            drop = float(right.double().mean() - stays.double().mean())
            found.append((predicted, measured, drop))
            yield subject.record(
                "response",
                measured,
                "1",
                corruption=name,
                severity=severity,
                predicted=predicted,
                linear=float(linear.mean()),
                accuracy=float(stays.double().mean()),
                drop=drop,
                length=float(change.flatten(1).square().sum(dim=1).mean()),
                seed=seed,
                examples=len(subject),
                kind="measured",
            )
        columns = list(zip(*found, strict=True))
        for of, other in (("change", 1), ("drop", 2)):
            if len(found) < 3 or any(len(set(columns[i])) == 1 for i in (0, other)):
                continue
            ranks = torch.tensor([rankdata(columns[i]).tolist() for i in (0, other)])
            value = float(torch.corrcoef(ranks.double())[0, 1])
            yield subject.record(
                "response_correlation",
                value,
                "1",
                of=of,
                corruptions=len(found),
                rank="Spearman",
                kind="measured",
            )
        yield from pairs.records("corrupted")

    return probe


def _gains(subject: Subject) -> tuple[Tensor, Tensor]:
    """G_{cc'}(ω) = E Σ_k conj(F J_kc) F J_kc', with shape (C, C, H, W), and all gradients."""
    channels, height, width = subject.shape
    gains = torch.zeros(channels, channels, height, width, dtype=torch.complex128)
    found = []
    for _, gradients in jacobians(subject, "gradients"):
        parts = spectra(gradients)
        gains += torch.einsum("nkchw,nkdhw->cdhw", parts.conj(), parts) / len(subject)
        found.append(gradients)
    return gains, torch.cat(found) if found else torch.zeros(0)


def _predicted(change: Tensor, gains: Tensor) -> float:
    """Σ_ω Σ_{cc'} conj(F J_c) δ̂_c (conj(F J_c') δ̂_c')*, in the mean: Parseval's equation for Jδ."""
    parts = spectra(change)
    power = torch.einsum("nchw,ndhw->cdhw", parts, parts.conj()) / len(change)
    return float((gains * power).sum().real)
