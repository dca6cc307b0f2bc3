"""What all models have: timm's methods, heads, slots."""

import copy

import pytest
import torch
from torch import nn

import lipnets
from lipnets.models._layer import layer
from lipnets.models.network import Network

TINY = {"num_classes": 5, "in_chans": 1, "img_size": 8, "width": 4, "depths": (2, 2)}


def tiny(**arguments: object) -> Network:
    return lipnets.create_model("lipconvnet_xs", **{**TINY, **arguments})


def test_features_and_head_make_the_forward() -> None:
    model, x = tiny().eval(), torch.rand(3, 1, 8, 8)
    features = model.forward_features(x)
    assert features.shape == (3, model.num_features)
    assert torch.equal(model.forward_head(features), model(x))
    assert model.forward_head(features, pre_logits=True) is features
    assert model.get_classifier() is model.head


def test_a_new_classifier_has_the_head_of_the_old_one() -> None:
    model = tiny(head={"name": "cayley_linear", "bias": False}).double().eval()
    model.reset_classifier(3)
    assert model.head.bias is None
    assert model.head.weight.dtype == torch.float64
    gram = model.head.weight @ model.head.weight.mT
    torch.testing.assert_close(gram, torch.eye(3), rtol=0, atol=1e-9)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert model.num_classes == model.arguments["num_classes"] == 3
    model.reset_classifier(0)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, model.num_features)
    with pytest.raises(ValueError, match="global_pool"):
        model.reset_classifier(3, "avg")
    with pytest.raises(ValueError, match="at least 0"):
        model.reset_classifier(-1)


def test_heads_are_bounded_by_pairs_of_classes() -> None:
    for head in ("unit_norm_linear", "linear", "cayley_linear", "first_channels"):
        model = tiny(head=head).eval()
        certificate = lipnets.certify(model, (1, 8, 8))
        rows = torch.eye(5, model.num_features) if head == "first_channels" else model.head.weight
        expected = torch.cdist(rows.double(), rows.double())
        torch.testing.assert_close(certificate.slopes, expected, rtol=1e-5, atol=1e-5)
        assert (certificate.slopes >= expected * (1 - 1e-6)).all()


def test_a_projection_needs_as_many_features_as_classes() -> None:
    with pytest.raises(ValueError, match="wider backbone"):
        lipnets.create_model("lipmlp_s", widths=(4,), num_classes=5, head="first_channels")


@pytest.mark.parametrize(
    ("slot", "name", "why"),
    [
        ("conv", "aol_linear", "'aol_linear' is a dense layer, and a convolution of images is needed here, such as 'aol_conv2d'"),
        ("conv", "aol_conv1d", "a convolution of images is needed"),
        ("conv", "aol_conv_transpose2d", "a convolution of images is needed"),
        ("linear", "cayley_conv2d", "a dense layer is needed here, such as 'cayley_linear'"),
        ("act", "batch_centering", "is a normalization, and an activation is needed"),
        ("head", "maxmin", "is an activation, and a dense layer is needed"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit_are_refused_with_what_does(slot, name, why) -> None:
    with pytest.raises(ValueError, match=why):
        tiny(**{slot: name, "hidden": (4,)})


def test_what_a_layer_does_not_take_is_left_out_unless_it_matters() -> None:
    known = {"in_channels": 3, "out_channels": 4, "kernel_size": 3, "stride": 1}
    assert layer("eco_conv2d", "conv", **known)(torch.rand(1, 3, 9, 9)).shape == (1, 4, 9, 9)
    with pytest.raises(ValueError, match="takes no stride"):
        layer("eco_conv2d", "conv", **{**known, "stride": 2})
    with pytest.raises(ValueError, match="takes no 'output_size'"):
        layer("max_pool2d", "pool", output_size=1)
    del known["stride"]  # 1 where nothing is said, whatever the layer does by itself
    assert layer("antialiased_conv2d", "conv", **known)(torch.rand(1, 3, 8, 8)).shape == (
        1,
        4,
        8,
        8,
    )
    with pytest.raises(ValueError, match="needs 'size'"):
        layer("fourier_conv2d", "conv", **known)
    for spec in (None, 5, ["relu"], {"nam": "relu"}):
        with pytest.raises(ValueError, match="a name or a mapping"):
            layer(spec, "act")


def test_feature_info_names_the_last_map_of_each_size() -> None:
    model = tiny(patch=2).eval()
    found, outputs = model.feature_info, {}
    for name, module in model.named_modules():
        module.register_forward_hook(lambda _, __, out, name=name: outputs.update({name: out}))
    model(torch.rand(2, 1, 8, 8))
    assert [info["reduction"] for info in found] == [2, 4]
    for info in found:
        out = outputs[info["module"]]
        assert out.shape == (2, info["num_chs"], 8 // info["reduction"], 8 // info["reduction"])
    assert lipnets.create_model("lipmlp_s").feature_info == []
    with pytest.raises(ValueError, match="'input_size'"):
        _ = Network(nn.Flatten(), nn.Linear(4, 2)).feature_info


def test_what_parametrizations_constrain_does_not_decay() -> None:
    model = tiny()
    names = model.no_weight_decay()
    assert names == {name for name, _ in model.named_parameters() if "parametrizations" in name}
    assert names


def test_copies_and_slices_are_certified_alike() -> None:
    model = tiny().eval()
    certificate = lipnets.certify(model, (1, 8, 8))
    for same in (copy.deepcopy(model), model[:].eval(), nn.Sequential(*model).eval()):
        assert torch.equal(lipnets.certify(same, (1, 8, 8)).slopes, certificate.slopes)


def test_a_model_whose_class_overrides_forward_is_refused() -> None:
    class Doubled(Network):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    model = tiny().eval()
    model.__class__ = Doubled
    with pytest.raises(lipnets.NotCertifiedError, match=r"Doubled\.forward"):
        lipnets.certify(model, (1, 8, 8))


def test_a_head_that_is_the_first_layer_as_well_is_bounded_as_the_last() -> None:
    shared = nn.Linear(4, 4)
    model = nn.Sequential(shared, nn.Linear(4, 4), shared).eval()
    certificate = lipnets.certify(model, (4,))
    x, y = torch.randn(2, 1000, 4)
    gaps = (model(x) - model(y)).detach()
    gaps = (gaps[:, :, None] - gaps[:, None]).abs().amax(dim=0)
    ratios = gaps / (x - y).norm(dim=1).max()
    assert (ratios <= certificate.slopes + 1e-12).all()
    rows = shared.weight.detach()
    outer = lipnets.lipschitz(model[:2].eval(), (4,)).value
    torch.testing.assert_close(certificate.slopes, torch.cdist(rows, rows) * outer)
