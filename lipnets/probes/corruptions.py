"""Accuracy on corrupted images."""

__all__ = ["corruptions"]

import base64
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from ..data import Split, published
from ..data import corruptions as catalogue
from ..metrics import correct
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs
from .shifting import baseline_errors, mce, read_records
from .subject import Subject

_AT_ONCE = 256  # images that are corrupted together
_SHOWN = 3  # the severity of the images that are shown


@registry.register
def corruptions(
    names: Sequence[str] | None = None,
    severities: Sequence[int] = (1, 2, 3, 4, 5),
    radius: float = 36 / 255,
    limit: int | None = 1000,
    seed: int = 0,
    baseline: Sequence[Record] | str | Path | None = None,
    digits: bool = True,
) -> Probe:
    """Builds the probe of what noise, blur and the like do to accuracy.

    For each corruption and severity it yields `corrupted_accuracy`, the share of corrupted images
    that are classified right, and `corrupted_certified_accuracy`, of those certified to stay so
    within a radius of the corrupted image.  Details are the `corruption`, its `family`, the
    `severity`, what the share is of `clean` images, the mean ℓ2 `distance` between images and their
    corrupted versions, and the `source`: "official files" of CIFAR-10-C and CIFAR-100-C where the
    data directory has them, else "computed".

    Then, over all severities:

    - `corruption_mean`, the mean share that is right, its `error` being one minus that, unnormalised,
      and `corruption_certified_mean`, the mean certified share, by `family`: of "all" main
      corruptions, of each family of these, of the "extra" ones and of "frost_proc", with the
      `corruptions` they are over and those that are `missing`.  Without the official files, frost
      is: `frost_proc` is another corruption, and in no mean but its own.
    - `mce` and `relative_mce`, if there is a baseline, over the main corruptions that both have.
    - `corruption_example`, an image at severity 3, as bytes in base 64.
    - The column `image/right_when_corrupted`: the share of main corruptions an image is right under.

    For grey images of "mnist", `mnist_c_accuracy` and `mnist_c_certified_accuracy` are those under each
    corruption of MNIST-C, and `mnist_c_mean` is the mean share over the fifteen.

    Arguments:
        names: The corruptions; by default all of `lipnets.data.corruptions` that apply, and frost.
        severities: The severities, from 1 to 5.
        radius: The radius, ℓ2 in pixels of [0, 1].
        limit: The number of images, evenly spaced; None for all.
        seed: Which draw of the noise.
        baseline: The records of another network, or the run directory or file that has them.
        digits: Whether to do those of MNIST-C where they apply.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        data = str(subject.provenance.get("data", ""))
        pairs = Pairs(subject)
        grids: dict[tuple[str, int], tuple[Tensor, Tensor]] = {}
        cells = [
            (name, severity)
            for name in _chosen(subject, data, names)
            for severity in sorted(set(severities))
        ]
        for name, severity in subject.track(cells, "corruptions"):
            files = published.cifar_c(data, name, severity, subject.data_dir, subject.indices)
            images = _images(
                subject,
                files,
                lambda x, at, name=name, severity=severity: catalogue.corrupt(
                    x, name, severity, at, seed
                ),
            )
            right, safe, moved = _measure(subject, pairs, images, radius, f"{name} of {severity}")
            grids[name, severity] = right, safe
            details = {
                "corruption": name,
                "family": catalogue.family(name),
                "severity": severity,
                "seed": seed,
                "distance": moved,
                "source": "computed" if files is None else "official files",
            }
            yield from _cell(subject, "corrupted", right, safe, radius, details)
            if severity == _SHOWN:
                yield _example(subject, images, details)
        yield from _means(subject, grids, radius)
        if baseline is not None:
            yield from _relative(subject, grids, baseline)
        if digits and data == "mnist" and subject.shape[0] == 1:
            yield from _digits(subject, pairs, radius, seed)
        yield from pairs.records("corrupted")

    return probe


presets(
    "corruptions",
    quick={
        "names": (
            *(
                "gaussian_noise",
                "impulse_noise",
                "defocus_blur",
                "motion_blur",
                "fog",
                "brightness",
            ),
            *("contrast", "jpeg_compression", "frost_proc"),
        ),
        "severities": (1, 3, 5),
        "limit": 100,
        "digits": False,
    },
    full={"limit": None},
)


def _chosen(subject: Subject, data: str, names: Sequence[str] | None) -> list[str]:
    """The corruptions to do, main ones first; frost only where its files are."""
    if names is not None:
        return list(dict.fromkeys(names))
    known = set(catalogue.applicable(subject.shape[0]))
    if published.cifar_c(data, "frost", 1, subject.data_dir, subject.indices[:1]) is not None:
        known.add("frost")
    order = [*catalogue.MAIN, *catalogue.EXTRA, *catalogue.STAND_INS.values()]
    return [name for name in order if name in known]


def _images(
    subject: Subject, files: Split | None, corrupt: Callable[[Tensor, Tensor], Tensor]
) -> Tensor:
    """Corrupted versions of all images: from files whose labels are the same, or computed."""
    if files is not None:
        wrong = (files.labels != subject.labels).nonzero().flatten()
        if len(wrong):
            raise ValueError(
                "Published images should be those of the test split, in its order; the label of "
                f"image {int(subject.indices[wrong[0]])} is another."
            )
        return files.images
    batches = zip(subject.images.split(_AT_ONCE), subject.indices.split(_AT_ONCE), strict=True)
    return torch.cat([corrupt(batch, indices) for batch, indices in batches])


def _measure(
    subject: Subject, pairs: Pairs, images: Tensor, radius: float, what: str
) -> tuple[Tensor, Tensor, float]:
    """Which images are right, which are certified, and how far they have moved on average."""
    logits = subject.run(images)
    pairs.check(images, logits, what)
    radii = subject.certificate.radii_of(logits, subject.labels)
    moved = (images.double() - subject.images.double()).flatten(1).norm(dim=1)
    return correct(logits, subject.labels), radii > radius, float(moved.mean())


def _cell(
    subject: Subject, name: str, right: Tensor, safe: Tensor, radius: float, details: dict[str, Any]
) -> Iterator[Record]:
    clean = float(correct(subject.logits, subject.labels).double().mean())
    yield subject.share(f"{name}_accuracy", right, clean=clean, kind="measured", **details)
    if subject.proved:
        clean = float((subject.radii > radius).double().mean())
        details = {**details, "clean": clean, "radius": radius, "kind": "proved"}
        yield subject.share(f"{name}_certified_accuracy", safe, **details)


def _means(
    subject: Subject, grids: dict[tuple[str, int], tuple[Tensor, Tensor]], radius: float
) -> Iterator[Record]:
    groups = {"all": catalogue.MAIN, **catalogue.FAMILIES, "extra": catalogue.EXTRA}
    groups |= {name: (name,) for name in catalogue.STAND_INS.values()}
    for group, members in groups.items():
        cells = [cell for cell in grids if cell[0] in members]
        done = [name for name in members if any(name == cell[0] for cell in cells)]
        if not cells:
            continue
        details = {
            "family": group,
            "corruptions": done,
            "missing": [name for name in members if name not in done],
            "severities": sorted({severity for _, severity in cells}),
        }
        right, safe = (
            torch.stack([grids[cell][part] for cell in cells]).double().mean(dim=0)
            for part in (0, 1)
        )
        if group == "all":
            yield subject.column("right_when_corrupted", right, "fraction")
        order = subject.indices.argsort()  # sums are the same in any order of images
        right, safe = right[order], safe[order]
        yield subject.mean(
            "corruption_mean",
            right,
            "fraction",
            error=float(1 - right.mean()),
            clean=float(correct(subject.logits, subject.labels).double().mean()),
            kind="measured",
            **details,
        )
        if subject.proved:
            clean = float((subject.radii > radius).double().mean())
            details |= {"clean": clean, "radius": radius, "kind": "proved"}
            yield subject.mean("corruption_certified_mean", safe, "fraction", **details)


def _relative(
    subject: Subject,
    grids: dict[tuple[str, int], tuple[Tensor, Tensor]],
    baseline: Sequence[Record] | str | Path,
) -> Iterator[Record]:
    """Errors over those of another network."""
    named = isinstance(baseline, str | Path)
    records = read_records(baseline) if named else list(baseline)
    theirs, clean = baseline_errors(records, subject.provenance)
    ours = {cell: 1 - float(right.double().mean()) for cell, (right, _) in grids.items()}
    names = [
        name
        for name in catalogue.MAIN
        if any(name == each for each, _ in ours) and any(name == each for each, _ in theirs)
    ]
    wrong = 1 - float(correct(subject.logits, subject.labels).double().mean())
    for what, cleans in (("mce", (0.0, 0.0)), ("relative_mce", (wrong, clean))):
        ratio = mce(ours, theirs, names, cleans)
        if ratio.ratios:
            yield subject.record(
                what,
                ratio.mean,
                "1",
                kind="measured",
                baseline=str(baseline) if named else "records",
                ratios=ratio.ratios,
                undefined=list(ratio.undefined),
                missing=[name for name in catalogue.MAIN if name not in names],
            )


def _digits(subject: Subject, pairs: Pairs, radius: float, seed: int) -> Iterator[Record]:
    """The corruptions of MNIST-C."""
    shares = {}
    for name in subject.track(catalogue.mnist_c.MNIST_C, "MNIST-C"):
        files = published.mnist_c(name, subject.data_dir, subject.indices)
        images = _images(
            subject,
            files,
            lambda x, at, name=name: catalogue.mnist_c.corrupt(x, name, at, seed),
        )
        right, safe, moved = _measure(subject, pairs, images, radius, f"{name} of MNIST-C")
        shares[name] = float(right.double().mean())
        source = "computed" if files is None else "official files"
        details = {"corruption": name, "seed": seed, "distance": moved, "source": source}
        yield from _cell(subject, "mnist_c", right, safe, radius, details)
    drawn = [name for name in shares if name != "identity"]
    mean = fmean(shares[name] for name in drawn)
    details = {"kind": "measured", "corruptions": drawn, "error": 1 - mean}
    yield subject.record("mnist_c_mean", mean, "fraction", len(subject), **details)


def _example(subject: Subject, images: Tensor, details: dict[str, Any]) -> Record:
    """The first image under a corruption, as it looks."""
    first = int(subject.indices.argmin())
    image, original = images[first], subject.images[first]
    levels = (image.clamp(0, 1) * 255).round().byte().contiguous()
    moved = float((image.double() - original.double()).norm())
    return subject.record(
        "corruption_example",
        moved,
        "l2 pixels",
        1,
        index=int(subject.indices[first]),
        shape=list(levels.shape),
        pixels=base64.b64encode(levels.cpu().numpy().tobytes()).decode(),
        kind="measured",
        **{key: details[key] for key in ("corruption", "family", "severity", "source")},
    )
