"""The Fourier heat map: what a plane wave of each frequency does to a network.

References:
    | A Fourier Perspective on Model Robustness in Computer Vision (Yin et al., 2019)
    | https://arxiv.org/abs/1906.08988

What differs: a wave is added and subtracted, with two phases, and what it does is averaged, since a
network may be blind to a phase; images are not clipped; and numbers are absolute.
"""

__all__ = ["heatmap"]

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..data.filters import wave_numbers, waves
from ..metrics import correct
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import Pairs, require
from .subject import Subject

_SLACK = 1 + 1e-9  # far above rounding in float64

presets(
    "heatmap",
    quick={"norms": (1.0,), "across": 8, "limit": 12},
    full={"norms": (0.5, 1.0, 2.0, 4.0), "across": None, "limit": 1000},
)


@registry.register
def heatmap(
    norms: Sequence[float] = (0.5, 1.0, 2.0, 4.0),
    across: int | None = 10,
    reach: int | None = None,
    limit: int | None = 16,
) -> Probe:
    """Builds the probe of plane waves, one frequency at a time: x ± v U with ‖U‖ = 1 in each channel.

    The wave is the same in all of the C channels, so that an image moves by v √C.  Of a frequency and
    its opposite one is computed.  For each norm v it yields two maps, averages over images, both
    signs and two phases a quarter of a period apart:

    - `heatmap_error`, the share of images that are then wrong;
    - `heatmap_delta`, the mean change ‖Δf‖ of the logits, where they are finite.

    The value of a record is the mean of its map.  The detail `map` holds a row for each of the `rows`,
    vertical frequencies in cycles per image, with a number for each of the `columns`, horizontal ones;
    `norm` is v, `length` is v √C, `unperturbed` the error without any wave; `limit` is what is proved:
    the share that is not certified at v √C, and L v √C.  The map `rms` of `heatmap_delta` holds the
    roots of means of ‖Δf‖²: of a linear network it does not depend on where its image begins.

    Arguments:
        norms: The norms v of waves in each channel, ℓ2 in pixels of [0, 1].
        across: The frequencies along an axis, at most: each second, third, ... is taken; None for all.
        reach: The highest frequency along an axis, in cycles per image; by default all.
        limit: The number of images, evenly spaced; None for all.
    """

    def probe(subject: Subject) -> Iterator[Record]:
        if len(subject.shape) != 3:
            return
        subject = subject.sample(limit)
        channels, height, width = subject.shape
        step = math.ceil(max(height, width) / (across or max(height, width)))
        rows, columns = (wave_numbers(size, step, reach) for size in (height, width))
        first = [
            (row, column)
            for row in rows
            for column in columns
            if (row % height, column % width) <= (-row % height, -column % width)
        ]
        pairs = Pairs(subject)
        closest = {"delta": 0.0, "error": 0.0}
        for norm in norms:
            found: dict[tuple[int, int], tuple[float, float, float]] = {}
            for row, column in subject.track(first, f"waves of norm {norm:g}"):
                wave = norm * waves(height, width, row, column)
                what = f"a wave of frequency ({row}, {column}) and norm {norm:g}"
                values = _measured(subject, pairs, wave, what)
                for place in ((row, column), _opposite(row, column, height, width)):
                    found[place] = values
            maps = [
                [[found[row, column][i] for column in columns] for row in rows] for i in range(3)
            ]
            length = norm * math.sqrt(channels)
            limits = _check(subject, length, maps, closest)
            details = {
                "norm": norm,
                "length": length,
                "rows": rows,
                "columns": columns,
                "kind": "measured",
            }
            wrong = 1 - float(correct(subject.logits, subject.labels).double().mean())
            error = details | {"map": maps[0], "limit": limits[0], "unperturbed": wrong}
            count = len(subject)
            yield subject.record("heatmap_error", _mean(maps[0]), "fraction", count, **error)
            delta = details | {"map": maps[1], "rms": maps[2], "limit": limits[1]}
            if math.isfinite(_mean(maps[1])):
                yield subject.record("heatmap_delta", _mean(maps[1]), "1", examples=count, **delta)
        yield from pairs.records("wavy")
        if subject.proved:
            cells = len(norms) * len(rows) * len(columns)
            for name, says in (
                ("delta", "a wave changes outputs by L v √C at most, in the mean"),
                ("error", "a wave fools no more images than are not certified at its length"),
            ):
                yield subject.record(
                    f"check/heatmap_{name}",
                    closest[name],
                    "1",
                    cells,
                    says=f"{says}; closest: the largest share of that limit",
                )

    return probe


def _measured(
    subject: Subject, pairs: Pairs, wave: Tensor, what: str
) -> tuple[float, float, float]:
    """The error, the mean of ‖Δf‖ and the root of the mean of ‖Δf‖² over phases, signs and images."""
    images = subject.images.double()
    wrong, changes = [], []
    versions = torch.cat([images + sign * each for each in wave for sign in (1, -1)])
    for moved, logits in zip(
        versions.split(len(images)), subject.run(versions).split(len(images)), strict=True
    ):
        pairs.check(moved, logits, what)
        wrong.append(~correct(logits, subject.labels))
        changes.append((logits - subject.logits).norm(dim=1))
    change = torch.cat(changes)
    change = change[change.isfinite()]  # what is lost is wrong, and has no distance
    error = float(torch.cat(wrong).double().mean())
    return error, float(change.mean()), float(change.square().mean().sqrt())


def _check(
    subject: Subject, length: float, maps: list[list[list[float]]], closest: dict[str, float]
) -> tuple[float, float] | tuple[None, None]:
    """What is proved of the error and of ‖Δf‖, which no cell of a map exceeds."""
    if not subject.proved:
        return None, None
    error = 1 - float((subject.radii > length * _SLACK).double().mean())
    delta = subject.certificate.lipschitz * length
    for name, limit, table, law in (
        ("error", error, maps[0], "waves fool no image that is certified at their length"),
        ("delta", delta, maps[1], "a wave changes outputs by at most L v √C"),
    ):
        most = max(value for row in table for value in row)
        # Float64 logits are rounded, as `Pairs` allows for image by image.
        slack = 1e-9 * (1 + limit + float(subject.logits.norm(dim=1).max()))
        require(
            most <= limit + slack,
            law=law,
            came=f"a map of waves that move images by {length:.6g} holds {most:.6g}, above {limit:.6g}",
        )
        closest[name] = max(closest[name], most / limit if limit else 0.0)
    return error, delta


def _opposite(row: int, column: int, height: int, width: int) -> tuple[int, int]:
    """The frequency of the same waves, as `wave_numbers` names it."""
    return (
        (-row + height // 2) % height - height // 2,
        (-column + width // 2) % width - width // 2,
    )


def _mean(table: list[list[float]]) -> float:
    return math.fsum(value for row in table for value in row) / sum(map(len, table))
