"""Networks whose Lipschitz constant is certified from the weights in use.

What is asked for is loaded when it is asked for: `lipnets.verify` needs numpy alone.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {  # public name: the module that defines it
    "Bound": "bounds",
    "Certificate": "certify",
    "Deployed": "deployed",
    "NotCertifiedError": "bounds",
    "audit": "audit",
    "certified_radii": "certify",
    "certify": "certify",
    "create_model": "models",
    "export": "export",
    "from_pretrained": "models",
    "lipschitz": "rules",  # which has the rules of torch.nn
    "list_models": "models",
    "rounding_rule": "rounding",
    "rule": "bounds",
}
_MODULES = (
    "attacks",
    "data",
    "layers",
    "losses",
    "models",
    "onnx",
    "optim",
    "parametrizations",
    "probes",
    "recorders",
)

__all__ = ["__version__", *_HOME, *_MODULES]

if TYPE_CHECKING:
    from . import (
        attacks,
        data,
        layers,
        losses,
        models,
        onnx,
        optim,
        parametrizations,
        probes,
        recorders,
    )
    from .audit import audit
    from .bounds import Bound, NotCertifiedError, lipschitz, rule
    from .certify import Certificate, certified_radii, certify
    from .deployed import Deployed
    from .export import export
    from .models import create_model, from_pretrained, list_models
    from .rounding import rounding_rule


class _Package(ModuleType):
    """A package in which a public function keeps its name where its module bears the same.

    Importing `lipnets.certify` would otherwise hide the function `lipnets.certify` behind the
    module that defines it.
    """

    def __setattr__(self, name: str, value: Any) -> None:
        if isinstance(value, ModuleType) and _HOME.get(name) == name:
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package


class _BesideTimm(MetaPathFinder):
    """When timm is imported, makes that work beside a CPU build of torch, and adds our models to it.

    So `import lipnets` costs nothing, and `timm.create_model("lipnets_...")` works after it,
    whichever of both is imported first.
    """

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname != "timm" or self not in sys.meta_path:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return None
        import_module(".compat", __name__).ensure_torchvision()
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            import_module(".models.mirror", __name__).mirror()

        spec.loader.exec_module = exec_module
        return spec


if "timm" not in sys.modules:
    sys.meta_path.insert(0, _BesideTimm())
elif sys.modules["timm"] is not None:
    import_module(".models.mirror", __name__).mirror()


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(f".{_HOME[name]}", __name__), name)
    if name in _MODULES:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module 'lipnets' has no attribute '{name}'.")


def __dir__() -> list[str]:
    return sorted(__all__)
