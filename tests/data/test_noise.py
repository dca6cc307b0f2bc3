"""Labels that are wrong."""

import pytest
import torch

from lipnets.data import Split, with_label_noise


def split(count: int = 4000) -> Split:
    images = torch.rand(count, 1, 1, 1, dtype=torch.float32)
    return Split(images, torch.arange(count) % 5)


def test_a_share_of_labels_is_drawn_from_all_classes_alike() -> None:
    """Of a share s, s (1 - 1/K) change; each class is drawn with the deviation of a binomial."""
    clean = split()
    noisy = with_label_noise(clean, 0.5, 5, seed=3)
    assert torch.equal(noisy.images, clean.images)
    changed = noisy.labels != clean.labels
    assert changed.double().mean().item() == pytest.approx(0.4, abs=4 * (0.8 * 0.2 / 2000) ** 0.5)
    counts = noisy.labels[changed].bincount(minlength=5).double() / changed.sum()
    assert counts.tolist() == pytest.approx([0.2] * 5, abs=4 * (0.16 / 1600) ** 0.5)


def test_the_ends_of_the_range_change_nothing_or_all() -> None:
    clean = split(100)
    assert torch.equal(with_label_noise(clean, 0.0, 5, seed=0).labels, clean.labels)
    assert (with_label_noise(clean, 1.0, 5, seed=0).labels != clean.labels).sum() > 60
    with pytest.raises(ValueError, match="share"):
        with_label_noise(clean, 1.5, 5, seed=0)


def test_the_seed_decides() -> None:
    clean = split(100)
    first, again, other = (with_label_noise(clean, 0.5, 5, seed=seed).labels for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
