"""Maps from a free weight to a constrained one, for `torch.nn.utils.parametrize`.

Each is a pure function of its parameters: it has no buffers that move, and gives in evaluation what
it gives in training.
"""

from .aoc import AOC
from .aol import AOL
from .bjorck import Bjorck
from .cayley import Cayley
from .frobenius_conv import FrobeniusConv
from .lires import LiRes
from .potential import CPL, SLL, Sandwich
from .rko import RKO
from .spectral import Spectral
from .stiefel import Stiefel
from .unit_norm import UnitNorm

__all__ = [
    "AOC",
    "AOL",
    "CPL",
    "RKO",
    "SLL",
    "Bjorck",
    "Cayley",
    "FrobeniusConv",
    "LiRes",
    "Sandwich",
    "Spectral",
    "Stiefel",
    "UnitNorm",
]
