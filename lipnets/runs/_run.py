"""What is done with a run directory."""

__all__ = ["Run", "certificate_bytes"]

import contextlib
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .. import locks, models, states
from ..atomic import UnwritableError, writing
from ..bounds import NotCertifiedError
from ..certify import Certificate
from ..config import Config, load_config
from ..invocation import spelled
from ..models.pretrained import config_json, load_weights, weights_bytes
from ..records import Record
from ._checked import CheckedFiles
from ._errors import RESTORE, DamagedFileError, RunBusyError, RunError, RunExistsError
from ._history import History
from ._slots import Slots


class Run:
    """A run directory, which exists: see `Run.create` and `Run.open`.

    Arguments:
        path: The directory.
        tell: Is told, in a sentence, what a user should know although it is no error.
    """

    def __init__(self, path: str | Path, tell: Callable[[str], None] | None = None) -> None:
        self.path = Path(path)
        self.tell = tell or (lambda _: None)
        self._history = History(self.path / "history.jsonl")
        self._slots = Slots(self.path)
        self._files = CheckedFiles(self.path, self._slots, self.tell)
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
            raise RunError(
                f"{path} is not a run directory: it {what}. Training begins with a config: "
                f"{spelled('train')} CONFIG --out {path}"
            )
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
        self._history.append(records)

    def history(self) -> list[Record]:
        """Reads the history; a last line that was not finished is left out.

        Raises:
            DamagedFileError: If a line is not a record, or not the one that was written: what comes
                after the last state has no checksum.
        """
        saved, _ = self._slots.intact()
        return self._history.records([each.note for each in saved])

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
        note = {
            "step": state.get("step"),
            **self._history.note(),
            "checksums": self._files.checksums(),
        }
        self._slots.save(note, state)

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
        saved, damaged = self._slots.intact()
        content = self._history.content()
        for each in saved:
            why = self._history.misfit(content, each.note)
            if why:
                damaged.append(f"{self._history.path} is damaged: {why}")
                continue
            try:
                state = states.unpickle(each.data)
            except states.DamagedStateError as error:
                damaged.append(f"{each.path} is damaged: {error}")
                continue
            if damaged:
                self.tell(
                    f"{'; '.join(damaged)}. Training goes on from the state of step "
                    f"{each.note['step']}, {each.path}."
                )
            self._slots.go_on_from(each)
            self._resumed = each.note["history_bytes"]
            return state
        if damaged:
            raise DamagedFileError(f"{'; '.join(damaged)}. {RESTORE}")
        if content:
            self.tell(f"No state had been saved in {self.path}: training begins anew.")
        return None

    def take_history_back(self) -> None:
        """Takes the history back to the state that `load_state` returned, or to nothing."""
        self._history.take_back(self._resumed)

    def write(self, name: str, content: bytes | str) -> None:
        """Writes a file of this directory, whole or not at all, and its checksum."""
        self._files.write(name, content)

    def read(self, name: str) -> bytes:
        """Reads a file of this directory, and compares its checksum.

        Raises:
            RunError: If it is not there.
            DamagedFileError: If it is not what was written.
        """
        return self._files.read(name)


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


def _is_rest(path: Path) -> bool:
    """Whether a file is what a process left that was killed before it had begun."""
    return path.name == "lock" or (path.name.startswith(".") and path.suffix == ".part")
