"""Checks a certificate file of lipnets with numpy and the standard library alone: a second opinion.

`python -m lipnets.verify FILE`; the format is in docs/certificate-file.md.  Nothing in the file is believed:
norms, rounding errors, logits and radii are proved from its weights.  With u = 2⁻⁵³ and γₖ = ku / (1 − ku):

1. A sum of k products is off by γₖ Σ|a||b| at most, in any order, fused or not, by conventional products.
2. λ_max(H) ≤ c + ‖H + LLᵀ − cI‖ for any L, as LLᵀ ≥ 0.  A Cholesky factor L of cI − H makes it tight.
3. A convolution with taps K_t in a circle of pixels has the norm max ‖S(θ)‖ over the frequencies θ of that
   circle, with the symbol S(θ) = Σ K_t e^{iθt}.  Zeros around an image are part of a larger circle.
4. ‖F(X) − f(x)‖ ≤ e + L ‖X − x‖ if f has the constant L and its program F rounds by e.
5. The margin f_y − f_j of f = Wh + b changes by ‖w_y − w_j‖ L r at most within r, if h has the constant L.
"""

__all__ = ["Doubt", "main", "verify"]

import functools
import hashlib
import json
import math
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

FORMAT = "lipnets certificate 4"
STATEMENT = (
    "For each image x of this file that has a radius r > 0, and all arrays of real numbers within the "
    "l2 distance r of x: the program of this file, run in float64 on such an array rounded to float64, its "
    "products summed in any order, gives no other class a larger logit than the label of x."
)
FIXED = {"format": FORMAT, "statement": STATEMENT, "arithmetic": "float64"}
META = "program shape classes lipschitz domain error network arrays weights versions"
OPERATIONS = ("conv", "block", "branches", "pieces", "gather", "sort", "norm", "round")
DATA = {"images", "labels", "radii", "logits"}
U, TINY = 2.0**-53, 2.0**-480  # the second is more than the roots of all that underflows
UP = 1 + 2.0**-40  # more than the roundings of 4,000 sums, products and roots of positive numbers
INF = math.inf
Array = np.ndarray
Shape = tuple[int, ...]


class Doubt(Exception):  # noqa: N818 - what keeps this checker from a yes
    """Something in a certificate file that is not proved."""


def need(truth: Any, doubt: str) -> None:
    """Raises a doubt unless all is true; comparisons with nan are not."""
    if not np.all(truth):
        raise Doubt(doubt)


def number(value: Any, kind: type = float, low: int = 0) -> Any:
    need(type(value) is kind and low <= value < 2**100, f"{value!r} is no {kind} >= {low}")
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


def norm_below(taps: Array, points: Shape, lip: float) -> bool:
    """Proves ‖W‖ ≤ lip for real taps (G, O, I, *K) in circles of so many points: theorem 3, one of ±θ."""
    need(len(points) <= 4, "there are too many axes")
    taps = taps if taps.shape[1] <= taps.shape[2] else taps.swapaxes(1, 2)
    scale = 2.0 ** -math.frexp(np.abs(taps).max())[1]
    flat = np.moveaxis(taps.reshape(*taps.shape[:3], -1), 3, 0) * scale  # (K, G, O, I)
    points = tuple(n if k > 1 else 1 for n, k in zip(points, taps.shape[3:], strict=True))
    frequencies = [j for j in np.ndindex(points) if j <= tuple(-np.array(j, int) % points)]
    waves = np.ones((len(frequencies), len(flat)))
    places = np.array([*np.ndindex(taps.shape[3:])]).T
    for n, j, t in zip(points, np.transpose(frequencies), places, strict=True):
        waves = waves * roots(n)[np.outer(j, t) % n] if n > 1 else waves
    size, ins = float(norm(np.abs(flat).sum(axis=0), (1, 2)).max()) ** 2 * UP, flat.shape[3]
    error = size * (4 * gamma(ins + len(flat)) + 1024 * U if len(flat) > 1 else gamma(ins))
    parts = np.array_split(waves, -(-len(waves) * flat[0].size // 2**22))
    symbols = (np.tensordot(part, flat, 1) for part in parts)
    level = (lip * scale) ** 2 * (1 - 64 * U)
    proofs = (below(s @ s.conj().swapaxes(-1, -2), level, error) for s in symbols)
    return not taps.any() or all(proofs)


@functools.cache
def roots(n: int) -> Array:
    """All e^{2πij/n}, within 64u: what multiplies as they do, within 32u, is that close to roots of unity
    (Hyers); and the second is the first on the way around if half of them are above the real axis.
    """
    need(n < 4096, "the circle is too large")
    j = np.arange(n)
    table = np.exp(2j * np.pi * ((j + n // 2) % n - n // 2) / n)
    around = np.all(np.imag(table[1 : (n + 1) // 2]) * n > 1) and (n == 1 or table[n // 2].real < 0)
    off = np.abs(np.outer(table, table) - table[(j[:, None] + j) % n])
    need(around and np.all(off < 32 * U), "these are no roots of unity")
    return table


class State(NamedTuple):
    """What a part of a program computes of B inputs, and what is known of it for all inputs around them."""

    x: Array  # what is computed, with shape (*S, B)
    size: Array  # bounds of its norms, with shape (B,)
    error: Array  # bounds of its distances from what real numbers would give, with shape (B,)
    grid: float  # g, if all its numbers are multiples of 2⁻ᵍ; infinite once a sum was rounded
    zero: float = 0.0  # a bound of the norm of what the part gives for 0, but for errors
    lip: float = 1.0  # a Lipschitz constant of the part
    unit: bool = True  # whether it is a function of each entry alone, of slopes in [0, 1]

    def after(self, x: Array, lip: float, own: Any, zero: float, grid: float) -> "State":
        """What comes of a function with ‖f(0)‖ ≤ zero that rounds by `own`: theorem 4."""
        size, error = (lip * self.size + zero + own) * UP, (lip * self.error + own) * UP
        at_zero = (lip * self.zero + zero) * UP
        return State(x, size, error, grid, at_zero, self.lip * lip * UP, unit=False)

    def start(self, x: Array) -> "State":
        """The input of a part: these numbers, or others bounded alike, as if they had no errors."""
        return State(x, self.size, 0 * self.error, self.grid)


def sums(top: Any, grid: float, error: Any) -> tuple[Any, float]:
    """What sums below `top` round: nothing where they are multiples of 2⁻ᵍ that float64 holds."""
    exact = grid < 900 and np.max(top) * UP < 2.0 ** (53 - grid)
    return (0.0, grid) if exact else (error * UP + TINY, INF)


def finest(array: Array) -> int:
    """The smallest t ≥ 0 such that all numbers are multiples of 2⁻ᵗ."""
    mantissa, exponent = np.frexp(array[array != 0])
    bits = np.ldexp(mantissa, 53).astype(np.int64)
    return int((54 - exponent - np.frexp(bits & -bits)[1]).max(initial=0))


def linear(s: State, lip: float, taps: Array, bias: Array, way: int = 1) -> State:
    """Wx + b in a circle of pixels, with taps around each; transposed taps and `way` = −1 give Wᵀx."""
    points, matrix = s.x.shape[1:-1], taps.reshape(*taps.shape[:2], -1)
    pixels = np.zeros((1, 1), int)  # which each tap reads for each output
    for n, k in zip(points, taps.shape[3:], strict=True):
        line = (np.arange(n) + way * (np.arange(k)[:, None] - (k - 1) // 2)) % n
        pixels = (pixels[:, None, :, None] * n + line[:, None]).reshape(len(pixels) * k, -1)
    read = s.x.reshape(len(s.x), -1, s.x.shape[-1]).take(pixels, axis=1)
    out = matrix @ read.reshape(len(matrix), matrix.shape[2], -1)
    x = out.reshape(len(bias), *s.x.shape[1:]) + bias.reshape(-1, *[1] * len(s.x.shape[1:]))
    offset = float(norm(bias, (0,))) * math.sqrt(math.prod(points)) * UP
    moduli = np.abs(taps).reshape(*taps.shape[:3], -1).sum(axis=3)  # Schur bounds their norm:
    schur = math.sqrt(moduli.sum(axis=1).max() * moduli.sum(axis=2).max()) * UP**2
    twice = math.prod(-(-k // n) for n, k in zip(points, taps.shape[3:], strict=True))
    top = float(norm(matrix, (2,)).max()) * s.size * math.sqrt(twice) * UP + np.abs(bias).max()
    grid = max(s.grid + finest(taps), finest(bias)) if s.grid < 900 else INF
    own, grid = sums(top, grid, gamma(matrix.shape[2] + 1) * (schur * s.size + offset))
    return s.after(x, lip, own, offset, grid)


class Program:
    """Runs the program of a file, and proves each bound in it."""

    def __init__(self, network: list[Any], arrays: dict[str, Array]) -> None:
        self.network, self.arrays, self.unused = network, arrays, set(arrays)
        self.proved: set[tuple[Any, ...]] = set()

    def __call__(self, x: Array, size: Array, error: Array) -> tuple[State, State]:
        """What is computed before the last operation, and what that one makes of it alone."""
        self.unused = set(self.arrays)
        before = self.chain(State(x, size, error, 1074), self.network[:-1])
        end = self.operation(before.start(before.x), **self.network[-1])
        need(self.unused == DATA, f"arrays without a use: {sorted(self.unused - DATA)}")
        return before, end

    def take(self, name: str, shape: Shape | None = None, kinds: str = "<f4 <f8") -> Array:
        """An array, which is used once, in float64 or as the integers it is of."""
        need(name in self.unused, f"{name!r} is not there, or used twice")
        self.unused.discard(name)
        array = self.arrays[name]
        need(array.dtype.str in kinds.split(), f"{name!r} holds {array.dtype}")
        need(shape in (None, array.shape), f"{name!r} has the shape {array.shape}, not {shape}")
        return array if kinds == "<i8" else array.astype(np.float64)

    def chain(self, s: State, nodes: Any) -> State:
        need(type(nodes) is list, "a program is a list of operations")
        return functools.reduce(lambda s, node: self.operation(s, **node), nodes, s)

    def operation(self, s: State, op: Any, lip: Any, rule: Any, **fields: Any) -> State:
        """An operation, whose bound `lip` is proved; each has a method of its name, with its fields."""
        need(op in OPERATIONS, f"the operation {op!r} cannot be re-proved here")
        end = getattr(self, f"_{op}")(s._replace(lip=1.0), number(lip), **fields)
        need(end.lip <= lip * UP, f"a bound of {op!r} is {end.lip}, no less")
        need(type(rule) is str and end.x.size > 0, f"{op!r} gives nothing, or has no rule")
        need(end.x.ndim > 1 and end.x.shape[-1] == s.x.shape[-1], f"{op!r} mixes the images")
        need(end.size < 2.0**400, f"numbers may be out of range after {op!r}")
        total = s.lip * end.lip * UP
        need(total > TINY or 0 in (s.lip, end.lip), "a bound underflows")
        return end._replace(lip=total)

    def _conv(self, s: State, lip: float, weight: str, bias: str) -> State:
        taps, points = self.take(weight), s.x.shape[1:-1]
        fits = taps.ndim == s.x.ndim + 1 and taps.shape[0] * taps.shape[2] == len(s.x)
        need(fits, f"a weight of shape {taps.shape} for {s.x.shape[:-1]}")
        if (weight, points, lip) not in self.proved:
            need(norm_below(taps, points, lip), f"the norm {lip} is not proved")
            self.proved.add((weight, points, lip))
        return linear(s, lip, taps, self.take(bias, (taps.shape[0] * taps.shape[1],)))

    def _block(self, s: State, lip: float, inner: Any, activation: Any, outputs: Any) -> State:
        """Two blocks around σ of slopes in [0, 1], hence of differences with a diagonal D, 0 ≤ D ≤ I.

        Without `outputs`, x − Wᵀσ(Wx + b): I − WᵀDW is within max(1, ‖W‖² − 1).  With as many,
        Aᵀσ(Bx + b) for W = [A, B]: within ‖W‖² / 2, as vᵀAᵀDBw ≤ ‖Av + Bw‖² / 4.
        """
        need(inner["op"] == "conv", "a block should be around a linear map")
        wide = np.concatenate([np.zeros((number(outputs, int), *s.x.shape[1:])), s.x])
        hidden = self.operation(s.start(wide), **inner)._replace(unit=True)
        middle = self.chain(hidden, activation)
        need(middle.unit, "slopes in a block should be in [0, 1]")
        turned = self.arrays[inner["weight"]].astype(np.float64).swapaxes(1, 2)
        end = linear(middle, inner["lip"], turned, np.zeros(len(wide)), -1)
        square = inner["lip"] ** 2 * UP
        if outputs:
            return s.after(end.x[:outputs], square / 2, end.error, end.zero, end.grid)
        top = s.size + end.size
        own, grid = sums(top, max(s.grid, end.grid), 2 * U * top)
        return s.after(s.x - end.x, max(1.0, square - 1), end.error + own, end.zero, grid)

    def _branches(self, s: State, lip: float, join: Any, branches: Any) -> State:
        """Two that are added, or some side by side, of one input or each of its group of channels."""
        xs, added = [s.x] * len(branches), join == "sum"
        if join not in ("sum", "stack"):
            need(sum(number(n, int, 1) for n in join) == len(s.x), f"groups of {join} channels")
            xs = np.split(s.x, np.cumsum(join)[:-1])
        ends = [self.chain(s.start(x), nodes) for x, nodes in zip(xs, branches, strict=True)]
        fit = len({end.x.shape[0 if added else 1 :] for end in ends}) == 1
        need(fit and (len(ends) == 2 or not added), "branches that do not fit")
        total = (lambda a: np.sum(a, axis=0)) if added else (lambda a: norm(np.array(a), (0,)))
        lips, zero = [end.lip for end in ends], total([end.zero for end in ends]) * UP
        bound = float(total(lips) * UP if join in ("sum", "stack") else max(lips))
        size, error = total([end.size for end in ends]), total([end.error for end in ends])
        grid = max(end.grid for end in ends)
        if not added:
            return s.after(np.concatenate([end.x for end in ends]), bound, error, zero, grid)
        own, grid = sums(size, grid, 2 * U * size)
        return s.after(ends[0].x + ends[1].x, bound, error + own, zero, grid)

    def _pieces(self, s: State, lip: float, knots: Any, slopes: Any, first: Any) -> State:
        """Lines between knots, of each channel or of all, from a value at the first knot on."""
        knots, slopes, first = self.take(knots), self.take(slopes), self.take(first)
        (channels, count), x = knots.shape, s.x.reshape(len(s.x), -1)
        need(channels in (1, len(x)) and slopes.shape == (channels, count + 1), "lines or knots")
        need(first.shape == (channels,) and np.diff(knots) >= 0, "knots should not decrease")
        rises = np.cumsum(slopes[:, 1:-1] * np.diff(knots), axis=1)
        values = np.concatenate([first[:, None], first[:, None] + rises], axis=1)
        out = values[:, :1] + slopes[:, :1] * (x - knots[:, :1])
        for t, v, a in zip(knots.T, values.T, slopes.T[1:], strict=True):
            out = np.where(x > t[:, None], v[:, None] + a[:, None] * (x - t[:, None]), out)
        steepest = float(np.abs(slopes).max())
        far = float(3 * steepest * np.abs(knots).max() + np.abs(first).max())
        most, top = far * math.sqrt(s.x[..., 0].size) * UP, 2 * (steepest * s.size + far)
        grid = max(max(s.grid, finest(knots)) + finest(slopes), finest(first))
        own, grid = sums(top, grid, gamma(count + 8) * (steepest * s.size + most))
        if far == 0 and np.isin(slopes, (-1, 0, 1)).all():
            own, grid = 0.0, s.grid
        unit = s.unit and np.all((slopes >= 0) & (slopes <= 1))
        return s.after(out.reshape(s.x.shape), steepest, own, most, grid)._replace(unit=unit)

    def _gather(self, s: State, lip: float, index: str, shape: Any) -> State:
        """Coordinates, or −1 for a zero: a function of each entry alone, if they stay in place."""
        out, count = tuple(number(n, int, 1) for n in shape), s.x[..., 0].size
        picked = self.take(index, (math.prod(out),), "<i8")
        need((picked >= -1) & (picked < count), "an index is out of range")
        times = int(np.bincount(picked[picked >= 0], minlength=1).max())
        padded = np.concatenate([s.x.reshape(count, -1), np.zeros((1, s.x.shape[-1]))])
        there = s.after(padded[picked].reshape(*out, -1), math.sqrt(times) * UP, 0.0, 0.0, s.grid)
        stays = out == s.x.shape[:-1] and np.all((picked < 0) | (picked == np.arange(count)))
        return there._replace(unit=s.unit and stays)

    def _sort(self, s: State, lip: float, size: Any) -> State:
        need(len(s.x) % number(size, int, 1) == 0, f"groups of {size} among {len(s.x)} channels")
        x = -np.sort(-s.x.reshape(-1, size, *s.x.shape[1:]), axis=1)  # the largest first
        return s.after(x.reshape(s.x.shape), 1.0, 0.0, 0.0, s.grid)

    def _norm(self, s: State, lip: float, size: Any) -> State:
        need(len(s.x) % number(size, int, 1) == 0, f"groups of {size} among {len(s.x)} channels")
        x = np.sqrt((s.x.reshape(-1, size, *s.x.shape[1:]) ** 2).sum(axis=1))
        return s.after(x, 1.0, gamma(size + 16) * s.size + TINY, 0.0, INF)

    def _round(self, s: State, lip: float, bits: Any) -> State:
        """The identity, off by 2⁻⁽ᵍ⁺¹⁾ at most for each number, which is on the grid g then."""
        need(number(bits, int) <= 500, "too many binary places")
        x = np.ldexp(np.rint(np.ldexp(s.x, bits)), -bits)
        off = 0.0 if s.grid <= bits else math.ldexp(math.sqrt(s.x[..., 0].size), -bits - 1) * UP
        grid = bits if bits < s.grid < INF else s.grid
        return s.after(x, 1.0, off, 0.0, grid)._replace(unit=s.unit)


def read(path: str) -> tuple[dict[str, Any], dict[str, Array]]:
    """What a file says, and its arrays, whose hashes are right."""
    with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
        size, once = sum(f.file_size for f in file.zip.infolist()), len({*file.files})
        need(size < 2**34 and once == len(file.files), "too large, or an array is there twice")
        arrays = {name: file[name] for name in file.files}
    for name, array in arrays.items():
        known = array.dtype.str in ("|u1", "<f4", "<f8", "<i8")
        need(known and np.abs(array) < 2.0**100, f"{name} holds numbers out of range, or none")
    text = arrays.pop("meta").tobytes().decode()
    meta = json.loads(text)
    need(json.dumps(meta) == text, "its description is not written as Python does")
    need(sorted(meta) == sorted([*FIXED, *META.split()]), f"its description has the keys {[*meta]}")
    need([meta[key] for key in FIXED] == [*FIXED.values()], "its format or statement is another")
    need({type(v) for k in ("weights", "versions") for v in meta[k].values()} <= {str}, "no texts")
    data = {k: f"{a.dtype.str} {a.shape} ".encode() + a.tobytes() for k, a in arrays.items()}
    hashes = {key: hashlib.sha256(each).hexdigest() for key, each in data.items()}
    need(hashes == meta["arrays"], "the hashes are not those of its arrays")
    return meta, arrays


@functools.cache
def check_products() -> None:
    """Refuses products that are not conventional, as far as known results tell: these need all bits."""
    for n in (64, 640):
        (rows, columns), turn = np.indices((n, n)), np.roll(np.eye(n), 1, axis=1)
        fine = (1 + 2.0**-52 * ((7 * rows + 3 * columns) % 64)) * 2.0 ** (rows * columns % 61)
        for given in (fine, fine + 1j * fine.T[::-1]):
            need(given @ turn == np.roll(given, 1, axis=1), "products are not exact")
    need(np.full(8, 2.0**-1074) * 1.0 == 2.0**-1074, "subnormal numbers are flushed to zero")


def verify(path: str) -> str:
    """Proves all that a file claims, and says what that is; raises a `Doubt` of what is not proved."""
    check_products()
    meta, arrays = read(path)
    network, shape = meta["network"], tuple(number(n, int, 1) for n in meta["shape"])
    need(type(network) is list, f"no program to be re-proved here: {str(network)[:300]!r}")
    classes, domain = number(meta["classes"], int, 1), np.array([number(meta["domain"])])
    program, exact = Program(network, arrays), {"float64": False, "exact": True}[meta["program"]]
    images, count = program.take("images"), len(arrays["images"])
    labels, radii = program.take("labels", (count,), "<i8"), program.take("radii", (count,), "<f8")
    logits = program.take("logits", (count, classes), "<f8")
    need(images.shape[1:] == shape and (images >= 0) & (images <= 1), "images out of [0, 1]")
    need((labels >= 0) & (labels < classes) & (radii >= 0), "a label is no class, or a radius < 0")
    need(domain >= math.sqrt(math.prod(shape)), "the domain is smaller than that of images")
    before, head = program(np.zeros((*shape, 1)), domain, 0 * domain)
    need(not exact or head.grid < INF, "its sums are not exact")
    lip, error = before.lip * head.lip * UP, np.max(head.lip * before.error + head.error) * UP
    need(lip <= number(meta["lipschitz"]), f"the Lipschitz bound {lip} is no less")
    need(error <= number(meta["error"]), f"the bound of rounding {error} is no less")
    weight = arrays[network[-1]["weight"]].astype(np.float64)
    need(len(weight) == 1 and head.x.shape == (classes, 1), "no matrix gives the logits")
    gaps = np.stack([norm(weight[0] - row, (1,)) for row in weight[0]]) * UP
    step = 2**15 // math.prod(shape) + 1
    for i in range(0, count, step):
        x, y, r, z = (each[i : i + step] for each in (images, labels, radii, logits))
        size = (norm(x, tuple(range(1, x.ndim))) + r) * UP**2
        s, end = program(np.moveaxis(x, 0, -1), size, U * size)
        need(not exact or end.grid < INF, "its sums are not exact")
        off = 0.0 if exact else 2 * (end.lip * s.error + end.error) * UP
        need(np.abs(end.x - z.T) <= off, "the logits are not those of the program")
        margins = end.x[y, np.arange(len(y))] - end.x  # here and within r, errors of two logits:
        far = (gaps[:, y] * (s.lip * r + 2 * s.error) + 3 * end.error) * UP**2
        fine = (far <= margins * (1 - 4 * U)) | (r == 0) | (np.arange(classes)[:, None] == y)
        need(fine, "a radius is not proved")
    order = "exact, hence the same to the bit in any order" if exact else "rounded, in any order"
    return (
        f"{path}: all that it claims is proved.\n  Program: float64, its sums {order}.\n"
        f"  Lipschitz bound proved here: {lip:.9g}; rounding: {error:.3g}.\n"
        f"  Images: {count}, of which {np.sum(radii > 0)} with a radius."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command: 0 if all is proved, else 1, with the first doubt."""
    if len(given := sys.argv[1:] if arguments is None else arguments) != 1:
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
