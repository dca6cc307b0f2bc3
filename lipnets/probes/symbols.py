"""What each convolution does to each spatial frequency: the singular values of its symbol.

A convolution on a torus maps a wave of frequency ω to waves of that frequency, by the matrix of its
symbol K̂(ω) for the channels.

References:
    | The Singular Values of Convolutional Layers (Sedghi, Gupta & Long, 2019)
    | https://arxiv.org/abs/1805.10408

What is computed here is exact for circular padding.  With zero padding an image is no torus, and
the true gains differ by what happens at its border: those are estimates, and proved bounds are
found elsewhere.
"""

__all__ = ["symbols"]

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..audit import named_layers
from ..bounds import lipschitz
from ..data.filters import rings
from ..dynamics.lenses import Convolution
from ..layers._fourier import half_plane
from ..layers.filtered_conv2d import StoredFilter2d, _frequencies
from ..layers.symbol_conv2d import StoredConv2d
from ..records import Record
from ._registry import Probe, presets, registry
from .invariants import require
from .subject import Subject

presets("symbols", quick={"points": 12}, full={"points": 32})

_MOST = 32  # frequencies along an axis, of `Convolution`
_CHUNK = 256  # frequencies whose symbols are decomposed at a time
_KINDS = (nn.Conv2d, StoredConv2d, StoredFilter2d)


@dataclass(frozen=True)
class _Layer:
    """A convolution, with what it does to waves of the frequencies of its torus."""

    name: str
    module: nn.Module
    shape: tuple[int, ...]  # of its input
    waves: Tensor  # singular values for a wave alone, largest first, (H, W, min(O, I))
    whole: tuple[float, float]  # the least and the largest singular value of the convolution
    stride: tuple[int, int]
    exact: bool


@registry.register
def symbols(points: int = _MOST) -> Probe:
    """Builds the probe of the gains of convolutions, frequency by frequency.

    For each `layer` with a kernel it yields `layer_gain`, the largest singular value of the convolution
    on the torus of its image; details are its `smallest` one, and for rings of `frequencies`, in
    cycles per pixel of the input of the layer, the `least`, the `mean` and the `largest` singular value
    for waves of one frequency; the `stride`; and the `kind`: `"exact"` where padding is circular, else
    `"estimate"`.  A stride folds frequencies: what it maps to one wave adds up, and the whole may have a
    larger norm than any wave alone.

    `linear_envelope` is the product over convolutions of their largest gains, at the frequencies of
    images; its value is the largest of it, and the detail `largest` that of each ring.  It says what
    the convolutions would pass on if nothing were in between.  Activations move energy from frequency
    to frequency, so that it **bounds nothing**.  Networks whose convolutions are no chain, such as
    residual ones, have none.

    Arguments:
        points: The frequencies along an axis, at most 32: symbols of small kernels are smooth.

    Raises:
        ValueError: If there are less than 1 or more than 32.
    """
    if not 1 <= points <= _MOST:
        raise ValueError(f"'points' should be between 1 and {_MOST}, got {points}.")

    def probe(subject: Subject) -> Iterator[Record]:
        if len(subject.shape) != 3:
            return
        program, found, closest = subject.precise, [], []
        convolutions = _convolutions(program, subject.shape)
        for name, module, shape in subject.track(convolutions, "convolutions"):
            layer = _examine(name, module, shape, points)
            if layer is None:
                continue
            found.append(layer)
            if layer.exact and subject.proved:
                closest.append(_check(layer))
            yield _record(subject, layer)
        if not found:
            says = "the network has no convolution whose symbol is known"
            yield subject.record("symbols_skipped", 1.0, "1", says=says)
            return
        yield from _envelope(subject, program, found)
        if closest:
            yield subject.record(
                "check/symbols",
                max(closest),
                "1",
                len(closest),
                says="no singular value of a convolution on a torus is above the bound of the layer; "
                "closest: the largest ratio",
            )

    return probe


def _convolutions(
    program: nn.Module, shape: tuple[int, ...]
) -> list[tuple[str, nn.Module, tuple[int, ...]]]:
    """Convolutions in the order in which images meet them, with the shapes of their input."""
    named = {name: each for name, each in program.named_modules() if isinstance(each, _KINDS)}
    shapes: dict[str, tuple[int, ...]] = {}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def note(_: nn.Module, arguments: tuple[Tensor, ...]) -> None:
            shapes.setdefault(name, tuple(arguments[0].shape[1:]))

        return note

    handles = [each.register_forward_pre_hook(hook(name)) for name, each in named.items()]
    try:
        like = next(program.parameters(), torch.zeros((), dtype=torch.float64))
        with torch.no_grad():
            program(torch.zeros(1, *shape, dtype=torch.float64, device=like.device))
    finally:
        for handle in handles:
            handle.remove()
    return [(name, named[name], found) for name, found in shapes.items()]


def _examine(name: str, module: nn.Module, shape: tuple[int, ...], points: int) -> _Layer | None:
    """What a convolution does to waves; None if its padding makes it none."""
    if isinstance(module, StoredConv2d):
        return _stored_conv(name, module, shape)
    if isinstance(module, StoredFilter2d):
        return _stored_filter(name, module, shape)
    if not isinstance(module, nn.Conv2d) or module.padding_mode not in ("zeros", "circular"):
        return None
    weight = module.weight.detach().cpu().double()
    size = shape[-2:]
    stride = (module.stride[0], module.stride[1])
    torus = [min(n, max(points, s)) for n, s in zip(size, stride, strict=True)]
    alone = Convolution(weight.shape, torus, (1, 1), module.dilation, module.groups)
    values = _values(alone, weight) / math.sqrt(math.prod(stride))
    whole = values if stride == (1, 1) else None
    if whole is None:  # what is folded to one frequency is decomposed together
        folded = Convolution(weight.shape, torus, stride, module.dilation, module.groups)
        whole = _values(folded, weight)
    own = module.padding_mode == "circular" and _keeps_torus(module, size)
    exact = (
        own and torus == list(size) and all(n % s == 0 for n, s in zip(size, stride, strict=True))
    )
    ends = (float(whole.min()), float(whole.max()))
    return _Layer(name, module, shape, values, ends, stride, exact)


def _keeps_torus(conv: nn.Conv2d, size: Sequence[int]) -> bool:
    """Whether outputs are those of a torus as large as the image, each once."""
    if isinstance(conv.padding, str):
        sums = [
            d * (k - 1) if conv.padding == "same" else 0
            for d, k in zip(conv.dilation, conv.kernel_size, strict=True)
        ]
    else:
        sums = [2 * p for p in conv.padding]
    counts = [
        (n + p - d * (k - 1) - 1) // s + 1 == -(-n // s)
        for n, p, d, k, s in zip(
            size, sums, conv.dilation, conv.kernel_size, conv.stride, strict=True
        )
    ]
    return all(counts)


def _values(lens: Convolution, weight: Tensor) -> Tensor:
    """Singular values at all frequencies, of all groups, with shape (*points, G r)."""
    count = math.prod(lens.points)
    first, mirror = lens.folded(torch.arange(lens.count)).unique(return_inverse=True)
    found = [torch.linalg.svdvals(lens.matrices(weight, part)) for part in first.split(_CHUNK)]
    values = torch.cat(found)[mirror].unflatten(0, (lens.groups, count))
    return values.movedim(0, 1).flatten(1).unflatten(0, lens.points)


def _stored_conv(name: str, module: StoredConv2d, shape: tuple[int, ...]) -> _Layer:
    """As of a kernel, from the symbols of the phases of images."""
    geometry = module.geometry
    period, (down, across) = geometry.period((shape[-2], shape[-1])), geometry.stride
    kept = module.symbols((shape[-2], shape[-1])).detach().cpu().to(torch.complex128)
    whole = torch.linalg.svdvals(kept)
    ends = (float(whole.min()), float(whole.max()))
    rows, columns = torch.from_numpy(half_plane(period)).T
    every = kept.new_zeros(*period, *kept.shape[1:])
    every[-rows % period[0], -columns % period[1]] = kept.conj()
    every[rows, columns] = kept
    every = every.repeat(down, across, 1, 1).unflatten(3, (-1, down, across))
    turns = [
        torch.outer(torch.arange(n * s), torch.arange(s)).double() / (n * s)
        for n, s in zip(period, (down, across), strict=True)
    ]
    vertical, horizontal = (torch.polar(torch.ones_like(t), 2 * torch.pi * t) for t in turns)
    alone = torch.einsum("hwoist,hs,wt->hwoi", every, vertical, horizontal)
    values = torch.linalg.svdvals(alone) / math.sqrt(down * across)
    exact = all(geometry.circular)
    return _Layer(name, module, shape, values, ends, (down, across), exact)


def _stored_filter(name: str, module: StoredFilter2d, shape: tuple[int, ...]) -> _Layer:
    """Singular values in the band of the filter, and 0 outside."""
    kept = torch.view_as_complex(module.weight.detach().cpu().double())  # (F, G, I/G, O/G)
    found = torch.linalg.svdvals(kept).flatten(1)
    places = torch.from_numpy(_frequencies(module.size, module.band)[0])
    rows, columns = torch.from_numpy(half_plane(module.size))[places].T
    values = found.new_zeros(*module.size, found.shape[1])
    values[-rows % module.size[0], -columns % module.size[1]] = found
    values[rows, columns] = found
    ends = (float(values.min()), float(values.max()))
    return _Layer(name, module, shape, values, ends, (1, 1), True)


def _check(layer: _Layer) -> float:
    """The largest singular value over the proved bound of the layer."""
    limit = lipschitz(layer.module, layer.shape).value
    require(
        layer.whole[1] <= limit * (1 + 1e-9),
        law="no singular value of a convolution on a torus is above the bound of the layer",
        came=f"that of {layer.name} is {layer.whole[1]:.9g}, above {limit:.9g}",
    )
    return layer.whole[1] / limit if limit else 0.0


def _record(subject: Subject, layer: _Layer) -> Record:
    """The singular values of a layer, ring by ring."""
    size = layer.waves.shape[:2]
    numbers = rings(*size)
    groups = [layer.waves[numbers == ring] for ring in range(int(numbers.max()) + 1)]
    filled = [(ring, group) for ring, group in enumerate(groups) if len(group)]
    return subject.record(
        "layer_gain",
        layer.whole[1],
        "1",
        layer=layer.name,
        module=type(layer.module).__name__,
        shape=list(layer.shape),
        stride=list(layer.stride),
        smallest=layer.whole[0],
        frequencies=[ring / min(size) for ring, _ in filled],
        least=[float(group.min()) for _, group in filled],
        mean=[float(group.mean()) for _, group in filled],
        largest=[float(group.max()) for _, group in filled],
        kind="exact" if layer.exact else "estimate",
    )


def _envelope(subject: Subject, program: nn.Module, found: Sequence[_Layer]) -> Iterator[Record]:
    """The product of the largest gains of a chain of convolutions, at the frequencies of images."""
    chained = {name: shape for name, _, shape in named_layers(program, subject.shape)}
    if any(layer.name not in chained for layer in found):
        return
    layers = {layer.name: layer for layer in found}
    size = subject.shape[-2:]
    cycles = [torch.fft.fftfreq(n, dtype=torch.float64) for n in size]
    product = torch.ones(*size, dtype=torch.float64)
    scales, before = [1.0, 1.0], subject.shape
    for name, shape in chained.items():
        if len(shape) != 3:
            break
        # What came before made pixels of several: an unshuffling, a pooling, a stride.
        for axis in (0, 1):
            scales[axis] *= max(1, round(before[1 + axis] / shape[1 + axis]))
        before = shape
        if name in layers:
            gains = layers[name].waves.amax(dim=2)
            places = [
                (c * s * n).round().long() % n
                for c, s, n in zip(cycles, scales, gains.shape, strict=True)
            ]
            product *= gains[places[0][:, None], places[1]]
    numbers = rings(*size)
    frequencies = [ring / min(size) for ring in range(int(numbers.max()) + 1)]
    largest = [
        float(product[numbers == ring].max())
        for ring in range(len(frequencies))
        if (numbers == ring).any()
    ]
    yield subject.record(
        "linear_envelope",
        max(largest),
        "1",
        frequencies=frequencies,
        largest=largest,
        layers=len(found),
        kind="estimate",
        says="what convolutions alone would pass on; with activations between them, no bound",
    )
