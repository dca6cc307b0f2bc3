"""The run directory: all that an experiment leaves behind, each file whole or not there.

```
config.yaml            the experiment, resolved
history.jsonl          one record a line
model.safetensors      the weights
config.json            how to build the model, for `lipnets.from_pretrained` and timm
certificate.npz        what is proved of them, and of some held-out images
state/a.state          what resuming needs, and SHA-256 of the history until then ...
state/b.state          ... and the same of a moment before or after: they are written in turn
checksums.json         SHA-256 of the files above, but for the history, which grows, and the states
lock                   held by the process that trains, as long as it runs
evaluation/            what `evaluate.py` writes, with a certificate of the images it was asked about
```

A file is written beside its place, flushed to the disk and moved there.  Its checksum is noted
before that and joins those of the files it may replace, so that an interruption at any moment
leaves an intact file.  Nothing in a run directory is read by unpickling objects.
"""

__all__ = [
    "DamagedFileError",
    "Run",
    "RunBusyError",
    "RunError",
    "RunExistsError",
    "UnwritableError",
    "certificate_bytes",
    "format_records",
    "parse_records",
    "write_atomic",
]

import contextlib
import hashlib
import json
import math
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import locks, models, states
from .atomic import UnwritableError, write_atomic, writing
from .bounds import NotCertifiedError
from .certify import Certificate
from .config import Config, load_config
from .invocation import spelled
from .models.pretrained import config_json, load_weights, weights_bytes
from .records import Record


class RunError(Exception):
    """A run directory that cannot be used as asked: says why, and what to do."""


class RunExistsError(RunError):
    """There is something where a new run was to be."""


class RunBusyError(RunError):
    """Another process trains in this directory."""


class DamagedFileError(RunError):
    """A file is not what was written, or not what its config says."""


class Run:
    """A run directory, which exists: see `Run.create` and `Run.open`.

    Arguments:
        path: The directory.
        tell: Is told, in a sentence, what a user should know although it is no error.
    """

    def __init__(self, path: str | Path, tell: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self.tell = tell or (lambda _: None)
        self._last: tuple[int, int] | None = None  # number and slot of the newest intact state
        self._noted: dict[str, list[str]] | None = None  # checksums, where their file is damaged
        self._hashed = hashlib.sha256()  # of the history, as far as it was read
        self._length = 0  # how far that is, in bytes
        self._resumed = 0  # how long the history was when the state was saved that was read

    @classmethod
    def create(
        cls, path: str | Path, config: Config, tell: Callable[[str], None] | None = None
    ) -> "Run":
        """Makes a run directory that holds its config.

        Raises:
            RunExistsError: If there is a file, or a directory that is not empty: it is left alone.
            RunBusyError: If another process has just begun the same.
            UnwritableError: If it cannot be written: nothing is left of it.
        """
        cls.check_free(path)
        run = cls(path, tell)
        existed = run.path.exists()
        try:
            with writing(run.path):
                run.path.mkdir(parents=True, exist_ok=True)
            with run.lock():
                cls.check_free(path)
                run.write("config.yaml", config.to_yaml())
        except UnwritableError:
            with contextlib.suppress(OSError):
                for name in ("lock", "checksums.json"):
                    (run.path / name).unlink(missing_ok=True)
                if not existed:
                    run.path.rmdir()
            raise
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Makes sure that a new run can be created here.

        Raises:
            RunExistsError: If there is a file, or a directory that is not empty.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and all(map(_is_rest, path.iterdir()))):
            raise RunExistsError(
                f"{path} exists and was left as it is: choose another directory with --out, or "
                "continue what is there with --resume."
            )

    @classmethod
    def open(cls, path: str | Path, tell: Callable[[str], None] | None = None) -> "Run":
        """Opens a run directory that exists.

        Raises:
            RunError: If there is none.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            what = "has no config.yaml" if path.is_dir() else "does not exist"
            raise RunError(f"{path} is not a run directory: it {what}.")
        return cls(path, tell)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Keeps other processes from training here; the system ends it with this process.

        What processes that were killed had begun to write is removed.

        Raises:
            RunBusyError: If another process does train here.
        """
        with contextlib.ExitStack() as stack:
            try:
                alone = stack.enter_context(locks.hold(self.path / "lock", self.tell))
            except locks.BusyError as error:
                raise RunBusyError(
                    f"{error} trains in {self.path}: wait until it ends, or end it, and then go on "
                    "with --resume; or choose another directory with --out."
                ) from None
            if alone:
                for part in (*self.path.glob(".*.part"), *self.path.glob("state/.*.part")):
                    with writing(part):
                        part.unlink(missing_ok=True)
            yield

    def config(self) -> Config:
        """Reads the config, with all that was filled in from the data."""
        self.read("config.yaml")
        return load_config(self.path / "config.yaml")

    def log(self, records: Iterable[Record]) -> None:
        """Appends records to the history: all, or none if there is no room for them."""
        path = self._history
        with writing(path), path.open("ab") as file:
            size = file.seek(0, os.SEEK_END)
            try:
                file.write(format_records(records).encode())
                file.flush()
            except OSError:
                with contextlib.suppress(OSError):
                    os.truncate(path, size)
                raise

    def history(self) -> list[Record]:
        """Reads the history; a last line that was not finished is left out.

        Raises:
            DamagedFileError: If a line is not a record, or not the one that was written: what comes
                after the last state has no checksum.
        """
        saved, _ = self._saved()
        content = self._history_bytes()
        if saved and all(_misfit(content, each.note) for each in saved):
            raise DamagedFileError(
                f"{self._history} is damaged: {_misfit(content, saved[0].note)}. {_RESTORE}"
            )
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            raise DamagedFileError(f"{self._history} is damaged: {error}. {_RESTORE}") from None
        return parse_records(text, self._history)

    def save_model(self, model: nn.Module) -> None:
        """Writes the weights of a model, parametrizations included, and how to build it."""
        self.write("model.safetensors", weights_bytes(model))
        if isinstance(model, models.Network) and model.name:
            self.write("config.json", config_json(model))

    def load_model(self) -> nn.Module:
        """Builds the model of the config with the weights that were saved, in evaluation mode.

        Raises:
            RunError: If there are no weights yet.
            DamagedFileError: If they are damaged, or of another model.
        """
        content = self.read("model.safetensors")
        spec = self.config().model
        with torch.random.fork_rng():  # building draws initial weights
            model = models.build(spec.name, **spec.arguments)
        try:
            return load_weights(model, content)
        except ValueError as error:
            raise DamagedFileError(
                f"{self.path / 'model.safetensors'} does not hold the weights of the "
                f"'{spec.name}' of config.yaml: {error}"
            ) from None

    def save_certificate(
        self,
        certificate: Certificate,
        images: Tensor | None = None,
        labels: Tensor | None = None,
    ) -> None:
        """Writes a certificate: see `certificate_bytes`."""
        self.write("certificate.npz", certificate_bytes(certificate, images, labels))

    def load_certificate(self) -> Certificate:
        """Reads the certificate.

        Raises:
            RunError: If there is none yet.
            DamagedFileError: If it is damaged.
        """
        self.read("certificate.npz")
        return Certificate.load(self.path / "certificate.npz")

    def save_state(self, state: dict[str, Any]) -> None:
        """Writes tensors and plain data from which training can be resumed.

        It takes the place of the older of two states.  Length and SHA-256 of the history are noted
        with it.

        Arguments:
            state: The state, with the number of its `step`.
        """
        if self._last is None:
            saved, _ = self._saved()
            self._last = saved[0].place if saved else (0, 1)
        number, slot = self._last[0] + 1, 1 - self._last[1]
        self._hash_history()
        note = {
            "number": number,
            "step": state.get("step"),
            "history_bytes": self._length,
            "history_sha256": self._hashed.hexdigest(),
            "checksums": self._checksums(),
        }
        path = self.path / _SLOTS[slot]
        with writing(path):
            path.parent.mkdir(exist_ok=True)
        write_atomic(path, states.pack(note, state))
        self._last = number, slot

    def load_state(self) -> dict[str, Any] | None:
        """Reads the newest state that is intact, and fits the history; nothing is changed.

        `tell` is told of a newer one that is damaged.

        Returns:
            The state, or None if there is none yet.

        Raises:
            DamagedFileError: If there are states, and none of them is intact.
        """
        if (self.path / "state/training.pt").exists():
            raise RunError(
                f"{self.path / 'state/training.pt'} was written by an earlier version of lipnets: go "
                "on with that version, or train anew with another --out."
            )
        saved, damaged = self._saved()
        content = self._history_bytes()
        for each in saved:
            why = _misfit(content, each.note)
            if why:
                damaged.append(f"{self._history} is damaged: {why}")
                continue
            try:
                state = states.unpickle(each.data)
            except states.DamagedStateError as error:
                damaged.append(f"{each.path} is damaged: {error}")
                continue
            if damaged:
                self.tell(f"{'; '.join(damaged)}. {_on_from(each)}")
            self._last = each.place
            self._resumed = each.note["history_bytes"]
            return state
        if damaged:
            raise DamagedFileError(f"{'; '.join(damaged)}. {_RESTORE}")
        if content:
            self.tell(f"No state had been saved in {self.path}: training begins anew.")
        return None

    def take_history_back(self) -> None:
        """Takes the history back to the state that `load_state` returned, or to nothing."""
        content = self._history_bytes()[: self._resumed]
        write_atomic(self._history, content)
        self._hashed, self._length = hashlib.sha256(content), len(content)

    @property
    def _history(self) -> Path:
        return self.path / "history.jsonl"

    def _history_bytes(self) -> bytes:
        try:
            return _read(self._history)
        except FileNotFoundError:
            return b""

    def _hash_history(self) -> None:
        """Brings the history to the disk, and its checksum up to date."""
        if not self._history.exists():
            return
        with writing(self._history), self._history.open("rb+") as file:
            os.fsync(file.fileno())
            file.seek(self._length)
            while block := file.read(2**20):
                self._hashed.update(block)
                self._length += len(block)

    def _saved(self) -> "tuple[list[_Saved], list[str]]":
        """The states that are intact, the newest first, and what is wrong with others."""
        saved, damaged = [], []
        for path in (self.path / name for name in _SLOTS):
            try:
                note, data = states.unpack(_read(path))
            except FileNotFoundError:
                continue
            except states.DamagedStateError as error:
                damaged.append(f"{path} is damaged: {error}")
            except RunError as error:
                if path.is_dir():  # where the next state could not be written
                    raise
                damaged.append(str(error).removesuffix("."))
            else:
                saved.append(_Saved(path, note, data))
        return sorted(saved, key=lambda each: -each.note["number"]), damaged

    def write(self, name: str, content: bytes | str) -> None:
        """Writes a file of this directory, whole or not at all, and its checksum."""
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        checksums = self._checksums()
        before = [each for each in checksums.get(name, []) if each != digest]
        self._write_checksums({**checksums, name: [digest, *before]})
        with writing(self.path / name):
            (self.path / name).parent.mkdir(exist_ok=True)
        write_atomic(self.path / name, data)
        self._write_checksums({**checksums, name: [digest]})

    def read(self, name: str) -> bytes:
        """Reads a file of this directory, and compares its checksum.

        Raises:
            RunError: If it is not there.
            DamagedFileError: If it is not what was written.
        """
        path = self.path / name
        known, digest = [], ""
        for _ in range(2):  # once more if it is being replaced just now
            known = self._checksums().get(name, [])
            try:
                data = _read(path)
            except FileNotFoundError:
                raise RunError(f"{path} does not exist{self._why_not_yet()}.") from None
            digest = hashlib.sha256(data).hexdigest()
            if digest in known:
                return data
        noted = f"{known[0][:16]}..." if known else "none"
        do = "Restore the file, or train anew with another --out."
        if name != "config.yaml":
            do = f"From the last state, {spelled('train')} --resume --out {self.path} writes it again."
        raise DamagedFileError(
            f"{path} is damaged, or was changed: its SHA-256 is {digest[:16]}..., "
            f"checksums.json has {noted}. {do}"
        )

    def _why_not_yet(self) -> str:
        if who := locks.holder(self.path / "lock"):
            return f" yet: {who} is training here. Wait until it ends"
        return (
            ": training was not finished, or the file was removed. "
            f"Go on with {spelled('train')} --resume --out {self.path}"
        )

    def _checksums(self) -> dict[str, list[str]]:
        path = self.path / "checksums.json"
        try:
            checksums = json.loads(_read(path))
            if not _are_checksums(checksums):
                raise ValueError("it should hold lists of SHA-256 by the names of files")
            return checksums
        except FileNotFoundError:
            why = "is not there"
        except (ValueError, RecursionError) as error:
            why = f"is damaged: {error}"
        if self._noted is not None:
            return self._noted
        for each in self._saved()[0]:
            if _are_checksums(each.note["checksums"]):
                self.tell(f"{path} {why}. Those that were noted in {each.path} are used.")
                noted: dict[str, list[str]] = each.note["checksums"]
                self._noted = noted
                return noted
        if why == "is not there":
            return {}
        raise DamagedFileError(f"{path} {why}. {_RESTORE}")

    def _write_checksums(self, checksums: dict[str, list[str]]) -> None:
        write_atomic(self.path / "checksums.json", json.dumps(checksums, indent=2) + "\n")


@dataclass(frozen=True)
class _Saved:
    """A state that is intact, not yet unpickled."""

    path: Path
    note: dict[str, Any]
    data: bytes

    @property
    def place(self) -> tuple[int, int]:
        """Its number, and which of the slots it has."""
        return self.note["number"], [Path(each).name for each in _SLOTS].index(self.path.name)


def certificate_bytes(
    certificate: Certificate, images: Tensor | None = None, labels: Tensor | None = None
) -> bytes:
    """The file of a certificate, with the radii of images where its program has a form in files.

    Arguments:
        certificate: The certificate.
        images: Images, with shape (B, C, H, W), of which the file is to hold the radii.
        labels: Their classes, with shape (B,).
    """
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "certificate.npz"
        try:
            certificate.save(path, images, labels)
        except NotCertifiedError:  # no form, or no bound of what is rounded: of no image
            certificate.save(path)
        return path.read_bytes()


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


def _read(path: Path) -> bytes:
    """The content of a file that exists.

    Raises:
        FileNotFoundError: If it does not.
        RunError: If it cannot be read.
    """
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}.") from None


def _misfit(history: bytes, note: dict[str, Any]) -> str:
    """Why a history is not the one that a state was written with; nothing if it is."""
    size = note["history_bytes"]
    if len(history) < size:
        return f"it has {len(history)} bytes, and had {size} when step {note['step']} was saved"
    if hashlib.sha256(history[:size]).hexdigest() != note["history_sha256"]:
        return f"its SHA-256 is not the one it had when step {note['step']} was saved"
    return ""


def _on_from(saved: _Saved) -> str:
    return f"Training goes on from the state of step {saved.note['step']}, {saved.path}."


def _is_rest(path: Path) -> bool:
    """Whether a file is what a process left that was killed before it had begun."""
    return path.name == "lock" or (path.name.startswith(".") and path.suffix == ".part")


def _are_checksums(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(each, list) and all(isinstance(digest, str) for digest in each)
        for each in value.values()
    )


_SLOTS = ("state/a.state", "state/b.state")  # written in turn
_RESTORE = "Nothing was changed: restore the file, or train anew with another --out."


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
