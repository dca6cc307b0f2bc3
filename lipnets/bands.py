"""Radii for perturbations that are confined to a band of spatial frequencies.

The external lens as a certificate: what an attacker can do who may only change fine detail, or only
coarse shapes.  A perturbation of one band meets the first linear maps of a network with the gain
of that band alone; what follows multiplies it by its Lipschitz constant, as it does any.

**Theorem.**  Let f = g ∘ T with an affine T of linear part A, and an L-Lipschitz g, and let P be the orthogonal
projection to the images whose Fourier coefficients vanish outside a band.  Then
‖f(x + δ) − f(x)‖ ≤ ‖AP‖ L ‖δ‖ for every x and every δ = Pδ.

*Proof.*  ‖T(x + δ) − T(x)‖ = ‖Aδ‖ = ‖APδ‖.  ∎

A is applied to an orthonormal basis of the band, the waves below: ‖AP‖ is the norm of the matrix of
their images.  Frequencies are those of the discrete Fourier transform of the image, whatever the
padding of the network: the image is not a torus for the network, and need not be.
"""

__all__ = ["band_constant", "band_constants", "linear_part", "split_linear", "waves"]

import copy
import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor, nn

from .bounds import NotCertifiedError, Shape, chain, lipschitz, output_shape
from .convolutions import roots_of_unity
from .layers.filtered_conv2d import StoredFilter2d
from .layers.symbol_conv2d import StoredConv2d
from .linalg import U, add_up, matrix_norm, mul_up, sqrt_up
from .program import Affine, AxisMaps, Gather
from .rounding import FLOAT64, Analysis, Ball

_LARGEST = 4096  # coordinates of an image of which bases are written down
_LINEAR = (
    *(nn.Identity, nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d),
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d, Affine, AxisMaps, Gather),
    *(StoredConv2d, StoredFilter2d),
)


def split_linear(program: nn.Module) -> tuple[list[nn.Module], list[nn.Module]]:
    """The operations that a program begins with and that are affine, and those that follow."""
    operations = _operations(program)
    nonlinear = (i for i, each in enumerate(operations) if type(each) not in _LINEAR)
    first = next(nonlinear, len(operations))
    return operations[:first], operations[first:]


def _operations(module: nn.Module) -> list[nn.Module]:
    if not (children := chain(module)):
        return [] if isinstance(module, nn.Sequential) else [module]
    return [each for _, child in children for each in _operations(child)]


def linear_part(operations: Sequence[nn.Module]) -> nn.Sequential:
    """What affine operations do to differences: themselves, without what they add."""
    parts = copy.deepcopy(nn.Sequential(*operations))
    for part in parts:
        for name in ("bias", "shift"):
            if isinstance(getattr(part, name, None), Tensor):
                setattr(part, name, None)
    return parts.eval()


@torch.no_grad()
def band_constant(program: nn.Module, shape: Shape, band: tuple[float, float]) -> float:
    """Bounds ‖f(x + δ) − f(x)‖ / ‖δ‖ for perturbations δ confined to a band of frequencies.

    The images A q̃ of the waves are computed in float64, each within e of the truth (`rounding`), and
    the waves q̃ themselves off by ‖Q̃ − Q‖_F: with their matrix M,
    ‖AQ‖ ≤ ‖M‖ + √m e + ‖A‖ ‖Q̃ − Q‖_F.

    Arguments:
        program: A network, or a part of it, in operations of `program`, in float64.
        shape: The shape (C, H, W) of an image.
        band: The radii of the band, in cycles per pixel: the lower one is in it, the upper one not.

    Returns:
        The bound, never above the Lipschitz constant; 0 if there is no frequency in the band.

    Raises:
        NotCertifiedError: If examples are no images, or too large for their waves to be written down.
    """
    return band_constants([program], shape, band)[0]


@torch.no_grad()
def band_constants(
    programs: Sequence[nn.Module], shape: Shape, band: tuple[float, float]
) -> list[float]:
    """As `band_constant`, of programs that may begin with the same operations: these meet waves once."""
    if len(shape) != 3 or math.prod(shape) > _LARGEST:
        raise NotCertifiedError(
            f"Bands are certified of images (C, H, W) with {_LARGEST} numbers at most, got {shape}."
        )
    basis, error = waves(shape, band)
    if not len(basis):
        return [0.0 for _ in programs]
    gains: dict[tuple[int, ...], tuple[float, float, Shape]] = {}  # of parts that are affine
    found = []
    for program in programs:
        first, then = split_linear(program)
        key = tuple(map(id, first))
        if key not in gains:
            gains[key] = _gain(linear_part(first), shape, basis, error)
        gain, whole, outputs = gains[key]
        factor = lipschitz(nn.Sequential(*then).eval(), outputs).value
        found.append(min(mul_up(gain, factor), mul_up(whole, factor)))
    return found


def _gain(
    part: nn.Sequential, shape: Shape, basis: Tensor, error: float
) -> tuple[float, float, Shape]:
    """Bounds of a linear part for waves, and for all; and the shape of its output."""
    whole = lipschitz(part, shape).value
    images = torch.cat([part(chunk).flatten(1) for chunk in basis.split(256)])  # (m, outputs)
    ball = Analysis(FLOAT64)(part, shape, Ball(norm=1 + 2.0**-30))
    off = mul_up(sqrt_up(float(len(basis))), float(torch.as_tensor(ball.error).max()))
    gain = add_up(matrix_norm(images), off, mul_up(whole, error))
    return gain, whole, output_shape(part, shape) if len(part) else tuple(shape)


def waves(shape: Shape, band: tuple[float, float]) -> tuple[Tensor, float]:
    """An orthonormal basis of the images of a band, in each channel apart.

    Of each pair of opposite frequencies a cosine and a sine times √(2/N), and the cosine times √(1/N)
    of those that are their own opposite, N = H W.

    *Error.*  A root of unity is off by u at most (`roots_of_unity`), the cosine and the sine of a sum of
    two angles by 8u, two products and a difference included, and the scaled entry by 12u √(2/N): a wave
    has N entries, and m of them are off by 12u √2 √m < 32u √m together.

    Arguments:
        shape: The shape (C, H, W) of an image.
        band: Its radii in cycles per pixel, [low, high); those of frequencies are rounded to floats.

    Returns:
        The basis, with shape (m, C, H, W), in float64, and a bound of its distance from the true one in
        Frobenius norm.
    """
    channels, height, width = shape
    (rows, row_sines), (columns, column_sines) = map(roots_of_unity, (height, width))
    found = []
    for j in range(height):
        for k in range(width):
            if (j, k) > (-j % height, -k % width):
                continue  # the opposite is there
            if not band[0] <= _radius(j, height, k, width) < band[1]:
                continue
            a = (torch.arange(height) * j) % height
            b = (torch.arange(width) * k) % width
            cosine = torch.outer(rows[a], columns[b]) - torch.outer(row_sines[a], column_sines[b])
            sine = torch.outer(row_sines[a], columns[b]) + torch.outer(rows[a], column_sines[b])
            alone = (j, k) == (-j % height, -k % width)
            scale = math.sqrt((1 if alone else 2) / (height * width))
            found += [scale * cosine] if alone else [scale * cosine, scale * sine]
    if not found:
        return torch.zeros(0, *shape, dtype=torch.float64), 0.0
    one = torch.stack(found)  # (m / C, H, W)
    basis = torch.zeros(channels, len(one), *shape, dtype=torch.float64)
    for channel in range(channels):
        basis[channel, :, channel] = one
    return basis.flatten(0, 1), mul_up(32 * U, sqrt_up(float(channels * len(one))))


def _radius(j: int, height: int, k: int, width: int) -> float:
    """The radius of a frequency, correctly rounded: edges of bands, such as 5 / 12, are met."""
    pair = Fraction(min(j, height - j), height), Fraction(min(k, width - k), width)
    square = pair[0] ** 2 + pair[1] ** 2
    digits = 2**200  # the root of a fraction is one itself, or is not halfway between two floats
    root = math.isqrt(square.numerator * square.denominator * digits**2)
    return float(Fraction(root, square.denominator * digits))
