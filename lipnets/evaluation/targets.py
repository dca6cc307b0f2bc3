"""What can be evaluated: runs, saved models, models of the zoo, and anybody's modules."""

__all__ = ["Target", "TargetError", "open_target"]

import difflib
import hashlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import data, models
from ..data import Dataset
from ..experiment import ExperimentError, load_data
from ..records import Record
from ..runs import Run


class TargetError(ValueError):
    """What was named cannot be evaluated."""


@dataclass(frozen=True, eq=False)
class Target:
    """A network to evaluate, and its data.

    Arguments:
        name: What to call it: the name of its directory, or how it was asked for.
        title: The name of the model.
        model: The network, in evaluation mode.
        dataset: Its data set.
        weights: The SHA-256 of its weights.
        out: The directory to write to.
        origin: Where it comes from: the config of the run as YAML, or a sentence.
        history: The records of the training.
        data_dir: The directory with the files of data sets, if one is known.
    """

    name: str
    title: str
    model: nn.Module
    dataset: Dataset
    weights: str
    out: Path
    origin: str
    history: Sequence[Record] = ()
    data_dir: str | None = None


def open_target(
    what: str,
    *,
    data_name: str | None = None,
    data_dir: str | None = None,
    out: Path | None = None,
) -> Target:
    """Opens what a command line names.

    Arguments:
        what: A run directory of `train.py`; a directory of `save_pretrained`; `module:function` or
            `file.py:function`, called without arguments, which returns an `nn.Module`; or the name
            of a model, which is built with random weights.
        data_name: The data set, or an .npz file of images and labels; by default that of the run.
        data_dir: The directory with the files of data sets; by default that of the run.
        out: The directory to write to; by default `evaluation` in a run directory or one of
            `save_pretrained`, and `evaluations/NAME` for others.

    Raises:
        TargetError: If it is nothing of these, or if its data are not named.
        ExperimentError: If the data cannot be loaded.
        RunError, ConfigError: If a run directory is damaged.
    """
    path = Path(what)
    if path.is_dir() and not (path / "config.yaml").is_file() and (path / "config.json").is_file():
        dataset = _data(what, data_name, data_dir)
        model = _called(what, lambda: models.from_pretrained(path))
        return _foreign(path.name, what, model, dataset, out or path / "evaluation", data_dir)
    if not path.is_dir() and not (":" in what or what in models.names()):
        raise TargetError(f"{what} is not a run directory: {_instead(path)}")
    if path.is_dir():
        return _run(path, data_name, data_dir, out)
    name = what.replace("/", "_").replace(":", ".")
    out = out or Path("evaluations") / name
    dataset = _data(what, data_name, data_dir)
    if ":" in what:
        return _foreign(name, what, _called(what, _function(what)), dataset, out, data_dir)
    arguments: dict[str, Any] = {
        "num_classes": dataset.num_classes,
        "in_chans": dataset.in_chans,
        "img_size": dataset.img_size,
    }
    torch.manual_seed(0)
    model = _called(what, lambda: models.build(what, **arguments).to(torch.float32))
    origin = f"the model {what} with random weights, of seed 0: it was not trained"
    return _foreign(name, origin, model, dataset, out, data_dir)


def _instead(path: Path) -> str:
    """What may have been meant by what is neither a directory, nor a model, nor a function."""
    if path.suffix == ".py" and path.is_file():
        return f"name the function that returns the network, {path}:FUNCTION."
    if path.is_file():
        inside = (path.parent / "config.yaml").is_file()
        return f"it is a file{f' of one, {path.parent}' if inside else ''}."
    near = difflib.get_close_matches(path.name, models.names(), n=2)
    meant = f"; did you mean the model {' or '.join(map(repr, near))}?" if near else "."
    return f"it does not exist, and no model is called so{meant}"


def _run(path: Path, data_name: str | None, data_dir: str | None, out: Path | None) -> Target:
    run = Run.open(path)
    config, model = run.config(), run.load_model()
    where = data_dir or config.data.dir
    if data_dir:
        section = config.data.model_copy(update={"dir": data_dir})
        config = config.model_copy(update={"data": section})
    other = data_name is not None and data_name != config.data.name
    return Target(
        name=path.resolve().name,
        title=config.model.name,
        model=model,
        dataset=_data(str(path), data_name, where) if other else load_data(config),
        weights=hashlib.sha256(run.read("model.safetensors")).hexdigest(),
        out=out or run.path / "evaluation",
        origin=config.to_yaml(),
        history=run.history(),
        data_dir=where,
    )


def _foreign(
    name: str, origin: str, model: nn.Module, dataset: Dataset, out: Path, data_dir: str | None
) -> Target:
    weights = _digest(model)
    return Target(name, name, model.eval(), dataset, weights, out, origin, data_dir=data_dir)


def _data(what: str, name: str | None, data_dir: str | None) -> Dataset:
    if name is None:
        known = ", ".join(data.names())
        raise TargetError(
            f"'{what}' says nothing of its data: name them with --data, one of {known}, or a file of "
            "images and labels, FILE.npz."
        )
    if name == "npz":
        raise TargetError("'npz' is any file of images and labels: name it, as in --data FILE.npz.")
    try:
        if name.endswith(".npz"):
            file = Path(name).resolve() if Path(name).is_file() else name
            return data.load("npz", data_dir=data_dir, path=file)
        return data.load(name, data_dir=data_dir)
    except (OSError, ValueError, TypeError) as error:
        raise ExperimentError(f"the data set '{name}' cannot be loaded: {error}") from error


def _function(what: str) -> Callable[[], Any]:
    """The function that `module:function` or `file.py:function` names."""
    source, _, name = what.rpartition(":")
    try:
        if source.endswith(".py"):
            spec = importlib.util.spec_from_file_location(Path(source).stem, source)
            if spec is None or spec.loader is None:
                raise ImportError(f"{source} is not Python")
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
        else:
            sys.path.insert(0, str(Path.cwd()))
            try:
                module = importlib.import_module(source)
            finally:
                sys.path.pop(0)
        found = getattr(module, name)
    except Exception as error:  # of code that is not ours
        raise TargetError(f"'{what}' should be a function of a module: {_told(error)}") from error
    if isinstance(found, nn.Module):
        raise TargetError(
            f"'{what}' should be a function that returns a network, and is a network."
        )
    return found


def _called(what: str, function: Callable[[], Any]) -> nn.Module:
    try:
        model = function()
    except Exception as error:  # of code that is not ours
        raise TargetError(f"'{what}' cannot be built: {_told(error)}") from error
    if not isinstance(model, nn.Module):
        raise TargetError(f"'{what}' should return an nn.Module, got {type(model).__name__}.")
    return model


def _told(error: Exception) -> str:
    """An error in a line, with its kind if that says more than the message, and where it came from."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    plain = isinstance(error, RuntimeError | ValueError | OSError | ImportError)
    kind = "" if plain and str(error) else f"{type(error).__name__}: "
    return f"{kind}{error} ({Path(place.filename).name}, line {place.lineno})"


def _digest(model: nn.Module) -> str:
    """The SHA-256 of the names, shapes, types and bytes of parameters and buffers, and of the structure."""
    digest = hashlib.sha256(repr(model).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        flat = tensor.detach().cpu().contiguous().flatten().view(torch.uint8)
        digest.update(flat.numpy().tobytes())
    return digest.hexdigest()
