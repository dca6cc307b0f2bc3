"""Model families, one file each, with their tables of named variants."""

__all__ = [
    "ModelCard",
    "Network",
    "Published",
    "Variant",
    "aol_mlp",
    "aolnet",
    "bronet",
    "build",
    "card",
    "cpl",
    "create_model",
    "freqnet",
    "from_pretrained",
    "from_timm",
    "gloronet",
    "kwlarge",
    "lipconvnet",
    "lipconvnet_small",
    "lipmlp",
    "lipnext",
    "lipvit",
    "liresnet",
    "list_models",
    "names",
    "onelip_convnet",
    "plain_convnet",
    "plain_mlp",
    "registry",
    "resnet",
    "sandwich",
    "save_pretrained",
    "sll",
]

from typing import Any

from ._listing import list_models
from ._registry import ModelCard, Published, Variant, card, registry
from .aol_mlp import aol_mlp
from .aolnet import aolnet
from .bronet import bronet
from .cpl import cpl
from .freqnet import freqnet
from .gloronet import gloronet
from .kwlarge import kwlarge
from .lipconvnet import lipconvnet
from .lipconvnet_small import lipconvnet_small
from .lipmlp import lipmlp
from .lipnext import lipnext
from .lipvit import lipvit
from .liresnet import liresnet
from .network import Network
from .onelip_convnet import onelip_convnet
from .plain import plain_convnet, plain_mlp
from .pretrained import from_pretrained, save_pretrained
from .resnet import from_timm, resnet
from .sandwich import sandwich
from .sll import sll

names = registry.names
build = registry.build


def create_model(name: str, **arguments: Any) -> Network:
    """Builds a model by the name of its variant.

    Arguments:
        name: A name of `list_models`.
        **arguments: What differs from the variant, by the signature of its family, such as
            `num_classes=10`, `in_chans=3`, `img_size=32`, `mean` and `std` of the images (which make
            `Standardize` the first layer), `conv="aol_conv2d"`, `act="maxmin"`.

    Returns:
        The model, `Network(backbone=..., head=...)`, which takes images in [0, 1] with shape
        (B, in_chans, H, W) and gives logits with shape (B, num_classes).

    Raises:
        ValueError: If no variant has this name.
        TypeError: If its family takes no such argument.

    Example:
        >>> model = create_model("lipmlp_s", num_classes=7, in_chans=1, img_size=8)
        >>> model.head.out_features
        7
    """
    return registry.build(name, **arguments)
