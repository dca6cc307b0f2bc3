"""Models in directories, and timm beside them."""

import json
import subprocess
import sys

import pytest
import torch

import lipnets
from lipnets.models import save_pretrained

TINY = {"num_classes": 5, "in_chans": 1, "img_size": (8, 9), "width": 4, "depths": (2, 2)}


@pytest.fixture
def model() -> lipnets.models.Network:
    act = {"name": "groupsort", "group_size": 2}
    return lipnets.create_model("lipconvnet_xs", **TINY, act=act, mean=[0.5], std=[0.25]).eval()


def test_what_was_saved_is_the_same_network(model, tmp_path) -> None:
    model.save_pretrained(tmp_path / "new")
    again = lipnets.from_pretrained(tmp_path / "new")
    x = torch.rand(3, 1, 8, 9)
    assert torch.equal(model(x), again(x))
    assert not again.training
    assert again.name == "lipconvnet_xs"
    assert lipnets.certify(model, (1, 8, 9)).matches(again)


def test_building_a_saved_network_draws_no_random_numbers(model, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    lipnets.from_pretrained(tmp_path)
    assert torch.equal(torch.rand(4), expected)


def test_single_precision_and_a_new_head_are_kept(model, tmp_path) -> None:
    model = model.float()
    model.reset_classifier(3)
    model.save_pretrained(tmp_path)
    again = lipnets.from_pretrained(tmp_path)
    assert again.num_classes == 3
    assert {each.dtype for each in again.parameters()} == {torch.float32}


def test_what_cannot_be_built_again_is_refused_before_anything_is_written(tmp_path) -> None:
    with pytest.raises(ValueError, match="created by name"):
        save_pretrained(torch.nn.Linear(2, 2), tmp_path / "a")
    model = lipnets.create_model("lipmlp_s", widths=(4,), in_chans=1, img_size=2)
    model.arguments = {"widths": object()}
    with pytest.raises(ValueError, match="not plain data"):
        model.save_pretrained(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_missing_damaged_and_foreign_files_are_told_apart(model, tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no config\.json"):
        lipnets.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for change, why in [
        ({"architecture": "resnet18"}, "no model of lipnets"),
        ({"model_args": {**config["model_args"], "width": 6}}, "another model"),
    ]:
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(ValueError, match=why):
            lipnets.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="how to build"):
        lipnets.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ValueError, match="not a safetensors file"):
        lipnets.from_pretrained(tmp_path)


def test_changes_are_arguments_of_the_model(model, tmp_path) -> None:
    model.save_pretrained(tmp_path)
    with pytest.raises(TypeError, match="did you mean 'width'"):
        lipnets.from_pretrained(tmp_path, widht=8)


IN_TIMM = """
import {first}, {second}
import torch, timm, lipnets
names = timm.list_models("lipnets_*")
assert len(names) == len(lipnets.list_models()), names
model = timm.create_model(
    "lipnets_lipconvnet_xs", num_classes=5, in_chans=1, img_size=8, width=4, depths=(2, 2)
).eval()
assert isinstance(model, lipnets.models.Network)
assert model.num_classes == 5 and model.default_cfg["input_size"] == (1, 8, 8)
assert timm.data.resolve_model_data_config(model)["mean"] == (0.0,)
certificate = lipnets.certify(model, (1, 8, 8))
model.save_pretrained(r"{path}")
again = timm.create_model(r"local-dir:{path}", pretrained=True).eval()
assert certificate.matches(again)
for head in (3, 0):
    tuned = timm.create_model(r"local-dir:{path}", pretrained=True, num_classes=head).eval()
    assert tuned.num_classes == head
    assert all(torch.equal(*pair) for pair in zip(tuned.backbone.parameters(), model.backbone.parameters()))
maps = timm.create_model(
    "lipnets_lipconvnet_xs", features_only=True, in_chans=1, img_size=8, width=4, depths=(2, 2)
).eval()
x = torch.rand(2, 1, 8, 8)
assert [tuple(each.shape[1:]) for each in maps(x)] == [(2, 8, 8), (4, 4, 4)]
assert maps.feature_info.channels() == [2, 4] and maps.feature_info.reduction() == [1, 2]
try:
    timm.create_model("lipnets_lipmlp_s", features_only=True)
except ValueError as error:
    assert "no feature maps" in str(error)
else:
    raise SystemExit("an MLP has no feature maps")
"""


@pytest.mark.parametrize("first", ["lipnets", "timm"])
def test_timm_creates_saves_and_loads_our_models(first, tmp_path) -> None:
    second = {"lipnets": "timm", "timm": "lipnets"}[first]
    code = IN_TIMM.format(first=first, second=second, path=tmp_path)
    if first == "timm":  # which a CPU build of torch needs help to import
        shim = "from lipnets.compat import ensure_torchvision; ensure_torchvision(); import sys; "
        code = shim + "sys.modules.pop('lipnets')\n" + code
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
