"""Plain ReLU networks: the unconstrained twins of LipMLP and of small LipConvNets, for comparison.

They have the layers and the sizes of their twins, and what makes those Lipschitz is left out: their
product bound is proved all the same, and grows as they train.
"""

__all__ = ["plain_convnet", "plain_mlp"]

from collections.abc import Sequence

from ._parts import Spec
from ._registry import Variant, family
from .lipconvnet_small import lipconvnet_small
from .lipmlp import lipmlp
from .network import Network

MLPS = {
    "plain_mlp_s": Variant({"widths": (128, 128)}),
    "plain_mlp_m": Variant({"widths": (256, 256, 256)}),
    "plain_mlp_l": Variant({"widths": (512, 512, 512, 512)}),
}
CONVNETS = {
    "plain_convnet_xs": Variant({"width": 16, "depths": (2, 2)}),
    "plain_convnet_s": Variant({"width": 64, "depths": (2, 2), "patch": 2, "hidden": (256,)}),
    "plain_convnet_m": Variant({"width": 64, "depths": (3,), "patch": 4, "hidden": (512, 512)}),
}


@family(MLPS, guarantee="none")
def plain_mlp(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    widths: Sequence[int] = (128, 128),
    linear: Spec = "linear",
    act: Spec = "relu",
    head: Spec = "linear",
    drop_rate: float = 0.0,
) -> Network:
    """Builds a multilayer perceptron, the twin of `lipmlp` without constraint.

    Arguments are those of `lipmlp`.
    """
    layers = {"linear": linear, "act": act, "head": head}
    return lipmlp(num_classes, in_chans, img_size, mean, std, widths, **layers, drop_rate=drop_rate)


@family(CONVNETS, guarantee="none")
def plain_convnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch: int = 1,
    width: int = 32,
    depths: Sequence[int] = (2, 2),
    kernel_size: int = 3,
    hidden: Sequence[int] = (),
    conv: Spec = "conv2d",
    norm: Spec | None = "batch_norm2d",
    linear: Spec = "linear",
    act: Spec = "relu",
    head: Spec = "linear",
    drop_rate: float = 0.0,
) -> Network:
    """Builds a convolutional network, the twin of `lipconvnet_small` without constraint.

    Arguments, and errors, are those of `lipconvnet_small`; with batch normalization by default.
    """
    sizes = {"patch": patch, "width": width, "depths": depths, "kernel_size": kernel_size}
    layers = {"conv": conv, "norm": norm, "linear": linear, "act": act, "head": head}
    data = (num_classes, in_chans, img_size, mean, std)
    return lipconvnet_small(*data, **sizes, hidden=hidden, **layers, drop_rate=drop_rate)
