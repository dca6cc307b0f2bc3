"""Mixtures have the pixels and the labels of two images, in the same proportion."""

import pytest
import torch
from torch import Tensor

from lipnets.data import Mixed, Split, augment, batches
from lipnets.data.augment import Mixing


def constant_images(count: int, shape: tuple[int, int, int]) -> tuple[Tensor, Tensor]:
    """Image k has the value k/count everywhere, and the label k."""
    labels = torch.arange(count)
    return (labels / count)[:, None, None, None].expand(count, *shape), labels


def mixed(spec: dict, seed: int, count: int = 6) -> tuple[Tensor, Mixed]:
    images, labels = constant_images(count, (2, 6, 8))
    step = augment.build([spec])
    assert isinstance(step, Mixing)
    images, labels = step(images, labels, torch.Generator().manual_seed(seed))
    assert isinstance(labels, Mixed)
    return images, labels


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_pixels_have_the_mean_that_labels_say(name) -> None:
    weights = []
    for seed in range(60):
        images, labels = mixed({"name": name, "alpha": 0.7}, seed)
        assert sorted(labels.second.tolist()) == list(range(6))
        first, second = labels.first / 6, labels.second / 6
        expected = labels.weight * first + (1 - labels.weight) * second
        assert torch.allclose(images.mean(dim=(1, 2, 3)), expected, rtol=0, atol=1e-12)
        if name == "mixup":
            assert torch.allclose(images.amax(dim=(1, 2, 3)), expected, rtol=0, atol=1e-12)
        else:
            either = (images == first[:, None, None, None]) | (
                images == second[:, None, None, None]
            )
            assert either.all()
        weights.append(labels.weight)
    assert 0 <= min(weights) < 0.4
    assert 0.8 < max(weights) <= 1


def test_what_cutmix_takes_is_a_rectangle_of_the_shape_of_the_image() -> None:
    """6 × 8 pixels: with sides of 6s and 8s pixels, rounded down, unless it meets a border."""
    seen = set()
    for seed in range(200):
        images, labels = mixed({"name": "cutmix"}, seed)
        changed = (images != (labels.first / 6)[:, None, None, None])[:, 0].any(dim=0)
        rows, columns = changed.any(dim=1), changed.any(dim=0)
        assert torch.equal(changed, rows[:, None] & columns)
        for line in (rows, columns):
            places = line.nonzero().flatten().tolist()
            assert not places or places == list(range(places[0], places[-1] + 1))
        if not (rows[0] or rows[-1] or columns[0] or columns[-1]):
            seen.add((int(rows.sum()), int(columns.sum())))
    possible = {(int(6 * s / 100), int(8 * s / 100)) for s in range(101)}
    assert len(seen - {(0, 0)}) > 2
    assert seen <= possible | {(0, 0)}


def test_weights_of_mixup_are_of_the_beta_distribution() -> None:
    """Its variance is 1/(8α + 4): 1/8 with α = ½, within five standard errors of 4000 draws."""
    step = augment.mixup(alpha=0.5)
    generator = torch.Generator().manual_seed(0)
    images, labels = constant_images(2, (1, 1, 1))
    drawn = [step(images, labels, generator)[1] for _ in range(4000)]
    weights = torch.tensor([each.weight for each in drawn if isinstance(each, Mixed)])
    assert len(weights) == 4000
    assert weights.mean().item() == pytest.approx(0.5, abs=5 * (1 / 8 / 4000) ** 0.5)
    assert weights.var().item() == pytest.approx(1 / 8, abs=0.01)


def test_a_share_p_of_batches_is_mixed() -> None:
    for p, low, high in [(0.0, 0, 0), (0.3, 170, 430), (1.0, 995, 1000)]:
        images, labels = constant_images(4, (1, 2, 2))
        step, generator = augment.mixup(p=p), torch.Generator().manual_seed(1)
        weights = [step(images, labels, generator)[1].weight for _ in range(1000)]  # pyright: ignore
        assert low <= sum(weight < 1 for weight in weights) <= high


def test_mixtures_of_mixtures_and_of_changed_images_come_in_batches() -> None:
    images = torch.rand(10, 1, 4, 4, dtype=torch.float32)
    split = Split(images, torch.arange(10))
    step = augment.build(["flip", "mixup", "cutmix", "shift"])
    [(first, labels), (second, _)] = batches(
        split, 6, torch.Generator().manual_seed(0), augment=step
    )
    assert (first.shape, second.shape) == ((6, 1, 4, 4), (4, 1, 4, 4))
    assert isinstance(labels, Mixed)
    assert isinstance(labels.first, Mixed)
    assert isinstance(labels.second, Mixed)
    assert len(labels) == 6
    assert first.min() >= 0
    assert first.max() <= 1
    [(again, _), _] = batches(split, 6, torch.Generator().manual_seed(0), augment=step)
    assert torch.equal(again, first)
