"""Policies draw operations and strengths as their papers say."""

import re
from collections import Counter

import pytest
import torch
from torch import Tensor

from lipnets.compat import ensure_torchvision
from lipnets.data import augment
from lipnets.data.augment import policies

ensure_torchvision()
from torchvision.transforms import v2 as transforms

Drawn = list[tuple[str, float]]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> Drawn:
    """Operations and strengths, instead of doing them."""
    seen: Drawn = []

    def note(images: Tensor, names: tuple[str, ...], choice: Tensor, strength: Tensor) -> Tensor:
        chosen = [names[index] for index in choice.tolist()]
        seen.extend(zip(chosen, strength.tolist(), strict=True))
        return images

    monkeypatch.setattr(policies, "apply", note)
    return seen


def snake(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()


def allowed(space: dict, bins: int, levels: range, size: int) -> dict[str, set[float]]:
    """The strengths of torchvision, by our names."""
    values = {}
    for name, (magnitudes, signed) in space.items():
        of_all = magnitudes(bins, size, size)
        own = {0.0} if of_all is None else {float(of_all[level]) for level in levels}
        if name.startswith("Translate"):
            own = {float(int(value)) for value in own}
        values[snake(name)] = {
            round(s * v, 3) + 0.0 for v in own for s in ((1, -1) if signed else (1,))
        }
    return values


def compare(found: Drawn, expected: dict[str, set[float]], unused: tuple[str, ...]) -> None:
    seen: dict[str, set[float]] = {}
    for name, strength in found:
        seen.setdefault(name, set()).add(round(strength, 3) + 0.0)
    assert set(seen) == set(expected) - {"invert"}
    for name in set(seen) - set(unused):
        rounded = {round(value) for value in seen[name]} if name == "posterize" else seen[name]
        assert rounded == expected[name], name


NO_STRENGTH = ("identity", "auto_contrast", "equalize")


def test_trivial_augment_draws_all_operations_and_strengths_alike(drawn) -> None:
    augment.trivial_augment()(torch.zeros(30000, 1, 32, 32), torch.Generator().manual_seed(0))
    space = transforms.TrivialAugmentWide._AUGMENTATION_SPACE
    compare(drawn, allowed(space, 31, range(31), 32), NO_STRENGTH)
    counts = Counter(name for name, _ in drawn)
    assert all(abs(count - 30000 / 14) < 5 * (30000 / 14) ** 0.5 for count in counts.values())


def test_a_share_of_the_ranges_bounds_strengths_and_small_images_bound_moves(drawn) -> None:
    images = torch.zeros(4000, 1, 8, 12)
    augment.trivial_augment(strength=0.5)(images, torch.Generator().manual_seed(0))
    largest = {name: max(abs(s) for n, s in drawn if n == name) for name, _ in drawn}
    assert largest["shear_x"] == pytest.approx(0.99 / 2, rel=1e-6)
    assert largest["rotate"] == pytest.approx(135 / 2, rel=1e-6)
    assert (largest["translate_x"], largest["translate_y"]) == (6, 4)
    assert min(s for n, s in drawn if n == "posterize") == pytest.approx(5)
    assert min(s for n, s in drawn if n == "solarize") == pytest.approx(0.5)


def test_rand_augment_has_one_strength_and_many_operations(drawn) -> None:
    step = augment.rand_augment(num_ops=3, magnitude=9)
    step(torch.zeros(2000, 1, 32, 32), torch.Generator().manual_seed(0))
    assert len(drawn) == 6000
    space = transforms.RandAugment._AUGMENTATION_SPACE
    compare(drawn, allowed(space, 31, range(9, 10), 32), NO_STRENGTH)


def test_auto_augment_draws_the_pairs_of_its_policy_with_their_chances(drawn) -> None:
    count = 30_000
    augment.auto_augment()(torch.zeros(count, 1, 32, 32), torch.Generator().manual_seed(0))
    policy = transforms.AutoAugment(transforms.AutoAugmentPolicy.CIFAR10)
    space = transforms.AutoAugment._AUGMENTATION_SPACE
    for turn in range(2):
        found = Counter(
            (name, 0.0 if name in NO_STRENGTH or name == "invert" else round(abs(strength), 2))
            for name, strength in drawn[turn * count : (turn + 1) * count]
        )
        expected: Counter = Counter()
        for pair in policy._policies:
            name, chance, level = pair[turn]
            strength = 0.0
            if level is not None:
                strength = abs(float(space[name][0](10, 32, 32)[level]))
                strength = float(int(strength)) if name.startswith("Translate") else strength
            expected[snake(name), round(strength, 2)] += chance / 25
            expected["identity", 0.0] += (1 - chance) / 25
        found = Counter(
            {
                (name, float(round(s)) if name == "posterize" else s): n
                for (name, s), n in found.items()
            }
        )
        for key in set(expected) | set(found):
            deviation = (expected[key] * count) ** 0.5
            assert abs(found[key] - expected[key] * count) <= 5 * deviation + 1e-9, key
