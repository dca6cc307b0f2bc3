"""Exports compute the same function with the same certificate, from plain modules."""

import geotorch
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrize

from lipnets import certify, export, lipschitz, models
from lipnets.layers import SymbolConv2d
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


def test_programs_for_one_size_need_the_size() -> None:
    with pytest.raises(ValueError, match="give its 'shape'"):
        export(nn.Linear(2, 2), program="exact")
    with pytest.raises(ValueError, match="plain, float64 or exact"):
        export(nn.Linear(2, 2), (2,), program="fast")


# Weights of fewer bits


def network() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 4)).float().eval()


def dense(plain: nn.Sequential) -> list[torch.Tensor]:
    return [m.weight.detach().double() for m in plain if isinstance(m, nn.Linear)]


@pytest.mark.parametrize("weights", ["float16", "bfloat16", "int8"])
def test_weights_of_fewer_bits_are_certified_as_they_are(weights) -> None:
    model, shape = network(), (3, 2, 2)
    plain = export(model, shape, weights=weights)
    certificate = certify(plain, shape)
    first, last = dense(plain)
    assert all(not torch.equal(*pair) for pair in zip(dense(plain), dense(model), strict=True))
    norm = torch.linalg.matrix_norm(first, 2).item()
    assert norm <= certificate.bound.parts[1].value <= norm * (1 + 1e-9)
    slopes = norm * torch.cdist(last, last)
    assert (slopes <= certificate.slopes + 1e-15).all()
    assert torch.allclose(slopes, certificate.slopes, rtol=1e-8, atol=1e-8)
    # and neither bound nor logits are those of the network before
    assert certificate.lipschitz != certify(model, shape).lipschitz
    x = torch.rand(6, *shape)
    logits = torch.relu(x.flatten(1) @ first.mT + plain[1].bias.double()) @ last.mT
    logits = (logits + plain[3].bias.double()).detach()
    assert torch.allclose(certificate.logits(x), logits)
    labels = logits.argmax(dim=1)
    margins = logits.gather(1, labels[:, None]) - logits
    ratios = (margins / slopes[labels]).masked_fill(margins == 0, torch.inf)
    radii = certificate.radii(x, labels)
    assert (radii <= ratios.amin(dim=1)).all()
    assert torch.allclose(radii, ratios.amin(dim=1), rtol=1e-6)


@pytest.mark.parametrize(
    ("weights", "dtype"), [("float16", torch.float16), ("bfloat16", torch.bfloat16)]
)
def test_formats_hold_the_exported_weights(weights, dtype) -> None:
    plain = export(network(), weights=weights)
    for parameter in plain.parameters():
        assert parameter.dtype == torch.float32
        assert torch.equal(parameter.to(dtype).float(), parameter)


def levels(weight: torch.Tensor) -> None:
    """Each row of a matrix holds 255 equidistant numbers at the most, the outermost among them."""
    for row in weight:
        scale = row.abs().max() / 127
        steps = row / scale
        assert (steps - steps.round()).abs().max() < 1e-4


def test_integers_of_eight_bits_are_scaled_for_each_output() -> None:
    model = nn.Sequential(
        nn.Conv2d(4, 6, 3, groups=2), nn.ConvTranspose2d(6, 4, 2, groups=2), nn.Linear(5, 3)
    ).float()
    with torch.no_grad():
        model[2].weight[1] = 0.0
        for module in model:  # outputs of very different sizes
            module.weight *= torch.logspace(-2, 2, module.weight.numel()).view_as(module.weight)
    plain = export(model, weights="int8")
    levels(plain[0].weight.flatten(1))
    across = plain[1].weight.unflatten(0, (2, 3)).transpose(1, 2).flatten(0, 1)  # (O, I / G, *K)
    levels(across.flatten(1))
    levels(plain[2].weight[[0, 2]])
    assert not plain[2].weight[1].any()
    assert torch.equal(plain[0].bias, model[0].bias)
    for before, after in zip(model, plain, strict=True):
        assert (before.weight - after.weight).abs().max() <= before.weight.abs().max() / 250


def test_weights_that_a_format_cannot_hold_are_refused() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight[0, 0] = 1e5
    with pytest.raises(ValueError, match="too large for float16"):
        export(model, weights="float16")
    with pytest.raises(ValueError, match="one of float16, bfloat16, int8"):
        export(model, weights="int4")


# Graphs


FAMILIES = sorted({models.card(name).family for name in models.names()})


SLOW = {
    "bronet",
    "kwlarge",
    "lipconvnet",
    "onelip_convnet",
}  # matrices at many frequencies, one by one


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in FAMILIES],
)
def test_torch_exports_every_family_for_batches_of_any_size(family, tiny_member) -> None:
    plain = export(tiny_member(family), (1, 8, 8)).requires_grad_(False)
    batch = torch.export.Dim("batch", min=1)
    graph = torch.export.export(plain, (torch.rand(2, 1, 8, 8),), dynamic_shapes=({0: batch},))
    for count in (1, 3):
        x = torch.rand(count, 1, 8, 8)
        assert torch.allclose(graph.module()(x), plain(x), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 5), (5, 4), (1, 2)])
@pytest.mark.parametrize("padding", ["zeros", "circular"])
def test_graphs_of_matrices_at_frequencies_compute_what_the_layer_does(size, padding) -> None:
    """Sides that are odd, even or the least: each has rows and columns of its own in the half plane."""
    layer = SymbolConv2d(2, 3, 3 if min(size) > 1 else 1, padding="same", padding_mode=padding)
    plain = export(layer, (2, *size)).requires_grad_(False)
    graph = torch.export.export(plain, (torch.rand(2, 2, *size),)).module()
    x = torch.rand(2, 2, *size)
    assert torch.allclose(graph(x), plain(x), rtol=0, atol=1e-13)
    assert torch.allclose(graph(x), layer.eval()(x), rtol=0, atol=1e-12)
