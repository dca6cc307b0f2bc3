"""Fourier convolutions, as products with cosines and sines around a real matrix for each frequency.

A product with cosines and sines, orthonormal ones, real matrices [A −B; B A] for frequencies with the symbol
A + iB, and the transposed product: no theorem of Fourier is needed to bound them.  Frequencies that are
their own opposites have real coefficients, and two of them fill a matrix.
"""

__all__: list[str] = []

import math
from typing import Any

import torch
from torch import Tensor

from ..bounds import Shape
from ..layers._fourier import half_plane, waves
from ..layers.filtered_conv2d import StoredFilter2d, _frequencies
from ..layers.symbol_conv2d import StoredConv2d
from ..program import Affine
from ._linear import conv
from ._rewriting import Parts, picked, places, rewriting


@rewriting(StoredConv2d)
def _stored_conv(module: StoredConv2d, shape: Shape) -> Parts:
    size = (shape[1], shape[2])
    geometry = module.geometry
    numbers = places(shape).double()[None] + 1
    phases = geometry._phases_of(numbers)[0].long() - 1  # noqa: SLF001
    symbols = module.symbols(size).detach()[:, None]
    period = geometry.period(size)
    outs = geometry.outputs(size)
    parts = _fourier(symbols, half_plane(period), period, tuple(phases.shape), outs)
    return [picked(phases), *parts, *_shift(module.bias)]


@rewriting(StoredFilter2d)
def _stored_filter(module: StoredFilter2d, shape: Shape) -> Parts:
    symbols = torch.view_as_complex(module.weight.detach()).mT  # (F, G, O/G, I/G)
    frequencies = _frequencies(module.size, module.band)[1]
    parts = _fourier(symbols, frequencies, module.size, shape, module.size)
    return [*parts, *_shift(module.bias)]


def _shift(bias: Tensor | None) -> Parts:
    return [] if bias is None else [Affine(shift=bias.detach().double().view(-1, 1, 1))]


def _fourier(
    symbols: Tensor, frequencies: Any, period: tuple[int, int], shape: Shape, outs: tuple[int, int]
) -> Parts:
    """Cosines and sines, a matrix for each pair of coordinates, and back.

    Arguments:
        symbols: The matrices, complex, with shape (F, G, O / G, I / G).
        frequencies: What they are of, with shape (F, 2).
        period: The height and width of the torus.
        shape: The shape of an image in its corner.
        outs: The height and width of the corner that is taken.
    """
    _, groups, after, before = symbols.shape
    listed = torch.from_numpy(half_plane(period).copy())
    rows = {tuple(each): i for i, each in enumerate(listed.tolist())}
    own = [rows[tuple(each)] for each in torch.as_tensor(frequencies).tolist()]
    alone = ((2 * torch.as_tensor(frequencies) % torch.tensor(period)) == 0).all(dim=1)
    pairs, singles = (~alone).nonzero()[:, 0], alone.nonzero()[:, 0]
    # Coordinates: cosines of pairs and − sines of them, then frequencies that are alone, two by two.
    slots = [[(f, 0), (f, 1)] for f in pairs.tolist()]
    slots += [[(f, 0) for f in some] for some in _by_two(singles.tolist())]
    flat = [each for slot in slots for each in slot]
    base = [
        _basis(waves(period, range(h), range(w))[:, own], flat, alone, period)
        for h, w in ((shape[1], shape[2]), outs)
    ]
    blocks = symbols.real.new_zeros(len(slots), groups, 2, after, 2, before)
    starts = torch.tensor([len(slot) for slot in slots]).cumsum(0).tolist()
    index_in = torch.full((len(slots), groups, 2, before), -1)
    index_out = torch.zeros(len(flat), groups, after, dtype=torch.long)
    inputs = places((len(flat), groups, before))
    outputs = places((len(slots), groups, 2, after))
    for i, (slot, end) in enumerate(zip(slots, starts, strict=True)):
        first = end - len(slot)
        index_in[i, :, : len(slot)] = inputs[first:end].movedim(0, 1)
        index_out[first:end] = outputs[i, :, : len(slot)].movedim(1, 0)
        if i < len(pairs):
            a, b = symbols[slot[0][0]].real, symbols[slot[0][0]].imag
            blocks[i, :, 0, :, 0], blocks[i, :, 0, :, 1] = a, -b
            blocks[i, :, 1, :, 0], blocks[i, :, 1, :, 1] = b, a
        else:
            for j, (f, _) in enumerate(slot):
                blocks[i, :, j, :, j] = symbols[f].real
    kernel = blocks.reshape(-1, 2 * before, 1)
    channels = groups * after
    flat_in, flat_out = math.prod(shape[1:]), math.prod(outs)
    return [
        picked(places((shape[0], flat_in)).mT),
        conv(base[0][:, :, None]),
        picked(index_in.reshape(-1, 1)),
        conv(kernel, groups=len(slots) * groups),
        picked(index_out.reshape(len(flat), channels)),
        conv(base[1].mT[:, :, None]),
        picked(places((flat_out, channels)).mT.reshape(channels, *outs)),
    ]


def _by_two(numbers: list[int]) -> list[list[int]]:
    return [numbers[i : i + 2] for i in range(0, len(numbers), 2)]


def _basis(
    table: Tensor, flat: list[tuple[int, int]], alone: Tensor, period: tuple[int, int]
) -> Tensor:
    """Rows √(2/N) cos and −√(2/N) sin, or √(1/N) cos where a frequency is alone."""
    found = []
    for f, part in flat:
        weight = math.sqrt((1 if alone[f] else 2) / math.prod(period))
        found.append(table[part, f] * (-weight if part else weight))
    return torch.stack(found)
