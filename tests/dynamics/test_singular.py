"""The largest singular value: slopes and curvatures against autograd and finite differences."""

import pytest
import torch
from torch import Tensor

from lipnets.dynamics.leading import leading, start_vectors
from lipnets.dynamics.singular import Top, top

SHAPES = [(1, 1), (1, 5), (5, 1), (4, 4), (6, 3), (3, 6), (2, 9)]


def matrices(m: int, n: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    return torch.randn(1, m, n, dtype=dtype), torch.randn(1, m, n, dtype=dtype)


def norm(matrix: Tensor) -> Tensor:
    return torch.linalg.svdvals(matrix)[..., 0]


def krylov(matrix: Tensor) -> Top:
    return leading(matrix, start_vectors(matrix))


@pytest.mark.parametrize("find", [top, krylov])
@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("m", "n"), SHAPES)
def test_slope_and_curvature_are_the_derivatives_of_the_norm(m, n, dtype, find) -> None:
    """Central differences of five points: errors of h⁴ in theory, of 1e-16 / h² in floats."""
    matrix, direction = matrices(m, n, dtype)
    found, h = find(matrix), 1e-3
    at = {k: norm(matrix + k * h * direction) for k in (-2, -1, 0, 1, 2)}
    slope = (8 * (at[1] - at[-1]) - (at[2] - at[-2])) / (12 * h)
    bent = (16 * (at[1] + at[-1]) - (at[2] + at[-2]) - 30 * at[0]) / (12 * h * h)
    values = torch.linalg.svdvals(matrix)[0]
    second = values[1] if len(values) > 1 else torch.zeros(())
    assert found.value == pytest.approx(values[:1], rel=1e-12)
    assert found.second == pytest.approx(second.expand(1), rel=1e-5, abs=1e-9)
    assert found.slope(direction) == pytest.approx(slope, rel=1e-7, abs=1e-7)
    assert found.curvature(direction) == pytest.approx(bent, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize(("m", "n"), [(5, 3), (3, 5), (4, 4)])
def test_curvature_is_the_hessian_of_autograd(m, n) -> None:
    matrix, direction = matrices(m, n, torch.float64)
    hessian = torch.autograd.functional.hessian(lambda w: torch.linalg.matrix_norm(w, 2), matrix[0])
    bent = torch.einsum("ijkl,ij,kl", hessian, direction[0], direction[0])
    assert top(matrix).curvature(direction).item() == pytest.approx(bent.item(), rel=1e-10)


def test_many_directions_are_seen_at_once() -> None:
    matrix = torch.randn(3, 4, 5)
    directions = torch.randn(2, 3, 4, 5)
    together = top(matrix).curvature(directions)
    for number, direction in enumerate(directions):
        for place in range(3):
            alone = top(matrix[[place]]).curvature(direction[[place]])
            assert together[number, place] == pytest.approx(alone.item(), rel=1e-10)


@pytest.mark.parametrize("dtype", [torch.float64, torch.complex128])
@pytest.mark.parametrize(("m", "n"), [(90, 140), (140, 90), (100, 100)])
def test_large_matrices_are_found_again_from_where_they_were(m, n, dtype) -> None:
    """Singular vectors to 1e-8, curvatures to 1e-3: what the ledger needs."""
    matrix, direction = matrices(m, n, dtype)
    before = krylov(matrix)
    assert before.start is not None
    after = leading(matrix + 1e-3 * direction, before.start)
    u, s, vh = torch.linalg.svd(matrix[0] + 1e-3 * direction[0])
    assert after.value.item() == pytest.approx(s[0].item(), rel=1e-12)
    assert after.second.item() == pytest.approx(s[1].item(), rel=1e-4)
    outer = after.left[0][:, None] * after.right[0].conj()
    assert (outer - u[:, :1] @ vh[:1]).abs().max() < 1e-8
    exact = top(matrix + 1e-3 * direction).curvature(direction)
    assert after.curvature(direction) == pytest.approx(exact, rel=1e-3)
    assert after.gap == pytest.approx(s[:1] - s[1:2], rel=1e-2)


def test_a_direction_along_the_matrix_is_not_bent() -> None:
    matrix, _ = matrices(4, 6, torch.complex128)
    assert top(matrix).slope(matrix) == pytest.approx(norm(matrix), rel=1e-12)
    assert top(matrix).curvature(matrix).item() == pytest.approx(0, abs=1e-12)
