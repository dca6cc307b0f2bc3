"""How Lipschitz constants move while a network is trained, and what drives them: the internal perspective.

References:
    | Principles of Lipschitz continuity in neural networks (Luo, 2026) https://arxiv.org/abs/2602.04078
    | The dynamics of Lipschitz continuity under SGD (Luo, Luo & Xu, 2025)
    | https://arxiv.org/abs/2506.18588

Nothing here is a `Bound`: norms are estimates as good as float64 makes them, of the weights of layers.
"""

__all__ = [
    "Convolution",
    "Dense",
    "Followed",
    "Gain",
    "Ledger",
    "Lens",
    "Line",
    "Top",
    "band_edges",
    "follow",
    "gains",
    "highest",
    "top",
]

from .ledger import Ledger
from .lenses import Convolution, Dense, Lens, band_edges, highest
from .lines import Line
from .singular import Top, top
from .weights import Followed, Gain, follow, gains
