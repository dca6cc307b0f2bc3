"""A small data set of a directory, and a network for it."""

from pathlib import Path

import pytest
import torch
from torch import nn

from lipnets.data import Dataset, Split
from lipnets.evaluation import Target


@pytest.fixture
def dataset() -> Dataset:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(12) % 3
    images = torch.rand(12, 1, 4, 4, generator=generator, dtype=torch.float32)
    return Dataset("noise", Split(images, labels), Split(images, labels), ("a", "b", "c"))


@pytest.fixture
def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 3)).float().eval()


@pytest.fixture
def target(dataset: Dataset, network: nn.Sequential, tmp_path: Path) -> Target:
    return Target("net", "net", network, dataset, "00", tmp_path / "evaluation", "a test")
