"""Operations do what those of PIL and torchvision do."""

import pytest
import torch
from torch import Tensor

from lipnets.compat import ensure_torchvision
from lipnets.data.augment.operations import OPERATIONS, apply

ensure_torchvision()
from torchvision.transforms.v2 import functional as reference

STRENGTHS = {
    **dict.fromkeys(("shear_x", "shear_y"), (-0.83, 0.1, 0.99)),
    **dict.fromkeys(("translate_x", "translate_y"), (-3.0, 1.0, 5.0)),
    "rotate": (-97.0, 10.0, 180.0),
    **dict.fromkeys(("brightness", "color", "contrast", "sharpness"), (-0.9, 0.2, 0.99)),
    "posterize": (2.0, 5.0, 8.0),
    "solarize": (0.0, 0.4, 1.0),
    **dict.fromkeys(("auto_contrast", "equalize", "invert", "identity"), (0.0,)),
}


def images(channels: int, count: int = 3) -> Tensor:
    """Multiples of 1/255; a channel of one value, one of two, and a dark one among them."""
    values = torch.randint(256, (count, channels, 20, 27)) / 255
    values[0, 0] = 0.2
    values[1, 0] = (values[1, 0] > 0.7) * 0.6
    values[2, -1] *= 0.3
    return (values * 255).round() / 255


def by_torchvision(name: str, image: Tensor, s: float) -> Tensor:
    def warp(
        translate: tuple[float, float] = (0, 0), shear: tuple[float, float] = (0, 0)
    ) -> Tensor:
        shear = [torch.tensor(each).atan().rad2deg().item() for each in shear]
        corner = [0, 0] if any(shear) else None
        return reference.affine(
            image, angle=0.0, translate=list(translate), scale=1.0, shear=shear, center=corner
        )

    as_bytes = (image * 255).round().to(torch.uint8)
    match name:
        case "identity":
            return image
        case "shear_x":
            return warp(shear=(s, 0.0))
        case "shear_y":
            return warp(shear=(0.0, s))
        case "translate_x":
            return warp(translate=(-s, 0))
        case "translate_y":
            return warp(translate=(0, -s))
        case "rotate":
            return reference.rotate(image, s)
        case "brightness":
            return reference.adjust_brightness(image, 1 + s)
        case "color":
            return reference.adjust_saturation(image, 1 + s)
        case "contrast":
            return reference.adjust_contrast(image, 1 + s)
        case "sharpness":
            return reference.adjust_sharpness(image, 1 + s)
        case "posterize":
            return reference.posterize(as_bytes, int(s)) / 255
        case "solarize":
            return reference.solarize(image, s)
        case "auto_contrast":
            return reference.autocontrast(image)
        case "equalize":
            return reference.equalize(as_bytes) / 255
        case _:
            return reference.invert(image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", OPERATIONS)
def test_each_image_is_what_torchvision_makes_of_it(name, channels) -> None:
    """Torchvision rounds weights of luma to four digits, and its angles to float32."""
    count = len(STRENGTHS[name])
    batch = images(channels)[:count]
    strength = torch.tensor(STRENGTHS[name])
    found = apply(batch, [name], torch.zeros(count, dtype=torch.int64), strength)
    for image, s, own in zip(batch, STRENGTHS[name], found, strict=True):
        expected = by_torchvision(name, image, s)
        if name in ("shear_x", "shear_y", "rotate"):  # halves are rounded either way
            assert ((own - expected).abs() > 1e-6).double().mean() < 0.02
        else:
            assert torch.allclose(own, expected, rtol=0, atol=5e-4)


def test_images_get_the_operation_that_was_chosen_for_them_alone() -> None:
    batch = images(3, count=4)
    names = ["identity", "invert", "solarize"]
    strength = torch.tensor([0.0, 0.0, 0.5, 0.0])
    found = apply(batch, names, torch.tensor([1, 0, 2, 0]), strength)
    expected = [1 - batch[0], batch[1], batch[2].where(batch[2] < 0.5, 1 - batch[2]), batch[3]]
    assert torch.equal(found, torch.stack(expected))


def test_images_of_few_pixels_or_of_two_channels_are_taken() -> None:
    for shape in [(2, 1, 2, 9), (2, 2, 5, 5)]:
        batch = torch.rand(shape)
        for name in OPERATIONS:
            found = apply(batch, [name], torch.zeros(2, dtype=torch.int64), torch.full((2,), 0.5))
            assert found.shape == shape
            assert found.min() >= 0
            assert found.max() <= 1
