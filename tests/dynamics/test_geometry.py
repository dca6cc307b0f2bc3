"""The shape of weights, against explicit matrices."""

import math

import pytest
import torch
from torch import nn

from lipnets.dynamics import Dense, follow
from lipnets.dynamics.geometry import geometry


def explicit(conv: nn.Conv2d, size: tuple[int, int]) -> torch.Tensor:
    """The matrix of a convolution on an image, without its bias."""
    basis = torch.eye(conv.in_channels * math.prod(size)).view(-1, conv.in_channels, *size)
    with torch.no_grad():
        return (conv(basis) - conv(torch.zeros_like(basis))).flatten(1).mT


CONVOLUTIONS = [
    *((3, 1, 1, 1), (2, 1, 1, 1), (3, 2, 1, 1), (2, 2, 1, 2), (3, 1, 2, 1), (3, 1, 1, 2)),
    (4, 2, 1, 1),
]


@pytest.mark.parametrize(("size", "stride", "dilation", "groups"), CONVOLUTIONS)
@pytest.mark.parametrize("channels", [(4, 6), (6, 2)])
def test_convolutions_in_circles_are_those_of_their_matrices(
    size: int, stride: int, dilation: int, groups: int, channels: tuple[int, int]
) -> None:
    inputs, outputs = channels
    padding = dilation * (size - 1)
    conv = nn.Conv2d(
        *(inputs, outputs, size, stride), padding="same" if stride == 1 else 0, dilation=dilation,
        groups=groups, padding_mode="circular" if stride == 1 else "zeros",
    )  # fmt: skip
    shape = (inputs, 6, 8)
    [followed] = follow(conv, shape)
    if stride > 1:  # the circular operator: a window over the image with itself beside it
        conv.padding_mode = "circular"
        [followed] = follow(conv, shape)
        images = torch.eye(inputs * 48).view(-1, inputs, 6, 8)
        wrapped = nn.functional.pad(
            images, (0, min(padding, 8), 0, min(padding, 6)), mode="circular"
        )
        with torch.no_grad():
            out = nn.functional.conv2d(wrapped, conv.weight, None, stride, 0, dilation, groups)
        matrix = out[:, :, : 6 // stride, : 8 // stride].flatten(1).mT
    else:
        matrix = explicit(conv, (6, 8))
    values = torch.linalg.svdvals(matrix)
    places = 6 * 8 // stride**2
    found = geometry(followed.lens, followed.read())
    assert found.largest == pytest.approx(values[0].item(), rel=1e-10)
    assert found.smallest == pytest.approx(values[-1].item(), rel=1e-8, abs=1e-12)
    assert found.condition == pytest.approx((values[0] / values[-1]).item(), rel=1e-8)
    norm = torch.linalg.matrix_norm(matrix).item() / math.sqrt(places)
    assert found.frobenius == pytest.approx(norm, rel=1e-10)
    assert found.stable_rank == pytest.approx(norm**2 / values[0].item() ** 2, rel=1e-10)
    gram = matrix @ matrix.mT if len(matrix) <= len(matrix.mT) else matrix.mT @ matrix
    defect = torch.linalg.matrix_norm(gram - torch.eye(len(gram))).item() / math.sqrt(places)
    assert found.defect == pytest.approx(defect, rel=1e-10)


def test_matrices_are_measured_by_the_smaller_gram_matrix() -> None:
    found = geometry(Dense(), torch.diag(torch.tensor([3.0, 4.0])))
    assert (found.largest, found.smallest, found.frobenius) == pytest.approx((4.0, 3.0, 5.0))
    assert found.defect == pytest.approx(17.0)
    assert found.stable_rank == pytest.approx(25 / 16)
    assert found.condition == pytest.approx(4 / 3)
    wide = torch.linalg.qr(torch.randn(7, 3)).Q.mT
    for each in (wide, wide.mT):
        found = geometry(Dense(), each)
        assert found.defect < 1e-12
        assert (found.stable_rank, found.condition) == pytest.approx((3.0, 1.0))


def test_zeros_and_singular_matrices_give_numbers() -> None:
    for lens, weight in [
        (Dense(), torch.zeros(3, 5)),
        (follow(nn.Conv2d(5, 3, 3), (5, 6, 6))[0].lens, torch.zeros(3, 5, 3, 3)),
    ]:
        found = geometry(lens, weight)
        assert (found.largest, found.smallest, found.frobenius) == (0.0, 0.0, 0.0)
        assert (found.stable_rank, found.condition) == (0.0, math.inf)
        assert found.defect == pytest.approx(math.sqrt(3))
    found = geometry(Dense(), torch.outer(torch.randn(4), torch.randn(6)))
    assert (found.smallest, found.condition) == (0.0, math.inf)
    assert found.stable_rank == pytest.approx(1.0)


def test_large_weights_are_looked_at_in_part(monkeypatch) -> None:
    conv = nn.Conv2d(6, 6, 3, groups=3)
    [followed] = follow(conv, (6, 9, 9))
    whole = geometry(followed.lens, conv.weight)
    monkeypatch.setattr("lipnets.dynamics.geometry._PLACES", 40)
    part = geometry(followed.lens, conv.weight)
    assert part.places <= 40 < whole.places
    assert part.largest == pytest.approx(whole.largest)
    assert part.smallest >= whole.smallest
    assert part.frobenius == whole.frobenius
    assert part.defect == pytest.approx(whole.defect, rel=0.2)
