"""BRONet, deep networks of block reflector orthogonal convolutions.

References:
    | Enhancing Certified Robustness via Block Reflector Orthogonal Layers and Logit Annealing Loss
    | (Lai, Huang, Kung & Chen, 2025) https://arxiv.org/abs/2505.15174
    | Sizes: https://github.com/ntuaislab/BRONet, bronet/configs/benchmark_reproduce

A LiResNet whose convolutions between stem and neck are orthogonal, at each frequency a reflection
of half of the channels; neck and dense layers are orthogonal by a Cholesky factor.

What differs from the paper: its stem is free, with an estimate of its norm in the loss, and ours is
divided by its norm.  Ours is proved to have a constant of 1: there the norm of the reflections is
taken to be 1.  Raw weights start random, not near a reflection of the first channels.  The
repository has no config of BRONet-M, of which the depth is our guess: no count of parameters is
claimed for it.  What `liresnet` says of activations and of images' sizes holds here too.
"""

__all__ = ["bronet"]

from collections.abc import Sequence

from ._parts import Spec
from ._registry import Published, Variant, family
from .liresnet import liresnet
from .network import Network

_AUTHORS = "authors, openreview.net/forum?id=yi3QcCGfP1"
_LIPNEXT = "LipNeXt, 2026, table 1, https://arxiv.org/abs/2601.18513"
VARIANTS = {
    "bronet_xs": Variant({"width": 16, "depth": 2, "hidden": (256,)}),
    "bronet_s": Variant({"width": 64, "depth": 4, "hidden": (512, 512)}),
    "bronet_m": Variant({"depth": 6, "hidden": (2048,) * 5}),
    "bronet_l": Variant(
        parameters=68e6,
        source=_LIPNEXT,
        published=(
            Published("CIFAR-10", 81.57, {36: 70.59, 72: 57.15, 108: 42.53}, _AUTHORS),
            Published("CIFAR-10 + EDM", 87.2, {36: 78.3, 72: 67.4, 108: 54.5}, _AUTHORS),
            Published("CIFAR-100", 54.3, {36: 40.2, 72: 29.1, 108: 20.3}, _LIPNEXT),
        ),
    ),
}


@family(VARIANTS, paper="Lai et al., 2025", url="https://arxiv.org/abs/2505.15174")
def bronet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 512,
    depth: int = 12,
    hidden: Sequence[int] = (2048,) * 9,
    stem_kernel: int = 5,
    stem_stride: int = 2,
    window: int = 4,
    conv: Spec = "bro_conv2d",
    stem_conv: Spec = "spectral_conv2d",
    neck_conv: Spec = "rko_conv2d",
    linear: Spec = "cholesky_linear",
    act: Spec = "maxmin",
    norm: Spec | None = "batch_centering",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a BRONet: a stem, orthogonal convolutions of one size, a neck, dense layers and a head.

    Arguments are those of `liresnet`, with other defaults.

    Raises:
        ValueError: If the kernel of the stem does not cover its stride, or is even with stride 1.
    """
    return liresnet(
        num_classes, in_chans, img_size, mean, std, width, depth, hidden, stem_kernel, stem_stride,
        window, conv, stem_conv, neck_conv, linear, act, norm, head,
    )  # fmt: skip
