"""A classifier whose certified radii are known in closed form, and images to examine it on."""

from collections import OrderedDict
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lipnets.data import Split
from lipnets.probes import Subject

CLASSES, SIDE, COUNT = 4, 6, 60


def nearest_mean(images: Tensor, labels: Tensor) -> nn.Sequential:
    """The linear classifier that names the class with the nearest mean."""
    means = [images[labels == k].mean(dim=0).flatten().double() for k in range(CLASSES)]
    head = nn.Linear(means[0].numel(), CLASSES)
    with torch.no_grad():
        head.weight.copy_(torch.stack(means))
        head.bias.copy_(-torch.stack(means).square().sum(dim=1) / 2)
    return nn.Sequential(OrderedDict(backbone=nn.Sequential(nn.Flatten()), head=head)).eval()


@pytest.fixture
def split() -> Split:
    """Noisy copies of a few patterns, sorted by class."""
    generator = torch.Generator().manual_seed(1)
    patterns = torch.rand(CLASSES, 1, SIDE, SIDE, generator=generator, dtype=torch.float32)
    labels = torch.arange(CLASSES).repeat_interleave(COUNT // CLASSES)
    noise = torch.randn(COUNT, 1, SIDE, SIDE, generator=generator, dtype=torch.float32)
    return Split((0.3 * patterns[labels] + 0.35 + 0.25 * noise).clamp(0, 1), labels)


@pytest.fixture
def model(split: Split) -> nn.Sequential:
    return nearest_mean(split.images, split.labels)


@pytest.fixture
def subject(model: nn.Sequential, split: Split) -> Subject:
    return Subject.of(model, split, provenance={"data": "patterns"})


@pytest.fixture
def linear() -> Callable[..., nn.Sequential]:
    """Builds the network with logits ⟨w_k, x⟩ + b_k, of weights (K, C, H, W)."""

    def build(weights: Tensor, bias: Tensor | None = None) -> nn.Sequential:
        head = nn.Linear(weights[0].numel(), len(weights))
        with torch.no_grad():
            head.weight.copy_(weights.flatten(1))
            head.bias.copy_(torch.zeros(len(weights)) if bias is None else bias)
        return nn.Sequential(nn.Flatten(), head)

    return build


@pytest.fixture
def examine() -> Callable[..., Subject]:
    """Gives a network images of noise, with the labels 0, 1, ..., 0, 1, ..."""

    def examined(model: nn.Module, shape: tuple[int, ...], classes: int, count: int = 8) -> Subject:
        generator = torch.Generator().manual_seed(0)
        images = torch.rand(count, *shape, generator=generator, dtype=torch.float32)
        split = Split(images, torch.arange(count) % classes)
        return Subject.of(model.eval(), split, refuse=False)

    return examined
