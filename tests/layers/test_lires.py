"""Linear residual layers, against the sum that they are made of."""

import pytest
import torch
from torch import nn

from lipnets import layers, lipschitz


@pytest.mark.parametrize(("ins", "outs"), [(4, 4), (3, 5), (5, 3)])
@pytest.mark.parametrize("scale", [0.0, 0.01, 1.0, 100.0])
def test_dense_layers_are_a_sum_with_the_identity_over_its_norm(ins, outs, scale) -> None:
    layer = layers.build("lires_linear", in_features=ins, out_features=outs)
    raw = layer.parametrizations.weight.original.data
    total = torch.eye(outs, ins) + nn.init.normal_(raw, std=scale)
    norm = torch.linalg.matrix_norm(total, ord=2)
    torch.testing.assert_close(layer.weight, total / norm, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kernel_size", [1, 2, 3, (3, 2)])
@pytest.mark.parametrize(("ins", "outs"), [(3, 3), (2, 4)])
def test_convolutions_add_their_input_to_the_output(kernel_size, ins, outs) -> None:
    given = {"in_channels": ins, "out_channels": outs, "kernel_size": kernel_size, "bias": False}
    given |= {"padding": "same", "padding_mode": "circular"}
    layer = layers.build("lires_conv2d", **given)
    raw = nn.init.normal_(layer.parametrizations.weight.original.data)
    plain = nn.Conv2d(**given)
    plain.weight.data = raw
    x = torch.randn(2, ins, 6, 6)
    total = plain(x)
    common = min(ins, outs)
    total[:, :common] += x[:, :common]
    out = layer(x)
    factor = (out / total).flatten()
    torch.testing.assert_close(out, total * factor[0])
    assert 0.9 < lipschitz(layer.eval(), (ins, 32, 32)).value <= 1 + 1e-6


def test_layers_start_near_the_identity() -> None:
    conv = layers.build("lires_conv2d", in_channels=4, out_channels=4, kernel_size=3, padding=1)
    x = torch.randn(2, 4, 5, 5)
    torch.testing.assert_close(conv(x), x, rtol=0.05, atol=0.2)


@pytest.mark.parametrize("given", [{"stride": 2}, {"groups": 2}])
def test_convolutions_without_an_identity_are_refused(given) -> None:
    with pytest.raises(ValueError, match="stride 1 and one group"):
        layers.build("lires_conv2d", in_channels=4, out_channels=4, kernel_size=3, **given)
