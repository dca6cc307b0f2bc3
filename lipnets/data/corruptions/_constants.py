"""What the severities 1 to 5 of a corruption are: the constants of CIFAR-10-C, and its families.

They are made for images of 32 pixels; those of ImageNet-C are several times stronger.

References:
    | Benchmarking Neural Network Robustness to Common Corruptions and Perturbations
      (Hendrycks & Dietterich, 2019), and the script that made CIFAR-10-C
    | https://arxiv.org/abs/1903.12261
"""

__all__ = ["CONSTANTS", "EXTRA", "FAMILIES", "MAIN", "STAND_INS"]

from collections.abc import Mapping
from typing import Any

FAMILIES: Mapping[str, tuple[str, ...]] = {  # of the main ones
    "noise": ("gaussian_noise", "shot_noise", "impulse_noise"),
    "blur": ("defocus_blur", "glass_blur", "motion_blur", "zoom_blur"),
    "weather": ("snow", "frost", "fog", "brightness"),
    "digital": ("contrast", "elastic_transform", "pixelate", "jpeg_compression"),
}
MAIN: tuple[str, ...] = tuple(name for family in FAMILIES.values() for name in family)
EXTRA = ("speckle_noise", "gaussian_blur", "spatter", "saturate")  # to choose models by
STAND_INS = {"frost": "frost_proc"}  # what cannot be computed, and what is computed instead

CONSTANTS: Mapping[str, tuple[Any, Any, Any, Any, Any]] = {
    "gaussian_noise": (0.04, 0.06, 0.08, 0.09, 0.10),  # σ
    "shot_noise": (500, 250, 100, 75, 50),  # photons of a white pixel
    "impulse_noise": (0.01, 0.02, 0.03, 0.05, 0.07),  # share of values
    "speckle_noise": (0.06, 0.1, 0.12, 0.16, 0.2),  # σ of a white pixel
    # radius of the disk, σ
    "defocus_blur": ((0.3, 0.4), (0.4, 0.5), (0.5, 0.6), (1.0, 0.2), (1.5, 0.1)),
    # σ, reach of a swap, rounds
    "glass_blur": ((0.05, 1, 1), (0.25, 1, 1), (0.4, 1, 1), (0.25, 1, 2), (0.4, 1, 2)),
    "motion_blur": ((6, 1.0), (6, 1.5), (6, 2.0), (8, 2.0), (9, 2.5)),  # radius, σ
    # How many zooms 1, 1.01, ...: the ends 1.06, 1.11, ... are left out, but rounding of numpy's
    # `arange`, of which the published arrays were made, keeps the first two.
    "zoom_blur": (7, 12, 16, 21, 26),
    "gaussian_blur": (0.4, 0.6, 0.7, 0.8, 1.0),  # σ
    # mean and σ of flakes, zoom, threshold, radius and σ of the motion, share of the image
    "snow": (
        (0.1, 0.2, 1.0, 0.6, 8, 3.0, 0.95),
        (0.1, 0.2, 1.0, 0.5, 10, 4.0, 0.9),
        (0.15, 0.3, 1.75, 0.55, 10, 4.0, 0.9),
        (0.25, 0.3, 2.25, 0.6, 12, 6.0, 0.85),
        (0.3, 0.3, 1.25, 0.65, 14, 12.0, 0.8),
    ),
    # weight of the image, and of the ice: those of frost
    "frost_proc": ((1.0, 0.2), (1.0, 0.3), (0.9, 0.4), (0.85, 0.4), (0.75, 0.45)),
    "fog": ((0.2, 3.0), (0.5, 3.0), (0.75, 2.5), (1.0, 2.0), (1.5, 1.75)),  # weight, decay
    # mean and σ of drops, σ of their blur, threshold, strength of water or σ of mud, whether mud
    "spatter": (
        (0.62, 0.1, 0.7, 0.7, 0.5, 0),
        (0.65, 0.1, 0.8, 0.7, 0.5, 0),
        (0.65, 0.3, 1.0, 0.69, 0.5, 0),
        (0.65, 0.1, 0.7, 0.69, 0.6, 1),
        (0.65, 0.1, 0.5, 0.68, 0.6, 1),
    ),
    "brightness": (0.05, 0.1, 0.15, 0.2, 0.3),  # added to the value
    "contrast": (0.75, 0.5, 0.4, 0.3, 0.15),  # what is left of it
    "saturate": ((0.3, 0.0), (0.1, 0.0), (1.5, 0.0), (2.0, 0.1), (2.5, 0.2)),  # factor, offset
    # In shares of the shorter side: the strength of the field, its σ, and that of the affine map.
    "elastic_transform": (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    ),
    "pixelate": (0.95, 0.9, 0.85, 0.75, 0.65),  # of the side
    "jpeg_compression": (80, 65, 58, 50, 40),  # quality
}
