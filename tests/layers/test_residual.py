"""Combinators around a branch, against the matrices of linear branches."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets import NotCertifiedError, lipschitz
from lipnets.layers import ConcatResidual, ConvexResidual, Residual, Scale

SHARES = [0.0, 0.1, 0.5, 1.0]


def norm(module: nn.Module, width: int) -> float:
    zero = module(torch.zeros(1, width))
    return torch.linalg.matrix_norm(module(torch.eye(width)) - zero, ord=2).item()


@pytest.mark.parametrize("alpha", SHARES)
@pytest.mark.parametrize("factor", [-2.0, 0.5, 1.0, 3.0])
def test_convex_averages_of_one_direction_attain_the_bound_or_cancel(alpha, factor) -> None:
    module = ConvexResidual(Scale(factor), alpha, learnable=False).double().eval()
    a = module.alpha.item()  # a float32 number
    bound = lipschitz(module, (3,)).value
    assert bound == pytest.approx((1 - a) + a * abs(factor), rel=1e-15)
    assert norm(module, 3) == pytest.approx(abs(1 - a + a * factor))
    assert norm(module, 3) <= bound


@pytest.mark.parametrize("alpha", SHARES)
@pytest.mark.parametrize("factor", [-2.0, 0.5, 1.0])
def test_concatenation_attains_its_bound(alpha, factor) -> None:
    module = ConcatResidual(Scale(factor), alpha).eval()
    bound = lipschitz(module, (3,)).value
    assert bound == pytest.approx(((1 - alpha) + alpha * factor**2) ** 0.5, rel=1e-15)
    assert norm(module, 3) == pytest.approx(bound)


@pytest.mark.parametrize("raw", [-30.0, -1.0, 0.0, 2.0, 30.0])
def test_a_learned_share_is_between_0_and_1(raw) -> None:
    module = ConvexResidual(nn.utils.parametrizations.orthogonal(nn.Linear(4, 4)))
    module.parametrizations.alpha.original.data.fill_(raw)
    module = module.double().eval()
    plain = lipnets.export(module)
    assert 0 <= plain.alpha <= 1
    assert lipschitz(plain, (4,)).value <= 1 + 1e-11
    x = torch.randn(2, 4)
    torch.testing.assert_close(plain(x), x.lerp(module.branch(x), plain.alpha))


def test_a_learned_share_starts_where_it_is_told_and_learns() -> None:
    module = ConvexResidual(Scale(2.0), 0.3)
    assert module.alpha.item() == pytest.approx(0.3, rel=1e-6)
    module(torch.ones(1, 2)).sum().backward()
    assert module.parametrizations.alpha.original.grad == pytest.approx(2 * 0.3 * 0.7, rel=1e-6)


def test_numbers_outside_the_interval_are_certified_as_they_are() -> None:
    module = ConvexResidual(Scale(3.0), 0.5, learnable=False).eval()
    module.alpha.fill_(-0.5)
    assert lipschitz(module, (2,)).value == 3.0


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_shares_outside_the_interval_are_refused(alpha) -> None:
    for build in (ConvexResidual, ConcatResidual):
        with pytest.raises(ValueError, match="alpha"):
            build(Scale(1.0), alpha)


@pytest.mark.parametrize("alpha", [0, 1])
def test_a_share_that_is_learned_starts_inside(alpha) -> None:
    with pytest.raises(ValueError, match="inside"):
        ConvexResidual(Scale(1.0), alpha)


def test_branches_that_change_the_shape_or_their_input_are_refused() -> None:
    with pytest.raises(NotCertifiedError, match="branch of a ConvexResidual should keep"):
        lipschitz(ConvexResidual(nn.Linear(4, 1)).eval(), (4,))
    for build in (ConvexResidual, ConcatResidual):
        with pytest.raises(NotCertifiedError, match="overwrites"):
            lipschitz(build(nn.ReLU(inplace=True)).eval(), (4,))


@pytest.mark.parametrize("factors", [(1.0, 2.0), (-3.0, -0.5), (2.0, -2.0)])
def test_a_shortcut_and_a_branch_of_one_direction_attain_the_sum_or_cancel(factors) -> None:
    module = Residual(*map(Scale, factors)).eval()
    bound = lipschitz(module, (3,))
    assert bound.value == abs(factors[0]) + abs(factors[1])
    assert [part.value for part in bound.parts] == [abs(factors[1]), abs(factors[0])]
    assert norm(module, 3) == pytest.approx(abs(sum(factors)))


def test_a_shortcut_leads_to_the_shape_of_the_branch() -> None:
    matrices = torch.randn(2, 3, 5)
    module = Residual(nn.Linear(5, 3, bias=False), nn.Linear(5, 3, bias=False)).eval()
    module.branch.weight.data, module.shortcut.weight.data = matrices
    torch.testing.assert_close(module(torch.eye(5)).mT, matrices.sum(dim=0))
    norms = torch.linalg.matrix_norm(matrices, ord=2).sum().item()
    assert lipschitz(module, (5,)).value == pytest.approx(norms)


def test_sums_of_two_shapes_are_refused_and_never_broadcast() -> None:
    for module in (Residual(nn.Linear(4, 1)), Residual(nn.Linear(4, 3), nn.Linear(4, 1))):
        with pytest.raises(ValueError, match="of one shape"):
            module(torch.rand(2, 4))
        with pytest.raises(NotCertifiedError, match="shape"):
            lipschitz(module.eval(), (4,))
    with pytest.raises(NotCertifiedError, match="overwrites"):
        lipschitz(Residual(nn.Linear(4, 4), nn.ReLU(inplace=True)).eval(), (4,))
