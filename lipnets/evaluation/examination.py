"""One network under all probes: what was found before is not looked for again."""

__all__ = ["Examination"]

import hashlib
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from .. import probes
from ..atomic import write_atomic
from ..probes import Subject
from ..probes.subject import Tracker, silently
from ..records import Record
from ..runs import certificate_bytes
from .cache import Cache, digest_of_code, digest_of_files
from .targets import Target, TargetError

_CERTIFIED = 1000  # images of which the certificate file holds the radii, at the most

Settings = Mapping[str, Any]
Tell = Callable[[str, float | None], None]  # a probe, and the seconds it took; None: known before


class Examination:
    """Runs probes on a network, and keeps what they find.

    Arguments:
        target: The network and its data.
        limit: The number of test images, evenly spaced; by default all.
        batch_size: The number of images at a time, which changes no number.
        device: Where programs run.
        data_dir: The directory with the files of other data sets.
        track: Shows the progress of a loop.
        fresh: Whether to forget what was found before.
    """

    def __init__(
        self,
        target: Target,
        *,
        limit: int | None = None,
        batch_size: int = 256,
        device: torch.device | str = "cpu",
        data_dir: str | None = None,
        track: Tracker = silently,
        fresh: bool = False,
    ) -> None:
        self.target, self.limit, self.batch_size = target, limit, batch_size
        self.device, self.data_dir, self.track = torch.device(device), data_dir, track
        self.fresh = fresh
        history = hashlib.sha256(repr(list(target.history)).encode()).hexdigest()
        self.cache = Cache(
            target.out / "cache",
            {
                "weights": target.weights,
                "data": [target.dataset.name, target.dataset.sha256],
                "history": history,
                "limit": limit,
                "device": self.device.type,
                "files": digest_of_files(data_dir),
                "code": digest_of_code(),
                "torch": torch.__version__,
            },
        )

    @cached_property
    def subject(self) -> Subject:
        """The network, certified if it can be, run on the test images.

        Raises:
            TargetError: If the network does not fit the data.
        """
        target = self.target
        try:
            return Subject.of(
                target.model,
                target.dataset.test,
                limit=self.limit,
                batch_size=self.batch_size,
                device=self.device,
                history=target.history,
                provenance={
                    "data": target.dataset.name,
                    "sha256": target.dataset.sha256,
                    "split": "test",
                    "weights": target.weights,
                },
                track=self.track,
                data_dir=self.data_dir,
                refuse=False,
            )
        except ValueError as error:
            raise TargetError(f"the network does not fit the data: {error}") from error

    def examine(self, chosen: Mapping[str, Settings], tell: Tell | None = None) -> list[Record]:
        """Runs probes in turn.

        Arguments:
            chosen: The settings of each probe, by its name.
            tell: Is told of each probe that is done.

        Returns:
            All records, in the order of probes.

        Raises:
            InvariantError: If something that must be true is not.
            TargetError: If the network does not fit the data.
            ValueError, TypeError: If there is no such probe or setting; told before any runs.
            ValueError: If a file that a probe reads is damaged.
        """
        built = {name: probes.build(name, **settings) for name, settings in chosen.items()}
        records: list[Record] = []
        for name, probe in built.items():
            found = None if self.fresh else self.cache.find(name, chosen[name])
            seconds = None
            if found is None:
                started = time.monotonic()
                subject = self.subject
                found = list(probe(subject))
                self.cache.keep(name, chosen[name], found)
                seconds = time.monotonic() - started
            if tell:
                tell(name, seconds)
            records += found
        return records

    def save_certificate(self) -> Path | None:
        """Writes `certificate.npz` into the directory of the evaluation; None if nothing is proved."""
        path = self.target.out / "certificate.npz"
        note = self.cache.path("certificate", {"images": _CERTIFIED}).with_suffix(".sha256")
        if not self.fresh and note.is_file() and path.is_file():
            written = hashlib.sha256(path.read_bytes()).hexdigest()
            if written == note.read_text(encoding="utf-8"):
                return path
        certificate = self.subject.proved
        if certificate is None:
            path.unlink(missing_ok=True)  # of the network before
            return None
        kept = self.subject.sample(_CERTIFIED)
        content = certificate_bytes(certificate, kept.images, kept.labels)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, content)
        note.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(note, hashlib.sha256(content).hexdigest())
        return path

    def counts(self) -> tuple[int, int]:
        """The numbers of images that were examined, and that the split has."""
        whole = len(self.target.dataset.test)
        return min(self.limit or whole, whole), whole
