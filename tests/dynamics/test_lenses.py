"""Symbols of convolutions against the matrices of the convolutions themselves."""

import itertools

import pytest
import torch
from torch import Tensor, nn

from lipnets.dynamics import Convolution, Dense, band_edges, follow, highest
from lipnets.dynamics.weights import torus_of


def jacobian(conv: nn.Module, shape: tuple[int, ...]) -> Tensor:
    size = torch.zeros(shape).numel()
    images = torch.eye(size).view(-1, *shape)
    return (conv(images) - conv(torch.zeros(1, *shape))).detach().flatten(1).mT


CASES = [
    (kernel, stride, dilation, groups)
    for kernel, stride, dilation, groups in itertools.product((1, 2, 3), (1, 2), (1, 2), (1, 2))
    if dilation * (kernel - 1) < 6
]


@pytest.mark.parametrize(("kernel", "stride", "dilation", "groups"), CASES)
def test_symbols_have_the_singular_values_of_the_circular_convolution(
    kernel, stride, dilation, groups
) -> None:
    """The Jacobian is of an explicit sum over taps: even kernels are circular here, too."""
    n, weight = 6, torch.randn(4, 6 // groups, kernel)
    matrix = torch.zeros(4, n // stride, 6, n)
    for o, j, i, k in itertools.product(
        range(4), range(n // stride), range(6 // groups), range(kernel)
    ):
        group = o * groups // 4
        pixel = (stride * j + dilation * k) % n
        matrix[o, j, group * (6 // groups) + i, pixel] += weight[o, i, k]
    truth = torch.linalg.svdvals(matrix.flatten(2).flatten(0, 1))
    lens = Convolution(weight.shape, (n,), (stride,), (dilation,), groups)
    symbols = lens.matrices(weight, torch.arange(lens.count))
    values = torch.linalg.svdvals(symbols).flatten().sort(descending=True).values
    size = max(len(values), len(truth))
    padded = [torch.nn.functional.pad(each, (0, size - len(each))) for each in (values, truth)]
    assert padded[0] == pytest.approx(padded[1], abs=1e-10)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1), (2, 2)])
def test_the_norm_is_that_of_the_jacobian_of_torch_in_two_dimensions(stride, groups) -> None:
    conv = nn.Conv2d(
        *(2, 4, 3), stride=stride, padding=1, padding_mode="circular", groups=groups, bias=False
    )
    model = nn.Sequential(conv)
    [followed] = follow(model, (2, 4, 6))
    place, found = highest(followed.lens, followed.read())
    truth = torch.linalg.matrix_norm(jacobian(conv, (2, 4, 6)), 2)
    assert found.value.item() == pytest.approx(truth.item(), rel=1e-10)
    assert followed.lens.norms(conv.weight).max() == pytest.approx(truth.item(), rel=0.1)
    assert followed.lens.norms(conv.weight).argmax() in (
        *(place, *(p for p in range(followed.lens.count) if _same(followed.lens, p, place))),
    )


def _same(lens, place: int, other: int) -> bool:
    folded = lens.folded(torch.tensor([place, other]))
    return bool(folded[0] == folded[1])


def test_zero_padding_is_below_the_larger_circle_and_sometimes_above_the_circle_of_its_size() -> (
    None
):
    """A circle of n + k − 1 pixels contains the zero-padded convolution; one of n does not."""
    n, above = 3, 0
    assert (torus_of(n, 2, circular=False), torus_of(n, 2, circular=True)) == (n + 2, n)
    for _ in range(60):
        conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)
        truth = torch.linalg.matrix_norm(jacobian(conv, (1, n)), 2).item()
        norms = {}
        for size in (n, n + 2):
            lens = Convolution(conv.weight.shape, (size,), (1,), (1,))
            symbols = lens.matrices(conv.weight, torch.arange(lens.count))
            norms[size] = symbols.abs().max().item()
        assert truth <= norms[n + 2] * (1 + 1e-12)
        above += truth > norms[n] * (1 + 1e-9)
    assert above > 0


def test_symbols_are_linear_and_conjugate_at_opposite_frequencies() -> None:
    first, second = torch.randn(2, 4, 3, 3, 2)
    lens = Convolution(first.shape, (6, 5), (2, 1), (1, 1))
    places = torch.arange(lens.count)
    whole = lens.matrices(first + 2 * second, places)
    parts = lens.matrices(first, places) + 2 * lens.matrices(second, places)
    assert (whole - parts).abs().max() < 1e-12
    opposite = lens.folded(places)
    values = torch.linalg.svdvals(lens.matrices(first, places))
    assert (values - values[opposite]).abs().max() < 1e-10
    turns = lens.angles / (2 * torch.pi)
    sums = torch.stack([turns + turns[opposite], turns - turns[opposite]])
    assert ((sums - sums.round()).abs().amax(dim=-1) < 1e-9).any(dim=0).all()
    assert len(opposite.unique()) == 8  # of 3 × 5 frequencies, zero is its own opposite


def test_neighbours_are_one_step_away_on_the_torus() -> None:
    lens = Convolution((2, 2, 3, 3), (5, 4), (1, 1), (1, 1), groups=2)
    place = 20 + 3  # of the second group: frequency (0, 3)
    near = {divmod(p - 20, 4) for p in lens.around(place).tolist()}
    assert near == {(a, b) for a in (0, 1, 4) for b in (3, 0, 2)}
    assert lens.around(place)[0] == place


def test_bands_divide_all_frequencies() -> None:
    lens = Convolution((2, 2, 3, 3), (16, 16), (1, 1), (1, 1))
    edges = band_edges(4)
    inside = torch.stack([lens.within(a, b) for a, b in itertools.pairwise(edges)])
    assert (inside.sum(dim=0) == 1).all()
    axis = torch.fft.fftfreq(16)
    radii = (axis[:, None].square() + axis.square()).sqrt().flatten()
    assert lens.cycles == pytest.approx(radii)
    assert inside[0].sum() == (radii < 1 / 8 - 1e-9).sum()
    assert lens.within(0.5, edges[-1])[lens.cycles.argmax()]  # the corner
    with pytest.raises(ValueError, match="'bands' should be at least 1, got 0"):
        band_edges(0)


def test_a_reshaped_kernel_is_a_matrix_and_not_the_operator() -> None:
    conv = nn.Conv2d(2, 3, 3, padding=1)
    [reshaped] = follow(nn.Sequential(conv), (2, 5, 5), norm="reshape")
    assert isinstance(reshaped.lens, Dense)
    _, found = highest(reshaped.lens, reshaped.read())
    norm = torch.linalg.matrix_norm(conv.weight.flatten(1), 2).item()
    assert found.value.item() == pytest.approx(norm, rel=1e-12)
    [operator] = follow(nn.Sequential(conv), (2, 5, 5))
    _, other = highest(operator.lens, operator.read())
    assert other.value.item() > 1.05 * norm
