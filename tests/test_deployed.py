"""A fast program decides only where float64 would decide the same."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from lipnets import Deployed, NotCertifiedError, certify, export
from lipnets.deployed import _norms
from lipnets.exact import Round
from lipnets.layers import MaxMin, Residual
from lipnets.rounding import FLOAT32

SHAPE = (3, 6, 6)


def network() -> nn.Sequential:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), MaxMin(),
        Residual(nn.Sequential(nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())),
        nn.MaxPool2d(2), nn.Flatten(), nn.Linear(72, 16), nn.ReLU(), nn.Linear(16, 5),
    )  # fmt: skip
    return model.float().eval()


def boundary(model: nn.Module, count: int) -> Tensor:
    """Images at which two classes are about equal, found by bisection in float64."""
    reference = copy.deepcopy(model).double()
    with torch.no_grad():
        pool = torch.rand(400, *SHAPE) * torch.rand(400, 1, 1, 1)
        classes = reference(pool).argmax(dim=1)
        pairs = [(i, j) for i in range(400) for j in range(i) if classes[i] != classes[j]][:count]
        low, high = pool[[i for i, _ in pairs]], pool[[j for _, j in pairs]]
        start = reference(low).argmax(dim=1)
        for _ in range(40):
            middle = (low + high) / 2
            same = (reference(middle).argmax(dim=1) == start)[:, None, None, None]
            low, high = torch.where(same, middle, low), torch.where(same, high, middle)
    return torch.cat([low, high])


def test_predictions_are_those_of_float64_where_float32_has_others() -> None:
    model = network()
    x = boundary(model, 200)
    deployed = Deployed(model, SHAPE)
    truth = deployed.certificate.logits(x).argmax(dim=1)
    with torch.no_grad():
        assert not torch.equal(model(x.float()).argmax(dim=1), truth)
    assert torch.equal(deployed(x), truth)
    assert (deployed.calls, deployed.fallbacks) == (len(x), len(x))


@pytest.mark.parametrize("arithmetic", ["float32", "tf32", "bfloat16", "float16"])
def test_any_arithmetic_gives_the_predictions_of_float64(arithmetic) -> None:
    model = network()
    with torch.no_grad():
        model[-1].weight *= 20  # margins that some arithmetics are sure of
    deployed = Deployed(model, SHAPE, arithmetic)
    x = torch.rand(200, *SHAPE) * torch.linspace(0, 1, 200)[:, None, None, None]
    decision = deployed.decide(x)
    logits = deployed.certificate.logits(x)
    assert torch.equal(decision.predictions, logits.argmax(dim=1))
    rest = ~decision.fast  # in another batch float64 has other last bits
    assert torch.allclose(decision.logits[rest], logits[rest], rtol=0, atol=1e-13)
    assert decision.fast.sum() == len(x) - deployed.fallbacks
    if arithmetic == "float32":
        assert decision.fast.float().mean() > 0.9
        assert not torch.equal(decision.logits, logits)


def test_large_biases_that_cancel_are_left_to_float64() -> None:
    """Identities with biases ±2²¹, attack B: float32 loses what tells the classes apart."""
    model = nn.Sequential(*(nn.Linear(2, 2) for _ in range(3))).float().eval()
    with torch.no_grad():
        for layer, bias in zip(model, (2.0**21, -(2.0**21), 0.0), strict=True):
            layer.weight.copy_(torch.eye(2))
            layer.bias.fill_(bias)
    x = torch.tensor([[0.3, 0.4], [0.41, 0.4], [0.2, 0.26]]).repeat(20, 1)
    with torch.no_grad():
        assert not torch.equal(model(x.float()).argmax(dim=1), x.argmax(dim=1))
    deployed = Deployed(model, (2,))
    assert torch.equal(deployed(x), x.argmax(dim=1))
    assert deployed.fallbacks == len(x)


def test_ties_and_numbers_that_are_not_finite_are_left_to_float64() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)).float().eval()
    with torch.no_grad():
        for layer in model:
            layer.weight.copy_(torch.eye(2))
            layer.bias.zero_()
    x = torch.tensor([[0.5, 0.5], [torch.nan, 0.5], [torch.inf, 0.5], [0.9, 0.1]])
    deployed = Deployed(model, (2,))
    decision = deployed.decide(x)
    assert decision.fast.tolist() == [False, False, False, True]
    assert torch.equal(decision.predictions, deployed.certificate.logits(x).argmax(dim=1))


def test_images_outside_of_the_cube_are_left_to_float64() -> None:
    deployed = Deployed(network(), SHAPE)
    assert not deployed.decide(torch.rand(4, *SHAPE) * 10).fast.any()


def test_errors_at_an_image_hold_and_are_smaller_than_those_of_its_norm() -> None:
    deployed = Deployed(network(), SHAPE)
    x = torch.rand(50, *SHAPE)
    sizes: dict[int, Tensor] = {}
    with torch.no_grad(), deployed._measuring(sizes, 50):
        found = deployed.fast(x.float()).double()
    logits = deployed.certificate.logits(x)
    labels = logits.argmax(dim=1)
    measured = deployed._errors(labels, _norms(x), sizes)
    apart = (found - logits) - (found - logits).gather(1, labels[:, None])
    assert (apart.abs() <= measured).all()
    assert (measured <= deployed._errors(labels, _norms(x), {}) * (1 + 1e-9)).all()
    assert measured.median() < 0.5 * deployed._errors(labels, _norms(x), {}).median()


def test_what_was_measured_at_images_stays_with_them() -> None:
    model, x, labels = network(), torch.rand(8, *SHAPE), torch.zeros(8, dtype=torch.long)
    certificate = certify(model, SHAPE)
    expected = certify(model, SHAPE).radii(x, labels, arithmetic=FLOAT32)
    deployed = Deployed(certificate)
    deployed(x * 1e-3)
    assert torch.equal(certificate.radii(x, labels, arithmetic=FLOAT32), expected)
    assert torch.equal(deployed.radii(x, labels), certificate.radii(x, labels))


def test_images_below_the_norms_that_were_met_need_no_analysis_of_their_own(monkeypatch) -> None:
    model = network()
    with torch.no_grad():
        model[-1].weight *= 20
    deployed = Deployed(model, SHAPE)
    x = torch.rand(20, *SHAPE) * 0.9
    first = deployed.decide(x)
    counted, analyze = [], deployed._errors
    monkeypatch.setattr(deployed, "_errors", lambda *a: counted.append(a) or analyze(*a))
    sure = x[first.fast]
    assert deployed.decide(sure * 0.99).fast.all()
    assert not counted
    alone = Deployed(model, SHAPE).decide(x)
    assert torch.equal(alone.fast, first.fast)
    deployed.decide(torch.ones(1, *SHAPE))  # above: the roof rises
    assert counted
    mixed = torch.cat([x, boundary(model, 5), torch.full((1, *SHAPE), torch.nan)])
    expected = deployed.certificate.logits(mixed).argmax(dim=1)
    assert torch.equal(deployed(mixed), expected)


def test_norms_are_measured_upwards() -> None:
    for x in (torch.rand(3, 1000), torch.rand(3, 7) * 1e-25, torch.rand(3, 9).float() * 1e-40):
        assert (_norms(x) >= x.double().norm(dim=1)).all()
        assert (_norms(x) <= x.double().norm(dim=1) * 1.001 + 1e-16).all()
    assert _norms(torch.full((1, 4), 1e30)).isinf().all()  # squares overflow in float32


def test_a_module_that_is_used_twice_is_measured_at_the_larger_of_its_inputs() -> None:
    layer = nn.Linear(3, 3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.eye(3) / 2)
    deployed = Deployed(nn.Sequential(layer, nn.ReLU(), layer, nn.Linear(3, 2)).eval(), (3,))
    sizes: dict[int, Tensor] = {}
    with torch.no_grad(), deployed._measuring(sizes, 1):
        deployed.fast(torch.ones(1, 3).float())
    assert sizes[id(deployed.slow[0])].item() == pytest.approx(3**0.5, rel=1e-5)


def test_the_fast_program_does_not_round_where_the_exact_one_does() -> None:
    program = export(network(), SHAPE, program="exact")
    deployed = Deployed(program, SHAPE)
    assert any(isinstance(module, Round) for module in deployed.slow)
    assert not any(isinstance(module, Round) for module in deployed.fast)
    x = torch.rand(20, *SHAPE)
    assert torch.equal(deployed(x), program(x).argmax(dim=1))


def test_weights_that_changed_are_refused() -> None:
    deployed = Deployed(network(), SHAPE)
    with torch.no_grad():
        deployed.fast[0].weight[0] *= 2
    with pytest.raises(NotCertifiedError, match="Weights were changed"):
        deployed(torch.rand(2, *SHAPE))


def test_modes_of_lower_precision_are_refused() -> None:
    deployed = Deployed(network(), SHAPE)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("medium")
        with pytest.raises(NotCertifiedError, match="lower precision"):
            deployed(torch.rand(2, *SHAPE))
    finally:
        torch.set_float32_matmul_precision(before)


def test_it_keeps_its_formats_and_its_mode_and_copies_are_built_anew() -> None:
    deployed = Deployed(network(), SHAPE)
    for cast in (deployed.half, deployed.float, deployed.double):
        with pytest.raises(ValueError, match="build it anew"):
            cast()
    assert not deployed.train().slow.training
    assert deployed.to("cpu")(torch.rand(3, *SHAPE)).shape == (3,)
    again = copy.deepcopy(deployed)
    x = torch.rand(5, *SHAPE)
    assert torch.equal(again(x), deployed(x))
    assert again.calls == 5
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(deployed)


def test_arguments_that_do_not_fit_are_refused(tmp_path) -> None:
    model = network()
    with pytest.raises(ValueError, match="shape"):
        Deployed(model)
    certificate = certify(model, SHAPE)
    with pytest.raises(ValueError, match=r"\(3, 6, 6\)"):
        Deployed(certificate, (3, 8, 8))
    with pytest.raises(ValueError, match="'arithmetic' should be one of"):
        Deployed(certificate, arithmetic="float8")
