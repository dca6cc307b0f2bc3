"""Double precision and a fixed seed for every test; a tiny member of each family."""

import importlib.util
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="session")
def tiny_member() -> Callable[..., nn.Module]:
    """Builds a tiny member of a family, for images of 1 × 8 × 8, as the tests of models do."""
    path = Path(__file__).parent / "models" / "test_zoo.py"
    spec = importlib.util.spec_from_file_location("models_test_zoo", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build
