"""A warm process that starts trainings as children, and lets them be killed at a chosen moment.

It reads a line of JSON for each: the arguments of `train.py`, and when to kill.  What was imported once
is there in every child; nothing was computed before, so that no thread is lost in a fork.
"""

import json
import os
import signal
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn

import lipnets.runs
from lipnets import atomic, data
from lipnets.commands import train as script
from lipnets.compat import ensure_torchvision
from lipnets.config import json_schema


def die() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("alive")


def arm(what: str, number: int) -> None:
    """Kills this process at the `number`-th time that it does `what`."""
    calls = 0

    def due() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    fsync, replace, log = os.fsync, Path.replace, lipnets.runs.format_records
    write = atomic.write_atomic

    def synced(handle: int) -> None:
        if due():
            die()
        fsync(handle)

    def replaced(self: Path, target: Path) -> Path:
        if due():
            die()
        return replace(self, target)

    def moved(self: Path, target: Path) -> Path:
        path = replace(self, target)
        if due():
            die()
        return path

    def halved(path: Path, content: Any) -> None:
        if due():
            content = content.encode() if isinstance(content, str) else content
            path.with_name(f".{path.name}.{os.getpid()}.part").write_bytes(content[::2])
            die()
        write(path, content)

    def logged(self: lipnets.runs.Run, records: Any) -> None:
        content = log(records)
        with (self.path / "history.jsonl").open("ab") as file:
            file.write(content.encode()[: -7 if due() else None])
        if calls == number:
            die()

    if what == "fsync":
        os.fsync = synced
    elif what == "before a move":
        Path.replace = replaced
    elif what == "after a move":
        Path.replace = moved
    elif what == "half a file":
        for name in ("_checked", "_history", "_slots"):
            import_module(f"lipnets.runs.{name}").write_atomic = halved
    elif what == "half a line":
        lipnets.runs.Run.log = logged
    else:
        raise ValueError(what)


def start(case: dict[str, Any]) -> int:
    """Trains in a child, and returns its exit status, or minus the signal that ended it."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            out = os.open(case["said"], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            if "what" in case:
                arm(case["what"], case["number"])
            status = script.main(case["arguments"])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
    while "until" in case and not Path(case["until"]).exists():
        time.sleep(0.02)
    if "seconds" in case:
        time.sleep(case["seconds"])
        os.kill(child, case.get("signal", signal.SIGKILL))  # not reaped yet: its number is its own
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    data.load("digits")
    json_schema()  # which builds what configs are checked by
    ensure_torchvision()
    import_module("timm.utils.model_ema")
    for line in sys.stdin:
        sys.stdout.write(f"{json.dumps(start(json.loads(line)))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
