"""APGD on rows: pairs of an image and a class to aim at, each with a step of its own."""

__all__ = ["Objective", "Rows", "Tally", "checkpoints"]

import math
from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from ._balls import Norm, ascent, per_row, project
from ._losses import Loss

_INERTIA = 0.25  # of the step before, in each step
_ENOUGH = 0.75  # of steps since the last checkpoint should have raised the loss, or the step halves


@dataclass
class Tally:
    """Counts what searches cost.

    Arguments:
        searched: Images that went forward and backward through the network.
        judged: Images that the judge has seen.
    """

    searched: int = 0
    judged: int = 0


@dataclass(frozen=True)
class Objective:
    """What is maximized.

    Arguments:
        network: The network.
        loss: The loss.
        scale: What logits are divided by in it.
        tally: Counts what it costs.
    """

    network: nn.Module
    loss: Loss
    scale: float
    tally: Tally

    def __call__(
        self, points: Tensor, labels: Tensor, targets: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The loss at points, its gradients, and whether predictions are wrong."""
        points = points.detach().requires_grad_()
        with torch.enable_grad():
            logits = self.network(points.clone())  # which may work in place
            values = self.loss.value(logits / self.scale, labels, targets)
            if values.requires_grad:
                (gradients,) = torch.autograd.grad(values.sum(), points, materialize_grads=True)
            else:
                gradients = torch.zeros_like(points)
        self.tally.searched += len(points)
        logits, values = logits.detach(), values.detach().nan_to_num(nan=-math.inf)
        wrong = (logits.argmax(dim=1) != labels) | ~logits.isfinite().all(dim=1)
        return values, gradients.detach(), wrong


@dataclass
class Rows:
    """The state of an ascent, on the device of the network; all have a row for each pair."""

    owners: Tensor  # the places of images
    centers: Tensor
    labels: Tensor
    targets: Tensor
    radii: Tensor
    noise: Tensor
    points: Tensor
    before: Tensor  # the points of the step before
    gradients: Tensor
    values: Tensor
    wrong: Tensor
    best: Tensor
    best_gradients: Tensor
    best_values: Tensor
    sizes: Tensor  # of steps
    rises: Tensor  # the number of steps since the last checkpoint that raised the loss
    halved: Tensor  # whether the step was halved there
    marks: Tensor  # the largest loss until then

    @classmethod
    def begin(
        cls,
        objective: Objective,
        norm: Norm,
        owners: Tensor,
        start: Tensor,
        centers: Tensor,
        labels: Tensor,
        targets: Tensor,
        radii: Tensor,
        noise: Tensor,
    ) -> "Rows":
        """Rows at their start, which is projected onto their balls."""
        points = project(start, centers, radii, norm)
        values, gradients, wrong = objective(points, labels, targets)
        zeros = torch.zeros_like(values)
        return cls(
            *(owners, centers, labels, targets, radii, noise),
            *(points, points, gradients, values, wrong, points, gradients, values),
            *(2 * radii, zeros, zeros.bool(), values),
        )

    def keep(self, mask: Tensor) -> None:
        """Leaves the rows of a mask."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name)[mask])

    def advance(self, objective: Objective, norm: Norm, step: int) -> None:
        """Makes one step; the first one has no inertia."""
        direction = ascent(self.gradients, self.points, lambda: self._noise(step), norm)
        ahead = self.points + per_row(self.sizes, self.points) * direction
        ahead = project(ahead, self.centers, self.radii, norm)
        if step:
            moved = (1 - _INERTIA) * (ahead - self.points) + _INERTIA * (self.points - self.before)
            ahead = project(self.points + moved, self.centers, self.radii, norm)
        self.before, self.points, old = self.points, ahead, self.values
        self.values, self.gradients, self.wrong = objective(ahead, self.labels, self.targets)
        self.rises = self.rises + (self.values > old)
        better = self.values > self.best_values
        wide = per_row(better, ahead)
        self.best = ahead.where(wide, self.best)
        self.best_gradients = self.gradients.where(wide, self.best_gradients)
        self.best_values = self.values.where(better, self.best_values)

    def _noise(self, step: int) -> Tensor:
        """The noise of rows with signs that are others at each step."""
        generator = torch.Generator().manual_seed(step)
        shape = self.noise.shape[1:]
        signs = 2 * torch.randint(2, shape, generator=generator).to(self.noise) - 1
        return self.noise.flatten(1).roll(step, dims=1).view_as(self.noise) * signs

    def halve(self, passed: int) -> None:
        """Halves the steps that led nowhere, and goes back to the best points.

        Arguments:
            passed: The number of steps since the last checkpoint.
        """
        few = self.rises < _ENOUGH * passed
        stuck = ~self.halved & (self.best_values <= self.marks)
        self.halved = few | stuck
        self.sizes = torch.where(self.halved, self.sizes / 2, self.sizes)
        self.rises, self.marks = torch.zeros_like(self.rises), self.best_values
        wide = per_row(self.halved, self.points)
        self.points = self.best.where(wide, self.points)
        self.before = self.best.where(wide, self.before)
        self.gradients = self.best_gradients.where(wide, self.gradients)
        self.values = self.best_values.where(self.halved, self.values)


def checkpoints(steps: int) -> set[int]:
    """The steps after which the size of steps is looked at: after 22 %, then ever sooner.

    Example:
        >>> sorted(checkpoints(100))
        [22, 41, 57, 70, 80, 87, 93, 99]
    """
    shares = [0.0, 0.22]
    while shares[-1] < 1:
        shares.append(shares[-1] + max(shares[-1] - shares[-2] - 0.03, 0.06))
    return {math.ceil(round(share * steps, 9)) for share in shares[1:-1]}
