"""Experiments as data: YAML files with a `base`, overrides, and every mistake told at once.

A section with a `name` is a function of a registry and its arguments: the function's signature is
the schema.  Where a file changes the name that its base gives, or an override the one that the file
gives, the section is replaced whole, as the other arguments are those of another function.

```yaml
base: base.yaml                   # a file, or several, relative to this one or of those of lipnets
model: {name: lipconvnet_xs, conv: aol_conv2d}
optimizer: {name: adam, lr: 3e-3}
```
"""

__all__ = [
    "AugmentConfig",
    "ComputeConfig",
    "Config",
    "ConfigError",
    "DataConfig",
    "DriversConfig",
    "EmaConfig",
    "LedgerConfig",
    "LossConfig",
    "ModelConfig",
    "OptimizerConfig",
    "RecordConfig",
    "ScheduleConfig",
    "json_schema",
    "load_config",
    "load_tree",
    "merge",
    "parse_config",
    "read_overrides",
    "shipped",
]

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)

from .. import layers, losses, models, optim
from ..data import Dataset
from ..data._registry import datasets
from ..data.augment import augmentations
from ..data.augment import build as build_augment
from ..registry import closest
from ._files import ConfigError, dump, merge, read_file, read_overrides, shipped
from ._schema import Section, describe, is_plain, one_of


class _Named(Section):
    """A function of a registry, by name, and its arguments."""

    name: str
    own: ClassVar[frozenset[str]] = frozenset({"name"})  # fields that are not arguments

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments of the function, defaults included where they are plain data."""
        fields = type(self).model_fields
        values = {key: getattr(self, key) for key in fields if key not in self.own}
        given = self.model_fields_set
        return {key: value for key, value in values.items() if key in given or is_plain(value)}


class AugmentConfig(_Named):
    """One of `lipnets.data.augment.names()`, and its arguments."""

    @model_validator(mode="after")
    def _builds(self) -> Self:
        build_augment([{"name": self.name, **self.arguments}])
        return self


class DataConfig(_Named):
    """One of `lipnets.data.names()`, its arguments, and how training goes through it.

    Arguments:
        name: The name of the data set.
        batch_size: The number of images of an optimization step.
        augment: Random changes of training images: names, or names with arguments.
        replacement: Whether each image of an epoch is drawn from all of them, as theory has it: some come
            twice then, and others not at all.
        limit: The number of images to train on, the first ones, if not all.
        label_noise: The share of training labels, in [0, 1], in whose place a class is drawn, each as
            likely as any other: once for all of the training.
        order_seed: The seed of the order of images and of augmentation, if not the one of all else.
        dir: The directory with the files of data sets.
        verify: Whether files must be those that their authors published, by their SHA-256.
    """

    batch_size: PositiveInt = 128
    augment: tuple[AugmentConfig, ...] = ()
    replacement: bool = False
    limit: PositiveInt | None = None
    label_noise: Annotated[float, Field(ge=0, le=1)] = 0.0
    order_seed: NonNegativeInt | None = None
    dir: str | None = None
    verify: bool = True
    own: ClassVar[frozenset[str]] = frozenset(
        {
            *("name", "batch_size", "augment", "replacement", "limit", "label_noise", "order_seed"),
            *("dir", "verify"),
        }
    )

    @field_validator("augment", mode="before")
    @classmethod
    def _names_alone(cls, value: Any) -> Any:
        """Reads `shift` as `{name: shift}`."""
        if not isinstance(value, list | tuple):
            return value
        return tuple({"name": each} if isinstance(each, str) else each for each in value)


class ModelConfig(_Named):
    """One of `lipnets.models.names()`, and its arguments; what the data say is filled in."""

    @field_validator("*")
    @classmethod
    def _layers_exist(cls, value: Any, info: ValidationInfo) -> Any:
        """Looks up the layer that an argument names, if its default is the name of one."""
        default = cls.model_fields[str(info.field_name)].default
        if value is None or not isinstance(default, str) or default not in layers.registry:
            return value
        spec = {"name": value} if isinstance(value, str) else value
        if "name" not in spec:
            raise ValueError(f"should be the name of a layer, or have a 'name', got {value}")
        known = inspect.signature(layers.registry[spec["name"]]).parameters
        if unknown := [key for key in spec if key != "name" and key not in known]:
            layer, key = spec["name"], unknown[0]
            raise ValueError(f"layer '{layer}' has no argument '{key}'{closest(key, known)}")
        return value


class LossConfig(_Named):
    """One of `lipnets.losses.names()`, and its arguments.

    Arguments:
        name: The name of the loss.
        slope_penalty: What the logarithm of the mean slope of margins, an estimate, is added with.
    """

    slope_penalty: NonNegativeFloat = 0.0
    own: ClassVar[frozenset[str]] = frozenset({"name", "slope_penalty"})

    @model_validator(mode="after")
    def _builds(self) -> Self:
        losses.build(self.name, **self.arguments)
        return self


class OptimizerConfig(_Named):
    """One of `lipnets.optim.names()`, and its arguments.

    Arguments:
        name: The name of the optimizer.
        lr: The learning rate at its peak.
        weight_decay: The decay of weights that are neither parametrized nor biases.
        clip_grad_norm: The ℓ2 norm that longer gradients are scaled down to, if they are.
    """

    lr: PositiveFloat
    weight_decay: NonNegativeFloat = 0.0
    clip_grad_norm: PositiveFloat | None = None
    own: ClassVar[frozenset[str]] = frozenset({"name", "clip_grad_norm"})


class ScheduleConfig(Section):
    """A schedule of the learning rate, after a warm-up.

    Arguments:
        name: Its shape, see `lipnets.optim.create_scheduler`.
        epochs: How many times training goes through the data.
        max_steps: The number of optimization steps after which it ends, if that comes first.
        warmup_epochs: For how many of these the learning rate rises.
        milestones: The epochs after which a schedule `step` multiplies the learning rate.
        gamma: What it multiplies with.
    """

    name: optim.Schedule = "cosine"
    epochs: PositiveInt
    max_steps: PositiveInt | None = None
    warmup_epochs: NonNegativeFloat = 0.0
    milestones: tuple[PositiveFloat, ...] = ()
    gamma: PositiveFloat = 0.1

    @model_validator(mode="after")
    def _warms_up_before_the_end(self) -> Self:
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"'warmup_epochs' should be less than 'epochs', "
                f"got {self.warmup_epochs:g} and {self.epochs}"
            )
        return self

    @model_validator(mode="after")
    def _has_milestones_if_it_steps(self) -> Self:
        steps = self.name == "step"
        if steps != bool(self.milestones):
            raise ValueError(
                f"'milestones' are for the schedule 'step', which needs them, got '{self.name}' "
                f"and {list(self.milestones)}"
            )
        if any(each >= self.epochs for each in self.milestones):
            raise ValueError(
                f"'milestones' should be less than 'epochs', got {list(self.milestones)} and "
                f"{self.epochs}"
            )
        return self


class ComputeConfig(Section):
    """How training computes; certificates are of the stored weights in any case.

    Arguments:
        dtype: What layers compute in: weights and the loss stay in float32.
        channels_last: Whether channels are the last dimension of images in memory.
        compile: Whether `torch.compile` compiles the model.
    """

    dtype: Literal["float32", "bfloat16"] = "float32"
    channels_last: bool = False
    compile: bool = False

    @field_validator("dtype", mode="before")
    @classmethod
    def _has_the_range_of_gradients(cls, value: Any) -> Any:
        if value in ("float16", "half"):
            raise ValueError(
                "small gradients are zero in float16, and no step is scaled here: use bfloat16"
            )
        return value


class EmaConfig(Section):
    """A moving average of the weights, which is recorded, certified and saved in their place.

    Arguments:
        decay: How much of the average stays in a step.
        start: The number of epochs after which averaging begins.
        warmup: Whether it begins with smaller decays.
    """

    decay: Annotated[float, Field(ge=0, lt=1)] = 0.999
    start: NonNegativeFloat = 0.0
    warmup: bool = False


class LedgerConfig(Section):
    """The ledger of what moves the norms of weights: see `lipnets.recorders.ledger`.

    Arguments:
        every: The number of steps between two entries in the history; each step counts in any case.
            About a hundredth of the training by default.
        stride: The number of steps that count as one.
        effective: Whether weights are followed as parametrizations make them, not the parameters
            behind: they are then computed once more in each step.
        norm: `operator` or, for convolutions, `reshape`, which bounds nothing.
        bands: The number of bands of frequencies in which convolutions are followed besides.
        scan_every: The number of steps between two looks at all frequencies of convolutions: what another
            frequency gains until then counts as a switch.
    """

    every: PositiveInt | None = None
    stride: PositiveInt = 1
    effective: bool = False
    norm: Literal["operator", "reshape"] = "operator"
    bands: NonNegativeInt = 0
    scan_every: PositiveInt = 100


class DriversConfig(Section):
    """What drives norms in a step, in theory: see `lipnets.recorders.drivers`.

    Arguments:
        every: The number of steps between two measurements.
        examples: The number of images to train on that each takes.
    """

    every: PositiveInt = 100
    examples: Annotated[int, Field(ge=8)] = 128


class RecordConfig(Section):
    """What is recorded while training.

    Arguments:
        bounds_every: The number of epochs between certificates: bounds of all layers, certified
            accuracy, margins.  The last epoch has one in any case.
        state_minutes: The number of minutes between states that training can go on from; there is
            one after each epoch in any case.
        ledger: The ledger of what moves the norms of weights, null for none.
        drivers: What drives norms in a step, in theory, null for none.
        frequencies: Whether norms of convolutions are recorded by frequency, with certificates.
        geometry: Whether the shape of weights and the slope of the network are, with certificates.
    """

    bounds_every: PositiveInt = 1
    state_minutes: NonNegativeFloat = 5.0
    ledger: LedgerConfig | None = Field(default_factory=LedgerConfig)
    drivers: DriversConfig | None = Field(default_factory=DriversConfig)
    frequencies: bool = True
    geometry: bool = True


class Config(Section):
    """An experiment.

    Arguments:
        seed: The seed of initial weights, of the order of images and of augmentation.
        init_scale: What the initial weights of linear layers and convolutions are multiplied with,
            before any parametrization.
        data: The data set.
        model: The model.
        loss: The loss.
        optimizer: The optimizer.
        schedule: The schedule of the learning rate.
        compute: How training computes.
        ema: The moving average of the weights, if there is one.
        record: What is recorded while training.
    """

    seed: NonNegativeInt = 0
    init_scale: PositiveFloat = 1.0
    data: DataConfig
    model: ModelConfig
    loss: LossConfig
    optimizer: OptimizerConfig
    schedule: ScheduleConfig
    compute: ComputeConfig = Field(default_factory=ComputeConfig)
    ema: EmaConfig | None = None
    record: RecordConfig = Field(default_factory=RecordConfig)

    @model_validator(mode="after")
    def _averages_before_the_end(self) -> Self:
        if self.ema is not None and self.ema.start >= self.schedule.epochs:
            raise ValueError(
                f"'ema.start' should be less than 'schedule.epochs', got {self.ema.start:g} and "
                f"{self.schedule.epochs}"
            )
        return self

    def to_tree(self) -> dict[str, Any]:
        """The config as plain data, with all defaults that are plain data."""
        return _plain(self)

    def to_yaml(self) -> str:
        """The config as the text of a file that `load_config` reads as the same config."""
        return dump(self.to_tree())

    def fitted_to(self, dataset: Dataset) -> "Config":
        """The same config with what the model needs to know about the data filled in.

        What the config gives itself stays, where it fits.

        Raises:
            ConfigError: If it gives a number of classes, of channels or of pixels that are not
                those of the data, or trains for a radius that no image can have.
        """
        facts: dict[str, Any] = {
            "num_classes": dataset.num_classes,
            "in_chans": dataset.in_chans,
            "img_size": dataset.img_size,
        }
        height, width = dataset.img_size
        takes, given = type(self.model).model_fields, self.model.model_fields_set
        problems = []
        for key, fact in facts.items():
            value = _plain(getattr(self.model, key, None))
            square = key == "img_size" and value == height == width
            if key in given and value != _plain(fact) and not square:
                problems.append(f"model.{key}: '{dataset.name}' has {fact}, got {value}")
        radius = self.loss.arguments.get("radius")
        farthest = math.sqrt(dataset.in_chans * height * width)
        if isinstance(radius, int | float) and radius >= farthest:
            problems.append(
                f"loss.radius: no images of '{dataset.name}' are further apart than {farthest:.4g}, got "
                f"{radius:g}: radii are l2, in pixels of [0, 1], such as 0.1412 for 36/255"
            )
        if problems:
            raise ConfigError("", problems)
        facts |= {"mean": dataset.mean, "std": dataset.std}
        missing = {key: value for key, value in facts.items() if key in takes and key not in given}
        tree = self.to_tree()
        return parse_config({**tree, "model": {**tree["model"], **_plain(missing)}})


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """Reads a config file, on top of its bases, and replaces the values that `overrides` name.

    Arguments:
        path: A YAML file.
        overrides: Assignments such as `"optimizer.lr=0.05"`, with values in YAML.

    Raises:
        ConfigError: If a file is missing or broken, or the config not valid; says all mistakes.
    """
    problems: list[str] = []
    tree = read_file(Path(path), problems)
    if problems:
        raise ConfigError(str(path), problems)
    changes = read_overrides(overrides, problems)
    return _parse(merge(tree, changes), str(path), problems)


def load_tree(path: str | Path) -> dict[str, Any]:
    """Reads a config file, on top of its bases, as plain data that `parse_config` takes.

    Raises:
        ConfigError: If a file is missing or broken.
    """
    problems: list[str] = []
    tree = read_file(Path(path), problems)
    if problems:
        raise ConfigError(str(path), problems)
    return tree


def parse_config(tree: Mapping[str, Any], source: str = "") -> Config:
    """Checks plain data against the schema of configs.

    Arguments:
        tree: The data.
        source: Where it is from, for error messages.

    Raises:
        ConfigError: If it is not valid; says all mistakes.
    """
    return _parse(tree, source, [])


def json_schema() -> dict[str, Any]:
    """The JSON Schema of configs, for editors; `base` is allowed in files besides."""
    schema = _schema().model_json_schema()
    files = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    schema["properties"]["base"] = files
    return schema


def _parse(tree: Mapping[str, Any], source: str, problems: Sequence[str]) -> Config:
    """Checks plain data; what is wrong with it is told after the `problems` known already."""
    schema = _schema()
    try:
        config = schema.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(source, [*problems, *describe(error, schema)]) from None
    if problems:
        raise ConfigError(source, problems)
    return config


def _schema() -> type[Config]:
    """Configs with a variant of each section for each function of its registry, built once for these."""
    tables = (augmentations, datasets, models.registry, losses.registry, optim.registry)
    return _schema_of(tuple((name, table[name]) for table in tables for name in table.names()))


@lru_cache(maxsize=2)
def _schema_of(registered: tuple[tuple[str, Callable[..., Any]], ...]) -> type[Config]:
    augment = one_of(AugmentConfig, augmentations)
    many = tuple[augment, ...]  # pyright: ignore[reportInvalidTypeForm]
    in_data = create_model("Data", __base__=DataConfig, augment=(many, ()))
    return create_model(
        "Config",
        __base__=Config,
        __doc__=Config.__doc__,
        data=(one_of(in_data, datasets, without={"data_dir", "download", "verify"}), ...),
        model=(one_of(ModelConfig, models.registry), ...),
        loss=(one_of(LossConfig, losses.registry), ...),
        optimizer=(one_of(OptimizerConfig, optim.registry, without={"model"}), ...),
    )


def _plain(value: Any) -> Any:
    """Sections, tuples and dictionaries as what YAML can hold."""
    if isinstance(value, _Named):
        own = {key: getattr(value, key) for key in type(value).model_fields if key in value.own}
        return _plain({**own, **value.arguments})
    if isinstance(value, Section):
        return _plain(dict(value))
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
