"""Derivatives of singular values: formulas against automatic differentiation.

References:
    | A Hessian of singular values (Luo, Luo & Xu, 2025) https://arxiv.org/abs/2506.03764
"""

__all__ = ["singular_values"]

from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from ..dynamics import top
from ..report.drawing import COLORS, axes, frame, styled
from ._registry import registry
from .finding import Finding
from .lab import Lab


@registry.register
def singular_values(
    lab: Lab,
    *,
    shapes: Sequence[Sequence[int]] = ((6, 10), (10, 6), (7, 7), (1, 8), (20, 30)),
    trials: int = 100,
) -> Finding:
    """Compares slope and curvature of σ₁ with those that autograd gives, on random matrices.

    Arguments:
        lab: Not needed: nothing is trained.
        shapes: The shapes of the matrices.
        trials: The number of matrices of each shape, and as many directions.
    """
    generator = torch.Generator().manual_seed(0)
    rows, slopes, curvatures = [], [], []
    for shape in shapes:
        first, second = [], []
        for _ in range(trials):
            matrix, direction = (
                torch.randn(*shape, generator=generator, dtype=torch.float64) for _ in range(2)
            )
            found = top(matrix[None])
            slope, curvature = _by_autograd(matrix, direction)
            first.append(abs(found.slope(direction[None]).item() - slope) / direction.norm().item())
            second.append(abs(found.curvature(direction[None]).item() - curvature) / abs(curvature))
        slopes += first
        curvatures += second
        rows.append((f"{shape[0]} × {shape[1]}", f"{max(first):.1e}", f"{max(second):.1e}"))
    sentence = f"The largest errors are {max(slopes):.1e} and {max(curvatures):.1e}, relatively."
    return Finding(
        claim="The first derivative of σ₁ is u₁v₁ᵀ, and its second is the closed form in all singular "
        "vectors (arXiv 2506.03764), evaluated here without a matrix of mn × mn numbers.",
        verdict="confirmed" if max(slopes) < 1e-12 and max(curvatures) < 1e-7 else "not confirmed",
        sentence=sentence,
        header=("shape", "slope", "curvature"),
        rows=rows,
        figure=_draw(curvatures),
        scale=f"{trials} random matrices of each of {len(shapes)} shapes",
    )


def _by_autograd(matrix: Tensor, direction: Tensor) -> tuple[float, float]:
    """The first two derivatives of σ₁(T + xN) in x at 0."""
    x = torch.zeros((), dtype=torch.float64, requires_grad=True)
    norm = torch.linalg.svdvals(matrix + x * direction)[0]
    (slope,) = torch.autograd.grad(norm, x, create_graph=True)
    (curvature,) = torch.autograd.grad(slope, x)
    return slope.item(), curvature.item()


@styled
def _draw(errors: Sequence[float]) -> Figure:
    figure, ax = axes()
    digits = torch.tensor(errors).clamp_min(1e-17).log10()
    ax.hist(digits.tolist(), bins=30, color=COLORS["first"])
    frame(ax, "log₁₀ of the relative error of the curvature", "matrices")
    return figure
