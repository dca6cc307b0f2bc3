"""Maps from a free weight to a constrained one, for `torch.nn.utils.parametrize`.

Each is a pure function of its parameters: it has no buffers that move, and gives in evaluation what
it gives in training.
"""

from .aol import AOL
from .bcop import BCOP
from .bjorck import Bjorck
from .cayley import Cayley
from .potential import CPL, SLL, Sandwich
from .spectral import Spectral
from .stiefel import Stiefel
from .unit_norm import UnitNorm

__all__ = [
    "AOL",
    "BCOP",
    "CPL",
    "SLL",
    "Bjorck",
    "Cayley",
    "Sandwich",
    "Spectral",
    "Stiefel",
    "UnitNorm",
]
