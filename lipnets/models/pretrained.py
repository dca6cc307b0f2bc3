"""Models in directories: `config.json` and `model.safetensors`, as timm and the Hugging Face Hub have them.

`timm.create_model("local-dir:DIR", pretrained=True)` reads the same files after `import lipnets`.
Nothing is unpickled.
"""

__all__ = ["config_json", "from_pretrained", "load_weights", "save_pretrained", "weights_bytes"]

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import nn

from ..atomic import write_atomic
from ._registry import registry
from .network import Network

_CONFIG, _WEIGHTS, _PREFIX = "config.json", "model.safetensors", "lipnets_"


def save_pretrained(model: Network, directory: str | os.PathLike[str]) -> None:
    """Writes a model and how to build it, each file whole or not at all.

    Arguments:
        model: A model that was created by name.
        directory: Where to; it is made if it does not exist, and files of these names replaced.

    Raises:
        ValueError: If the model was not created by name, or with arguments that are not plain data.
    """
    config = config_json(model)
    path = Path(directory)
    path.mkdir(parents=True, exist_ok=True)
    write_atomic(path / _WEIGHTS, weights_bytes(model))
    write_atomic(path / _CONFIG, config.encode())


def from_pretrained(name_or_path: str | os.PathLike[str], **changes: Any) -> Network:
    """Builds a model that was saved, in evaluation mode, with its weights.

    Arguments:
        name_or_path: A directory that `save_pretrained` wrote, a run directory of `train.py`, or a
            repository of the Hugging Face Hub, such as "owner/name".
        **changes: Arguments of the model that are to be others than when it was saved.

    Returns:
        The model, in the dtypes in which it was saved.

    Raises:
        FileNotFoundError: If there is no such directory, or no model in it.
        ValueError: If what is there is not a model of lipnets, or damaged, or another one by
            `changes`.
    """
    path = Path(name_or_path)
    if not path.is_dir() and str(name_or_path).count("/") == 1 and not path.parent.is_dir():
        from huggingface_hub import snapshot_download  # which timm depends on

        files = [_CONFIG, _WEIGHTS]
        path = Path(snapshot_download(str(name_or_path), allow_patterns=files))
    if missing := [each for each in (_CONFIG, _WEIGHTS) if not (path / each).is_file()]:
        raise FileNotFoundError(
            f"{path} should hold {_CONFIG} and {_WEIGHTS}, which save_pretrained writes and train.py "
            f"at its end: there is no {missing[0]}."
        )
    try:
        config = json.loads((path / _CONFIG).read_text(encoding="utf-8"))
        name, arguments = config["architecture"], config["model_args"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path / _CONFIG} does not say how to build a model: {error}.") from None
    if not name.startswith(_PREFIX):
        raise ValueError(f"{path / _CONFIG} is of '{name}', no model of lipnets: use timm.")
    with torch.random.fork_rng():  # building draws initial weights
        model = registry.build(name.removeprefix(_PREFIX), **{**arguments, **changes})
    try:
        return load_weights(model, (path / _WEIGHTS).read_bytes())
    except ValueError as error:
        raise ValueError(f"{path / _WEIGHTS}: {error}") from None


def config_json(model: Network) -> str:
    """What `config.json` says of a model, in the terms of timm.

    Raises:
        ValueError: If the model was not created by name, or with arguments that are not plain data.
    """
    if not isinstance(model, Network) or not model.name:
        raise ValueError(
            f"A model of lipnets.create_model should be saved, got {type(model).__name__}: "
            "only one that was created by name can be built again."
        )
    config = {
        "architecture": _PREFIX + model.name,
        "num_classes": model.num_classes,
        "num_features": model.num_features,
        "pretrained_cfg": {**model.pretrained_cfg, "tag": None},
        "model_args": dict(model.arguments),
    }
    try:
        return json.dumps(config, indent=2) + "\n"
    except TypeError as error:
        raise ValueError(
            f"'{model.name}' was created with arguments that are not plain data: {error}."
        ) from None


def weights_bytes(model: nn.Module) -> bytes:
    """The weights of a model, parametrizations included, as the content of a safetensors file."""
    tensors = {
        name: tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }
    return safetensors.save(tensors, metadata={"format": "pt"})


def load_weights(model: nn.Module, content: bytes) -> Any:
    """Puts the weights of a safetensors file into a model, in their dtypes.

    Returns:
        The model, in evaluation mode.

    Raises:
        ValueError: If the file is damaged, or of another model.
    """
    try:
        weights = safetensors.load(content)
    except SafetensorError as error:
        raise ValueError(f"not a safetensors file: {error}.") from None
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in weights:
            tensor.data = tensor.data.to(weights[name].dtype)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise ValueError(f"the weights of another model: {error}") from None
    return model.eval()
