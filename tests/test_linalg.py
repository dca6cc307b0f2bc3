"""Norms of matrices against Rayleigh quotients in exact rational arithmetic."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor

from lipnets import linalg
from lipnets.linalg import (
    UnsoundArithmeticError,
    add_up,
    check_arithmetic,
    div_up,
    gamma,
    matrix_norm,
    mul_up,
    row_distances,
    scale_up,
    sqrt_up,
    squared_norms,
    sums_of_squares,
    unit_scale,
)

TINY, HUGE = 5e-324, 1.7e308


def exact_square(matrix: Tensor) -> Fraction:
    """A rational number below ‖W‖², and within rounding of it: a Rayleigh quotient."""
    rows = [[Fraction(x) for x in row] for row in matrix.double().tolist()]
    scale = max((abs(x) for row in rows for x in row), default=Fraction(0)) or Fraction(1)
    unit = torch.tensor([[float(x / scale) for x in row] for row in rows]).double()
    vector = [Fraction(x) for x in torch.linalg.svd(unit)[2][0].tolist()]
    image = [sum((a * b for a, b in zip(row, vector, strict=True)), Fraction(0)) for row in rows]
    return sum(x * x for x in image) / sum(x * x for x in vector)


def orthogonal(size: int) -> Tensor:
    return torch.linalg.qr(torch.randn(size, size))[0]


def with_singular_values(values: Tensor) -> Tensor:
    return orthogonal(len(values)) * values @ orthogonal(len(values))


FAMILIES = {
    "gaussian": lambda: torch.randn(9, 7),
    "wide": lambda: torch.randn(3, 12),
    "row": lambda: torch.randn(1, 13),
    "column": lambda: torch.randn(13, 1),
    "1×1": lambda: torch.tensor([[-3.7]]),
    "zeros with one": lambda: torch.zeros(6, 6).index_put(
        (torch.tensor(2),) * 2, torch.tensor(2.0)
    ),
    "orthogonal": lambda: orthogonal(12),
    "orthogonal in float32": lambda: orthogonal(12).float(),
    "orthogonal in bfloat16": lambda: orthogonal(8).bfloat16(),
    "cluster of 1e-9": lambda: with_singular_values(1 - 1e-9 * torch.rand(12)),
    "cluster of 2e-7": lambda: with_singular_values(1 - 2e-7 * torch.rand(12)),
    "needle of 1e-6": lambda: with_singular_values(torch.tensor([1 + 1e-6, *[1.0] * 11])),
    "rank one": lambda: torch.outer(torch.randn(8), torch.randn(10)),
    "all equal": lambda: torch.full((7, 5), 0.1),
    "huge dynamic range": lambda: torch.randn(10, 10) * 10.0 ** torch.linspace(-18, 18, 10),
    "Kahan": lambda: torch.triu(torch.full((8, 8), -0.3), 1) + torch.diag(0.9 ** torch.arange(8.0)),
    "float32 of 1e37": lambda: torch.randn(6, 6).float() * 1e37,
    "float32 of 1e-37": lambda: torch.randn(6, 6).float() * 1e-37,
    "float32 subnormal": lambda: torch.randn(6, 6).float() * 1e-43,
    "smallest float32": lambda: torch.full((4, 4), 2.0**-149, dtype=torch.float32),
    "1e300": lambda: torch.randn(6, 6) * 1e300,
    "1e-300": lambda: torch.randn(6, 6) * 1e-300,
    "subnormal": lambda: torch.randn(6, 6) * 1e-320,
    "smallest": lambda: torch.full((5, 3), TINY),
    "from 1e300 to subnormal": lambda: torch.randn(6, 6) * 10.0 ** torch.linspace(-322, 300, 6),
}


@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_matrix_norm_is_above_every_rayleigh_quotient_and_close(family) -> None:
    for _ in range(4):
        matrix = family()
        square, bound = exact_square(matrix), Fraction(matrix_norm(matrix))
        assert bound**2 >= square
        assert (bound - Fraction(3 * TINY)) ** 2 <= square * (1 + Fraction(1, 10**9))


@pytest.mark.parametrize("size", [130, 260])
def test_matrix_norm_is_tight_for_large_matrices_of_every_spectrum(size) -> None:
    for values in (torch.rand(size), 1 - 1e-7 * torch.rand(size), torch.ones(size)):
        matrix = with_singular_values(values)
        norm = torch.linalg.svdvals(matrix)[0].item()
        assert norm * (1 - 1e-13) <= matrix_norm(matrix) <= norm * (1 + 1e-9)


def test_matrix_norm_of_zeros_is_zero() -> None:
    assert matrix_norm(torch.zeros(3, 4)) == 0
    assert matrix_norm(torch.zeros(0, 4)) == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_matrix_norm_of_what_is_not_finite_is_infinite(bad) -> None:
    matrix = torch.eye(3)
    matrix[1, 2] = bad
    assert matrix_norm(matrix) == math.inf


def test_matrix_norm_overflows_to_infinity() -> None:
    assert matrix_norm(torch.full((9, 9), HUGE)) == math.inf


def test_soundness_rests_on_no_factorization(monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = torch.randn(20, 20)
    square = exact_square(matrix)

    def lying(a: Tensor) -> tuple[Tensor, Tensor]:
        return torch.randn_like(a).tril(), torch.zeros(len(a), dtype=torch.int32)

    monkeypatch.setattr(torch.linalg, "cholesky_ex", lying)
    assert Fraction(matrix_norm(matrix)) ** 2 >= square


@pytest.mark.parametrize("factor", [0.0, 0.5, 0.999, 1e3])
def test_soundness_rests_on_no_eigenvalue(monkeypatch: pytest.MonkeyPatch, factor) -> None:
    matrix = torch.randn(20, 20)
    square = exact_square(matrix)
    guess = linalg._guess_top_eigenvalues
    monkeypatch.setattr(
        linalg, "_guess_top_eigenvalues", lambda g, common: factor * guess(g, common=common)
    )
    bound = Fraction(matrix_norm(matrix)) ** 2
    assert bound >= square
    assert bound <= sum(Fraction(x) ** 2 for x in matrix.flatten().tolist()) * (1 + Fraction(1e-9))


def root(square: Fraction) -> Fraction:
    """A root, rounded down to 400 bits after the point."""
    return Fraction(math.isqrt(int(square * 2**800)), 2**400)


def exact_theorem(grams: Tensor, factors: Tensor, rows: int, frobenius: float) -> Fraction:
    """The right-hand side of theorem D1 with c = 0, where what it adds to c is all there is."""
    n = grams.shape[-1]
    sums = (grams[None] + factors[None] @ factors[None].mH)[0]  # D: nothing is subtracted
    entries = torch.view_as_real(sums).tolist() if sums.is_complex() else sums[..., None].tolist()
    squares = [[sum(Fraction(x) ** 2 for x in entry) for entry in row] for row in entries]
    moduli = [[sum(abs(Fraction(x)) for x in entry) for entry in row] for row in entries]
    frobenius_d = root(sum(map(sum, squares), Fraction(0)))
    schur_d = root(max(map(sum, moduli)) * max(map(sum, zip(*moduli, strict=True))))
    parts = torch.view_as_real(factors) if factors.is_complex() else factors
    frobenius_l = sum(Fraction(x) ** 2 for x in parts.flatten().tolist())
    times, double = (Fraction(3, 2), 2) if grams.is_complex() else (1, 1)
    u = Fraction(1, 2**53)

    def exact_gamma(k: int) -> Fraction:
        return k * u / (1 - k * u)

    return (
        min(frobenius_d, schur_d)
        + times * exact_gamma(double * rows) * Fraction(frobenius)
        + times * exact_gamma(double * n) * frobenius_l
        + 2 * u * max(root(squares[i][i]) for i in range(n))
        + 3 * u * frobenius_d
    )


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("off", [0.0, 1e-15, 1.0])
@pytest.mark.parametrize("frobenius", [0.0, 1.0, 1e6])
def test_no_term_of_theorem_d1_is_missing(dtype, off, frobenius) -> None:
    for spread in (torch.ones(6), 10.0 ** torch.linspace(0, -3, 6)):
        factors = (torch.randn(6, 6, dtype=dtype) * spread[:, None]).tril()
        grams = off * torch.randn(6, 6, dtype=dtype) - factors @ factors.mH
        rhs = exact_theorem(grams, factors, 9, frobenius)
        found = linalg._verify(
            9, grams[None], factors[None], torch.zeros(1), torch.tensor([frobenius])
        )
        assert rhs <= Fraction(found.item()) <= rhs * (1 + Fraction(1, 10**9))


def test_only_the_lower_triangle_of_a_factor_counts() -> None:
    grams, factors = torch.eye(4)[None], torch.eye(4)[None]
    dirty = factors + torch.randn(4, 4).triu(1)
    ones = torch.ones(1)
    assert torch.equal(
        linalg._verify(4, grams, dirty, ones, ones), linalg._verify(4, grams, factors, ones, ones)
    )


def test_norms_depend_on_no_default_and_draw_no_random_numbers() -> None:
    matrix, state = torch.randn(80, 90), torch.get_rng_state()
    norm, squares = matrix_norm(matrix), squared_norms(matrix[None], common=False)
    distances = row_distances(matrix[:3].float())
    torch.set_default_dtype(torch.float32)
    assert matrix_norm(matrix) == norm
    assert torch.equal(squared_norms(matrix[None], common=False), squares)
    assert torch.equal(row_distances(matrix[:3].float()), distances)
    assert distances.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), state)


def test_a_bound_that_is_not_a_number_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linalg, "_verify", lambda *_: torch.tensor([math.nan]))
    matrix = torch.randn(5, 5)
    assert matrix_norm(matrix) == pytest.approx(matrix.norm().item())


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize("common", [True, False])
@pytest.mark.parametrize(
    "shape", [(5, 4, 4), (3, 7, 2), (3, 2, 7), (4, 80, 80), (6, 1, 1), (2, 1, 5)]
)
def test_squared_norms_of_a_batch(shape, common, dtype) -> None:
    matrices = torch.randn(shape, dtype=dtype)
    matrices[0] *= 1e-3
    squares = torch.linalg.matrix_norm(matrices, ord=2) ** 2
    bounds = squared_norms(matrices, common=common)
    assert (bounds >= squares * (1 - 1e-13)).all()
    assert bounds.max() <= squares.max() * (1 + 1e-9)
    if not common and min(shape[1:]) <= 64:
        assert (bounds <= squares * (1 + 1e-9)).all()


def test_sums_of_squares_are_above_the_exact_sums() -> None:
    for scale in (1.0, 1e-160, 1e-200):
        matrices = torch.randn(3, 50, 7) * scale
        for matrix, bound in zip(matrices, sums_of_squares(matrices).tolist(), strict=True):
            exact = sum(Fraction(x) ** 2 for x in matrix.flatten().tolist())
            assert exact <= Fraction(bound) <= exact * (1 + Fraction(1, 10**12)) + Fraction(1e-300)


def test_scalars_are_rounded_upwards_and_by_one_unit_at_most() -> None:
    numbers = [0.0, TINY, 1e-310, 1e-160, 0.1, 1.0, 1 / 3, 3.0, 1e10 + 0.1, 1e200, HUGE]
    for a in numbers:
        root = sqrt_up(a)
        assert Fraction(root) ** 2 >= Fraction(a)
        assert root == 0 or Fraction(math.nextafter(root, 0)) ** 2 < Fraction(a)
        for b in numbers:
            operations = {
                add_up(a, b): Fraction(a) + Fraction(b),
                mul_up(a, b): Fraction(a) * Fraction(b),
            }
            if b:
                operations[div_up(a, b)] = Fraction(a) / Fraction(b)
            for result, exact in operations.items():
                below = math.nextafter(result, -math.inf)
                assert result == math.inf or Fraction(result) >= exact
                assert exact == 0 or Fraction(below) < exact
    assert mul_up(1.5, 1.0, 2.0) == 3.0
    assert add_up() == 0
    assert mul_up() == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scalars_that_are_not_finite_give_infinity(bad) -> None:
    assert add_up(1.0, bad) == math.inf
    assert mul_up(0.0, bad) == math.inf
    assert div_up(1.0, bad) == math.inf
    assert div_up(bad, 1.0) == math.inf
    assert sqrt_up(bad) == math.inf
    assert scale_up(bad, 3) == math.inf


def test_undefined_quotients_and_roots_are_infinite() -> None:
    assert div_up(1.0, 0.0) == math.inf
    assert div_up(1.0, -1.0) == math.inf
    assert sqrt_up(-1.0) == math.inf


def test_gamma_is_above_its_definition() -> None:
    for k in (1, 2, 7, 1000, 10**6):
        exact = Fraction(k, 2**53) / (1 - Fraction(k, 2**53))
        assert exact <= Fraction(gamma(k)) <= exact * (1 + Fraction(1, 2**52))


@pytest.mark.parametrize("exponent", [-1080, -1074, -1030, -500, 0, 500, 1000])
def test_scale_up_is_the_next_float(exponent) -> None:
    exact = Fraction(0.7) * Fraction(2) ** exponent
    scaled = scale_up(0.7, exponent)
    assert Fraction(math.nextafter(scaled, 0)) < exact <= Fraction(scaled)


def test_unit_scale_says_what_underflow_takes() -> None:
    matrix = torch.tensor([[1e300, 3 * TINY], [0.1, 7 * TINY]])
    scaled, exponent, lost = unit_scale(matrix)
    assert scaled is not None
    assert 0.5 <= scaled.abs().max() < 1
    differences = [
        Fraction(x) * Fraction(2) ** exponent - Fraction(y)
        for x, y in zip(scaled.flatten().tolist(), matrix.flatten().tolist(), strict=True)
    ]
    assert any(differences)
    assert sum(x * x for x in differences) <= Fraction(lost) ** 2
    assert unit_scale(torch.randn(3, 3))[2] == 0


def test_row_distances_are_above_the_exact_ones() -> None:
    for scale in (1.0, 1e-170, 1e100):
        matrix = torch.randn(6, 30).float().double() * scale
        distances = row_distances(matrix)
        for i in range(6):
            for j in range(6):
                pairs = zip(matrix[i].tolist(), matrix[j].tolist(), strict=True)
                exact = sum((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs)
                assert distances[i, j] >= 0
                found = Fraction(distances[i, j].item()) ** 2
                assert exact <= found <= exact * (1 + Fraction(1, 10**10)) + Fraction(1e-160) ** 2
    assert row_distances(torch.ones(2, 3)).eq(0).all()


def test_this_machine_passes_the_canary() -> None:
    check_arithmetic()


def test_the_canary_finds_flushed_subnormals() -> None:
    if not torch.set_flush_denormal(True):
        pytest.skip("this processor cannot flush subnormal numbers")
    try:
        with pytest.raises(UnsoundArithmeticError, match="flush"):
            matrix_norm(torch.eye(2))
    finally:
        torch.set_flush_denormal(False)


def in_float32(a: Tensor, b: Tensor) -> Tensor:
    low = torch.complex64 if a.is_complex() else torch.float32
    return torch.einsum("ij,jk->ik", a.to(low), b.to(low)).to(a.dtype)


def strassen(a: Tensor, b: Tensor) -> Tensor:
    if a.is_complex() or min(*a.shape, *b.shape) < 2 or any(n % 2 for n in (*a.shape, *b.shape)):
        return torch.einsum("ij,jk->ik", a, b)
    (a11, a12), (a21, a22) = (half.chunk(2, 1) for half in a.chunk(2, 0))
    (b11, b12), (b21, b22) = (half.chunk(2, 1) for half in b.chunk(2, 0))

    def mul(x: Tensor, y: Tensor) -> Tensor:
        return torch.einsum("ij,jk->ik", x, y)

    m1, m2, m3 = mul(a11 + a22, b11 + b22), mul(a21 + a22, b11), mul(a11, b12 - b22)
    m4, m5 = mul(a22, b21 - b11), mul(a11 + a12, b22)
    m6, m7 = mul(a21 - a11, b11 + b12), mul(a12 - a22, b21 + b22)
    top = torch.cat([m1 + m4 - m5 + m7, m3 + m5], 1)
    return torch.cat([top, torch.cat([m2 + m4, m1 - m2 + m3 + m6], 1)])


def three_products(a: Tensor, b: Tensor) -> Tensor:
    if not a.is_complex():
        return torch.einsum("ij,jk->ik", a, b)
    first, second = a.real.mm(b.real), a.imag.mm(b.imag)
    both = (a.real + a.imag).mm(b.real + b.imag)
    return torch.complex(first - second, both - first - second)


@pytest.mark.parametrize("product", [in_float32, strassen, three_products])
def test_the_canary_finds_products_of_another_kind(monkeypatch, product) -> None:
    monkeypatch.setattr(Tensor, "__matmul__", product)
    with pytest.raises(UnsoundArithmeticError, match="term by term"):
        check_arithmetic()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (5, 1), (4, 4), (3, 6), (70, 66)])
def test_norms_of_a_batch_are_those_of_its_matrices(dtype, shape) -> None:
    sizes = torch.tensor([1.0, 1e-3, 0]).to(dtype)[:, None, None]
    matrices = torch.randn(3, *shape).to(dtype) * sizes
    if dtype.is_complex:
        matrices = matrices * torch.polar(torch.ones(shape), torch.randn(shape)).to(dtype)
    for scale in (1.0, 2.0**60, 2.0**-60):
        scaled = matrices * scale
        wide = scaled.to(torch.complex128 if dtype.is_complex else torch.float64)
        truth = torch.linalg.matrix_norm(wide, ord=2)
        found = linalg.matrix_norms(scaled)
        assert (found >= truth * (1 - 1e-14)).all()
        assert (found[:2] <= truth[:2] * (1 + 1e-6)).all()
        assert found[2] == 0


def test_norms_of_matrices_that_are_not_finite_are_infinite() -> None:
    matrices = torch.ones(2, 3, 3, dtype=torch.complex128)
    matrices[1, 0, 0] = complex(0, math.nan)
    assert linalg.matrix_norms(matrices).isinf().all()
    assert linalg.matrix_norms(torch.full((1, 2, 2), math.inf)).isinf().all()


def test_norms_of_conjugated_views_are_those_of_the_matrices() -> None:
    matrices = torch.randn(2, 4, 3, dtype=torch.complex128)
    assert torch.equal(linalg.matrix_norms(matrices.mH), linalg.matrix_norms(matrices.mH.clone()))
