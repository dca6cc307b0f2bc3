"""Layers: modules with a forward of their own, each with its rule, and constrained torch.nn layers.

By name: `lipnets.layers.build("aol_conv2d", in_channels=8, out_channels=8, kernel_size=3)`, with the
arguments of the layer of torch.nn that it replaces; `lipnets.layers.names()` lists them.
"""

from . import conv2d as _conv2d
from ._registry import Card, card, registry
from .absolute import Abs, BetaAbs, SoftHuber
from .aoc_conv import (
    aoc_conv1d,
    aoc_conv2d,
    aoc_conv3d,
    aoc_conv_transpose1d,
    aoc_conv_transpose2d,
    aoc_conv_transpose3d,
    bcop_conv1d,
    bcop_conv2d,
    bcop_conv3d,
)
from .aol_conv import (
    aol_conv1d,
    aol_conv2d,
    aol_conv3d,
    aol_conv_transpose1d,
    aol_conv_transpose2d,
    aol_conv_transpose3d,
)
from .attention import L2SelfAttention, attention_bound, l2_attention
from .band_conv2d import band_conv2d, octave_conv2d, radial_conv2d
from .band_split import BandSplit
from .blur_pool2d import BlurPool2d, antialiased_conv2d, blur_pool2d
from .concat import Concat, ConcatResidual
from .explicit_conv2d import ExplicitConv2d
from .filtered_conv2d import FilteredConv2d
from .first_channels import FirstChannels
from .fourier_conv2d import FourierConv2d
from .frequency import band_gains, frequency_gains
from .frobenius_conv import (
    frobenius_conv1d,
    frobenius_conv2d,
    frobenius_conv3d,
)
from .groupsort import FullSort, GroupSort, MaxMin
from .householder_activation import Householder, Householder2
from .linear import (
    aol_linear,
    bjorck_linear,
    cayley_linear,
    cholesky_linear,
    exp_linear,
    fixed_rank_linear,
    frobenius_linear,
    geotorch_linear,
    householder_linear,
    low_rank_linear,
    newton_schulz_linear,
    qr_linear,
    spectral_linear,
    unit_norm_linear,
)
from .lires import lires_conv2d, lires_linear
from .manifold import ManifoldConv2d, ManifoldLinear, manifold_weights
from .mixing import BlockDCT2d, SpatialShift2d
from .n_activation import NActivation
from .normalization import BatchCentering, BatchLipNorm, LayerCentering
from .orthogonal_conv2d import (
    bro_conv2d,
    bro_linear,
    cayley_conv2d,
    lot_conv2d,
    soc_conv2d,
    svcm_conv2d,
)
from .parallel import Parallel
from .permute import Permute
from .pip import pip_conv2d, pip_linear
from .pointwise import Conjugate, Pointwise, PositionBias2d
from .pooling import (
    AdaptiveL2NormPool2d,
    AdaptiveScaledAvgPool2d,
    AdaptiveScaledMaxPool2d,
    L2NormPool2d,
    max_pool2d,
    scaled_avg_pool2d,
)
from .potential import (
    PotentialConv2d,
    PotentialLinear,
    cpl_conv2d,
    cpl_linear,
    sll_conv2d,
    sll_linear,
)
from .prelu import lprelu
from .residual import ConvexResidual, Residual
from .responses import RadialBand, RadialCurve
from .rko_conv import (
    rko_conv1d,
    rko_conv2d,
    rko_conv3d,
    rko_conv_transpose1d,
    rko_conv_transpose2d,
    rko_conv_transpose3d,
)
from .sandwich import SandwichConv2d, SandwichLinear, sandwich_conv2d, sandwich_linear
from .scale import Scale
from .sll_aoc import sll_aoc_conv2d
from .spectral_conv import spectral_conv1d, spectral_conv2d, spectral_conv3d
from .spline import LinearSpline
from .standardize import Standardize
from .symbol_conv1d import (
    SymbolConv1d,
    bro_conv1d,
    cayley_conv1d,
    lot_conv1d,
    soc_conv1d,
    svcm_conv1d,
)
from .symbol_conv2d import StoredConv2d, SymbolConv2d
from .token_mixer import TokenMixer, token_mixer

names = registry.names
build = registry.build

__all__ = [
    "Abs",
    "AdaptiveL2NormPool2d",
    "AdaptiveScaledAvgPool2d",
    "AdaptiveScaledMaxPool2d",
    "BandSplit",
    "BatchCentering",
    "BatchLipNorm",
    "BetaAbs",
    "BlockDCT2d",
    "BlurPool2d",
    "Card",
    "Concat",
    "ConcatResidual",
    "Conjugate",
    "ConvexResidual",
    "ExplicitConv2d",
    "FilteredConv2d",
    "FirstChannels",
    "FourierConv2d",
    "FullSort",
    "GroupSort",
    "Householder",
    "Householder2",
    "L2NormPool2d",
    "L2SelfAttention",
    "LayerCentering",
    "LinearSpline",
    "ManifoldConv2d",
    "ManifoldLinear",
    "MaxMin",
    "NActivation",
    "Parallel",
    "Permute",
    "Pointwise",
    "PositionBias2d",
    "PotentialConv2d",
    "PotentialLinear",
    "RadialBand",
    "RadialCurve",
    "Residual",
    "SandwichConv2d",
    "SandwichLinear",
    "Scale",
    "SoftHuber",
    "SpatialShift2d",
    "Standardize",
    "StoredConv2d",
    "SymbolConv1d",
    "SymbolConv2d",
    "TokenMixer",
    "antialiased_conv2d",
    "aoc_conv1d",
    "aoc_conv2d",
    "aoc_conv3d",
    "aoc_conv_transpose1d",
    "aoc_conv_transpose2d",
    "aoc_conv_transpose3d",
    "aol_conv1d",
    "aol_conv2d",
    "aol_conv3d",
    "aol_conv_transpose1d",
    "aol_conv_transpose2d",
    "aol_conv_transpose3d",
    "aol_linear",
    "attention_bound",
    "band_conv2d",
    "band_gains",
    "bcop_conv1d",
    "bcop_conv2d",
    "bcop_conv3d",
    "bjorck_linear",
    "blur_pool2d",
    "bro_conv1d",
    "bro_conv2d",
    "bro_linear",
    "build",
    "card",
    "cayley_conv1d",
    "cayley_conv2d",
    "cayley_linear",
    "cholesky_linear",
    "cpl_conv2d",
    "cpl_linear",
    "exp_linear",
    "fixed_rank_linear",
    "frequency_gains",
    "frobenius_conv1d",
    "frobenius_conv2d",
    "frobenius_conv3d",
    "frobenius_linear",
    "geotorch_linear",
    "householder_linear",
    "l2_attention",
    "lires_conv2d",
    "lires_linear",
    "lot_conv1d",
    "lot_conv2d",
    "low_rank_linear",
    "lprelu",
    "manifold_weights",
    "max_pool2d",
    "names",
    "newton_schulz_linear",
    "octave_conv2d",
    "pip_conv2d",
    "pip_linear",
    "qr_linear",
    "radial_conv2d",
    "registry",
    "rko_conv1d",
    "rko_conv2d",
    "rko_conv3d",
    "rko_conv_transpose1d",
    "rko_conv_transpose2d",
    "rko_conv_transpose3d",
    "sandwich_conv2d",
    "sandwich_linear",
    "scaled_avg_pool2d",
    "sll_aoc_conv2d",
    "sll_conv2d",
    "sll_linear",
    "soc_conv1d",
    "soc_conv2d",
    "spectral_conv1d",
    "spectral_conv2d",
    "spectral_conv3d",
    "spectral_linear",
    "svcm_conv1d",
    "svcm_conv2d",
    "token_mixer",
    "unit_norm_linear",
]
