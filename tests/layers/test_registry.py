"""Layers by name."""

import inspect

import pytest
import torch
from torch import nn

from lipnets import layers


def test_all_layers_have_names() -> None:
    constrained = {f"{name}_linear" for name in ("aol", "bjorck", "cayley", "geotorch", "spectral", "unit_norm")}  # fmt: skip
    constrained |= {"aol_conv2d", "band_conv2d", "bcop_conv2d", "spectral_conv2d"}
    assert set(layers.names()) >= constrained | {"linear", "conv2d", "maxmin", "groupsort", "abs", "relu"}  # fmt: skip


def test_unconstrained_layers_are_those_of_torch() -> None:
    assert type(layers.build("linear", in_features=2, out_features=3)) is nn.Linear
    assert type(layers.build("conv2d", in_channels=2, out_channels=3, kernel_size=1)) is nn.Conv2d
    assert type(layers.build("relu")) is nn.ReLU


@pytest.mark.parametrize("name", ["aol_conv2d", "bcop_conv2d", "spectral_conv2d"])
def test_constrained_convolutions_have_the_signature_of_torch(name) -> None:
    expected = inspect.signature(nn.Conv2d).parameters
    assert inspect.signature(layers.registry[name]).parameters == expected
    assert layers.registry[name].__doc__.startswith("Builds")


def test_an_argument_that_is_not_in_the_signature_is_refused() -> None:
    with pytest.raises(TypeError, match="did you mean 'out_features'"):
        layers.build("cayley_linear", in_features=2, out_feature=3)


def test_layers_follow_the_random_seed() -> None:
    def drawn() -> torch.Tensor:
        torch.manual_seed(3)
        return layers.build("bcop_conv2d", in_channels=4, out_channels=4, kernel_size=3).weight

    assert torch.equal(drawn(), drawn())
