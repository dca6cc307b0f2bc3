"""The recorder of drivers: what it says of a training, and that it changes nothing."""

import copy
import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import orthogonal, spectral_norm
from torch.nn.utils.parametrize import register_parametrization

from lipnets import losses, recorders
from lipnets.data import Split
from lipnets.margin_slopes import MarginSlopes
from lipnets.records import Record
from lipnets.training import Step, fit

SHAPE = (1, 3, 3)
NAMES = ["drift", "noise_curvature", "ito", "deterministic", "variance"]
PROBE = recorders.loss_of_probes(losses.build("cross_entropy"))


def split(count: int = 96) -> Split:
    labels = torch.arange(count) % 3
    images = torch.randn(count, *SHAPE) + 0.5 * torch.randn(3, *SHAPE)[labels]
    return Split(images.float(), labels)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(9, 6), nn.Tanh(), nn.Linear(6, 3))


def normalized() -> nn.Sequential:
    conv = nn.Conv2d(1, 4, 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def constrained() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), spectral_norm(nn.Linear(9, 6)), nn.ReLU(), nn.Linear(6, 3))


def sgd(model: nn.Module, lr: float = 0.05, **arguments: float) -> torch.optim.SGD:
    return torch.optim.SGD(model.parameters(), lr, **arguments)


def training(
    model: nn.Module, examples: Split, optimizer: torch.optim.Optimizer, count: int, batch: int = 8
) -> Iterator[Step]:
    def batches() -> Iterator[tuple[Tensor, Tensor]]:
        generator = torch.Generator().manual_seed(5)
        for _ in range(count):
            chosen = torch.randperm(len(examples), generator=generator)[:batch]
            yield examples.images[chosen].double(), examples.labels[chosen]

    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step / 100))
    loss = losses.build("cross_entropy")
    yield Step(0, 0.0, model, SHAPE)
    yield from fit(model, batches(), loss, optimizer, scheduler, steps_per_epoch=10, seed=1)


def named(records: list[Record], name: str, layer: str | None = None) -> list[Record]:
    return [r for r in records if r.name == name and r.details.get("layer") == layer]


def test_drivers_of_layers_and_of_the_network_are_recorded_for_the_next_step() -> None:
    model, examples = mlp(), split()
    optimizer = sgd(model)
    record = recorders.drivers(examples, PROBE, optimizer, 8, steps=4, examples=48)
    found = [list(record(step)) for step in training(model, examples, optimizer, 5)]
    lengths = [len(each) for each in found]
    lines = 2 * 5 + 5 + 1 + 3  # of layers, of the network, and of gradients
    assert lengths == [lines, 3, 0, 0, lines, 3]
    assert {each.name for each in found[1]} == {"driver/z"}
    for name in NAMES:
        layers = [named(found[4], f"driver/{name}", layer) for layer in ("1", "3")]
        [[first], [second]] = layers
        [whole] = named(found[4], f"driver/{name}")
        unit = "nats^2" if name == "variance" else "nats"
        assert first.unit == second.unit == whole.unit == unit
        assert whole.step == 4
        details = {"layer": "1", "role": "free", "examples": 48, "gradients": 48, "coupled": False}
        details |= {"sgd": True, "valid": True}
        assert first.details.items() >= details.items()
        assert 0 < first.details["standard_error"] < math.inf
        if name != "variance":
            assert whole.value == pytest.approx(first.value + second.value)
        else:
            [block] = named(found[4], "driver/variance_block")
            assert block.value == pytest.approx(first.value + second.value)
            assert whole.value != pytest.approx(block.value, rel=0.01)
    [drift] = named(found[4], "driver/drift", "1")
    lr = optimizer.param_groups[0]["lr"] * (1 + 5 / 100) / (1 + 4 / 100)
    weight = model[1].weight
    assert isinstance(weight, Tensor)
    assert lr < 0.05
    assert 1e-9 < abs(drift.value) < lr


def test_what_is_predicted_from_all_examples_is_the_mean_over_all_steps() -> None:
    """Of one step each from the same state, with every example looked at."""
    model, examples = mlp(), split(60)
    record = recorders.drivers(examples, PROBE, sgd(model), 8, steps=1, examples=60, batches=5)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    predicted = {name: named(found, f"driver/{name}")[0].value for name in NAMES}
    assert named(found, "driver/drift")[0].details["standard_error"] == 0
    changes = []
    for _ in range(700):
        moved = copy.deepcopy(model)
        optimizer = sgd(moved)
        chosen = torch.randperm(60)[:8]
        loss = PROBE(moved, examples.images[chosen].double(), examples.labels[chosen])
        loss.backward()
        optimizer.step()
        norms = [
            torch.linalg.matrix_norm(each.weight, ord=2).log().item()
            for model in ((moved, 1), (model, -1))
            for each in model[0]
            if isinstance(each, nn.Linear)
        ]
        changes.append(sum(norms[:2]) - sum(norms[2:]))
    numbers = torch.tensor(changes)
    mean = sum(predicted[name] for name in NAMES[:4])
    assert abs(numbers.mean().item() - mean) < 4 * numbers.std().item() / math.sqrt(700)
    assert numbers.var().item() == pytest.approx(predicted["variance"], rel=0.2)


def test_the_last_batch_of_an_epoch_may_have_fewer_examples() -> None:
    model, examples = mlp(), split(30)
    record = recorders.drivers(examples, PROBE, sgd(model), 8, steps=1, examples=30, batches=5)
    found = [list(record(Step(index, 0.0, model, SHAPE))) for index in (1, 3, 7)]
    full, *fewer = [named(each, "driver/variance")[0].value for each in found]
    share = (1 / 6 - 1 / 30) / (1 / 8 - 1 / 30)
    assert fewer == pytest.approx([full * share] * 2)


def test_residuals_have_mean_zero_and_variance_one() -> None:
    """The martingale test: what is not predicted is noise, and as large as is said."""
    model, examples = mlp(), split()
    optimizer = sgd(model, 0.02)
    record = recorders.drivers(examples, PROBE, optimizer, 8, steps=1, examples=32)
    found = [each for step in training(model, examples, optimizer, 150) for each in record(step)]
    for layer in ("1", "3", None):
        records = named(found, "driver/z", layer)
        assert [each.step for each in records] == list(range(1, 151))
        z = torch.tensor([each.value for each in records])
        assert abs(z.mean().item()) < 4 / math.sqrt(150)
        assert abs(z.var().item() - 1) < 4 * math.sqrt(2 / 150)
        for each in records:
            assert each.details.keys() >= {"observed", "predicted", "valid"}


def test_a_resumed_training_has_the_same_records() -> None:
    """With the state taken in between what is said of a step and that step."""
    examples = split()

    def history(resumed: int | None) -> list[list[Record]]:
        torch.manual_seed(0)
        model = mlp()
        optimizer = sgd(model)
        record = recorders.drivers(examples, PROBE, optimizer, 8, steps=3, examples=24, seed=2)
        found = []
        for step in training(model, examples, optimizer, 8):
            found.append(list(record(step)))
            if step.index == resumed:
                state = copy.deepcopy(record.state_dict())
                record = recorders.drivers(
                    examples, PROBE, optimizer, 8, steps=3, examples=24, seed=2
                )
                record.load_state_dict(state)
        return found

    whole = history(None)
    assert [any(r.name == "driver/z" for r in each) for each in whole] == [
        *(False, True, False, False, True, False, False, True, False)
    ]
    assert history(3) == history(4) == whole


@pytest.mark.parametrize("make", [mlp, normalized, constrained])
@pytest.mark.parametrize("training_mode", [True, False])
def test_nothing_is_changed(make, training_mode: bool) -> None:
    model, examples = make(), split()
    model.train(training_mode)
    optimizer = sgd(model)
    PROBE(model, examples.images.double(), examples.labels).backward()
    record = recorders.drivers(examples, PROBE, optimizer, 8, steps=1)
    weights = copy.deepcopy(model.state_dict())
    gradients = [None if p.grad is None else p.grad.clone() for p in model.parameters()]
    rng = torch.get_rng_state()
    assert list(record(Step(0, 0.0, model, SHAPE)))
    assert torch.equal(torch.get_rng_state(), rng)
    assert all(module.training == training_mode for module in model.modules())
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())
    for parameter, before in zip(model.parameters(), gradients, strict=True):
        assert (parameter.grad is None) == (before is None)
        assert before is None or torch.equal(before, parameter.grad)
    assert not any(each._forward_hooks for each in model.modules())


def test_normalizations_couple_examples_and_have_lines_of_their_own() -> None:
    model, examples = normalized(), split()
    optimizer = sgd(model, 0.01)
    record = recorders.drivers(examples, PROBE, optimizer, 16, steps=1, examples=64)
    found = [each for step in training(model, examples, optimizer, 1, 16) for each in record(step)]
    roles = {
        each.details["layer"]: each.details["role"] for each in found if "role" in each.details
    }
    assert roles == {"0": "free", "4": "free", "1": "gain"}
    [drift] = [each for each in named(found, "driver/drift", "1") if each.step == 0]
    assert drift.details["coupled"]
    assert (drift.details["gradients"], drift.details["examples"]) == (4, 64)
    for name in NAMES[:4]:
        parts = [named(found, f"driver/{name}", layer)[0].value for layer in roles]
        assert named(found, f"driver/{name}")[0].value == pytest.approx(sum(parts))
    assert len(named(found, "driver/z", "1")) == 1
    # log γ has no curvature but that of the logarithm.
    [noise] = [each for each in named(found, "driver/noise_curvature", "1") if each.step == 0]
    assert abs(noise.value) < 1e-15


class Normalized(nn.Module):
    """A weight of Frobenius norm 1."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight / weight.norm()


def test_raw_weights_have_lines_and_the_network_has_none() -> None:
    model, examples = mlp(), split(60)
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    register_parametrization(layer, "weight", Normalized())
    record = recorders.drivers(examples, PROBE, sgd(model), 8, steps=1, examples=60, batches=6)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    [raw] = named(found, "driver/variance", "1")
    [free] = named(found, "driver/variance", "3")
    assert (raw.details["role"], raw.details["gradients"], raw.details["examples"]) == (
        "raw",
        6,
        60,
    )
    assert (free.details["role"], free.details["gradients"]) == ("free", 60)
    assert not named(found, "driver/drift")
    weight = layer.get_parameter("parametrizations.weight.original")
    loss = PROBE(model, examples.images.double(), examples.labels)
    [gradient] = torch.autograd.grad(loss, [weight])
    left, values, right = torch.linalg.svd(weight.detach())
    [drift] = named(found, "driver/drift", "1")
    assert drift.value == pytest.approx(
        (-0.05 * left[:, 0] @ gradient @ right[0] / values[0]).item()
    )
    turned = nn.Sequential(nn.Flatten(), orthogonal(nn.Linear(9, 3)))
    record = recorders.drivers(examples, PROBE, sgd(turned), 8, steps=1)
    assert {r.name.split("/")[0] for r in record(Step(0, 0.0, turned, SHAPE))} <= {
        *("driver", "gradient")
    }


@pytest.mark.parametrize(
    "build",
    [
        lambda model: sgd(model, momentum=0.9),
        lambda model: sgd(model, weight_decay=0.1),
        lambda model: torch.optim.Adam(model.parameters(), 0.01),
    ],
)
def test_other_optimizers_are_told_and_have_no_residuals(build) -> None:
    model, examples = mlp(), split()
    optimizer = build(model)
    record = recorders.drivers(examples, PROBE, optimizer, 8, steps=1, examples=24)
    found = [each for step in training(model, examples, optimizer, 2) for each in record(step)]
    assert {each.details["sgd"] for each in named(found, "driver/drift")} == {False}
    assert not [each for each in found if each.name == "driver/z"]


def test_clipped_steps_have_no_residuals() -> None:
    model, examples = mlp(), split()
    optimizer = sgd(model)

    def count(clip: float) -> int:
        record = recorders.drivers(
            *(examples, PROBE, optimizer, 8), steps=1, examples=24, clip_grad_norm=clip
        )
        found = [each for step in training(model, examples, optimizer, 2) for each in record(step)]
        return len(named(found, "driver/z"))

    assert (count(1e-3), count(1e3)) == (0, 2)


def test_the_noise_scale_is_that_of_all_gradients() -> None:
    """Of averages: of signal and noise apart, never of their ratios."""
    model, examples = mlp(), split(40)
    record = recorders.drivers(examples, PROBE, sgd(model, 0.0), 8, steps=1, examples=40)
    parameters = list(model.parameters())
    single = []
    for image, label in zip(examples.images.double(), examples.labels, strict=True):
        gradients = torch.autograd.grad(PROBE(model, image[None], label[None]), parameters)
        single.append(torch.cat([each.flatten() for each in gradients]))
    signal = torch.stack(single).mean(dim=0).square().sum().item()
    trace = torch.stack(single).var(dim=0).sum().item()
    scales, noises = [], []
    for index in range(120):
        found = {each.name: each.value for each in record(Step(index, 0.0, model, SHAPE))}
        assert found["gradient/signal"] == pytest.approx(signal)  # every example is looked at
        noises.append(found["gradient/noise"])
        scales.append(found["gradient/noise_scale"])
    noise = torch.tensor(noises)
    assert abs(noise.mean().item() - trace) < 4 * noise.std().item() / math.sqrt(120)
    weights = torch.tensor([0.9**k for k in range(120)]).flip(0)
    expected = (weights @ noise / (weights.sum() * signal)).item()
    assert scales[-1] == pytest.approx(expected)


def test_no_signal_is_not_a_number() -> None:
    """Where noise hides the gradient, |g|² is estimated below zero."""
    examples = split(400)
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 3))

    def flat(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        signs = torch.where(torch.arange(len(images)) % 2 > 0, 1.0, -1.0)
        return (model(images).sum(dim=1) * signs).mean()

    record = recorders.drivers(examples, flat, sgd(model), 8, steps=1, examples=64)
    found = {each.name: each.value for each in record(Step(0, 0.0, model, SHAPE))}
    if found["gradient/signal"] < 0:
        assert math.isnan(found["gradient/noise_scale"])
    record.load_state_dict({"pending": None, "signal": -100.0, "noise": 1.0})
    found = {each.name: each.value for each in record(Step(1, 0.0, model, SHAPE))}
    assert math.isnan(found["gradient/noise_scale"])


def test_losses_that_need_slopes_leave_their_memory_alone() -> None:
    model, examples = mlp(), split()
    slopes = MarginSlopes(model, SHAPE)
    loss = losses.build("gloro", radius=0.1)
    with torch.no_grad():
        slopes()
    memory = copy.deepcopy(slopes.state_dict())
    probe = recorders.loss_of_probes(loss, slopes)
    record = recorders.drivers(examples, probe, sgd(model), 8, steps=1, examples=24, batches=6)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    after = slopes.state_dict()
    assert memory["steps"] == after["steps"]
    for before, now in zip(memory["vectors"], after["vectors"], strict=True):
        assert torch.equal(before, now)
    # The slopes read the weights themselves: examples do not know of that, batches do.
    assert named(found, "driver/drift")[0].details["gradients"] == 6
    images, labels = examples.images.double(), examples.labels
    model.zero_grad()
    with torch.random.fork_rng():
        loss(model(images), labels, slopes()).backward()
    weight = model[1].weight
    assert isinstance(weight, nn.Parameter)
    left, values, right = torch.linalg.svd(weight.detach())
    assert weight.grad is not None
    exact = (-0.05 * left[:, 0] @ weight.grad @ right[0] / values[0]).item()
    [drift] = named(found, "driver/drift", "1")
    assert abs(drift.value - exact) < 5 * drift.details["standard_error"]


def test_a_norm_that_is_taken_twice_is_not_valid() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(9, 9), nn.Tanh(), nn.Linear(9, 3))
    layer = model[1]
    assert isinstance(layer, nn.Linear)
    nn.init.eye_(layer.weight)
    with torch.no_grad():
        layer.weight[0, 0] = 1.0005
    record = recorders.drivers(split(), PROBE, sgd(model, 1e-6), 8, steps=1, examples=24)
    found = list(record(Step(0, 0.0, model, SHAPE)))
    valid = {each.details.get("layer"): each.details["valid"] for each in found if each.details}
    assert valid == {"1": False, "3": True, None: False}
    with torch.no_grad():
        layer.weight[0, 0] = 1.1
    for lr, expected in ((1e-3, True), (5.0, False)):
        record = recorders.drivers(split(), PROBE, sgd(model, lr), 8, steps=1, examples=24)
        found = list(record(Step(0, 0.0, model, SHAPE)))
        assert named(found, "driver/drift", "1")[0].details["valid"] is expected


def test_weights_that_are_not_finite_are_left_to_training_to_tell() -> None:
    model, examples = mlp(), split()
    record = recorders.drivers(examples, PROBE, sgd(model), 8, steps=1, examples=24)
    assert list(record(Step(0, 0.0, model, SHAPE)))
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    assert not list(record(Step(1, 0.0, model, SHAPE)))


def test_too_few_examples_are_refused() -> None:
    model = mlp()
    with pytest.raises(ValueError, match="3 batches or more, and 2 examples or more for each"):
        recorders.drivers(split(), PROBE, sgd(model), 8, steps=1, examples=7)
    with pytest.raises(ValueError, match="got batches=2, examples=128 and 96 images"):
        recorders.drivers(split(), PROBE, sgd(model), 8, steps=1, batches=2)
    with pytest.raises(ValueError, match="at least 1, got 0 and 8"):
        recorders.drivers(split(), PROBE, sgd(model), 8, steps=0)
