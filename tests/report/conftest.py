"""Records of an evaluation that never was, in which every number is known."""

import math

import pytest
from matplotlib.figure import Figure

from lipnets.metrics import RADII
from lipnets.records import Record
from lipnets.report import Facts, figures

STEPS = [0.1, 0.2, 0.2, 0.3, 0.5, 0.9]  # of 8 images: 7 are right, one of them a tie
LAYERS = {"backbone.0": 0.75, "backbone.1": 1.0, "head": 1.5}


def examine() -> list[Record]:
    ends = {"low": 0.5, "high": 0.96}
    records = [Record("accuracy", 7 / 8, "fraction", 8, details={"hits": 7, **ends})]
    for radius in RADII:
        hits = sum(step > radius for step in STEPS)
        details = {"radius": radius, "hits": hits, **ends}
        records.append(Record("certified_accuracy", hits / 8, "fraction", 8, details=details))
    area, l2 = math.fsum(STEPS) / 8, "l2 pixels"
    records.append(Record("certified_curve", area, l2, 8, details={"steps": STEPS}))
    records.append(Record("mean_radius", area, l2, 8, details={"low": 0.2, "high": 0.35}))
    records.append(Record("bound/network", 1.1250001, "1"))
    for index, (label, prediction) in enumerate([(0, 0), (1, 1), (1, 0)]):
        details = {"index": index, "label": label, "prediction": prediction}
        records.append(Record("example", 0.9 - 0.6 * index, l2, 1, details=details))
    return records


def corrupt() -> list[Record]:
    return [
        Record(
            name,
            value - 0.1 * severity,
            "fraction",
            8,
            details={"corruption": each, "severity": severity, "clean": 7 / 8, "radius": 36 / 255},
        )
        for name in ("corrupted_accuracy", "corrupted_certified_accuracy")
        for each, value in (("blur", 0.6), ("heavy_fog", 0.9))
        for severity in (1, 2, 3, 4, 5)
    ]


def bands() -> list[Record]:
    return [
        Record(
            "band_certified_accuracy",
            (0.9 if begin else 0.6) - radius,
            "fraction",
            8,
            details={"begin": begin, "end": end, "radius": radius},
        )
        for begin, end in ((0.0, 0.25), (0.25, 1.0), (0.0, 1.0))
        for radius in (0.0, 36 / 255)
    ]


def rounded() -> list[Record]:
    records = []
    for name, loss in (("float64", 2.5e-11), ("bfloat16", 0.25)):
        details = {"arithmetic": name}
        records.append(Record("rounding_loss", loss, "fraction", 7, details=details))
        for radius in (0.0, 36 / 255):
            details = {"arithmetic": name, "radius": radius}
            share = 7 / 8 - radius - loss
            records.append(Record("certified_accuracy_in", share, "fraction", 8, details=details))
    return records


def filters() -> list[Record]:
    accuracies = {"low_pass": [0.25, 0.5, 0.75, 0.875], "high_pass": [0.75, 0.5, 0.25, 0.25]}
    return [
        Record(
            "filtered_accuracy",
            value,
            "fraction",
            8,
            details={"filter": name, "radius": radius, "unfiltered": 7 / 8, "chance": 0.25},
        )
        for name, values in accuracies.items()
        for radius, value in enumerate(values)
    ]


def train() -> list[Record]:
    records = []
    for epoch in (0, 1, 2):
        when = {"step": 10 * epoch, "epoch": float(epoch)}
        records.append(Record("bound/network", 4.5 - 1.5 * epoch, "1", **when))
        for layer, value in LAYERS.items():
            now = value if value == 1 else value * (3 - epoch)
            details = {"layer": layer}
            records.append(Record("bound/layer", now, "1", **when, details=details))
        records.append(Record("test/accuracy", 0.4 * epoch, "fraction", 8, **when))
        details = {"radius": 36 / 255}
        records.append(
            Record("test/certified_accuracy", 0.3 * epoch, "fraction", 8, **when, details=details)
        )
    return records


LEDGER = {  # of log K: what each term has added by the steps 0, 10 and 20
    "linear": (0.0, 0.5, 0.9),
    "curvature": (0.0, 0.2, 0.3),
    "square": (0.0, -0.02, -0.05),
    "decay": (0.0, -0.1, -0.25),
    "gain": (0.0, 0.0, 0.001),
    "buffer": (0.0, 0.0, -0.001),
}


def evolve() -> list[Record]:
    """A ledger that leaves 0.002 unexplained, scores of three steps, and bands of one convolution."""
    records = []
    for at in range(3):
        when = {"step": 10 * at, "epoch": float(at)}
        for term, values in LEDGER.items():
            records.append(Record(f"ledger/{term}", values[at], "nats", **when))
            details = {"layer": "head", "role": "free"}
            half = values[at] / 2
            records.append(Record(f"ledger/{term}", half, "nats", **when, details=details))
        total = sum(values[at] for term, values in LEDGER.items() if term != "decay")
        rest = 0.002 if at == 2 else 0.0
        records.append(Record("ledger/log_norm", 3 + total + rest, "nats", **when))
        for name, value in (("drift", 1e-3), ("noise_curvature", 1e-4), ("deterministic", 1e-5)):
            records.append(Record(f"driver/{name}", value * (at + 1), "nats", **when))
        records.append(Record("driver/variance", 1e-6, "nats^2", **when))
        records.append(Record("driver/z", at - 1.25, "1", **when))
        for band in range(4):
            details = {"layer": "backbone.conv", "low": band / 8, "high": (band + 1) / 8}
            records.append(Record("gain/band", 1.0 + band + at, "1", **when, details=details))
    records.append(
        Record("ledger/remainder", 0.002, "nats", step=20, epoch=2.0, details={"change": 1.152})
    )
    return records


def audit() -> list[Record]:
    records = []
    for layer, value in {**LAYERS, "network": 1.125}.items():
        details = {"layer": layer, "module": "Linear", "rule": f"theorem of {layer}"}
        for name, number in (("bound", value), ("slope", value / 2), ("ratio", 0.5)):
            records.append(Record(f"audit/{name}", number, "1", details=details))
    records.append(Record("check/slopes", 0.5, "1", 4, details={"says": "no slope is too large"}))
    return records


@pytest.fixture(scope="session")
def steps() -> list[float]:
    return STEPS


@pytest.fixture(scope="session")
def records() -> list[Record]:
    return [
        *examine(),
        *corrupt(),
        *bands(),
        *rounded(),
        *filters(),
        *train(),
        *evolve(),
        *audit(),
    ]


@pytest.fixture(scope="session")
def drawn(records: list[Record]) -> dict[str, Figure]:
    return figures(records)


@pytest.fixture(scope="session")
def facts() -> Facts:
    return Facts(
        model="lipmlp_<b>",
        data="patterns",
        classes=("cat & dog", "<script>alert(1)</script>"),
        shape=(1, 6, 6),
        parameters=12345,
        config="model: {name: <i>}\n",
        checksums={"the data": "ab" * 32},
        versions={"lipnets": "0.1.0", "torch": "2.13.0"},
        pictures=dict.fromkeys(range(3), "data:image/png;base64,AAAA"),
    )
