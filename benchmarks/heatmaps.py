"""Fourier heat maps of trained networks side by side: which plane waves they react to.

    python benchmarks/heatmaps.py --data-dir DIR RUN RUN ...   measures what is missing, and draws all
    python benchmarks/heatmaps.py                              draws what was measured

RUN are run directories, such as those that `leaderboard.py` leaves in `runs/leaderboard`.  Each is measured
at 32 of its test images with waves of norm 1 (`lipnets.probes.heatmap`) and added to `benchmarks/heatmaps.json`;
the figure is `docs/heatmaps.png`.
"""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from recipes import commit

from lipnets.atomic import write_atomic
from lipnets.evaluation import Examination, open_target
from lipnets.report import png
from lipnets.report.drawing import COLORS, styled

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "heatmaps.json"
FIGURE = ROOT / "docs" / "heatmaps.png"
PROBE = {"heatmap": {"norms": (1.0,), "across": None, "limit": 32}}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--data-dir", help="the directory with the files of the data set")
    args = parser.parse_args()
    known = json.loads(RESULTS.read_text()) if RESULTS.is_file() else []
    for run in args.runs:
        if any(each["run"] == run.name for each in known):
            continue
        known.append(measure(run, args.data_dir))
        lines = ",\n".join(json.dumps(each, separators=(",", ":")) for each in known)
        write_atomic(RESULTS, f"[\n{lines}\n]\n")
        print(
            f"{run.name:32} {known[-1]['error']:.3f} wrong, at most {known[-1]['error_limit']:.3f}"
        )
    if known:
        write_atomic(FIGURE, png(draw(known)))


def measure(run: Path, data_dir: str | None) -> dict[str, Any]:
    """The map of one network, and what is proved of it."""
    target = open_target(str(run), data_dir=data_dir)
    records = Examination(target, data_dir=target.data_dir).examine(PROBE)
    wrong, delta = (
        next(each for each in records if each.name == f"heatmap_{what}")
        for what in ("error", "delta")
    )
    most = max(map(max, delta.details["map"]))
    return {
        "run": run.name,
        "model": target.title,
        "norm": wrong.details["norm"],
        "images": wrong.count,
        "error": round(wrong.value, 4),
        "error_limit": round(wrong.details["limit"], 4),
        "unperturbed": round(wrong.details["unperturbed"], 4),
        "delta": round(delta.value, 4),
        "delta_limit": round(delta.details["limit"], 4),
        "rows": delta.details["rows"],
        "columns": delta.details["columns"],
        "map": [[round(value / most, 3) for value in row] for row in delta.details["map"]],
        "commit": commit("lipnets", "configs"),
    }


@styled
def draw(known: Sequence[Mapping[str, Any]], columns: int = 4) -> Figure:
    """A panel for each network: ‖Δf‖ over its largest; frequency 0 is in the middle."""
    rows = -(-len(known) // columns)
    figure = Figure(figsize=(1.65 * columns + 0.7, 1.95 * rows + 0.2))
    panels = list(figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).flat)
    shades = LinearSegmentedColormap.from_list("change", [COLORS["paper"], COLORS["first"]])
    for each, ax in zip(known, panels, strict=False):
        order = [np.argsort(each[axis]) for axis in ("rows", "columns")]
        table = np.array(each["map"])[np.ix_(*order)]
        edges = [np.sort(each[axis])[[0, -1]] + (-0.5, 0.5) for axis in ("columns", "rows")]
        image = ax.imshow(
            table, cmap=shades, vmin=0, vmax=1, origin="lower", extent=(*edges[0], *edges[1])
        )
        name = each["run"].rsplit("-", 2)[0].replace("family-", "").replace("-", " ")
        ax.set_title(f"{name}\n{each['error']:.0%} wrong, ≤ {each['error_limit']:.0%}", fontsize=7)
        ax.tick_params(labelsize=6)
    for ax in panels[len(known) :]:
        ax.set_visible(False)
    figure.colorbar(image, ax=panels, shrink=0.6, label="change of logits, of the largest")
    figure.supxlabel("cycles per image, horizontal", fontsize=8, color=COLORS["muted"])
    figure.supylabel("vertical", fontsize=8, color=COLORS["muted"])
    return figure


if __name__ == "__main__":
    main()
