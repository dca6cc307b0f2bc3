"""The network of residual blocks that the papers on CPL and on SLL share.

References:
    | https://github.com/MILES-PSL/Convex-Potential-Layer (c6dc197, model.py)
    | https://github.com/araujoalexandre/Lipschitz-SLL-Networks (1abe5e1, core/models/model.py)
"""

__all__ = ["potential_network"]

from collections.abc import Sequence

from torch import nn

from ..bounds import output_shape
from ._activated import activated
from ._padding import pad_to_multiple, with_channels
from ._parts import Spec, image_size, layer, network, stem
from .network import Network


def potential_network(
    *,
    num_classes: int,
    in_chans: int,
    img_size: int | Sequence[int],
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    width: int,
    depth: int,
    hidden_channels: int,
    linear_depth: int,
    hidden_features: int,
    patch: int,
    conv: Spec,
    linear: Spec,
    act: Spec,
    pool: Spec,
    head: Spec,
) -> Network:
    """Builds blocks of convolutions, one pooling, dense blocks and a head: see `cpl` and `sll`."""
    if width < in_chans:
        raise ValueError(
            f"'width' should be at least the {in_chans} channels of images, got {width}."
        )
    pads, size = pad_to_multiple(image_size(img_size), patch)
    backbone = [*stem(in_chans, mean, std), *pads]
    if width > in_chans:
        backbone.append(with_channels(in_chans, width))
    for _ in range(depth):
        backbone += activated(
            *(conv, "conv", act),
            hidden=hidden_channels,
            in_channels=width,
            out_channels=width,
            kernel_size=3,
            padding="same",
        )
    end = nn.Sequential(layer(pool, "pool", kernel_size=patch, channels=width), nn.Flatten())
    (features,) = output_shape(end, (width, *size))
    backbone += end
    for _ in range(linear_depth):
        backbone += activated(
            *(linear, "linear", act),
            hidden=hidden_features,
            in_features=features,
            out_features=features,
        )
    return network(backbone, features=features, num_classes=num_classes, head=head)
