"""Orthogonal maps without weights, which move pixels between places and channels.

References:
    | Shifts: Shift: A Zero FLOP, Zero Parameter Alternative to Spatial Convolutions (Wu et al., 2018)
    | https://arxiv.org/abs/1711.08141
    | Shuffles: ShuffleNet (Zhang et al., 2018) https://arxiv.org/abs/1707.01083
    | Unshuffled pixels: Real-Time Single Image and Video Super-Resolution Using an Efficient
    | Sub-Pixel Convolutional Neural Network (Shi et al., 2016) https://arxiv.org/abs/1609.05158
    | Cosines: Discrete Cosine Transform (Ahmed, Natarajan & Rao, 1974)
    | https://doi.org/10.1109/T-C.1974.223784

What differs from the papers: shifts are circular by default, so that no pixel is lost.
"""

__all__ = ["BlockDCT2d", "SpatialShift2d"]

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, rule
from ..linalg import matrix_norm, mul_up
from ..program import AxisMaps, Gather, coordinates, lowering
from ._registry import Card, add, named
from .frequency import Gains, gain_rule
from .permute import Permute

Size = tuple[int, int]


def _card(choose: str, paper: str, url: str, shape: Shape, **arguments: object) -> Card:
    return Card(
        kind="pooling and mixing",
        guarantee="orthogonal",
        paper=paper,
        url=url,
        choose=choose,
        arguments=arguments,
        shape=shape,
    )


@named(
    "spatial_shift2d",
    _card(
        "To mix neighbours for nothing, between layers that mix channels.",
        "Wu et al., 2018",
        "https://arxiv.org/abs/1711.08141",
        (5, 3, 4),
    ),
)
class SpatialShift2d(nn.Module):
    """Moves groups of channels by one pixel: up, down, left, right; and one group not at all.

    Arguments:
        groups: 5, or 4 without the group that stays; the channels are split as evenly as can be.
        padding_mode: 'circular', where pixels enter again at the other side: orthogonal; or 'zeros',
            where those that leave are lost.
        ratio: The share of channels that moves in each direction, rounded down, up to ¼; the others
            stay.  By default groups are equal.

    Raises:
        ValueError: If an argument is none of these.
    """

    def __init__(
        self, groups: int = 5, padding_mode: str = "circular", ratio: float | None = None
    ) -> None:
        super().__init__()
        if ratio is not None and not (groups == 5 and 0 <= ratio <= 0.25):
            raise ValueError(
                f"'ratio' should be in [0, ¼], with 5 groups, got {ratio} and {groups} groups."
            )
        if groups not in (4, 5) or padding_mode not in ("circular", "zeros"):
            raise ValueError(
                "SpatialShift2d takes 4 or 5 groups and padding_mode 'circular' or 'zeros', got "
                f"{groups} and '{padding_mode}'."
            )
        self.groups, self.padding_mode, self.ratio = groups, padding_mode, ratio

    def extra_repr(self) -> str:
        ratio = "" if self.ratio is None else f", ratio={self.ratio:g}"
        return f"groups={self.groups}, padding_mode='{self.padding_mode}'{ratio}"

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C, H, W)
        if self.ratio is None:
            groups = x.tensor_split(self.groups, dim=1)
        else:
            size = int(self.ratio * x.shape[1])
            groups = x.tensor_split([size, 2 * size, 3 * size, 4 * size], dim=1)
        moves = [(-1, 2), (1, 2), (-1, 3), (1, 3)]
        moved = [
            self._shift(group, step, axis)
            for group, (step, axis) in zip(groups, moves, strict=False)
        ]
        return torch.cat([*moved, *groups[4:]], dim=1)

    def _shift(self, x: Tensor, step: int, axis: int) -> Tensor:
        if self.padding_mode == "circular":
            return x.roll(step, axis)
        pads = [step, -step]
        return F.pad(x, pads if axis == 3 else [0, 0, *pads])


@rule(SpatialShift2d)
def _spatial_shift2d(module: SpatialShift2d, shape: Shape) -> Bound:
    """Moves each coordinate to a place of its own, or drops it; negative shares would repeat some."""
    if module.ratio is not None and not 0 <= module.ratio <= 0.25:
        raise NotCertifiedError(f"'ratio' should be in [0, ¼], got {module.ratio}.")
    if len(shape) != 3:
        raise NotCertifiedError(
            f"SpatialShift2d takes images with channels, got examples of shape {shape}."
        )
    return Bound(1.0, "SpatialShift2d: moves its input")


lowering(SpatialShift2d)(coordinates)


@gain_rule(SpatialShift2d)
def _shift_gains(module: SpatialShift2d, size: Size) -> Gains:
    """A shift on the torus multiplies the coefficients of a channel by phases."""
    if module.padding_mode != "circular":
        raise NotCertifiedError("Shifts keep frequencies apart under padding_mode='circular'.")
    return torch.ones(size, dtype=torch.float64)


@named(
    "block_dct2d",
    _card(
        "To halve images without loss, with low and high frequencies in channels apart.",
        "Ahmed, Natarajan & Rao, 1974",
        "https://doi.org/10.1109/T-C.1974.223784",
        (2, 4, 6),
        downscale_factor=2,
    ),
)
class BlockDCT2d(nn.Module):
    """Replaces each block of r × r pixels by its cosine transform, as r² channels.

    An orthogonal map; for r = 2 that of Haar: mean, differences along the axes, and their product.
    Channel c of the image becomes the channels r²c, ..., r²c + r² − 1, as in `nn.PixelUnshuffle`, of
    which the first is r times the mean of the block.

    Arguments:
        downscale_factor: The side r of the blocks, which divides that of images.

    Raises:
        ValueError: If r is below 1.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        if downscale_factor < 1:
            raise ValueError(f"'downscale_factor' should be at least 1, got {downscale_factor}.")
        self.downscale_factor = downscale_factor

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"

    def basis(self) -> list[list[float]]:
        """The cosines of a side of a block, in rows of norm 1."""
        r = self.downscale_factor
        return [
            [math.sqrt((2 if k else 1) / r) * math.cos(math.pi * k * (2 * i + 1) / (2 * r))
             for i in range(r)]
            for k in range(r)
        ]  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, C r², H / r, W / r)
        r = self.downscale_factor
        rows, columns = x.shape[-2] // r, x.shape[-1] // r
        if (rows * r, columns * r) != x.shape[-2:]:
            raise ValueError(
                f"The sides of images should be multiples of {r}, got {tuple(x.shape[-2:])}."
            )
        basis = torch.tensor(self.basis(), dtype=x.dtype, device=x.device)
        waves = torch.kron(basis, basis).view(r * r, 1, r, r)
        return F.conv2d(x.reshape(-1, 1, *x.shape[-2:]), waves, stride=r).view(
            x.shape[0], -1, rows, columns
        )


@rule(BlockDCT2d)
def _block_dct2d(module: BlockDCT2d, shape: Shape) -> Bound:
    """The norm of a Kronecker product is the product of the norms: ‖D‖², after a reordering."""
    if len(shape) != 3:
        raise NotCertifiedError(
            f"BlockDCT2d takes images with channels, got examples of shape {shape}."
        )
    norm = matrix_norm(torch.tensor(module.basis(), dtype=torch.float64, device="cpu"))
    return Bound(mul_up(norm, norm), "BlockDCT2d: orthogonal blocks")


@lowering(BlockDCT2d)
def _lowered_dct(module: BlockDCT2d, shape: Shape) -> nn.Module:
    """Blocks on axes of their own, cosines along both, and their coefficients among the channels."""
    count, height, width = shape
    r = module.downscale_factor
    split = (count, height // r, r, width // r, r)
    basis = torch.tensor(module.basis(), dtype=torch.float64)
    order = nn.Sequential(Permute(0, 1, 3, 5, 2, 4), nn.Flatten(1, 3)).eval()
    return nn.Sequential(
        Gather(None, split), AxisMaps([None, None, basis, None, basis]), coordinates(order, split)
    )


@gain_rule(BlockDCT2d)
def _block_gains(module: BlockDCT2d, size: Size) -> Gains:
    """Phases of an image of one frequency are images of that frequency, folded; D mixes channels."""
    norm = matrix_norm(torch.tensor(module.basis(), dtype=torch.float64, device="cpu"))
    factor = module.downscale_factor
    return torch.full(size, mul_up(norm, norm), dtype=torch.float64), (factor, factor)


add(
    "channel_shuffle",
    nn.ChannelShuffle,
    _card(
        "Between convolutions in groups, so that groups mix.",
        "Zhang et al., 2018",
        "https://arxiv.org/abs/1707.01083",
        (4, 2, 3),
        groups=2,
    ),
)
add(
    "pixel_unshuffle",
    nn.PixelUnshuffle,
    _card(
        "To halve images without loss.",
        "Shi et al., 2016",
        "https://arxiv.org/abs/1609.05158",
        (2, 4, 6),
        downscale_factor=2,
    ),
)
