"""Our models in timm's registry: `timm.create_model("lipnets_lipconvnet10")`, after `import lipnets`.

Imported when timm is, and never before: nothing else of lipnets needs timm.
"""

__all__ = ["default_cfgs", "mirror"]

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ._registry import registry
from .network import Network, data_config

default_cfgs: dict[
    str, Any
] = {}  # where timm looks for what it knows of a model before it is built


def mirror() -> None:
    """Registers every model with timm, with the prefix `lipnets_`, once."""
    from timm.models import generate_default_cfgs, is_model, register_model

    names = [name for name in registry.names() if not is_model(f"lipnets_{name}")]
    known = {"num_classes": 10, **data_config((3, 32, 32))}
    default_cfgs.update(generate_default_cfgs({f"lipnets_{name}": dict(known) for name in names}))
    for name in names:
        register_model(_entrypoint(name))


def _entrypoint(name: str) -> Callable[..., nn.Module]:
    def create(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        from timm.models import build_model_with_cfg

        build = partial(registry.build, name)
        features: dict[str, Any] = {"flatten_sequential": True}
        if kwargs.get("features_only"):
            features["out_indices"] = tuple(range(_stages(name, kwargs)))
        model = build_model_with_cfg(
            build,
            create.__name__,
            pretrained,
            feature_cfg=features,
            pretrained_filter_fn=_fitting,
            **kwargs,
        )
        if isinstance(model, Network):  # images are those that were asked for
            facts = data_config(model.input_size)
            model.pretrained_cfg = model.default_cfg = {**model.pretrained_cfg, **facts}
        return model

    create.__name__ = create.__qualname__ = f"lipnets_{name}"
    create.__doc__ = registry[name].__doc__
    return create


def _fitting(weights: dict[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Weights without the head, if that is for another number of classes.

    Timm leaves it out as well, but looks for `head.weight`, which a constrained layer computes.
    """
    own = model.state_dict()
    heads = {name: weights[name] for name in weights if name.startswith("head.")}
    if all(name in own and own[name].shape == heads[name].shape for name in heads):
        return weights
    return {name: tensor for name, tensor in weights.items() if name not in heads}


def _stages(name: str, given: dict[str, Any]) -> int:
    """The number of sizes of feature maps that a model has."""
    arguments = {key: value for key, value in given.items() if key not in _OF_TIMM}
    with torch.device("meta"):
        stages = len(registry.build(name, **{"img_size": 32, **arguments}).feature_info)
    if not stages:
        raise ValueError(
            f"'{name}' has no feature maps: features_only needs a convolutional model."
        )
    return stages


# What timm's create_model passes on that is not for the model.
_OF_TIMM = {
    *("features_only", "out_indices", "feature_cls", "pretrained_cfg", "pretrained_cfg_overlay"),
    *("pretrained_model_args", "cache_dir", "pretrained_strict", "output_fmt"),
}
