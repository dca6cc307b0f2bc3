"""Residual blocks that change the size of images, against Jacobians."""

import itertools

import pytest
import torch

import lipnets
from lipnets import layers, lipschitz


@pytest.mark.parametrize("mode", ["zeros", "circular"])
def test_any_geometry_is_1_lipschitz_and_has_the_shape_of_a_convolution(mode) -> None:
    for (ins, outs), kernel, stride in itertools.product([(2, 6), (4, 2)], [2, 3, 4], [1, 2]):
        if mode == "circular" and kernel % 2 == 0:
            continue
        given = {"in_channels": ins, "out_channels": outs, "kernel_size": kernel}
        given |= {"stride": stride, "padding": (kernel - 1) // 2, "padding_mode": mode}
        layer = layers.build("sll_aoc_conv2d", **given).eval()
        x = torch.randn(1, ins, 6, 6)
        plain = torch.nn.Conv2d(**given)
        assert layer(x).shape == plain(x).shape
        exported = lipnets.export(layer)
        assert lipschitz(exported, (ins, 6, 6)).value <= 1 + 1e-6
        jacobian = torch.autograd.functional.jacobian(lambda x, f=exported: f(x)[0], x)
        norm = torch.linalg.matrix_norm(jacobian.reshape(-1, x.numel()), ord=2)
        assert 0.5 < norm <= 1 + 1e-6


def test_what_its_parts_refuse_is_refused() -> None:
    with pytest.raises(ValueError, match="repeats pixels"):
        layers.build(
            "sll_aoc_conv2d", in_channels=2, out_channels=2, kernel_size=3, padding_mode="reflect"
        )
