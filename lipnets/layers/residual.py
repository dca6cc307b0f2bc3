"""Residual connections, as combinators that certificates can read."""

__all__ = ["Residual"]

from torch import Tensor, nn

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, output_shape, refuse_inplace, rule
from ..linalg import add_up


class Residual(nn.Module):
    """Adds a branch to its input, x + f(x).

    Arguments:
        branch: The module f, which keeps the shape of its input.
    """

    def __init__(self, branch: nn.Module) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Tensor) -> Tensor:
        return x + self.branch(x)


@rule(Residual)
def residual(module: Residual, shape: Shape) -> Bound:
    """Triangle inequality: ‖x + f(x) − y − f(y)‖ ≤ (1 + L) ‖x − y‖.

    The shape is kept, or the sum would broadcast: that repeats coordinates.
    """
    refuse_inplace(module)
    if (out := output_shape(module.branch, shape)) != tuple(shape):
        raise NotCertifiedError(
            f"The branch of a Residual should keep the shape {tuple(shape)} of its input, got {out}."
        )
    branch = lipschitz(module.branch, shape)
    return Bound(add_up(1.0, branch.value), "Residual: 1 + branch", (branch,))
