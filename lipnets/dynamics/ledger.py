"""The ledger: what each step of a training, by any optimizer, did to the norms of weights, term by term.

References:
    | Principles of Lipschitz continuity in neural networks (Luo, 2026) https://arxiv.org/abs/2602.04078

What differs: there, the steps are those of a stochastic differential equation.  Here they are those that
were taken; what each did is in `terms`, and summed up in a `Line`.
"""

__all__ = ["Ledger"]

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from ..bounds import Shape
from .decay import Decay
from .leading import start_vectors
from .lenses import Convolution
from .lines import Line
from .singular import Top
from .terms import decomposed, is_small, terms_of
from .tracks import Watch
from .weights import Followed, Gain, follow, gains

_SUMS = ("first", "log_norm", "linear", "curvature", "square", "switch", "gain", "buffer")


@dataclass(eq=False)
class _Track:
    """A norm that is followed: which weight, where, and what is known of it."""

    line: Line
    weight: int
    watch: Watch
    place: int = 0
    start: Tensor | None = None  # of `leading`


@dataclass(eq=False)
class _Group:
    """Tracks whose matrices have the same shape, and these as they were after the last step."""

    tracks: list[_Track]
    matrices: Tensor = field(default_factory=lambda: torch.empty(0))
    top: Top | None = None


class Ledger:
    """Keeps the ledger of a model; what is in use is the model's own weights, which are not copied.

    A weight that is not finite is passed over, until it is.  Sums are of float64: over a million steps
    rounding is less than 1e-9 of them.

    Arguments:
        model: The model that the optimizer changes.
        shape: The shape of an image, (C, H, W).
        optimizer: The optimizer, for what weight decay did.
        effective: As of `follow`.
        norm: As of `follow`.
        bands: The edges of bands of frequencies, increasing, in cycles per pixel: in each of them, the
            largest norm of each convolution is followed as well.
        scan_every: The number of steps after which all frequencies are looked at, not only some.
    """

    def __init__(
        self,
        model: nn.Module,
        shape: Shape,
        *,
        optimizer: Optimizer | None = None,
        effective: bool = False,
        norm: Literal["operator", "reshape"] = "operator",
        bands: Sequence[float] = (),
        scan_every: int = 100,
    ) -> None:
        self._followed = follow(model, shape, effective=effective, norm=norm)
        self._gains = gains(model)
        self._scan_every = scan_every
        self._steps = 0
        self._decays = [_decay(each, optimizer) for each in self._followed]
        weights = [each.read().detach() for each in self._followed]
        self._tracks = [
            _Track(Line(followed.name, followed.role, 0.0, 0.0, band=band), index, watch)
            for index, followed in enumerate(self._followed)
            for band, watch in _watches(followed, bands)
        ]
        for track in self._tracks:
            track.place = track.watch.scan(weights[track.weight])
            track.watch.stand(track.place)
            known = (decay := self._decays[track.weight]) is not None and decay.known
            track.line.decay = 0.0 if known else None
        self._groups = self._grouped(weights)
        for group in self._groups:
            self._look(group, weights)
            for track, value in zip(group.tracks, _logs(group.top), strict=True):
                track.line.first = track.line.log_norm = value
        self._gain_lines = [Line(each.name, "gain", 0.0, 0.0) for each in self._gains]
        self._gain_states = [_gain_state(each) for each in self._gains]
        for line, gain, state in zip(self._gain_lines, self._gains, self._gain_states, strict=True):
            line.first = line.log_norm = gain.log(*state)
        self._keep(weights)

    @property
    def lines(self) -> list[Line]:
        """The lines, of weights and then of batch normalizations; without those of bands."""
        return [t.line for t in self._tracks if t.line.band is None] + self._gain_lines

    @property
    def band_lines(self) -> list[Line]:
        """The lines of bands."""
        return [track.line for track in self._tracks if track.line.band is not None]

    @property
    def network(self) -> Line | None:
        """The sum over what is in use; None if there is nothing."""
        lines = [line for line in self.lines if line.role != "raw"]
        if not any(line.role != "gain" for line in lines):
            return None
        total = Line("", "free", 0.0, 0.0)
        for name in (*_SUMS, "crowded", "steps"):
            setattr(total, name, math.fsum(getattr(line, name) for line in lines))
        decays = [line.decay for line in lines if line.role != "gain"]
        total.decay = None if None in decays else math.fsum(d for d in decays if d is not None)
        return total

    def place(self, line: Line) -> int:
        """The place of the lens where the norm of a line is followed."""
        return next(track.place for track in self._tracks if track.line is line)

    @torch.no_grad()
    def advance(self) -> None:
        """Enters the step that was just taken."""
        self._steps += 1
        weights = [each.read().detach() for each in self._followed]
        decayed = [
            None if decay is None else decay.step(before)
            for decay, before in zip(self._decays, self._before, strict=True)
        ]
        for group in self._groups:
            self._enter(group, weights, decayed)
        self._enter_gains()
        self._keep(weights)

    def state_dict(self) -> dict[str, Any]:
        """The sums and the places; weights are no part of it."""
        return {
            "steps": self._steps,
            "lines": [_sums(line) for line in (*self._all_lines(), *self._gain_lines)],
            "places": [track.place for track in self._tracks],
            "starts": [track.start for track in self._tracks],
            "watches": [track.watch.state_dict() for track in self._tracks],
            "decays": [None if each is None else each.state_dict() for each in self._decays],
        }

    @torch.no_grad()
    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from such a state; the weights of the model are those of then.

        Raises:
            ValueError: If it is the state of a ledger of other layers.
        """
        lines = [*self._all_lines(), *self._gain_lines]
        names = [(line.layer, line.role, line.band) for line in lines]
        theirs = [(s["layer"], s["role"], s["band"] and tuple(s["band"])) for s in state["lines"]]
        if names != theirs:
            raise ValueError(
                f"The state of the ledger should be of the layers {names}, got {theirs}: "
                "resume with the config that the run began with."
            )
        self._steps = state["steps"]
        for line, sums in zip(lines, state["lines"], strict=True):
            for name, value in sums.items():
                setattr(line, name, value if name != "band" else line.band)
        device = {
            track.weight: self._followed[track.weight].read().device for track in self._tracks
        }
        for index, track in enumerate(self._tracks):
            start = state["starts"][index]
            track.place = state["places"][index]
            track.start = None if start is None else start.to(device[track.weight])
            track.watch.load_state_dict(state["watches"][index])
        for decay, each in zip(self._decays, state["decays"], strict=True):
            if decay is not None:
                decay.load_state_dict(each)
        weights = [each.read().detach() for each in self._followed]
        for group in self._groups:
            self._look(group, weights, again=True)
        self._gain_states = [_gain_state(each) for each in self._gains]
        self._keep(weights)

    def _all_lines(self) -> list[Line]:
        return [track.line for track in self._tracks]

    def _keep(self, weights: list[Tensor]) -> None:
        """What of the weights the next step needs: those whose decay has a momentum."""
        self._before = [
            weight.double().clone() if decay is not None and decay.remembers else None
            for weight, decay in zip(weights, self._decays, strict=True)
        ]

    def _grouped(self, weights: list[Tensor]) -> list[_Group]:
        groups: dict[Any, list[_Track]] = {}
        for number, track in enumerate(self._tracks):
            matrix = self._matrices([track], weights)
            key = (matrix.shape, matrix.dtype, matrix.device)
            if not is_small(matrix):
                key = number
            groups.setdefault(key, []).append(track)
        return [_Group(tracks) for tracks in groups.values()]

    def _matrices(self, tracks: list[_Track], weights: list[Tensor]) -> Tensor:
        """The matrices of tracks, in float64, with shape (F, m, n)."""
        return torch.cat(
            [t.watch.lens.matrices(weights[t.weight], torch.tensor([t.place])) for t in tracks]
        )

    def _look(self, group: _Group, weights: list[Tensor], *, again: bool = False) -> None:
        """Decomposes the matrices of a group; `again` if from where the last time was begun."""
        group.matrices = self._matrices(group.tracks, weights)
        start = None
        if not is_small(group.matrices):
            [track] = group.tracks
            if not again:
                track.start = None if group.top is None else group.top.start
            if track.start is None:
                track.start = start_vectors(group.matrices)
            start = track.start
        group.top = decomposed(group.matrices, start)

    def _enter(
        self, group: _Group, weights: list[Tensor], decayed: list[float | Tensor | None]
    ) -> None:
        tracks, before, old = group.tracks, group.top, group.matrices
        if before is None or not all(bool(weights[t.weight].isfinite().all()) for t in tracks):
            return
        self._look(group, weights)
        decays = torch.cat(
            [_decay_of(t, decayed[t.weight], old[[row]]) for row, t in enumerate(tracks)]
        )
        divided = [track.line.role == "free" for track in tracks]
        found = terms_of(before, old, group.matrices - old, decays, divided)
        for track, terms, now in zip(tracks, found, _logs(group.top), strict=True):
            line = track.line
            line.steps += 1
            line.crowded += terms.crowded
            line.linear += terms.linear
            line.curvature += terms.curvature
            line.square += terms.square
            if line.decay is not None:
                line.decay += terms.decay
            if math.isinf(line.first):
                line.first = now  # of a weight that was zero, the ledger begins here
            line.log_norm = now
        self._turn(group, weights)

    def _turn(self, group: _Group, weights: list[Tensor]) -> None:
        """Goes where the norm is higher than where it was followed."""
        scans = self._steps % self._scan_every == 0
        moved, logs = [], _logs(group.top)
        for track, value in zip(group.tracks, logs, strict=True):
            weight, lens = weights[track.weight], track.watch.lens
            if lens.count == 1:
                continue
            if scans:
                track.watch.scan(weight)
                track.watch.stand(track.place)
            place = track.watch.higher(weight, math.exp(value))
            if place is not None:
                track.place = place
                track.watch.stand(place)
                moved.append(track)
        if not moved:
            return
        group.top = None  # what is known elsewhere is no start here
        self._look(group, weights)
        for track, value in zip(group.tracks, _logs(group.top), strict=True):
            if track in moved:
                track.line.switch += value - track.line.log_norm
                track.line.log_norm = value

    def _enter_gains(self) -> None:
        for place, (gain, line) in enumerate(zip(self._gains, self._gain_lines, strict=True)):
            _, variance = self._gain_states[place]
            weight, now = self._gain_states[place] = _gain_state(gain)
            between, after = gain.log(weight, variance), gain.log(weight, now)
            if math.isfinite(line.log_norm) and math.isfinite(between):
                line.gain += between - line.log_norm
                line.buffer += after - between
            line.log_norm = after


def _watches(
    followed: Followed, edges: Sequence[float]
) -> list[tuple[tuple[float, float] | None, Watch]]:
    """What is watched of a weight: all places, and those of each band where there are any."""
    lens = followed.lens
    found: list[tuple[tuple[float, float] | None, Watch]] = [(None, Watch(lens))]
    if isinstance(lens, Convolution):
        for low, high in pairwise(edges):
            inside = lens.within(low, high)
            if inside.any():
                found.append(((low, high), Watch(lens, inside)))
    return found


def _decay(followed: Followed, optimizer: Optimizer | None) -> Decay | None:
    if optimizer is None or followed.role == "effective":
        return None
    return Decay(followed.parameter, optimizer)


def _logs(found: Top | None) -> list[float]:
    """The logarithm of σ₁ of each matrix."""
    values = [] if found is None else found.value.tolist()
    return [math.log(value) if value > 0 else -math.inf for value in values]


def _gain_state(gain: Gain) -> tuple[Tensor | None, Tensor]:
    """The scale and the running variance as they are."""
    weight, variance = gain.module.weight, gain.module.running_var
    if variance is None:
        raise ValueError(f"The batch normalization '{gain.name}' should have running statistics.")
    return None if weight is None else weight.detach().clone(), variance.clone()


def _sums(line: Line) -> dict[str, Any]:
    """A line as plain data."""
    return dict(vars(line))


def _decay_of(track: _Track, decayed: float | Tensor | None, matrix: Tensor) -> Tensor:
    """What decay did, as the lens shows it, with shape (1, m, n), of what was `matrix`."""
    if decayed is None:
        return torch.zeros_like(matrix)
    if not isinstance(decayed, Tensor):
        return decayed * matrix
    return track.watch.lens.matrices(decayed, torch.tensor([track.place])).to(matrix.dtype)
