"""What configs can name, with a line for each: all of it, one kind, or the names that match a pattern."""

__all__ = ["lines_of_names"]

import inspect
from collections.abc import Callable, Iterator
from fnmatch import fnmatchcase
from typing import Any

from .. import data, layers, losses, models, optim
from ..config import load_tree, shipped
from ..data._registry import datasets
from ..data.augment import augmentations
from ..registry import closest

Rows = list[tuple[str, str]]  # names, and a line about each


def lines_of_names(what: str = "", width: int = 0) -> list[str]:
    """Names by kind, with a line about each.

    Arguments:
        what: A kind, such as `models` or `convolution`; a shell pattern of names, such as `*aol*`; a
            part of a name; or nothing, for all.
        width: How long lines may be, 0 for any length.

    Raises:
        ValueError: If nothing is called so.
    """
    tables = {title: rows() for title, rows in _tables().items() if _is_kind(what, title)}
    if not tables:
        pattern = what if set(what) & set("*?[") else f"*{what}*"
        every = {title: rows() for title, rows in _tables().items()}
        tables = {
            title: [row for row in rows if fnmatchcase(row[0], pattern)]
            for title, rows in every.items()
        }
        known = [*every, *(name for rows in every.values() for name, _ in rows)]
        if not any(tables.values()):
            meant = closest(what, known).partition(": it has")[0]
            kinds = ", ".join(title.removeprefix("layers: ") for title in every)
            raise ValueError(f"Nothing here is called '{what}'{meant or f'; kinds are {kinds}'}")
    lines: list[str] = []
    for title, rows in tables.items():
        if rows:
            lines += ["", f"{title} ({len(rows)})", *_formatted(rows, width)]
    return lines[1:]


def _is_kind(what: str, title: str) -> bool:
    """Whether a kind was asked for; a blank asks for all, `layers` for all kinds of layers."""
    return not what or what in (title, title.partition(":")[0], title.removeprefix("layers: "))


def _formatted(rows: Rows, width: int) -> Iterator[str]:
    column = max(len(name) for name, _ in rows)
    for name, about in rows:
        line = f"  {name:<{column}}  {about}".rstrip()
        if width and len(line) > width:
            line = line[: max(width - 3, 0)].rstrip() + "..."
        yield line


def _tables() -> dict[str, Callable[[], Rows]]:
    kinds = sorted({layers.card(name).kind for name in layers.names()})
    return {
        "models": lambda: [(name, _model(name)) for name in models.list_models()],
        **{f"layers: {kind}": lambda kind=kind: _layers(kind) for kind in kinds},
        "losses": lambda: [(name, _said(losses.registry[name])) for name in losses.names()],
        "optimizers": lambda: [(name, _said(optim.registry[name])) for name in optim.names()],
        "data": lambda: [(name, _said(datasets[name])) for name in data.names()],
        "augmentations": lambda: [
            (name, _said(augmentations[name])) for name in data.augment.names()
        ],
        "configs": lambda: [(path, _config(path)) for path in shipped()],
    }


def _said(function: Callable[..., Any]) -> str:
    """The first sentence of a docstring, which says what is built or loaded, without the verb."""
    first = (inspect.getdoc(function) or "").partition("\n\n")[0].replace("\n", " ")
    first = first.removeprefix("Builds ").removeprefix("Loads ")
    return first[:1].upper() + first[1:]


def _model(name: str) -> str:
    """Where a variant differs, and what its family is."""
    card = models.card(name)
    facts = [f"{key}={value}" for key, value in card.variant.arguments.items()]
    if card.variant.parameters:
        facts.append(f"{card.variant.parameters / 1e6:.3g}M parameters published")
    said = _said(models.registry[name])
    return f"({', '.join(facts)}) {said}" if facts else said


def _layers(kind: str) -> Rows:
    names = [name for name in layers.names() if layers.card(name).kind == kind]
    cards = [layers.card(name) for name in names]
    promises = ["no promise" if each.guarantee == "none" else each.guarantee for each in cards]
    told = zip(names, promises, cards, strict=True)
    return [(name, f"{promise}: {card.choose}") for name, promise, card in told]


def _config(path: str) -> str:
    tree = load_tree(path)
    named = [tree[key]["name"] for key in ("model", "loss", "optimizer")]
    return f"{', '.join(named)}, {tree['schedule']['epochs']} epochs"
