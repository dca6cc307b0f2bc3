"""Tests of what probes look at."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from lipnets.bounds import NotCertifiedError
from lipnets.data import Split
from lipnets.metrics import clopper_pearson
from lipnets.probes import Subject, build


def test_images_are_taken_evenly_from_data_sorted_by_class(
    model: nn.Sequential, split: Split
) -> None:
    subject = Subject.of(model, split, limit=8)
    assert subject.labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert subject.indices.tolist() == [0, 7, 15, 22, 30, 37, 45, 52]
    assert torch.equal(subject.images, split.images[subject.indices])


@pytest.mark.parametrize("limit", [60, 1000, None])
def test_a_limit_beyond_the_data_takes_all(
    model: nn.Sequential, split: Split, limit: int | None
) -> None:
    assert Subject.of(model, split, limit=limit).indices.tolist() == list(range(60))


def test_a_sample_of_a_sample_keeps_indices_and_logits(subject: Subject) -> None:
    sample = subject.sample(20).sample(4)
    assert sample.indices.tolist() == [0, 15, 30, 45]
    assert torch.equal(sample.logits, subject.logits[sample.indices])
    assert torch.equal(sample.radii, subject.radii[sample.indices])


def test_logits_are_those_of_the_model_in_double_precision(
    subject: Subject, model: nn.Sequential
) -> None:
    assert subject.logits.dtype == torch.float64
    torch.testing.assert_close(subject.logits, model(subject.images.double()), rtol=1e-12, atol=0)


def test_no_images_are_refused(model: nn.Sequential, split: Split) -> None:
    with pytest.raises(ValueError, match="empty"):
        Subject.of(model, split[:0])


@pytest.mark.parametrize("argument", ["limit", "batch_size"])
def test_nothing_at_a_time_is_refused(model: nn.Sequential, split: Split, argument: str) -> None:
    with pytest.raises(ValueError, match=f"'{argument}' should be at least 1, got 0"):
        Subject.of(model, split, **{argument: 0})


def test_data_with_more_classes_than_the_model_are_refused(
    model: nn.Sequential, split: Split
) -> None:
    other = Split(split.images, split.labels + 1)
    with pytest.raises(ValueError, match="4 classes, and labels go from 1 to 4"):
        Subject.of(model, other)


def test_records_say_where_they_are_from(subject: Subject) -> None:
    details = subject.sample(7).record("x", 1.0, "1", more=2).details
    assert details == {
        "more": 2,
        "data": "patterns",
        "images": "7 of 60, evenly spaced",
        "dtype": "float64",
    }
    assert subject.record("x", 1.0, "1").details["images"] == "all"


def test_shares_come_with_their_interval(subject: Subject) -> None:
    record = subject.share("x", torch.tensor([True, False, True, True]))
    assert (record.value, record.count, record.details["hits"]) == (0.75, 4, 3)
    assert (record.details["low"], record.details["high"]) == clopper_pearson(3, 4)


def test_means_come_with_their_interval(subject: Subject) -> None:
    values = torch.arange(60).double()
    record = subject.mean("x", values, "nats", more=2)
    assert (record.value, record.unit, record.count) == (29.5, "nats", 60)
    error = 1.96 * float(values.std(unbiased=False)) / 60**0.5  # that of the normal limit
    assert record.details["low"] == pytest.approx(29.5 - error, abs=0.1 * error)
    assert record.details["high"] == pytest.approx(29.5 + error, abs=0.1 * error)
    assert record.details["more"] == 2


def test_images_of_another_shape_are_refused(model: nn.Sequential, split: Split) -> None:
    other = Split(split.images[..., :5], split.labels)
    with pytest.raises(ValueError, match=r"does not take images of shape \(1, 6, 5\)"):
        Subject.of(model, other)


class Counting(nn.Module):
    """Counts the images that it sees, as nobody else should notice."""

    def __init__(self) -> None:
        super().__init__()
        self.head = nn.Linear(36, 4)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        self.seen += len(x)
        return self.head(x.flatten(1))


def test_a_foreign_module_is_left_as_it_was_by_all_that_runs_it(split: Split) -> None:
    model = Counting().float().eval()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    subject = Subject.of(model, split, refuse=False, limit=8)
    for name in ("certified", "repeatable", "jacobian", "tightness", "cost"):
        list(build(name)(subject))
    for name, tensor in model.state_dict().items():
        assert tensor.dtype == before[name].dtype, name
        assert torch.equal(tensor, before[name]), name


def test_a_foreign_module_in_training_mode_is_refused(split: Split) -> None:
    with pytest.raises(NotCertifiedError, match="training mode"):
        Subject.of(Counting(), split, refuse=False)


def pair(x: Tensor) -> tuple[Tensor, int]:
    return x.flatten(1), 1


def single(x: Tensor) -> Tensor:
    return x.flatten(1)[:, 0]


def flat(x: Tensor) -> Tensor:
    return x.flatten()[:4]


def one_at_a_time(x: Tensor) -> Tensor:
    if len(x) > 1:
        raise IndexError("too many")
    return x.flatten(1)


def in_float32(x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        raise TypeError("only float32")
    return x.flatten(1)[:, :4]


@pytest.mark.parametrize(
    ("forward", "said"),
    [
        (pair, r"a tensor of logits of shape \(2, K\) for 2 images, got tuple"),
        (single, r"of shape \(2, K\) for 2 images, got \(2,\)"),
        (flat, r"of shape \(2, K\) for 2 images, got \(4,\)"),
        (one_at_a_time, "2 at a time: IndexError: too many"),
        (in_float32, "let its forward keep the dtype of its input"),
    ],
)
def test_what_is_no_classifier_of_batches_is_told_what_one_is(
    split: Split, forward: Callable[[Tensor], Tensor], said: str
) -> None:
    class Foreign(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return forward(x)

    with pytest.raises(ValueError, match=said):
        Subject.of(Foreign().eval(), split, refuse=False)


def test_images_are_not_changed_by_a_network_that_works_in_place(split: Split) -> None:
    class InPlace(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mul_(2).flatten(1)[:, :4]

    subject = Subject.of(InPlace().eval(), split, refuse=False)
    images = split.images[:5].double()
    kept = images.clone()
    subject.run(images)
    assert torch.equal(images, kept)
