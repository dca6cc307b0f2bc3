"""Exports compute the same function with the same certificate, from plain modules."""

import geotorch
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lipnets import certify, export, lipschitz
from lipnets.layers.residual import Residual


def parametrized() -> nn.Sequential:
    orthogonal = nn.utils.parametrizations.orthogonal
    spectral = nn.utils.parametrizations.spectral_norm
    dense = nn.Linear(8, 8)
    geotorch.orthogonal(dense, "weight", triv="cayley")
    return nn.Sequential(
        nn.Flatten(),
        orthogonal(nn.Linear(6, 8)),
        nn.BatchNorm1d(8),
        Residual(nn.Sequential(spectral(nn.Linear(8, 8)), nn.ReLU())),
        dense,
        nn.Linear(8, 3),
    )


def test_export_keeps_outputs_and_certificate_to_the_bit() -> None:
    model = parametrized().eval()
    plain = export(model)
    x = torch.randn(5, 1, 2, 3)
    assert not any(parametrize.is_parametrized(module) for module in plain.modules())
    assert torch.equal(plain(x), model(x))
    assert lipschitz(plain, (1, 2, 3)) == lipschitz(model, (1, 2, 3))
    assert torch.equal(certify(plain, (1, 2, 3)).slopes, certify(model, (1, 2, 3)).slopes)


def test_export_leaves_the_model_trainable_and_shares_nothing() -> None:
    model = parametrized().train()
    export(model)
    assert model.training
    assert all(module.training for module in model.modules())
    plain = export(model)
    before = {name: tensor.clone() for name, tensor in plain.state_dict().items()}
    loss = model(torch.randn(5, 1, 2, 3)).square().sum()
    loss.backward()
    torch.optim.SGD(model.parameters(), lr=0.1).step()
    assert parametrize.is_parametrized(model[1])
    assert all(torch.equal(tensor, before[name]) for name, tensor in plain.state_dict().items())
    assert not torch.equal(export(model)[1].weight, plain[1].weight)


def test_exports_of_copies_leave_each_other_alone() -> None:
    model = parametrized()
    first, second = export(model), export(model)
    assert first(torch.zeros(1, 1, 2, 3)).shape == (1, 3)
    assert second(torch.zeros(1, 1, 2, 3)).shape == (1, 3)
    assert model.eval()(torch.zeros(1, 1, 2, 3)).shape == (1, 3)


def test_export_keeps_dtype_and_state_dict_can_be_saved(tmp_path) -> None:
    from safetensors.torch import save_file

    plain = export(parametrized().float())
    assert {p.dtype for p in plain.parameters()} == {torch.float32}
    save_file(
        {k: v.contiguous() for k, v in plain.state_dict().items()}, tmp_path / "a.safetensors"
    )


def test_autocast_does_not_reach_the_exported_weights() -> None:
    model = parametrized().float().eval()
    expected = export(model)[1].weight
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(export(model)[1].weight, expected)


@pytest.mark.parametrize("module", [nn.ReLU(), nn.Sequential()])
def test_modules_without_weights_export(module) -> None:
    assert type(export(module)) is type(module)
