"""Downloads: whole, checked, or not at all."""

__all__ = ["DownloadError", "fetch"]

import os
import urllib.request
from collections.abc import Callable, Sequence
from http.client import HTTPException
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

_BLOCK = 1 << 18  # bytes


class DownloadError(OSError):
    """None of the addresses of a file gave it."""


def fetch(
    urls: Sequence[str], target: Path, check: Callable[[Path], object], timeout: float = 10.0
) -> None:
    """Downloads a file from the first of its addresses that gives it.

    It is written under a temporary name, checked, and only then given its name.

    Arguments:
        urls: The addresses of the file, tried in turn.
        target: Where to put it; its folder is made if need be.
        check: Raises ValueError or OSError for a file that is not the one wanted.
        timeout: How long an address may be silent, in seconds.

    Raises:
        DownloadError: If no address gives the file: says why, for each.
    """
    reasons = []
    for url in urls:
        try:
            with urllib.request.urlopen(url, timeout=timeout) as response:
                target.parent.mkdir(parents=True, exist_ok=True)
                with TemporaryDirectory(prefix=".download-", dir=target.parent) as folder:
                    part = Path(folder) / target.name
                    _copy(response, part)
                    check(part)
                    os.replace(part, target)
        except (OSError, HTTPException, ValueError) as error:
            reasons.append(f"{url}: {error}")
        else:
            return
    raise DownloadError("; ".join(reasons))


def _copy(response: Any, path: Path) -> None:
    """Writes to a file what an address gives, and shows how far it is."""
    # An import of a quarter second, which those who have their data need not wait for.
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    console = Console(stderr=True)
    with path.open("wb") as file, Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        size = response.headers.get("Content-Length")
        task = bar.add_task(path.name, total=int(size) if size else None)
        while block := response.read(_BLOCK):
            file.write(block)
            bar.advance(task, len(block))
