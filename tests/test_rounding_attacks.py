"""Four attacks, each of which breaks a certificate that peers would give, and none of ours.

A. A norm from power iterations is too small.  B. Biases leave float32 a staircase.  C. Points at the edge
of a ball around an image, whose roundings are searched (Jin, Ohrimenko & Rubinstein, 2022,
https://arxiv.org/abs/2205.10159).  D. The norm of a circular convolution, used for zero padding.
"""

import copy
import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from lipnets import certify
from lipnets.layers import MaxMin


def distance(x: Tensor, y: Tensor) -> Fraction:
    """The square of the exact distance of two points."""
    pairs = zip(x.double().flatten().tolist(), y.double().flatten().tolist(), strict=True)
    return sum(((Fraction(a) - Fraction(b)) ** 2 for a, b in pairs), Fraction(0))


def two_sided(direction: Tensor) -> nn.Linear:
    """A head of two logits, ±⟨direction, h⟩."""
    head = nn.Linear(len(direction), 2, bias=False)
    head.weight.data = torch.stack([direction, -direction])
    return head


def ours(model: nn.Module, x: Tensor, label: int, arithmetic: str) -> float:
    certificate = certify(model, tuple(x.shape[1:]))
    return certificate.radii(x, torch.tensor([label]), arithmetic=arithmetic).item()


def naive(model: nn.Module, x: Tensor, constant: float) -> float:
    """The margin over the constant of the backbone and the distance of the rows of the head."""
    top, other = model(x)[0].sort(descending=True).values.tolist()
    head = list(model.modules())[-1]
    return (top - other) / (constant * (head.weight[0] - head.weight[1]).norm().item())


def power_iterations(weight: Tensor, steps: int) -> float:
    vector = torch.randn(weight.shape[1])
    for _ in range(steps):
        vector = weight.mT @ (weight @ vector)
        vector = vector / vector.norm()
    return (weight @ vector).norm().item()


@pytest.mark.parametrize("depth", [1, 3])
def test_attack_a_power_iterations(depth) -> None:
    """Ten power iterations miss a singular value of 1 over a cluster at 0.9."""
    size = 128
    left, right = (torch.linalg.qr(torch.randn(size, size)).Q for _ in range(2))
    modules: list[nn.Module] = []
    for _ in range(depth):
        layer = nn.Linear(size, size, bias=False)
        spectrum = torch.full((size,), 0.9)
        spectrum[0] = 1.0
        # All layers share their first singular vectors, one after another.
        layer.weight.data = (left * spectrum) @ right.mT
        modules.append(layer)
        left, right = torch.linalg.qr(torch.randn(size, size)).Q, left
    top = torch.linalg.svd(modules[0].weight.data).Vh[0]
    end = top
    for layer in modules:
        end = layer.weight.data @ end
    model = nn.Sequential(*modules, two_sided(end / end.norm())).eval()
    constant = math.prod(power_iterations(layer.weight.data, 10) for layer in modules)
    x = 0.2 * top[None] + 0.01 * torch.randn(1, size)
    with torch.no_grad():
        label = int(model(x).argmax())
        claimed = naive(model, x, constant)
        # Along the top singular vector: the smallest perturbation that reaches the other class.
        slope = (model(x - 1e-3 * top) - model(x))[0, label].abs().item() / 1e-3
        needed = model(x)[0, label].item() / slope * (1 + 1e-9)
        moved = x - needed * (1 if label == 0 else -1) * top
        assert int(model(moved).argmax()) != label
    assert needed < claimed * 0.999  # the claim is broken
    for arithmetic in ("float64", "float32"):
        radius = ours(model, x, label, arithmetic)
        assert Fraction(radius) ** 2 < distance(x, moved)
    assert ours(model, x, label, "float64") > 0.999 * needed


def test_attack_b_a_staircase_of_biases() -> None:
    """Biases of 2²¹ leave float32 multiples of ¼; in real numbers they take themselves away."""
    shifts = [[0.0, 0.1], [2.0**21] * 2, [-(2.0**21)] * 2, [0.0, -0.1]]
    layers = [nn.Linear(2, 2) for _ in shifts]
    for layer, shift in zip(layers, shifts, strict=True):
        layer.weight.data, layer.bias.data = torch.eye(2), torch.tensor(shift).float().double()
    head = nn.Linear(2, 2, bias=False)
    head.weight.data = torch.eye(2)
    model = nn.Sequential(*layers, head).eval()
    x, moved = torch.tensor([[0.13, 0.02]]), torch.tensor([[0.124, 0.03]])
    with torch.no_grad():
        single = copy.deepcopy(model).float()
        assert int(single(x.float()).argmax()) == 0
        assert int(single(moved.float()).argmax()) == 1  # close by, the float32 program errs
        claimed = naive(model, x, 1.0)
        assert distance(x, moved) < Fraction(claimed) ** 2 / 16  # and well inside of the claim
        assert int(model(moved).argmax()) == 0
    assert ours(model, x, 0, "float32") == 0
    assert ours(model, x, 0, "float64") == pytest.approx(claimed, rel=1e-6)


def linear(size: int) -> nn.Sequential:
    return nn.Sequential(nn.Identity(), two_sided(torch.randn(size).float().double()))


def orthogonal(size: int) -> nn.Sequential:
    layers = []
    for _ in range(2):
        layer = nn.Linear(size, size)
        layer.weight.data = torch.linalg.qr(torch.randn(size, size)).Q.float().double()
        layer.bias.data = 0.1 * torch.randn(size).float().double()
        layers += [layer, MaxMin()]
    return nn.Sequential(*layers, two_sided(torch.randn(size).float().double()))


@pytest.mark.parametrize("build", [linear, orthogonal])
def test_attack_c_a_search_of_roundings(build) -> None:
    """Float32 points at the edge of a ball, nudged by units of the last place, until one flips.

    The naive certificate takes the margin that float32 computes, over the exact Lipschitz constant.
    """
    broken, kept = 0, []
    for seed in range(6):
        torch.manual_seed(seed)
        model = build(100).eval()
        single = copy.deepcopy(model).float()
        x = (torch.rand(1, 100) + 2).float()
        with torch.enable_grad():
            point = x.double().requires_grad_()
            out = model(point)[0]
            gradient = torch.autograd.grad(out[0] - out[1], point)[0]
            label = int(out.argmax())
        downhill = -gradient / gradient.norm() * (1 if label == 0 else -1)
        with torch.no_grad():
            # To a smaller margin, mostly in the same linear piece, where the slope is attained.
            margin = (out[label] - out[1 - label]).item()
            x = (x.double() + (margin - 0.2) / gradient.norm() * downhill).float()
            top, other = single(x)[0].sort(descending=True).values.tolist()
            label = int(single(x)[0].argmax())
            head = model[-1].weight
            claimed = (top - other) / (head[0] - head[1]).norm().item()
            flipped = flips(single, x, label, claimed, downhill)
        radius = ours(model, x.double(), label, "float32")
        assert all(distance(x, point) > Fraction(max(radius, 0)) ** 2 for point in flipped)
        broken += bool(flipped)
        kept.append(radius / claimed)
    assert broken >= 1
    assert max(kept) > 0.5, kept  # ours are of use


def flips(
    single: nn.Module, x: Tensor, label: int, radius: float, downhill: Tensor
) -> list[Tensor]:
    """Float32 points within a radius of an image to which a program gives another label."""
    generator = torch.Generator().manual_seed(0)
    edge = x.double() + radius * (1 - 1e-9) * downhill
    nudges = torch.randint(-1, 2, (400, x.shape[1]), generator=generator)
    points = edge.float() + nudges.float() * 2.0**-22  # the last place of numbers from 2 to 4
    changed = points[torch.cat([single(p[None]) for p in points]).argmax(dim=1) != label]
    inside = [p[None] for p in changed if distance(x, p[None]) < Fraction(radius) ** 2]
    return inside[:20]


@pytest.mark.parametrize(("size", "circular"), [(3, 4.0), (5, 6.854)])
def test_attack_d_a_circular_norm_for_zero_padding(size, circular) -> None:
    """A checkerboard of ±1 fits an odd image with zeros around it better than an odd circle."""
    conv = nn.Conv2d(1, 1, 3, padding=1, bias=False)
    rows = torch.arange(3)
    conv.weight.data = (-1.0) ** (rows[:, None] + rows)[None, None].double()
    kernel = torch.zeros(size, size)
    for i in range(3):
        for j in range(3):
            kernel[i % size, j % size] += conv.weight.data[0, 0, i, j]
    constant = torch.fft.fft2(kernel).abs().max().item()
    assert constant == pytest.approx(circular, abs=1e-3)
    units = torch.eye(size**2).reshape(-1, 1, size, size)
    with torch.no_grad():
        matrix = conv(units).flatten(1).mT
        left, values, right = torch.linalg.svd(matrix)
        assert values[0] > constant * 1.05
        model = nn.Sequential(conv, nn.Flatten(), two_sided(left[:, 0])).eval()
        x = 0.1 * right[0].reshape(1, 1, size, size)
        label = int(model(x).argmax())
        claimed = naive(model, x, constant)
        moved = x * -1e-9
        assert int(model(moved).argmax()) != label
    assert distance(x, moved) < Fraction(claimed) ** 2
    for arithmetic in ("float64", "float32"):
        assert Fraction(ours(model, x, label, arithmetic)) ** 2 < distance(x, moved)
