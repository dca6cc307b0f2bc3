"""What must be true of every certified network: checked on all that is measured anyway.

A violation proves that something is wrong: a bound, the scale of pixels, an index, a clipping.
"""

__all__ = ["InvariantError", "Pairs", "check_radii", "require"]

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ..metrics import predictions
from ..records import Record
from .subject import Subject

_ROUNDING = 1e-9  # far above that of a forward pass in float64, far below that of float32


class InvariantError(RuntimeError):
    """What a proof says cannot happen did happen: no number of this run can be trusted."""


def require(fact: bool, *, law: str, came: str) -> None:
    """Raises unless a fact holds.

    Arguments:
        fact: Whether it does.
        law: What should be true, as a sentence without its full stop.
        came: What is, and where.
    """
    if not fact:
        raise InvariantError(
            f"Invariant broken: {law}, but {came}. The certificate or the code that reads it is "
            "wrong, and so may be every number of this evaluation: please report it."
        )


class Pairs:
    """Checks what is proved of an image and any other, on pairs that are given.

    - An image within the certified radius of another has the same class.
    - ‖f(x) − f(x′)‖ ≤ L ‖x − x′‖.

    Arguments:
        subject: The network and the images x.
    """

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.steepest = 0.0  # ‖f(x) − f(x′)‖ / (L ‖x − x′‖)
        self.pairs = 0
        self.within = 0  # pairs within the certified radius
        self.farthest = 0.0  # ‖x − x′‖ / r of these
        self._classes = predictions(subject.logits)
        self._finite = self._classes >= 0
        certificate = subject.certificate
        # Around a wrong prediction as around a right one: it is the prediction that stays.
        self._radii = certificate.radii_of(subject.logits, self._classes.clamp(min=0))
        self._radii = self._radii.where(self._finite, 0.0)

    def check(self, images: Tensor, logits: Tensor, what: str) -> None:
        """Checks a counterpart of every image.

        Arguments:
            images: The images x′, with shape (N, C, H, W).
            logits: Their logits, with shape (N, K).
            what: What was done to x, in words.

        Raises:
            InvariantError: If a pair contradicts what is proved, naming the image.
        """
        if not self.subject.proved:
            return
        certificate, finite = self.subject.certificate, self._finite
        clean = self.subject.images.double().flatten(1)
        moved = (images.cpu().double().flatten(1) - clean).norm(dim=1)
        changed = (logits - self.subject.logits).norm(dim=1)
        size = clean.norm(dim=1) + moved + 1
        slack = _ROUNDING * (certificate.lipschitz * size + self.subject.logits.norm(dim=1))

        limit = certificate.lipschitz * moved
        steep = finite & ~(changed <= limit + slack)
        for i in steep.nonzero().flatten().tolist():
            require(
                False,
                law="outputs differ by at most L ‖x − x′‖",
                came=f"those of test image {self._name(i)} differ by {changed[i]:.6g} after "
                f"{what}, which moved it by {moved[i]:.6g}, with L = {certificate.lipschitz:.6g}",
            )
        within = finite & (self._radii > moved + _ROUNDING * size)
        classes = predictions(logits)
        for i in (within & (classes != self._classes)).nonzero().flatten().tolist():
            require(
                False,
                law="an image within the certified radius has the same class",
                came=f"test image {self._name(i)} went from class {int(self._classes[i])} to "
                f"{int(classes[i])} after {what}, which moved it by {moved[i]:.6g} within its "
                f"radius {self._radii[i]:.6g}",
            )
        ratios = (changed / limit)[finite & (limit > slack)]
        self.steepest = max(self.steepest, ratios.max().item() if len(ratios) else 0.0)
        self.pairs += int(finite.sum())
        self.within += int(within.sum())
        reach = (moved / self._radii)[within]
        self.farthest = max(self.farthest, reach.max().item() if len(reach) else 0.0)

    def records(self, what: str) -> Iterator[Record]:
        """What was checked, and how close it came: nothing, if nothing is proved."""
        if not self.subject.proved:
            return
        yield self.subject.record(
            "check/lipschitz",
            self.steepest,
            "1",
            self.pairs,
            says=f"outputs of an image and its {what} version differ by at most L ‖x − x′‖; "
            "closest: the largest share of that limit",
        )
        yield self.subject.record(
            "check/radius",
            self.farthest,
            "1",
            self.within,
            says=f"{what} images within the certified radius of the original have its class; "
            "closest: the largest share of that radius",
        )

    def _name(self, position: int) -> int:
        return int(self.subject.indices[position])


def check_radii(radii: Tensor, right: Tensor, area: float, indices: Tensor) -> None:
    """Checks certified radii against predictions, and the area under their curve.

    Arguments:
        radii: The certified radii, clipped if infinite, with shape (N,).
        right: Whether predictions are right, with shape (N,).
        area: The average certified radius.
        indices: The index of each image in its data set, with shape (N,).
    """
    for i in ((radii > 0) & ~right).nonzero().flatten().tolist():
        require(
            False,
            law="only right predictions have a positive radius",
            came=f"test image {int(indices[i])} is wrong and has {radii[i]:.6g}",
        )
    ties = int((right & (radii == 0)).sum())
    certified = int((radii > 0).sum())
    require(
        certified + ties == int(right.sum()),
        law="right predictions are certified beyond 0, or ties",
        came=f"{int(right.sum())} are right, {certified} certified and {ties} tied",
    )
    steps = radii.clamp(min=0).sort().values  # the curve falls at each of them
    widths = torch.diff(steps, prepend=steps.new_zeros(1))
    shares = torch.arange(len(steps), 0, -1, dtype=torch.float64) / len(steps)
    integral = float((widths * shares).sum())
    require(
        math.isclose(integral, area, rel_tol=1e-9, abs_tol=1e-12),
        law="the area under the certified curve is the average radius",
        came=f"they are {integral:.9g} and {area:.9g}",
    )
