"""The search for wrong images in given balls."""

__all__ = [
    "Found",
    "Judge",
    "apgd",
    "counting",
    "judge_of",
    "median_margin",
    "network_like",
    "search",
]

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..metrics import correct, margins
from ._ascent import Objective, Rows, Tally, checkpoints
from ._balls import Norm, fit, lengths, noise, per_row
from ._losses import LOSSES, Loss

Judge = Callable[[Tensor], Tensor]  # images (B, *S) in float64 -> logits (B, K)


@dataclass(frozen=True)
class Found:
    """What an attack came to.

    Arguments:
        images: For each image one that is wrong, if one was found, else that of the largest loss; in
            float64, with shape (B, *S).
        logits: What the judge says of them, with shape (B, K).
        broken: Whether they are wrong, with shape (B,).
        lengths: Their distance from the images if they are wrong, else ∞, with shape (B,).
    """

    images: Tensor
    logits: Tensor
    broken: Tensor
    lengths: Tensor


def apgd(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float | Tensor,
    norm: Norm = "l2",
    loss: str = "ce",
    steps: int = 100,
    targets: int | None = None,
    seed: int = 0,
    judge: Judge | None = None,
    batch_size: int = 256,
) -> Tensor:
    """Searches for images within a radius that a network classifies wrong.

    Arguments:
        network: The network, in evaluation mode.
        images: The images, in [0, 1], with shape (B, *S).
        labels: Their classes, with shape (B,).
        radius: Of the ball, in pixels; one for all, or with shape (B,).
        norm: Of the ball, "l2" or "linf".
        loss: What is maximized, one of `LOSSES`.
        steps: How often an image goes forward and backward through the network, at most.
        targets: How many other classes a targeted loss aims at; by default all.
        seed: Which start.
        judge: The function that decides what is wrong, by default the network.
        batch_size: The number of pairs of an image and a target at a time.

    Returns:
        An image for each, in float64, in [0, 1] and within the radius: wrong, if one was found.  See
        `search` for what else is known of them.

    Example:
        >>> network = torch.nn.Linear(1, 2).double().eval()
        >>> with torch.no_grad():  # below 0.5 it is class 0
        ...     _ = network.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        ...     _ = network.bias.copy_(torch.tensor([0.5, -0.5]))
        >>> images, labels = torch.tensor([[0.3], [0.9]]), torch.tensor([0, 1])
        >>> network(apgd(network, images, labels, radius=0.25)).argmax(dim=1).tolist()
        [1, 1]
    """
    return search(
        network,
        images,
        labels,
        radius=radius,
        norm=norm,
        loss=loss,
        steps=steps,
        targets=targets,
        seed=seed,
        judge=judge,
        batch_size=batch_size,
    ).images


def search(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float | Tensor,
    norm: Norm = "l2",
    loss: str = "ce",
    steps: int = 100,
    targets: int | None = None,
    seed: int = 0,
    indices: Tensor | None = None,
    start: Tensor | None = None,
    judge: Judge | None = None,
    logits: Tensor | None = None,
    scale: float | None = None,
    batch_size: int = 256,
    tally: Tally | None = None,
) -> Found:
    """The same as `apgd`, for those who know more of the images, and want to know all that was found.

    Arguments:
        network: The network, in evaluation mode; searched in its own dtype, on its own device.
        images: The images, in [0, 1], with shape (B, *S).
        labels: Their classes, with shape (B,).
        radius: Of the ball, in pixels; one for all, or with shape (B,).
        norm: Of the ball, "l2" or "linf".
        loss: What is maximized, one of `LOSSES`.
        steps: How often an image goes forward and backward through the network, at most.
        targets: How many other classes a targeted loss aims at, those with the largest logits
            first; by default all.
        seed: Which start.
        indices: The index of each image in its data set, with shape (B,): its start is a function of
            the seed and of it alone.  By default its place.
        start: Where to start instead, with shape (B, *S).
        judge: The function that decides what is wrong, by default the network.
        logits: What the judge says of the images, if that is known, with shape (B, K).
        scale: What logits are divided by in the loss, by default `median_margin`.
        batch_size: The number of rows, pairs of an image and a target, at a time.
        tally: Counts what the search costs.

    Returns:
        What was found.  Images that are wrong as they are, are found as they are.

    Raises:
        ValueError: If the network is in training mode, or an argument is not as described.
    """
    radii = _check(network, images, labels, radius, loss, steps)
    tally, labels, centers = tally or Tally(), labels.cpu(), images.cpu().double()
    judge = counting(judge or judge_of(network, batch_size), tally)
    logits = judge(centers) if logits is None else logits.cpu().double()
    broken = ~correct(logits, labels)
    if 1 < logits.shape[1] < LOSSES[loss].classes:
        raise ValueError(
            f"The loss '{loss}' needs {LOSSES[loss].classes} classes, got {logits.shape[1]}."
        )
    hunt = _Hunt(
        Objective(
            network,
            LOSSES[loss],
            median_margin(logits, labels) if scale is None else scale,
            tally,
        ),
        norm,
        judge,
        centers,
        labels,
        radii,
        images=centers.clone(),
        logits=logits.clone(),
        broken=broken,
        values=torch.full((len(images),), -math.inf, dtype=torch.float64),
    )
    rows, aims = _rows((~broken).nonzero().flatten(), logits, labels, LOSSES[loss], targets)
    indices = torch.arange(len(images)) if indices is None else indices.cpu()
    for chunk, aim in zip(rows.split(batch_size), aims.split(batch_size), strict=True):
        left = ~broken[chunk]
        if left.any() and logits.shape[1] > 1:
            hunt.climb(chunk[left], aim[left], steps, seed, indices, start)
    hunt.judge_the_rest()
    moved = lengths(hunt.images - centers, norm)
    return Found(hunt.images, hunt.logits, broken, moved.where(broken, math.inf))


def median_margin(logits: Tensor, labels: Tensor) -> float:
    """The median of the margins of right predictions, 1 if there is none that is not 0.

    Divided by it, logits of any scale are alike.
    """
    found = margins(logits, labels)
    found = found[found.isfinite() & (found > 0)]
    return float(found.median()) if len(found) else 1.0


def judge_of(network: nn.Module, batch_size: int) -> Judge:
    """A network as the judge of images."""

    @torch.no_grad()
    def judge(images: Tensor) -> Tensor:
        like = network_like(network, images)
        parts = [network(batch.to(like, copy=True)) for batch in images.split(batch_size)]
        return torch.cat(parts).cpu().double()

    return judge


def counting(judge: Judge, tally: Tally) -> Judge:
    """The same judge, without gradients, in float64 and with its images counted."""

    @torch.no_grad()
    def counted(images: Tensor) -> Tensor:
        tally.judged += len(images)
        return judge(images).cpu().double()

    return counted


@dataclass
class _Hunt:
    """The search for all images, with what was found of each so far, on the CPU."""

    objective: Objective
    norm: Norm
    judge: Judge
    centers: Tensor
    labels: Tensor
    radii: Tensor
    images: Tensor
    logits: Tensor
    broken: Tensor
    values: Tensor  # the largest loss of each image

    def climb(
        self,
        owners: Tensor,
        targets: Tensor,
        steps: int,
        seed: int,
        indices: Tensor,
        start: Tensor | None,
    ) -> None:
        """Ascends from the start of each row, until its image is broken or steps are used up."""
        like = network_like(self.objective.network, self.centers)
        centers, radii = self.centers[owners].to(like), self.radii[owners].to(like)
        places, inverse = owners.unique(return_inverse=True)
        drawn = noise(centers, indices[places], self.norm, seed)[inverse.to(like.device)]
        points = centers + per_row(radii, centers) * drawn
        if start is not None:
            points = start[owners.to(start.device)].to(like)
        rows = Rows.begin(
            self.objective,
            self.norm,
            owners.to(like.device),
            points,
            centers,
            self.labels[owners].to(like.device),
            targets.to(like.device),
            radii,
            drawn,
        )
        looks, last = checkpoints(steps), 0
        for step in range(steps):
            self._drop_broken(rows)
            if not len(rows.owners) or step == steps - 1:
                break
            rows.advance(self.objective, self.norm, step)
            if step + 1 in looks:
                self._drop_broken(rows)  # before they go back
                rows.halve(step + 1 - last)
                last = step + 1
        self._note(rows)

    def judge_the_rest(self) -> None:
        """Judges the images of the largest loss, where none was wrong for the network itself."""
        rest = (~self.broken & (self.values > -math.inf)).nonzero().flatten()
        if len(rest):
            self.logits[rest] = self.judge(self.images[rest])
            self.broken[rest] = ~correct(self.logits[rest], self.labels[rest])

    def _drop_broken(self, rows: Rows) -> None:
        """Judges the rows that are wrong for the network, and ends those of images that are."""
        wrong = rows.wrong.nonzero().flatten()
        if not len(wrong):
            return
        places = rows.owners[wrong].cpu()
        found = fit(rows.points[wrong].cpu(), self.centers[places], self.radii[places], self.norm)
        logits = self.judge(found)
        really = (~correct(logits, self.labels[places])).nonzero().flatten()
        for row in really.flip(0).tolist():  # the first row of an image comes last, and stays
            place = places[row]
            self.images[place], self.logits[place] = found[row], logits[row]
            self.broken[place] = True
        if len(really):
            rows.keep(~self.broken[rows.owners.cpu()].to(rows.owners.device))

    def _note(self, rows: Rows) -> None:
        """Keeps the points of the largest loss of images that were not broken."""
        places, values = rows.owners.cpu(), rows.best_values.cpu().double()
        points = fit(rows.best.cpu(), self.centers[places], self.radii[places], self.norm)
        for row, place in enumerate(places.tolist()):
            if values[row] > self.values[place]:
                self.values[place], self.images[place] = values[row], points[row]


def _rows(
    places: Tensor, logits: Tensor, labels: Tensor, loss: Loss, targets: int | None
) -> tuple[Tensor, Tensor]:
    """The rows of images, image by image, and the classes that they aim at."""
    if not loss.targeted:
        return places, labels[places]
    others = logits[places].scatter(1, labels[places][:, None], -math.inf)
    most = logits.shape[1] - 1
    count = most if targets is None else min(targets, most)
    aims = others.argsort(dim=1, descending=True, stable=True)[:, :count]
    return places.repeat_interleave(count), aims.flatten()


def network_like(network: nn.Module, images: Tensor) -> Tensor:
    """An empty tensor of the dtype and device of a network."""
    own = (*network.parameters(), *network.buffers())
    return next((each for each in own if each.is_floating_point()), images.float()).flatten()[:0]


def _check(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    radius: float | Tensor,
    loss: str,
    steps: int,
) -> Tensor:
    if network.training:
        raise ValueError("A network should be in evaluation mode: call .eval() first.")
    if loss not in LOSSES:
        raise ValueError(f"No loss is called '{loss}': there are {', '.join(LOSSES)}.")
    if steps < 1:
        raise ValueError(f"'steps' should be positive, got {steps}.")
    if labels.shape != images.shape[:1] or not len(images):
        raise ValueError(
            "'images' and 'labels' should have shapes (B, *S) and (B,), B > 0, "
            f"got {tuple(images.shape)} and {tuple(labels.shape)}."
        )
    if not ((images >= 0) & (images <= 1)).all():
        raise ValueError("Images should be in [0, 1].")
    radii = torch.as_tensor(radius, dtype=torch.float64).cpu().expand(len(images))
    if not (radii.isfinite() & (radii > 0)).all():
        raise ValueError(f"'radius' should be positive, got {float(radii.min())}.")
    return radii
