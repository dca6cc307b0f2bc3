"""Tests of attacks: on classifiers whose distance to the boundary is known, they must find it."""

import importlib.util
import math
from types import SimpleNamespace
from typing import ClassVar

import pytest
import torch
from torch import Tensor, nn

from lipnets import attacks
from lipnets.attacks._balls import ascent, fit, project
from lipnets.attacks._search import _rows
from lipnets.metrics import correct

SIDE = 32


def linear(classes: int, scale: float = 1.0, dtype: torch.dtype = torch.float64) -> nn.Linear:
    network = nn.Linear(SIDE, classes).to(dtype).eval()
    with torch.no_grad():
        network.weight.mul_(scale)
        network.bias.mul_(scale)
    return network


def in_double(network: nn.Linear, images: Tensor) -> Tensor:
    return (images.double() @ network.weight.double().T + network.bias.double()).detach()


def pictures(count: int, on_the_border: bool) -> Tensor:
    """Images in the middle of the box, or with half of their pixels on its border."""
    images = torch.rand(count, SIDE, dtype=torch.float32)
    if not on_the_border:
        return 0.4 + 0.2 * images
    images[:, ::2] = images[:, ::2].round()
    return images


def distance(image: Tensor, normal: Tensor, gap: float, clipped: bool) -> float:
    """The least ‖δ‖ with normal · δ ≥ gap, and with image + δ in the box: δ follows the normal, clipped."""
    if not clipped:
        return gap / float(normal.norm())

    def moved(share: float) -> Tensor:
        return (image + share * normal).clamp(0, 1) - image

    low, high = 0.0, 1.0
    while float(normal @ moved(high)) < gap:
        high *= 2
        if high > 1e15:
            return math.inf
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if float(normal @ moved(middle)) < gap else (low, middle)
    return float(moved(high).norm())


def distances(network: nn.Linear, images: Tensor, labels: Tensor, clipped: bool = True) -> Tensor:
    weight, found = network.weight.detach().double(), []
    for image, logits, label in zip(
        images.double(), in_double(network, images), labels.tolist(), strict=True
    ):
        if int(logits.argmax()) != label:
            found.append(0.0)
            continue
        others = [j for j in range(len(weight)) if j != label]
        gaps = [float(logits[label] - logits[j]) for j in others]
        normals = [weight[j] - weight[label] for j in others]
        pairs = zip(normals, gaps, strict=True)
        found.append(min(distance(image, normal, gap, clipped) for normal, gap in pairs))
    return torch.tensor(found)


def case(
    classes: int, scale: float, dtype: torch.dtype, on_the_border: bool
) -> tuple[nn.Linear, Tensor, Tensor]:
    network, images = linear(classes, scale, dtype), pictures(12, on_the_border)
    labels = in_double(network, images).argmax(dim=1)
    labels[3] = (labels[3] + 1) % classes  # one that is wrong
    return network, images, labels


@pytest.mark.parametrize(
    ("classes", "scale", "dtype"),
    [
        (2, 1.0, torch.float64),
        (2, 1e4, torch.float32),
        (3, 1e-4, torch.float32),
        (5, 1e4, torch.float32),
        (5, 1.0, torch.float32),
        (5, 1e-4, torch.float64),
    ],
)
def test_all_losses_together_break_linear_classifiers_exactly_as_far_as_theory_says(
    classes: int, scale: float, dtype: torch.dtype
) -> None:
    network, images, labels = case(classes, scale, dtype, on_the_border=True)
    true = distances(network, images, labels)
    # At both sides of the distance of one image, as near as float32 can tell.
    for radius in (0.999 * float(true.median()), 1.001 * float(true.median())):
        broken = torch.zeros(len(images), dtype=torch.bool)
        for loss in attacks.losses_for(classes):
            found = attacks.search(
                network,
                images,
                labels,
                radius=radius,
                loss=loss,
                steps=40,
                judge=lambda x: in_double(network, x),
            )
            broken |= found.broken
        assert torch.equal(broken, true < radius)


@pytest.mark.parametrize("clipped", [False, True])
@pytest.mark.parametrize("classes", [2, 4])
def test_the_nearest_wrong_image_of_linear_classifiers_is_at_the_known_distance(
    classes: int, clipped: bool
) -> None:
    network, images, labels = case(classes, 1.0, torch.float32, on_the_border=clipped)
    true = distances(network, images, labels, clipped)
    found = attacks.minimum_norm(network, images, labels, judge=lambda x: in_double(network, x))
    assert found.lengths[3] == 0
    ratios = (found.lengths / true)[true > 0]
    assert ratios.min() >= 1 - 1e-9
    assert ratios.max() <= (1.0005 if clipped else 1 + 1e-6)


def test_in_linf_the_distance_is_the_gap_over_the_sum_of_weights() -> None:
    network, images, labels = case(3, 1.0, torch.float64, on_the_border=False)
    logits, weight = in_double(network, images), network.weight.detach()
    own = logits.gather(1, labels[:, None])
    sizes = (weight[labels][:, None] - weight).abs().sum(dim=2)
    true = ((own - logits) / sizes).masked_fill(sizes == 0, math.inf).amin(dim=1).clamp(min=0)
    found = attacks.minimum_norm(network, images, labels, norm="linf", first=0.01)
    assert torch.allclose(found.lengths, true, rtol=1e-3)
    assert bool((found.lengths >= true * (1 - 1e-9)).all())


@pytest.mark.parametrize("norm", ["l2", "linf"])
@pytest.mark.parametrize("loss", attacks.LOSSES)
def test_what_is_found_is_in_the_box_and_within_the_radius(loss: str, norm: attacks.Norm) -> None:
    network, images, labels = case(5, 1.0, torch.float32, on_the_border=True)
    radii = torch.linspace(0.01, 0.5, len(images))
    found = attacks.search(network, images, labels, radius=radii, norm=norm, loss=loss, steps=15)
    moved = (found.images - images.double()).flatten(1)
    lengths = moved.norm(dim=1) if norm == "l2" else moved.abs().amax(dim=1)
    assert found.images.dtype == torch.float64
    assert bool((lengths <= radii).all())
    assert 0 <= found.images.min() <= found.images.max() <= 1
    assert torch.equal(found.lengths[found.broken], lengths[found.broken])
    assert bool(found.lengths[~found.broken].isinf().all())
    assert torch.equal(found.broken, ~correct(found.logits, labels))
    assert torch.equal(found.images[3], images[3].double())  # it was wrong as it was


def test_projections_are_the_nearest_points_of_ball_and_box() -> None:
    centers = torch.rand(50, 12).round(decimals=1).clamp(0, 1)
    points, radii = centers + torch.randn(50, 12), torch.rand(50) + 0.05
    found = project(points, centers, radii, "l2")
    assert 0 <= found.min() <= found.max() <= 1
    assert bool(((found - centers).norm(dim=1) <= radii * (1 + 1e-12)).all())
    # The nearest point z* of a convex set has (z − z*) · (u − z*) ≤ 0 for all its points u.
    for _ in range(50):
        others = (centers + torch.randn(50, 12)).clamp(0, 1) - centers
        others = others * (radii / others.norm(dim=1)).clamp(max=1)[:, None]
        products = ((points - found) * (centers + others - found)).sum(dim=1)
        assert products.max() <= 1e-12


def test_a_fit_is_within_the_radius_however_tight() -> None:
    centers, radii = torch.rand(100, 3072), torch.full((100,), 1e-3)
    for norm in ("l2", "linf"):
        found = fit(project(centers + 1, centers, radii, norm), centers, radii, norm)
        moved = found - centers
        lengths = moved.norm(dim=1) if norm == "l2" else moved.abs().amax(dim=1)
        assert bool((lengths <= radii).all())
        assert bool((lengths >= radii * (1 - 1e-9)).all())


class Constant(nn.Module):
    """Says the same of all images."""

    def __init__(self, logits: list[float]) -> None:
        super().__init__()
        self.logits = torch.tensor(logits)

    def forward(self, images: Tensor) -> Tensor:
        return self.logits.to(images).expand(len(images), -1)


@pytest.mark.parametrize(
    ("norm", "expected"),
    [("l2", [[0.0, 0.0, 0.6, -0.8]]), ("linf", [[0.0, 0.0, 1.0, -1.0]])],
)
def test_no_step_leads_out_of_the_box(norm: attacks.Norm, expected: list[list[float]]) -> None:
    gradients = torch.tensor([[9.0, -9.0, 3.0, -4.0]])
    points = torch.tensor([[1.0, 0.0, 0.0, 1.0]])  # the first two cannot go where they are sent
    steps = ascent(gradients, points, lambda: torch.zeros_like(gradients), norm)
    torch.testing.assert_close(steps, torch.tensor(expected), rtol=0, atol=1e-12)


@pytest.mark.parametrize("loss", attacks.LOSSES)
@pytest.mark.parametrize("dead", [Constant([2.0, 1, 0, -1]).eval(), None])
def test_without_any_gradient_nothing_is_found_and_nothing_breaks(
    loss: str, dead: nn.Module | None
) -> None:
    network = dead or nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)).eval()
    if isinstance(network, nn.Sequential):
        with torch.no_grad():
            network[0].weight.mul_(1e-3)
            network[0].bias.fill_(-1)
            network[2].bias.copy_(torch.tensor([2.0, 1, 0, -1]))
    images = torch.rand(5, 4)
    labels = torch.tensor([0, 0, 0, 0, 1])
    found = attacks.search(network, images, labels, radius=0.3, loss=loss, steps=12)
    assert found.broken.tolist() == [False] * 4 + [True]
    assert bool(found.images.isfinite().all())


class Islands(nn.Module):
    """Flat but for a step: no gradient leads to what is wrong, and half of all directions do."""

    def forward(self, images: Tensor) -> Tensor:
        past = (images[:, :1] > 0.5).to(images)
        return torch.cat([1 - past, past], dim=1) + 0 * images[:, :2]


def test_noise_searches_where_there_is_no_gradient() -> None:
    images = torch.full((40, 2), 0.45)
    labels = torch.zeros(40, dtype=torch.long)
    found = attacks.search(Islands().eval(), images, labels, radius=0.4, loss="margin", steps=30)
    assert bool(found.broken.all())


def test_ties_are_decided_as_predictions_are_and_counted_as_broken_at_no_distance() -> None:
    network = Constant([1.0, 1.0]).eval()
    images = torch.rand(2, 3)
    found = attacks.minimum_norm(network, images, torch.tensor([0, 1]), rounds=3)
    assert found.broken.tolist() == [False, True]  # the first class wins
    assert found.lengths.tolist() == [math.inf, 0.0]


class Hole(nn.Module):
    """Gives no number for dark images."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean(dim=1, keepdim=True)
        logits = torch.cat([mean + 1, 0 * mean], dim=1)
        return logits / (mean > 0.4).to(images)


def test_rows_without_numbers_are_wrong_and_what_leads_to_them_breaks_an_image() -> None:
    images = torch.stack([torch.full((4,), 0.3), torch.full((4,), 0.45), torch.full((4,), 0.9)])
    labels = torch.zeros(3, dtype=torch.long)
    found = attacks.minimum_norm(Hole().eval(), images, labels, rounds=12, first=0.2)
    assert found.lengths[0] == 0
    assert found.lengths[1] == pytest.approx(0.1, rel=0.05)  # of four pixels, 0.05 each
    assert not found.logits[1].isfinite().all()


def test_an_image_is_attacked_as_it_would_be_among_others() -> None:
    network = nn.Sequential(nn.Linear(SIDE, 32), nn.Tanh(), nn.Linear(32, 5)).eval()
    images, indices = pictures(30, on_the_border=True), torch.arange(30) * 7
    labels = network(images.double()).argmax(dim=1)
    scale = attacks.median_margin(network(images.double()).detach(), labels)

    def attack(chosen: Tensor, **settings: int) -> attacks.Found:
        return attacks.search(
            network,
            images[chosen],
            labels[chosen],
            radius=0.3,
            loss="targeted_dlr",
            steps=20,
            indices=indices[chosen],
            scale=scale,
            **settings,
        )

    everyone = attack(torch.arange(30))
    assert 0 < int(everyone.broken.sum()) < 30
    some = torch.tensor([20, 3, 11, 4])
    for settings in ({}, {"batch_size": 1}, {"batch_size": 7}):
        few = attack(some, **settings)
        assert torch.equal(few.broken, everyone.broken[some])
        assert torch.allclose(few.images, everyone.images[some], atol=1e-9)
    other = attack(some, seed=1)
    assert not torch.allclose(other.images, everyone.images[some], atol=1e-9)


def test_targets_are_the_other_classes_the_likeliest_first() -> None:
    logits, labels = (
        torch.tensor([[3.0, 1.0, 2.0, 0.0], [5.0, 6.0, 8.0, 7.0]]),
        torch.tensor([0, 2]),
    )
    places = torch.tensor([0, 1])
    for targets, aims in (
        (None, [2, 1, 3, 3, 1, 0]),
        (9, [2, 1, 3, 3, 1, 0]),
        (3, [2, 1, 3, 3, 1, 0]),
        (2, [2, 1, 3, 1]),
        (1, [2, 3]),
    ):
        owners, found = _rows(places, logits, labels, attacks.LOSSES["targeted_margin"], targets)
        assert found.tolist() == aims
        assert owners.tolist() == [place for place in (0, 1) for _ in range(len(aims) // 2)]


def test_the_scale_is_the_median_of_margins_that_are_there() -> None:
    leads = torch.tensor([4.0, 1.0, 2.0, 0.0, -9.0, -8.0, -7.0, math.inf])
    logits = torch.stack([leads, torch.zeros(8)], dim=1)
    assert attacks.median_margin(logits, torch.zeros(8, dtype=torch.int64)) == 2.0
    assert attacks.median_margin(logits[4:7], torch.zeros(3, dtype=torch.int64)) == 1.0


def test_the_random_state_and_the_network_are_left_alone() -> None:
    network = linear(3).requires_grad_()
    images = pictures(4, on_the_border=False)
    state, weight = torch.get_rng_state(), network.weight.clone()
    attacks.apgd(network, images, torch.tensor([0, 1, 2, 0]), radius=0.1, steps=5)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(weight, network.weight)
    assert network.weight.grad is None


def test_broken_images_leave_the_search() -> None:
    network, images, labels = case(10, 1.0, torch.float64, on_the_border=False)
    tally = attacks.Tally()
    found = attacks.search(network, images, labels, radius=2.0, steps=100, tally=tally)
    assert bool(found.broken.all())
    assert tally.searched < 5 * len(images)
    assert tally.judged < 4 * len(images)


def test_the_judge_has_the_last_word() -> None:
    network, images, labels = case(3, 1.0, torch.float64, on_the_border=False)
    stubborn = nn.functional.one_hot(labels, 3).double()
    found = attacks.search(
        network, images, labels, radius=2.0, steps=8, judge=lambda x: stubborn[: len(x)]
    )
    assert int(found.broken.sum()) <= 12
    always = attacks.search(
        network,
        images[:1],
        labels[:1],
        radius=2.0,
        steps=8,
        judge=lambda x: stubborn[:1].expand(len(x), -1),
    )
    assert not always.broken.any()


def test_one_class_is_nothing_to_attack() -> None:
    network, images = linear(1), pictures(3, on_the_border=False)
    labels = torch.zeros(3, dtype=torch.long)
    for loss in attacks.LOSSES:
        assert not attacks.search(network, images, labels, radius=0.1, loss=loss).broken.any()
    assert bool(attacks.minimum_norm(network, images, labels).lengths.isinf().all())


@pytest.mark.parametrize(("loss", "classes"), [("dlr", 2), ("targeted_dlr", 3)])
def test_losses_that_need_more_classes_are_refused(loss: str, classes: int) -> None:
    network, images, labels = case(classes, 1.0, torch.float64, on_the_border=False)
    with pytest.raises(ValueError, match=f"'{loss}' needs {classes + 1} classes"):
        attacks.apgd(network, images, labels, radius=0.1, loss=loss)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius": 0.0}, "should be positive, got 0"),
        ({"steps": 0}, "'steps' should be positive"),
        ({"loss": "hinge"}, "No loss is called 'hinge'"),
    ],
)
def test_mistakes_are_refused(change: dict, message: str) -> None:
    network, images, labels = case(3, 1.0, torch.float64, on_the_border=False)
    with pytest.raises(ValueError, match=message):
        attacks.apgd(network, images, labels, **{"radius": 0.1, **change})
    with pytest.raises(ValueError, match="evaluation mode"):
        attacks.apgd(network.train(), images, labels, radius=0.1)
    with pytest.raises(ValueError, match=r"in \[0, 1\]"):
        attacks.apgd(network.eval(), images + 1, labels, radius=0.1)
    with pytest.raises(ValueError, match="shapes"):
        attacks.apgd(network, images, labels[:2], radius=0.1)


def test_dlr_losses_are_quotients_of_leads() -> None:
    logits = torch.tensor([[4.0, 1.0, 2.0, 0.0]])
    label, target = torch.tensor([0]), torch.tensor([1])
    assert attacks.LOSSES["dlr"].value(logits, label, target).item() == pytest.approx(-2 / 3)
    targeted = attacks.LOSSES["targeted_dlr"].value(logits, label, target).item()
    assert targeted == pytest.approx(-3 / 3.5)  # (1 − 4) / (4 − (1 + 0) / 2)
    ties = torch.zeros(1, 4)
    for loss in attacks.LOSSES.values():
        assert loss.value(ties, label, target).isfinite().all()


def test_autoattack_is_asked_for_by_name_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    network, images, labels = case(3, 1.0, torch.float32, on_the_border=False)
    with pytest.raises(ValueError, match=r"pip install lipnets\[attacks\]"):
        attacks.autoattack(network, images, labels, radius=0.1, num_classes=3)


class Borrowed:
    """Stands in for AutoAttack: goes the whole radius up in all pixels, and a little farther."""

    asked: ClassVar[list[tuple]] = []

    def __init__(self, network: nn.Module, **settings: object) -> None:
        self.eps, self.settings = settings["eps"], settings
        self.apgd_targeted = self.fab = SimpleNamespace(n_target_classes=None)

    def run_standard_evaluation(self, images: Tensor, labels: Tensor, /, **_: int) -> Tensor:
        torch.manual_seed(5)
        Borrowed.asked.append((self.settings, self.fab.n_target_classes))
        return images + 1.001 * self.eps / SIDE**0.5


def test_what_autoattack_finds_is_fitted_and_its_settings_are_those_of_few_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    monkeypatch.setattr(
        importlib, "import_module", lambda name: SimpleNamespace(AutoAttack=Borrowed)
    )
    for classes, kind in ((3, "custom"), (5, None)):
        network, images, labels = case(classes, 1.0, torch.float32, on_the_border=False)
        state = torch.get_rng_state()
        found = attacks.autoattack(network, images, labels, radius=0.1, num_classes=classes)
        assert torch.equal(state, torch.get_rng_state())
        moved = (found - images.double()).norm(dim=1)
        assert bool((moved <= 0.1).all())
        assert torch.allclose(moved, torch.tensor(0.1), rtol=1e-9)
        settings, targets = Borrowed.asked.pop()
        assert settings.get("version") == kind
        assert settings["norm"] == "L2"
        assert targets == classes - 1
