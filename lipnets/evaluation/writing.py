"""The files of an evaluation, each written whole or not at all, the page last."""

__all__ = ["write_comparison", "write_evaluation"]

import csv
import io
import json
import math
import platform
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import lipnets

from ..atomic import write_atomic
from ..records import Record
from ..report import Facts, data_uri, figures, page, png, svg_file
from ..runs import format_records
from .targets import Target

_COLUMNS = ("name", "value", "unit", "count", "low", "high", "kind")
_ORIGIN = ("data", "sha256", "split", "weights", "images", "dtype")  # the same in all records


def write_evaluation(target: Target, records: Sequence[Record]) -> Path:
    """Writes `records.jsonl`, `summary.csv`, `examples.csv`, the figures as PNG and SVG, and the page.

    Figures of the evaluation before that this one does not have are deleted.

    Arguments:
        target: The network, which says where to.
        records: What was found.

    Returns:
        The path of the page, `report.html`.
    """
    drawn = figures(records)
    facts = _facts(target, records)
    files: dict[str, bytes | str] = {
        "records.jsonl": format_records(records),
        "summary.csv": _csv(_summary(records)),
        "examples.csv": _csv(_examples(records)),
        **_pictures(drawn),
        "report.html": page(records, facts, drawn),
    }
    return _write(target.out, files)


def write_comparison(
    out: Path, files: Mapping[str, bytes | str], drawn: Mapping[str, Figure]
) -> Path:
    """Writes a comparison: its files, `report.html` among them, and its figures.

    Arguments:
        out: The directory.
        files: Contents by name.
        drawn: Figures by name.

    Returns:
        The path of the page.
    """
    last = {"report.html": files["report.html"]}
    rest = {name: content for name, content in files.items() if name not in last}
    return _write(out, {**rest, **_pictures(drawn), **last})


def _write(out: Path, files: Mapping[str, bytes | str]) -> Path:
    out.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        write_atomic(out / name, content)
    for kind in ("*.png", "*.svg"):
        for path in out.glob(kind):
            if path.name not in files:
                path.unlink()
    return out / "report.html"


def _pictures(drawn: Mapping[str, Figure]) -> dict[str, bytes | str]:
    pictures: dict[str, bytes | str] = {f"{name}.png": png(each) for name, each in drawn.items()}
    return pictures | {f"{name}.svg": svg_file(each) for name, each in drawn.items()}


def _facts(target: Target, records: Sequence[Record]) -> Facts:
    shown = {r.details["index"] for r in records if r.name == "example"}
    dataset = target.dataset
    channels, height, width = dataset.test.images.shape[1:]
    return Facts(
        model=target.title,
        data=dataset.name,
        classes=dataset.classes,
        shape=(channels, height, width),
        parameters=sum(each.numel() for each in target.model.parameters()),
        config=target.origin,
        checksums={"the data": dataset.sha256, "the weights": target.weights},
        versions={
            "lipnets": lipnets.__version__,
            "torch": torch.__version__,
            "Python": platform.python_version(),
        },
        pictures={index: data_uri(dataset.test.images[index]) for index in sorted(shown)},
    )


def _summary(records: Sequence[Record]) -> Iterator[Sequence[Any]]:
    """A row for each number of the evaluation, not of the training and not of single images."""
    yield (*_COLUMNS, "details")
    for record in records:
        if record.epoch is not None or record.name.startswith(("image/", "example")):
            continue
        details = {
            key: value
            for key, value in record.details.items()
            if key not in (*_COLUMNS, *_ORIGIN) and not isinstance(value, list | dict)
        }
        ends = [record.details.get(key, "") for key in ("low", "high", "kind")]
        text = json.dumps(details, ensure_ascii=False) if details else ""
        count = "" if record.count is None else record.count
        yield (record.name, repr(record.value), record.unit, count, *ends, text)


def _examples(records: Sequence[Record]) -> Iterator[Sequence[Any]]:
    """A row for each image: its index in the data set, and what was found of it."""
    columns = {r.name.removeprefix("image/"): r for r in records if r.name.startswith("image/")}
    rows: dict[int, dict[str, Any]] = {}
    for name, record in columns.items():
        for index, value in zip(record.details["indices"], record.details["values"], strict=True):
            rows.setdefault(index, {})[name] = value
    yield ("index", *columns)
    for index in sorted(rows):
        yield (index, *(_number(rows[index].get(name, "")) for name in columns))


def _number(value: Any) -> Any:
    return repr(value) if isinstance(value, float) and math.isfinite(value) else value


def _csv(rows: Iterator[Sequence[Any]]) -> str:
    with io.StringIO() as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
        return file.getvalue()
