"""Small networks of the zoo that studies go through where none are asked for: minutes on two cores."""

__all__ = ["FREE", "NORMALIZED", "RAW", "Models"]

from collections.abc import Mapping
from typing import Any

Models = Mapping[str, Mapping[str, Any]]  # by what they are called: the section `model` of a config

_PERCEPTRON = {"name": "lipmlp_s", "widths": [48, 32]}
_RESIDUAL = {"name": "resnet18", "width": 8, "depths": [1, 1], "small_images": True}

# Networks whose parameters are the weights in use: log K is the sum over layers of log σ₁.
FREE: Models = {
    "perceptron, 2 hidden": {"name": "plain_mlp_s", "widths": [48, 32]},
    "perceptron, 4 hidden": {"name": "plain_mlp_s", "widths": [48, 48, 48, 32]},
    "perceptron, MaxMin": {"name": "plain_mlp_s", "widths": [48, 32], "act": "maxmin"},
    "convolutions": {"name": "plain_convnet_xs", "width": 8, "norm": None},
    "GloRo net": {"name": "gloronet_2c2f", "widths": [8, 16], "hidden": [32]},
    "residual": {**_RESIDUAL, "norm": None},
}

# The gain of a normalization moves log K as well, and so does its running variance.
NORMALIZED: Models = {"residual, batch normalization": _RESIDUAL}

# Networks whose K is 1 at any time: what moves are the parameters behind their weights.  Others have
# several parameters behind a weight, or none of its shape: sandwiches, SLL and CPL layers, SOC.
RAW: Models = {
    "spectral normalization": {
        **_PERCEPTRON,
        "linear": "spectral_linear",
        "head": "spectral_linear",
    },
    "AOL": {**_PERCEPTRON, "linear": "aol_linear", "head": "aol_linear"},
    "Cayley": _PERCEPTRON,
}
