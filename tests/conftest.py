"""Double precision and a fixed seed for every test."""

from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def _reproducible() -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
    torch.set_default_dtype(before)
