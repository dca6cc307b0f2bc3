"""AOC, and with stride 1 BCOP, against the factors it is made of."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from lipnets.parametrizations import AOC


def symbol(kernel: Tensor, z: complex, w: complex) -> Tensor:
    """Σ K[y, x] zʸ wˣ, with shape (O, I)."""
    _, _, height, width = kernel.shape
    return sum(kernel[..., y, x] * z**y * w**x for y in range(height) for x in range(width))


def projector(frame: Tensor) -> Tensor:
    return frame @ torch.linalg.pinv(frame)


@pytest.mark.parametrize("channels", [(3, 4), (4, 3), (4, 4)])
@pytest.mark.parametrize("kernel_size", [(2, 3), (3, 4), (1, 2), (4, 6)])
def test_the_symbol_is_the_product_of_the_factors(channels, kernel_size) -> None:
    aoc = AOC(*channels, kernel_size)
    torch.nn.init.normal_(aoc.frames)
    kernel = aoc(torch.randn(channels[1], channels[0])).detach()
    z, w = complex(torch.randn(1)), complex(torch.randn(1))  # anywhere, not on the torus alone
    product = torch.eye(max(channels), dtype=torch.complex128)
    projectors = [projector(frame[0]) for frame in aoc.frames.detach()]
    for axis, variable in enumerate((z, w)):
        for i in range(kernel_size[axis] - 1):
            inside = projectors.pop(0)
            outside = torch.eye(max(channels)) - inside
            now, later = (outside, inside) if i % 2 else (inside, outside)
            product = (now + variable * later) @ product
    constant = symbol(kernel, 1, 1).to(product)  # factors are the identity at z = w = 1
    expected = product @ constant if channels[1] > channels[0] else constant @ product.mT
    torch.testing.assert_close(symbol(kernel, z, w), expected, rtol=1e-7, atol=1e-7)


def test_a_stride_composes_a_block_with_a_kernel_of_stride_1() -> None:
    aoc = AOC(2, 12, (3, 3), (2, 2))  # three channels between them
    torch.nn.init.normal_(aoc.frames)
    raw, x = torch.randn(12, 12), torch.randn(1, 2, 8, 8)
    inner = AOC(2, 3, (2, 2))
    inner.frames = aoc.frames
    block = torch.linalg.qr(raw.mT).Q.mT  # rows of a square matrix, up to signs
    block = block * (block * AOC(3, 12, (2, 2), (2, 2))(raw).flatten(1)).sum(1, keepdim=True).sign()
    middle = F.conv2d(x, inner(aoc.entry[0]))
    expected = F.conv2d(middle, block.view(12, 3, 2, 2), stride=2)
    torch.testing.assert_close(F.conv2d(x, aoc(raw), stride=2), expected)


def test_the_response_to_constants_is_orthogonal() -> None:
    constant = symbol(AOC(4, 4, (3, 3))(torch.randn(4, 4)), 1, 1)
    torch.testing.assert_close(constant @ constant.mT, torch.eye(4))


@pytest.mark.parametrize("size", [1, 2, 5])
def test_frames_in_pairs_make_a_kernel_of_one_tap(size) -> None:
    kernel = AOC(size, size, (3, 5))(torch.randn(size, size))
    energy = kernel.square().sum(dim=(0, 1))
    center = torch.zeros(3, 5)
    center[1, 2] = size
    torch.testing.assert_close(energy, center)


def test_frames_matter_by_their_ranges_alone() -> None:
    aoc, matrix = AOC(6, 6, (3, 3)), torch.randn(6, 6)
    torch.nn.init.normal_(aoc.frames)
    before = aoc(matrix)
    with torch.no_grad():
        aoc.frames.copy_(1e4 * aoc.frames @ torch.randn(3, 3))
    torch.testing.assert_close(aoc(matrix), before, rtol=0, atol=1e-8)


@pytest.mark.parametrize("rank", [0, 1, 2])
def test_frames_without_full_rank_still_contract(rank) -> None:
    aoc = AOC(6, 6, (3, 2))
    with torch.no_grad():
        aoc.frames.copy_(torch.randn(3, 1, 6, rank) @ torch.randn(3, 1, rank, 3))
    symbols = torch.fft.fft2(aoc(torch.randn(6, 6)), s=(8, 8)).permute(2, 3, 0, 1)
    assert torch.linalg.svdvals(symbols).max() <= 1 + 1e-12
