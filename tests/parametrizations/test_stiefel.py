"""The bridge to geotorch."""

import geotorch
import torch
from torch import nn

from lipnets import layers
from lipnets.parametrizations import Stiefel


def test_it_is_what_geotorch_registers() -> None:
    ours = layers.build("geotorch_linear", in_features=4, out_features=6)
    theirs = geotorch.orthogonal(nn.Linear(4, 6), "weight", triv="cayley")
    assert isinstance(ours.parametrizations.weight[0], geotorch.Stiefel)
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    theirs.load_state_dict(ours.state_dict())
    torch.testing.assert_close(ours.weight, theirs.weight)


def test_an_orthogonal_weight_can_be_assigned() -> None:
    layer = layers.build("geotorch_linear", in_features=6, out_features=4)
    weight = torch.linalg.qr(torch.randn(6, 4)).Q.mT
    layer.weight = weight
    torch.testing.assert_close(layer.weight, weight)


def test_its_base_does_not_move() -> None:
    layer = layers.build("geotorch_linear", in_features=4, out_features=4)
    before = layer.parametrizations.weight[0].base.clone()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(3, 4)).square().sum().backward()
    optimizer.step()
    layer.eval()(torch.randn(3, 4))
    assert torch.equal(layer.parametrizations.weight[0].base, before)


def test_it_follows_the_dtype_of_the_weight() -> None:
    weight = torch.empty(3, 5, dtype=torch.float32)
    assert Stiefel.like(weight).base.dtype == torch.float32
