"""Random networks whose roundings are measured, and compared with what is proved of them.

    python benchmarks/rounding.py --networks 1000 --seed 0

Networks of every operation, with biases up to 1e4, weights over many orders of magnitude, tiny and
subnormal ones, are run in every arithmetic, in batches, one by one and with sums in random orders,
and compared with ball arithmetic of 300 bits (python-flint) on inputs that formats may not hold.  Exits with
an error if a computed activation is further from the exact one than is proved, or if fewer networks
than asked for were checked.  Writes nothing, unless told where to by `--out`.
"""

import argparse
import copy
import json
import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flint
import numpy as np
import torch
from flint import arb, arb_mat
from torch import Tensor, nn

from lipnets import layers
from lipnets.bounds import Shape
from lipnets.layers._fourier import half_plane
from lipnets.layers.filtered_conv2d import StoredFilter2d
from lipnets.program import Affine, AxisMaps, Gather
from lipnets.rounding import ARITHMETICS, TF32, Analysis, Arithmetic, Ball, norms

Exact = np.ndarray  # of numbers of ball arithmetic
BATCH = 3

# Networks


def random_network(seed: int) -> tuple[nn.Sequential, Shape, Tensor]:
    """A network in float64 of random operations, the shape of an example, and a batch of examples."""
    draw = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        shape: Shape = [(3, 5, 4), (2, 6, 6), (12,), (4, 6)][draw.integers(4)]
        modules, current = [], shape
        for _ in range(draw.integers(1, 6)):
            module = _operation(current, draw).double().eval()
            modules.append(module)
            current = output_shape(module, current)
        network = nn.Sequential(*modules).eval()
        _redraw(network, draw, generator)
    scale = 10.0 ** draw.uniform(-3, 2)
    examples = scale * torch.randn(BATCH, *shape, generator=generator).double()
    held = examples.float().double() if draw.random() < 0.5 else examples
    return network, shape, held


def _operation(shape: Shape, draw: np.random.Generator) -> nn.Module:
    """An operation that takes examples of a shape."""
    pointwise: list[Callable[[], nn.Module]] = [
        nn.ReLU,
        nn.Tanh,
        nn.Sigmoid,
        nn.SiLU,
        nn.GELU,
        lambda: nn.GELU(approximate="tanh"),
        lambda: nn.ELU(draw.uniform(0.1, 2)),
        lambda: nn.Softplus(draw.uniform(0.2, 3)),
        nn.LogSigmoid,
        nn.Tanhshrink,
        nn.Softsign,
        lambda: nn.Hardtanh(-draw.uniform(0, 2), draw.uniform(0, 2)),
        lambda: nn.Softshrink(draw.uniform(0, 1)),
        lambda: nn.LeakyReLU(draw.uniform(-1, 1)),
        lambda: layers.NActivation(shape[0]),
        lambda: layers.LinearSpline(shape[0], int(draw.integers(2, 8)), draw.uniform(0.3, 4)),
        nn.Identity,
    ]
    if len(shape) == 3:
        spatial = _images(shape, draw)
        if draw.random() < 0.6:
            return spatial[draw.integers(len(spatial))]()
    elif draw.random() < 0.6:
        rows = _rows(shape, draw)
        return rows[draw.integers(len(rows))]()
    return pointwise[draw.integers(len(pointwise))]()


def _images(shape: Shape, draw: np.random.Generator) -> list[Callable[[], nn.Module]]:
    channels, height, width = shape
    side = min(height, width)
    kernel = int(draw.integers(1, min(side, 3) + 1))
    pad = int(draw.integers(0, kernel // 2 + 1))
    outs = int(draw.integers(1, 5))
    even = channels % 2 == 0
    stride = int(draw.integers(1, 3))
    groups = 2 if even and draw.random() < 0.5 else 1
    index = torch.from_numpy(draw.integers(-1, math.prod(shape), math.prod(shape)))

    def around(module: nn.Module) -> nn.Module:
        return layers.Residual(nn.Sequential(module, nn.ReLU()))

    inner = {"hidden_channels": 4, "padding": "same", "padding_mode": "circular"}
    square = int(draw.integers(1, (side + 1) // 2 + 1)) * 2 - 1
    return [
        lambda: nn.Conv2d(channels, groups * outs, kernel, stride, pad, groups=groups),
        lambda: nn.Conv2d(channels, outs, square, padding=square // 2, padding_mode="circular"),
        lambda: nn.ConvTranspose2d(channels, groups * outs, kernel, stride, groups=groups),
        lambda: layers.PotentialConv2d(channels, channels, square, **inner),
        lambda: layers.PotentialConv2d(channels, channels, kernel, padding=pad),
        lambda: layers.SandwichConv2d(channels, outs, kernel, padding=pad),
        lambda: nn.MaxPool2d(kernel, stride, pad),
        lambda: nn.AdaptiveMaxPool2d(side),
        lambda: layers.L2NormPool2d(kernel, stride, pad),
        lambda: layers.AdaptiveL2NormPool2d((max(side - 1, 1), side)),
        lambda: Affine(torch.randn(channels, 1, 1), torch.randn(channels, height, 1)),
        lambda: AxisMaps([None, torch.rand(side, height), torch.rand(side, width)]),
        lambda: Gather(index, (channels, height, width)),
        lambda: around(nn.Conv2d(channels, channels, square, padding=square // 2)),
        lambda: layers.MaxMin() if even else nn.PReLU(channels),
        lambda: layers.FullSort(),
        lambda: nn.PReLU(channels),
        lambda: _symbols(channels, outs, (height, width)),
        lambda: _filter(channels, groups * outs, groups, (height, width), draw),
        lambda: Gather(None, (math.prod(shape),)),
    ]


def _symbols(channels: int, outs: int, size: tuple[int, int]) -> nn.Module:
    layer = layers.build(
        "cayley_conv2d", in_channels=channels, out_channels=outs, kernel_size=1, padding=0
    )
    return layer.double().eval().materialize((channels, *size))


def _filter(
    channels: int, outs: int, groups: int, size: tuple[int, int], draw: np.random.Generator
) -> nn.Module:
    """Matrices at the frequencies of a band, with random entries."""
    band = (draw.choice([-1.0, 0.1]), draw.uniform(0.35, 0.8))
    if not _in_band(size, band):  # of small images, a band may hold no frequency
        band = (-1.0, band[1])
    count = len(_in_band(size, band))
    symbols = torch.randn(count, groups, channels // groups, outs // groups, dtype=torch.complex128)
    bias = torch.randn(outs).double() if draw.random() < 0.5 else None
    return StoredFilter2d(symbols, size, band, bias)


def _in_band(size: tuple[int, int], band: tuple[float, float]) -> list[tuple[int, int]]:
    """The frequencies of the half plane whose radius, in cycles per pixel, is in a band."""
    found = []
    for j, k in half_plane(size).tolist():
        signed = (min(a, n - a) / n for a, n in zip((j % size[0], k % size[1]), size, strict=True))
        if band[0] <= math.hypot(*signed) <= band[1]:
            found.append((j, k))
    return found


def _rows(shape: Shape, draw: np.random.Generator) -> list[Callable[[], nn.Module]]:
    width = shape[-1]
    outs = int(draw.integers(2, 9))
    found: list[Callable[[], nn.Module]] = [
        lambda: nn.Linear(width, outs, bias=bool(draw.integers(2))),
        lambda: layers.PotentialLinear(width, width, hidden_features=outs),
        lambda: layers.SandwichLinear(width, outs),
        lambda: Affine(torch.randn(width), torch.randn(width)),
        lambda: Affine(shift=torch.randn(width)),
        lambda: layers.Residual(nn.Linear(width, width)),
        lambda: layers.Concat(nn.Linear(width, outs), nn.Linear(width, outs)),
    ]
    if len(shape) == 2 and width % 2 == 0:
        found.append(lambda: layers.L2SelfAttention(width, 2, shape[0]))
    if len(shape) == 2 and width > 2:
        found.append(lambda: nn.MaxPool1d(3, int(draw.integers(1, 3)), 1))
    return found


def _redraw(network: nn.Module, draw: np.random.Generator, generator: torch.Generator) -> None:
    """Draws weights and biases anew: even ones, over orders of magnitude, tiny ones, of few bits."""
    for name, parameter in network.named_parameters():
        kind = draw.integers(6)
        noise = torch.randn(parameter.shape, generator=generator).double()
        if name.endswith("sharpness"):
            continue
        if "bias" in name or "shift" in name:
            values = noise * 10.0 ** draw.uniform(-6, 4)
        elif kind == 0:
            values = noise * 10.0 ** torch.empty_like(noise).uniform_(-9, 0, generator=generator)
        elif kind == 1:
            values = noise * 10.0 ** draw.uniform(-44, -1)
        elif kind == 2:
            values = (noise * 4).round() / 4
        else:
            values = noise / math.sqrt(max(parameter[0].numel(), 1))
        with torch.no_grad():
            parameter.copy_(values.float().double() if draw.random() < 0.7 else values)


@torch.no_grad()
def output_shape(module: nn.Module, shape: Shape) -> Shape:
    """The shape of what a module makes of an example: quicker than without computing it."""
    weight = next(module.parameters(), torch.zeros((), dtype=torch.float64))
    return tuple(module(torch.zeros(1, *shape, dtype=weight.dtype)).shape[1:])


# The exact function, in ball arithmetic


def exact(module: nn.Module, x: Exact) -> Exact:
    """The real function of the weights of a module, of one example."""
    if isinstance(module, nn.Sequential):
        for child in module:
            x = exact(child, x)
        return x
    if isinstance(module, layers.Residual):
        return x + exact(module.branch, x)
    if isinstance(module, layers.Concat):
        return np.concatenate([exact(branch, x) for branch in module.branches])
    if isinstance(module, (layers.PotentialLinear, layers.PotentialConv2d)):
        matrix, bias = linear_part(module.inner, x.shape)
        hidden = exact(module.activation, _product(matrix, x.ravel()) + bias)
        return x - _product(matrix.T, hidden).reshape(x.shape)
    if isinstance(module, (layers.SandwichLinear, layers.SandwichConv2d)):
        return _sandwich(module, x)
    if isinstance(module, layers.L2SelfAttention):
        return _attention(module, x)
    if isinstance(module, (layers.StoredConv2d, StoredFilter2d)):
        return _fourier(module, x)
    if isinstance(module, AxisMaps):
        for axis, matrix in zip(module.axes, module.matrices, strict=True):
            lines = np.moveaxis(x, axis, 0)
            product = _product(matrix.detach().numpy(), lines.reshape(len(lines), -1))
            x = np.moveaxis(product.reshape(-1, *lines.shape[1:]), 0, axis)
        return x
    if isinstance(module, Affine):
        for value, name in ((module.scale, "scale"), (module.shift, "shift")):
            if value is not None:
                numbers = np.broadcast_to(_balls(value), x.shape)
                x = x * numbers if name == "scale" else x + numbers
        return x
    if isinstance(module, Gather):
        if module.index is None:
            return x.reshape(module.shape)
        flat = x.ravel()
        picked = [flat[i] if i >= 0 else arb(0) for i in module.index.tolist()]
        return np.array(picked, dtype=object).reshape(module.shape)
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
        matrix, bias = linear_part(module, x.shape)
        return (_product(matrix, x.ravel()) + bias).reshape(output_shape(module, x.shape))
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d, nn.AdaptiveMaxPool2d)):
        windows = _linear_images(
            module, x.shape
        )  # which pixels an output sees, and takes if they are 1
        flat = x.ravel()
        tops = [_largest([flat[i] for i in np.flatnonzero(row)]) for row in windows]
        return np.array(tops, dtype=object).reshape(output_shape(module, x.shape))
    if isinstance(module, (layers.L2NormPool2d, layers.AdaptiveL2NormPool2d)):
        return _lengths(module, x)
    if isinstance(module, layers.NActivation):
        first, second = (_columns(_balls(row), x) for row in module.thresholds)
        low, high = _apply(arb.min, first, second), _apply(arb.max, first, second)
        return x - 2 * _apply(arb.min, _apply(arb.max, x, low), high)
    if isinstance(module, layers.LinearSpline):
        return _spline(module, x)
    if isinstance(module, layers.MaxMin):
        pairs = x.reshape(-1, 2, *x.shape[1:])
        first, second = pairs[:, 0], pairs[:, 1]
        both = [_apply(arb.max, first, second), _apply(arb.min, first, second)]
        return np.stack(both, axis=1).reshape(x.shape)
    if isinstance(module, layers.FullSort):
        return _sorted(module, x)
    if isinstance(module, nn.PReLU):
        slopes = _balls(module.weight).reshape(-1, *[1] * (x.ndim - 1))
        return _apply(lambda t, a: arb.max(t, arb(0)) + a * arb.min(t, arb(0)), x, slopes + 0 * x)
    return _apply(_pointwise(module), x)


def _columns(numbers: Exact, x: Exact) -> Exact:
    """One number of each channel, at each of its entries."""
    return numbers.reshape(-1, *[1] * (x.ndim - 1)) + 0 * x


def _lengths(module: nn.Module, x: Exact) -> Exact:
    """Roots of sums of squares over windows, over the largest number of windows that hold a pixel."""
    windows = _linear_images(module, x.shape) > 0
    outs = output_shape(module, x.shape)
    if isinstance(module, layers.L2NormPool2d):  # that of images of any size
        sides = zip(module.kernel_size, module.stride, strict=True)
        shared = math.prod(-(-length // step) for length, step in sides)
    else:
        shared = int(windows.sum(axis=0).max())
    flat = x.ravel()
    found = []
    for row in windows:
        square = _square(flat[row]) / shared
        # The root of a ball around zero is no number: one around zero holds it.
        found.append(square.sqrt() if square > 0 else arb(0, arb(square.upper()).sqrt()))
    return np.array(found, dtype=object).reshape(outs)


def _spline(module: layers.LinearSpline, x: Exact) -> Exact:
    """The value at the first knot plus slope × length of each piece from there to x."""
    knots, limit = module.knots, arb(module.limit)
    places = [2 * limit * k / (knots - 1) - limit for k in range(knots)]
    slopes = _balls(module.slopes.detach().clamp(-1, 1))
    value = _columns(_balls(module.offset), x) + _apply(
        lambda t, a: a * (t.min(places[0]) - places[0]), x, _columns(slopes[:, 0], x)
    )
    for k, (left, right) in enumerate(zip(places, [*places[1:], None], strict=True)):

        def rise(t: arb, a: arb, left: arb = left, right: arb | None = right) -> arb:
            end = t.max(left)
            return a * ((end if right is None else end.min(right)) - left)

        value = value + _apply(rise, x, _columns(slopes[:, k + 1], x))
    return value


def _apply(function: Callable[..., arb], *arrays: Exact) -> Exact:
    flat = [function(*entries) for entries in zip(*(a.ravel() for a in arrays), strict=True)]
    return np.array(flat, dtype=object).reshape(arrays[0].shape)


def _largest(numbers: list[arb]) -> arb:
    top = numbers[0]
    for number in numbers[1:]:
        top = top.max(number)
    return top


def _sorted(module: nn.Module, x: Exact) -> Exact:
    """Sorts channels as the module sorts the nearest floats: close numbers may stay in any order."""
    columns = x.reshape(len(x), -1)
    ordered = []
    for column in columns.T:
        values = list(column)
        for last in range(len(values) - 1, 0, -1):
            for i in range(last):
                a, b = values[i], values[i + 1]
                values[i], values[i + 1] = a.min(b), a.max(b)
        ordered.append(values)
    rising = np.array(ordered, dtype=object).T.reshape(x.shape)
    probe = module(torch.arange(len(x)).double().reshape(1, -1, *[1] * (x.ndim - 1)))
    return rising if probe.flatten()[0] == 0 else rising[::-1]


def _pointwise(module: nn.Module) -> Callable[[arb], arb]:
    zero, one = arb(0), arb(1)
    half = one / 2

    def sigmoid(x: arb) -> arb:
        return one / (one + (-x).exp())

    def positive(x: arb) -> arb:
        return x.max(zero)

    if isinstance(module, nn.GELU) and module.approximate == "tanh":
        constant, cube = (arb(2) / arb.pi()).sqrt(), arb(44715) / 1000000
        return lambda x: half * x * (one + (constant * (x + cube * x * x * x)).tanh())
    if isinstance(module, nn.ELU):
        alpha = arb(module.alpha)
        return lambda x: positive(x) + alpha * (x.min(zero).exp() - one)
    if isinstance(module, nn.Softplus):
        beta = arb(module.beta)
        return lambda x: positive(x) + (one + (-beta * abs(x)).exp()).log() / beta
    if isinstance(module, nn.Hardtanh):
        return lambda x: x.max(arb(module.min_val)).min(arb(module.max_val))
    if isinstance(module, nn.Softshrink):
        edge = arb(module.lambd)
        return lambda x: positive(x - edge) - positive(-x - edge)
    if isinstance(module, nn.LeakyReLU):
        slope = arb(module.negative_slope)
        return lambda x: positive(x) + slope * x.min(zero)
    return {
        nn.Identity: lambda x: x,
        nn.ReLU: positive,
        nn.Tanh: arb.tanh,
        nn.Sigmoid: sigmoid,
        nn.SiLU: lambda x: x * sigmoid(x),
        nn.GELU: lambda x: half * x * (one + (x / arb(2).sqrt()).erf()),
        nn.LogSigmoid: lambda x: x.min(zero) - (one + (-abs(x)).exp()).log(),
        nn.Tanhshrink: lambda x: x - x.tanh(),
        nn.Softsign: lambda x: x / (one + abs(x)),
    }[type(module)]


def _balls(tensor: Tensor) -> Exact:
    values = [arb(value) for value in tensor.detach().double().flatten().tolist()]
    return np.array(values, dtype=object).reshape(tensor.shape)


def _product(matrix: np.ndarray, x: Exact) -> Exact:
    """A matrix of floats times a vector or a matrix of balls."""
    columns = x.reshape(len(x), -1)
    product = arb_mat(matrix.tolist()) * arb_mat(columns.tolist())
    return np.array(product.tolist(), dtype=object).reshape(len(matrix), *x.shape[1:])


def _linear_images(module: nn.Module, shape: Shape) -> np.ndarray:
    """What a module makes of unit vectors, in columns: entries of its matrix, each a weight."""
    units = torch.eye(math.prod(shape)).double().reshape(-1, *shape)
    with torch.no_grad():
        return module(units).flatten(1).T.numpy()


def linear_part(module: nn.Module, shape: Shape) -> tuple[np.ndarray, Exact]:
    """The matrix of a layer, and its bias over all outputs."""
    plain = copy.deepcopy(module)
    plain.bias = None
    outs = output_shape(module, shape)
    if module.bias is None:
        return _linear_images(plain, shape), np.array([arb(0)] * math.prod(outs), dtype=object)
    bias = module.bias if isinstance(module, nn.Linear) else module.bias[:, None, None]
    return _linear_images(plain, shape), _balls(bias.expand(outs)).ravel()


def _sandwich(module: layers.SandwichLinear | layers.SandwichConv2d, x: Exact) -> Exact:
    plain = copy.deepcopy(module.inner)
    if isinstance(module, layers.SandwichLinear):
        outs, halves = (*x.shape[:-1], module.out_features), module.out_features
        a, b = copy.deepcopy(plain), plain
        a.weight = nn.Parameter(module.inner.weight[:, :halves].detach())
        b.weight = nn.Parameter(module.inner.weight[:, halves:].detach())
    else:
        outs, halves = (module.out_channels, *x.shape[1:]), module.out_channels
        a, b = copy.deepcopy(plain), plain
        a.weight = nn.Parameter(module.inner.weight[:, :halves].detach())
        b.weight = nn.Parameter(module.inner.weight[:, halves:].detach())
        a.in_channels, b.in_channels = halves, module.in_channels
    inner, bias = linear_part(b, x.shape)
    outer, _ = linear_part(a, outs)
    hidden = exact(module.activation, _product(inner, x.ravel()) + bias)
    return _product(outer.T, hidden).reshape(outs)


def _attention(module: layers.L2SelfAttention, x: Exact) -> Exact:
    heads, width = module.num_heads, x.shape[1] // module.num_heads
    u = exact(module.queries, x)
    outs = np.empty_like(u)
    for h in range(heads):
        part = u[:, h * width : (h + 1) * width]
        s = arb(module.sharpness[h].item())
        for i, row in enumerate(part):
            scores = [-_square(s * (row - other)) for other in part]
            weights = [score.exp() for score in scores]
            total = sum(weights, arb(0))
            for k in range(width):
                parts = (w * other[k] for w, other in zip(weights, part, strict=True))
                outs[i, h * width + k] = sum(parts, arb(0)) / total
    return arb(float(module.factor)) * exact(module.output, outs)


def _square(vector: Exact) -> arb:
    return sum((entry * entry for entry in vector), arb(0))


def _matrices(module: layers.StoredConv2d | StoredFilter2d) -> list[tuple[Any, Exact]]:
    """Frequencies, and their matrices as real and imaginary parts, with shape (O, I, 2)."""
    if isinstance(module, layers.StoredConv2d):
        return list(zip(half_plane(module.size).tolist(), _balls(module.weight), strict=True))
    _, groups, ins, outs = module.weight.shape[:4]
    found = []
    frequencies = _in_band(module.size, module.band)
    for frequency, blocks in zip(frequencies, _balls(module.weight), strict=True):
        whole = np.full((groups * outs, groups * ins, 2), arb(0), dtype=object)
        for g, block in enumerate(blocks):  # (I, O, 2)
            rows, columns = slice(g * outs, (g + 1) * outs), slice(g * ins, (g + 1) * ins)
            whole[rows, columns] = block.transpose(1, 0, 2)
        found.append((frequency, whole))
    return found


def _fourier(module: layers.StoredConv2d | StoredFilter2d, x: Exact) -> Exact:
    """Coefficients, products and the sum of Re(e^{iω·x} y(ω)), as the definitions say."""
    (height, width), matrices = module.size, _matrices(module)
    outs = np.full((len(matrices[0][1]), height, width), arb(0), dtype=object)
    wave = {}
    for turn in range(height * width):
        angle = arb(2) * turn / (height * width)
        wave[turn] = (angle.cos_pi(), angle.sin_pi())
    for (j, k), symbol in matrices:
        turns = {
            (r, c): wave[(j * r * width + k * c * height) % (height * width)]
            for r in range(height)
            for c in range(width)
        }
        re, im = [], []
        for channel in x:
            re.append(sum((channel[p] * turns[p][0] for p in turns), arb(0)))
            im.append(-sum((channel[p] * turns[p][1] for p in turns), arb(0)))
        alone = 2 * j % height == 0 and 2 * k % width == 0
        weight = arb(1 if alone else 2) / (height * width)
        for o, row in enumerate(symbol):
            a = sum((s[0] * p - s[1] * q for s, p, q in zip(row, re, im, strict=True)), arb(0))
            b = sum((s[0] * q + s[1] * p for s, p, q in zip(row, re, im, strict=True)), arb(0))
            for place, (c, s) in turns.items():
                outs[(o, *place)] += weight * (a * c - b * s)
    return outs + exact_bias(module.bias)


def exact_bias(bias: Tensor | None) -> Exact | arb:
    return arb(0) if bias is None else _balls(bias[:, None, None])


# The programs


def cut(x: Tensor) -> Tensor:
    """Cuts float32 to the 11 bits of TF32."""
    return (x.contiguous().view(torch.int32) & ~0x1FFF).view(torch.float32)


def reordered(network: nn.Sequential, seed: int, *, tf32: bool = False) -> nn.Sequential:
    """The network with its linear layers summed one term after another, in a random order each."""
    changed = copy.deepcopy(network)
    generator = torch.Generator().manual_seed(seed)
    for i, module in enumerate(changed):
        if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)):
            changed[i] = _Reordered(module, generator, tf32)
    return changed


class _Reordered(nn.Module):
    def __init__(self, module: nn.Module, generator: torch.Generator, tf32: bool) -> None:
        super().__init__()
        self.inner, self.generator, self.tf32 = module, generator, tf32

    def forward(self, x: Tensor) -> Tensor:
        shape = tuple(x.shape[1:])
        if isinstance(self.inner, nn.Linear):
            matrix = self.inner.weight.detach()
            rows = x
        else:
            plain = copy.deepcopy(self.inner)
            plain.bias = None
            units = torch.eye(math.prod(shape), dtype=x.dtype).reshape(-1, *shape)
            matrix, rows = plain(units).flatten(1).T, x.flatten(1)
        order = torch.randperm(matrix.shape[1], generator=self.generator)
        if self.tf32:
            matrix, rows = cut(matrix), cut(rows)
        outs = output_shape(self.inner, shape)
        bias = self.inner.bias
        total = torch.zeros(*rows.shape[:-1], len(matrix), dtype=x.dtype)
        if bias is not None and not isinstance(self.inner, nn.Linear):
            bias = bias[:, None, None].expand(outs).flatten()
        first = bool(torch.randint(2, (), generator=self.generator))
        if bias is not None and first:
            total = total + bias
        for i in order.tolist():
            total = total + rows[..., i, None] * matrix[:, i]
        if bias is not None and not first:
            total = total + bias
        return total if isinstance(self.inner, nn.Linear) else total.reshape(-1, *outs)


def programs(
    network: nn.Sequential, x: Tensor, a: Arithmetic, seed: int
) -> Iterator[tuple[str, Tensor]]:
    """What the network computes in an arithmetic in several ways, in float64."""
    cast = copy.deepcopy(network).to(a.dtype)
    own = x.to(a.dtype)
    if a != TF32:
        yield "batch", cast(own.clone()).double()
        yield (
            "one by one",
            torch.cat([cast(own[i : i + 1].clone()) for i in range(len(x))]).double(),
        )
    if a.dtype in (torch.float64, torch.float32):
        yield "reordered", reordered(cast, seed, tf32=a == TF32)(own.clone()).double()


# The comparison


@dataclass(frozen=True)
class Comparison:
    """One program of one network: measured errors over proved ones; above 1 is a violation."""

    seed: int
    arithmetic: str
    program: str
    ratio: float
    proved: float
    relative: float


@torch.no_grad()
def compare(
    seed: int, arithmetics: tuple[str, ...] = tuple(ARITHMETICS), examples: int = BATCH
) -> list[Comparison]:
    """Measures a random network in the given arithmetics, on some examples."""
    network, shape, x = random_network(seed)
    return compare_network(network, shape, x[:examples], seed, arithmetics)


@torch.no_grad()
def compare_network(
    network: nn.Sequential, shape: Shape, x: Tensor, seed: int, arithmetics: tuple[str, ...]
) -> list[Comparison]:
    """Measures a network on a batch of examples."""
    flint.ctx.prec = 300
    truth = [exact(network, _balls(example)).ravel() for example in x]
    size, known, found = norms(x), Analysis(), []
    for name in arithmetics:
        a = ARITHMETICS[name]
        analysis = Analysis(a, known)
        lost = a.tiny * math.sqrt(math.prod(shape))
        off = 0 * size if a.holds(x) else a.unit * size + lost
        reach = (size + off) * (1 + 2**-40)
        try:
            plain = analysis(network, shape, Ball(reach, off))
            near = analysis(network, shape, Ball(reach, off, center=x, drift=off))
        except TypeError as error:  # complex numbers in 16 bits
            if "complex" not in str(error):
                raise
            continue
        for program, out in programs(network, x, a, seed):
            flat = out.flatten(1)
            for i, row in enumerate(truth):
                if not flat[i].isfinite().all():
                    bound = max(float(plain.error[i]), float(near.error[i]))
                    ratio = 0.0 if math.isinf(bound) and math.isinf(near.error[i]) else math.inf
                    found.append(Comparison(seed, name, program, ratio, bound, math.inf))
                    continue
                differences = _balls(flat[i]) - row
                square = sum((d * d for d in differences), arb(0))
                least = float(arb(square.lower().max(arb(0))).sqrt().lower())
                bounds = [plain.error.expand(len(x))[i], near.error.expand(len(x))[i]]
                proved = float(min(bounds))
                # A difference that ball arithmetic cannot tell from none is none.
                ratio = least / proved if proved > 0 else (0.0 if least == 0 else math.inf)
                moved = float(norms(flat[i : i + 1] - near.center[i : i + 1].flatten(1)))
                moved -= 4e-150  # what `norms` adds to zero
                drift, norm = float(near.drift[i]), float(min(near.norm[i], plain.norm[i]))
                if moved > drift * (1 + 1e-9) or float(flat[i].norm()) > norm * (1 + 1e-9):
                    ratio = math.inf
                scale = float(flat[i].norm())
                relative = proved / scale if scale else math.inf
                found.append(Comparison(seed, name, program, ratio, proved, relative))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the figures, as JSON")
    arguments = parser.parse_args()
    start, found = time.perf_counter(), []
    for seed in range(arguments.seed, arguments.seed + arguments.networks):
        found += compare(seed)
    violations = [each for each in found if not each.ratio <= 1]
    print(f"{arguments.networks} networks, {len(found)} comparisons, {len(violations)} violations")
    print(f"{time.perf_counter() - start:.0f} s")
    print(
        f"{'arithmetic':12}{'count':>8}{'proved':>8}{'median':>12}{'largest':>12}{'relative':>12}"
    )
    rows = {}
    for name in ARITHMETICS:
        own = [each for each in found if each.arithmetic == name]
        finite = [each for each in own if math.isfinite(each.proved)]
        positive = [each.ratio for each in finite if each.ratio > 0]
        rows[name] = {
            "comparisons": len(own),
            "finite": len(finite),
            "median": statistics.median(positive),
            "largest": max(positive),
            "relative": statistics.median(each.relative for each in finite),
        }
        median, largest, relative = (rows[name][key] for key in ("median", "largest", "relative"))
        counts = f"{name:12}{len(own):8}{len(finite):8}"
        print(f"{counts}{median:12.2e}{largest:12.2e}{relative:12.2e}")
    seeds = sorted({each.seed for each in violations})
    print("networks with violations:", seeds)
    for each in violations[:20]:
        print("violation:", each)
    if arguments.out is not None:
        arguments.out.write_text(json.dumps(rows, indent=1) + "\n")
    sys.exit(1 if violations or not found else 0)


if __name__ == "__main__":
    main()
