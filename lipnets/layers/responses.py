"""How much of a frequency a filter lets through, as a function of its radius.

A frequency is a pair of numbers in cycles per pixel, each in [−½, ½); its radius is at most √½.
"""

__all__ = ["RadialBand", "RadialCurve", "partition"]

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

_LARGEST = math.sqrt(0.5)  # the largest radius
_OPEN = 4.0  # sigmoid(4) = 0.982: curves start near their budgets


class RadialBand(nn.Module):
    """A fixed band: a gain inside, 0 outside, and squared sines in between.

    Two bands that overlap by the width of their edges add up to their gain there: sin² + cos².

    Arguments:
        low: The least radius that is passed, in cycles per pixel; 0 and below pass constants.
        high: The largest radius that is passed; √½ and above pass all that is above `low`.
        rolloff: The width of the edges inside the band, in cycles per pixel; 0 for a sharp band,
            which holds `low` and not `high`.
        gain: What the band is multiplied by, not negative.

    Raises:
        ValueError: If the band is empty, or narrower than its edges.
    """

    def __init__(self, low: float, high: float, rolloff: float, gain: float = 1.0) -> None:
        super().__init__()
        edges = (low > 0) + (high < _LARGEST)
        if not (
            max(low, 0) < high and rolloff >= 0 and edges * rolloff <= (high - low) * (1 + 1e-9)
        ):
            raise ValueError(
                "A band should have low < high in cycles per pixel, with room for its edges of "
                f"width rolloff >= 0 in between, got low={low}, high={high}, rolloff={rolloff}."
            )
        if not 0 <= gain < math.inf:
            raise ValueError(f"'gain' should be finite and not negative, got {gain}.")
        self.low, self.high, self.rolloff = float(low), float(high), float(rolloff)
        self.gain = float(gain)

    def extra_repr(self) -> str:
        return f"low={self.low:g}, high={self.high:g}, rolloff={self.rolloff:g}, gain={self.gain:g}"

    def forward(self, radius: Tensor) -> Tensor:
        """Factors in [0, gain] for radii, in float64, of the same shape."""
        factor = torch.full_like(radius, self.gain)
        if self.low > 0:
            factor = factor * self._edge(radius - self.low)
        if self.high < _LARGEST:
            factor = factor * (1 - self._edge(radius - self.high + self.rolloff))
        return factor

    def _edge(self, distance: Tensor) -> Tensor:
        """Rises from 0 at 0 to 1 at the width of edges."""
        if self.rolloff == 0:
            return (distance >= 0).to(distance)
        return torch.sin(torch.pi / 2 * (distance / self.rolloff).clamp(0, 1)).square()


class RadialCurve(nn.Module):
    """A learnable function of the radius, piecewise linear, within a budget in each band.

    The value at a knot is a sigmoid times the budget of its band; at the edge of two bands, times
    the smaller of their budgets.  In between the values are averaged: in each band, edges
    included, the curve is in [0, budget], whatever its parameters.

    Arguments:
        edges: The radii between bands, in cycles per pixel, increasing, in (0, √½).
        budgets: The largest gain of each band, one more than there are edges.
        knots: The number of pieces of the curve in each band.
        device: The device of the parameters.
        dtype: The dtype of the parameters.

    Raises:
        ValueError: If edges do not increase, budgets are negative, or their numbers do not match.
    """

    def __init__(
        self,
        edges: Sequence[float],
        budgets: Sequence[float],
        knots: int = 4,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        bounds = [0.0, *map(float, edges), _LARGEST]
        if any(a >= b for a, b in pairwise(bounds)):
            raise ValueError(f"'edges' should increase, in (0, √½), got {tuple(edges)}.")
        if len(budgets) != len(edges) + 1 or not all(0 <= b < math.inf for b in budgets):
            raise ValueError(
                f"'budgets' should be {len(edges) + 1} finite numbers that are not negative, one "
                f"more than edges, got {tuple(budgets)}."
            )
        if knots < 1 or not any(budgets):
            raise ValueError(
                "A curve should have at least one piece in a band, and a budget above 0, "
                f"got knots={knots} and budgets {tuple(budgets)}."
            )
        self.edges = tuple(map(float, edges))
        self.budgets = tuple(map(float, budgets))
        self.places, self.limits = [bounds[0]], [self.budgets[0]]
        for band, budget in enumerate(self.budgets):
            start, stop = bounds[band : band + 2]
            self.limits[-1] = min(self.limits[-1], budget)  # the edge belongs to both bands
            steps = range(1, knots + 1)
            self.places += [start + (stop - start) * i / knots for i in steps[:-1]] + [stop]
            self.limits += [budget] * knots
        passed = [band for band, budget in enumerate(self.budgets) if budget > 0]
        self.low, self.high = bounds[passed[0]], bounds[passed[-1] + 1]
        start = torch.full((len(self.places),), _OPEN, device=device, dtype=dtype)
        self.raw = nn.Parameter(start)

    def extra_repr(self) -> str:
        return f"edges={self.edges}, budgets={self.budgets}"

    def forward(self, radius: Tensor) -> Tensor:
        """Factors for radii, in float64, of the same shape."""
        like = {"dtype": torch.float64, "device": radius.device}
        places = torch.tensor(self.places, **like)
        values = torch.tensor(self.limits, **like) * torch.sigmoid(self.raw.double())
        above = torch.searchsorted(places, radius).clamp(1, len(self.places) - 1)
        start, stop = places[above - 1], places[above]
        share = ((radius - start) / (stop - start)).clamp(0, 1)
        return values[above - 1] * (1 - share) + values[above] * share


def partition(edges: Sequence[float], gains: Sequence[float], rolloff: float) -> list[RadialBand]:
    """Bands whose factors sum to 1 at all frequencies, but for a gain of each.

    Arguments:
        edges: The radii between bands, in cycles per pixel, increasing, more than `rolloff` apart.
        gains: What each band is multiplied by, one more than there are edges.
        rolloff: The width of the overlap of neighbours, around the edges; 0 for disjoint bands.

    Raises:
        ValueError: If edges and gains do not match, or bands are too narrow.
    """
    if len(gains) != len(edges) + 1 or not edges or not 0 <= rolloff / 2 < edges[0]:
        raise ValueError(
            "There should be at least one edge, the first above rolloff / 2, and one band more than "
            f"edges, got edges {tuple(edges)}, {len(gains)} bands and rolloff {rolloff}."
        )
    if edges[-1] + rolloff / 2 >= _LARGEST:
        raise ValueError(f"'edges' should end below √½ − rolloff / 2, got {tuple(edges)}.")
    lows = [0.0, *(edge - rolloff / 2 for edge in edges)]
    highs = [*(edge + rolloff / 2 for edge in edges), 1.0]
    return [
        RadialBand(low, high, rolloff, gain)
        for low, high, gain in zip(lows, highs, gains, strict=True)
    ]
