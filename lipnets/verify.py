"""Checks a certificate file of lipnets with numpy and the standard library alone: a second opinion.

`python -m lipnets.verify FILE`; the format is in docs/certificate-file.md.  Nothing in the file is believed.
Norms, rounding errors, logits and radii are proved from its weights; u = 2⁻⁵³, γₖ = ku / (1 − ku):

1. A sum of k products is off by γₖ Σ|a||b| in any order, fused or not, by conventional products.
2. λ_max(H) ≤ c + ‖H + LLᵀ − cI‖ for any L, as LLᵀ ≥ 0.  A Cholesky factor L of cI − H makes it tight.
3. A convolution of taps K_t has the symbol S(θ) = Σ K_t e^{iθt}, with SS* = Σ C_s e^{iθs}, C_s = Σ K_{t+s} K_tᵀ:
   ‖S‖² ≤ λ_max(C₀) + Σ‖C_s‖ over s ≠ 0, and ≤ λ_max(Σ|C_s|).  With zeros around it, it is a part of one on
   a torus on which nothing wraps, of norm max ‖S‖ over the frequencies there.
4. ‖F(X) − f(x)‖ ≤ e + L‖X − x‖ for an operation f of constant L whose program F rounds by e; within r a margin
   of f changes by L_yj r at most, where L_yj is √2 L, or ‖w_y − w_j‖ L if a linear map is last.
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

FORMAT = "lipnets certificate 2"
STATEMENT = (
    "For each image x of this file that has a radius r > 0, and all arrays of real numbers within the "
    "l2 distance r of x: the program of this file, run in float64 on such an array rounded to float64, its "
    "products summed in any order, gives no other class a larger logit than the label of x."
)
U, TINY, ROOT2 = 2.0**-53, 2.0**-900, math.nextafter(math.sqrt(2), 2)
UP = 1 + 2.0**-40  # more than the roundings of 4,000 sums, products and roots of positive numbers
Array = np.ndarray
Shape = tuple[int, ...]
Node = dict[str, Any]
Grid = int | None  # g, where all numbers are multiples of 2⁻ᵍ
META = "format statement program arithmetic shape classes lipschitz domain error pixels network"
META += " arrays weights versions"
FIELDS = (
    "sequential:children;sum:branches;branches:sizes branches;gather:index shape;linear:weight bias axis;"
    "conv:weight bias stride dilation groups padding circular transposed;affine:scale shift;"
    "prelu:slopes;clamp:low high outside inside;spline:slopes offset limit;sort:size;"
    "householder:normals;pool:kind windows shared;block:inner activation outputs;round:bits"
)
KEYS = {
    name: f"op lip rule {fields}".split()
    for name, fields in (f.split(":") for f in FIELDS.split(";"))
}


class Doubt(Exception):  # noqa: N818 - what keeps this checker from a yes
    """Something in a certificate file that is not proved."""


def need(truth: Any, doubt: str) -> None:
    """Raises a doubt unless all is true; comparisons with nan are not."""
    if not np.all(truth):
        raise Doubt(doubt)


def gamma(k: int) -> float:
    return k * U / (1 - k * U) * (1 + 4 * U)


def norm(array: Array, axes: tuple[int, ...] | None = None) -> Any:
    """ℓ2 norms, rounded upwards: squares may underflow."""
    count = array.size if axes is None else math.prod(array.shape[axis] for axis in axes)
    return (
        np.sqrt(np.real(array * np.conj(array)).sum(axis=axes)) * (1 + (count + 8) * U) + 2.0**-480
    )


def below(grams: Array, level: float, error: float) -> bool:
    """Proves λ_max(H) ≤ level for Hermitian H within `error` of each of a stack of matrices: theorem 2."""
    n, center = grams.shape[-1], (level - error) * (1 - 2.0**-27)
    try:
        factor = np.tril(np.linalg.cholesky(center * np.eye(n) - grams))
    except np.linalg.LinAlgError:
        return False
    sums = grams + factor @ factor.conj().swapaxes(-1, -2)
    rest = norm(sums - center * np.eye(n), (-2, -1))
    each = 1.5 * gamma(2 * n) if np.iscomplexobj(grams) else gamma(n)  # √2 γ₂ₖ of a complex sum
    top = np.abs(sums.diagonal(axis1=-2, axis2=-1)).max()
    bound = center + rest * UP + each * norm(factor, (-2, -1)) ** 2 + 4 * U * top + error + TINY
    return center > 0 and bool(np.all(bound * (1 + 64 * U) <= level))


def symbol_below(taps: Array, offsets: Sequence[Shape], points: Shape, lip: float) -> bool:
    """Proves ‖S‖ ≤ lip, for taps with shape (G, P, O, I) at P offsets: theorem 3."""
    if not taps.any():
        return True
    scale = 2.0 ** -math.frexp(np.abs(taps).max())[1]
    taps, lip, count = taps * scale, lip * scale * (1 - 8 * U), taps.shape[1]
    rows = taps if taps.shape[2] <= taps.shape[3] else taps.swapaxes(2, 3)
    found: dict[Shape, Array] = {}
    for (i, a), (j, b) in itertools.product(enumerate(offsets), repeat=2):
        if b >= a:
            shift = tuple(q - p for p, q in zip(a, b, strict=True))
            found[shift] = found.get(shift, 0.0) + rows[:, j] @ rows[:, i].swapaxes(1, 2)
    lost = gamma(rows.shape[3] + count + 2) * float(norm(taps, (2, 3)).sum(axis=1).max()) ** 2 * UP
    center, total = found.pop((0,) * len(offsets[0])), 0.0
    moduli = [np.abs(matrix) for matrix in found.values()]
    for m in moduli:
        schur = np.sqrt(m.sum(axis=1).max(axis=1) * m.sum(axis=2).max(axis=1))
        total += 2 * float(np.minimum(schur, norm(m, (1, 2))).max()) * UP
    if below(center, lip * lip * (1 - 4 * U), lost + total):
        return True
    whole = sum((m + m.swapaxes(1, 2) for m in moduli), np.abs(center))
    lost += gamma(2 * count**2) * float(norm(whole, (1, 2)).max()) * 2
    return count > 1 and (
        below(whole, lip * lip * (1 - 4 * U), lost) or on_grid(taps, offsets, points, lip)
    )


def on_grid(taps: Array, offsets: Sequence[Shape], points: Shape, lip: float) -> bool:
    """Proves ‖S‖ ≤ lip on a grid of so many points; of ±θ, one is enough for real taps."""
    (_, count, outs, ins), common = taps.shape, math.lcm(*points)
    half = [
        j for j in np.ndindex(points) if j <= tuple(-i % n for i, n in zip(j, points, strict=True))
    ]
    turns = (
        np.array(half) @ (np.array(offsets) * [common // n for n in points]).T % common
    )  # (F, P)
    (cosines, sines), flat = roots(common), taps.swapaxes(0, 1).reshape(count, -1)
    lip -= 1.5 * gamma(count + 4) * float(norm(np.abs(taps).sum(axis=1), (1, 2)).max()) * UP
    for some in np.array_split(turns, -(-len(turns) * flat[0].size // 2**22)):
        symbols = ((cosines[some] @ flat) + 1j * (sines[some] @ flat)).reshape(-1, outs, ins)
        tall = symbols if outs >= ins else symbols.swapaxes(1, 2)
        error = 1.5 * gamma(2 * max(outs, ins)) * float(norm(tall, (1, 2)).max()) ** 2 * UP
        if not (
            lip > 0 and below(tall.conj().swapaxes(1, 2) @ tall, lip * lip * (1 - 4 * U), error)
        ):
            return False
    return True


def roots(count: int) -> Array:
    """Cosines and sines of 2πj/n, within 2⁻⁵³: their series, in integers of 2⁻²⁰⁰."""
    one, table = 1 << 200, np.empty((2, count))
    fifth, other = (
        sum((-1) ** k * (one // ((2 * k + 1) * n ** (2 * k + 1))) for k in range(100))
        for n in (5, 239)
    )
    for j in range(count):
        angle, power, parts = 8 * (4 * fifth - other) * min(j, count - j) // count, one, [0, 0]
        for k in range(1, 80):
            parts[(k - 1) % 2] += power if (k - 1) % 4 < 2 else -power
            power = power * angle // (one * k)
        table[:, j] = parts[0] / one, parts[1] / one * (1 if 2 * j <= count else -1)
    return table


class Op(NamedTuple):
    """An operation: the shape of its output, its constant, its program, and what that rounds.

    `walk` takes bounds of the norms of inputs, with shape (B,), and their grid.  It returns those of what is
    computed of them, bounds of how far that is from the real function of the same inputs, and its grid.
    """

    shape: Shape
    lip: float
    run: Callable[[Array], Array]
    walk: Callable[[Array, Grid], tuple[Array, Array, Grid]]


def leaf(shape: Shape, lip: float, run: Any, step: Any = None, offset: float = 0.0) -> Op:
    """A function with ‖f(0)‖ ≤ offset that rounds by step(size, grid) -> (error, grid), or nothing."""

    def walk(size: Array, grid: Grid) -> tuple[Array, Array, Grid]:
        error, after = step(size, grid) if step else (0.0 * size, grid)
        return (lip * size + offset + error) * UP, error, after

    return Op(shape, lip, run, walk)


def summed(sizes: Array, grid: Grid, error: Any) -> tuple[Any, Grid]:
    """No error where all partial sums are multiples of 2⁻ᵍ that float64 holds, as they are below 2⁵³⁻ᵍ."""
    exact = grid is not None and grid < 900 and np.max(sizes) * UP < 2.0 ** (53 - grid)
    return (0.0 * sizes, grid) if exact else (error * UP + TINY, None)


def products(weight: Array, bias: Array, terms: int, moduli: Any, offset: Any, rows: float) -> Any:
    """What sums of products round: |W| has the norm `moduli`, rows of W have `rows`, all biases `offset`."""
    fine, top = [finest(weight), finest(bias)], float(np.abs(bias).max(initial=0.0))

    def step(size: Array, grid: Grid) -> tuple[Any, Grid]:
        after = None if grid is None else max(grid + fine[0], fine[1])
        return summed(rows * size + top, after, gamma(terms + 1) * (moduli * size + offset))

    return step


def finest(array: Array) -> int:
    """The smallest t ≥ 0 such that all numbers are multiples of 2⁻ᵗ."""
    return next(t for t in range(1100) if np.array_equal(np.rint(a := np.ldexp(array, t)), a))


class Map:
    """A convolution or its adjoint, with a bias; a matrix along one axis is one of a single tap."""

    def __init__(self, prover: "Prover", node: Node, shape: Shape, extra: int = 0) -> None:
        conv = node["op"] == "conv"
        need(
            conv or (type(node["axis"]) is int and -1 <= node["axis"] < len(shape)), "no such axis"
        )
        self.axis = 0 if conv else node["axis"] % len(shape)
        self.sizes = shape[: self.axis] + shape[self.axis + 1 :]
        d, given = len(self.sizes), prover.take(node["weight"], None)
        self.weight = given if conv else given.reshape(*given.shape, *[1] * d)
        need(given.ndim == (2 + d if conv else 2), f"a weight of shape {given.shape} for {shape}")
        self.stride = ints(node["stride"], d, 1) if conv else (1,) * d
        self.dilation = ints(node["dilation"], d, 1) if conv else (1,) * d
        (self.groups,) = ints([node["groups"]], 1, 1) if conv else (1,)
        need(type(node.get("padding", [])) is list, "padding is no list")
        self.pads = tuple(ints(p, 2, 0) for p in node["padding"]) if conv else ((0, 0),) * d
        self.circular, self.turned = node.get("circular", False), node.get("transposed") is not None
        kernel, outs, ins = (
            self.weight.shape[2:],
            len(self.weight),
            self.weight.shape[1] * self.groups,
        )
        need(
            type(self.circular) is bool and not (self.circular and self.turned), "what is circular?"
        )
        need(outs % self.groups == 0 and len(self.pads) == d, "groups or padding do not fit")
        need(
            (outs if self.turned else ins) == shape[self.axis] + extra,
            f"{ins} channels for {shape}",
        )
        inner = ints(node["transposed"], d, 1) if self.turned else self.sizes
        geometry = zip(inner, kernel, self.stride, self.dilation, self.pads, strict=True)
        small = tuple((n + sum(p) - e * (k - 1) - 1) // s + 1 for n, k, s, e, p in geometry)
        need(not self.turned or small == self.sizes, f"{self.sizes} pixels do not become {inner}")
        need(all(m > 0 for m in small), f"{shape} is too small for kernels of {kernel}")
        need(
            not self.circular or all(max(p) <= n for n, p in zip(inner, self.pads, strict=True)),
            "wraps",
        )
        self.wide, self.small, lip = (
            inner,
            small,
            node["lip"],
        )  # sizes before and after the convolution
        need(
            type(lip) is float and self.proves(lip),
            f"the bound {lip} of {node['op']!r} is not proved",
        )
        channels = ins if self.turned else outs
        self.bias = (
            prover.take(node["bias"], (channels,))
            if node["bias"] is not None
            else np.zeros(channels)
        )
        out = inner if self.turned else small
        self.shape = (*out[: self.axis], channels, *out[self.axis :])
        self.offset = float(norm(self.bias)) * math.sqrt(math.prod(out)) * UP
        parts = self.split()
        absolute = np.abs(parts).sum(axis=tuple(range(3, d + 3)))  # (G, O, I)
        vector = ratio = np.ones((self.groups, absolute.shape[2], 1))
        for _ in range(
            6
        ):  # of a matrix A >= 0: |A|^2 is at most the largest (A'Av)_i / v_i, for any v > 0
            vector = np.maximum(vector / vector.max(), 2.0**-40)
            image = absolute.swapaxes(1, 2) @ (absolute @ vector)
            ratio, vector = image / vector, image
        self.moduli = float(np.sqrt(ratio.max())) * (1 + 4 * given.size * U) * UP
        self.forth = self.weight[0].size, float(norm(parts, (2, *range(3, d + 3))).max())
        self.back = parts[0, :, 0].size, float(norm(parts, (1, *range(3, d + 3))).max())

    def split(self) -> Array:
        """The weight by groups, with shape (G, O, I, *K)."""
        return self.weight.reshape(self.groups, -1, *self.weight.shape[1:])

    def reads(self, tap: Shape) -> tuple[Any, ...]:
        """The padded pixels that a tap reads, for all outputs."""
        axes = zip(tap, self.small, self.stride, self.dilation, strict=True)
        return (..., *(slice(q * e, q * e + s * (m - 1) + 1, s) for q, m, s, e in axes))

    def proves(self, lip: float) -> bool:
        """Proves the norm: with stride s, taps of the pixels t s + a are matrices K_t of channels (i, a)."""
        strides, points = list(self.stride), []
        kernel = self.weight.shape[2:]
        for axis, (n, m, k, s, e, (before, after)) in enumerate(
            zip(self.wide, self.small, kernel, self.stride, self.dilation, self.pads, strict=True)
        ):
            if self.circular and before + after:
                if before + after != e * (k - 1):
                    return False  # pixels are repeated
                strides[axis] = s if n % s == 0 else 1
                points.append(n // strides[axis])
            else:
                points.append(
                    -(-max(n + before, s * (m - 1) + e * (k - 1) - before + 1, s * m) // s)
                )
        places: dict[Shape, dict[Shape, Shape]] = {}
        for tap in np.ndindex(kernel):
            steps = [divmod(q * e, s) for q, e, s in zip(tap, self.dilation, strides, strict=True)]
            places.setdefault(tuple(t for t, _ in steps), {})[tuple(a for _, a in steps)] = tap
        phases, parts = {a for place in places.values() for a in place}, self.split()
        zero = np.zeros(parts.shape[:3])
        taps = [
            [parts[(..., *p[a])] if a in p else zero for a in sorted(phases)]
            for p in places.values()
        ]
        stack = np.stack([np.concatenate(each, axis=2) for each in taps], axis=1)
        return symbol_below(stack, list(places), tuple(points), lip)

    def convolve(self, x: Array, skip: int = 0) -> Array:
        """Of all input channels, or of those behind the first that are skipped."""
        x, weight = np.moveaxis(x, self.axis + 1, 0), self.weight[:, skip:]
        wide = np.pad(x, [(0, 0)] * 2 + [*self.pads], mode="wrap" if self.circular else "constant")
        flat = weight.reshape(self.groups, len(weight) // self.groups, -1)
        columns = np.empty((len(x), math.prod(weight.shape[2:]), x.shape[1], *self.small))
        for i, tap in enumerate(np.ndindex(weight.shape[2:])):
            columns[:, i] = wide[self.reads(tap)]
        out = (flat @ columns.reshape(self.groups, flat.shape[2], -1)).reshape(
            -1, x.shape[1], *self.small
        )
        return np.moveaxis(out, 0, self.axis + 1)

    def adjoint(self, x: Array, count: int | None = None) -> Array:
        """To all input channels, or to the first so many."""
        x, weight = np.moveaxis(x, self.axis + 1, 0), self.weight[:, :count]
        flat = weight.reshape(self.groups, len(weight) // self.groups, -1).swapaxes(1, 2)
        parts = (flat @ x.reshape(self.groups, flat.shape[2], -1)).reshape(
            -1, math.prod(weight.shape[2:]), x.shape[1], *self.small
        )
        padded = [n + sum(p) for n, p in zip(self.wide, self.pads, strict=True)]
        out = np.zeros((len(parts), x.shape[1], *padded))
        for i, tap in enumerate(np.ndindex(weight.shape[2:])):
            out[self.reads(tap)] += parts[:, i]
        for axis, (n, (before, _)) in enumerate(zip(self.wide, self.pads, strict=True), start=2):
            line = np.moveaxis(out, axis, 0)
            kept = line[before : before + n].copy()
            if self.circular:
                kept[n - before :] += line[:before]
                kept[: len(line) - before - n] += line[before + n :]
            out = np.moveaxis(kept, 0, axis)
        return np.moveaxis(out, 0, self.axis + 1)


def ints(values: Any, count: int | None, low: int) -> Shape:
    right = type(values) is list and all(type(v) is int and low <= v < 2**31 for v in values)
    need(
        right and count in (None, len(values)), f"{values} should be {count} integers from {low} on"
    )
    return tuple(values)


def real(value: Any) -> float:
    need(type(value) is float and abs(value) < 2.0**100, f"{value} is no number in range")
    return value


class Prover:
    """Builds the program of a file, and proves each bound in it."""

    def __init__(self, arrays: dict[str, Array]) -> None:
        self.arrays, self.unused = arrays, set(arrays)

    def take(self, name: Any, shape: Sequence[int] | None, *kinds: str) -> Array:
        """An array that the program holds once, in float64 or as the integers it is of."""
        need(
            type(name) is str and name in self.unused,
            f"the array {name!r} is not there, or used twice",
        )
        self.unused.discard(name)
        array = self.arrays[name]
        need(array.dtype.str in (kinds or ("<f4", "<f8")), f"{name!r} holds {array.dtype}")
        need(
            shape in (None, array.shape) and array.size,
            f"{name!r} has shape {array.shape}, not {shape}",
        )
        need(np.abs(array) < 2.0**100, f"{name!r} holds numbers out of range")
        return array if kinds else array.astype(np.float64)

    def channels(self, name: Any, shape: Shape, *before: int) -> Array:
        """An array of a number for each channel, or of one for all, to broadcast to a batch."""
        array = self.take(name, None)
        need(
            array.shape in ((*before, 1), (*before, *shape[:1])),
            f"{name!r} has shape {array.shape}",
        )
        return array.reshape(*array.shape, *[1] * (len(shape) - 1))

    def build(self, node: Any, shape: Shape) -> Op:
        """The operation of a node, whose bound is proved."""
        need(type(node) is dict and type(node.get("op")) is str, "a node names no operation")
        name, claim = str(node["op"]), node.get("lip")
        need(name in KEYS, f"the operation {name!r} cannot be re-proved here")
        need(sorted(node) == sorted(KEYS[name]), f"{name!r} has the fields {sorted(node)}")
        need(type(node["rule"]) is str and real(claim) >= 0, f"{name!r} has the bound {claim}")
        op = getattr(self, f"_{name}")(node, shape)
        need(op.lip <= claim, f"the bound {claim} of {name!r} is not proved, {op.lip} is")
        need(0 < math.prod(op.shape) < 2**31, f"{name!r} gives the shape {op.shape}")
        return op

    def _sequential(self, node: Node, shape: Shape) -> Op:
        ops: list[Op] = []
        for child in node["children"]:
            ops.append(self.build(child, ops[-1].shape if ops else shape))
        self.ops = ops  # of the whole program, in the end
        return chain(ops, shape)

    def _sum(self, node: Node, shape: Shape) -> Op:
        need(len(node["branches"]) == 2, "a sum should have two branches")
        one, two = (self.build(each, shape) for each in node["branches"])
        need(one.shape == two.shape, f"branches of shapes {one.shape} and {two.shape}")

        def walk(size: Array, grid: Grid) -> tuple[Array, Array, Grid]:
            (a, e, g), (b, f, h) = one.walk(size, grid), two.walk(size, grid)
            error, after = summed(
                a + b, None if g is None or h is None else max(g, h), 2 * U * (a + b)
            )
            return (a + b + error) * UP, (e + f + error) * UP, after

        return Op(one.shape, (one.lip + two.lip) * UP, lambda x: one.run(x) + two.run(x), walk)

    def _branches(self, node: Node, shape: Shape) -> Op:
        """Side by side: on channels of their own, or, without sizes, all on the same input."""
        sizes = None if node["sizes"] is None else ints(node["sizes"], len(node["branches"]), 1)
        need(sizes is None or sum(sizes) == shape[0], f"groups of {sizes} channels for {shape}")
        shapes = [(n, *shape[1:]) for n in sizes or [shape[0]] * len(node["branches"])]
        ops = [self.build(each, own) for each, own in zip(node["branches"], shapes, strict=True)]
        need(len({op.shape[1:] for op in ops}) == 1, "branches do not fit side by side")
        lips = np.array([op.lip for op in ops])

        def run(x: Array) -> Array:
            parts = np.split(x, np.cumsum(sizes)[:-1], axis=1) if sizes else [x] * len(ops)
            return np.concatenate(
                [op.run(part) for op, part in zip(ops, parts, strict=True)], axis=1
            )

        def walk(size: Array, grid: Grid) -> tuple[Array, Array, Grid]:
            outs, errors, grids = zip(*(op.walk(size, grid) for op in ops), strict=True)
            return (
                norm(np.array(outs), (0,)) * UP,
                norm(np.array(errors), (0,)) * UP,
                coarsest(grids),
            )

        lip = float(lips.max()) if sizes else float(norm(lips)) * UP
        return Op((sum(op.shape[0] for op in ops), *ops[0].shape[1:]), lip, run, walk)

    def _gather(self, node: Node, shape: Shape) -> Op:
        out, count = ints(node["shape"], None, 1), math.prod(shape)
        if node["index"] is None:
            need(math.prod(out) == count, f"{shape} does not become {out}")
            return leaf(out, 1.0, lambda x: x.reshape(-1, *out))
        index = self.take(node["index"], (math.prod(out),), "<i8")
        need((index >= -1) & (index < count), "an index is out of range")
        times = int(np.bincount(index[index >= 0], minlength=1).max())

        def run(x: Array) -> Array:  # -1 is a zero
            flat = np.concatenate([x.reshape(len(x), -1), np.zeros((len(x), 1))], axis=1)
            return flat[:, index].reshape(-1, *out)

        return leaf(out, math.sqrt(times) * (UP if times > 1 else 1), run)

    def _linear(self, node: Node, shape: Shape) -> Op:
        it = self.map = Map(self, node, shape)
        bias = it.bias.reshape(-1, *[1] * (len(it.shape) - it.axis - 1))
        apply = it.adjoint if it.turned else it.convolve
        terms, rows = it.back if it.turned else it.forth
        step = products(it.weight, it.bias, terms, it.moduli, it.offset, rows)
        return leaf(it.shape, node["lip"], lambda x: apply(x) + bias, step, it.offset)

    _conv = _linear

    def _block(self, node: Node, shape: Shape) -> Op:
        """Is x - W'a(Wx + b), of constant max(1, |W|^2 - 1), or A'a(Bx + b) for W = [A, B], of |W|^2 / 2.

        For a of slopes in [0, 1]: differences are I - W'DW, and v'A'DBw <= |Av + Bw|^2 / 4, for D in [0, I].
        """
        inner, outs = node["inner"], node["outputs"]
        need(outs is None or (type(outs) is int and outs > 0), f"{outs} outputs")
        need(inner.get("op") in ("linear", "conv"), "a block should be around a linear map")
        need(sorted(inner) == sorted(KEYS[inner["op"]]), f"a map has the fields {sorted(inner)}")
        it = Map(self, inner, shape, outs or 0)
        need(
            not it.turned and it.axis in (0, len(shape) - 1) and it.stride == (1,) * len(it.stride),
            "map",
        )
        need(outs is None or it.groups == 1, "groups in a sandwich")
        half, lip = self.build(node["activation"], it.shape), inner["lip"]
        need(
            node["activation"]["op"] in ("prelu", "clamp") and half.shape == it.shape, "activation"
        )
        need(
            (self.slopes >= 0) & (self.slopes <= 1), "the slopes inside a block should be in [0, 1]"
        )
        first = products(it.weight, it.bias, it.forth[0], it.moduli, it.offset, it.forth[1])
        second = products(it.weight, np.zeros(1), it.back[0], it.moduli, 0.0, it.back[1])
        bias = it.bias.reshape(-1, *[1] * (len(it.shape) - it.axis - 1))
        out = list(shape)
        out[it.axis] = outs or shape[it.axis]

        def run(x: Array) -> Array:
            back = it.adjoint(half.run(it.convolve(x, outs or 0) + bias), outs)
            return back if outs else x - back

        def walk(size: Array, grid: Grid) -> tuple[Array, Array, Grid]:
            error, after = first(size, grid)
            hidden, own, after = half.walk((lip * size + it.offset + error) * UP, after)
            last, after = second(hidden, after)
            error = (lip * (half.lip * error + own) + last) * UP
            total = (lip * hidden + last) * UP
            if outs is None:
                both = None if grid is None or after is None else max(grid, after)
                more, after = summed(size + total, both, 2 * U * (size + total))
                error = error + more
            zero = half.walk(it.offset + 0 * size, None)[0] * lip
            return (constant * size + zero + error) * UP, error * UP, after

        constant = lip**2 / 2 * UP if outs else max(1.0, (lip**2 - 1) * UP)
        return Op(tuple(out), constant, run, walk)

    def _affine(self, node: Node, shape: Shape) -> Op:
        """Factors and constants that broadcast to the shape of an example."""
        scale = np.ones(1) if node["scale"] is None else self.take(node["scale"], None)
        shift = np.zeros(1) if node["shift"] is None else self.take(node["shift"], None)
        fits = all(np.broadcast_shapes(a.shape, shape) == shape for a in (scale, shift))
        need(fits, f"{scale.shape} and {shift.shape} do not broadcast to {shape}")
        top, offset = float(np.abs(scale).max()), float(norm(np.broadcast_to(shift, shape)))
        step = products(scale, shift, 1, top, offset, top)
        if node["scale"] is None and node["shift"] is None:
            step = None
        return leaf(shape, top, lambda x: scale * x + shift, step, offset)

    def _prelu(self, node: Node, shape: Shape) -> Op:
        """x, or a x where x is negative: exact for a in {-1, 0, 1}."""
        slopes = self.slopes = self.channels(node["slopes"], shape)
        top = float(np.abs(slopes).max())
        step = (
            None
            if np.isin(slopes, (-1, 0, 1)).all()
            else products(slopes, np.zeros(1), 1, top, 0.0, top)
        )
        return leaf(shape, max(1.0, top), lambda x: np.where(x > 0, x, slopes * x), step)

    def _clamp(self, node: Node, shape: Shape) -> Op:
        """Is p x + (q - p) clamp(x, a, b), of slope p outside of [a, b] and q inside: (0, 1), (1, 0) or (1, -1)."""
        low, high = self.channels(node["low"], shape), self.channels(node["high"], shape)
        pair = (real(node["outside"]), real(node["inside"]))
        need(pair in ((0, 1), (1, 0), (1, -1)) and np.all(low <= high), f"clamp of slopes {pair}")
        self.slopes = np.array(pair)
        far = float(norm(np.broadcast_to(np.maximum(np.abs(low), np.abs(high)), shape)))
        run = lambda x: pair[0] * x + (pair[1] - pair[0]) * np.clip(x, low, high)
        step = products(self.slopes, low, 1, 3.0, 2 * far, 3.0) if pair[0] else None
        return leaf(shape, 1.0, run, step, 2 * far)

    def _spline(self, node: Node, shape: Shape) -> Op:
        """Lines between knots at equal distances: computed lines are off, and knots, by some units each."""
        offset, limit = self.take(node["offset"], shape[:1]), real(node["limit"])
        slopes = np.clip(self.take(node["slopes"], None), -1, 1)
        need(slopes.ndim == 2 and len(slopes) == shape[0] and limit > 0, "slopes of a spline")
        need((knots := slopes.shape[1] - 1) > 1, "a spline should have two knots")
        places = np.linspace(-limit, limit, knots)
        rises = np.cumsum(slopes[:, 1:-1] * (2 * limit / (knots - 1)), axis=1)
        values = offset[:, None] + np.concatenate([np.zeros((len(slopes), 1)), rises], axis=1)
        far = float(norm(np.broadcast_to(np.abs(offset).max() + 8 * limit, shape)))

        def run(x: Array) -> Array:
            piece = np.searchsorted(places, x)
            line, channel = (
                np.maximum(piece - 1, 0),
                np.arange(x.shape[1]).reshape(-1, *[1] * (x.ndim - 2)),
            )
            return values[channel, line] + slopes[channel, piece] * (x - places[line])

        step = lambda size, grid: (gamma(8 * knots + 64) * (4 * size + far) * UP, None)
        return leaf(shape, float(np.abs(slopes).max()), run, step, far)

    def _sort(self, node: Node, shape: Shape) -> Op:
        (size,) = ints([node["size"]], 1, 1)
        need(shape[0] % size == 0, f"groups of {size} among {shape[0]} channels")
        run = lambda x: -np.sort(-x.reshape(len(x), -1, size, *shape[1:]), axis=2)
        return leaf(shape, 1.0, lambda x: run(x).reshape(x.shape))

    def _householder(self, node: Node, shape: Shape) -> Op:
        """Is z - 2 min(v'z, 0) v for pairs z, one v after another: slopes 1 and 1 - 2 |v|^2 along v."""
        normals = self.take(node["normals"], None)
        need(
            normals.ndim == 3 and 2 * normals.shape[1] == shape[0], "normals for pairs of channels"
        )
        squares = (normals**2).sum(axis=2).max(axis=1)
        lip, count = float(np.prod(np.maximum(1.0, 2 * squares - 1 + 16 * U))), len(normals)

        def run(x: Array) -> Array:
            a, b = np.moveaxis(x.reshape(len(x), -1, 2, *shape[1:]), 2, 0)
            for s, c in np.moveaxis(normals, 2, 1).reshape(count, 2, -1, *[1] * (len(shape) - 1)):
                inside = 2 * np.maximum(b * c - a * s, 0)
                a, b = a + inside * s, b - inside * c
            return np.stack([a, b], axis=2).reshape(x.shape)

        need(squares < 2, "normals should have the length 1")
        return leaf(
            shape, lip, run, lambda size, grid: (gamma(64 * count) * lip * size + TINY, None)
        )

    def _pool(self, node: Node, shape: Shape) -> Op:
        """Maxima or l2 norms of windows, given by their pixels along each axis, divided by the root of a number."""
        windows, kind = node["windows"], node["kind"]
        need(len(windows) == len(shape) - 1 and kind in ("max", "l2"), f"windows of {kind}")
        (divisor,) = ints([node["shared"]], 1, 1)
        ranges = [[range(*ints(w, 3, -(2**20))) for w in axis] for axis in windows]
        pixels = [
            [[i for i in w if 0 <= i < n] for w in axis]
            for axis, n in zip(ranges, shape[1:], strict=True)
        ]
        need(all(w for axis in pixels for w in axis), "a window is empty")
        shared = math.prod(int(np.bincount(np.concatenate(axis)).max()) for axis in pixels)
        most = math.prod(max(map(len, axis)) for axis in pixels)
        need(kind == "l2" or divisor == 1, "maxima are not divided")

        def run(x: Array) -> Array:
            out = x if kind == "max" else x * x / divisor
            for axis, line in enumerate(pixels, start=2):
                reduce = np.max if kind == "max" else np.sum
                out = np.stack([reduce(out.take(w, axis), axis=axis) for w in line], axis=axis)
            return out if kind == "max" else np.sqrt(out)

        step = (
            None
            if kind == "max"
            else lambda size, grid: (gamma(most + 16) * size * lip + 2.0**-480, None)
        )
        lip = math.sqrt(shared / divisor) * (UP if shared != divisor else 1)
        return leaf((shape[0], *map(len, pixels)), lip, run, step)

    def _round(self, node: Node, shape: Shape) -> Op:
        """The identity, off by 2^-(g + 1) at most for each number, which is on the grid g then."""
        (bits,) = ints([node["bits"]], 1, 0)
        off = math.ldexp(math.sqrt(math.prod(shape)), -bits - 1) * UP

        def step(size: Array, grid: Grid) -> tuple[Array, Grid]:
            need(bits <= 500 and np.max(size) < 2.0**400, "rounding of numbers out of range")
            return (0 * size, grid) if grid is not None and grid <= bits else (off + 0 * size, bits)

        return leaf(shape, 1.0, lambda x: np.ldexp(np.rint(np.ldexp(x, bits)), -bits), step)


def chain(ops: list[Op], shape: Shape) -> Op:
    """One operation after another."""

    def run(x: Array) -> Array:
        for op in ops:
            x = op.run(x)
        return x

    def walk(size: Array, grid: Grid) -> tuple[Array, Array, Grid]:
        error = 0.0 * size
        for op in ops:
            size, own, grid = op.walk(size, grid)
            error = (op.lip * error + own) * UP
        return size, error, grid

    lip = math.prod(op.lip for op in ops) * (UP if len(ops) > 1 else 1)
    return Op(ops[-1].shape if ops else shape, lip, run, walk)


def coarsest(grids: Sequence[Grid]) -> Grid:
    known = [g for g in grids if g is not None]
    return max(known) if len(known) == len(grids) else None


def read(path: str) -> tuple[Node, dict[str, Array]]:
    """The arrays of a file, whose hashes are right, and what it says of them."""
    arrays: dict[str, Array] = {}
    with zipfile.ZipFile(path) as file:
        names = file.namelist()
        need(
            len(set(names)) == len(names) and all(n.endswith(".npy") for n in names),
            "names of members",
        )
        need(sum(each.file_size for each in file.infolist()) < 2**34, "it is too large")
        for name in names:
            stream = io.BytesIO(file.read(name))
            array = np.lib.format.read_array(stream, allow_pickle=False)
            need(
                not stream.read(1) and array.dtype.str in ("|u1", "<f4", "<f8", "<i8"),
                f"{name} is no array",
            )
            need(
                array.dtype.kind != "f" or np.isfinite(array),
                f"{name} holds numbers that are not finite",
            )
            arrays[name.removesuffix(".npy")] = array

    def unique(pairs: list[tuple[str, Any]]) -> Node:
        need(len(dict(pairs)) == len(pairs), "a key is doubled")
        return dict(pairs)

    def refuse(text: str) -> None:
        raise Doubt(f"{text} is no number")

    need("meta" in arrays and arrays["meta"].dtype == np.uint8, "there is no description")
    text = arrays.pop("meta").tobytes().decode()
    meta: Any = json.loads(text, object_pairs_hook=unique, parse_constant=refuse)
    need(type(meta) is dict and meta.get("format") == FORMAT, f"its format is not {FORMAT!r}")
    need(sorted(meta) == sorted(META.split()), f"the description has the keys {sorted(meta)}")
    for key in ("arrays", "weights", "versions"):
        table: Any = meta[key]
        texts = type(table) is dict and all(type(text) is str for text in table.values())
        need(texts, f"{key!r} is no table of texts")
    hashes: Any = meta["arrays"]
    need(hashes.keys() == arrays.keys(), "the hashes are not those of its arrays")
    for name, array in arrays.items():
        data = f"{array.dtype.str} {array.shape} ".encode() + array.tobytes()
        need(
            hashlib.sha256(data).hexdigest() == hashes[name],
            f"the hash of {name!r} is wrong",
        )
    return meta, arrays


@functools.cache
def check_products() -> None:
    """Refuses products of matrices that are not conventional, as far as a known result can tell."""
    for n in (64, 640):
        rows, columns = np.indices((n, n))
        fine = 1 + 2.0**-52 * ((7 * rows + 3 * columns) % 64)
        small = np.where((rows + columns) % 2, 0.0, (5 * rows + columns) % 7 - 3.0)
        scale = np.where(np.arange(n) < n // 2, 2.0**60, 1.0)
        small = np.where(scale[:, None] == scale, small, 0.0)
        exact = (small.astype(int) @ small.astype(int)).astype(float)
        need(
            np.array_equal(fine @ np.roll(np.eye(n), 1, axis=1), np.roll(fine, 1, axis=1)),
            "products",
        )
        scaled = (scale[:, None] * small) @ (small * scale)
        need(
            np.array_equal(scaled, scale[:, None] * exact * scale), "products are not conventional"
        )
        turned = (2.0**60 + 1j) * np.eye(n)
        need(np.array_equal((turned @ turned).imag, 2.0**61 * np.eye(n)), "complex products")
    need(np.full(8, 2.0**-1074) * 1.0 == 2.0**-1074, "subnormal numbers are flushed to zero")


def verify(path: str) -> str:
    """Proves all that a file claims.

    Returns:
        What was proved, in words.

    Raises:
        Doubt: If something is not proved.
    """
    check_products()
    meta, arrays = read(path)
    need(
        meta["statement"] == STATEMENT and meta["arithmetic"] == "float64",
        "the statement is another one",
    )
    need(meta["program"] in ("float64", "exact"), f"the program {meta['program']!r} is not known")
    shape, exact = ints(meta["shape"], None, 1), meta["program"] == "exact"
    prover, network = Prover(arrays), meta["network"]
    root = network.get("op") if type(network) is dict else None
    need(root == "sequential", f"a program that is {root!r} cannot be re-proved here")
    whole = prover.build(network, shape)
    (classes,) = ints([meta["classes"]], 1, 1)
    need(whole.shape == (classes,), f"{classes} classes, and outputs of shape {whole.shape}")
    need(whole.lip <= real(meta["lipschitz"]), "the Lipschitz bound is not proved")
    domain = np.array([real(meta["domain"])])
    need(
        whole.walk(domain, None)[1] <= real(meta["error"]),
        "the bound of rounding errors is not proved",
    )
    count, slack, radii = 0, 0.0, np.zeros(0)
    if "images" in prover.unused:
        images = prover.take("images", None, "|u1", "<f4", "<f8")
        count = len(images)
        need(images.shape == (count, *shape), f"images of shape {images.shape}")
        if images.dtype == np.uint8:
            need(meta["pixels"] in ("float32", "float64"), "pixels of no format")
            images = images.astype(meta["pixels"]) / np.dtype(meta["pixels"]).type(255)
        else:
            need(meta["pixels"] is None and (images >= 0) & (images <= 1), "pixels out of [0, 1]")
        labels, radii = (
            prover.take("labels", (count,), "<i8"),
            prover.take("radii", (count,), "<f8"),
        )
        logits = prover.take("logits", (count, classes), "<f8")
        need((labels >= 0) & (labels < classes), "a label is no class")
        need(
            (radii >= 0) & (radii <= math.sqrt(math.prod(shape))),
            "a radius is negative, or too large",
        )
        if network["children"] and network["children"][-1]["op"] == "linear":
            before, it = chain(prover.ops[:-1], shape), prover.map
        else:
            before, it = whole, None
        sizes = (
            norm(images := images.astype(np.float64), tuple(range(1, images.ndim))) + radii
        ) * UP
        size, error, grid = before.walk(sizes * UP, None)
        error = ((before.lip * U * sizes + error) * UP)[:, None]
        gaps, rows, own = (
            ROOT2 * (1 - np.eye(classes)),
            np.ones(classes),
            np.zeros((count, classes)),
        )
        if it is not None:
            gaps = norm(it.weight[:, None] - it.weight, (2,)) * UP * (1 - np.eye(classes))
            rows = norm(it.weight, (1,))
            step = products(it.weight, it.bias, it.forth[0], rows, np.abs(it.bias), rows.max())
            error_of_rows, grid = step(size[:, None], grid)
            own = own + error_of_rows
        need(not exact or grid is not None, "its sums are not exact")
        part = max(1, 2**15 // math.prod(shape))
        mine = np.concatenate([whole.run(images[i : i + part]) for i in range(0, count, part)])
        off = np.zeros((1, 1)) if exact else 2 * (rows * error + own) * UP
        need(np.abs(mine - logits) <= off, "the logits are not those of the program")
        margins, index = logits[np.arange(count), labels][:, None] - logits, np.arange(count)
        lost = 2 * (gaps[labels] * error + own + own[index, labels][:, None]) * UP
        slopes = np.minimum(gaps * before.lip, ROOT2 * whole.lip)[labels] * UP
        others, reach = np.arange(classes) != labels[:, None], radii[:, None] * slopes
        fine = (reach + lost) * UP <= margins * (1 - 4 * U)
        need(fine | ~others | (radii == 0)[:, None], "a radius is not proved")
        slack = float(
            np.where(others, (margins - lost - reach) / np.maximum(slopes, TINY), np.inf)
            .min(axis=1)[radii > 0]
            .max(initial=0.0)
        )
    need(not prover.unused, f"arrays without a use: {sorted(prover.unused)}")
    sums = (
        "whose sums are exact, hence the same to the bit in any order"
        if exact
        else "sums in any order"
    )
    return (
        f"{path}: all that it claims is proved.\n  Program: float64, {sums}; {len(arrays)} arrays.\n"
        f"  Lipschitz bound proved here: {whole.lip:.9g}; rounding: {float(whole.walk(domain, None)[1].max()):.3g}.\n"
        f"  Images: {count}, of which {int(np.sum(radii > 0))} with a radius; at the most "
        f"{slack:.3g} less than what is proved here."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if all is proved, else 1, with the first doubt."""
    given = sys.argv[1:] if arguments is None else arguments
    if len(given) != 1:
        print("usage: python -m lipnets.verify FILE", file=sys.stderr)  # noqa: T201
        return 2
    try:
        with np.errstate(
            all="ignore"
        ):  # what is not finite is no proof: comparisons with it are false
            print(verify(given[0]))  # noqa: T201
    except Exception as error:  # noqa: BLE001 - whatever is wrong, nothing is proved
        doubt = str(error) if isinstance(error, Doubt) else f"{type(error).__name__}: {error}"
        print(f"{given[0]}: NOT proved: {doubt}.", file=sys.stderr)  # noqa: T201
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
