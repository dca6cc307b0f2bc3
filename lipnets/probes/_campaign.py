"""Attacks on all images of a subject, one after the other, on those that are left."""

__all__ = ["Campaign", "Stage"]

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..attacks import (
    Found,
    Norm,
    Tally,
    autoattack,
    lengths,
    median_margin,
    minimum_norm,
    search,
)
from ..metrics import correct, predictions
from .invariants import Pairs, require
from .subject import Subject


class Stage(NamedTuple):
    """One attack within one radius; ∞ for the search of the nearest wrong image."""

    norm: Norm
    radius: float
    loss: str


@dataclass
class Score:
    """What a stage came to.

    Arguments:
        tried: The number of images that were attacked.
        broken: Of those, how many became wrong.
        tally: What it cost.
    """

    tried: int
    broken: int
    tally: Tally


@dataclass
class _Front:
    """How near attacks of one norm came to each image."""

    images: Tensor  # the nearest wrong ones; where there is none, those of the largest loss
    logits: Tensor
    lengths: Tensor  # their distances; ∞ if they are not wrong, 0 for images that are so themselves
    survived: Tensor  # the largest radius at which all attacks failed

    @classmethod
    def of(cls, subject: Subject) -> "_Front":
        right = correct(subject.logits, subject.labels)
        lengths = torch.where(right, math.inf, 0.0).double()
        images = subject.images.double().clone()
        return cls(images, subject.logits.clone(), lengths, torch.zeros_like(lengths))

    def at(self, places: Tensor) -> Found:
        lengths = self.lengths[places]
        return Found(self.images[places], self.logits[places], lengths.isfinite(), lengths)

    def take(self, places: Tensor, found: Found) -> None:
        old = self.lengths[places]
        better = (found.lengths < old) | (old.isinf() & ~found.broken)
        chosen = places[better]
        self.images[chosen] = found.images[better]
        self.logits[chosen] = found.logits[better]
        self.lengths[chosen] = found.lengths[better]


class Campaign:
    """All attacks, what they found, and the checks of it.

    Arguments:
        subject: The network and its images.
        steps: The number of steps of an attack, at most.
        targets: How many other classes targeted attacks aim at, at most.
        rounds: The number of radii that bisection tries.
        share: The share of the images certified at a radius that are attacked there all the same.
        seed: Which starts.
        batch_size: The number of images and targets at a time.
    """

    def __init__(
        self,
        subject: Subject,
        *,
        steps: int,
        targets: int,
        rounds: int,
        share: float,
        seed: int,
        batch_size: int,
    ) -> None:
        self.subject, self._rounds, self._share = subject, rounds, share
        self._settings: dict[str, Any] = {
            "steps": steps,
            "targets": targets,
            "seed": seed,
            "scale": median_margin(subject.logits, subject.labels),
            "batch_size": batch_size,
        }
        self.right = correct(subject.logits, subject.labels)
        self._certified: dict[Norm, Tensor] = {"l2": subject.radii, "linf": subject.radii}
        if subject.proved:
            linf = subject.proved.radii_of(subject.logits, subject.labels, norm="linf")
            self._certified["linf"] = linf
        self._fronts: dict[Norm, _Front] = {"l2": _Front.of(subject), "linf": _Front.of(subject)}
        self.scores: dict[Stage, Score] = {}
        self.pairs = Pairs(subject)
        self.cases, self.closest = 0, 0.0  # of the sandwich
        self._made: list[tuple[Tensor, Found]] = []  # in the stage that runs

    def run(self, stage: Stage, block: Tensor) -> None:
        """Attacks the images of a block that are right, and were not broken within the radius.

        Arguments:
            stage: The attack.
            block: The places of the images.
        """
        front, subject = self._fronts[stage.norm], self.subject
        score = self.scores.setdefault(stage, Score(0, 0, Tally()))
        left = self.right & ~self.spared(stage.norm, stage.radius)
        if math.isfinite(stage.radius):
            left &= front.lengths > stage.radius
        places = block[left[block]]
        if not len(places):
            return
        images, labels = subject.images[places], subject.labels[places]
        known = {"indices": subject.indices[places], "logits": subject.logits[places]}
        common = {"norm": stage.norm, "judge": subject.run, "tally": score.tally, **known}
        if stage.loss == "autoattack":
            found = self._second_opinion(stage, places)
        elif math.isfinite(stage.radius):
            ball = {"radius": stage.radius, "loss": stage.loss}
            found = search(subject.fast, images, labels, **ball, **common, **self._settings)
        else:
            front_there = {"found": front.at(places), "survived": front.survived[places]}
            loss = {"loss": stage.loss, "rounds": self._rounds}
            found = minimum_norm(
                subject.fast, images, labels, **loss, **front_there, **common, **self._settings
            )
        score.tried += len(places)
        score.broken += int(found.broken.sum())
        front.take(places, found)
        self._made.append((places, found))

    def finish(self, stage: Stage) -> None:
        """Checks all that a stage produced against the certificate."""
        if not self._made:
            return
        places = torch.cat([each for each, _ in self._made])
        images = torch.cat([found.images for _, found in self._made])
        logits = torch.cat([found.logits for _, found in self._made])
        self._made.clear()
        pairs = Pairs(self.subject.at(places))
        pairs.check(images, logits, f"an attack in {stage.norm}")
        self.pairs.pairs += pairs.pairs
        self.pairs.within += pairs.within
        self.pairs.steepest = max(self.pairs.steepest, pairs.steepest)
        self.pairs.farthest = max(self.pairs.farthest, pairs.farthest)

    def settle(self, norm: Norm, radius: float) -> None:
        """Takes note of the images that survived all attacks within a radius: see `survivors`."""
        front = self._fronts[norm]
        attacked = (front.lengths > radius) & ~self.spared(norm, radius)
        front.survived[attacked] = radius

    def survivors(self, norm: Norm, radius: float) -> Tensor:
        """Whether no wrong image was found within a radius, checked against the certificate.

        Returns:
            Booleans, with shape (N,): images that are wrong do not survive.

        Raises:
            InvariantError: If a certified image was broken, or one that survives is wrong.
        """
        survives = self._fronts[norm].lengths > radius
        certified = self.certified(norm) > radius
        for i in (certified & ~survives).nonzero().flatten().tolist():
            self._broken(i, norm)
        for i in (survives & ~self.right).nonzero().flatten().tolist():
            require(
                False,
                law="an image that survives attacks is classified right",
                came=f"test image {int(self.subject.indices[i])} is wrong without any",
            )
        self.cases += len(survives)
        return survives

    def drawn_in(self, norm: Norm, radius: float) -> tuple[int, int]:
        """How many images survived all attacks within a radius, and how many were broken there later."""
        front = self._fronts[norm]
        survived = front.survived >= radius
        return int(survived.sum()), int((survived & (front.lengths <= radius)).sum())

    def distances(self) -> Tensor:
        """The ℓ2 distances of the nearest wrong images, checked against certified radii.

        Returns:
            The distances, 0 where the prediction is wrong and ∞ if there is none, with shape (N,).
        """
        lengths, radii = self._fronts["l2"].lengths, self.certified("l2")
        for i in ((radii > 0) & (radii > lengths)).nonzero().flatten().tolist():
            self._broken(i, "l2")
        ratios = (radii / lengths)[(radii > 0) & lengths.isfinite()]
        self.cases += len(lengths)
        self.closest = max(self.closest, ratios.max().item() if len(ratios) else 0.0)
        return lengths

    def certified(self, norm: Norm) -> Tensor:
        """The certified radii in a norm, with shape (N,)."""
        return self._certified[norm]

    def spared(self, norm: Norm, radius: float) -> Tensor:
        """Which images certified at a radius are not attacked there, with shape (N,).

        Those that are attacked lie at even steps among the certified ones.
        """
        certified = self.certified(norm) > radius
        rank = certified.cumsum(0).double()
        chosen = (rank * self._share).floor() > ((rank - 1) * self._share).floor()
        return certified & ~chosen

    def _second_opinion(self, stage: Stage, places: Tensor) -> Found:
        subject = self.subject
        images = autoattack(
            subject.fast,
            subject.images[places],
            subject.labels[places],
            radius=stage.radius,
            num_classes=subject.certificate.num_classes,
            norm=stage.norm,
            seed=self._settings["seed"],
            batch_size=self._settings["batch_size"],
        )
        logits = subject.run(images)
        broken = ~correct(logits, subject.labels[places])
        moved = lengths(images - subject.images[places].double(), stage.norm)
        return Found(images, logits, broken, moved.where(broken, math.inf))

    def _broken(self, place: int, norm: Norm) -> None:
        front, subject = self._fronts[norm], self.subject
        to = int(predictions(front.logits[place : place + 1]))
        require(
            False,
            law="an image that is certified at a radius survives every attack within it",
            came=f"test image {int(subject.indices[place])}, certified within "
            f"{float(self.certified(norm)[place]):.6g} in {norm}, is given class {to} at the distance "
            f"{float(front.lengths[place]):.6g}",
        )
