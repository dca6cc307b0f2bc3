"""Images of no class that a network knows: noise, test images undone, and other data sets.

None of the first needs a file.  What is random is a function of the seed, the name and the index of the image
alone.  Noise and blobs are after the sets that Outlier Exposure is tested on, with constants of their own.

References:
    | Deep Anomaly Detection with Outlier Exposure (Hendrycks et al., 2019)
    | https://arxiv.org/abs/1812.04606
"""

__all__ = ["CHANGED", "SYNTHETIC", "Unknown", "other_sets", "unknown"]

import io
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..seeds import derived_seed
from .packed import DAMAGED, open_packed, unpacked

Maker = Callable[[Tensor, list[torch.Generator]], Tensor]
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue in grey: ITU-R BT.601
_DIGITS = {"mnist", "digits"}  # of which other digits are no unknown classes


@dataclass(frozen=True)
class Unknown:
    """Images of another data set, as the network takes them.

    Arguments:
        name: The name of the set.
        images: The images in [0, 1], with shape (M, C, H, W).
        prepared: What was done to them, in words; empty if nothing was.
    """

    name: str
    images: Tensor
    prepared: str


def unknown(name: str, images: Tensor, indices: Tensor, seed: int = 0) -> Tensor:
    """Unknown images, one for each image.

    Arguments:
        name: One of `SYNTHETIC`, which take no more than the shape of images, or `CHANGED`.
        images: The images in [0, 1], with shape (N, C, H, W).
        indices: The index of each image in its data set, with shape (N,).
        seed: Which draw.

    Returns:
        As many images, of their shape and dtype.  Those that are "phase_scrambled" leave [0, 1], since they
        have the amplitudes of the image; all others are in it.
    """
    generators = [
        torch.Generator().manual_seed(derived_seed(seed, "unknown", name, index))
        for index in indices.tolist()
    ]
    if name == "pair_average":
        return _pair_average(images, indices)
    return {**SYNTHETIC, **CHANGED}[name](images, generators).to(images.dtype)


def other_sets(
    directory: str | None, data: str, shape: tuple[int, ...], limit: int
) -> Iterator[Unknown]:
    """Other data sets that lie in a directory as `ood_*.npz`, as images of a shape.

    Arguments:
        directory: The directory; None has none.
        data: The name of the data set that is known, which is left out; of digits, so are others of digits.
        shape: The shape of images, (C, H, W).
        limit: The number of images of each, evenly spaced.

    Raises:
        ValueError: If a file is damaged, or holds something else.
    """
    if directory is None:
        return
    for path in sorted(Path(directory).glob("ood_*.npz")):
        try:
            yield from _of_file(path, data, shape, limit)
        except DAMAGED as error:
            raise ValueError(
                f"'{path}' is damaged, or not an archive of images: {error}. Replace it, or remove it."
            ) from error


def _of_file(path: Path, data: str, shape: tuple[int, ...], limit: int) -> Iterator[Unknown]:
    """The data sets of a file."""
    with open_packed(path) as archive:
        for key in archive.files:
            name, _, form = key.rpartition("_")
            own = f"{name}_".startswith(f"{data}_")  # cifar100 is no part of cifar10
            known = own or (name.startswith("usps") and data in _DIGITS)
            if form in ("xz", "sprites") and not known:
                stored = unpacked(archive, name) if form == "xz" else _tiles(archive, name)
                picks = np.arange(min(limit, len(stored))) * len(stored)
                chosen = torch.from_numpy(stored[picks // min(limit, len(stored))])
                yield _prepared(name, chosen, shape)


def _tiles(archive: Any, name: str) -> np.ndarray:
    """Images that lie side by side in a few large ones, row by row."""
    from PIL import Image  # which comes with matplotlib

    content, ends = archive[f"{name}_sprites"].tobytes(), archive[f"{name}_offsets"].tolist()
    images = []
    for grid, begin, end in zip(archive[f"{name}_grid"].tolist(), ends, ends[1:], strict=False):
        count, rows, columns = grid
        with Image.open(io.BytesIO(content[begin:end])) as opened:
            mosaic = np.asarray(opened.convert("RGB"))
        height, width = mosaic.shape[0] // rows, mosaic.shape[1] // columns
        cut = mosaic.reshape(rows, height, columns, width, 3).transpose(0, 2, 1, 3, 4)
        images.append(cut.reshape(-1, height, width, 3)[:count])
    return np.concatenate(images)


def _prepared(name: str, stored: Tensor, shape: tuple[int, ...]) -> Unknown:
    """Images of another size or of other channels, as a network takes them."""
    images = stored.float() / 255  # (M, H, W) or (M, H, W, 3)
    images = images[:, None] if images.ndim == 3 else images.permute(0, 3, 1, 2)
    done = []
    if images.shape[1] == 3 and shape[0] == 1:
        weights = torch.tensor(_LUMA)[:, None, None].float()
        images = (images * weights).sum(dim=1, keepdim=True)
        done.append("greyed")
    elif images.shape[1] == 1 and shape[0] > 1:
        images = images.expand(-1, shape[0], -1, -1)
        done.append("repeated in each channel")
    if tuple(images.shape[2:]) != tuple(shape[1:]):
        done.append(f"resized from {images.shape[2]} × {images.shape[3]}")
        images = interpolate(images, size=shape[1:], mode="bilinear", antialias=True)
    return Unknown(name, images.clamp(0, 1).contiguous(), ", ".join(done))


def _drawn(images: Tensor, generators: list[torch.Generator], normal: bool = True) -> Tensor:
    """Noise for each image, in float64."""
    draw = torch.randn if normal else torch.rand
    shape = images.shape[1:]
    return torch.stack([draw(shape, generator=g, dtype=torch.float64) for g in generators])


def _uniform(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    return _drawn(images, generators, normal=False)


def _gaussian(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    return (0.5 + 0.25 * _drawn(images, generators)).clamp(0, 1)


def _rademacher(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    return (_drawn(images, generators, normal=False) < 0.5).double()


def _blobs(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Blurred noise with periodic borders, black below its median."""
    height, width = images.shape[2:]
    squares = _frequencies(height)[:, None] ** 2 + _frequencies(width) ** 2
    sigma = min(height, width) / 16
    blur = torch.exp(-2 * (torch.pi * sigma) ** 2 * squares)
    smooth = torch.fft.ifft2(torch.fft.fft2(_drawn(images, generators)) * blur).real
    flat = smooth.flatten(2)  # (N, C, H·W)
    middle, top = flat.median(dim=2).values, flat.amax(dim=2)
    scaled = (flat - middle[..., None]) / (top - middle).clamp_min(1e-12)[..., None]
    return scaled.clamp(0, 1).reshape(smooth.shape)


def _frequencies(size: int) -> Tensor:
    return torch.fft.fftfreq(size, dtype=torch.float64)


def _phase_scrambled(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Images with their amplitudes and the phases of noise added, the same in each channel."""
    turns = torch.fft.fft2(_drawn(images[:, :1], generators)).angle()  # odd, up to signs
    turns[..., 0, 0] = 0.0  # the mean stays
    return torch.fft.ifft2(
        torch.fft.fft2(images.double()) * torch.polar(torch.ones_like(turns), turns)
    ).real


def _jigsaw(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Tiles of a 4 × 4 grid in another order; what does not fit the grid stays at the border."""
    rows, columns = (min(4, size) for size in images.shape[2:])
    height, width = images.shape[2] // rows, images.shape[3] // columns
    done = images.clone()
    corner = done[:, :, : rows * height, : columns * width]
    tiles = corner.unflatten(3, (columns, width)).unflatten(2, (rows, height))
    tiles = tiles.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)  # (N, tiles, C, h, w)
    orders = [torch.randperm(rows * columns, generator=g) for g in generators]
    mixed = torch.stack([each[order] for each, order in zip(tiles, orders, strict=True)])
    mixed = mixed.unflatten(1, (rows, columns)).permute(0, 3, 1, 4, 2, 5)
    done[:, :, : rows * height, : columns * width] = mixed.flatten(4, 5).flatten(2, 3)
    return done


def _inverted(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    return 1 - images


def _rotated(images: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Images turned by a quarter; those that are not square by a half."""
    return images.rot90(1 if images.shape[2] == images.shape[3] else 2, dims=(2, 3))


def _pair_average(images: Tensor, indices: Tensor) -> Tensor:
    """The mean of each image and the one that is half of all images farther on."""
    order = indices.argsort()
    partner = torch.empty_like(order)
    partner[order] = order.roll(-(len(order) // 2))
    return (images + images[partner]) / 2


SYNTHETIC: dict[str, Maker] = {
    "uniform_noise": _uniform,
    "gaussian_noise": _gaussian,
    "rademacher_noise": _rademacher,
    "blobs": _blobs,
}
CHANGED: dict[str, Maker] = {
    "phase_scrambled": _phase_scrambled,
    "jigsaw": _jigsaw,
    "inverted": _inverted,
    "rotated": _rotated,
    "pair_average": lambda images, generators: images,  # which needs indices: see `unknown`
}
