"""The Cayley map against its definition."""

import pytest
import torch

from lipnets.parametrizations import Cayley


def test_square_weights_follow_the_definition() -> None:
    weight = torch.randn(5, 5)
    skew, identity = weight - weight.mT, torch.eye(5)
    expected = (identity - skew) @ torch.linalg.inv(identity + skew)
    torch.testing.assert_close(Cayley()(weight), expected)


@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_zero_is_sent_to_the_identity(shape) -> None:
    assert torch.equal(Cayley()(torch.zeros(shape)), torch.eye(*shape))


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e2, 1e6])
@pytest.mark.parametrize("shape", [(4, 4), (6, 3), (3, 6)])
def test_columns_or_rows_are_orthonormal_at_any_scale(shape, scale) -> None:
    weight = Cayley()(scale * torch.randn(shape))
    gram = weight.mT @ weight if shape[0] >= shape[1] else weight @ weight.mT
    torch.testing.assert_close(gram, torch.eye(min(shape)), rtol=0, atol=1e-9)


def test_nearly_collinear_columns_in_float32_give_orthonormal_ones() -> None:
    weight = torch.randn(8, 1, dtype=torch.float32) + 1e-4 * torch.randn(8, 4, dtype=torch.float32)
    values = torch.linalg.svdvals(Cayley()(50 * weight).double())
    torch.testing.assert_close(values, torch.ones(4), rtol=0, atol=3e-7)
