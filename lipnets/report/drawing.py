"""How figures look: one palette for light and dark pages, and files that depend on nothing else."""

__all__ = ["COLORS", "axes", "frame", "name_ends", "png", "spread", "styled", "svg", "svg_file"]

import functools
import io
import re
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = {  # the name of the page's CSS variable: the colour on paper
    "paper": "#fefefe",
    "ink": "#1d2126",
    "muted": "#69717c",
    "line": "#dfe2e6",
    "first": "#1f5fae",
    "second": "#b9551c",
    "third": "#2f7d4f",
    "fourth": "#7d4aa8",
    "fifth": "#8a6a00",
    "sixth": "#b02a63",
}

P = ParamSpec("P")

_STYLE: Any = {
    "figure.constrained_layout.use": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": COLORS["line"],
    "axes.labelcolor": COLORS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 8.5,
    "axes.labelsize": 8.5,
    "axes.unicode_minus": True,
    "font.family": ["DejaVu Sans"],  # which matplotlib brings along
    "font.size": 8.5,
    "grid.color": COLORS["line"],
    "grid.linewidth": 0.6,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "butt",
    "svg.fonttype": "none",  # text stays text: the page sets it in its own font
    "svg.hashsalt": "lipnets",  # the same figure gives the same file
    "text.color": COLORS["ink"],
    "xtick.color": COLORS["line"],
    "xtick.labelcolor": COLORS["muted"],
    "xtick.labelsize": 8.5,
    "ytick.color": COLORS["line"],
    "ytick.labelcolor": COLORS["muted"],
    "ytick.labelsize": 8.5,
}


def styled(fn: Callable[P, Figure]) -> Callable[P, Figure]:
    """Draws a figure in the style of the house, and leaves that of others alone."""

    @functools.wraps(fn)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with mpl.rc_context(_STYLE):
            figure = fn(*args, **kwargs)
            # Lays it out once: every file that is written of it would move it a little.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
            return figure

    return draw


def axes(width: float = 4.8, height: float = 2.9) -> tuple[Figure, Axes]:
    """An empty figure with one pair of axes, its size in inches."""
    figure = Figure(figsize=(width, height))
    return figure, figure.add_subplot()


def frame(ax: Axes, xlabel: str, ylabel: str, percent: bool = False) -> None:
    """Labels the axes and draws the horizontal grid."""
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    ax.grid(axis="y")
    ax.set_axisbelow(True)
    ax.tick_params(length=0)
    if percent:
        ax.set_ylim(0, 1.02)
        ax.set_yticks([0, 0.25, 0.5, 0.75, 1], ["0", "25", "50", "75", "100"])


def spread(heights: Sequence[float], gap: float) -> list[float]:
    """Moves labels apart, as little as need be, keeping their order.

    Arguments:
        heights: Where labels would stand, in any order.
        gap: The least distance between two labels.

    Example:
        >>> spread([1.0, 0.0, 1.0], gap=0.5)
        [0.75, 0.0, 1.25]
    """
    clusters: list[tuple[float, list[int]]] = []  # the sum of their wishes, and who is in them
    for index in sorted(range(len(heights)), key=lambda i: heights[i]):
        total, members = heights[index], [index]
        while clusters and _top(clusters[-1], gap) + gap > _bottom((total, members), gap) + 1e-12:
            below, others = clusters.pop()
            total, members = total + below, others + members
        clusters.append((total, members))
    placed = [0.0] * len(heights)
    for cluster in clusters:
        for rank, index in enumerate(cluster[1]):
            placed[index] = _bottom(cluster, gap) + rank * gap
    return placed


def name_ends(
    figure: Figure, ax: Axes, ends: Sequence[tuple[str, float, float]], bold: str = ""
) -> None:
    """Names what ends at the right of the axes, labels moved apart.

    Arguments:
        figure: The figure.
        ax: The axes, with their limits as they are to stay.
        ends: Labels, and where each ends: x and y, in units of the data.
        bold: What the label that stands out begins with, if one does.
    """
    figure.draw_without_rendering()
    to_axes = (ax.transData + ax.transAxes.inverted()).transform
    heights = [to_axes((x, y))[1] for _, x, y in ends]
    points = ax.get_window_extent().height / figure.dpi * 72
    for (label, _, _), height, place in zip(
        ends, heights, spread(heights, gap=10.5 / points), strict=True
    ):
        ax.annotate(
            label,
            (1.0, height),
            (1.04, place),
            xycoords="axes fraction",
            fontsize=8,
            va="center",
            fontweight="bold" if bold and label.startswith(bold) else "normal",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": COLORS["line"], "linewidth": 0.8},
        )


def png(figure: Figure) -> bytes:
    """The figure on white paper."""
    return _save(figure, format="png", dpi=200, facecolor=COLORS["paper"])


def svg_file(figure: Figure) -> str:
    """The figure as a file of its own, on white paper."""
    options: Any = {"format": "svg", "facecolor": COLORS["paper"]}
    return _save(figure, metadata={"Date": None, "Creator": None}, **options).decode()


def svg(figure: Figure, name: str) -> str:
    """The figure for a page, in the colours of the page: its CSS variables.

    Arguments:
        figure: The figure.
        name: Its name, unique on the page, which describes it in an element whose id is
            `caption-{name}`.
    """
    text = _save(figure, format="svg", metadata={"Date": None, "Creator": None}).decode()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    for variable, color in COLORS.items():
        text = text.replace(color, f"var(--{variable})")
    width, height = figure.get_size_inches() * 72
    head = f'<svg viewBox="0 0 {width:g} {height:g}" role="img" aria-labelledby="caption-{name}">'
    text = re.sub(r"^.*?<svg.*?>", head, text, count=1, flags=re.DOTALL)
    text = text.replace("xlink:href=", "href=")
    # Figures of one page share its ids.
    text = re.sub(r' id="([^"]*)"', rf' id="{name}-\1"', text)
    text = re.sub(r'(href="|url\()#', rf"\1#{name}-", text)
    return re.sub(r"\s*\n\s*", " ", text)


def _save(figure: Figure, **options: Any) -> bytes:
    with mpl.rc_context(_STYLE), io.BytesIO() as file:
        figure.savefig(file, **options)
        return file.getvalue()


def _bottom(cluster: tuple[float, list[int]], gap: float) -> float:
    total, members = cluster
    return total / len(members) - gap * (len(members) - 1) / 2


def _top(cluster: tuple[float, list[int]], gap: float) -> float:
    return _bottom(cluster, gap) + gap * (len(cluster[1]) - 1)
