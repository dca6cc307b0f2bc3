"""What a config names: data, a model, an optimizer."""

__all__ = ["ExperimentError", "build_model", "build_optimizer", "load_data"]

from collections.abc import Iterator

import torch
from torch import nn
from torch.optim import Optimizer

from .. import data, models, optim
from ..config import Config
from ..data import Dataset


class ExperimentError(Exception):
    """An experiment that cannot be run as its config says: says why."""


def load_data(config: Config) -> Dataset:
    """Loads the data set of a config, whole: `train` takes as many images as it says.

    Raises:
        ExperimentError: If its files are missing, damaged or not what they should be.
    """
    spec = config.data
    try:
        return data.load(spec.name, data_dir=spec.dir, verify=spec.verify, **spec.arguments)
    except (OSError, ValueError, TypeError) as error:
        raise ExperimentError(f"the data set '{spec.name}' cannot be loaded: {error}") from error


def build_model(config: Config, device: torch.device | str = "cpu") -> nn.Module:
    """Builds the untrained model of a config in float32, with weights drawn from its seed.

    Raises:
        ExperimentError: If the model does not take its arguments.
    """
    spec = config.model
    torch.manual_seed(config.seed)
    try:
        model = models.build(spec.name, **spec.arguments).to(device, torch.float32)
    except (ValueError, TypeError, RuntimeError) as error:
        raise ExperimentError(f"the model '{spec.name}' cannot be built: {error}") from error
    if config.init_scale != 1:
        with torch.no_grad():
            for weight in _initial_weights(model):
                weight.mul_(config.init_scale)
    return model


def build_optimizer(model: nn.Module, config: Config) -> Optimizer:
    """The optimizer of a config, for a model.

    Raises:
        ExperimentError: If it does not fit the model, or its arguments are wrong.
    """
    spec = config.optimizer
    try:
        return optim.create_optimizer(model, spec.name, **spec.arguments)
    except ValueError as error:
        raise ExperimentError(f"the optimizer '{spec.name}' cannot be built: {error}") from error


def _initial_weights(model: nn.Module) -> Iterator[nn.Parameter]:
    """The parameters that weights of layers are, or that parametrizations make them of."""
    for name, parameter in model.named_parameters():
        if name.endswith((".weight", ".weight.original")) and parameter.ndim > 1:
            yield parameter
