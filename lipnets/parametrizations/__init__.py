"""Maps from a free weight to a constrained one, for `torch.nn.utils.parametrize`.

Each is a pure function of its parameters, without buffers that move.  A few take shortcuts in
training, and say so; what is evaluated, exported and certified is one function of the parameters.
"""

from .aoc import AOC
from .aol import AOL
from .aol_matrix import AOLMatrix
from .bjorck import Bjorck
from .cayley import Cayley
from .cholesky import Cholesky
from .exponential import Exponential
from .frobenius import Frobenius
from .frobenius_conv import FrobeniusConv
from .householder import Householder
from .lires import LiRes
from .low_rank import FixedRank, LowRank
from .newton_schulz import NewtonSchulz
from .pip import PIP
from .potential import CPL, SLL, Sandwich
from .qr import QR
from .reflection import Reflection, SymbolReflection
from .rko import RKO
from .spectral_conv import SpectralConv
from .spectral_matrix import SpectralMatrix
from .stiefel import Stiefel
from .symbol_cayley import SymbolCayley
from .symbol_clip import SymbolClip
from .symbol_exponential import SymbolExponential
from .symbol_map import SymbolMap
from .symbol_polar import SymbolPolar
from .unit_norm import UnitNorm

__all__ = [
    "AOC",
    "AOL",
    "CPL",
    "PIP",
    "QR",
    "RKO",
    "SLL",
    "AOLMatrix",
    "Bjorck",
    "Cayley",
    "Cholesky",
    "Exponential",
    "FixedRank",
    "Frobenius",
    "FrobeniusConv",
    "Householder",
    "LiRes",
    "LowRank",
    "NewtonSchulz",
    "Reflection",
    "Sandwich",
    "SpectralConv",
    "SpectralMatrix",
    "Stiefel",
    "SymbolCayley",
    "SymbolClip",
    "SymbolExponential",
    "SymbolMap",
    "SymbolPolar",
    "SymbolReflection",
    "UnitNorm",
]
