"""The run directory: all that an experiment leaves behind, each file whole or not there.

```
config.yaml            the experiment, resolved
history.jsonl          one record a line
model.safetensors      the weights
config.json            how to build the model, for `lipnets.from_pretrained` and timm
certificate.npz        what is proved of them, and of some held-out images
state/training.pt      what resuming needs, as of the last epoch that was finished
checksums.json         SHA-256 of the files above, but for the history, which grows
evaluation/            what `evaluate.py` writes, with a certificate of the images it was asked about
```

A file is written beside its place, flushed to the disk and moved there.  Its checksum is noted
before that and joins those of the files it may replace, so that an interruption at any moment
leaves an intact file.  Nothing in a run directory is read by unpickling objects.
"""

__all__ = [
    "DamagedFileError",
    "Run",
    "RunError",
    "RunExistsError",
    "certificate_bytes",
    "format_records",
    "parse_records",
    "write_atomic",
]

import hashlib
import io
import json
import math
import os
import pickle
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from . import models
from .atomic import write_atomic
from .bounds import NotCertifiedError
from .certify import Certificate
from .config import Config, load_config
from .models.pretrained import config_json, load_weights, weights_bytes
from .records import Record


class RunError(Exception):
    """A run directory that cannot be used as asked: says why, and what to do."""


class RunExistsError(RunError):
    """There is something where a new run was to be."""


class DamagedFileError(RunError):
    """A file is not what was written, or not what its config says."""


class Run:
    """A run directory, which exists: see `Run.create` and `Run.open`.

    Arguments:
        path: The directory.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def create(cls, path: str | Path, config: Config) -> "Run":
        """Makes a run directory that holds its config.

        Raises:
            RunExistsError: If there is a file, or a directory that is not empty: it is left alone.
        """
        cls.check_free(path)
        run = cls(path)
        run.path.mkdir(parents=True, exist_ok=True)
        run.write("config.yaml", config.to_yaml())
        return run

    @staticmethod
    def check_free(path: str | Path) -> None:
        """Makes sure that a new run can be created here.

        Raises:
            RunExistsError: If there is a file, or a directory that is not empty.
        """
        path = Path(path)
        if path.exists() and not (path.is_dir() and not any(path.iterdir())):
            raise RunExistsError(
                f"{path} exists and was left as it is: choose another directory with --out, or "
                "continue what is there with --resume."
            )

    @classmethod
    def open(cls, path: str | Path) -> "Run":
        """Opens a run directory that exists.

        Raises:
            RunError: If there is none.
        """
        path = Path(path)
        if not (path / "config.yaml").is_file():
            what = "has no config.yaml" if path.is_dir() else "does not exist"
            raise RunError(f"{path} is not a run directory: it {what}.")
        return cls(path)

    def config(self) -> Config:
        """Reads the config, with all that was filled in from the data."""
        self.read("config.yaml")
        return load_config(self.path / "config.yaml")

    def log(self, records: Iterable[Record]) -> None:
        """Appends records to the history."""
        with (self.path / "history.jsonl").open("ab") as file:
            file.write(format_records(records).encode())

    def history(self) -> list[Record]:
        """Reads the history; a last line that was not finished is left out.

        Raises:
            DamagedFileError: If a line is not a record.
        """
        path = self.path / "history.jsonl"
        return parse_records(path.read_text(encoding="utf-8"), path) if path.exists() else []

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

        The length of the history is noted with them.
        """
        path, size = self.path / "history.jsonl", 0
        if path.exists():
            with path.open("rb+") as file:
                os.fsync(file.fileno())
                size = file.seek(0, os.SEEK_END)
        buffer = io.BytesIO()
        torch.save({"state": state, "history_bytes": size}, buffer)
        self.write("state/training.pt", buffer.getvalue())

    def load_state(self) -> dict[str, Any] | None:
        """Reads what `save_state` wrote, and takes the history back to that moment.

        Returns:
            The state, or None if there is none yet.

        Raises:
            DamagedFileError: If it is damaged.
        """
        saved: dict[str, Any] = {"state": None, "history_bytes": 0}
        if (self.path / "state/training.pt").exists():
            data = self.read("state/training.pt")
            try:
                saved = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
            except (pickle.UnpicklingError, RuntimeError) as error:
                raise DamagedFileError(
                    f"{self.path / 'state/training.pt'} is damaged: it should hold tensors and "
                    f"plain data, and nothing else is read: {str(error).splitlines()[0]}"
                ) from None
        path = self.path / "history.jsonl"
        history = path.read_bytes() if path.exists() else b""
        if len(history) < saved["history_bytes"]:
            raise DamagedFileError(
                f"{path} is damaged: it has {len(history)} bytes, and had "
                f"{saved['history_bytes']} when state/training.pt was written."
            )
        write_atomic(path, history[: saved["history_bytes"]])
        return saved["state"]

    def write(self, name: str, content: bytes | str) -> None:
        """Writes a file of this directory, whole or not at all, and its checksum."""
        data = content.encode() if isinstance(content, str) else content
        digest = hashlib.sha256(data).hexdigest()
        checksums = self._checksums()
        before = [each for each in checksums.get(name, []) if each != digest]
        self._write_checksums({**checksums, name: [digest, *before]})
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
        if not path.is_file():
            raise RunError(f"{path} does not exist: was the training finished?")
        data = path.read_bytes()
        known, digest = self._checksums().get(name, []), hashlib.sha256(data).hexdigest()
        if digest not in known:
            noted = f"{known[0][:16]}..." if known else "none"
            raise DamagedFileError(
                f"{path} is damaged, or was changed: its SHA-256 is {digest[:16]}..., "
                f"checksums.json has {noted}. Restore the file, or train again."
            )
        return data

    def _checksums(self) -> dict[str, list[str]]:
        path = self.path / "checksums.json"
        try:
            return json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except ValueError as error:
            raise DamagedFileError(f"{path} is damaged: {error}.") from None

    def _write_checksums(self, checksums: dict[str, list[str]]) -> None:
        write_atomic(self.path / "checksums.json", json.dumps(checksums, indent=2) + "\n")


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
        except (ValueError, TypeError, KeyError) as error:
            raise DamagedFileError(f"{source} is damaged in line {number}: {error}.") from None
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value
