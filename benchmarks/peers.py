"""The implementations of other libraries that `benchmarks/layers.py` measures beside ours.

`pip install -e ".[bench]"` installs them.  A builder takes the number of channels, or of features.
"""

__all__ = ["PEERS", "Builder"]

from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations

Builder = Callable[[int], nn.Module]


def _peer(path: str, *args: str, **kwargs: Any) -> Builder:
    """A builder by the path of a class, imported when it is built.

    Of the names in `args`, each stands for the number of channels.
    """
    module, _, name = path.rpartition(".")

    def build(channels: int) -> nn.Module:
        made = getattr(import_module(module), name)
        return made(**dict.fromkeys(args, channels), **kwargs)

    return build


def _orthogonium(path: str, params: str = "", *args: str, **kwargs: Any) -> Builder:
    def build(channels: int) -> nn.Module:
        if params:
            reparametrizers = import_module("orthogonium.reparametrizers")
            kwargs["ortho_params"] = getattr(reparametrizers, params)
        return _peer(f"orthogonium.{path}", *args, **kwargs)(channels)

    return build


_conv = partial(_orthogonium, "layers.conv.AOC.AdaptiveOrthoConv2d")
_CONV = {"kernel_size": 3, "padding": 1, "padding_mode": "zeros"}
_IO = ("in_channels", "out_channels")
_FEATURES = ("in_features", "out_features")


def _torch_conv(wrap: Callable[[nn.Module], nn.Module]) -> Builder:
    return lambda channels: wrap(nn.Conv2d(channels, channels, 3, padding=1))


def _torch_linear(wrap: Callable[[nn.Module], nn.Module]) -> Builder:
    return lambda features: wrap(nn.Linear(features, features))


def _orthogonal(how: str) -> Builder:
    return _torch_linear(partial(parametrizations.orthogonal, orthogonal_map=how))


def _geotorch(how: str) -> Builder:
    def wrap(linear: nn.Module) -> nn.Module:
        import_module("geotorch").orthogonal(linear, "weight", triv=how)
        return linear

    return _torch_linear(wrap)


def _ortho_linear(params: str) -> Builder:
    return _orthogonium("layers.OrthoLinear", params, *_FEATURES)


# layer of ours: {library: its builder}
PEERS: dict[str, dict[str, Builder]] = {
    "aol_conv2d": {"orthogonium": _orthogonium("layers.conv.AOL.AOLConv2D", "", *_IO, **_CONV)},
    "aoc_conv2d": {
        "orthogonium": _conv("DEFAULT_ORTHO_PARAMS", *_IO, **_CONV),
        "orthogonium, QR": _conv("QR_ORTHO_PARAMS", *_IO, **_CONV),
    },
    "rko_conv2d": {
        "orthogonium": _orthogonium(
            "layers.conv.AOC.RKOConv2d", "DEFAULT_ORTHO_PARAMS", *_IO, **_CONV
        )
    },
    "bcop_conv2d": {
        "orthogonium": _orthogonium("legacy.block_ortho_conv.BCOP", "", *_IO, kernel_size=3)
    },
    "soc_conv2d": {
        "orthogonium": _orthogonium("legacy.skew_ortho_conv.SOC", "", *_IO, kernel_size=3),
        "orthogonium, adaptive": _orthogonium(
            "layers.conv.adaptiveSOC.AdaptiveSOCConv2d", "", *_IO, **_CONV
        ),
    },
    "cayley_conv2d": {
        "orthogonium": _orthogonium(
            "legacy.cayley_ortho_conv.Cayley", "", *_IO, kernel_size=3, padding=1
        )
    },
    "sll_conv2d": {
        "orthogonium": _orthogonium(
            "layers.conv.SLL.SDPBasedLipschitzResBlock",
            "",
            "cin",
            inner_dim_factor=1,
            padding_mode="zeros",
        )
    },
    "spectral_conv2d": {
        "torch (not the operator norm)": _torch_conv(parametrizations.spectral_norm),
        "torchlip": _peer("deel.torchlip.SpectralConv2d", *_IO, **_CONV),
    },
    "frobenius_conv2d": {"torchlip": _peer("deel.torchlip.FrobeniusConv2d", *_IO, **_CONV)},
    "spectral_linear": {"torch": _torch_linear(parametrizations.spectral_norm)},
    "bjorck_linear": {
        "orthogonium": _ortho_linear("DEFAULT_ORTHO_PARAMS"),
        "torchlip": _peer("deel.torchlip.SpectralLinear", *_FEATURES),
    },
    "cayley_linear": {"torch": _orthogonal("cayley"), "geotorch": _geotorch("cayley")},
    "exp_linear": {
        "torch": _orthogonal("matrix_exp"),
        "geotorch": _geotorch("expm"),
        "orthogonium": _ortho_linear("EXP_ORTHO_PARAMS"),
    },
    "householder_linear": {"torch": _orthogonal("householder")},
    "qr_linear": {"orthogonium": _ortho_linear("QR_ORTHO_PARAMS")},
    "cholesky_linear": {"orthogonium": _ortho_linear("CHOLESKY_STABLE_ORTHO_PARAMS")},
    "frobenius_linear": {"torchlip": _peer("deel.torchlip.FrobeniusLinear", *_FEATURES)},
    "unit_norm_linear": {"orthogonium": _orthogonium("layers.UnitNormLinear", "", *_FEATURES)},
    "sll_linear": {
        "orthogonium": _orthogonium(
            "layers.conv.SLL.SDPBasedLipschitzDense", "", *_FEATURES, "inner_dim"
        )
    },
    "maxmin": {
        "orthogonium": _orthogonium("layers.MaxMin"),
        "torchlip": _peer("deel.torchlip.MaxMin"),
    },
    "groupsort": {"torchlip": _peer("deel.torchlip.GroupSort", group_size=4)},
    "fullsort": {"torchlip": _peer("deel.torchlip.FullSort")},
    "householder": {
        "orthogonium": _orthogonium("layers.HouseHolder", "", "channels"),
        "torchlip": _peer("deel.torchlip.HouseHolder", "channels"),
    },
    "householder2": {"orthogonium": _orthogonium("layers.HouseHolder_Order_2", "", "channels")},
    "abs": {"orthogonium": _orthogonium("layers.Abs")},
    "lprelu": {"torchlip": _peer("deel.torchlip.LPReLU")},
    "batch_centering": {"orthogonium": _orthogonium("layers.BatchCentering2D", "", "num_features")},
}


def allow_cpu() -> None:
    """Lets peers that call `.cuda()` in their constructors be built where there is no GPU."""
    if not torch.cuda.is_available():
        torch.Tensor.cuda = lambda self, *_args, **_kwargs: self  # pyright: ignore
