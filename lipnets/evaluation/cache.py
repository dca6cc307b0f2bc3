"""What probes found, kept under all that it depends on."""

__all__ = ["Cache", "digest_of_code", "digest_of_files"]

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from ..atomic import write_atomic
from ..records import Record
from ..runs import DamagedFileError, format_records, parse_records


class Cache:
    """Records of probes in a directory, each file under the SHA-256 of what it depends on.

    The first line of a file is the SHA-256 of the others, which are records.

    Arguments:
        directory: The directory, which need not exist.
        origin: What everything depends on: weights, data, code.
    """

    def __init__(self, directory: Path, origin: Mapping[str, Any]) -> None:
        self.directory, self.origin = directory, dict(origin)

    def find(self, name: str, settings: Mapping[str, Any]) -> list[Record] | None:
        """What was kept for a probe with these settings, or None; what is damaged is not there."""
        path = self.path(name, settings)
        try:
            head, _, text = path.read_text(encoding="utf-8").partition("\n")
            return parse_records(text, path) if head == _sha256(text) else None
        except (OSError, UnicodeDecodeError, DamagedFileError):
            return None

    def keep(self, name: str, settings: Mapping[str, Any], records: Iterable[Record]) -> None:
        """Keeps what a probe found."""
        text = format_records(records)
        self.directory.mkdir(parents=True, exist_ok=True)
        write_atomic(self.path(name, settings), f"{_sha256(text)}\n{text}")

    def path(self, name: str, settings: Mapping[str, Any]) -> Path:
        """The file of a probe with these settings; of a setting that is a path, what is there counts."""
        text = json.dumps([self.origin, name, settings], sort_keys=True, default=_key)
        return self.directory / f"{name}-{_sha256(text)[:20]}.jsonl"


@cache
def digest_of_code() -> str:
    """The SHA-256 of the sources of lipnets: what other code found is not what this would."""
    home = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted(home.rglob("*.py")):
        digest.update(str(path.relative_to(home)).encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def digest_of_files(directory: str | Path | None, depth: int = 2) -> str:
    """The SHA-256 of the names, sizes and times of the files of a directory, not of what is in them."""
    digest = hashlib.sha256()
    level: Sequence[Path] = [Path(directory)] if directory else []
    for _ in range(depth + 1):
        entries = sorted(each for path in level if path.is_dir() for each in path.iterdir())
        for each in entries:
            status = each.stat()
            size = status.st_size if each.is_file() else 0
            digest.update(f"{each} {size} {status.st_mtime_ns}".encode())
        level = entries
    return digest.hexdigest()


def _key(setting: Any) -> str:
    if isinstance(setting, Path) and setting.is_file():
        return f"{setting} {hashlib.sha256(setting.read_bytes()).hexdigest()}"
    return repr(setting)


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
