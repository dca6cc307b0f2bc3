"""The drivers of norms, against resampled steps, explicit covariances and Hessians of autograd."""

import itertools
import math

import pytest
import torch
from torch import Tensor, nn

from lipnets.dynamics import follow, gains
from lipnets.dynamics.drivers import Look, couples, look, sights
from lipnets.dynamics.moments import DRIVERS, Moments, Sampling, moments, network
from lipnets.dynamics.noise import Examples, Seen

SHAPE = (2, 4, 4)
LR = 0.05


def mlp() -> nn.Sequential:
    return nn.Sequential(
        nn.Flatten(), nn.Linear(32, 6, bias=False), nn.ReLU(), nn.Linear(6, 3, bias=False)
    )


def circular() -> nn.Sequential:
    conv = nn.Conv2d(2, 4, 3, padding=1, padding_mode="circular")
    strided = nn.Conv2d(4, 4, 2, stride=2, padding_mode="circular", groups=2)
    return nn.Sequential(conv, nn.Tanh(), strided, nn.ReLU(), nn.Flatten(), nn.Linear(16, 3))


def data(count: int = 60) -> tuple[Tensor, Tensor]:
    labels = torch.arange(count) % 3
    images = torch.randn(count, *SHAPE) + 0.7 * torch.randn(3, *SHAPE)[labels]
    return images, labels


def loss(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(model(images), labels)


def looked_at(model: nn.Module, images: Tensor, labels: Tensor, batches: int) -> Look:
    parts = list(zip(images.chunk(batches), labels.chunk(batches), strict=True))
    there = sights(follow(model, SHAPE))
    return look(model, there, loss, parts, len(images))


def drivers(
    model: nn.Module, images: Tensor, labels: Tensor, batch: int, *, replacement: bool = False
) -> list[Moments]:
    """From all examples there are: nothing is left to chance."""
    seen = looked_at(model, images, labels, 4).examples
    sampling = Sampling(len(images), batch, replacement=replacement)
    found = []
    for sight, each in zip(sights(follow(model, SHAPE)), seen, strict=True):
        assert each is not None
        found.append(moments(sight.top, each, LR, sampling))
    return found


def gradients(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def one(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = torch.func.functional_call(model, parameters, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    return torch.func.vmap(torch.func.grad(one), in_dims=(None, 0, 0))(parameters, images, labels)


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("make", [mlp, circular])
def test_drivers_are_those_of_the_explicit_hessian_and_covariance(make, replacement: bool) -> None:
    """With the Hessian of log σ₁ by autograd, of every number of the weight."""
    model, (images, labels) = make(), data()
    found = drivers(model, images, labels, 16, replacement=replacement)
    single = gradients(model, images, labels)
    for sight, each in zip(sights(follow(model, SHAPE)), found, strict=True):
        shape = sight.parameter.shape
        basis = torch.eye(shape.numel()).unflatten(1, shape)
        matrices = torch.cat([sight.matrix(e) for e in basis])

        def norm(
            vector: Tensor, matrices: Tensor = matrices, parameter: Tensor = sight.parameter
        ) -> Tensor:
            change = torch.einsum(
                "k,kmn->mn", (vector - parameter.detach().flatten()) + 0j, matrices + 0j
            )
            whole = torch.einsum("k,kmn->mn", parameter.detach().flatten() + 0j, matrices + 0j)
            return torch.linalg.matrix_norm(whole + change, ord=2)

        at = sight.parameter.detach().flatten()
        slope = torch.func.grad(norm)(at)
        hessian = torch.autograd.functional.hessian(norm, at)
        value = norm(at)
        g = single[f"{sight.name}.weight"].flatten(1)
        mean, covariance = g.mean(dim=0), g.T.cov(correction=0)
        share = 1 / 16 if replacement else (60 - 16) / (60 - 1) / 16
        covariance = covariance * share
        square = LR**2 / 2
        truth = {
            "drift": -LR * mean @ slope / value,
            "noise_curvature": square * (hessian * covariance).sum() / value,
            "ito": -square * slope @ covariance @ slope / value**2,
            "deterministic": square
            * (mean @ hessian @ mean / value - (mean @ slope / value).square()),
            "variance": LR**2 * slope @ covariance @ slope / value**2,
        }
        for name in DRIVERS:
            assert each[name].value == pytest.approx(truth[name].item(), rel=1e-8, abs=1e-14), name
            assert each[name].standard_error == 0  # of all examples there are
        assert each.mean == pytest.approx(sum(truth[n].item() for n in DRIVERS[:4]), rel=1e-8)


@pytest.mark.parametrize("make", [mlp, circular])
def test_one_step_of_sgd_moves_norms_as_predicted(make) -> None:
    """Many batches from one state: mean and variance of what the norms do, and of their product."""
    model, (images, labels) = make(), data()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    for _ in range(20):
        optimizer.zero_grad()
        loss(model, images, labels).backward()
        optimizer.step()
    found = drivers(model, images, labels, 8)
    together = network(found)
    single = gradients(model, images, labels)
    batches = torch.stack([torch.randperm(60)[:8] for _ in range(4000)])
    observed = []
    for sight in sights(follow(model, SHAPE)):
        steps = LR * single[f"{sight.name}.weight"][batches].mean(dim=1)
        moved = torch.cat([sight.matrix(sight.parameter - step) for step in steps])
        after = torch.linalg.matrix_norm(moved, ord=2)
        observed.append((after / sight.top.value).log().detach())
    for each, change in [*zip(found, observed, strict=True), (together, sum(observed))]:
        change = torch.as_tensor(change)
        error = math.sqrt(change.var().item() / len(change))
        assert abs(change.mean().item() - each.mean) < 4 * error
        # The second order is not lost in the noise: without it the mean is off.
        assert change.var().item() == pytest.approx(each["variance"].value, rel=0.12)
    # Layers do not move independently.
    block = -2 * together["ito"].value
    assert block == pytest.approx(sum(each["variance"].value for each in found))
    assert abs(together["variance"].value / block - 1) > 0.2


def test_second_order_terms_are_needed() -> None:
    """The same in antithetic pairs, where the first order cancels: only the second remains."""
    model, (images, labels) = mlp(), data()
    single = gradients(model, images, labels)
    found = drivers(model, images, labels, 8)
    for sight, each in zip(sights(follow(model, SHAPE)), found, strict=True):
        g = single[f"{sight.name}.weight"]
        noise = g - g.mean(dim=0)
        batches = torch.stack([torch.randperm(60)[:8] for _ in range(2000)])
        steps = LR * noise[batches].mean(dim=1)
        logs = []
        for sign in (1, -1):
            moved = torch.cat([sight.matrix(sight.parameter + sign * step) for step in steps])
            logs.append((torch.linalg.matrix_norm(moved, ord=2) / sight.top.value).log())
        change = ((logs[0] + logs[1]) / 2).detach()
        error = math.sqrt(change.var().item() / len(change))
        predicted = each["noise_curvature"].value + each["ito"].value
        assert abs(change.mean().item() - predicted) < 4 * error
        assert error < 0.05 * abs(predicted)


@pytest.mark.parametrize("make", [mlp, circular])
@pytest.mark.parametrize("unit", [1, 2])
def test_few_examples_are_unbiased_exactly(make, unit: int) -> None:
    """Over all ways to draw some of 7 examples, the mean of each driver is that of all of them."""
    model, (images, labels) = make(), data(7)
    there = sights(follow(model, SHAPE))
    with Examples(there, 7) as examples:
        loss(model, images, labels).backward()
    draws = {
        frozenset(order[i : i + unit] for i in range(0, 3 * unit, unit))
        for order in itertools.permutations(range(7))
        if all(
            list(order[i : i + unit]) == sorted(order[i : i + unit]) for i in (0, unit, 2 * unit)
        )
    }
    assert len(draws) == (35 if unit == 1 else 105)
    for index, sight in enumerate(there):
        seen = examples.seen(index)
        assert seen is not None
        found = []
        for draw in draws:
            chosen = torch.tensor([list(each) for each in draw])
            some = Seen(seen.pushed[chosen].mean(dim=1), seen.pulled[chosen].mean(dim=1))
            found.append(moments(sight.top, some, LR, Sampling(7, 3, unit)))
        truth = moments(sight.top, seen, LR, Sampling(7, 3))
        for name in DRIVERS:
            mean = sum(each[name].value for each in found) / len(found)
            assert mean == pytest.approx(truth[name].value, rel=1e-9), name


@pytest.mark.parametrize("unit", [1, 3])
def test_few_examples_know_their_error(unit: int) -> None:
    """Over many draws of a few examples, errors are what they say they are."""
    model, (images, labels) = mlp(), data()
    truths = drivers(model, images, labels, 16)
    seen = looked_at(model, images, labels, 4).examples
    sampling = Sampling(60, 16, unit=unit)
    draws = [torch.randperm(60)[: 8 * unit].view(8, unit) for _ in range(300)]
    for sight, each, truth in zip(sights(follow(model, SHAPE)), seen, truths, strict=True):
        assert each is not None
        found = [
            moments(
                sight.top,
                Seen(each.pushed[draw].mean(dim=1), each.pulled[draw].mean(dim=1)),
                LR,
                sampling,
            )
            for draw in draws
        ]
        for name in DRIVERS:
            values = torch.tensor([one[name].value for one in found])
            errors = torch.tensor([one[name].standard_error for one in found])
            ratio = errors.square().mean().item() / values.var().item()
            # Right for means; about right for squares of few.
            assert (0.8 if name == "drift" else 0.65) < ratio < (1.25 if name == "drift" else 2), (
                name
            )
        # What is seen less what was said: the noise of a batch, and that of what was looked at.
        both = (1 / 16 - 1 / 60) + (1 / (8 * unit) - 1 / 60)
        expected = truth["variance"].value * both / (1 / 16 - 1 / 60)
        spreads = torch.tensor([one.spread for one in found])
        error = spreads.std().item() / math.sqrt(len(spreads))
        assert abs(spreads.mean().item() - expected) < 4 * error
        assert error < 0.06 * expected


def test_batches_and_examples_say_the_same_in_the_mean() -> None:
    """Covariances from gradients of batches, over many partitions, are those from examples."""
    model, (images, labels) = circular(), data()
    there = sights(follow(model, SHAPE))
    truths = drivers(model, images, labels, 16)
    values: dict[tuple[int, str], list[float]] = {}
    for _ in range(25):
        order = torch.randperm(60)
        found = looked_at(model, images[order], labels[order], 10)
        assert found.size == 6
        for index, (sight, each) in enumerate(zip(there, found.batches, strict=True)):
            assert each.pushed.shape[0] == 10
            moment = moments(sight.top, each, LR, Sampling(60, 16, unit=6))
            for name in DRIVERS:
                values.setdefault((index, name), []).append(moment[name].value)
    for (index, name), several in values.items():
        numbers = torch.tensor(several)
        error = max(numbers.std().item() / math.sqrt(len(numbers)), 1e-12)
        assert abs(numbers.mean().item() - truths[index][name].value) < 4 * error, (index, name)


def test_the_noise_of_gradients_is_that_of_all_examples() -> None:
    model, (images, labels) = mlp(), data(24)
    single = torch.cat([g.flatten(1) for g in gradients(model, images, labels).values()], dim=1)
    signal = single.mean(dim=0).square().sum().item()
    trace = single.var(dim=0).sum().item()
    found = []
    for _ in range(300):
        chosen = torch.randperm(24)[:12]
        parts = [(images[part], labels[part]) for part in chosen.split(3)]
        found.append(look(model, [], loss, parts, 24).noise)
    for name, truth in (("signal", signal), ("noise", trace)):
        numbers = torch.tensor([getattr(each, name) for each in found])
        error = numbers.std().item() / math.sqrt(len(numbers))
        assert abs(numbers.mean().item() - truth) < 4 * error, name
        assert error < 0.1 * truth


def test_examples_that_a_normalization_couples_are_not_looked_at_one_by_one() -> None:
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 3))
    assert couples(model)
    assert not couples(mlp())
    images, labels = data()
    there = sights(follow(model, SHAPE), gains(model))
    parts = list(zip(images.split(15), labels.split(15), strict=True))
    found = look(model, there, loss, parts, 60)
    assert found.examples == [None, None, None]
    assert [sight.role for sight in there] == ["free", "free", "gain"]
    _, _, gain = there
    norm = model[1]
    assert isinstance(norm, nn.BatchNorm2d)
    for (part, label), pushed in zip(parts, found.batches[2].pushed, strict=True):
        model.zero_grad()
        loss(model.train(), part, label).backward()
        assert norm.weight.grad is not None
        sign = gain.top.right[0, 0]
        assert pushed.item() == pytest.approx((norm.weight.grad[gain.place] * sign).item())


def test_losses_that_read_weights_elsewhere_fall_back_to_batches() -> None:
    """The examples of a layer do not know of it: their gradients do not sum to that of the batch."""
    model, (images, labels) = mlp(), data()
    head = model[3]
    assert isinstance(head, nn.Linear)

    def decayed(model: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
        return loss(model, images, labels) + head.weight.square().sum()

    parts = list(zip(images.split(15), labels.split(15), strict=True))
    found = look(model, sights(follow(model, SHAPE)), decayed, parts, 60)
    assert [each is None for each in found.examples] == [False, True]


def test_looking_changes_nothing() -> None:
    model = nn.Sequential(
        *(nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.Dropout(), nn.Flatten(), nn.Linear(16, 3))
    )
    model[1].eval()
    images, labels = data()
    loss(model, images, labels).backward()
    before = {name: each.clone() for name, each in model.state_dict().items()}
    grads = [each.grad.clone() for each in model.parameters() if each.grad is not None]
    modes = [module.training for module in model.modules()]
    there, rng = sights(follow(model, SHAPE), gains(model)), torch.get_rng_state()
    parts = list(zip(images.split(15), labels.split(15), strict=True))
    with torch.no_grad():
        first = look(model, there, loss, parts, 60, seed=3)
    assert torch.equal(rng, torch.get_rng_state())
    assert modes == [module.training for module in model.modules()]
    assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
    after = [each.grad for each in model.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(after, grads, strict=True) if a is not None)
    assert not any(module._forward_hooks for module in model.modules())
    again = look(model, there, loss, parts, 60, seed=3)
    other = look(model, there, loss, parts, 60, seed=4)
    assert torch.equal(first.batches[0].pushed, again.batches[0].pushed)
    assert not torch.equal(first.batches[0].pushed, other.batches[0].pushed)


def test_too_little_to_look_at_is_refused() -> None:
    model, (images, labels) = mlp(), data()
    with pytest.raises(ValueError, match="2 batches or more of one size, got sizes \\[60\\]"):
        look(model, [], loss, [(images, labels)], 60)
    there = sights(follow(model, SHAPE))
    seen = looked_at(model, images, labels, 2).batches[0]
    with pytest.raises(ValueError, match="3 gradients or more, got 2"):
        moments(there[0].top, seen, LR, Sampling(60, 8, unit=30))


def test_the_norm_of_what_is_seen_is_about_that_of_the_matrices() -> None:
    model, (images, labels) = circular(), data()
    there = sights(follow(model, SHAPE))
    found = looked_at(model, images, labels, 4)
    squares = torch.zeros(len(there))
    for part, label in zip(images.chunk(4), labels.chunk(4), strict=True):
        model.zero_grad()
        loss(model, part, label).backward()
        for index, sight in enumerate(there):
            assert sight.parameter.grad is not None
            norm = torch.linalg.matrix_norm(sight.matrix(sight.parameter.grad), ord=2)
            squares[index] += norm.square().item() / 4
    for about, square in itertools.zip_longest(found.largest, squares.tolist()):
        assert 0.9 * math.sqrt(square) < about <= math.sqrt(square) * (1 + 1e-9)
