"""Bounds of linear maps: how tight, how fast, and whether they are bounds at all.

    python benchmarks/bounds.py [--quick]

Each map is measured by our proved bound, and by what is used in its place: power iteration, an SVD
in float32, and, for convolutions, an SVD of the symbol on the grid of the image size in float32 and
the reshaped kernel.  The truth is enclosed from below by a Rayleigh quotient in float64 at a vector
of Lanczos' iteration.  `error` is method / truth − 1: negative is a violation, a certificate that
would be false.  Times are wall seconds of the median of three runs, on the threads of this machine.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

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
    found = {}
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

    def power(steps: int) -> Method:
        shape = (matrix.shape[1],)
        return lambda: power_iteration(lambda v: matrix @ v, lambda v: matrix.T @ v, shape, steps)

    return truth, {
        "lipnets": lambda: matrix_norm(matrix),
        "power 10": power(10),
        "power 100": power(100),
        "SVD float32": lambda: torch.linalg.matrix_norm(matrix, ord=2).item(),
    }


def of_kernel(kernel: Tensor, n: int) -> tuple[float, dict[str, Method]]:
    double, outs, ins = kernel.double(), *kernel.shape[:2]

    def forward(v: Tensor) -> Tensor:
        return F.conv2d(v, kernel.to(v.dtype), padding=1)

    def adjoint(v: Tensor) -> Tensor:
        return F.conv_transpose2d(v, kernel.to(v.dtype), padding=1)

    start = torch.randn(1, ins, n, n, generator=torch.Generator().manual_seed(2)).to(double)
    truth = attained(forward, adjoint, start)

    def on_image_grid() -> float:
        symbols = torch.fft.rfft2(kernel, s=(n, n)).permute(2, 3, 0, 1)
        return torch.linalg.matrix_norm(symbols, ord=2).max().item()

    period = (torus(n, n, 3, 1, 1, 1),) * 2
    return truth, {
        "lipnets": lambda: conv_norm(kernel, period=period)[0],
        "power 10": lambda: power_iteration(forward, adjoint, (1, ins, n, n), 10),
        "power 100": lambda: power_iteration(forward, adjoint, (1, ins, n, n), 100),
        "SVD float32, n-grid": on_image_grid,
        "reshaped kernel": lambda: torch.linalg.matrix_norm(kernel.reshape(outs, -1), ord=2).item(),
    }


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


if __name__ == "__main__":
    main()
