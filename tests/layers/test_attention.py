"""Attention by distances, against its definition, Jacobians and searches for steep points."""

import math
from fractions import Fraction

import pytest
import scipy.special
import torch
from torch import Tensor, nn

import lipnets
from lipnets import NotCertifiedError, layers, lipschitz
from lipnets.layers import L2SelfAttention, attention_bound


def head(u: Tensor) -> Tensor:
    """One head by its definition, with shape (N, d)."""
    distances = (u[:, None] - u[None]).square().sum(dim=2)
    return (-distances).softmax(dim=1) @ u


def steepest(count: int, dim: int, starts: int, steps: int) -> float:
    """Gradient ascent on the norm of the Jacobian of one head, from many random places."""
    u = torch.randn(starts, count, dim) * torch.logspace(-0.5, 0.5, starts)[:, None, None]
    u.requires_grad_()
    optimizer = torch.optim.Adam([u], 0.05)
    jacobians = torch.func.vmap(torch.func.jacrev(head))
    best = 0.0
    for _ in range(steps):
        matrices = jacobians(u).reshape(starts, count * dim, count * dim)
        norms = torch.linalg.matrix_norm(matrices, ord=2)
        best = max(best, norms.max().item())
        optimizer.zero_grad()
        (-norms.sum()).backward()
        optimizer.step()
    return best


@pytest.mark.parametrize(("count", "dim"), [(1, 2), (2, 1), (2, 3), (3, 2), (5, 1), (5, 2), (8, 1)])
def test_ascent_finds_no_point_that_is_steeper_than_the_bound(count, dim) -> None:
    found = steepest(count, dim, starts=8, steps=60)
    assert 0.35 * attention_bound(count) < found <= attention_bound(count)


def test_two_opposite_crowds_around_a_token_are_steep() -> None:
    """What ascent finds for many tokens: Cᵢ of (c) is attained."""
    for count in (9, 33):
        radius = (1 + scipy.special.lambertw((count - 1) / math.e).real) ** 0.5
        u = torch.full((count, 1), radius)
        u[1::2], u[0] = -radius, 0.0
        jacobian = torch.autograd.functional.jacobian(head, u).reshape(count, count)
        slope = torch.linalg.matrix_norm(jacobian, ord=2).item()
        assert 2 * (radius**2 - 1) <= slope <= attention_bound(count)


def random_crowds(count: int, dim: int) -> Tensor:
    """Tokens in a few crowds, at distances of any scale: columns of P with large sums."""
    centers = torch.randn(max(2, count // 8), dim) * 10 ** torch.empty(1).uniform_(-1, 1)
    return centers[torch.randint(len(centers), (count,))] + 0.1 * torch.randn(count, dim)


def test_each_part_of_the_proof_holds_at_random_points() -> None:
    for trial in range(300):
        count, dim = 2 + trial % 20, 1 + trial % 3
        u = random_crowds(count, dim) if trial % 2 else torch.randn(count, dim) * 2
        distances = (u[:, None] - u[None]).square().sum(dim=2)
        weights = (-distances).softmax(dim=1)
        c, pair = (scipy.special.lambertw(n / math.e).real for n in (count - 1, 1))
        assert (weights * distances).sum(dim=1).max() <= c + 1e-12  # (a)
        assert (weights * distances).max() <= pair + 1e-12
        assert torch.linalg.matrix_norm(weights, ord=2) <= ((count + 1) / 2) ** 0.5 + 1e-12  # (b)
        offsets = u[None] - u[:, None]  # (i, j, d)
        centered = offsets - torch.einsum("ij,ijd->id", weights, offsets)[:, None]
        spread = torch.einsum("ij,ijd,ije->ide", weights, centered, centered)
        assert torch.linalg.matrix_norm(spread, ord=2).max() <= c + 1e-12  # (c)
        cross = torch.einsum("ij,ijd,ije->idje", weights, centered, offsets)
        cross = cross.reshape(count * dim, -1)
        norm = torch.linalg.matrix_norm(cross, ord=2)
        assert norm <= (c * pair * (count - 1)) ** 0.5 + 1e-12  # (d)
        sums = torch.kron(weights, torch.eye(dim)) + 2 * torch.block_diag(*spread) - 2 * cross
        jacobian = torch.autograd.functional.jacobian(head, u).reshape(count * dim, -1)
        torch.testing.assert_close(jacobian, sums)


@pytest.mark.parametrize("count", [2, 3, 10, 64, 197, 1000, 10**6])
def test_the_bound_is_rounded_upwards_by_little_and_below_that_of_the_paper(count) -> None:
    c, pair = (scipy.special.lambertw(n / math.e).real for n in (count - 1, 1))
    expected = ((count + 1) / 2) ** 0.5 + 2 * c + 2 * (c * pair * (count - 1)) ** 0.5
    assert expected * (1 - 1e-14) <= attention_bound(count) <= expected * (1 + 1e-11)
    assert attention_bound(count) < count**0.5 * (4 * c + 1)
    assert attention_bound(count) > attention_bound(count - 1)


def test_the_spread_is_never_rounded_downwards() -> None:
    """C e^{1+c} against 60 digits of the exponential, by its continued halving."""
    for others in range(1, 60):
        c = Fraction(layers.attention.token_spread(others))
        small = (1 + c) / 2**120  # e^x = (e^{x / 2^120})^{2^120}
        power = 1 + small + small**2 / 2
        for _ in range(120):
            power = Fraction(int(power * power * 2**400), 2**400)  # rounded downwards
        assert c * power >= others


@pytest.mark.parametrize("num_heads", [1, 2, 3])
def test_it_computes_its_definition(num_heads) -> None:
    layer, x = L2SelfAttention(6, num_heads, None), torch.randn(2, 5, 6)
    nn.init.normal_(layer.sharpness)
    expected = []
    for example in x:
        parts = []
        for h, u in enumerate(layer.queries(example).chunk(num_heads, dim=1)):
            s = layer.sharpness[h].squeeze().abs()
            parts.append(head(s * u) / s)
        expected.append(layer.output(torch.cat(parts, dim=1)))
    torch.testing.assert_close(layer(x), torch.stack(expected))


@pytest.mark.parametrize("scale", [0.1, 1.0, 5.0])
def test_no_slope_exceeds_the_bound_of_any_weights(scale) -> None:
    layer = L2SelfAttention(4, 2, None).eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(scale * torch.randn_like(parameter))
    bound = lipschitz(layer, (5, 4)).value
    for x in torch.randn(20, 5, 4):
        jacobian = torch.autograd.functional.jacobian(lambda x: layer(x[None])[0], x)
        assert torch.linalg.matrix_norm(jacobian.reshape(20, 20), ord=2) <= bound


def test_by_name_it_is_1_lipschitz_up_to_the_number_of_tokens() -> None:
    layer = layers.build("l2_attention", embed_dim=4, num_heads=2, num_tokens=9).eval()
    for count in (1, 5, 9):
        assert lipschitz(layer, (count, 4)).value <= 1 + 1e-9
    assert lipschitz(layer, (10, 4)).value > 1.01


def test_no_sharpness_averages_the_tokens() -> None:
    layer, x = L2SelfAttention(4, 2, 7).eval(), torch.randn(3, 7, 4)
    nn.init.zeros_(layer.sharpness)
    mean = layer.output(layer.queries(x)).mean(dim=1, keepdim=True) / attention_bound(7)
    torch.testing.assert_close(layer(x), mean.expand_as(x))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({"embed_dim": 5, "num_heads": 2, "num_tokens": 3}, "divide"),
        ({"embed_dim": 4, "num_heads": 0, "num_tokens": 3}, "divide"),
        ({"embed_dim": 4, "num_heads": 2, "num_tokens": 0}, "num_tokens"),
    ],
)
def test_refuses_impossible_sizes(given, why) -> None:
    with pytest.raises(ValueError, match=why):
        layers.build("l2_attention", **given)


@pytest.mark.parametrize("name", ["l2_attention", "token_mixer"])
def test_examples_without_tokens_are_refused(name) -> None:
    layer = layers.build(name, **layers.card(name).arguments).eval()
    with pytest.raises(NotCertifiedError, match="tokens with channels"):
        lipschitz(layer, (6,))


def test_a_mixer_multiplies_from_both_sides() -> None:
    mixer = layers.TokenMixer(3, 5).eval()
    x = torch.randn(2, 3, 5)
    a, b = mixer.tokens.weight, mixer.channels.weight
    torch.testing.assert_close(mixer(x), a @ x @ b.mT + mixer.channels.bias)
    norm = torch.linalg.matrix_norm(torch.kron(a, b), ord=2).item()
    assert norm * (1 - 1e-12) <= lipschitz(mixer, (3, 5)).value <= norm * (1 + 1e-9)


def test_a_mixer_of_another_number_of_tokens_is_refused() -> None:
    mixer = layers.build("token_mixer", num_tokens=3, embed_dim=5).eval()
    with pytest.raises(ValueError, match="does not take"):
        lipnets.certify(nn.Sequential(mixer, nn.Flatten(), nn.Linear(20, 2)).eval(), (4, 5))
