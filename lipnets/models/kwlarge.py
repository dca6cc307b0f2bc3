"""KW-Large, four convolutions and two dense layers.

References:
    | Scaling provable adversarial defenses (Wong, Schmidt, Metzen & Kolter, 2018)
    | https://arxiv.org/abs/1805.12514: the network, unconstrained
    | Preventing Gradient Attenuation in Lipschitz Constrained Convolutional Networks
    | (Li et al., 2019) https://arxiv.org/abs/1911.00937: with BCOP
    | Orthogonalizing Convolutional Layers with the Cayley Transform (Trockman & Kolter, 2021)
    | https://arxiv.org/abs/2104.07167: with the Cayley map
    | Sizes: `LargeConvNet` in github.com/ColinQiyangLi/LConvNet, `KWLarge` in
    | github.com/locuslab/orthogonal-convolutions

Padding is circular as in both papers; `conv={"name": "cayley_conv2d", "padding_mode": "zeros"}` pads
with zeros.  What differs: Cayley layers of the paper learn a scale each, 7 parameters in all; BCOP of
the paper keeps 2k − 1 square matrices for a kernel of side k, ours half of most of them.  Images
whose sides are no multiples of 4 are padded with zeros.
"""

__all__ = ["kwlarge"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Published, Variant, family
from .network import Network

_CITED = "as cited by Prach et al., 2023, table 4"
VARIANTS = {
    "kwlarge": Variant(
        parameters=2.405e6,
        source="counted in the authors' code",
        published=(Published("CIFAR-10", 75.3, {36: 59.1}, f"Trockman & Kolter, 2021, {_CITED}"),),
    ),
    "kwlarge_bcop": Variant(
        {"conv": "bcop_conv2d", "linear": "bjorck_linear", "head": "bjorck_linear", "taps": 2},
        published=(Published("CIFAR-10", 72.1, {36: 58.2}, f"Li et al., 2019, {_CITED}"),),
    ),
}


@family(VARIANTS, paper="Trockman & Kolter, 2021", url="https://arxiv.org/abs/2104.07167")
def kwlarge(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    width: int = 32,
    taps: int = 1,
    hidden: Sequence[int] = (512, 512),
    conv: Spec = "cayley_conv2d",
    linear: Spec = "cayley_linear",
    act: Spec = "maxmin",
    head: Spec = "cayley_linear",
) -> Network:
    """Builds a KW-Large: twice a convolution that keeps the size and one that halves it.

    Blocks of 2 × 2 pixels become channels before those that halve it, which stands for a stride of 2.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        width: The number of channels of the first two convolutions; the others have twice as many.
        taps: The side of kernels where the size is halved, in blocks: 1 is a kernel of 2 × 2 pixels
            with stride 2, and 2 one of 4 × 4.
        hidden: The numbers of outputs of the dense layers before the head.
        conv: The convolutions, by name, or as a mapping of `name` and further arguments.
        linear: The dense layers before the head, by name.
        act: The activation, by name.
        head: The last layer, by name.
    """
    pads, (rows, columns) = pad_to_multiple(image_size(img_size), 4)
    backbone = [*stem(in_chans, mean, std), *pads]
    channels = in_chans
    for wide in (width, 2 * width):
        for fold, kernel_size in ((1, 3), (2, taps)):
            backbone += [nn.PixelUnshuffle(fold)] if fold > 1 else []
            rows, columns = rows // fold, columns // fold
            module = layer(
                conv,
                "conv",
                in_channels=channels * fold**2,
                out_channels=wide,
                kernel_size=kernel_size,
                padding="same",
                padding_mode="circular",
                size=(rows, columns),
            )
            backbone += [module, layer(act, "act", channels=wide)]
            channels = wide

    backbone.append(nn.Flatten())
    widths = [channels * rows * columns, *hidden]
    for inputs, outputs in pairwise(widths):
        backbone.append(layer(linear, "linear", in_features=inputs, out_features=outputs))
        backbone.append(layer(act, "act", channels=outputs))
    return network(backbone, features=widths[-1], num_classes=num_classes, head=head)
