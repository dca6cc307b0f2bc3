"""The nearest wrong image: attacks in balls that close in on it."""

__all__ = ["minimum_norm"]

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..metrics import correct, margins, predictions
from ._ascent import Objective, Tally
from ._balls import Norm, fit, lengths, per_row, to_plane
from ._losses import LOSSES
from ._search import Found, Judge, counting, judge_of, median_margin, network_like, search

_BEYOND = 1.01  # times the distance of a plane, at most
_FARTHER = 3  # times a radius at which nothing was found, in the next round
_NEAR = 1.0001  # quotient of the ends of a bracket at which its search ends


def minimum_norm(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    norm: Norm = "l2",
    loss: str = "targeted_margin",
    targets: int | None = None,
    rounds: int = 10,
    steps: int = 30,
    refinements: int = 3,
    first: float = 0.5,
    found: Found | None = None,
    survived: Tensor | None = None,
    seed: int = 0,
    indices: Tensor | None = None,
    judge: Judge | None = None,
    logits: Tensor | None = None,
    scale: float | None = None,
    batch_size: int = 256,
    tally: Tally | None = None,
) -> Found:
    """Searches for the nearest image that a network classifies wrong, by bisection over the radius.

    Each round attacks within a radius between the largest at which attacks failed and the distance
    of what was found so far, from where that lies.  As long as nothing was found, it grows
    threefold.
    At last, what was found is drawn to the image as far as it stays wrong, and then turned to where the
    plane of equal logits there is nearest to the image within the box: of a linear network, no point is
    nearer.

    Arguments:
        network: The network, in evaluation mode.
        images: The images, in [0, 1], with shape (B, *S).
        labels: Their classes, with shape (B,).
        norm: Of distances, "l2" or "linf".
        loss: What is maximized, one of `LOSSES`.
        targets: How many other classes a targeted loss aims at; by default all.
        rounds: The number of radii that are tried for an image, at most.
        steps: Those of each round.
        refinements: How often what was found is drawn nearer and turned at last.
        first: The radius of the first round, in pixels.
        found: What attacks found before.
        survived: A radius at which attacks failed before, 0 if there is none, with shape (B,).
        seed: Which start.
        indices: The index of each image in its data set, with shape (B,).
        judge: The function that decides what is wrong, by default the network.
        logits: What the judge says of the images, if that is known, with shape (B, K).
        scale: What logits are divided by in the loss.
        batch_size: The number of images at a time.
        tally: Counts what the search costs.

    Returns:
        What was found: the true distance is at most `lengths`; 0 for images that are wrong.
    """
    tally, labels, centers = tally or Tally(), labels.cpu(), images.cpu().double()
    judge = judge or judge_of(network, batch_size)
    counted = counting(judge, tally)
    logits = counted(centers) if logits is None else logits.cpu().double()
    scale = median_margin(logits, labels) if scale is None else scale
    indices = torch.arange(len(images)) if indices is None else indices.cpu()
    objective = Objective(network, LOSSES["targeted_margin"], scale, tally)
    bracket = _Bracket.around(centers, labels, logits, norm, found, survived)
    for _ in range(rounds if logits.shape[1] > 1 else 0):
        places, radii = bracket.next(first)
        if not len(places):
            break
        tried = search(
            network,
            centers[places],
            labels[places],
            radius=radii,
            norm=norm,
            loss=loss,
            steps=steps,
            targets=targets,
            seed=seed,
            indices=indices[places],
            start=bracket.images[places],
            judge=judge,
            logits=logits[places],
            scale=scale,
            batch_size=batch_size,
            tally=tally,
        )
        bracket.close(places, radii, tried)
        bracket.refine(counted, places[tried.broken], times=1)
    for _ in range(refinements):
        for some in bracket.wrong().split(batch_size):
            bracket.turn(objective, counted, some)
            bracket.refine(counted, some, times=2)
    return Found(bracket.images, bracket.logits, bracket.high.isfinite(), bracket.high)


@dataclass
class _Bracket:
    """What is known of the distance of each image from the nearest wrong one."""

    norm: Norm
    centers: Tensor
    labels: Tensor
    margins: Tensor  # of the images themselves
    low: Tensor  # the largest radius at which an attack failed
    high: Tensor  # the distance of the nearest wrong image, ∞ if there is none
    images: Tensor  # that image, else the one of the largest loss
    logits: Tensor

    @classmethod
    def around(
        cls,
        centers: Tensor,
        labels: Tensor,
        logits: Tensor,
        norm: Norm,
        found: Found | None,
        survived: Tensor | None,
    ) -> "_Bracket":
        right = correct(logits, labels)
        high = torch.where(right, math.inf, 0.0).double()
        low = torch.zeros_like(high) if survived is None else survived.cpu().double().clone()
        images, lead = centers.clone(), margins(logits, labels)
        bracket = cls(norm, centers, labels, lead, low, high, images, logits.clone())
        if found is not None:
            bracket.take(right.nonzero().flatten(), found.images[right], found.logits[right])
        return bracket

    def next(self, first: float) -> tuple[Tensor, Tensor]:
        """The images to search on for, by their places, and the radii at which to do so."""
        shape = self.centers.shape[1:]
        farthest = math.prod(shape) ** 0.5 if self.norm == "l2" else 1.0
        unfound = self.high.isinf()
        radii = torch.where(
            unfound, (_FARTHER * self.low).clamp_min(first), (self.low + self.high) / 2
        )
        done = torch.where(unfound, self.low >= farthest, self.high <= _NEAR * self.low)
        places = (~done & (self.high > 0)).nonzero().flatten()
        return places, radii[places].clamp(max=farthest)

    def close(self, places: Tensor, radii: Tensor, tried: Found) -> None:
        """Closes in on what an attack found, or on that it found nothing."""
        self.low[places] = radii.where(~tried.broken, self.low[places])
        self.take(places, tried.images, tried.logits)

    def take(self, places: Tensor, images: Tensor, logits: Tensor) -> None:
        """Keeps images that are wrong and nearer than what was found, or the first of all."""
        wrong = ~correct(logits, self.labels[places])
        moved = lengths(images - self.centers[places], self.norm).where(wrong, math.inf)
        better = (moved < self.high[places]) | self.high[places].isinf()
        chosen = places[better]
        self.high[chosen] = moved[better]
        self.images[chosen], self.logits[chosen] = images[better], logits[better]

    def wrong(self) -> Tensor:
        """The places of the images for which a wrong one was found, and that are right themselves."""
        return ((self.high > 0) & self.high.isfinite()).nonzero().flatten()

    def turn(self, objective: Objective, judge: Judge, places: Tensor) -> None:
        """Tries the points where the linearized network changes its class nearest to the images."""
        classes = predictions(self.logits[places])
        places, classes = places[classes >= 0], classes[classes >= 0]
        if not len(places):
            return
        like = network_like(objective.network, self.images)
        labels = self.labels[places].to(like.device)
        points = self.images[places].to(like)
        _, gradients, _ = objective(points, labels, classes.to(like.device))
        centers, normals = self.centers[places], gradients.cpu().double()
        moved = to_plane(centers, normals, self.images[places] - centers, self.norm)
        # A little too far, though not as far as before: what is found can be drawn nearer.
        beyond = (1 + self.high[places] / lengths(moved, self.norm)) / 2
        images = (centers + per_row(beyond.clamp(max=_BEYOND), moved) * moved).clamp(0, 1)
        nearer = lengths(images - centers, self.norm) < self.high[places]  # not if not a number
        places, images = places[nearer], images[nearer]
        if len(places):
            self.take(places, images, judge(images))

    def refine(self, judge: Judge, places: Tensor, times: int) -> None:
        """Draws what was found nearer, along the line to the image, as far as it stays wrong.

        Where the line crosses the boundary is bracketed by secants of the margin and by halves in
        turn; a thousandth of the bracket beyond, since a secant of a line would end on the boundary.
        """
        if not len(places):
            return
        lead, near = self.margins[places], torch.zeros(len(places), dtype=torch.float64)
        centers, radii = self.centers[places], self.high[places]
        ends = self.images[places] - centers
        far, behind = torch.ones_like(near), margins(self.logits[places], self.labels[places])
        for time in range(times):
            share = (near + far) / 2
            if time % 2 == 0:
                crossing = near + (far - near) * lead / (lead - behind)
                crossing = crossing + 1e-3 * (far - crossing)
                inside = (crossing > near) & (crossing < far)
                share = crossing.where(inside, share)
            images = fit(centers + per_row(share, ends) * ends, centers, radii, self.norm)
            logits = judge(images)
            self.take(places, images, logits)
            wrong, found = (
                ~correct(logits, self.labels[places]),
                margins(logits, self.labels[places]),
            )
            near, lead = share.where(~wrong, near), found.where(~wrong, lead)
            far, behind = share.where(wrong, far), found.where(wrong, behind)
