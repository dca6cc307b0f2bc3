"""Writes the reference of all that is public to `build/docs`: `python docs/reference.py`, or `make docs`.

From docstrings, by pdoc: `pip install -e ".[docs]"`.
"""

import argparse
import sys
from importlib import import_module
from pathlib import Path

import lipnets

# Beside the rooms that `lipnets.__all__` names.
ROOMS = (
    *("bounds", "certificate_file", "config", "dynamics", "metrics", "normal_form", "program"),
    *("records", "rounding", "studies", "tighter", "training", "verify"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description="Writes the reference of all that is public.")
    parser.add_argument("--out", type=Path, default=Path("build/docs"), metavar="DIR")
    write(parser.parse_args().out)


def write(out: Path) -> None:
    """Writes pages for a browser, of `lipnets` and each of its public rooms.

    Arguments:
        out: The directory, which is made if it does not exist.
    """
    try:
        pdoc, render = import_module("pdoc"), import_module("pdoc.render")
    except ImportError:
        sys.exit('The reference is written by pdoc: pip install -e ".[docs]"')
    for name in lipnets.__all__:  # which are loaded when they are asked for
        setattr(lipnets, name, getattr(lipnets, name))
    render.configure(docformat="google", show_source=False)
    pdoc.pdoc("lipnets", *(f"lipnets.{room}" for room in ROOMS), output_directory=out)
    pages = len(list(out.rglob("*.html")))
    print(f"{pages} pages: {out / 'lipnets.html'}")


if __name__ == "__main__":
    main()
