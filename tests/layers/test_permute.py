"""Orders of axes."""

import pytest
import torch

import lipnets
from lipnets.layers import Permute


def test_axes_are_put_in_order() -> None:
    x = torch.rand(2, 3, 4, 5)
    y = Permute(0, 2, 3, 1)(x)
    assert y.shape == (2, 4, 5, 3)
    assert y[1, 2, 3, 0] == x[1, 0, 2, 3]


@pytest.mark.parametrize("dims", [(), (1, 0), (0, 1, 1), (0, 2), (0, -1), (1,)])
def test_other_lists_of_axes_are_refused(dims) -> None:
    with pytest.raises(ValueError, match="all other axes"):
        Permute(*dims)


def test_examples_stay_apart() -> None:
    layer = Permute(0, 2, 1).eval()
    layer.dims = (1, 0, 2)
    with pytest.raises(lipnets.NotCertifiedError, match="mixes the examples"):
        lipnets.lipschitz(layer, (3, 4))
