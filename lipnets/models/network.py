"""The class of all models: a backbone and a head, with what timm's tools ask of a model."""

__all__ = ["Network", "data_config"]

import copy
import os
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ._layer import Spec, build_head


class Network(nn.Sequential):
    """A classifier of images in [0, 1]: a backbone that gives features, and a head that gives logits.

    The forward is that of `nn.Sequential`, hence the certificate.  Methods and attributes beside it
    have timm's names and meaning.

    Attributes:
        backbone: From images, with shape (B, C, H, W), to features, with shape (B, F).
        head: From features to logits, with shape (B, K); `nn.Identity` if K is 0.
        num_features: The number F.
        num_classes: The number K.
        name: The name by which it was created, empty if it was not.
        arguments: The arguments with which it was created.
        input_size: The shape (C, H, W) of an image.
    """

    backbone: nn.Sequential
    head: nn.Module
    num_features: int = 0
    num_classes: int = 0
    head_spec: Spec = "linear"
    name: str = ""
    arguments: Mapping[str, Any] = {}
    input_size: tuple[int, int, int] = (0, 0, 0)

    def describe(
        self, name: str, *, arguments: Mapping[str, Any], input_size: tuple[int, int, int]
    ) -> None:
        """Notes how the model was created, for saving it and for timm's tools."""
        self.name, self.arguments, self.input_size = name, dict(arguments), input_size
        self.pretrained_cfg: dict[str, Any] = {
            "architecture": f"lipnets_{name}",
            "num_classes": self.num_classes,
            **data_config(input_size),
        }
        self.default_cfg = self.pretrained_cfg

    @property
    def head_hidden_size(self) -> int:
        """The number of features that the head sees."""
        return self.num_features

    def forward_features(self, x: Tensor) -> Tensor:  # (B, C, H, W) -> (B, F)
        return self.backbone(x)

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:  # (B, F) -> (B, K)
        return x if pre_logits else self.head(x)

    def get_classifier(self) -> nn.Module:
        """The head."""
        return self.head

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replaces the head by a new one of the same kind, for another number of classes.

        Arguments:
            num_classes: The number of logits; 0 leaves the features.
            global_pool: Only None: pooling is a part of the backbone, which is certified as it is.

        Raises:
            ValueError: If `global_pool` is given, or the kind of head cannot have so many classes.
        """
        if global_pool is not None:
            raise ValueError(
                f"'global_pool' should be None, got '{global_pool}': pooling is a part of the "
                "backbone; create the model with another one."
            )
        weight = next(self.parameters(), torch.empty(0))
        head = build_head(self.head_spec, features=self.num_features, num_classes=num_classes)
        self.head = head.to(weight.device, weight.dtype).train(self.training)
        self.num_classes = num_classes
        if self.name:
            self.arguments = {**self.arguments, "num_classes": num_classes}
            self.pretrained_cfg = self.default_cfg = {
                **self.pretrained_cfg,
                "num_classes": num_classes,
            }

    def save_pretrained(self, directory: str | os.PathLike[str]) -> None:
        """Writes the model into a directory: see `lipnets.models.save_pretrained`."""
        from .pretrained import save_pretrained

        save_pretrained(self, directory)

    @property
    def feature_info(self) -> list[dict[str, Any]]:
        """The last feature maps of each size, in timm's terms; none if there are no maps.

        Each has the number of channels `num_chs`, the `reduction` of the height of images, and the
        name of the `module` that gives it.

        Raises:
            ValueError: If the model was not created by name: the size of its images is unknown.
        """
        if not all(self.input_size):
            raise ValueError(
                "The sizes of feature maps follow from 'input_size', (C, H, W), which models made "
                "by hand or by from_timm lack: set it."
            )
        shapes: list[tuple[str, torch.Size]] = []
        x = torch.empty(1, *self.input_size, device="meta")
        backbone = _on_meta(self.backbone)
        with torch.no_grad():
            for name, module in backbone.named_children():
                x = module(x)
                shapes.append((f"backbone.{name}", x.shape))
        maps = {shape[2:]: (name, shape) for name, shape in shapes if len(shape) == 4}
        return [
            {"num_chs": shape[1], "reduction": self.input_size[1] // shape[2], "module": name}
            for name, shape in maps.values()
        ]

    def no_weight_decay(self) -> set[str]:
        """Names of parameters that a parametrization constrains: their decay changes no function."""
        return {
            f"{name}.parametrizations.{key}"
            for name, module in self.named_modules()
            if parametrize.is_parametrized(module)
            for key, _ in module.get_submodule("parametrizations").named_parameters()
        }


def _on_meta(module: nn.Module) -> nn.Module:
    """A copy in evaluation mode whose tensors have shapes, and no values."""
    memo = {
        id(tensor): tensor.detach().to("meta")
        if not isinstance(tensor, nn.Parameter)
        else nn.Parameter(tensor.detach().to("meta"), requires_grad=False)
        for tensor in [*module.parameters(), *module.buffers()]
    }
    return copy.deepcopy(module, memo).eval()


def data_config(input_size: tuple[int, int, int]) -> dict[str, Any]:
    """What timm wants to know of the images (C, H, W) that a model takes, and of its head.

    Images are standardized inside the model, where it counts in the certificate.
    """
    return {
        "input_size": input_size,
        "fixed_input_size": True,
        "crop_pct": 1.0,
        "interpolation": "bilinear",
        "mean": (0.0,) * input_size[0],
        "std": (1.0,) * input_size[0],
        "classifier": "head",
    }
