"""LipViT, a vision transformer whose constant is proved to be 1.

References:
    | An Image is Worth 16x16 Words (Dosovitskiy et al., 2021) https://arxiv.org/abs/2010.11929
    | The Lipschitz Constant of Self-Attention (Kim, Papamakarios & Mnih, 2021)
    | https://arxiv.org/abs/2006.04710: attention by distances, which has a constant
    | MLP-Mixer: An all-MLP Architecture for Vision (Tolstikhin et al., 2021)
    | https://arxiv.org/abs/2105.01601: what `attention="token_mixer"` makes of it

What differs from a vision transformer: attention by distances, divided by its proved constant, which
grows with the number of tokens (10 at 16 tokens, 23 at 64); sums of a block and its input are
averages with a learned weight; orthogonal linear layers; means are subtracted, and nothing is divided
by deviations; no class token: all tokens together are the features, or an average of them.
"""

__all__ = ["lipvit"]

from collections.abc import Sequence
from itertools import pairwise

from torch import nn

from ..layers import ConvexResidual, LayerCentering, Permute
from ._padding import pad_to_multiple
from ._parts import Spec, image_size, layer, network, stem
from ._registry import Variant, family
from .network import Network

VARIANTS = {
    "lipvit_xs": Variant({"embed_dim": 32, "depth": 2, "num_heads": 2, "hidden": (128,)}),
    "lipvit_s": Variant({"embed_dim": 128, "depth": 4, "hidden": (256,)}),
    "lipvit_m": Variant({"embed_dim": 256, "depth": 8, "num_heads": 8, "hidden": (512,)}),
}


@family(VARIANTS)
def lipvit(
    num_classes: int = 10,
    in_chans: int = 3,
    img_size: int | Sequence[int] = 32,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    patch_size: int = 4,
    embed_dim: int = 128,
    depth: int = 4,
    num_heads: int = 4,
    mlp_ratio: float = 2.0,
    alpha: float = 0.1,
    hidden: Sequence[int] = (),
    attention: Spec = "l2_attention",
    linear: Spec = "cayley_linear",
    act: Spec = "maxmin",
    norm: Spec | None = "layer_centering",
    pool: Spec | None = None,
    head: Spec = "unit_norm_linear",
) -> Network:
    """Builds a LipViT: patches as tokens, blocks of attention and of two dense layers, and a head.

    Images whose sides are no multiples of that of a patch are padded with zeros first.

    Arguments:
        num_classes: The number of logits.
        in_chans: The number of channels of images.
        img_size: The side of images, or their height and width, in pixels.
        mean: The mean of each channel, subtracted first; with `std`, or neither.
        std: The standard deviation of each channel, divided by.
        patch_size: The side of the blocks of pixels that are tokens.
        embed_dim: The number of channels of a token.
        depth: The number of blocks.
        num_heads: The number of heads of attention, a divisor of `embed_dim`.
        mlp_ratio: The width of the hidden layer of a block, in numbers of `embed_dim`.
        alpha: The weight of attention, and of dense layers, in the averages with their input at the
            start, between 0 and 1; they are learned.
        hidden: The numbers of outputs of linear layers between the last block and the head.
        attention: What mixes tokens, by name: `l2_attention`, or `token_mixer`, an orthogonal matrix.
        linear: The dense layers, by name, or as a mapping of `name` and further arguments.
        act: The activation, by name.
        norm: The normalization of tokens before each part of a block, by name, if any.
        pool: An adaptive pooling of tokens to one, by name; None keeps them all.
        head: The last layer, by name.

    Raises:
        ValueError: If heads do not divide the channels, or a layer is not one that fits.
    """
    pads, (height, width) = pad_to_multiple(image_size(img_size), patch_size)
    rows, columns = height // patch_size, width // patch_size
    tokens, inner = rows * columns, round(mlp_ratio * embed_dim)

    def dense(inputs: int, outputs: int) -> nn.Module:
        return layer(linear, "linear", in_features=inputs, out_features=outputs)

    def block(*modules: nn.Module) -> nn.Module:
        first = [] if norm is None else [layer(norm, "norm", normalized_shape=embed_dim)]
        return ConvexResidual(nn.Sequential(*first, *modules), alpha)

    backbone = [*stem(in_chans, mean, std), *pads, nn.PixelUnshuffle(patch_size)]
    backbone += [nn.Flatten(2), Permute(0, 2, 1), dense(in_chans * patch_size**2, embed_dim)]
    backbone.append(LayerCentering((tokens, embed_dim)))  # its bias tells positions apart
    for _ in range(depth):
        sizes = {"embed_dim": embed_dim, "num_heads": num_heads, "num_tokens": tokens}
        backbone.append(block(layer(attention, "attention", **sizes)))
        # Activations group channels along the first axis of an example.
        middle = [Permute(0, 2, 1), layer(act, "act", channels=inner), Permute(0, 2, 1)]
        backbone.append(block(dense(embed_dim, inner), *middle, dense(inner, embed_dim)))
    features = tokens * embed_dim
    if pool is not None:
        backbone += [Permute(0, 2, 1), nn.Unflatten(2, (rows, columns))]
        backbone.append(layer(pool, "pool", output_size=1))
        features = embed_dim
    backbone.append(nn.Flatten())
    sizes = [features, *hidden]
    for inputs, outputs in pairwise(sizes):
        backbone += [dense(inputs, outputs), layer(act, "act", channels=outputs)]
    return network(backbone, features=sizes[-1], num_classes=num_classes, head=head)
