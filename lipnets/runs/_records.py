"""Records as lines of JSON."""

__all__ = ["format_records", "parse_records"]

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..records import Record
from ._errors import DamagedFileError


def format_records(records: Iterable[Record]) -> str:
    """Records as lines of JSON; numbers that JSON lacks become the strings "inf" and "nan"."""
    return "".join(f"{json.dumps(_finite(record.to_dict()))}\n" for record in records)


def parse_records(text: str, source: str | Path) -> list[Record]:
    """Records of lines that `format_records` wrote; a last line without an end is left out.

    Arguments:
        text: The lines.
        source: Where they are from, for error messages.

    Raises:
        DamagedFileError: If a line is not a record.
    """
    records = []
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        if not line.endswith("\n"):
            break
        try:
            fields = json.loads(line)
            records.append(Record(**{**fields, "value": float(fields["value"])}))
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DamagedFileError(f"{source} is damaged in line {number}: {error}.") from None
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
