"""The ledger: it closes, its lines are what they say, and a resumed one has the same bits."""

import copy
import dataclasses
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations
from torch.optim import SGD, Adam, AdamW, Optimizer

from lipnets import optim
from lipnets.dynamics import Dense, Ledger, Line, band_edges, follow
from lipnets.dynamics.terms import Terms

SHAPE = (1, 6, 6)


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(36, 12), nn.ReLU(), nn.Linear(12, 4))


def convnet() -> nn.Sequential:
    return nn.Sequential(
        *(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, stride=2, padding=1, groups=2), nn.ReLU()),
        *(nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 4)),
    )


def steps(
    model: nn.Module, optimizer: Optimizer, number: int, seed: int = 0
) -> Iterator[dict[str, Tensor]]:
    """Takes steps on random patterns of four classes; yields what the weights were before each."""
    draws = torch.Generator().manual_seed(seed)
    patterns = torch.randn(4, *SHAPE, generator=torch.Generator().manual_seed(99))
    model.train()
    for _ in range(number):
        labels = torch.randint(4, (16,), generator=draws)
        images = patterns[labels] + torch.randn(16, *SHAPE, generator=draws)
        before = {name: each.detach().clone() for name, each in model.named_parameters()}
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
        yield before


OPTIMIZERS: dict[str, Callable[[nn.Module], Optimizer]] = {
    "sgd": lambda m: SGD(m.parameters(), 0.1),
    "momentum": lambda m: SGD(m.parameters(), 0.02, 0.9, weight_decay=0.01, nesterov=True),
    "adam": lambda m: Adam(m.parameters(), 3e-3),
}


@pytest.mark.parametrize("network", [mlp, convnet])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_ledger_closes(network, name) -> None:
    """The terms say what log σ₁ does, to a thousandth: no term is measured as what others leave."""
    model = network()
    optimizer = OPTIMIZERS[name](model)
    ledger = Ledger(model, SHAPE, optimizer=optimizer, scan_every=20)
    for _ in steps(model, optimizer, 120):
        ledger.advance()
    total = ledger.network
    assert total is not None
    change = total.log_norm - total.first - total.gain - total.buffer
    assert abs(change) > 0.1
    assert abs(total.remainder) < 1e-3 * abs(change)
    assert abs(total.curvature + total.square) > 3 * abs(total.remainder)  # both are needed
    assert total.log_norm == pytest.approx(sum(line.log_norm for line in ledger.lines), rel=1e-12)


def test_norms_are_those_of_the_weights_at_the_frequency_that_is_highest() -> None:
    model = convnet()
    optimizer = OPTIMIZERS["adam"](model)
    ledger = Ledger(model, SHAPE, optimizer=optimizer, scan_every=10)
    for _ in steps(model, optimizer, 50):
        ledger.advance()
    for line, followed in zip(ledger.lines, follow(model, SHAPE), strict=False):
        places = torch.arange(followed.lens.count)
        values = torch.linalg.svdvals(followed.lens.matrices(followed.read(), places))[:, 0]
        assert math.exp(line.log_norm) == pytest.approx(values.max().item(), rel=1e-5)
        assert math.exp(line.log_norm) == pytest.approx(values[ledger.place(line)].item(), rel=1e-9)


def test_when_another_frequency_becomes_the_highest_the_gain_is_a_switch() -> None:
    """A kernel of one channel (a, b, a) has the symbol b + 2a cos θ: signs of a decide."""
    conv = nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular", bias=False)
    model = nn.Sequential(conv)
    with torch.no_grad():
        conv.weight.copy_(torch.tensor([[[0.2, 1.0, 0.2]]]))
    ledger = Ledger(model, (1, 8))
    assert ledger.lines[0].log_norm == pytest.approx(math.log(1.4), rel=1e-12)
    for number in range(8):
        with torch.no_grad():
            conv.weight[0, 0, ::2] -= 0.05
        ledger.advance()
        a = 0.2 - 0.05 * (number + 1)
        assert ledger.lines[0].log_norm == pytest.approx(math.log(1 + 2 * abs(a)), rel=1e-6)
    [line] = ledger.lines
    assert line.switch == pytest.approx(math.log(1.1) - math.log(0.9), rel=1e-6)
    assert line.linear < 0
    assert abs(line.remainder) < 1e-3


@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("dampening", [0.0, 0.3])
def test_decay_with_momentum_is_the_part_that_an_optimizer_without_would_not_have_done(
    nesterov, dampening
) -> None:
    """With gradients that are zero, all that an optimizer does is decay."""
    if nesterov and dampening:
        return
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4, bias=False))
    optimizer = SGD(*(model.parameters(), 0.1, 0.8, dampening, 0.05), nesterov=nesterov)
    ledger = Ledger(model, SHAPE, optimizer=optimizer)
    for number in range(12):
        model[1].weight.grad = torch.zeros_like(model[1].weight)
        optimizer.step()
        optimizer.param_groups[0]["lr"] = 0.1 / (number + 2)  # as a schedule: before the ledger
        ledger.advance()
    [line] = ledger.lines
    assert line.decay == pytest.approx(line.linear, rel=1e-9)
    assert line.linear < -0.02
    assert abs(line.remainder) < 1e-4


def test_decay_apart_from_gradients_is_lr_times_decay_a_step() -> None:
    model = mlp()
    for kind in ("adamw", "nadamw", "lion"):
        optimizer = optim.create_optimizer(model, kind, lr=1e-3, weight_decay=0.2)
        ledger = Ledger(model, SHAPE, optimizer=optimizer)
        for _ in steps(model, optimizer, 10):
            ledger.advance()
        assert [line.decay for line in ledger.lines] == pytest.approx([-2e-3, -2e-3], rel=0.02)
    plain = SGD(model.parameters(), 0.01, weight_decay=0.1)
    ledger = Ledger(model, SHAPE, optimizer=plain)
    for _ in steps(model, plain, 5):
        ledger.advance()
    assert ledger.lines[0].decay == pytest.approx(-5e-3, rel=0.02)


@pytest.mark.parametrize(
    "build",
    [
        lambda m: Adam(m.parameters(), 1e-3, weight_decay=0.1),
        lambda m: optim.create_optimizer(m, "lamb", lr=1e-3, weight_decay=0.1),
        lambda m: optim.create_optimizer(m, "adamw", lr=1e-3, weight_decay=0.1, lookahead=3),
    ],
    ids=["adam", "lamb", "lookahead"],
)
def test_decay_that_is_no_part_of_its_own_is_not_known(build) -> None:
    model = mlp()
    optimizer = build(model)
    ledger = Ledger(model, SHAPE, optimizer=optimizer)
    for _ in steps(model, optimizer, 2):
        ledger.advance()
    assert ledger.lines[0].decay is None
    assert ledger.network is not None
    assert ledger.network.decay is None
    assert Ledger(model, SHAPE).lines[0].decay is None  # nothing is known of the optimizer


def test_batch_normalization_has_lines_that_are_exact() -> None:
    model = convnet()
    optimizer = OPTIMIZERS["momentum"](model)
    ledger = Ledger(model, SHAPE, optimizer=optimizer)
    norm = model[1]
    log = lambda g, v: (g.abs() / (v + norm.eps).sqrt()).max().log().item()
    gain = buffer = 0.0
    variance = norm.running_var.clone()
    for before in steps(model, optimizer, 15):
        ledger.advance()
        scale = norm.weight.detach()
        gain += log(scale, variance) - log(before["1.weight"], variance)
        buffer += log(scale, norm.running_var) - log(scale, variance)
        variance = norm.running_var.clone()
    line = ledger.lines[-1]
    assert (line.layer, line.role) == ("1", "gain")
    assert (line.gain, line.buffer) == pytest.approx((gain, buffer), rel=1e-12)
    assert line.remainder == pytest.approx(0, abs=1e-12)


def test_raw_and_effective_weights_are_followed_and_only_one_is_in_use() -> None:
    model = nn.Sequential(nn.Flatten(), parametrizations.weight_norm(nn.Linear(36, 4)))
    assert Ledger(model, SHAPE).lines == []  # two parameters are behind it
    turned = nn.Sequential(nn.Flatten(), parametrizations.spectral_norm(nn.Linear(36, 4)))
    raw, effective = Ledger(turned, SHAPE), Ledger(turned, SHAPE, effective=True)
    assert (raw.network, raw.lines[0].role) == (None, "raw")
    assert effective.network is not None
    norm = torch.linalg.matrix_norm(turned.eval()[1].weight, 2).item()
    assert math.exp(effective.network.log_norm) == pytest.approx(norm, rel=1e-9)


def test_each_step_of_an_orthogonal_weight_is_crowded() -> None:
    """All its singular values are one: what the formula says of curvature is left out."""
    model = nn.Sequential(nn.Flatten(), parametrizations.orthogonal(nn.Linear(36, 8)))
    optimizer = SGD(model.parameters(), 0.1)
    ledger = Ledger(model, SHAPE, effective=True)
    for _ in steps(model, optimizer, 10):
        ledger.advance()
    [line] = ledger.lines
    assert line.crowded == line.steps == 10
    assert abs(line.log_norm) < 1e-9
    assert abs(line.curvature) < 1.0


@pytest.mark.parametrize("curvature", [-1e9, 1e9, math.nan, math.inf])
def test_a_curvature_that_cannot_be_is_left_out(curvature: float) -> None:
    """Of tied singular values, rounding decides whether the formula is huge above or below zero."""
    terms = Terms(linear=0.1, curvature=curvature, square=-0.1, decay=0.0, ratio=9.0, most=0.5)
    assert terms.of(0.5).curvature == 0
    assert dataclasses.replace(terms, curvature=0.4).of(0.5).curvature == pytest.approx(0.1)


def test_weights_that_are_zero_or_not_finite_are_passed_over() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(36, 4, bias=False))
    nn.init.zeros_(model[1].weight)
    ledger = Ledger(model, SHAPE)
    assert ledger.lines[0].log_norm == -math.inf
    with torch.no_grad():
        model[1].weight.normal_()
    ledger.advance()
    line = ledger.lines[0]
    assert line.remainder == 0
    assert line.log_norm == pytest.approx(
        torch.linalg.matrix_norm(model[1].weight, 2).log().item(), rel=1e-12
    )
    with torch.no_grad():
        kept = model[1].weight.clone()
        model[1].weight[0, 0] = math.nan
    ledger.advance()
    assert (line.steps, math.isfinite(line.log_norm)) == (1, True)
    with torch.no_grad():
        model[1].weight.copy_(1.02 * kept)
    ledger.advance()
    assert line.log_norm - line.first == pytest.approx(math.log(1.02), rel=1e-9)
    assert line.linear + line.square == pytest.approx(math.log(1.02), rel=1e-3)


def sums(ledger: Ledger) -> list[dict]:
    return [vars(line) for line in (*ledger.lines, *ledger.band_lines)]


@pytest.mark.parametrize("decomposed", [192, 3])
@pytest.mark.parametrize("network", [mlp, pytest.param(convnet, marks=pytest.mark.slow)])
def test_a_resumed_ledger_has_the_same_bits(network, decomposed, monkeypatch, tmp_path) -> None:
    """Matrices that count as large have starting vectors in the state."""
    monkeypatch.setattr("lipnets.dynamics.terms._DECOMPOSED", decomposed)
    model = network()
    optimizer = OPTIMIZERS["momentum"](model)
    options = {"bands": band_edges(2), "scan_every": 7}
    ledger = Ledger(model, SHAPE, optimizer=optimizer, **options)
    for number, _ in enumerate(steps(model, optimizer, 20)):
        ledger.advance()
        if number == 10:
            state = {"ledger": ledger.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save({**state, "model": copy.deepcopy(model.state_dict())}, tmp_path / "s.pt")
    state = torch.load(tmp_path / "s.pt", weights_only=True)
    other = network()
    again = OPTIMIZERS["momentum"](other)
    resumed = Ledger(other, SHAPE, optimizer=again, **options)
    other.load_state_dict(state["model"])
    again.load_state_dict(state["optimizer"])
    resumed.load_state_dict(state["ledger"])
    draws = steps(other, again, 20)
    _skip(draws, other, again, state)
    for _ in draws:
        resumed.advance()
    assert sums(resumed) == sums(ledger)


def _skip(draws: Iterator[dict], model: nn.Module, optimizer: Optimizer, state: dict) -> None:
    """Draws the batches of eleven steps, and puts everything back."""
    kept = copy.deepcopy(state)
    for _ in range(11):
        next(draws)
    model.load_state_dict(kept["model"])
    optimizer.load_state_dict(kept["optimizer"])


def test_a_state_of_other_layers_is_refused() -> None:
    with pytest.raises(ValueError, match="The state of the ledger should be of the layers"):
        Ledger(mlp(), SHAPE).load_state_dict(Ledger(convnet(), SHAPE).state_dict())


def test_in_a_band_the_largest_norm_there_is_followed() -> None:
    model = convnet()
    optimizer = OPTIMIZERS["adam"](model)
    edges = band_edges(2)
    ledger = Ledger(model, SHAPE, optimizer=optimizer, bands=edges, scan_every=5)
    for _ in steps(model, optimizer, 30):
        ledger.advance()
    lenses = {f.name: f for f in follow(model, SHAPE) if not isinstance(f.lens, Dense)}
    assert {line.layer for line in ledger.band_lines} == set(lenses)
    for line in ledger.band_lines:
        followed = lenses[line.layer]
        assert line.band is not None
        inside = followed.lens.within(*line.band).nonzero()[:, 0]  # pyright: ignore
        norms = torch.linalg.svdvals(followed.lens.matrices(followed.read(), inside))[:, 0]
        assert math.exp(line.log_norm) == pytest.approx(norms.max().item(), rel=1e-4)
        assert abs(line.remainder) < 2e-4


def test_the_remainder_is_what_terms_leave() -> None:
    line = Line("a", "free", 1.0, 2.0, 0.5, 0.25, -0.125, switch=0.0625, gain=0.01, buffer=0.02)
    assert line.remainder == pytest.approx(1 - 0.5 - 0.25 + 0.125 - 0.0625 - 0.03)


def test_the_ledger_changes_nothing() -> None:
    model = convnet()
    optimizer = OPTIMIZERS["momentum"](model)
    ledger = Ledger(model, SHAPE, optimizer=optimizer, bands=band_edges(2), scan_every=1)
    for _ in steps(model, optimizer, 1):
        state = {key: value.clone() for key, value in model.state_dict().items()}
        slots = copy.deepcopy(optimizer.state_dict())
        rng = torch.get_rng_state()
        ledger.advance()
    assert all(torch.equal(value, state[key]) for key, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), rng)
    assert str(optimizer.state_dict()) == str(slots)
    assert all(module.training for module in model.modules())


def test_adamw_of_torch_has_decay_apart() -> None:
    model = mlp()
    assert Ledger(model, SHAPE, optimizer=AdamW(model.parameters(), 1e-3)).lines[0].decay == 0.0
