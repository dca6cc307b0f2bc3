"""Bounds below the product of layers, against all patterns of activations and explicit matrices."""

import itertools
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lipnets import Certificate, certify, create_model, export, verify
from lipnets.exact import Round
from lipnets.layers import (
    Abs,
    BetaAbs,
    Concat,
    FullSort,
    GroupSort,
    Householder,
    MaxMin,
    NActivation,
    Parallel,
    Residual,
)
from lipnets.program import Affine, Gather, lower
from lipnets.rounding import Analysis
from lipnets.tighter import LocalBounds, tighter_pairs
from lipnets.tighter.chains import bounded, flattened
from lipnets.tighter.joint import factor_of, joint_bounds
from lipnets.tighter.secants import slopes


def network(activation: nn.Module, sizes: tuple[int, ...] = (4, 6, 6, 3)) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), activation]
    return nn.Sequential(*layers[:-1]).eval()


def secants(activation: nn.Module, size: int) -> list[Tensor]:
    """All matrices that are extreme secants of an activation, as matrices of all its entries."""
    if isinstance(activation, nn.ReLU):
        return [torch.diag(torch.tensor(d)) for d in itertools.product((0.0, 1.0), repeat=size)]
    if isinstance(activation, Abs):
        return [torch.diag(torch.tensor(d)) for d in itertools.product((-1.0, 1.0), repeat=size)]
    group = 2 if isinstance(activation, MaxMin) else activation.group_size
    orders = [torch.eye(group)[list(p)] for p in itertools.permutations(range(group))]
    return [torch.block_diag(*each) for each in itertools.product(orders, repeat=size // group)]


def truth(model: nn.Sequential) -> tuple[float, Tensor]:
    """The largest norms over all extreme secants of a network, whether or not an input has them.

    A norm is convex in each secant matrix: extreme ones give the supremum over all.
    """
    products = [torch.eye(model[0].in_features)]
    for layer in model:
        if isinstance(layer, nn.Linear):
            products = [layer.weight.detach() @ each for each in products]
        else:
            size = len(products[0])
            products = [d @ each for each in products for d in secants(layer, size)]
    stacked = torch.stack(products)
    gaps = (stacked[:, :, None] - stacked[:, None]).norm(dim=-1).amax(dim=0)
    return torch.linalg.matrix_norm(stacked, 2).max().item(), gaps


@pytest.mark.parametrize("activation", [nn.ReLU(), Abs(), MaxMin(), GroupSort(3)], ids=str)
@pytest.mark.parametrize("seed", range(4))
def test_a_bound_is_between_the_truth_and_the_product(activation, seed) -> None:
    torch.manual_seed(seed)
    model = network(activation, (4, 6, 3) if isinstance(activation, GroupSort) else (4, 4, 4, 3))
    certificate = certify(model, (4,))
    tight = certificate.tightened()
    norm, gaps = truth(model)
    assert tight.tighter is not None
    assert norm <= tight.tighter.value * (1 + 1e-12)
    assert (gaps <= tight.slopes * (1 + 1e-12)).all()
    assert (tight.slopes <= certificate.slopes).all()
    if not isinstance(activation, GroupSort):  # of which one length for each group is known
        assert tight.slopes.mean() < 0.95 * certificate.slopes.mean()
    assert tight.slopes.mean() < 2 * gaps.mean()
    assert tight.bound is certificate.bound


def test_one_layer_of_secants_is_bounded_almost_exactly() -> None:
    """The matrix inequality is exact for one ReLU, and for one output."""
    head, first = nn.Linear(1, 1, bias=False), nn.Linear(2, 1, bias=False)
    first.weight.data, head.weight.data = torch.tensor([[3.0, 4.0]]), torch.tensor([[2.0]])
    found = joint_bounds([first.eval(), nn.ReLU().eval(), head.eval()], (2,), Analysis(), 1e8)
    assert found is not None
    assert found.joint == pytest.approx(10, rel=2e-2)
    assert found.joint >= 10


def test_consecutive_linear_maps_have_the_norm_of_their_product() -> None:
    model = nn.Sequential(nn.Linear(7, 5), Affine(torch.rand(5)), nn.Linear(5, 6), nn.Linear(6, 3))
    matrix = torch.eye(7)
    for layer in model:
        matrix = (
            layer.scale[:, None] * matrix if isinstance(layer, Affine) else layer.weight @ matrix
        )
    tight = certify(model.eval(), (7,)).tightened()
    assert tight.tighter is not None
    exact = torch.linalg.matrix_norm(matrix, 2).item()
    assert exact <= tight.tighter.value <= exact * (1 + 1e-9)
    gaps = (matrix[:, None] - matrix).norm(dim=-1)
    assert (gaps <= tight.slopes).all()
    assert torch.allclose(gaps, tight.slopes, rtol=1e-8)


@pytest.mark.parametrize("seed", range(3))
def test_residual_blocks_are_bounded_by_what_they_sum(seed) -> None:
    """X + Bσ(Ax) with BA = −AᵀA: the triangle inequality gives 1 + ‖A‖², the truth is about 1."""
    torch.manual_seed(seed)
    a = torch.linalg.qr(torch.randn(5, 5)).Q
    inner, outer = nn.Linear(5, 5), nn.Linear(5, 5)
    inner.weight.data, outer.weight.data = a, -a.T.contiguous()
    head = nn.Linear(5, 3)
    model = nn.Sequential(Residual(nn.Sequential(inner, nn.ReLU(), outer)), head).eval()
    certificate = certify(model, (5,))
    tight = certificate.tightened()
    exact = torch.zeros(3, 3)
    for pattern in itertools.product((0.0, 1.0), repeat=5):
        jacobian = head.weight @ (torch.eye(5) - a.T @ (torch.tensor(pattern)[:, None] * a))
        exact = torch.maximum(exact, (jacobian[:, None] - jacobian).norm(dim=-1))
    assert (exact <= tight.slopes * (1 + 1e-12)).all()
    assert (tight.slopes <= 0.6 * certificate.slopes + 1e-12).all()


def test_linear_branches_are_summed_before_they_are_bounded() -> None:
    branch = nn.Linear(4, 4)
    branch.weight.data = -0.9 * torch.eye(4)
    model = nn.Sequential(Residual(branch), nn.Linear(4, 2)).eval()
    tight = certify(model, (4,)).tightened()
    assert tight.tighter is not None
    assert tight.tighter.value == pytest.approx(
        0.1 * torch.linalg.matrix_norm(model[1].weight, 2).item(), rel=1e-6
    )


ACTIVATIONS = [
    *(nn.ReLU(), nn.LeakyReLU(0.2), nn.LeakyReLU(-0.5), nn.PReLU(init=1.5), nn.Tanh()),
    *(nn.GELU(), nn.SiLU(), nn.ELU(0.7), nn.Softplus(), nn.Sigmoid(), nn.Hardtanh(-0.3, 0.4)),
    *(nn.Softshrink(0.3), Abs(), BetaAbs(0.5), MaxMin(), GroupSort(4), FullSort()),
    *(NActivation(8), Householder(8), nn.Softsign(), nn.LogSigmoid(), nn.Tanhshrink()),
]


@settings(max_examples=14, deadline=None)
@given(
    activation=st.sampled_from(ACTIVATIONS),
    seed=st.integers(0, 2**20),
    shape=st.sampled_from(["chain", "residual", "concat", "parallel"]),
    scale=st.sampled_from([0.01, 1.0, 30.0]),
)
def test_random_networks_have_no_slope_above_their_bounds(activation, seed, shape, scale) -> None:
    torch.manual_seed(seed)
    middle: nn.Module = nn.Sequential(nn.Linear(8, 8), activation, nn.Linear(8, 8))
    if shape == "residual":
        middle = Residual(middle)
    elif shape == "concat":
        middle = nn.Sequential(Concat(middle, nn.Linear(8, 8)), nn.Linear(16, 8))
    elif shape == "parallel":
        middle = nn.Sequential(Parallel([nn.Linear(5, 4), nn.Linear(3, 4)], [5, 3]), activation)
    model = nn.Sequential(nn.Linear(5, 8), activation, middle, activation, nn.Linear(8, 3)).eval()
    for layer in model.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data *= scale
    certificate = certify(model, (5,))
    tight = certificate.tightened()
    assert tight.tighter is not None
    assert tight.tighter.value <= certificate.lipschitz
    assert (tight.slopes <= certificate.slopes).all()

    x = torch.randn(64, 5) * 10.0 ** torch.randint(-2, 2, (64, 1))
    y = x + torch.randn(64, 5) * 10.0 ** torch.randint(-6, 1, (64, 1))
    moved = certificate.program(x.clone()) - certificate.program(y.clone())
    length = (x - y).norm(dim=1)
    noise = 1e-9 * (1 + certificate.lipschitz)
    assert (moved.norm(dim=1) <= tight.tighter.value * length * (1 + 1e-9) + noise * 1e-3).all()
    gaps = (moved[:, :, None] - moved[:, None]).abs() / length[:, None, None]
    assert (gaps <= tight.slopes * (1 + 1e-7) + 1e-7 * certificate.lipschitz).all()


@pytest.mark.parametrize(
    "activation", [each for each in ACTIVATIONS if each(torch.ones(2, 8)).shape]
)
def test_slopes_of_secants_hold_on_intervals(activation) -> None:
    module = lower(activation.double().eval(), (8,))
    low = torch.randn(200, 8)
    high = low + torch.rand(200, 8) * 10.0 ** torch.randint(-2, 1, (200, 1))
    ends = slopes(module, (8,), low, high)
    if ends is None:  # it sorts
        assert isinstance(activation, (MaxMin, GroupSort, FullSort, Householder))
        return
    whole = slopes(module, (8,))
    assert whole is not None
    for _ in range(20):
        x, y = (low + torch.rand_like(low) * (high - low) for _ in range(2))
        secant = (module(x.clone()) - module(y.clone())) / (x - y)
        far = (x - y).abs() > 1e-4
        for least, most in (ends, whole):
            assert (secant >= least - 1e-10)[far].all()
            assert (secant <= most + 1e-10)[far].all()


def test_a_wrong_constant_would_be_caught(monkeypatch) -> None:
    """Slopes of ReLU said to be in [0, 0.8]: the bound falls below the truth."""
    from lipnets.tighter import joint

    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(3, 1, bias=False), nn.ReLU(), nn.Linear(1, 2, bias=False)
    ).eval()
    norm, _ = truth(model)
    monkeypatch.setattr(
        joint, "slopes", lambda *_: (torch.zeros(()).double(), torch.tensor(0.8).double())
    )
    found = joint_bounds(list(model), (3,), Analysis(), 1e8)
    assert found is not None
    assert found.joint < norm


@pytest.mark.parametrize("columns", [(9, 4), (30, 7), (5, 5)])
def test_factors_hold_what_they_stand_for(columns) -> None:
    flint = pytest.importorskip("flint")
    w = torch.randn(columns) * 10.0 ** torch.randint(-3, 3, (1, columns[1]))
    factor = factor_of(w)
    assert factor is not None
    exact = [flint.fmpq_mat(*m.shape, [flint.fmpq(*v.as_integer_ratio()) for v in m.flatten().tolist()]) for m in (w, factor)]  # fmt: skip
    gap = exact[1] * exact[1].transpose() - exact[0].transpose() * exact[0]
    size = columns[1]
    for k in range(1, size + 1):  # all leading minors are positive
        minor = flint.fmpq_mat(k, k, [gap[i, j] for i in range(k) for j in range(k)])
        assert minor.det() > 0


def test_factors_of_channels_are_folded_into_convolutions() -> None:
    """Scales that undo what a kernel does: the product of norms is far from the truth."""
    conv = nn.Conv2d(2, 3, 3, padding=1, bias=False)
    conv.weight.data *= torch.tensor([100.0, 1.0, 0.01])[:, None, None, None]
    affine = Affine(torch.tensor([0.01, 1.0, 100.0])[:, None, None])
    chain = nn.Sequential(conv, affine, MaxMinOfThree()).eval()
    shape = (2, 30, 30)
    operations = flattened(nn.Sequential(conv, affine).eval(), shape, Analysis())
    found = bounded(operations, Analysis(), last=False)[0]
    columns = torch.randn(1, *shape)
    for _ in range(60):  # power iteration, from below
        columns = torch.autograd.functional.vjp(chain[:2], columns, chain[:2](columns))[1]
        columns = columns / columns.norm()
    attained = chain[:2](columns).norm().item()
    assert attained <= found.value <= attained * 1.02
    assert found.value < 0.1 * (Analysis().lipschitz(conv, shape) * 100)
    assert "folded" in str(found)


class MaxMinOfThree(nn.Identity):
    """What follows, for the chain to be more than a linear map."""


def test_local_radii_are_the_exact_ones_where_all_pieces_are_fixed() -> None:
    """Far from every kink the network is linear: the radius is the distance to the boundary."""
    torch.manual_seed(1)
    model = network(nn.ReLU(), (3, 5, 3))
    for layer in (model[0], model[2]):
        layer.bias.data = 0.1 * layer.bias.data
    model[0].bias.data = torch.tensor([50.0, -50.0, 50.0, -50.0, 50.0])
    images = torch.rand(30, 3)
    labels = model(images).argmax(dim=1)
    certificate = certify(model, (3,))
    radii, local = certificate.radii(images, labels), certificate.local_radii(images, labels)
    mask = torch.tensor([1.0, 0, 1, 0, 1])
    linear = model[2].weight @ (mask[:, None] * model[0].weight)
    logits = model(images)
    for i, y in enumerate(labels):
        distances = (logits[i, y] - logits[i]) / (linear[y] - linear).norm(dim=1)
        distances[y] = math.inf
        nearest = distances.min().item()
        assert local[i] <= nearest * (1 + 1e-12)
        if nearest < 10:
            assert local[i] == pytest.approx(nearest, rel=1e-2)
    assert (local >= radii).all()
    assert local.median() > 1.5 * radii.median()


def exact_distance(model: nn.Sequential, image: Tensor, label: int) -> float:
    """Smallest distance at which rays from an image leave its class: an upper bound of the radius."""
    directions = torch.randn(1000, len(image))
    rays = directions / directions.norm(dim=1, keepdim=True)
    best = math.inf
    for step in torch.linspace(0.005, 2.0, 60):
        wrong = model(image + step * rays).argmax(dim=1) != label
        if wrong.any():
            best = min(best, step.item())
            break
    return best


@pytest.mark.parametrize(
    "activation", [nn.ReLU(), MaxMin(), Abs(), nn.Tanh(), nn.Hardtanh()], ids=str
)
@pytest.mark.parametrize("sizes", [(2, 8, 3), (2, 8, 8, 3), (12, 8, 3)])
def test_no_ray_leaves_the_class_within_a_local_radius(activation, sizes) -> None:
    torch.manual_seed(len(sizes))
    model = network(activation, sizes)
    for layer in model:
        if isinstance(layer, nn.Linear):
            layer.weight.data *= 2
    images = torch.rand(12, sizes[0])
    labels = model(images).argmax(dim=1)
    certificate = certify(model, (sizes[0],))
    tight = certificate.tightened()
    before = certificate.radii(images, labels)
    for radii in (certificate.local_radii(images, labels), tight.local_radii(images, labels)):
        assert (radii >= before).all()
        for image, y, radius in zip(images, labels, radii, strict=True):
            assert radius <= exact_distance(model, image, int(y))
        steps = torch.randn(40, *images.shape)
        steps = steps / steps.norm(dim=2, keepdim=True) * radii[:, None]
        for step in steps:
            assert torch.equal(model(images + step).argmax(dim=1)[radii > 0], labels[radii > 0])
    assert (radii > before * 1.02).any()


@pytest.mark.parametrize("activation", [nn.ReLU(), MaxMin(), nn.LeakyReLU(0.1)], ids=str)
def test_local_slopes_hold_between_the_image_and_its_ball(activation) -> None:
    model = network(activation, (6, 8, 8, 4))
    program = lower(model.double(), (6,))
    bounds = LocalBounds(program, (6,), Analysis())
    images, labels = torch.rand(20, 6), torch.randint(0, 4, (20,))
    measured = bounds.measure(images)
    for radius in (1e-3, 0.05, 0.3, 3.0):
        radii = torch.full((20,), radius)
        found = bounds.slopes(measured, labels, radii)
        steps = torch.randn(400, 20, 6)
        steps = steps / steps.norm(dim=2, keepdim=True) * radius * torch.rand(400, 20, 1)
        logits = model(images)
        margins = logits.gather(1, labels[:, None]) - logits
        moved = model((images + steps).reshape(-1, 6)).reshape(400, 20, 4)
        moved = moved.gather(2, labels[None, :, None].expand(400, -1, -1)) - moved
        gaps = (moved - margins).abs() / steps.norm(dim=2)[..., None]
        assert (gaps.amax(dim=0) <= found * (1 + 1e-9) + 1e-9).all()
        if radius == 1e-3:  # nearly all pieces are fixed: the gradient is all there is
            assert (found[:, 1:] <= 3 * gaps.amax(dim=0)[:, 1:] + 1e-6).float().mean() > 0.8


def test_wrong_predictions_and_single_classes_keep_their_radii() -> None:
    model = network(nn.ReLU(), (4, 6, 3))
    images = torch.rand(10, 4)
    wrong = (model(images).argmax(dim=1) + 1) % 3
    certificate = certify(model, (4,))
    assert torch.equal(certificate.local_radii(images, wrong), certificate.radii(images, wrong))
    alone = certify(network(nn.ReLU(), (4, 6, 1)), (4,))
    assert alone.local_radii(images, torch.zeros(10, dtype=torch.long)).eq(math.inf).all()
    assert alone.tightened().slopes.eq(0).all()


def test_networks_too_large_for_windows_keep_the_product(monkeypatch) -> None:
    from lipnets.tighter import chains

    monkeypatch.setattr(chains, "LARGEST", 3)
    model = network(nn.ReLU(), (8, 8, 8, 4))
    certificate = certify(model, (8,))
    found = tighter_pairs(certificate.program, (8,), Analysis())
    assert found.bound.value == pytest.approx(certificate.lipschitz, rel=1e-12)
    assert torch.equal(certificate.tightened().slopes, certificate.slopes)


def test_where_gradients_reach_the_product_nothing_is_tried(monkeypatch) -> None:
    from lipnets.tighter import chains

    model = network(MaxMin(), (12, 10, 8, 6))
    for layer in (model[0], model[2]):
        nn.init.orthogonal_(layer.weight)
    certificate = certify(model, (12,))
    monkeypatch.setattr(chains, "joint_bounds", None)  # is not called
    tight = certificate.tightened()
    assert torch.equal(tight.slopes, certificate.slopes)
    assert tight.tighter is not None
    assert tight.tighter.value == certificate.lipschitz
    with torch.no_grad():
        model[2].weight[:4] *= 0.5  # of all pairs, some can gain
    with pytest.raises(TypeError, match="not callable"):
        certify(model, (12,)).tightened()


@pytest.mark.parametrize("activation", [nn.ReLU(), MaxMin(), Abs()], ids=str)
def test_exact_programs_are_bounded_as_the_functions_they_are_of(activation) -> None:
    """Whose rounding is the identity: their slopes are between the truth and those without it."""
    certificate = certify(export(network(activation), (4,), program="exact"), (4,))
    assert certificate.program is not None
    function = [each for each in certificate.program if not isinstance(each, Round | Gather)]
    assert len(function) == 5 < len(certificate.program)
    tight, plain = (
        certificate.tightened(),
        certify(nn.Sequential(*function).eval(), (4,)).tightened(),
    )
    _, gaps = truth(nn.Sequential(*function))
    assert (gaps <= tight.slopes * (1 + 1e-12)).all()
    assert torch.allclose(tight.slopes, plain.slopes, rtol=1e-9)
    assert tight.slopes.mean() < 0.95 * certificate.slopes.mean()


def test_local_radii_of_exact_programs_know_how_far_activations_were_rounded() -> None:
    """Measured activations are 1 where the function has a bit more than 0.5, and 0 where it has less."""
    model = nn.Sequential(nn.Linear(2, 4), Round(0), nn.ReLU(), nn.Linear(4, 3)).eval()
    program, images = lower(model.double(), (2,)), torch.rand(50, 2)
    measured = LocalBounds(program, (2,), Analysis()).measure(images)
    ((rounded, error),) = measured
    exact = torch.nn.functional.linear(images, model[0].weight, model[0].bias)
    off = (rounded - exact).norm(dim=1)
    assert (off <= error).all()
    assert (error <= 1.0 + 1e-9).all()  # ½ for each of four
    assert off.max() > 0.5


@pytest.mark.parametrize(
    "activation",
    [nn.ReLU(), MaxMin(), nn.GELU(), nn.SiLU(), nn.ELU(1.3), nn.LeakyReLU(0.1)],
    ids=str,
)
def test_bounds_are_the_same_whatever_the_default_dtype(activation) -> None:
    """Constants that are stored in float32 by the way would be too small, half of the time."""
    model = network(activation, (4, 6, 6, 3))
    images = torch.rand(8, 4)
    labels = model(images).argmax(dim=1)
    found = []
    for dtype in (torch.float64, torch.float32):
        torch.set_default_dtype(dtype)
        certificate = certify(model, (4,))
        tight = certificate.tightened()
        ends = slopes(lower(activation.double(), (4,)), (4,))
        ends = None if ends is None else torch.stack([each.expand(4) for each in ends])
        found.append((tight.slopes, certificate.local_radii(images, labels), ends))
    for one, other in zip(*found, strict=True):
        assert (one is None and other is None) or torch.equal(one, other)


def test_a_tightened_certificate_is_saved_with_the_bounds_of_its_layers(tmp_path) -> None:
    """Which is all that files have proofs of: no radius is above those of the certificate before."""
    model = network(nn.ReLU())
    images = torch.rand(6, 4)
    labels = model(images).argmax(dim=1)
    certificate = certify(model, (4,))
    tight = certificate.tightened()
    before, after = certificate.radii(images, labels), tight.radii(images, labels)
    assert (after > 1.05 * before).all()
    path = tmp_path / "tight.npz"
    tight.save(path, images, labels)
    loaded = Certificate.load(path)
    assert loaded.tighter is None
    assert torch.equal(loaded.slopes, certificate.slopes)
    with np.load(path) as file:
        claimed, told = torch.from_numpy(file["radii"]), json.loads(file["meta"].tobytes())
    assert (claimed <= before).all()
    assert (claimed >= before * (1 - 1e-6)).all()
    assert certificate.lipschitz <= told["lipschitz"] <= certificate.lipschitz * (1 + 1e-6)
    assert verify.main([str(path)]) == 0


def test_certificates_without_their_network_are_not_tightened(tmp_path) -> None:
    import dataclasses

    loaded = dataclasses.replace(certify(network(nn.ReLU()), (4,)), program=None)
    with pytest.raises(ValueError, match="without its network"):
        loaded.tightened()
    with pytest.raises(ValueError, match="without its network"):
        loaded.local_radii(torch.rand(1, 4), torch.zeros(1, dtype=torch.long))


@pytest.mark.parametrize("name", ["plain_mlp_s", pytest.param("aol_mlp_s", marks=pytest.mark.slow)])
def test_models_of_the_zoo_gain_and_are_not_violated(name) -> None:
    from lipnets import models

    known = models.names()
    family = name.rpartition("_")[0]
    name = name if name in known else next(each for each in known if each.startswith(family))
    model = create_model(name, img_size=8, in_chans=1, num_classes=4).eval()
    images = torch.rand(8, 1, 8, 8)
    certificate = certify(model, (1, 8, 8))
    tight = certificate.tightened()
    assert (tight.slopes <= certificate.slopes).all()
    program = certificate.program
    assert program is not None
    for image in images:
        jacobian = torch.autograd.functional.jacobian(lambda x: program(x.clone())[0], image[None])
        flat = jacobian.flatten(1)
        gaps = (flat[:, None] - flat).norm(dim=-1)
        assert (gaps <= tight.slopes * (1 + 1e-9)).all()
