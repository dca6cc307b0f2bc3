"""FreqNet, whose gain is proved for each band of spatial frequencies of its input.

The first layer is a convolution on the torus behind a radial filter, with a budget for each band: an
image of one frequency leaves it as images of that frequency, no larger than the budget of its band
allows.  What follows is a small LipConvNet of constant 1.  So, with a budget B of the band in which a
perturbation p lies,

    ‖f(x + p) − f(x)‖ ≤ B ‖p‖,

which `lipnets.layers.band_gains` proves: a network with budgets (1, ½, ¼) has, for perturbations of
high frequencies, certified radii four times as large as those for any.  Only before the first
activation do frequencies stay apart: budgets of later layers would bound nothing about the input.

No paper: a network of our own, of layers that others proposed.
"""

__all__ = ["freqnet"]

from collections.abc import Sequence

from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .lipconvnet_small import lipconvnet_small
from .network import Network

VARIANTS = {
    "freqnet_xs": Variant({"width": 16, "depths": (1, 2)}),
    "freqnet_s": Variant({"width": 64, "depths": (1, 2), "hidden": (256,)}),
    "freqnet_m": Variant({"width": 64, "depths": (1, 3, 3), "hidden": (512, 512)}),
}


@family(VARIANTS)
def freqnet(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    edges: Sequence[float] = (0.125, 0.25),
    budgets: Sequence[float] = (1.0, 0.5, 0.25),
    width: int = 16,
    depths: Sequence[int] = (1, 2),
    kernel_size: int = 3,
    hidden: Sequence[int] = (),
    front: Spec = "radial_conv2d",
    conv: Spec = "aol_conv2d",
    linear: Spec = "cayley_linear",
    act: Spec = "maxmin",
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a FreqNet: a filtered convolution with a budget for each band, then a LipConvNet.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by, by which budgets are then divided.
        edges: The radii between bands, in cycles per pixel, increasing, in (0, √½).
        budgets: The largest gain of each band, from low to high frequencies, in [0, 1], one more than
            there are edges.  The network is blind to bands of budget 0.
        width: The number of channels of the first stage, even; each stage doubles it.
        depths: The number of convolutions of each stage after the first layer, at least 1.
        kernel_size: The side of kernels.
        hidden: The numbers of outputs of linear layers between the last stage and the head.
        front: The first layer, by name: a convolution with `edges` and `budgets`.  With
            `octave_conv2d` bands overlap within its `rolloff`, and gains there are in between.
        conv: The other convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The linear layers before the head, by name.
        act: The activation, by name.
        head: The last layer, by name.

    Raises:
        ValueError: If budgets are not in [0, 1] or do not match the edges, or images are smaller than
            kernels.
    """
    if not all(0 <= budget <= 1 for budget in budgets):
        raise ValueError(
            f"'budgets' should be gains in [0, 1], or the network would not be 1-Lipschitz, got "
            f"{tuple(budgets)}."
        )
    size = image_size(img_size)
    if min(size) < kernel_size:
        raise ValueError(
            f"Images should be at least as large as the kernel of side {kernel_size}, got {size}."
        )
    geometry = {"in_channels": in_chans, "out_channels": width, "kernel_size": kernel_size}
    bands = {"edges": tuple(edges), "budgets": tuple(budgets)}
    first = layer(front, "conv", **geometry, padding="same", padding_mode="circular", **bands)
    trunk = lipconvnet_small(
        num_classes, width, size, width=width, depths=depths, kernel_size=kernel_size,
        hidden=hidden, conv=conv, linear=linear, act=act, head=head,
    )  # fmt: skip
    backbone = [*stem(in_chans, mean, std), first, layer(act, "act", channels=width)]
    backbone += trunk.backbone
    return network(backbone, features=trunk.num_features, num_classes=num_classes, head=head)
