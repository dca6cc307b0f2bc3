"""Checks a certificate file of lipnets with numpy and the standard library alone: a second opinion.

`python -m lipnets.verify FILE`; the format is in docs/certificate-file.md.  Nothing in the file is believed:
norms, rounding errors, logits and radii are proved from its weights.  With u = 2⁻⁵³ and γₖ = ku / (1 − ku):

1. A sum of k products is off by γₖ Σ|a||b| at most, in any order, fused or not, by conventional products.
2. λ_max(H) ≤ c + ‖H + LLᵀ − cI‖ for any L, as LLᵀ ≥ 0.  A Cholesky factor L of cI − H makes it tight.
3. A convolution with taps K_t in a circle of pixels has the norm max ‖S(θ)‖ over the frequencies θ of that
   circle, with the symbol S(θ) = Σ K_t e^{iθt}.  Zeros around an image are part of a larger circle.
4. ‖F(X) − f(x)‖ ≤ e + L ‖X − x‖ if f has the constant L and its program F rounds by e.
5. The margin f_y − f_j of f = Wh + b changes by ‖w_y − w_j‖ L r at most within r, if h has the constant L.
6. Smooth functions and attention rest on an assumption, R3 of lipnets, which is printed if it was needed.
"""

__all__ = ["Doubt", "main", "verify"]

import functools
import hashlib
import json
import math
import sys
from typing import Any, NamedTuple

import numpy as np

R3 = "exp, expm1, log1p, tanh and erf within 16 units in the last place"
STATEMENT = (
    "For each image x of this file that has a radius r > 0, and all arrays of real numbers within the "
    "l2 distance r of x: the program of this file, run in float64 on such an array rounded to float64, its "
    f"products summed in any order, its {R3}, gives no other class a larger logit than the label of x."
)
FIXED = {"format": "lipnets certificate 5", "statement": STATEMENT, "arithmetic": "float64"}
META = "program shape classes lipschitz domain error network arrays weights versions"
OPERATIONS = "conv block branches pieces smooth gather groups attention round"
DATA = {"images", "labels", "radii", "logits"}
U, TINY, INF = 2.0**-53, 2.0**-480, math.inf  # the second is more than roots of what underflows
UP = 1 + 2.0**-40  # more than the roundings of 4,000 sums, products and roots of positive numbers
Array = np.ndarray
# Functions f with slopes in [1 − a, a]: the number a, and r and e of |F(x) − f(x)| ≤ (r|x| + e)u, ulps being 2u at
# most.  Slopes are 1 − tanh², tanh², (1 + |x|)⁻², 1 − σ, and eˣ or 1; of silu σ + xσ(1 − σ), with its ends where
# x tanh(x / 2) = 2; of gelu Φ + xφ, with its ends at ±√2; and those of the last are its Taylor sums.
ERF, C = np.vectorize(math.erf, otypes=[float]), math.sqrt(2 / math.pi)
SMOOTH: dict[str, tuple[Any, float, int, int]] = {
    "tanh": (np.tanh, 1.0, 32, 0),
    "tanhshrink": (lambda x: x - np.tanh(x), 1.0, 33, 0),
    "softsign": (lambda x: x / (1 + np.abs(x)), 1.0, 2, 0),
    "logsigmoid": (lambda x: np.minimum(x, 0) - np.log1p(np.exp(-np.abs(x))), 1.0, 1, 51),
    "elu": (lambda x: np.where(x > 0, x, np.expm1(np.minimum(x, 0))), 1.0, 0, 35),
    "silu": (lambda x: x / (1 + np.exp(-x)), 1.0998394, 35, 0),
    "gelu": (lambda x: x * (1 + ERF(x * math.sqrt(0.5))) / 2, 1.1289042, 23, 0),
    "gelu_tanh": (lambda x: x * (1 + np.tanh(C * x * (1 + 0.044715 * x * x))) / 2, 1.128994, 23, 0),
}


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


def norm(array: Array, axes: tuple) -> Any:
    """Norms over some axes, rounded upwards."""
    count = math.prod(array.shape[axis] for axis in axes)
    return np.sqrt((np.abs(array) ** 2).sum(axis=axes)) * (1 + (count + 16) * U) + TINY


def prove_norm(taps: Array, points: tuple, lip: float) -> None:
    """Proves ‖W‖ ≤ lip for real taps (G, O, I, *K) in circles of so many points: theorems 2 and 3."""
    if not taps.any():
        return
    taps = (taps if taps.shape[1] <= taps.shape[2] else taps.swapaxes(1, 2)).astype(np.float64)
    scale = 2.0 ** -math.frexp(np.abs(taps).max())[1]
    flat = np.moveaxis(taps.reshape(*taps.shape[:3], -1), 3, 0) * scale  # (K, G, O, I)
    turns = [(n, k) for n, k in zip(points, taps.shape[3:], strict=True) if k > 1]
    tables = [roots(n)[np.outer(range(n), range(k)) % n] for n, k in turns]
    tables[:1] = [table[: len(table) // 2 + 1] for table in tables[:1]]  # of −θ and θ, one
    waves = functools.reduce(np.kron, tables, np.ones((1, 1)))  # (F, K), of four roots each at most
    size, ins = float(norm(np.abs(flat).sum(axis=0), (1, 2)).max()) ** 2 * UP, flat.shape[3]
    error = size * (4 * gamma(ins + len(flat)) + 1024 * U if len(flat) > 1 else gamma(ins))
    level, one = (lip * scale) ** 2 * (1 - 64 * U), np.eye(flat.shape[2])
    center = (level - error) * (1 - 2.0**-27)
    for part in np.array_split(waves, -(-len(waves) * flat[0].size // 2**22)):
        symbols = np.tensordot(part, flat, 1)
        grams = symbols @ symbols.conj().swapaxes(-1, -2)
        factor = np.tril(np.linalg.cholesky(center * one - grams))  # raises, if there is none
        rest = norm(grams + factor @ factor.conj().swapaxes(-1, -2) - center * one, (-2, -1))
        own = 1.5 * gamma(2 * len(one)) * norm(factor, (-2, -1)) ** 2 + 8 * U * (center + rest)
        fine = (center > 0) & ((center + rest + own + error) * UP <= level)
        need(fine, f"the norm {lip} is not proved")


@functools.cache
def roots(n: int) -> Array:
    """All e^{2πij/n}, within 64u: what multiplies as they do, within 32u, is so near roots of unity (Hyers)."""
    need(n < 4096, "the circle is too large")
    j = np.arange(n)
    table = np.exp(2j * np.pi * ((j + n // 2) % n - n // 2) / n)
    # The second of them is the first on the way around, if half of them are above the real axis.
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

    def after(
        self, x: Array, lip: Any, own: Any = 0, zero: Any = 0, grid: Any = INF, *sums: Any
    ) -> "State":
        """What comes of a function with ‖f(0)‖ ≤ zero that is off by `own`, and by its sums: theorem 4."""
        top, off = sums or (0, 0)  # what sums are below, and off by if they are not exact:
        if not np.max(top) * UP < 2.0 ** (53 - grid):  # multiples of 2⁻ᵍ that float64 holds
            own, grid = own + off * UP + TINY, INF
        size, error = (lip * self.size + zero + own) * UP, (lip * self.error + own) * UP
        at_zero = (lip * self.zero + zero) * UP
        return State(x, size, error, grid, at_zero, self.lip * lip * UP, unit=False)


def finest(array: Array) -> int:
    """The smallest t ≥ 0 such that all numbers are multiples of 2⁻ᵗ."""
    mantissa, exponent = np.frexp(array[array != 0])
    bits = np.ldexp(mantissa, 53).astype(np.int64)
    return int((54 - exponent - np.frexp(bits & -bits)[1]).max(initial=0))


def linear(s: State, lip: float, taps: Array, bias: Array, way: int = 1) -> State:
    """Wx + b in a circle of pixels, with taps around each; transposed taps and `way` = −1 give Wᵀx."""
    points, matrix = s.x.shape[1:-1], taps.reshape(*taps.shape[:2], -1)
    axes, middle = tuple(range(1, s.x.ndim - 1)), (np.array(taps.shape[3:], int) - 1) // 2
    moves = [tuple(way * (middle - tap)) for tap in np.ndindex(taps.shape[3:])]
    read = np.stack([np.roll(s.x, move, axes) for move in moves], axis=1)  # (C, K, *pixels, B)
    out = matrix @ read.reshape(len(matrix), matrix.shape[2], -1)
    x = out.reshape(len(bias), *s.x.shape[1:]) + bias.reshape(-1, *[1] * len(s.x.shape[1:]))
    offset = float(norm(bias, (0,))) * math.sqrt(math.prod(points)) * UP
    moduli = np.abs(taps).reshape(*taps.shape[:3], -1).sum(axis=3)  # Schur bounds their norm:
    schur = math.sqrt(moduli.sum(axis=1).max() * moduli.sum(axis=2).max()) * UP**2
    twice = math.prod(-(-k // n) for n, k in zip(points, taps.shape[3:], strict=True))
    top = float(norm(matrix, (2,)).max()) * s.size * math.sqrt(twice) * UP + np.abs(bias).max()
    grid, off = max(s.grid + finest(taps), finest(bias)), schur * s.size + offset
    return s.after(x, lip, 0, offset, grid, top, gamma(matrix.shape[2] + 1) * off)


class Program:
    """The program of a file, whose hashes are right: runs it, and proves each bound in it."""

    def __init__(self, path: str) -> None:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            size, once = sum(f.file_size for f in file.zip.infolist()), len({*file.files})
            need(size < 2**34 and once == len(file.files), "too large, or an array is there twice")
            arrays = {name: file[name] for name in file.files}
        need({a.dtype.str for a in arrays.values()} <= {"|u1", "<f4", "<f8", "<i8"}, "no numbers")
        need([np.all(np.abs(a) < 2.0**100) for a in arrays.values()], "numbers are out of range")
        meta = json.loads(text := arrays.pop("meta").tobytes().decode())
        need(json.dumps(meta) == text, "its description is not written as Python does")
        need(sorted(meta) == sorted([*FIXED, *META.split()]), f"its keys are {[*meta]}")
        need(meta | FIXED == meta, "its format or statement is another")
        texts = {**meta["weights"], **meta["versions"]}.values()
        need({type(each) for each in texts} <= {str}, "its hashes or versions are no texts")
        data = {k: f"{a.dtype.str} {a.shape} ".encode() + a.tobytes() for k, a in arrays.items()}
        hashes = {key: hashlib.sha256(each).hexdigest() for key, each in data.items()}
        need(hashes == meta["arrays"], "the hashes are not those of its arrays")
        self.meta, self.arrays, self.unused, self.assumed = meta, arrays, set(arrays), False
        self.exact = {"float64": False, "exact": True}[meta["program"]]
        self.prove = functools.cache(lambda name, *of: prove_norm(arrays[name], *of))

    def __call__(self, x: Array, size: Array, error: Array) -> tuple[State, State]:
        """What is computed before the last operation, and what that one makes of it alone."""
        self.unused = set(self.arrays)
        before = self.chain(State(x, size, error, 1074), self.meta["network"][:-1])
        end = self.operation(before._replace(error=0 * error, lip=1.0), **self.meta["network"][-1])
        need(end.grid < INF or not self.exact, "its sums are not exact")
        need(self.unused == DATA, f"arrays without a use: {sorted(self.unused - DATA)}")
        return before, end

    def take(self, name: str, shape: tuple | None = None, kinds: str = "<f4 <f8") -> Array:
        """An array, which is used once, in float64 or as the integers it is of."""
        need(name in self.unused, f"{name!r} is not there, or used twice")
        self.unused.discard(name)
        array = self.arrays[name]
        need(array.dtype.str in kinds.split(), f"{name!r} holds {array.dtype}")
        need(shape in (None, array.shape), f"{name!r} has the shape {array.shape}, not {shape}")
        return array if kinds == "<i8" else array.astype(np.float64)

    def chain(self, s: State, nodes: Any) -> State:
        need(type(nodes) is list, f"no program to be re-proved here: {str(nodes)[:300]!r}")
        return functools.reduce(lambda s, node: self.operation(s, **node), nodes, s)

    def operation(self, s: State, op: Any, lip: Any, rule: Any, **fields: Any) -> State:
        """An operation, whose bound `lip` is proved; each has a method of its name, with its fields."""
        need([op in OPERATIONS.split(), type(rule) is str], f"{op!r} cannot be re-proved here")
        self.assumed |= op in ("smooth", "attention")
        start = State(s.x, s.size, 0 * s.error, s.grid)
        end = getattr(self, f"_{op}")(start, number(lip), **fields)
        need(end.lip <= lip * UP, f"a bound of {op!r} is {end.lip}, no less")
        apart = end.x.size > 0 and end.x.ndim > 1 and end.x.shape[-1] == s.x.shape[-1]
        need(apart, f"{op!r} gives nothing, or mixes the images")
        need(end.size < 2.0**400, f"numbers may be out of range after {op!r}")
        total = s.lip * end.lip * UP
        need(total > TINY or 0 in (s.lip, end.lip), "a bound underflows")
        zero, error = (s.zero * end.lip + end.zero) * UP, (s.error * end.lip + end.error) * UP
        return end._replace(lip=total, zero=zero, error=error, unit=s.unit and end.unit)

    def _conv(self, s: State, lip: float, weight: str, bias: str) -> State:
        taps, points = self.take(weight), s.x.shape[1:-1]
        fits = taps.ndim == s.x.ndim + 1 <= 7 and taps.shape[0] * taps.shape[2] == len(s.x)
        need(fits, f"a weight of shape {taps.shape} for {s.x.shape[:-1]}")
        self.prove(weight, points, lip)
        return linear(s, lip, taps, self.take(bias, (taps.shape[0] * taps.shape[1],)))

    def _block(self, s: State, lip: float, inner: Any, activation: Any, outputs: Any) -> State:
        """Two blocks around σ of slopes in [0, 1], hence of differences with a diagonal D, 0 ≤ D ≤ I."""
        need(inner["op"] == "conv", "a block should be around a linear map")
        wide = np.concatenate([np.zeros((number(outputs, int), *s.x.shape[1:])), s.x])
        hidden = self.operation(s._replace(x=wide), **inner)._replace(unit=True)
        middle = self.chain(hidden, activation)
        need(middle.unit, "slopes in a block should be in [0, 1]")
        turned = self.arrays[inner["weight"]].astype(np.float64).swapaxes(1, 2)
        end = linear(middle, inner["lip"], turned, np.zeros(len(wide)), -1)
        square = inner["lip"] ** 2 * UP
        if outputs:  # Aᵀσ(Bx + b) for W = [A, B]: vᵀAᵀDBw ≤ ‖Av + Bw‖² / 4
            return s.after(end.x[:outputs], square / 2, end.error, end.zero, end.grid)
        lip, grid, top = max(1.0, square - 1), max(s.grid, end.grid), s.size + end.size
        return s.after(s.x - end.x, lip, end.error, end.zero, grid, top, 2 * U * top)  # I − WᵀDW

    def _branches(self, s: State, lip: float, join: Any, branches: Any) -> State:
        """Two that are added, or some side by side, of one input or each of its group of channels."""
        xs, added = [s.x] * len(branches), join == "sum"
        if join not in ("sum", "stack"):
            need(sum(number(n, int, 1) for n in join) == len(s.x), f"groups of {join} channels")
            xs = np.split(s.x, np.cumsum(join)[:-1])
        ends = [self.chain(s._replace(x=x), nodes) for x, nodes in zip(xs, branches, strict=True)]
        fit = len({end.x.shape[0 if added else 1 :] for end in ends}) == 1
        need(fit and (len(ends) == 2 or not added), "branches that do not fit")
        total = (lambda a: np.sum(a, axis=0)) if added else (lambda a: norm(np.array(a), (0,)))
        lips, zero = [end.lip for end in ends], total([end.zero for end in ends]) * UP
        bound = float(total(lips) * UP if join in ("sum", "stack") else max(lips))
        size, error = total([end.size for end in ends]), total([end.error for end in ends])
        x = ends[0].x + ends[1].x if added else np.concatenate([end.x for end in ends])
        top, grid = size if added else 0, max(end.grid for end in ends)
        return s.after(x, bound, error, zero, grid, top, 2 * U * top)

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
        most, size = far * math.sqrt(s.x[..., 0].size) * UP, steepest * s.size
        grid = max(max(s.grid, finest(knots)) + finest(slopes), finest(first))
        signs = far == 0 and np.isin(slopes, (-1, 0, 1)).all()  # are all that changes
        top, off = (0, 0) if signs else (2 * (size + far), gamma(count + 8) * (size + most))
        end = s.after(out.reshape(s.x.shape), steepest, 0, most, grid, top, off)
        return end._replace(unit=np.all((slopes >= 0) & (slopes <= 1)))

    def _smooth(self, s: State, lip: float, function: Any) -> State:
        f, steepest, relative, each = SMOOTH[function]
        root = math.sqrt(s.x[..., 0].size) * UP
        own, zero = 1.01 * U * (relative * s.size + each * root), float(abs(f(0.0))) * root
        return s.after(f(s.x), steepest, own, zero)._replace(unit=steepest == 1)

    def _gather(self, s: State, lip: float, index: str, shape: Any) -> State:
        """Coordinates, or −1 for a zero: a function of each entry alone, if they stay in place."""
        out, count = tuple(number(n, int, 1) for n in shape), s.x[..., 0].size
        picked = self.take(index, (math.prod(out),), "<i8")
        need((picked >= -1) & (picked < count), "an index is out of range")
        times = int(np.bincount(picked[picked >= 0], minlength=1).max())
        padded = np.concatenate([s.x.reshape(count, -1), np.zeros((1, s.x.shape[-1]))])
        there = s.after(padded[picked].reshape(*out, -1), math.sqrt(times) * UP, grid=s.grid)
        stays = out == s.x.shape[:-1] and np.all((picked < 0) | (picked == np.arange(count)))
        return there._replace(unit=stays)

    def _groups(self, s: State, lip: float, size: Any, function: Any) -> State:
        need(len(s.x) % number(size, int, 1) == 0, f"groups of {size} among {len(s.x)} channels")
        x = s.x.reshape(-1, size, *s.x.shape[1:])
        if function == "sort":  # the largest first
            return s.after(-np.sort(-x, axis=1).reshape(s.x.shape), 1.0, grid=s.grid)
        need(function == "norm", f"{function!r} of groups is not known")
        return s.after(np.sqrt((x**2).sum(axis=1)), 1.0, gamma(size + 16) * s.size)

    def _attention(self, s: State, lip: float, sharpness: str, heads: int, spread: Any) -> State:
        """Averages of tokens, head by head, with weights ∝ exp(−s² ‖uᵢ − uⱼ‖²): docs/certificate-file.md."""
        (width, tokens, count), c = s.x.shape, number(spread)
        sharp = self.take(sharpness, (number(heads, int, 1),))
        u = np.moveaxis(s.x, 2, 0).reshape(count, heads, -1, tokens)
        v = sharp[:, None, None] * u  # (B, H, d, N)
        scores = 2 * v.swapaxes(2, 3) @ v - (v**2).sum(axis=2)[..., None]  # (B, H, N, N)
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        x = (u @ weights / weights.sum(axis=2, keepdims=True)).reshape(count, width, tokens)
        need(c * math.exp(1 + c) * (1 - 2.0**-45) >= tokens - 1, f"{c} is no spread of {tokens}")
        columns, cross = math.sqrt((tokens + 1) / 2), math.sqrt(c * 0.2784645427611 * (tokens - 1))
        square = (np.abs(sharp).max() * s.size * UP) ** 2 * UP
        off = np.expm1(2 * gamma(3 * u.shape[2] + 40) * square + gamma(4 * tokens + 128))
        bound = (columns + 2 * c + 2 * cross) * UP
        return s.after(np.moveaxis(x, 0, 2), bound, off * columns * s.size)

    def _round(self, s: State, lip: float, bits: Any) -> State:
        """The identity, off by 2⁻⁽ᵍ⁺¹⁾ at most for each number, which is on the grid g then."""
        need(number(bits, int) <= 500, "too many binary places")
        x = np.ldexp(np.rint(np.ldexp(s.x, bits)), -bits)
        off = 0.0 if s.grid <= bits else math.ldexp(math.sqrt(s.x[..., 0].size), -bits - 1) * UP
        grid = bits if bits < s.grid < INF else s.grid
        return s.after(x, 1.0, off, 0, grid)._replace(unit=True)


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
    program = Program(path)
    meta, take, count = program.meta, program.take, len(program.arrays["images"])
    shape = tuple(number(n, int, 1) for n in meta["shape"])
    classes, domain = number(meta["classes"], int, 1), np.array([number(meta["domain"])])
    images, labels = take("images"), take("labels", (count,), "<i8")
    radii, logits = take("radii", (count,), "<f8"), take("logits", (count, classes), "<f8")
    need(images.shape[1:] == shape and (images >= 0) & (images <= 1), "images out of [0, 1]")
    need((labels >= 0) & (labels < classes) & (radii >= 0), "a label is no class, or a radius < 0")
    need(domain >= math.sqrt(math.prod(shape)), "the domain is smaller than that of images")
    before, head = program(np.zeros((*shape, 1)), domain, 0 * domain)
    lip, error = before.lip * head.lip * UP, np.max(head.lip * before.error + head.error) * UP
    need(lip <= number(meta["lipschitz"]), f"the Lipschitz bound {lip} is no less")
    need(error <= number(meta["error"]), f"the bound of rounding {error} is no less")
    weight = program.arrays[meta["network"][-1]["weight"]].astype(np.float64)
    need(len(weight) == 1 and head.x.shape == (classes, 1), "no matrix gives the logits")
    gaps = np.stack([norm(weight[0] - row, (1,)) for row in weight[0]]) * UP
    for i in range(0, count, step := 2**15 // math.prod(shape) + 1):
        x, y, r, z = (each[i : i + step] for each in (images, labels, radii, logits))
        size = (norm(x, tuple(range(1, x.ndim))) + r) * UP**2
        s, end = program(np.moveaxis(x, 0, -1), size, U * size)
        off = 0.0 if program.exact else 2 * (end.lip * s.error + end.error) * UP
        need(np.abs(end.x - z.T) <= off, "the logits are not those of the program")
        margins = end.x[y, np.arange(len(y))] - end.x  # here and within r, errors of two logits:
        far = (gaps[:, y] * (s.lip * r + 2 * s.error) + 3 * end.error) * UP**2
        fine = (far <= margins * (1 - 4 * U)) | (r == 0) | (np.arange(classes)[:, None] == y)
        need(fine, "a radius is not proved")
    order = "exact, hence the same to the bit" if program.exact else "rounded"
    assumed = f"  Assumed, of that program and of numpy: {R3}.\n" if program.assumed else ""
    return (
        f"{path}: all that it claims is proved.\n{assumed}  Program: float64, its sums {order}, in any order.\n"
        f"  Lipschitz bound proved here: {lip:.9g}; rounding: {error:.3g}.\n"
        f"  Images: {count}, of which {np.sum(radii > 0)} with a radius."
    )


def main(arguments: list[str] | None = None) -> int:
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
