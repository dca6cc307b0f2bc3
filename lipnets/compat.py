"""What makes our dependencies work together where they do not by themselves."""

__all__ = ["ensure_torchvision"]

import sys
from importlib import import_module

import torch

_OPERATORS = ("nms", "qnms")  # those that torchvision's Python files extend while they are imported
_libraries: list[torch.library.Library] = []  # operators live as long as the library they are in


def ensure_torchvision() -> bool:
    """Makes torchvision importable, and timm with it, beside a CPU build of torch.

    The wheels of torchvision for Linux are built for CUDA.  Beside a torch without CUDA their
    compiled operators do not load, and the import fails at the first that Python files extend.
    Declaring these operators is enough for all that is written in Python: models, transforms,
    data sets.  Calling the operators themselves keeps failing.

    Does nothing where torchvision works.  Call it before the first import of timm.

    Returns:
        Whether torchvision can be imported.
    """
    try:
        import_module("torchvision")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise
        return False
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
        _forget("torchvision")
        _libraries.append(_declare_operators())
        import_module("torchvision")
    return True


def _forget(package: str) -> None:
    """Removes what a failed import left behind, so that the next one starts afresh."""
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def _declare_operators() -> torch.library.Library:
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library
