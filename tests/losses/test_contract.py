"""What holds for every loss: shapes, dtypes, gradients, edge cases and refusals."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from lipnets import losses

WITH_RADIUS = [name for name in losses.names() if name not in ("emma", "gloro", "trades")]
CASES = [(name, {}) for name in losses.names()] + [(name, {"radius": 0.4}) for name in WITH_RADIUS]
STOPPED = ("emma", "soft_hkr")  # what they read of the logits themselves is a constant to them
EVERY = pytest.mark.parametrize(("name", "arguments"), CASES)


def equal_slopes(classes: int, slope: float = 1.5) -> Tensor:
    return slope * (1 - torch.eye(classes))


@EVERY
def test_margins_are_rewarded_and_the_dtype_is_kept(name: str, arguments: dict[str, float]) -> None:
    loss = losses.build(name, **arguments)
    labels, slopes = torch.tensor([0, 1]), equal_slopes(3)
    good = torch.nn.functional.one_hot(labels, 3).float()
    assert loss(good, labels, slopes) < loss(-good, labels, slopes)
    assert loss(good, labels, slopes).dtype == torch.float32
    assert loss(good, labels, slopes).shape == ()


@EVERY
def test_logits_in_half_precision_are_computed_with_in_float32(
    name: str, arguments: dict[str, float]
) -> None:
    loss = losses.build(name, **arguments)
    logits, labels = torch.randn(5, 4).bfloat16(), torch.tensor([0, 3, 1, 1, 2])
    slopes = equal_slopes(4)
    assert loss(logits, labels, slopes.float()) == loss(logits.float(), labels, slopes.float())


@EVERY
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_values_and_gradients_are_finite_for_any_number_of_classes_and_scale(
    name: str, arguments: dict[str, float], classes: int
) -> None:
    """In float32, with classes that are absent from the batch, tied logits and equal rows."""
    loss = losses.build(name, **arguments)
    labels = torch.tensor([0, 0, classes - 1])
    for scale in (0.0, 1.0, 1e4):
        for slope in (0.0, 1.5, 1e3):
            logits = (scale * torch.randn(3, classes)).float().requires_grad_()
            slopes = equal_slopes(classes, slope).float().requires_grad_()
            value = loss(logits, labels, slopes)
            value.backward()
            assert value.isfinite()
            assert logits.grad is not None
            assert logits.grad.isfinite().all()
            assert slopes.grad is None or slopes.grad.isfinite().all()


@pytest.mark.parametrize(("name", "arguments"), [case for case in CASES if case[0] not in STOPPED])
def test_gradients_are_those_of_the_value(name: str, arguments: dict[str, float]) -> None:
    """Against differences, where no kink of the loss and no tie is near."""
    loss = losses.build(name, **arguments)
    logits = torch.randn(4, 3, requires_grad=True)
    labels, slopes = torch.tensor([0, 2, 1, 1]), equal_slopes(3)
    assert torch.autograd.gradcheck(lambda z: loss(z, labels, slopes), (logits,))


@EVERY
def test_classes_may_be_renumbered(name: str, arguments: dict[str, float]) -> None:
    loss = losses.build(name, **arguments)
    logits, labels = torch.randn(6, 4), torch.tensor([0, 1, 2, 3, 3, 1])
    rows = torch.randn(4, 7)
    slopes, order = torch.cdist(rows, rows), torch.tensor([2, 0, 3, 1])
    renumbered = loss(logits[:, order], order.argsort()[labels], slopes[order][:, order])
    assert torch.allclose(loss(logits, labels, slopes), renumbered, rtol=1e-12)


@pytest.mark.parametrize("name", WITH_RADIUS)
def test_a_radius_means_the_same_for_networks_of_any_constant(name: str) -> None:
    """Logits and slopes of c times the network give c times the loss, hence the same gradients.

    In exact arithmetic: c is a power of two.
    """
    loss = losses.build(name, radius=0.4)
    logits, labels = torch.randn(5, 4), torch.tensor([0, 3, 1, 1, 2])
    slopes = equal_slopes(4, 0.7)
    assert loss(8 * logits, labels, 8 * slopes) == 8 * loss(logits, labels, slopes)


@pytest.mark.parametrize("name", [name for name in WITH_RADIUS if name not in STOPPED])
def test_a_radius_rewards_neither_larger_nor_smaller_networks(name: str) -> None:
    """Along c ↦ (c z, c s), which changes no radius, the gradient is zero."""
    logits, labels = torch.randn(5, 4, requires_grad=True), torch.tensor([0, 3, 1, 1, 2])
    slopes = equal_slopes(4).requires_grad_()
    losses.build(name, radius=0.4)(logits, labels, slopes).backward()
    assert logits.grad is not None
    assert slopes.grad is not None
    assert slopes.grad.norm() > 0.01
    along = (logits.grad * logits).sum() + (slopes.grad * slopes).sum()
    assert along.abs() < 1e-12 * (1 + slopes.grad.norm())


@pytest.mark.parametrize("name", losses.names())
def test_only_losses_that_ask_for_a_radius_need_slopes(name: str) -> None:
    loss = losses.build(name)
    assert loss.needs_slopes == (name not in WITH_RADIUS)
    if not loss.needs_slopes:
        logits, labels = torch.randn(2, 3), torch.tensor([0, 1])
        assert loss(logits, labels) == loss(logits, labels, torch.rand(3, 3))


@pytest.mark.parametrize("name", losses.names())
def test_slopes_that_are_missing_or_of_another_shape_are_refused(name: str) -> None:
    loss = losses.build(name, radius=0.4)
    logits, labels = torch.randn(2, 3), torch.tensor([0, 1])
    with pytest.raises(
        ValueError, match=r"needs slopes: call it as .* MarginSlopes\(model, shape\)"
    ):
        loss(logits, labels)
    with pytest.raises(ValueError, match=r"should have shape \(3, 3\).* got \(4, 4\)"):
        loss(logits, labels, equal_slopes(4))


def test_labels_of_another_number_are_refused() -> None:
    loss = losses.build("cross_entropy")
    with pytest.raises(ValueError, match=r"got \(2, 3\) and \(3,\)"):
        loss(torch.randn(2, 3), torch.tensor([0, 1, 2]))


@pytest.mark.parametrize("name", losses.names())
@pytest.mark.parametrize("radius", [0.0, -1.0, math.nan, math.inf])
def test_a_radius_that_is_not_positive_is_refused(name: str, radius: float) -> None:
    with pytest.raises(ValueError, match="'radius' should be positive"):
        losses.build(name, radius=radius)


@pytest.mark.parametrize(
    ("name", "argument", "value"),
    [
        ("cross_entropy", "temperature", 0.0),
        ("cross_entropy", "offset", math.inf),
        ("certificate_regularization", "gamma", -1.0),
        ("focal", "gamma", -1.0),
        ("logit_annealing", "beta", math.nan),
        ("lse_hkr", "margin", 0.0),
        ("lse_hkr", "penalty", 0.0),
        ("multi_margin", "margin", math.nan),
        ("soft_hkr", "margin", -1.0),
        ("soft_hkr", "temperature", 0.0),
        ("trades", "temperature", -1.0),
        ("trades", "weight", -1.0),
    ],
)
def test_arguments_out_of_their_range_are_refused(name: str, argument: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"'{argument}' should "):
        losses.build(name, **{argument: value})


@pytest.mark.parametrize("name", ["hinge_kr", "lse_hkr", "multi_margin", "soft_hkr"])
def test_a_margin_and_a_radius_are_one_too_many(name: str) -> None:
    with pytest.raises(ValueError, match="give it or 'margin', got both"):
        losses.build(name, margin=1.0, radius=0.4)


def test_a_temperature_and_an_offset_leave_nothing_to_a_radius() -> None:
    with pytest.raises(ValueError, match="'radius' sets the temperature and the offset"):
        losses.build("cross_entropy", temperature=1.0, offset=1.0, radius=0.4)


@pytest.mark.parametrize("name", losses.names())
def test_every_loss_stands_in_the_page_of_losses(name: str) -> None:
    page = Path(__file__).resolve().parents[2] / "docs" / "losses.md"
    assert f"`{name}`" in page.read_text(encoding="utf-8")
