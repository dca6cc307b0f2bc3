"""Radii from the Lipschitz constant of a network around an image, a fixed point in the radius.

**Theorem.**  If f_y − f_j changes by L_j(r) ‖δ‖ at most for ‖δ‖ ≤ r, and r L_j(r) ≤ f_y(x) − f_j(x) for every
other class j, the prediction is y within r of x.  *Proof.*  f_y − f_j ≥ 0 at x + δ.  ∎

Any r may be tried, each trial is a proof of its own, and the best is kept: by bisection between the
radius that is certified anyway and min_j (f_y − f_j) / L_j at that radius, above which none is proved.

**Differences.**  The last operations of a network, of which matrices are written down, follow a front with
the constant F.  For ‖δ‖ ≤ r, the difference of their activations is z = (J + E) x, ‖x‖ ≤ F ‖δ‖, with a matrix J
that is known, and E, which depends on δ, known by bounds eᵢ of the norms of its rows and η of its own.

1. A matrix W makes them WJ and WE, with rows below Σⱼ |Wᵢⱼ| eⱼ, and ‖W‖ η.
2. An activation of single entries: input i stays within (‖Jᵢ‖ + eᵢ) F r of where it was measured, up to
   rounding.  With slopes in [a, b] there, m = (a + b)/2 and h = (b − a)/2, J becomes mJ; E becomes
   dE + (d − m) J with d in [a, b]: rows below max(|a|, |b|) eᵢ + hᵢ ‖Jᵢ‖, and max |d| η + max h ‖J‖.
3. Of a pair that is sorted, if the first stays the larger, or the second does, its rows stay or are
   exchanged.  Else both outputs are averages of the two: J becomes the mean row, each row of E is
   below max(e₁, e₂) + ½ ‖J₁ − J₂‖; and η becomes η + ‖J‖, as what is off is c times what the mean
   leaves of J, |c| ≤ 1 for each pair.

Where all pieces are fixed, E = 0: the bound is the norm of the gradient.
"""

__all__ = ["LocalBounds", "local_radii"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..bands import linear_part
from ..bounds import Shape
from ..exact import Round
from ..linalg import ETA, U, add_up, gamma, matrix_norm, mul_up, row_distances, sqrt_up
from ..rounding import FLOAT64, UP, Analysis, Arithmetic, Ball, norms, number
from .chains import LARGEST, WIDEST, Operation, bounded, flattened
from .joint import factor_of
from .secants import group_size, slopes

_COST = 4e7  # floating-point operations for one image and radius


@torch.no_grad()
def local_radii(
    certificate: Any,
    bounds: "LocalBounds",
    images: Tensor,
    labels: Tensor,
    arithmetic: str | Arithmetic = FLOAT64,
    trials: int = 8,
) -> Tensor:
    """Radii of some images, none below those of the certificate: see `Certificate.local_radii`.

    A trial of r proves it if r L_j(r) ≤ f_y − f_j less the rounding errors of `Certificate.errors`, those
    of the logits at hand and those of the deployed program within r.

    Arguments:
        certificate: The certificate.
        bounds: What is known of its program around images.
        images: The images, with shape (B, *shape), in [0, 1].
        labels: The classes, with shape (B,).
        arithmetic: That of the deployed program.
        trials: How many radii are tried for each image.
    """
    labels = labels.cpu().long()
    logits = certificate.logits(images, len(images))
    low = certificate.radii_of(logits, labels, arithmetic=arithmetic, images=images)
    if not bounds.applies or certificate.num_classes < 2:
        return low
    known = low.clone()
    active = ((known > 0) & known.isfinite()).nonzero()[:, 0]
    if not len(active):
        return known
    images, labels, logits, low = (each[active] for each in (images, labels, logits, low))
    measured, sizes = bounds.measure(images), norms(images)
    margins = (logits.gather(1, labels[:, None]) - logits) * (1 - 2 * U)
    here = certificate.errors(labels, sizes)
    own = torch.arange(logits.shape[1]) == labels[:, None]

    def room(radii: Tensor) -> tuple[Tensor, Tensor]:
        """What may be moved within some radii and change nothing, and whether they are proved."""
        slopes = torch.minimum(bounds.slopes(measured, labels, radii), certificate.slopes[labels])
        errors = here + certificate.errors(labels, sizes, radii, arithmetic, images)
        left = (margins - errors * (1 + 4 * U)).masked_fill(own, math.inf)
        proved = (radii[:, None] * slopes * (1 + 8 * U) <= left).all(dim=1)
        return (left / slopes).amin(dim=1), proved

    high = room(low)[0]
    high = torch.minimum(high, 1024 * math.sqrt(math.prod(certificate.shape)) + 0 * high)
    for trial in range(trials):
        tried = torch.where(high > low, high if trial == 0 else (low + high) / 2, low)
        proved = room(tried)[1]
        low, high = tried.where(proved, low), high.where(proved, tried)
    known[active] = torch.maximum(known[active], low)
    return known


@dataclass(frozen=True, eq=False)
class _Map:
    """A run of affine operations, as a matrix in floats that is off by `error` in Frobenius norm."""

    matrix: Tensor
    error: float
    norm: float


class LocalBounds:
    """What the last operations of a program do around images.

    Arguments:
        program: A classifier in operations of `program`.
        shape: The shape of an image.
        analysis: What is known of it.

    Attributes:
        applies: Whether there is an activation whose pieces are known to be fixed around images.
    """

    @torch.no_grad()
    def __init__(self, program: nn.Module, shape: Shape, analysis: Analysis) -> None:
        self.analysis, self.shape = Analysis(FLOAT64, analysis), shape
        self.operations = flattened(program, shape, self.analysis)
        self.start = _start(self.operations)
        tail = self.operations[self.start :]
        self.applies = any(not each.linear for each in tail)
        if not self.applies:
            return
        self.front = 1.0
        if self.start:
            self.front = bounded(self.operations[: self.start], self.analysis, last=False)[0].value
        self.steps: list[_Map | Operation] = []
        run: list[Operation] = []
        for each in [*tail, None]:
            if each is not None and each.linear:
                run.append(each)
                continue
            if run:
                self.steps.append(_written(run))
                run = []
            if each is not None:
                self.steps.append(each)
        first = self.steps[0]
        size = math.prod(tail[0].shape)
        if not isinstance(first, _Map):
            first = _Map(torch.eye(size, dtype=torch.float64), 0.0, 1.0)
            self.steps.insert(0, first)
        head = self.steps[-1]
        assert isinstance(head, _Map)
        self.head = head
        start = first.matrix
        if start.shape[0] < start.shape[1]:
            factor = factor_of(start.mT)
            start = start if factor is None else factor
        self.matrix, self.error = start, first.error
        self.norm = add_up(matrix_norm(start), first.error)
        self.distances = row_distances(head.matrix)

    @torch.no_grad()
    def measure(self, images: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Inputs of the activations of the tail, with shape (B, *), and bounds of their errors, (B,)."""
        reach = norms(images) * (1 + U) * (1 + 4 * U)
        ball, found = Ball(norm=reach, error=U * reach), []
        modules = (each.module for each in self.operations)
        device = next((p.device for m in modules for p in m.parameters()), torch.device("cpu"))
        inner = images.to(device, torch.float64)
        for index, each in enumerate(self.operations):
            if index >= self.start and not each.linear:
                found.append((inner.cpu().clone(), number(ball.error).expand(len(images))))
            inner = each.module(inner.clone())
            ball = self.analysis(each.module, each.shape, ball)
        return found

    @torch.no_grad()
    def slopes(
        self, measured: Sequence[tuple[Tensor, Tensor]], labels: Tensor, radii: Tensor
    ) -> Tensor:
        """Bounds of the Lipschitz constants of f_y − f_j within some radii of images.

        Arguments:
            measured: What `measure` gave of the images.
            labels: The classes y, with shape (B,).
            radii: The radii, with shape (B,).

        Returns:
            The bounds, with shape (B, K).
        """
        count, reach = len(labels), radii * self.front * (1 + 4 * U)
        jacobian = self.matrix[None]  # (1 or B, n, m)
        rows = torch.full((1, len(self.matrix)), self.error, dtype=torch.float64)
        joint = torch.full((1,), self.error, dtype=torch.float64)  # η
        size = torch.full((1,), self.norm, dtype=torch.float64)  # of J
        inputs = iter(measured)
        for step in self.steps[1:-1]:
            lengths = _lengths(jacobian)
            if isinstance(step, _Map):
                whole = lengths.square().sum(dim=1, keepdim=True).sqrt() * UP
                missed = rows.square().sum(dim=1, keepdim=True).sqrt() * UP
                own = _lengths(step.matrix[None])
                off = step.error * (whole + missed) + gamma(step.matrix.shape[1] + 4) * own * whole
                rows = ((rows @ step.matrix.abs().mT) * UP + off + 1e-250) * UP
                joint = (step.norm * joint + off.square().sum(dim=1).sqrt()) * UP
                jacobian, size = step.matrix @ jacobian, step.norm * size * UP
                continue
            center, error = next(inputs)
            flat = center.flatten(1)
            if group_size(step.module, step.shape) == 2:
                jacobian, rows, joint = _sorted(
                    step, flat, error, reach, (jacobian, rows, joint), size
                )
                continue
            width = ((lengths + rows) * reach[:, None] + error[:, None]) * UP + flat.abs() * 4 * U
            low, high = ((flat + s * width).unflatten(1, step.shape) for s in (-1, 1))
            ends = slopes(step.module, step.shape, low, high)
            assert ends is not None
            least, most = (each.expand_as(center).flatten(1) for each in ends)
            middle = (least + most) / 2
            half = torch.maximum(most - middle, middle - least) * (1 + 4 * U)
            steep = torch.maximum(least.abs(), most.abs())
            rows = (steep * rows + (half + 2 * U * steep) * lengths + 1e-250) * UP
            joint = (steep.amax(1) * joint + (half + 2 * U * steep).amax(1) * size) * UP
            jacobian = middle[..., None] * jacobian
            size = steep.amax(dim=1) * size * UP
        weight = self.head.matrix
        gaps = weight[labels][:, None] - weight  # (B, K, n)
        lengths = _lengths(jacobian)
        whole = (
            lengths.square().sum(dim=1, keepdim=True).sqrt() + joint[:, None] + size[:, None]
        ) * UP
        jacobian = jacobian.expand(count, -1, -1)
        found = _lengths(gaps @ jacobian)
        spread = torch.minimum(
            (gaps.abs() * rows[:, None].expand(count, -1, -1)).sum(dim=2) * UP,
            self.distances[labels] * joint[:, None] * UP,
        )
        distances = self.distances[labels]
        off = 2 * self.head.error * whole + gamma(weight.shape[1] + 8) * 2 * distances * whole
        return self.front * (found + spread + off + 1e-250) * UP


def _sorted(
    step: Operation,
    center: Tensor,
    error: Tensor,
    reach: Tensor,
    state: tuple[Tensor, Tensor, Tensor],
    size: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """The state behind pairs of channels that are sorted: number 3 of the module's docstring."""
    jacobian, rows, joint = state
    inner = math.prod(step.shape[1:])

    def pairs(values: Tensor) -> tuple[Tensor, Tensor]:  # of channels, which come in rows of pixels
        first, second = values.unflatten(1, (-1, 2, inner)).unbind(2)
        return first.flatten(1, 2), second.flatten(1, 2)

    (one, two), (e, f), (c, d) = pairs(jacobian), pairs(rows), pairs(center)
    gap = _lengths(one - two) + 4 * U * (_lengths(one) + _lengths(two))
    width = ((gap + e + f) * reach[:, None] + 2 * error[:, None]) * UP
    width = width + 4 * U * (c.abs() + d.abs())
    kept, swapped = c - d > width, d - c > width
    mixed = ~(kept | swapped)
    mean = (one + two) / 2
    top = torch.where(kept[..., None], one, torch.where(swapped[..., None], two, mean))
    low = torch.where(kept[..., None], two, torch.where(swapped[..., None], one, mean))
    loose = (torch.maximum(e, f) + gap / 2) * UP
    first = torch.where(kept, e, torch.where(swapped, f, loose))
    second = torch.where(kept, f, torch.where(swapped, e, loose))
    joint = joint + mixed.any(dim=1) * size * UP

    def back(a: Tensor, b: Tensor) -> Tensor:
        parts = [each.unflatten(1, (-1, inner)) for each in (a, b)]
        return torch.stack(parts, dim=2).flatten(1, 3)

    return back(top, low), back(first, second), joint


def _lengths(matrices: Tensor) -> Tensor:
    """Norms of rows, rounded upwards; squares that underflow are below 1e-150."""
    return matrices.norm(dim=-1) * (1 + gamma(matrices.shape[-1] + 8)) + 1e-150


def _start(operations: list[Operation]) -> int:
    """Where the longest tail begins that is cheap enough to be followed around each image."""
    best = len(operations)
    if not operations or not operations[-1].linear:
        return best
    for start in range(len(operations) - 1, -1, -1):
        each = operations[start]
        inside, outside = math.prod(each.shape), math.prod(each.after)
        if max(inside, outside) > WIDEST or (inside > LARGEST and not each.linear):
            break
        if not each.linear:
            known = group_size(each.module, each.shape) == 2
            if not known and slopes(each.module, each.shape) is None:
                break
        if sum(_costs(operations[start:])) > _COST:
            break
        best = start
    # Not between the parts of an affine run: the front would not be bounded as a whole.
    while best > 0 and best < len(operations) and operations[best - 1].linear:
        inner = math.prod(operations[best - 1].shape)
        if inner > WIDEST:
            break
        best -= 1
    return best


def _costs(operations: list[Operation]) -> list[float]:
    """Floating-point operations of products with the matrices of differences of one image."""
    sizes, run = [], None
    for each in operations:
        if each.linear:
            run = (run[0] if run else math.prod(each.shape), math.prod(each.after))
        elif run:
            sizes.append(run)
            run = None
    if run:
        sizes.append(run)
    if not sizes:
        return [0.0]
    width = min(sizes[0]) if operations[0].linear else math.prod(operations[0].shape)
    later = sizes[1:] if operations[0].linear else sizes
    return [2.0 * outs * ins * width for ins, outs in later] or [0.0]


def _written(run: list[Operation]) -> _Map:
    """A run of affine operations as a matrix, column by column, and what is rounded in it."""
    shape = run[0].shape
    part = linear_part([e.module for e in run if not isinstance(e.module, Round)]).cpu()
    count = math.prod(shape)
    eye = torch.eye(count, dtype=torch.float64).reshape(-1, *shape)
    columns = torch.cat([part(chunk).flatten(1) for chunk in eye.split(512)])
    local = float(Analysis("float64")(part, shape, Ball(norm=1.0)).error)
    error = mul_up(local, sqrt_up(float(count)))
    matrix = columns.mT.contiguous()
    return _Map(matrix, add_up(error, ETA), add_up(matrix_norm(matrix), error))
