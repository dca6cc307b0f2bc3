"""Norms of matrices, proved from above, rounding included.

**Model of arithmetic.**  u = 2⁻⁵³, η = 2⁻¹⁰⁷⁴, γₖ = ku / (1 − ku).

A1. Each real number of a float64 matrix product is the root of some binary tree over its K
    products of reals, every operation correctly rounded: any order, any blocking, fused or not.
    Then |fl(XY) − XY| ≤ γ_K |X||Y| + K η entrywise.  A complex product is two real ones of 2K
    terms: the modulus of its error is at most √2 (γ_2K |X||Y| + 2K η).  A sum is a product by
    ones.  Strassen, Winograd, FFT, complex products from three real ones, TF32, bfloat16 and
    flushed subnormals are not of this kind: `check_arithmetic` looks for them, and refuses.
A2. + − × ÷ √ of floats, alone or elementwise in a tensor, are correctly rounded.

Nothing rests on LAPACK: factors and eigenvalues are guesses, which one product verifies.  Scalars
of a proof are computed in rationals and rounded upwards once.

References:
    | Verification of positive definiteness (Rump, 2006) https://doi.org/10.1007/s10543-006-0056-1
    | Accuracy and Stability of Numerical Algorithms (Higham, 2002), chapter 3
"""

__all__ = [
    "UnsoundArithmeticError",
    "add_up",
    "check_arithmetic",
    "div_up",
    "gamma",
    "matrix_norm",
    "matrix_norms",
    "mul_up",
    "row_distances",
    "scale_up",
    "show",
    "sqrt_up",
    "squared_norms",
    "sums_of_squares",
    "unit_scale",
]

import math
from decimal import ROUND_CEILING, ROUND_FLOOR, Context, Decimal
from fractions import Fraction
from functools import lru_cache

import torch
from torch import Tensor

U = 2.0**-53  # unit roundoff
ETA = 2.0**-1074  # smallest subnormal number
ROOT_2_UP = math.nextafter(math.sqrt(2.0), 2.0)  # above √2
_SLACK = 2.0**-38  # of the guess of an eigenvalue, above the rounding of a Cholesky factorization


class UnsoundArithmeticError(RuntimeError):
    """Matrix products are not computed as the proofs assume: nothing can be certified."""


def _round_up(exact: Fraction) -> float:
    """The smallest float that is not below a rational; Python's conversion rounds to nearest."""
    try:
        nearest = float(exact)
    except OverflowError:
        return math.inf
    return nearest if nearest >= exact else math.nextafter(nearest, math.inf)


Number = float | Fraction


def add_up(*terms: Number) -> float:
    """Sum of numbers that are not negative, rounded upwards; infinite if one is not finite."""
    if not all(map(math.isfinite, terms)):
        return math.inf
    return _round_up(sum((Fraction(term) for term in terms), Fraction(0)))


def mul_up(*factors: Number) -> float:
    """Product of numbers that are not negative, rounded upwards; infinite if one is not finite."""
    if not all(map(math.isfinite, factors)):
        return math.inf
    return _round_up(math.prod((Fraction(factor) for factor in factors), start=Fraction(1)))


def div_up(dividend: float, divisor: float) -> float:
    """Quotient of numbers that are not negative, rounded upwards; infinite where undefined."""
    if not (math.isfinite(dividend) and math.isfinite(divisor) and divisor > 0):
        return math.inf
    return _round_up(Fraction(dividend) / Fraction(divisor))


def sqrt_up(square: float) -> float:
    """Root of a number that is not negative, rounded upwards; infinite where undefined."""
    if not 0 <= square < math.inf:
        return math.inf
    root = math.sqrt(square)
    return root if Fraction(root) ** 2 >= square else math.nextafter(root, math.inf)


def show(value: float, digits: int = 8, *, upwards: bool = True) -> str:
    """A number in a few digits, rounded upwards, or downwards: what is printed is as true.

    Example:
        >>> show(1.00000001), show(1.00000001, upwards=False), show(0.5), show(123456789.0)
        ('1.0000001', '1', '0.5', '1.2345679e+08')
    """
    context = Context(prec=digits, rounding=ROUND_CEILING if upwards else ROUND_FLOOR)
    return f"{float(context.create_decimal(Decimal(value))):.{digits}g}"


def gamma(operations: int) -> float:
    """The constant γₖ = ku / (1 − ku), rounded upwards."""
    return _round_up(Fraction(operations, 2**53 - operations))


def matrix_norm(matrix: Tensor) -> float:
    """Largest singular value of a matrix, rounded upwards.

    About 1e-11 too large for 512 columns and 1e-10 for 1024, whatever the spectrum.

    Arguments:
        matrix: A real matrix in any floating-point format, with shape (M, N).

    Returns:
        A number that is at least the norm; infinite if an entry is not finite.

    Raises:
        UnsoundArithmeticError: If matrix products are not computed as the proof assumes.
    """
    check_arithmetic()
    scaled, exponent, lost = unit_scale(matrix)
    if scaled is None:
        return math.inf
    if not scaled.any():
        return lost
    square = squared_norms(scaled[None]).item()
    return add_up(scale_up(sqrt_up(square), exponent), lost)


def matrix_norms(matrices: Tensor) -> Tensor:
    """Largest singular values of real or complex matrices, each rounded upwards.

    Arguments:
        matrices: The matrices, in any floating-point format, with shape (B, M, N).

    Returns:
        Numbers that are at least the norms, in float64 on the CPU, with shape (B,); infinite if an
        entry of any of the matrices is not finite.

    Raises:
        UnsoundArithmeticError: If matrix products are not computed as the proof assumes.
    """
    check_arithmetic()
    real = (
        torch.view_as_real(matrices.detach().resolve_conj()) if matrices.is_complex() else matrices
    )
    scaled, exponent, lost = unit_scale(real)
    if scaled is None:
        return torch.full((len(matrices),), math.inf, dtype=torch.float64)
    scaled = torch.view_as_complex(scaled.contiguous()) if matrices.is_complex() else scaled
    squares = squared_norms(scaled, common=False) * (scaled != 0).flatten(1).any(dim=1)
    roots = [add_up(scale_up(sqrt_up(square), exponent), lost) for square in squares.tolist()]
    return torch.tensor(roots, dtype=torch.float64)


def unit_scale(tensor: Tensor) -> tuple[Tensor | None, int, float]:
    """Scales a tensor by a power of two, so that its largest entry is in [½, 1).

    Returns:
        The tensor in float64 on the CPU, or None if an entry is not finite; the exponent e such
        that the tensor is 2ᵉ times as large; and a bound of the Frobenius norm of what underflow
        took from it, in the original scale.
    """
    double = tensor.detach().to("cpu", torch.float64)
    if not double.isfinite().all():
        return None, 0, math.inf
    largest = double.abs().max().item() if double.numel() else 0.0
    if largest == 0:
        return double, 0, 0.0
    exponent = math.frexp(largest)[1]
    # In two steps, because 2^-exponent may overflow; each is exact but for underflow.
    half = exponent // 2
    scaled = double * math.ldexp(1.0, -half) * math.ldexp(1.0, half - exponent)
    exact = torch.equal(scaled * math.ldexp(1.0, half) * math.ldexp(1.0, exponent - half), double)
    lost = 0.0
    if not exact:  # each of the two steps changed an entry by η at most
        lost = scale_up(mul_up(2 * ETA, sqrt_up(double.numel())), exponent)
    return scaled, exponent, lost


def scale_up(value: float, exponent: int) -> float:
    """A number times 2^exponent, rounded upwards."""
    if not math.isfinite(value):
        return math.inf
    return _round_up(Fraction(value) * Fraction(2) ** exponent)


def sums_of_squares(matrices: Tensor) -> Tensor:
    """Squared Frobenius norms of a batch of matrices, rounded upwards.

    A1 with K terms: fl ≥ (1 − γ_{K+1}) Σ x² − K η, whatever the order of the sum.

    Arguments:
        matrices: Real or complex float64 matrices, with shape (B, M, N).

    Returns:
        The bounds, with shape (B,).
    """
    flat = torch.view_as_real(matrices) if matrices.is_complex() else matrices
    flat = flat.flatten(1)
    terms = flat.shape[1]
    sums = flat.square().sum(dim=1)
    return (sums + 2 * terms * ETA) * (1 + 2 * gamma(terms + 4))


def squared_norms(matrices: Tensor, *, common: bool = True) -> Tensor:
    """Squares of the largest singular values of a batch of matrices, rounded upwards.

    **Theorem D1.**  Let X be a matrix of m rows and n ≤ m columns, G = fl(X*X), c > 0, and L *any*
    n × n matrix.  With D = fl(fl(G + fl(LL*)) − cI),

        ‖X‖² ≤ c + ‖D‖ + γ_m ‖X‖_F² + γ_n ‖L‖_F² + u maxᵢ |Gᵢᵢ + (LL*)ᵢᵢ| + 2u ‖D‖_F + n(m + n)η.

    *Proof.*  Let E = X*X + LL* − cI, exactly.  Since LL* ≥ 0, X*X = cI − LL* + E has no eigenvalue
    above c + ‖E‖.  By A1, G and LL* differ from the exact products by γ_m |X|*|X| and γ_n |L||L*|
    entrywise, up to underflow, and ‖|X|*|X|‖ ≤ ‖X‖_F².  The sum G + LL* adds at most u of itself
    to each entry, which is u |D| off the diagonal, and the subtraction u |D| on it.  ∎

    With L the Cholesky factor of cI − G, D is of the order of n u c.  If LAPACK fails or lies, the
    bound is worse, not false; and ‖X‖_F² is always a bound.  ‖D‖ is bounded by ‖D‖_F and by
    √(‖D‖₁ ‖D‖_∞).  For complex matrices, A1 gives √2 γ_2m and √2 γ_2n; √2 ≤ 3/2.

    Arguments:
        matrices: Real or complex float64 matrices with entries of modulus 2³⁰⁰ at most, with shape
            (B, M, N).
        common: Whether one number c, close to the largest of the squared norms, serves all
            matrices: right for their maximum, and faster than a tight bound of each.

    Returns:
        The bounds, with shape (B,).
    """
    if matrices.shape[1] < matrices.shape[2]:
        matrices = matrices.mH.resolve_conj()
    columns = matrices.shape[2]
    frobenius = sums_of_squares(matrices)
    if columns == 1 or not matrices.numel():
        return frobenius

    grams = matrices.mH @ matrices  # (B, N, N)
    guesses = _guess_top_eigenvalues(grams, common=common)
    bounds = frobenius.clone()
    slack = max(_SLACK, 16 * columns * U)
    todo = torch.arange(len(grams))
    for _ in range(10):
        centers = guesses[todo] * (1 + slack)
        eye = torch.eye(columns, dtype=torch.float64)
        factors, info = torch.linalg.cholesky_ex(centers[:, None, None] * eye - grams[todo])
        proved = _verify(matrices[todo].shape[1], grams[todo], factors, centers, frobenius[todo])
        bounds[todo] = torch.fmin(bounds[todo], proved)  # a bound that is nan is none
        todo = todo[info != 0]
        if not len(todo):
            break
        slack *= 16  # the guess was below an eigenvalue
        if common:
            guesses[todo] = torch.fmax(
                guesses[todo], _guess_top_eigenvalues(grams[todo], common=True)
            )
    return bounds


def _verify(
    rows: int, grams: Tensor, factors: Tensor, centers: Tensor, frobenius: Tensor
) -> Tensor:
    """The right-hand side of theorem D1, rounded upwards, with shape (B,)."""
    columns = grams.shape[-1]
    double = 2 if grams.is_complex() else 1  # √2 γ_2k is at most 3/2 γ_2k
    root2 = 1.5 if grams.is_complex() else 1.0
    factors = factors.tril()
    sums = grams + factors @ factors.mH
    differences = sums - torch.diag_embed(centers.expand(columns, -1).T)

    parts = torch.view_as_real(differences) if grams.is_complex() else differences[..., None]
    moduli = parts.abs().sum(dim=-1)  # |re| + |im|, at least the modulus
    frobenius_d = sums_of_squares(differences).sqrt() * (1 + 4 * U)
    ones_d = moduli.sum(dim=1).amax(dim=1) * moduli.sum(dim=2).amax(dim=1)
    schur_d = ones_d.sqrt() * (1 + 2 * gamma(columns + 8))
    diagonal = sums.diagonal(dim1=1, dim2=2).abs().amax(dim=1)

    bounds = (
        centers
        + torch.fmin(frobenius_d, schur_d)
        + root2 * gamma(double * rows) * frobenius
        + root2 * gamma(double * columns) * sums_of_squares(factors)
        + 2 * U * diagonal
        + 3 * U * frobenius_d
        + 4 * columns * (rows + columns) * ETA
    )
    return bounds * (1 + 16 * U)  # seven sums and products of numbers that are not negative


def _guess_top_eigenvalues(grams: Tensor, *, common: bool) -> Tensor:
    """Guesses of the largest eigenvalues of Hermitian matrices, with shape (B,): proves nothing."""
    columns = grams.shape[-1]
    if not common and columns <= 64:
        return torch.linalg.eigvalsh(grams)[:, -1]
    guesses = _lanczos(grams, steps=min(columns, 16 if common else 40))
    if not common:
        return guesses
    if columns <= 1536:
        top = guesses.topk(min(3, len(guesses))).indices
        guess = torch.linalg.eigvalsh(grams[top]).amax()
    else:
        guess = _lanczos(grams[guesses.argmax()][None], steps=150).amax()
    return guess.expand_as(guesses).clone()


def _lanczos(grams: Tensor, steps: int) -> Tensor:
    """Largest Ritz values plus their residuals, from a fixed start, with shape (B,)."""
    batch, columns = grams.shape[:2]
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(columns, 1, dtype=torch.float64, generator=generator)
    vector = (start / start.norm()).to(grams.dtype).expand(batch, columns, 1)
    basis = torch.zeros(batch, columns, steps, dtype=grams.dtype)
    triangle = torch.zeros(batch, steps, steps, dtype=torch.float64)
    norm = torch.zeros(batch, 1, 1, dtype=torch.float64)
    for i in range(steps):
        basis[..., i : i + 1] = vector
        vector = grams @ vector
        triangle[:, i, i] = (basis[..., i : i + 1].mH @ vector).real[:, 0, 0]
        for _ in range(2):  # full reorthogonalization, twice
            vector = vector - basis[..., : i + 1] @ (basis[..., : i + 1].mH @ vector)
        norm = torch.linalg.vector_norm(vector, dim=1, keepdim=True)
        ended = norm <= 1e-12 * triangle.abs().amax(dim=(1, 2))[:, None, None]
        norm = norm.masked_fill(ended, 0.0)
        vector = (vector / norm).masked_fill(ended, 0.0)
        if i + 1 < steps:
            triangle[:, i + 1, i] = norm[:, 0, 0]
    values, vectors = torch.linalg.eigh(triangle)
    return values[:, -1] + norm[:, 0, 0] * vectors[:, -1, -1].abs()


def row_distances(matrix: Tensor) -> Tensor:
    """Distances between the rows of a matrix, rounded upwards.

    A difference is off by u of itself, a sum of n squares by γ_{n+1} of itself and n η, and a root
    by u of itself; squares that underflow change a distance by √(n η) at most.

    Arguments:
        matrix: A real matrix in any floating-point format, with shape (M, N).

    Returns:
        The distances, zero on the diagonal, with shape (M, M), in float64.
    """
    rows = matrix.detach().to("cpu", torch.float64)
    relative = 1 + 2 * gamma(rows.shape[1] + 8)
    absolute = sqrt_up(2 * rows.shape[1] * ETA)
    distances = torch.stack([(rows - row).square().sum(dim=1).sqrt() for row in rows])
    distances = distances * relative + absolute
    equal = torch.stack([(rows == row).all(dim=1) for row in rows])
    return distances.masked_fill(equal, 0.0)


def check_arithmetic() -> None:
    """Refuses to go on where matrix products break A1 or subnormal numbers are flushed.

    Products whose exact results are known, and which lower precision, fast matrix products and
    three-multiplication complex products would miss: evidence, not proof.

    Raises:
        UnsoundArithmeticError: If a result is not exact.
    """
    _check_products(64)
    _check_large_products()
    _check_subnormals()


@lru_cache(maxsize=1)
def _check_large_products() -> None:
    _check_products(640)  # fast algorithms are chosen for large matrices only


def _check_subnormals() -> None:
    smallest = torch.full((64, 64), ETA, dtype=torch.float64)
    single = torch.full((64,), 2.0**-149, dtype=torch.float32)
    kept = (smallest * 1.0 == ETA).all() and ((smallest @ torch.eye(64).double()) == ETA).all()
    if not (kept and (single.double() == 2.0**-149).all() and (single * 1.0 == 2.0**-149).all()):
        raise UnsoundArithmeticError(
            "Subnormal numbers are flushed to zero: call torch.set_flush_denormal(False)."
        )


def _check_products(size: int) -> None:
    index = torch.arange(size)
    # Entries that need all 53 bits, moved by a permutation: lower precision drops the last.
    fine = 1 + 2.0**-52 * ((7 * index[:, None] + 3 * index) % 64).double()
    moved = fine @ torch.eye(size, dtype=torch.float64)[:, (index + 1) % size]
    right = torch.equal(moved, fine[:, (index + 1) % size])
    # Small integers beside entries of 2^300 that meet zeros: mixing blocks drops the integers.
    small = ((5 * index[:, None] + index) % 7 - 3).double()
    tall = (index % 2 == 0).double()
    left = small * (1 - tall) + 2.0**300 * tall
    other = small * (1 - tall)[:, None]
    exact = (small.long() * (1 - tall).long()) @ (small.long() * (1 - tall).long()[:, None])
    right = right and torch.equal(left @ other, exact.double())
    rows = torch.ones(size, dtype=torch.float64)
    rows[: size // 2] = 2.0**60
    blocks = small * (rows[:, None] == rows)
    scaled = (rows[:, None] * blocks) @ (blocks * rows)
    wanted = rows[:, None] * (blocks.long() @ blocks.long()).double() * rows
    right = right and torch.equal(scaled, wanted)
    # Real parts of 2^60 with imaginary parts of 1: three multiplications drop the latter.
    parts = torch.complex(2.0**60 * torch.eye(size).double(), torch.eye(size).double())
    right = right and torch.equal((parts @ parts).imag, 2.0**61 * torch.eye(size).double())
    if not right:
        raise UnsoundArithmeticError(
            "Matrix products in float64 are not computed term by term here, as proofs of bounds "
            "assume: use a build of torch whose CPU products are conventional."
        )
