"""Checks a certificate file of lipnets with numpy and the standard library alone: a second opinion.

`python -m lipnets.verify FILE`; the format is in docs/certificate-file.md.  Nothing in the file is believed:
norms, rounding errors, logits and radii are proved from its weights.  With u = 2⁻⁵³ and γₖ = ku / (1 − ku):

1. A sum of k products is off by γₖ Σ|a||b| at most, in any order, fused or not, by conventional products.
2. λ_max(H) ≤ c + ‖H + LLᵀ − cI‖ for any L, as LLᵀ ≥ 0.  A Cholesky factor L of cI − H makes it tight.
3. A convolution with taps K_t has the symbol S(θ) = Σ K_t e^{iθt}, and SS* = Σ C_s e^{iθs} with
   C_s = Σ K_{t+s} K_tᵀ: ‖S‖² ≤ λ_max(C₀) + Σ‖C_s‖ over s ≠ 0, and ‖S‖² ≤ λ_max(Σ|C_s|).  In a circle of n
   pixels its norm is max ‖S‖ over the frequencies there; with zeros around, it is a part of a larger circle.
4. ‖F(X) − f(x)‖ ≤ e + L ‖X − x‖ if f has the constant L and its program F rounds by e.
5. The margin f_y − f_j of f = Wh + b changes by ‖w_y − w_j‖ L r at most within r, if h has the constant L.
"""

__all__ = ["Doubt", "main", "verify"]

import functools
import hashlib
import io
import itertools
import json
import math
import sys
import zipfile
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

FORMAT = "lipnets certificate 3"
STATEMENT = (
    "For each image x of this file that has a radius r > 0, and all arrays of real numbers within the "
    "l2 distance r of x: the program of this file, run in float64 on such an array rounded to float64, its "
    "products summed in any order, gives no other class a larger logit than the label of x."
)
META = "format statement program arithmetic shape classes lipschitz domain error network arrays weights versions"
FIELDS = "conv:weight bias groups padding,block:inner activation outputs,branches:join branches,round:bits"
FIELDS += ",pieces:knots slopes first,sort:size,gather:index shape,max:index shape,l2:index shape"
KEYS = {op: fields.split() for op, fields in (each.split(":") for each in FIELDS.split(","))}
U, TINY = 2.0**-53, 2.0**-480  # the second is more than the roots of all that underflows
UP = 1 + 2.0**-40  # more than the roundings of 4,000 sums, products and roots of positive numbers
INF = math.inf
Array = np.ndarray
Shape = tuple[int, ...]
Node = dict[str, Any]


class Doubt(Exception):  # noqa: N818 - what keeps this checker from a yes
    """Something in a certificate file that is not proved."""


def need(truth: Any, doubt: str) -> None:
    """Raises a doubt unless all is true; comparisons with nan are not."""
    if not np.all(truth):
        raise Doubt(doubt)


def ints(values: Any, count: int | None, low: int) -> Shape:
    right = type(values) is list and all(type(v) is int and low <= v < 2**31 for v in values)
    need(right and count in (None, len(values)), f"{values} should be {count} integers >= {low}")
    return tuple(values)


def real(value: Any) -> float:
    need(type(value) is float and 0 <= value < 2.0**100, f"{value} is no number in range")
    return value


def gamma(k: int) -> float:
    return k * U / (1 - k * U) * (1 + 4 * U)


def norm(array: Array, axes: Shape) -> Any:
    """Norms over some axes, rounded upwards."""
    count = math.prod(array.shape[axis] for axis in axes)
    return np.sqrt((np.abs(array) ** 2).sum(axis=axes)) * (1 + (count + 16) * U) + TINY


def below(grams: Array, level: float, error: float) -> bool:
    """Proves λ_max(H) ≤ level for matrices H = H*, each within `error` of one given: theorem 2."""
    center, one = (level - error) * (1 - 2.0**-27), np.eye(grams.shape[-1])
    try:
        factor = np.tril(np.linalg.cholesky(center * one - grams))
    except np.linalg.LinAlgError:
        return False
    rest = norm(grams + factor @ factor.conj().swapaxes(-1, -2) - center * one, (-2, -1))
    own = 1.5 * gamma(2 * len(one)) * norm(factor, (-2, -1)) ** 2 + 8 * U * (center + rest)
    return center > 0 and bool(np.all((center + rest + own + error) * UP <= level))


def symbol_below(taps: Array, points: Shape, lip: float) -> bool:
    """Proves ‖S‖ ≤ lip for taps with shape (G, O, I, *K), in circles of so many points: theorem 3."""
    scale, grams = 2.0 ** -math.frexp(np.abs(taps).max())[1], {}
    taps = (taps if taps.shape[1] <= taps.shape[2] else taps.swapaxes(1, 2)) * scale
    level, places = (lip * scale) ** 2 * (1 - 64 * U), list(np.ndindex(taps.shape[3:]))
    for a, b in itertools.product(places, places):
        shift = tuple(np.subtract(a, b))
        grams[shift] = grams.get(shift, 0.0) + taps[(..., *a)] @ taps[(..., *b)].swapaxes(1, 2)
    lengths = norm(taps, (1, 2)).reshape(len(taps), -1).sum(axis=1)
    error = gamma(taps.shape[2] + 2 * len(places) ** 2) * float(lengths.max()) ** 2 * UP
    center = grams.pop((0,) * (taps.ndim - 3))
    rest = error + sum(float(norm(gram, (1, 2)).max()) for gram in grams.values()) * UP
    if not taps.any() or below(center, level, rest) or not grams:
        return not taps.any() or below(center, level, rest)
    whole = np.abs(center) + np.sum(np.abs(list(grams.values())), axis=0)
    return below(whole, level, error) or on_grid(taps, points, level)


def on_grid(taps: Array, points: Shape, level: float) -> bool:
    """Proves ‖S‖² ≤ level at the frequencies of a torus; of ±θ, one is enough for real taps."""
    half = np.array([j for j in np.ndindex(points) if j <= tuple(-np.array(j) % points)])
    places = np.array(list(np.ndindex(taps.shape[3:])))
    turns = [np.outer(j, t) % n for j, t, n in zip(half.T, places.T, points, strict=True)]
    waves = np.prod([roots(n)[turn] for n, turn in zip(points, turns, strict=True)], axis=0)
    flat = np.moveaxis(taps.reshape(*taps.shape[:3], -1), 3, 0)  # (K, G, O, I)
    size = float(norm(np.abs(flat).sum(axis=0), (1, 2)).max()) ** 2 * UP
    error = (4 * gamma(taps.shape[2] + len(flat)) + 1024 * U) * size
    parts = np.array_split(waves, -(-len(waves) * flat[0].size // 2**22))
    symbols = (np.tensordot(part, flat, 1) for part in parts)
    return all(below(s @ s.conj().swapaxes(-1, -2), level, error) for s in symbols)


@functools.cache
def roots(n: int) -> Array:
    """All e^{2πij/n}, within 64u: what multiplies as they do, within 32u, is that close to roots of unity
    (Hyers); and the second is the first on the way around if half of them are above the real axis.
    """
    need(n < 4096, "the torus is too large")
    j = np.arange(n)
    table = np.exp(2j * np.pi * ((j + n // 2) % n - n // 2) / n)
    around = np.all(np.imag(table[1 : (n + 1) // 2]) * n > 1) and (n == 1 or table[n // 2].real < 0)
    off = np.abs(np.outer(table, table) - table[(j[:, None] + j) % n])
    need(around and np.all(off < 32 * U), "these are no roots of unity")
    return table


class State(NamedTuple):
    """What is computed of B images, and what is known of it for all inputs around them."""

    x: Array  # what is computed, with shape (*S, B)
    size: Array  # bounds of its norms, with shape (B,)
    error: Array  # bounds of its distances from what real numbers would give, with shape (B,)
    grid: float  # g, if all its numbers are multiples of 2⁻ᵍ; infinite where that is not known

    def after(self, x: Array, lip: float, own: Any, zero: Any, grid: float) -> "State":
        """What comes of a function with ‖f(0)‖ ≤ zero that rounds by `own`: theorem 4."""
        size, error = (lip * self.size + zero + own) * UP, (lip * self.error + own) * UP
        return State(x, size, error, grid)


class Part(NamedTuple):
    """A part of a program: what runs it, the shape of its output, and its Lipschitz constant."""

    run: Callable[[State], State]
    shape: Shape
    lip: float


def sums(top: Any, grid: float, error: Any) -> tuple[Any, float]:
    """What sums below `top` round: nothing where they are multiples of 2⁻ᵍ that float64 holds."""
    exact = grid < 900 and np.max(top) * UP < 2.0 ** (53 - grid)
    return (0.0, grid) if exact else (error * UP + TINY, INF)


def finest(array: Array) -> int:
    """The smallest t ≥ 0 such that all numbers are multiples of 2⁻ᵗ."""
    mantissa, exponent = np.frexp(array[array != 0])
    whole = np.ldexp(mantissa, 53).astype(np.int64)
    return int((54 - exponent - np.frexp(whole & -whole)[1]).max(initial=0))


class Convolution:
    """x ↦ Wx + b, with zeros around the image or in a circle; a matrix if there are no pixels."""

    def __init__(self, prover: "Prover", node: Node, shape: Shape) -> None:
        weight, self.before, self.lip = prover.take(node["weight"]), shape, real(node["lip"])
        (groups,), circular = ints([node["groups"]], 1, 1), node["padding"] == "circular"
        outs, ins, *kernel = weight.shape
        fits = len(kernel) == len(shape) - 1 and outs % groups == 0 and ins * groups == shape[0]
        need(fits, f"a weight of shape {weight.shape} in {groups} groups for {shape}")
        n, k = np.array(shape[1:], int), np.array(kernel, int)
        p = (k - 1) // 2 if circular else np.array(ints(node["padding"], len(kernel), 0), int)
        m = n if circular else n + 2 * p - k + 1
        need((m > 0) & ((k <= n) | (not circular)), f"{shape} is too small for kernels of {kernel}")
        points = tuple(int(each) for each in (n if circular else np.maximum(n + p, m)))
        taps = weight.reshape(groups, -1, *weight.shape[1:])
        need(symbol_below(taps, points, self.lip), f"the norm {self.lip} is not proved")
        table = np.zeros((1, 1), int)  # the pixel that each tap reads for each output
        for n_, m_, k_, p_ in zip(n, m, k, p, strict=True):
            line = np.arange(k_)[:, None] + np.arange(m_) - p_
            line = line % n_ if circular else np.where((line >= 0) & (line < n_), line, -(2**40))
            table = (table[:, None, :, None] * n_ + line[:, None]).reshape(len(table) * k_, -1)
        self.table, self.shape = np.where(table < 0, n.prod(), table), (outs, *map(int, m))
        self.bias, self.matrix = (
            prover.take(node["bias"], (outs,)),
            taps.reshape(*taps.shape[:2], -1),
        )
        self.offset = float(norm(self.bias, (0,))) * math.sqrt(m.prod()) * UP
        moduli = np.abs(taps).reshape(*taps.shape[:3], -1).sum(axis=3)  # Schur bounds their norm
        self.moduli = math.sqrt(moduli.sum(axis=1).max() * moduli.sum(axis=2).max()) * UP**2
        self.columns = float(norm(taps, (1, *range(3, taps.ndim))).max())
        self.rows, self.fine = norm(self.matrix, (2,)).reshape(-1), finest(weight)

    def run(self, s: State) -> State:
        flat = s.x.reshape(self.before[0], -1, s.x.shape[-1])
        read = np.concatenate([flat, np.zeros_like(flat[:, :1])], axis=1).take(self.table, axis=1)
        out = self.matrix @ read.reshape(len(self.matrix), self.matrix.shape[2], -1)
        x = out.reshape(*self.shape, -1) + self.bias.reshape(-1, *[1] * len(self.shape))
        own, grid = self.rounds(s, float(self.rows.max()), self.moduli, self.offset)
        return s.after(x, self.lip, own, self.offset, grid)

    def rounds(self, s: State, rows: Any, moduli: Any, offset: Any) -> tuple[Any, float]:
        """What sums of products with rows, and a bias, round, if |W| has the norm `moduli`."""
        error = gamma(self.matrix.shape[2] + 1) * (moduli * s.size + offset)
        grid = max(s.grid + self.fine, finest(self.bias))
        return sums(rows * s.size + np.abs(self.bias).max(), grid, error)

    def adjoint(self, s: State) -> State:
        """Wᵀx."""
        (taps, outputs), flat = self.table.shape, s.x.reshape(*self.matrix.shape[:2], -1)
        parts = self.matrix.swapaxes(1, 2) @ flat
        parts = parts.reshape(self.before[0], taps, outputs, -1)
        out = np.zeros((self.before[0], math.prod(self.before[1:]) + 1, parts.shape[3]))
        for tap, pixels in enumerate(self.table):
            out[:, pixels] += parts[:, tap]
        error = gamma(taps * self.matrix.shape[1]) * self.moduli * s.size
        own, grid = sums(self.columns * s.size, s.grid + self.fine, error)
        return s.after(out[:, :-1].reshape(*self.before, -1), self.lip, own, 0.0, grid)


class Prover:
    """Builds the program of a file, and proves each bound in it."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays, self.unused = arrays, set(arrays)

    def take(self, name: Any, shape: Shape | None = None, *kinds: str) -> Array:
        """An array, which is used once, in float64 or as the integers it is of."""
        need(type(name) is str and name in self.unused, f"{name!r} is not there, or used twice")
        self.unused.discard(name)
        array = self.arrays[name]
        need(array.dtype.str in (kinds or ("<f4", "<f8")), f"{name!r} holds {array.dtype}")
        need(shape in (None, array.shape), f"{name!r} has the shape {array.shape}, not {shape}")
        need(np.abs(array) < 2.0**100, f"{name!r} holds numbers out of range")
        return array if kinds == ("<i8",) else array.astype(np.float64)

    def chain(self, nodes: Any, shape: Shape, *allowed: str) -> Part:
        """One operation after another; the bound of each is proved."""
        parts, lip = [], 1.0
        need(type(nodes) is list, "a program is a list of operations")
        for node in nodes:
            op = node.get("op")
            need(op in (allowed or KEYS), f"the operation {op!r} cannot be re-proved here")
            need(sorted(node) == sorted(["op", "lip", "rule", *KEYS[op]]), f"fields of {op!r}")
            method = "_gather" if op in ("max", "l2") else f"_{op}"
            parts.append(part := getattr(self, method)(node, shape))
            need(part.lip <= real(node["lip"]), f"a bound of {op!r} is {part.lip}, no less")
            need(type(node["rule"]) is str and 0 < math.prod(part.shape) < 2**31, f"{op!r}: what?")
            shape, lip = part.shape, lip * part.lip * UP
        run = lambda state: functools.reduce(lambda s, part: part.run(s), parts, state)
        return Part(run, shape, lip)

    def _conv(self, node: Node, shape: Shape) -> Part:
        self.last = it = Convolution(self, node, shape)
        return Part(it.run, it.shape, it.lip)

    def _block(self, node: Node, shape: Shape) -> Part:
        """Two blocks around σ of slopes in [0, 1], hence of differences with a diagonal D, 0 ≤ D ≤ I.

        Without `outputs`, x − Wᵀσ(Wx + b): I − WᵀDW is within max(1, ‖W‖² − 1).  With as many,
        Aᵀσ(Bx + b) for W = [A, B]: within ‖W‖² / 2, as vᵀAᵀDBw ≤ ‖Av + Bw‖² / 4.
        """
        (outs,) = ints([node["outputs"]], 1, 0)
        self.chain([node["inner"]], (outs + shape[0], *shape[1:]), "conv")
        it = self.last
        middle = self.chain(node["activation"], it.shape, "pieces", "round")
        need([each["op"] for each in node["activation"]].count("pieces") == 1, "one activation")
        need((self.slopes >= 0) & (self.slopes <= 1), "slopes in a block should be in [0, 1]")
        constant = it.lip**2 / 2 * UP if outs else max(1.0, (it.lip**2 - 1) * UP)

        def run(s: State) -> State:
            wide = np.concatenate([np.zeros((outs, *s.x.shape[1:])), s.x])
            hidden = it.run(s._replace(x=wide, error=0 * s.error))
            back = it.adjoint(middle.run(hidden))
            at_zero = it.lip * middle.run(hidden._replace(size=it.offset + 0 * s.size)).size
            if outs:
                return s.after(back.x[:outs], constant, back.error, at_zero, back.grid)
            own, grid = sums(top := s.size + back.size, max(s.grid, back.grid), 2 * U * top)
            return s.after(s.x - back.x, constant, back.error + own, at_zero, grid)

        return Part(run, (outs or shape[0], *shape[1:]), constant)

    def _branches(self, node: Node, shape: Shape) -> Part:
        """Two that are added, or some side by side, of one input or each of its group of channels."""
        join, branches, added = node["join"], node["branches"], node["join"] == "sum"
        sizes = None if join in ("sum", "stack") else ints(join, len(branches), 1)
        need(sizes is None or sum(sizes) == shape[0], f"{sizes} channels of {shape}")
        widths = sizes or [shape[0]] * len(branches)
        parts = [self.chain(b, (n, *shape[1:])) for b, n in zip(branches, widths, strict=True)]
        fit = len({part.shape[0 if added else 1 :] for part in parts}) == 1
        need(
            fit and (len(parts) == 2 or not added), f"branches of shapes {[p.shape for p in parts]}"
        )
        lips = np.array([part.lip for part in parts])
        lip = lips.max() if sizes else lips.sum() * UP if added else norm(lips, (0,)) * UP
        channels = parts[0].shape[0] if added else sum(part.shape[0] for part in parts)

        def run(s: State) -> State:
            xs = np.split(s.x, np.cumsum(sizes)[:-1]) if sizes else [s.x] * len(parts)
            starts = [s._replace(x=x, error=0 * s.error) for x in xs]
            ends = [part.run(start) for part, start in zip(parts, starts, strict=True)]
            size, error = (np.stack([end[i] for end in ends]) for i in (1, 2))
            own, grid = 0.0, max(end.grid for end in ends)
            size, error = (
                (size.sum(0), error.sum(0)) if added else (norm(size, (0,)), norm(error, (0,)))
            )
            if added:
                own, grid = sums(size, grid, 2 * U * size)
            x = ends[0].x + ends[1].x if added else np.concatenate([end.x for end in ends])
            return s.after(x, lip, error + own, 0.0, grid)._replace(size=(size + own) * UP)

        return Part(run, (channels, *parts[0].shape[1:]), float(lip))

    def _pieces(self, node: Node, shape: Shape) -> Part:
        """Lines between knots, of each channel or of all, from a value at the first knot on."""
        knots, slopes, first = (self.take(node[key]) for key in ("knots", "slopes", "first"))
        (channels, count), self.slopes = knots.shape, slopes  # of the last activation: for blocks
        need(channels in (1, shape[0]) and slopes.shape == (channels, count + 1), "lines or knots")
        need(first.shape == (channels,) and np.diff(knots) >= 0, "knots should not decrease")
        rises = np.cumsum(slopes[:, 1:-1] * np.diff(knots), axis=1)
        values = first[:, None] + np.concatenate([np.zeros((channels, 1)), rises], axis=1)
        lip = float(np.abs(slopes).max())
        far = 3 * lip * np.abs(knots).max() + np.abs(first).max()
        most = far * math.sqrt(math.prod(shape))
        exact = far == 0 and np.isin(slopes, (-1, 0, 1)).all()

        def run(s: State) -> State:
            x = s.x.reshape(shape[0], -1)
            out = values[:, :1] + slopes[:, :1] * (x - knots[:, :1])
            for j in range(count):
                t, v, a = knots[:, j, None], values[:, j, None], slopes[:, j + 1, None]
                out = np.where(x > t, v + a * (x - t), out)
            grid = max(max(s.grid, finest(knots)) + finest(slopes), finest(first))
            error = gamma(count + 8) * (lip * s.size + most)
            own, grid = (0.0, s.grid) if exact else sums(2 * (lip * s.size + far), grid, error)
            return s.after(out.reshape(s.x.shape), lip, own, most, grid)

        return Part(run, shape, lip)

    def _sort(self, node: Node, shape: Shape) -> Part:
        (size,) = ints([node["size"]], 1, 1)
        need(shape[0] % size == 0, f"groups of {size} among {shape[0]} channels")
        sort = lambda x: -np.sort(-x.reshape(-1, size, *x.shape[1:]), axis=1)
        run = lambda s: s.after(sort(s.x).reshape(s.x.shape), 1.0, 0.0, 0.0, s.grid)
        return Part(run, shape, 1.0)

    def _gather(self, node: Node, shape: Shape) -> Part:
        """Coordinates (−1 for a zero), or maxima or norms of windows of them (−1 for none)."""
        op, out, count = node["op"], ints(node["shape"], None, 1), math.prod(shape)
        index = self.take(node["index"], None, "<i8")
        need(len(index) == math.prod(out) and index.ndim == (1 if op == "gather" else 2), "index")
        need((index >= -1) & (index < count), "an index is out of range")
        need(op != "max" or (index >= 0).any(axis=1), "a window is empty")
        times = int(np.bincount(index[index >= 0], minlength=1).max())
        lip = math.sqrt(times) * (UP if times > 1 else 1)

        def run(s: State) -> State:
            none = np.full((1, s.x.shape[-1]), -INF if op == "max" else 0.0)
            x, own, grid = np.concatenate([s.x.reshape(count, -1), none])[index], 0.0, s.grid
            if op == "l2":
                own, grid = gamma(index.shape[1] + 16) * lip * s.size + TINY, INF
            if op != "gather":
                x = x.max(axis=1) if op == "max" else np.sqrt((x * x).sum(axis=1))
            return s.after(x.reshape(*out, -1), lip, own, 0.0, grid)

        return Part(run, out, lip)

    def _round(self, node: Node, shape: Shape) -> Part:
        """The identity, off by 2⁻⁽ᵍ⁺¹⁾ at most for each number, which is on the grid g then."""
        (bits,) = ints([node["bits"]], 1, 0)
        off = math.ldexp(math.sqrt(math.prod(shape)), -bits - 1) * UP

        def run(s: State) -> State:
            need(bits <= 500 and np.max(s.size) < 2.0**400, "rounding of numbers out of range")
            x = np.ldexp(np.rint(np.ldexp(s.x, bits)), -bits)
            return s.after(x, 1.0, 0.0 if s.grid <= bits else off, 0.0, min(s.grid, bits))

        return Part(run, shape, 1.0)


def read(path: str) -> tuple[Node, dict[str, Array]]:
    """What a file says, and its arrays, whose hashes are right."""
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as file:
        need(sum(each.file_size for each in file.infolist()) < 2**34, "it is too large")
        for name in file.namelist():
            stream, key = io.BytesIO(file.read(name)), name.removesuffix(".npy")
            need(key != name and key not in arrays, f"{name} is no array, or there twice")
            arrays[key] = array = np.lib.format.read_array(stream, allow_pickle=False)
            known = not stream.read(1) and array.dtype.str in ("|u1", "<f4", "<f8", "<i8")
            need(known and np.isfinite(array), f"{name} holds what is no number")

    def unique(pairs: list[tuple[str, Any]]) -> Node:
        need(len(dict(pairs)) == len(pairs), "a key is doubled")
        return dict(pairs)

    meta = json.loads(arrays.pop("meta").tobytes().decode(), object_pairs_hook=unique)
    need(sorted(meta) == sorted(META.split()), f"its description has the keys {sorted(meta)}")
    need(meta["format"] == FORMAT, f"its format is not {FORMAT!r}")
    for key in ("arrays", "weights", "versions"):
        need(type(meta[key]) is dict and all(type(text) is str for text in meta[key].values()), key)
    data = {k: f"{a.dtype.str} {a.shape} ".encode() + a.tobytes() for k, a in arrays.items()}
    hashes = {key: hashlib.sha256(each).hexdigest() for key, each in data.items()}
    need(hashes == meta["arrays"], "the hashes are not those of its arrays")
    return meta, arrays


@functools.cache
def check_products() -> None:
    """Refuses products of matrices that are not conventional, as far as known results can tell."""
    for n in (64, 640):
        rows, columns = np.indices((n, n))
        fine = 1 + 2.0**-52 * ((7 * rows + 3 * columns) % 64)
        same = fine @ np.roll(np.eye(n), 1, axis=1) == np.roll(fine, 1, axis=1)
        scale = np.where(np.arange(n) < n // 2, 2.0**60, 1.0)
        small = np.where(scale[:, None] == scale, (5 * rows + columns) % 7 - 3.0, 0.0)
        exact = scale[:, None] * (small @ small) * scale  # of whole numbers
        need(same & ((scale[:, None] * small) @ (small * scale) == exact), "products are not exact")
    need(np.full(8, 2.0**-1074) * 1.0 == 2.0**-1074, "subnormal numbers are flushed to zero")


def verify(path: str) -> str:
    """Proves all that a file claims, and says what that is; raises a `Doubt` of what is not proved."""
    check_products()
    meta, arrays = read(path)
    need(meta["statement"] == STATEMENT and meta["arithmetic"] == "float64", "another statement")
    need(meta["program"] in ("float64", "exact"), f"no program is {meta['program']!r}")
    shape, (classes,) = ints(meta["shape"], None, 1), ints([meta["classes"]], 1, 1)
    prover, network, exact = Prover(arrays), meta["network"], meta["program"] == "exact"
    need(type(network) is list and network, f"it has no program to be re-proved here: {network}")
    before = prover.chain(network[:-1], shape)
    last = prover.chain(network[-1:], before.shape, "conv")
    head, weight = prover.last, prover.last.matrix[0]
    need(last.shape == (classes,) and head.before == (weight.shape[1],), "no matrix gives logits")
    lip, domain = before.lip * last.lip * UP, np.array([real(meta["domain"])])
    need(lip <= real(meta["lipschitz"]), f"the Lipschitz bound {lip} is no less")
    whole = last.run(before.run(State(np.zeros((*shape, 1)), domain, 0 * domain, INF)))
    need(whole.error <= real(meta["error"]), f"the bound of rounding {whole.error} is no less")
    images = prover.take("images", None, "<f4", "<f8")
    count, diagonal = len(images), math.sqrt(math.prod(shape))
    need(images.shape[1:] == shape and (images >= 0) & (images <= 1), "images out of [0, 1]")
    labels, radii = prover.take("labels", (count,), "<i8"), prover.take("radii", (count,), "<f8")
    logits = prover.take("logits", (count, classes), "<f8")
    need((labels >= 0) & (labels < classes), "a label is no class")
    need((radii >= 0) & (radii <= diagonal), "a radius is negative, or too large")
    gaps = np.stack([norm(weight - row, (1,)) for row in weight]) * UP
    rows, part = head.rows[:, None], 2**15 // math.prod(shape) + 1
    for i in range(0, count, part):
        x, y, r, z = (each[i : i + part] for each in (images, labels, radii, logits))
        size = (norm(x, tuple(range(1, x.ndim))) + r) * UP**2
        s = before.run(State(np.moveaxis(x, 0, -1), size, U * size, INF))
        own, grid = head.rounds(s, rows, rows, np.abs(head.bias)[:, None])  # of each logit
        need(not exact or grid < INF, "its sums are not exact")
        own, error, y = np.broadcast_to(own, z.T.shape).T, s.error[:, None], y[:, None]
        off = 0.0 if exact else 2 * (head.rows * error + own) * UP
        need(np.abs(last.run(s).x.T - z) <= off, "the logits are not those of the program")
        margins, both = np.take_along_axis(z, y, 1) - z, own + np.take_along_axis(own, y, 1)
        far = (gaps[y[:, 0]] * (before.lip * r[:, None] + 2 * error) + 2 * both) * UP**2
        fine = (far <= margins * (1 - 4 * U)) | (r == 0)[:, None] | (np.arange(classes) == y)
        need(fine, "a radius is not proved")
    need(not prover.unused, f"arrays without a use: {sorted(prover.unused)}")
    order = "exact, hence the same to the bit in any order" if exact else "rounded, in any order"
    return (
        f"{path}: all that it claims is proved.\n  Program: float64, its sums {order}; "
        f"{len(arrays)} arrays.\n  Lipschitz bound proved here: {lip:.9g}; rounding: "
        f"{whole.error[0]:.3g}.\n  Images: {count}, of which {np.sum(radii > 0)} with a radius."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if all is proved, else 1, with the first doubt."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m lipnets.verify FILE", file=sys.stderr)  # noqa: T201
        return 2
    try:
        with np.errstate(all="ignore"):  # what is not finite is no proof: comparisons are false
            print(verify(given[0]))  # noqa: T201
    except Exception as error:  # noqa: BLE001 - whatever is wrong, nothing is proved
        doubt = str(error) if isinstance(error, Doubt) else f"{type(error).__name__}: {error}"
        print(f"{given[0]}: NOT proved: {doubt}.", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
