"""Operations on batches of images that policies choose from, each image with a strength of its own.

Those of PIL that AutoAugment names, on values in [0, 1] instead of bytes.

| AutoAugment: Learning Augmentation Policies from Data (Cubuk et al., 2019)
| https://arxiv.org/abs/1805.09501
"""

__all__ = ["OPERATIONS", "Operation", "apply"]

from collections.abc import Callable, Sequence

import torch
from einops import rearrange
from torch import Tensor
from torch.nn import functional as F

from ._registry import to_device

Operation = Callable[[Tensor, Tensor], Tensor]  # images (B, C, H, W), strengths (B,) -> images


def apply(images: Tensor, names: Sequence[str], choice: Tensor, strength: Tensor) -> Tensor:
    """Does one operation to each image.

    Arguments:
        images: The images in [0, 1], with shape (B, C, H, W).
        names: Names of operations, keys of `OPERATIONS`.
        choice: For each image the index of a name, on the CPU, with shape (B,).
        strength: The strengths, on the CPU, with shape (B,).
    """
    changed = images.clone()
    for position, name in enumerate(names):
        chosen = (choice == position).nonzero().flatten()
        if name == "identity" or len(chosen) == 0:
            continue
        index = to_device(chosen, images)
        own = to_device(strength[chosen].to(images.dtype), images)
        changed[index] = OPERATIONS[name](images[index], own).clamp(0, 1)
    return changed


# Where pixels come from, in pixels from the upper left corner; what enters is black.


def shear_x(images: Tensor, strength: Tensor) -> Tensor:
    """Moves each row by its distance from the upper border, times the strength."""
    return _warp(images, xy=strength)


def shear_y(images: Tensor, strength: Tensor) -> Tensor:
    """Moves each column by its distance from the left border, times the strength."""
    return _warp(images, yx=strength)


def translate_x(images: Tensor, strength: Tensor) -> Tensor:
    """Moves images by a number of pixels to the left."""
    return _warp(images, x=strength)


def translate_y(images: Tensor, strength: Tensor) -> Tensor:
    """Moves images by a number of pixels upwards."""
    return _warp(images, y=strength)


def rotate(images: Tensor, strength: Tensor) -> Tensor:
    """Turns images about their centre, by a number of degrees."""
    height, width = images.shape[2:]
    angle = strength.deg2rad()
    cos, sin = angle.cos(), angle.sin()
    x = (width - cos * width + sin * height) / 2
    y = (height - sin * width - cos * height) / 2
    return _warp(images, xx=cos, xy=-sin, x=x, yx=sin, yy=cos, y=y)


def _warp(
    images: Tensor,
    *,
    xx: Tensor | float = 1.0,
    xy: Tensor | float = 0.0,
    x: Tensor | float = 0.0,
    yx: Tensor | float = 0.0,
    yy: Tensor | float = 1.0,
    y: Tensor | float = 0.0,
) -> Tensor:
    """Images whose pixel (u, v) shows (xx u + xy v + x, yx u + yy v + y): the nearest pixel there."""
    height, width = images.shape[2:]
    u = torch.arange(width, device=images.device, dtype=images.dtype) + 0.5
    v = torch.arange(height, device=images.device, dtype=images.dtype)[:, None] + 0.5

    def grid(by_u: Tensor | float, by_v: Tensor | float, move: Tensor | float) -> Tensor:
        zero = u.new_zeros(len(images), 1, 1)
        by_u, by_v, move = (
            zero + rearrange(torch.as_tensor(each).to(zero), "... -> ... 1 1")
            for each in (by_u, by_v, move)
        )
        return by_u * u + by_v * v + move  # (B, H, W)

    # In the grid, borders of images are at -1 and 1.
    places = torch.stack([2 * grid(xx, xy, x) / width - 1, 2 * grid(yx, yy, y) / height - 1], dim=3)
    return F.grid_sample(images, places, mode="nearest", align_corners=False)


# What becomes of values.


def brightness(images: Tensor, strength: Tensor) -> Tensor:
    """Goes on from black through the image, by the factor 1 + strength."""
    return _blend(images, torch.zeros_like(images), strength)


def color(images: Tensor, strength: Tensor) -> Tensor:
    """Goes on from shades of grey through the image, by the factor 1 + strength."""
    return _blend(images, _grey(images), strength)


def contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Goes on from the mean shade of grey through the image, by the factor 1 + strength."""
    return _blend(images, _grey(images).mean(dim=(1, 2, 3), keepdim=True), strength)


def sharpness(images: Tensor, strength: Tensor) -> Tensor:
    """Goes on from the smoothed image through the image, by the factor 1 + strength."""
    channels, height, width = images.shape[1:]
    if height < 3 or width < 3:
        return images
    kernel = images.new_ones(3, 3)
    kernel[1, 1] = 5
    kernel = (kernel / kernel.sum()).expand(channels, 1, 3, 3)
    smooth = images.clone()  # pixels at the border stay
    smooth[:, :, 1:-1, 1:-1] = F.conv2d(images, kernel, groups=channels)
    return _blend(images, smooth, strength)


def posterize(images: Tensor, strength: Tensor) -> Tensor:
    """Keeps the first bits of values as bytes, as many as the strength says."""
    step = torch.exp2(8 - strength.round())[:, None, None, None]
    return (_bytes(images) / step).floor() * step / 255


def solarize(images: Tensor, strength: Tensor) -> Tensor:
    """Inverts what is as bright as the strength says."""
    return torch.where(images >= strength[:, None, None, None], 1 - images, images)


def auto_contrast(images: Tensor, strength: Tensor) -> Tensor:
    """Stretches the values of each channel to [0, 1]."""
    low, high = images.amin(dim=(2, 3), keepdim=True), images.amax(dim=(2, 3), keepdim=True)
    stretched = (images - low) / (high - low)
    return torch.where(high > low, stretched, images)


def equalize(images: Tensor, strength: Tensor) -> Tensor:
    """Makes all values as frequent as possible in each channel, as bytes."""
    values = rearrange(_bytes(images), "b c h w -> (b c) (h w)").long()
    counts = values.new_zeros(len(values), 256).scatter_add_(1, values, torch.ones_like(values))
    brightest = counts.gather(1, values.amax(dim=1, keepdim=True))
    step = (values.shape[1] - brightest) // 255  # (B C, 1)
    darker = counts.cumsum(dim=1) - counts
    table = ((darker + step // 2) // step.clamp_min(1)).clamp(0, 255)
    even = rearrange(
        table.gather(1, values), "(b c) (h w) -> b c h w", b=len(images), h=images.shape[2]
    )
    few = rearrange(step == 0, "(b c) 1 -> b c 1 1", b=len(images))
    return torch.where(few, images, even.to(images.dtype) / 255)


def invert(images: Tensor, strength: Tensor) -> Tensor:
    """Makes negatives."""
    return 1 - images


def _blend(images: Tensor, other: Tensor, strength: Tensor) -> Tensor:
    return other + (1 + strength[:, None, None, None]) * (images - other)


def _grey(images: Tensor) -> Tensor:
    """Luma of red, green and blue; the mean of channels that are others, with shape (B, 1, H, W)."""
    if images.shape[1] != 3:
        return images.mean(dim=1, keepdim=True)
    weights = images.new_tensor([0.299, 0.587, 0.114])
    return torch.einsum("bchw,c->bhw", images, weights)[:, None]


def _bytes(images: Tensor) -> Tensor:
    """The nearest whole numbers from 0 to 255."""
    return (images * 255).round()


OPERATIONS: dict[str, Operation] = {
    "identity": lambda images, strength: images,
    "shear_x": shear_x,
    "shear_y": shear_y,
    "translate_x": translate_x,
    "translate_y": translate_y,
    "rotate": rotate,
    "brightness": brightness,
    "color": color,
    "contrast": contrast,
    "sharpness": sharpness,
    "posterize": posterize,
    "solarize": solarize,
    "auto_contrast": auto_contrast,
    "equalize": equalize,
    "invert": invert,
}
