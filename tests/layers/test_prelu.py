"""PReLU with clipped slopes."""

import torch

import lipnets
from lipnets import layers


def test_slopes_are_clipped_to_1() -> None:
    module = layers.lprelu(3)
    module.parametrizations.weight.original.data = torch.tensor([0.5, -7.0, 3.0])
    out = module(torch.tensor([[-2.0, -2.0, -2.0], [2.0, 2.0, 2.0]]))
    assert out.tolist() == [[-1.0, 2.0, -2.0], [2.0, 2.0, 2.0]]
    assert lipnets.lipschitz(lipnets.export(module), (3,)).value == 1
