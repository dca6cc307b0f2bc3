"""Models by name: every variant, without knowing which there are."""

import copy
import inspect

import pytest
import torch
from torch import nn

import lipnets
from lipnets import layers
from lipnets.layers import MaxMin, Standardize

DATA = {"num_classes": 7, "in_chans": 2, "img_size": (10, 12)}


@pytest.mark.parametrize("name", lipnets.list_models())
def test_every_variant_is_built_on_the_meta_device(name) -> None:
    with torch.device("meta"):
        model = lipnets.create_model(name, **DATA, mean=(0.5, 0.4), std=(0.2, 0.3))
    assert [key for key, _ in model.named_children()] == ["backbone", "head"]
    assert isinstance(model.backbone[0], Standardize)
    assert model.head.out_features == 7
    assert model(torch.empty(3, 2, 10, 12, device="meta")).shape == (3, 7)


def test_names_are_in_natural_order_and_match_patterns_as_in_timm() -> None:
    names = lipnets.list_models()
    assert sorted(names) == lipnets.models.names()
    assert {"lipmlp_s", "lipmlp_m", "lipconvnet_xs", "lipconvnet_s", "lipconvnet_m"} <= set(names)
    depths = [f"lipconvnet{depth}" for depth in range(5, 45, 5)]
    assert lipnets.list_models("lipconvnet[0-9]*") == depths
    assert lipnets.list_models("lipmlp*") == [name for name in names if name.startswith("lipmlp")]
    assert lipnets.list_models(["*_s", "lipconvnet5"]) == [
        name for name in names if name.endswith("_s") or name == "lipconvnet5"
    ]
    assert lipnets.list_models("lipconvnet*", exclude_filters=["*_*", "*0"]) == depths[::2]
    assert lipnets.list_models("nothing*") == []


def test_names_are_chosen_by_family_and_by_promise() -> None:
    chosen = lipnets.list_models("*_s", "lipmlp")
    assert chosen == ["lipmlp_s"]
    assert lipnets.list_models(family=["lipmlp", "sll"], exclude_filters="lipmlp*") == [
        name for name in lipnets.list_models() if lipnets.models.card(name).family == "sll"
    ]
    free = set(lipnets.list_models()) - set(lipnets.list_models(one_lipschitz=True))
    assert free == set(
        lipnets.list_models(family=["gloronet", "lipnext", "plain_mlp", "plain_convnet", "resnet"])
    )
    with pytest.raises(ValueError, match=r"No family of models is called 'lipmpl'.*'lipmlp'"):
        lipnets.list_models(family="lipmpl")


def test_unknown_names_and_arguments_suggest_known_ones() -> None:
    with pytest.raises(ValueError, match=r"did you mean .*'lipconvnet_xs'"):
        lipnets.create_model("lipconvnet_sx")
    with pytest.raises(TypeError, match="did you mean 'num_classes'"):
        lipnets.create_model("lipmlp_s", num_class=3)
    with pytest.raises(ValueError, match="did you mean 'aol_linear'"):
        lipnets.create_model("lipmlp_s", linear="aol_liner")


@pytest.mark.parametrize("name", ["lipmlp_s", "lipconvnet_xs"])
def test_statistics_come_in_pairs_of_as_many_numbers_as_channels(name) -> None:
    for mean, std in [((0.5, 0.5), None), (None, (0.2, 0.2)), ((0.5,), (0.2,)), (0.5, 0.2)]:
        with pytest.raises(ValueError, match="both have 2 numbers"):
            lipnets.create_model(name, **DATA, mean=mean, std=std)


@pytest.mark.parametrize("name", ["lipmlp_s", "lipconvnet_xs"])
def test_image_sizes_are_one_or_two_positive_numbers(name) -> None:
    for img_size in [0, (3,), (3, 0), (1, 2, 3), 8.0, "8", (8.0, 8)]:
        with pytest.raises(ValueError, match="img_size"):
            lipnets.create_model(name, img_size=img_size)


@pytest.mark.parametrize("key", ["in_chans", "num_classes"])
def test_numbers_of_channels_and_classes_are_whole(key) -> None:
    for value in [-1, 2.5, "3", None]:
        with pytest.raises(ValueError, match=f"'{key}'"):
            lipnets.create_model("lipmlp_s", **{key: value})
    with pytest.raises(ValueError, match="'in_chans'"):
        lipnets.create_model("lipmlp_s", in_chans=0)


@pytest.mark.parametrize("name", ["lipmlp_s", "lipconvnet_xs"])
def test_standardization_counts_in_the_bound(name) -> None:
    model = lipnets.create_model(name, **DATA, mean=(0.5, 0.5), std=(0.25, 0.5)).eval()
    bound = lipnets.lipschitz(model.backbone, (2, 10, 12)).value
    assert bound == pytest.approx(4, abs=1e-6)


@pytest.mark.parametrize("name", ["lipmlp_s", "lipconvnet_xs"])
def test_states_load_into_models_of_the_same_arguments(name) -> None:
    one, other = (lipnets.create_model(name, **DATA).eval() for _ in range(2))
    x = torch.rand(2, 2, 10, 12)
    assert not torch.equal(one(x), other(x))
    other.load_state_dict(one.state_dict())
    assert torch.equal(one(x), other(x))
    assert torch.equal(one(x), copy.deepcopy(one)(x))
    assert torch.equal(one(x), lipnets.export(one)(x))


def test_layers_can_be_given_with_arguments() -> None:
    act = {"name": "groupsort", "group_size": 4}
    model = lipnets.create_model("lipmlp_s", **DATA, act=act, head="cayley_linear")
    assert model.backbone[2].group_size == 4
    gram = model.head.weight @ model.head.weight.mT
    torch.testing.assert_close(gram, torch.eye(7), rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match="with a 'name'"):
        lipnets.create_model("lipmlp_s", act={"group_size": 4})


def test_activations_are_maxmin_by_default() -> None:
    model = lipnets.create_model("lipconvnet_xs", **DATA)
    assert sum(isinstance(module, MaxMin) for module in model.modules()) == 4
    assert not any(isinstance(module, nn.ReLU) for module in model.modules())


def of_kind(kind: str, *argument: str) -> list[str]:
    """Registered layers of a kind that keep a promise, with certain arguments."""
    return [
        name
        for name in layers.names()
        if layers.card(name).kind == kind
        and layers.card(name).guarantee in ("1-Lipschitz", "orthogonal")
        and set(argument) <= set(inspect.signature(layers.registry[name]).parameters)
        and "transpose" not in name
        and "1d" not in name
        and "3d" not in name
    ]


def certified(**overrides: object) -> float:
    """The proved bound of a small network that is made of one layer throughout."""
    torch.manual_seed(0)
    model = lipnets.create_model(
        "lipconvnet_xs", in_chans=2, img_size=8, width=8, depths=(2, 1), hidden=(6,), **overrides
    )
    for parameter in model.parameters():
        with torch.no_grad():
            parameter += 0.3 * torch.randn_like(parameter)
    backbone = lipnets.export(model, (2, 8, 8)).backbone.double()
    x = torch.rand(2, 8, 8)
    jacobian = torch.autograd.functional.jacobian(lambda x: backbone(x[None])[0], x)
    bound = lipnets.lipschitz(backbone, (2, 8, 8)).value
    assert torch.linalg.matrix_norm(jacobian.flatten(1), ord=2) <= bound * (1 + 1e-9)
    return bound


@pytest.mark.parametrize("conv", of_kind("convolution", "in_channels", "out_channels"))
def test_any_convolution_fits_the_backbone(conv) -> None:
    if conv == "eco_conv2d":  # orthogonal at sizes of kernel × dilation alone
        with pytest.raises(ValueError, match="8"):
            certified(conv=conv)
        return
    assert certified(conv=conv) <= 1 + 1e-5


@pytest.mark.parametrize("linear", of_kind("dense", "in_features", "out_features"))
def test_any_linear_layer_fits_the_backbone(linear) -> None:
    own = {"rank": 3} if "rank" in inspect.signature(layers.registry[linear]).parameters else {}
    assert certified(linear={"name": linear, **own}) <= 1 + 1e-5


@pytest.mark.parametrize("act", of_kind("activation"))
def test_any_activation_fits_the_backbone(act) -> None:
    assert certified(act=act) <= 1 + 1e-5
