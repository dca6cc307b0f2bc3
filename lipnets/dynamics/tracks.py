"""The place of a weight where its norm is largest, followed without looking at all of them each step."""

__all__ = ["Watch"]

from typing import Any

import torch
from torch import Tensor

from .lenses import Lens

_CANDIDATES = 4  # local maxima of the last scan that are watched
_SIZE = 2**18  # complex numbers of symbols that are computed in a step, for what is watched
_POWERS = 2  # steps of power iteration on what is watched
_MARGIN = 1e-6  # by which a norm elsewhere exceeds the one here, relatively, before it is followed


class Watch:
    """Watches places where the norm may become the largest: those beside, and local maxima.

    Their norms are estimated from below by power iteration, from where it was the time before.  In a
    weight that moves little in a step, they are good.

    Arguments:
        lens: The lens.
        allowed: Whether a place may be followed, with shape (count,); all may, by default.
    """

    def __init__(self, lens: Lens, allowed: Tensor | None = None) -> None:
        self.lens = lens
        places = torch.arange(lens.count)
        once = lens.folded(places) == places
        self._allowed = once if allowed is None else once & allowed
        self._candidates: list[int] = []
        self._places: list[int] = []
        self._vectors: dict[int, Tensor] = {}
        self._turn = 0

    def scan(self, weight: Tensor) -> int:
        """Looks at all places; the highest one by estimate, and the candidates anew."""
        if self.lens.count == 1:
            return 0
        norms = self.lens.norms(weight).cpu().masked_fill(~self._allowed, -torch.inf)
        found, beside = [], set()
        for place in norms.argsort(descending=True, stable=True).tolist():
            if len(found) > _CANDIDATES or norms[place] == -torch.inf:
                break
            if place not in beside:
                found.append(place)
                beside.update(self._beside(place))
        self._candidates = found
        return found[0]

    def stand(self, place: int) -> None:
        """Watches what is to be watched from a place."""
        if self.lens.count == 1:
            return
        watched = dict.fromkeys([*self._beside(place), *self._candidates])
        watched.pop(place, None)
        self._places = [each for each in watched if self._allowed[each]]
        self._vectors = {p: v for p, v in self._vectors.items() if p in watched}
        self._turn = 0

    def higher(self, weight: Tensor, value: Tensor | float) -> int | None:
        """A place watched where the norm is above a value, the highest such; None if there is none.

        Of many places with large symbols, only some are looked at each time, in turn.
        """
        if not self._places:
            return None
        numel = weight.numel() // max(1, getattr(self.lens, "groups", 1))
        number = min(len(self._places), max(1, _SIZE // numel))
        turn = [self._places[(self._turn + i) % len(self._places)] for i in range(number)]
        self._turn = (self._turn + number) % len(self._places)
        symbols = self.lens.matrices(weight, torch.tensor(turn))
        vectors = torch.stack([self._vector(place, symbols) for place in turn])[..., None]
        for _ in range(_POWERS):
            vectors = ((symbols @ vectors).mH @ symbols).mH
            lengths = torch.linalg.vector_norm(vectors, dim=1, keepdim=True)
            vectors = vectors / lengths.clamp_min(1e-300)
        norms = torch.linalg.vector_norm(symbols @ vectors, dim=(1, 2))
        self._vectors.update(zip(turn, vectors[..., 0].unbind(), strict=True))
        best = int(norms.argmax())
        return turn[best] if bool(norms[best] > value * (1 + _MARGIN)) else None

    def state_dict(self) -> dict[str, Any]:
        """What was found by the last scan, and what is watched."""
        return {
            "candidates": list(self._candidates),
            "places": list(self._places),
            "vectors": dict(self._vectors),
            "turn": self._turn,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes on from there."""
        self._candidates, self._places = list(state["candidates"]), list(state["places"])
        self._vectors, self._turn = dict(state["vectors"]), state["turn"]

    def _beside(self, place: int) -> list[int]:
        return self.lens.folded(self.lens.around(place)).tolist()

    def _vector(self, place: int, like: Tensor) -> Tensor:
        """Where power iteration at a place goes on, with shape (n,)."""
        if place in self._vectors:
            return self._vectors[place].to(like.device)
        at = torch.arange(1, like.shape[-1] + 1, device=like.device, dtype=torch.float64)
        return torch.polar(torch.ones_like(at), at.square()).to(like.dtype)
