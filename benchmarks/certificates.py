"""Certificates: how tight, how fast, and whether they are true at all, beside what is used in their place.

    python benchmarks/certificates.py [--quick]

Each map is measured by our proved bound, and by estimates that libraries sell as bounds: power
iteration of 10 and 100 steps; an SVD in float32; Gram iteration in float32, on matrices, on symbols and
on kernels, written here from its papers; and, for convolutions, an SVD of the symbol on the grid of the
image size and the reshaped kernel.  The truth is enclosed from below by a Rayleigh quotient in float64
at a vector of Lanczos' iteration.  `error` is method / truth − 1: negative is a violation, a
certificate that would be false.  Times are wall seconds of the median of three runs.

Then radii: classifiers of dense layers whose distance to the boundary is known, since their layers
compose to one matrix.  A radius above the distance is a violation: there is an adversarial example
inside.

References:
    | Efficient Bound of Lipschitz Constant for Convolutional Layers by Gram Iteration
    | (Delattre, Barthélemy, Araujo & Allauzen, 2023) https://arxiv.org/abs/2305.16173
    | Spectral Norm of Convolutional Layers with Circular and Zero Paddings
    | (Delattre, Barthélemy & Allauzen, 2024) https://arxiv.org/abs/2402.00240
"""

import argparse
import math
import platform
import statistics
import time
from collections.abc import Callable
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lipnets.certify import certify
from lipnets.convolutions import conv_norm, torus
from lipnets.linalg import matrix_norm

Method = Callable[[], float]


def timed(method: Method, runs: int = 3) -> tuple[float, float]:
    """The result of a method, and the median of its wall times in seconds."""
    times, value = [], 0.0
    for _ in range(runs):
        start = time.perf_counter()
        value = method()
        times.append(time.perf_counter() - start)
    return value, statistics.median(times)


def attained(
    forward: Callable[[Tensor], Tensor], adjoint: Callable[[Tensor], Tensor], start: Tensor
) -> float:
    """A lower bound of a norm: ‖Av‖ / ‖v‖ at the top vector of Golub-Kahan-Lanczos, in float64."""
    basis, images = [start / start.norm()], []
    for i in range(120):
        images.append(forward(basis[-1]))
        vector = adjoint(images[-1])
        for _ in range(2):
            stacked = torch.stack(basis).flatten(1)
            vector = vector - (stacked.mT @ (stacked @ vector.flatten())).reshape(vector.shape)
        if vector.norm() < 1e-13 or i == 119:
            break
        basis.append(vector / vector.norm())
    images = images[: len(basis)] + [forward(v) for v in basis[len(images) :]]
    columns = torch.stack(images).flatten(1)
    weights = torch.linalg.eigh(columns @ columns.mT)[1][:, -1]
    best = torch.einsum("i,i...->...", weights, torch.stack(basis))
    return (forward(best).norm() / best.norm()).item()


def power_iteration(
    forward: Callable[[Tensor], Tensor],
    adjoint: Callable[[Tensor], Tensor],
    shape: tuple[int, ...],
    steps: int,
) -> float:
    """What is called a spectral norm in most libraries, in float32."""
    vector = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    for _ in range(steps):
        vector = adjoint(forward(vector))
        vector = vector / vector.norm()
    return forward(vector).norm().item()


def gram(matrices: Tensor, steps: int) -> float:
    """Gram iteration: ‖G‖_F^{1/2ᵗ} for the t-th Gram matrix, rescaled on the way, in float32."""
    logarithm, power = torch.zeros(matrices.shape[:-2]), 1.0
    for _ in range(steps):
        norms = torch.linalg.matrix_norm(matrices)
        logarithm = logarithm + power * norms.log()
        matrices = matrices / norms[..., None, None]
        matrices = matrices.mH @ matrices
        power /= 2
    last = torch.linalg.matrix_norm(matrices).log()
    return (logarithm + power * last).exp().max().item()


def spatial_gram(kernel: Tensor, steps: int) -> float:
    """Gram iteration on the kernel itself, which serves every size of image, in float32."""
    logarithm, power = 0.0, 1.0
    for _ in range(steps):
        norm = kernel.norm()
        logarithm, kernel = logarithm + power * norm.log().item(), kernel / norm
        adjoint = kernel.transpose(0, 1).contiguous()  # (I, O, k, k)
        kernel = F.conv2d(adjoint, adjoint, padding=kernel.shape[-1] - 1)  # (I, I, 2k − 1, 2k − 1)
        power /= 2
    taps = torch.linalg.matrix_norm(kernel.permute(2, 3, 0, 1)).sum()
    return math.exp(logarithm + power * taps.log().item())


def power_of_matrix(matrix: Tensor, steps: int) -> float:
    shape = (matrix.shape[1],)
    return power_iteration(lambda v: matrix @ v, lambda v: matrix.T @ v, shape, steps)


def orthogonal(size: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64))[0]


def matrices(quick: bool) -> dict[str, Tensor]:
    """Matrices in float32, as layers store them."""
    generator = torch.Generator().manual_seed(0)
    found = {}
    for n in (256, 512) if quick else (512, 1024, 2048):
        spread = 1 - 2e-7 * torch.rand(n, generator=generator, dtype=torch.float64)
        steps = torch.cat([torch.ones(1), torch.full((n - 1,), 0.9)]).double()
        found[f"dense {n}, Gaussian"] = torch.randn(n, n, generator=generator)
        found[f"dense {n}, orthogonal"] = orthogonal(n).float()
        found[f"dense {n}, cluster 2e-7"] = (orthogonal(n) * spread @ orthogonal(n).T).float()
        found[f"dense {n}, 1 and 0.9s"] = (orthogonal(n) * steps @ orthogonal(n).T).float()
    return found


def kernels(quick: bool) -> dict[str, tuple[Tensor, int]]:
    """Kernels in float32, with the size of their image."""
    generator = torch.Generator().manual_seed(0)
    signs = torch.tensor([[1.0, -1, 1], [-1, 1, -1], [1, -1, 1]])[None, None]
    found = {"3×3 1 ch, 5×5, checkerboard": (signs, 5)}
    for c, n in ((32, 8), (64, 16)) if quick else ((64, 32), (128, 16), (256, 16)):
        directions = orthogonal(c)
        shifts = torch.zeros(c, c, 3, 3, dtype=torch.float64)
        for i in range(c):
            shifts[:, i, i % 3, (i // 3) % 3] = directions[:, i]
        found[f"3×3 {c} ch, {n}×{n}, Gaussian"] = torch.randn(c, c, 3, 3, generator=generator), n
        found[f"3×3 {c} ch, {n}×{n}, orthogonal"] = shifts.float(), n
        found[f"3×3 {c} ch, {n}×{n}, low-pass"] = torch.rand(c, c, 3, 3, generator=generator), n
    return found


def of_matrix(matrix: Tensor) -> tuple[float, dict[str, Method]]:
    double = matrix.double()
    start = torch.randn(len(matrix.T), generator=torch.Generator().manual_seed(2)).double()
    truth = attained(lambda v: double @ v, lambda v: double.T @ v, start)
    truth = max(truth, torch.linalg.svdvals(double)[0].item() * (1 - 1e-14))

    return truth, {
        "lipnets": lambda: matrix_norm(matrix),
        "power 10": lambda: power_of_matrix(matrix, 10),
        "power 100": lambda: power_of_matrix(matrix, 100),
        "SVD float32": lambda: torch.linalg.matrix_norm(matrix, ord=2).item(),
        "Gram 6, float32": lambda: gram(matrix, 6),
        "Gram 20, float32": lambda: gram(matrix, 20),
    }


def of_kernel(kernel: Tensor, n: int) -> tuple[float, dict[str, Method]]:
    double, outs, ins = kernel.double(), *kernel.shape[:2]

    def forward(v: Tensor) -> Tensor:
        return F.conv2d(v, kernel.to(v.dtype), padding=1)

    def adjoint(v: Tensor) -> Tensor:
        return F.conv_transpose2d(v, kernel.to(v.dtype), padding=1)

    start = torch.randn(1, ins, n, n, generator=torch.Generator().manual_seed(2)).to(double)
    truth = attained(forward, adjoint, start)

    def symbols() -> Tensor:
        return torch.fft.rfft2(kernel, s=(n, n)).permute(2, 3, 0, 1)

    period = (torus(n, n, 3, 1, 1, 1),) * 2
    return truth, {
        "lipnets": lambda: conv_norm(kernel, period=period)[0],
        "power 10": lambda: power_iteration(forward, adjoint, (1, ins, n, n), 10),
        "power 100": lambda: power_iteration(forward, adjoint, (1, ins, n, n), 100),
        "SVD float32, n-grid": lambda: torch.linalg.matrix_norm(symbols(), ord=2).max().item(),
        "Gram 6 on symbols, n-grid": lambda: gram(symbols(), 6),
        "Gram 20 on symbols, n-grid": lambda: gram(symbols(), 20),
        "Gram 3 on the kernel": lambda: spatial_gram(kernel, 3),
        "reshaped kernel": lambda: torch.linalg.matrix_norm(kernel.reshape(outs, -1), ord=2).item(),
    }


def classifiers(quick: bool) -> dict[str, tuple[list[Tensor], Tensor]]:
    """Dense layers and heads, in float32, whose norms the composition attains."""
    n, found = (256 if quick else 512), {}
    generator = torch.Generator().manual_seed(3)
    for name, spectrum in {
        "1 and 0.9s": torch.cat([torch.ones(1), torch.full((n - 1,), 0.9)]),
        "cluster 2e-7": 1 - 2e-7 * torch.rand(n, generator=generator),
    }.items():
        basis = [orthogonal(n), *(orthogonal(n).roll(k + 1, dims=1) for k in range(3))]
        layers = [(b * spectrum.double() @ a.T).float() for a, b in pairwise(basis)]
        top = basis[-1][:, int(spectrum.argmax())]
        # The difference of the rows is the direction that all layers enlarge the most.
        found[f"3 layers of {n}, {name}"] = layers, torch.stack([top / 2, -top / 2]).float()
    return found


def radii(layers: list[Tensor], head: Tensor) -> tuple[float, dict[str, Method]]:
    """The distance to the boundary of an input, and the radius that each method gives it."""
    whole = head.double()
    for layer in reversed(layers):
        whole = whole @ layer.double()
    direction = whole[0] - whole[1]
    image = (0.05 + 0.1) * direction / direction.norm()
    margin = (direction @ image).item()
    pair = (head[0] - head[1]).double().norm().item()

    def by(norm: Callable[[Tensor], float]) -> Method:
        return lambda: margin / (pair * math.prod(norm(layer) for layer in layers))

    def ours() -> float:
        # Flattened to (1, n): the certificate takes it as it takes any network.
        network = nn.Sequential(nn.Sequential(*map(dense, layers)), dense(head)).eval()
        return certify(network, image.shape).radii(image[None], torch.tensor([0])).item()

    return margin / direction.norm().item(), {
        "lipnets": ours,
        "power 10": by(lambda w: power_of_matrix(w, 10)),
        "power 100": by(lambda w: power_of_matrix(w, 100)),
        "SVD float32": by(lambda w: torch.linalg.matrix_norm(w, ord=2).item()),
        "Gram 6, float32": by(lambda w: gram(w, 6)),
        "Gram 20, float32": by(lambda w: gram(w, 20)),
    }


def dense(weight: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    layer.weight = nn.Parameter(weight)
    return layer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="smaller maps, a few seconds")
    arguments = parser.parse_args()

    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {platform.machine()}\n")
    print("| map | method | value | error | seconds | |")
    print("|---|---|---:|---:|---:|---|")
    cases: list[tuple[str, Callable[[], tuple[float, dict[str, Method]]]]] = [
        (name, lambda m=matrix: of_matrix(m)) for name, matrix in matrices(arguments.quick).items()
    ]
    cases += [
        (name, lambda k=kernel, n=size: of_kernel(k, n))
        for name, (kernel, size) in kernels(arguments.quick).items()
    ]
    for name, build in cases:
        truth, methods = build()
        for method, run in methods.items():
            value, seconds = timed(run)
            error = value / truth - 1
            verdict = "**violation**" if error < -1e-12 else ""
            print(f"| {name} | {method} | {value:.9g} | {error:+.1e} | {seconds:.3f} | {verdict} |")

    print("\n| classifier | method | radius | radius / distance − 1 | seconds | |")
    print("|---|---|---:|---:|---:|---|")
    for name, (layers, head) in classifiers(arguments.quick).items():
        distance, methods = radii(layers, head)
        for method, run in methods.items():
            value, seconds = timed(run)
            error = value / distance - 1
            verdict = "**violation**" if error > 1e-14 else ""
            print(f"| {name} | {method} | {value:.9g} | {error:+.1e} | {seconds:.3f} | {verdict} |")


if __name__ == "__main__":
    main()
