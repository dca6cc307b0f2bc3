"""Tests of the probe that runs images again."""

import pytest
import torch
from torch import Tensor, nn

from lipnets.data import Split
from lipnets.probes import InvariantError, Subject, build


class OfTheBatch(nn.Module):
    """Adds a small part of the mean of the batch, as normalization in training mode would."""

    def __init__(self, share: float, order: bool = False) -> None:
        super().__init__()
        self.share, self.order = share, order

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)[:, :4]
        added = torch.arange(len(x)).to(x)[:, None] if self.order else x.mean(dim=0)
        return x + self.share * added * torch.arange(4).to(x)


def test_a_network_that_is_a_function_of_an_image_passes(subject: Subject) -> None:
    (record,) = build("repeatable")(subject)
    assert record.name == "check/batches"
    assert 0 <= record.value <= 1
    assert record.count == 120


@pytest.mark.parametrize("order", [False, True])
def test_one_that_depends_on_the_batch_is_found(split: Split, order: bool) -> None:
    model = OfTheBatch(1e-6, order).eval()
    subject = Subject.of(model, split, refuse=False)
    with pytest.raises(InvariantError, match="should not depend on the other images"):
        list(build("repeatable")(subject))
    harmless = Subject.of(OfTheBatch(0.0, order).eval(), split, refuse=False)
    assert len(list(build("repeatable")(harmless))) == 1


def test_what_is_proved_to_round_is_far_below_what_is_found_wrong(
    model: nn.Sequential, split: Split
) -> None:
    """A certified program whose logits are off by 1e-9 in a batch of one is caught."""
    subject = Subject.of(model, split)
    certificate = subject.proved
    assert certificate
    inner = certificate.logits

    def off(images: Tensor, batch_size: int = 256) -> Tensor:
        logits = inner(images, batch_size).clone()
        logits[:, 0] += 1e-9 * (len(images) == 1)
        return logits

    object.__setattr__(certificate, "logits", off)
    with pytest.raises(InvariantError, match="alone"):
        list(build("repeatable")(subject))


class Warming(nn.Module):
    """Logits that grow with every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += 1
        return x.flatten(1)[:, :4] * self.seen


def test_whoever_brings_a_network_with_a_state_is_told_what_to_do(split: Split) -> None:
    subject = Subject.of(Warming().eval(), split, refuse=False)
    with pytest.raises(InvariantError, match="Take out of the forward of the network") as caught:
        list(build("repeatable")(subject))
    assert "certificate" not in str(caught.value)  # of which there is none that could be wrong


@pytest.mark.parametrize("alone", [False, True])
def test_outputs_that_are_lost_in_a_batch_alone_are_found(split: Split, alone: bool) -> None:
    class Losing(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            logits = x.flatten(1)[:, :4]
            return logits * torch.nan if (len(x) == 1) == alone else logits

    subject = Subject.of(Losing().eval(), split, refuse=False)
    with pytest.raises(InvariantError, match=r"test image 0 .*when it is run alone"):
        list(build("repeatable")(subject))
