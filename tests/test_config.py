"""Configs: how files are composed, what is refused, and what is said about it."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lipnets import data, losses, models, optim
from lipnets.config import ConfigError, json_schema, load_config, parse_config, shipped
from lipnets.data import Dataset, Split

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / "configs").rglob("*.yaml"))
SHAPES = {"digits": (1, 8, 8), "fashion_mnist": (1, 28, 28), "cifar10": (3, 32, 32)}
OTHERS = {"mnist": (1, 28, 28)}  # for which not every family has a config
# Too small, or small beside their kin, for what there is to learn.
EXCUSED = {"cifar10": {"lipconvnet_small", "plain_mlp", "plain_convnet"}}

GOOD: dict[str, Any] = {
    "data": {"name": "digits", "augment": ["shift"]},
    "model": {"name": "lipmlp_s"},
    "loss": {"name": "cross_entropy", "temperature": 0.1},
    "optimizer": {"name": "sgd", "lr": 0.1},
    "schedule": {"epochs": 3},
}


def write(path: Path, tree: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(tree if isinstance(tree, str) else yaml.safe_dump(tree))
    return path


def problems(tree: Any, overrides: tuple[str, ...] = (), *, path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_config(write(path / "bad.yaml", tree), overrides)
    assert all(problem in str(caught.value) for problem in caught.value.problems)
    return caught.value.problems


# The configs of this repository.


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_config_is_valid_and_builds_what_it_names(path: Path) -> None:
    config = load_config(path)
    shape, classes = {**SHAPES, **OTHERS}[config.data.name], 10
    split = Split(torch.rand(2, *shape, dtype=torch.float32), torch.arange(2))
    names = tuple(map(str, range(classes)))
    config = config.fitted_to(Dataset(config.data.name, split, split, names))
    with torch.device("meta"):
        model = models.build(config.model.name, **config.model.arguments)
        logits = model(torch.empty(2, *shape))
    assert logits.shape == (2, classes)
    optimizer = optim.create_optimizer(model, config.optimizer.name, **config.optimizer.arguments)
    held = {id(each) for group in optimizer.param_groups for each in group["params"]}
    assert held == {id(each) for each in model.parameters()}
    optim.create_scheduler(optimizer, 10 * config.schedule.epochs)
    losses.build(config.loss.name, **config.loss.arguments)


@pytest.mark.parametrize("data", SHAPES)
def test_every_family_has_a_config_for_each_data_set(data) -> None:
    named = {load_config(path).model.name for path in CONFIGS if path.parent.name == data}
    families = {models.card(name).family for name in named}
    known = {models.card(name).family for name in models.names()} - EXCUSED.get(data, set())
    assert families >= known


# Reading and composing.


def test_values_are_read_and_defaults_filled_in(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "a.yaml", GOOD))
    assert (config.seed, config.data.batch_size, config.schedule.warmup_epochs) == (0, 128, 0.0)
    assert config.loss.arguments == {"temperature": 0.1, "offset": None, "radius": None}
    assert config.optimizer.arguments == {
        "lr": 0.1,
        "weight_decay": 0.0,
        "momentum": 0.9,
        "nesterov": True,
        "lookahead": 0,
    }
    [shift] = config.data.augment
    assert (shift.name, shift.arguments) == ("shift", {"pixels": 1})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("1E3", 1000.0),
        ("2.5e-1", 0.25),
        (".5e+1", 5.0),
        ("3", 3.0),
        ("1_0.5", 10.5),
    ],
)
def test_numbers_in_any_notation_are_numbers(tmp_path: Path, text: str, value: float) -> None:
    path = write(tmp_path / "a.yaml", GOOD)
    assert load_config(path, [f"optimizer.lr={text}"]).optimizer.lr == value
    lines = yaml.safe_dump(GOOD).replace("lr: 0.1", f"lr: {text}")
    assert load_config(write(path, lines)).optimizer.lr == value


def test_texts_that_look_like_numbers_stay_texts(tmp_path: Path) -> None:
    for text in ("e3", "1e", "v1e3", "1e3x"):
        found = problems(GOOD, (f"optimizer.lr={text}",), path=tmp_path)
        assert f"(got '{text}')" in found[0]


def test_a_file_is_read_on_top_of_its_bases(tmp_path: Path) -> None:
    write(tmp_path / "base.yaml", GOOD)
    write(tmp_path / "more.yaml", {"seed": 7, "schedule": {"epochs": 5}})
    tree = {"base": ["../base.yaml", "../more.yaml"], "schedule": {"warmup_epochs": 2}}
    config = load_config(write(tmp_path / "deep" / "a.yaml", tree))
    assert (config.seed, config.schedule.epochs, config.schedule.warmup_epochs) == (7, 5, 2)
    assert config.loss.arguments["temperature"] == 0.1
    assert config.model.name == "lipmlp_s"


def test_a_section_with_another_name_is_replaced(tmp_path: Path) -> None:
    """The arguments of the base are of another function: `nesterov` is not one of Adam's."""
    write(tmp_path / "base.yaml", {**GOOD, "optimizer": {**GOOD["optimizer"], "nesterov": False}})
    tree = {"base": "base.yaml", "optimizer": {"name": "adam", "lr": 0.2}}
    assert load_config(write(tmp_path / "a.yaml", tree)).optimizer.lr == 0.2
    same = {"base": "base.yaml", "optimizer": {"name": "sgd", "lr": 0.2}}
    assert load_config(write(tmp_path / "b.yaml", same)).optimizer.arguments["nesterov"] is False


@pytest.mark.parametrize("order", [1, -1])
def test_overrides_replace_values_in_whatever_order(tmp_path: Path, order: int) -> None:
    lines = ["optimizer.lr=1e-4", "optimizer.name=adam", " seed = 3", "data.augment=[flip, shift]"]
    config = load_config(write(tmp_path / "a.yaml", GOOD), lines[::order])
    assert (config.optimizer.name, config.optimizer.lr, config.seed) == ("adam", 1e-4, 3)
    assert [each.name for each in config.data.augment] == ["flip", "shift"]


def test_a_config_survives_being_written(tmp_path: Path) -> None:
    config = load_config(write(tmp_path / "a.yaml", GOOD), ["optimizer.lr=1e-7"])
    again = load_config(write(tmp_path / "b.yaml", config.to_yaml()))
    assert again.to_tree() == config.to_tree()
    assert again.optimizer.lr == 1e-7


def test_a_config_cannot_be_changed() -> None:
    config = parse_config(GOOD)
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 1
    with pytest.raises(ValueError, match="frozen"):
        config.optimizer.lr = 1.0


# Mistakes.


def test_all_mistakes_are_told_at_once_with_suggestions(tmp_path: Path) -> None:
    tree = {
        "seeed": 1,
        "data": {
            "name": "digits",
            "batch_size": 0,
            "augment": ["shft", {"name": "crop", "pad": 1}],
        },
        "model": {"name": "lipmlp_ss"},
        "loss": {"name": "cross_entropy", "temperature": -1.0},
        "optimizer": {"name": "sgd", "lr": -1, "momntum": 0.8},
        "schedule": {"warmup_epochs": 1},
        "record": 3,
    }
    found = problems(tree, ("schedule.epochs", "optimizer.lr=[", ".a=1"), path=tmp_path)
    wanted = [
        ("'schedule.epochs'", 'should read "key.sub=value"'),
        ("'optimizer.lr=['", "not YAML"),
        ("'.a=1'", 'should read "key.sub=value"'),
        ("seeed:", "unknown key", "did you mean 'seed'", "got 1"),
        ("data.batch_size:", "should be greater than 0", "got 0"),
        ("data.augment[0].name:", "'shft'", "did you mean 'shift'"),
        ("data.augment[1].pad:", "did you mean 'padding'"),
        ("model.name:", "'lipmlp_ss'", "did you mean 'lipmlp_s'"),
        ("loss:", "'temperature' should be positive, got -1.0"),
        ("optimizer.lr:", "should be greater than 0", "got -1"),
        ("optimizer.momntum:", "did you mean 'momentum'"),
        ("schedule.epochs:", "is missing"),
        ("record:", "should hold keys and values", "got 3"),
    ]
    for words in wanted:
        assert any(all(word in problem for word in words) for problem in found), words
    assert len(found) == len(wanted)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"model": None}, "model: should hold keys and values (got None)"),
        (
            {"model": "lipmlp_s"},
            "model: should hold keys and values, such as {name: lipmlp_s} (got",
        ),
        ({"model": {"width": 3}}, "model.name: is missing"),
        (
            {"model": {"name": "lipmlp_s", "act": "maxmim"}},
            "model.act: No layer is called 'maxmim': did you mean 'maxmin'",
        ),
        (
            {"model": {"name": "lipmlp_s", "act": {"name": "groupsort", "groups": 4}}},
            "model.act: layer 'groupsort' has no argument 'groups': did you mean 'group_size'",
        ),
        (
            {"model": {"name": "lipmlp_s", "act": {"group_size": 4}}},
            "model.act: should be the name of a layer, or have a 'name'",
        ),
        ({"schedule": {"epochs": "ten"}}, "schedule.epochs: should be a valid integer"),
        ({"schedule": {"epochs": 2.5}}, "schedule.epochs: should be a valid integer"),
        ({"schedule": {"epochs": 3, "warmup_epochs": 3}}, "schedule: 'warmup_epochs' should be"),
        ({"optimizer": {"name": "sgd"}}, "optimizer.lr: is missing"),
        ({"optimizer": {"name": "sgd", "lr": float("nan")}}, "optimizer.lr: should be"),
        ({"optimizer": {"name": "sgd", "lr": float("inf")}}, "optimizer.lr: should be"),
        ({"optimizer": {"name": "adam", "lr": 1, "betas": [1]}}, "optimizer.betas[1]: is missing"),
        ({"optimizer": {"name": "sgd", "lr": 1, "clip_grad_norm": 0}}, "optimizer.clip_grad_norm:"),
        ({"compute": {"dtype": "float16"}}, "compute.dtype: small gradients are zero in float16"),
        ({"compute": {"dtype": "float64"}}, "compute.dtype: should be 'float32' or 'bfloat16'"),
        ({"compute": {"compile": "maybe"}}, "compute.compile: should be a valid boolean"),
        ({"ema": {"decay": 1}}, "ema.decay: should be less than 1"),
        ({"loss": {"name": ["a"]}}, "loss.name: unknown name"),
        ({"data": {"name": "digits", "augment": "shift"}}, "data.augment: should be a list"),
        ({"data": {"name": "npz"}}, "data.path: is missing"),
        ({"data": {"name": "digits", "download": True}}, "data.download: unknown key"),
    ],
)
def test_a_single_mistake_is_told_alone(
    tmp_path: Path, change: dict[str, Any], problem: str
) -> None:
    [found] = problems({**GOOD, **change}, path=tmp_path)
    assert found.startswith(problem)


def test_an_average_that_begins_too_late_is_refused(tmp_path: Path) -> None:
    [found] = problems({**GOOD, "ema": {"start": 3}}, path=tmp_path)
    assert "'ema.start' should be less than 'schedule.epochs', got 3 and 3" in found


def test_how_training_computes_is_plain_data_and_off_by_default() -> None:
    config = parse_config(GOOD)
    assert config.ema is None
    compute = {"dtype": "float32", "channels_last": False, "compile": False}
    assert config.to_tree()["compute"] == compute
    more = {"ema": {"decay": 0.99, "start": 1}, "compute": {"dtype": "bfloat16"}}
    again = parse_config({**GOOD, **more}).to_tree()
    assert again["ema"] == {"decay": 0.99, "start": 1.0, "warmup": False}
    assert parse_config(again).to_tree() == again
    clipped = {**GOOD, "optimizer": {"name": "sgd", "lr": 1, "clip_grad_norm": 2}}
    assert parse_config(clipped).to_tree()["optimizer"]["clip_grad_norm"] == 2.0
    assert "clip_grad_norm" not in parse_config(clipped).optimizer.arguments


def test_files_that_are_missing_are_named_with_what_there_is_instead(tmp_path: Path) -> None:
    write(tmp_path / "good.yaml", GOOD)
    with pytest.raises(ConfigError, match=r"god\.yaml: there is no such file: .*good\.yaml'\?"):
        load_config(tmp_path / "god.yaml")
    with pytest.raises(ConfigError, match=r"x\.yaml: there is no such file; there are good\.yaml"):
        load_config(tmp_path / "x.yaml")
    with pytest.raises(ConfigError, match=r"did you mean 'configs/digits/lipconvnet_bcop\.yaml'"):
        load_config("config/digits/lipconvnet_bcop.yml")
    [found] = problems({"base": "nowhere.yaml", **GOOD}, path=tmp_path)
    assert "nowhere.yaml: there is no such file" in found


def test_configs_that_come_with_lipnets_are_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert set(shipped()) == {each.relative_to(ROOT).as_posix() for each in CONFIGS}
    name = "digits/lipmlp_cayley.yaml"
    whole = load_config(ROOT / "configs" / name).to_tree()
    assert load_config(f"configs/{name}").to_tree() == load_config(name).to_tree() == whole
    mine = write(tmp_path / "mine.yaml", {"base": f"configs/{name}", "seed": 7})
    assert load_config(mine).to_tree() == {**whole, "seed": 7}
    write(tmp_path / "configs" / name, GOOD)  # one's own comes first
    assert load_config(mine).model.name == "lipmlp_s"
    assert load_config(f"configs/{name}").schedule.epochs == 3


def test_bases_that_go_round_in_a_circle_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.yaml", {"base": "b.yaml"})
    write(tmp_path / "b.yaml", {"base": "a.yaml"})
    with pytest.raises(ConfigError, match=r"circle: a\.yaml → b\.yaml → a\.yaml"):
        load_config(tmp_path / "a.yaml")


def test_one_base_may_be_reached_on_two_ways(tmp_path: Path) -> None:
    write(tmp_path / "root.yaml", GOOD)
    write(tmp_path / "left.yaml", {"base": "root.yaml", "seed": 1})
    write(tmp_path / "right.yaml", {"base": "root.yaml", "schedule": {"epochs": 9}})
    config = load_config(write(tmp_path / "a.yaml", {"base": ["left.yaml", "right.yaml"]}))
    assert (config.seed, config.schedule.epochs) == (1, 9)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("seed: 1\nseed: 2\n", "line 2, column 1: the key 'seed' comes twice"),
        ("seed: [1\n", "is not YAML: line 2"),
        ("- 1\n", "should hold keys and values, got a list"),
        ("", "should hold keys and values, got nothing"),
        ("a: !!python/object/apply:os.getcwd []\n", "is not YAML"),
    ],
)
def test_files_that_hold_no_config_are_refused(tmp_path: Path, text: str, problem: str) -> None:
    [found] = problems(text, path=tmp_path)
    assert problem in found


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "a.yaml")
    with pytest.raises(ConfigError, match="should be a YAML file, and is a directory"):
        load_config(tmp_path)


# The data and the schema.


def test_what_the_model_needs_to_know_is_filled_in_from_the_data() -> None:
    digits = data.load("digits")
    model = parse_config(GOOD).fitted_to(digits).model
    facts = {key: model.arguments[key] for key in ("num_classes", "in_chans", "mean", "std")}
    mean, std = list(digits.mean), list(digits.std)
    assert facts == {"num_classes": 10, "in_chans": 1, "mean": mean, "std": std}
    assert model.arguments["img_size"] == [8, 8]


def test_what_the_config_says_itself_stays_if_it_fits_the_data() -> None:
    digits = data.load("digits")
    mine = {"name": "lipmlp_s", "mean": [0.5], "std": [0.5], "num_classes": 10, "img_size": 8}
    model = parse_config({**GOOD, "model": mine}).fitted_to(digits).model
    assert (model.arguments["mean"], model.arguments["std"]) == ([0.5], [0.5])
    wrong = {"name": "lipmlp_s", "num_classes": 7, "in_chans": 3}
    with pytest.raises(ConfigError) as caught:
        parse_config({**GOOD, "model": wrong}).fitted_to(digits)
    assert len(caught.value.problems) == 2
    assert "model.num_classes" in caught.value.problems[0]


def test_a_fitted_config_fits_again() -> None:
    digits: Dataset = data.load("digits")
    config = parse_config(GOOD).fitted_to(digits)
    again = parse_config(yaml.safe_load(config.to_yaml())).fitted_to(digits)
    assert again.to_tree() == config.to_tree()
    assert isinstance(digits.train, Split)


def test_the_schema_knows_every_name_and_argument() -> None:
    schema = json_schema()
    json.dumps(schema)
    variants = schema["properties"]["optimizer"]["discriminator"]["mapping"]
    sgd = schema["$defs"][variants["sgd"].rsplit("/", 1)[1]]
    taken = {"name", "lr", "weight_decay", "momentum", "nesterov", "lookahead", "clip_grad_norm"}
    assert set(sgd["properties"]) == taken
    assert sgd["additionalProperties"] is False
    names = schema["properties"]["model"]["discriminator"]["mapping"]
    assert set(names) == set(models.names())
    assert "base" in schema["properties"]
