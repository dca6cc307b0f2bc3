"""PReLU with slopes in [−1, 1].

References:
    | Delving Deep into Rectifiers (He et al., 2015) https://arxiv.org/abs/1502.01852
    | Achieving Robustness in Classification Using Optimal Transport with Hinge Regularization
    | (Serrurier et al., 2021) https://arxiv.org/abs/2006.06520, whose library has LPReLU
"""

__all__ = ["lprelu"]

from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ._registry import Card, drop_in


class _Clamp(nn.Module):
    """Clips slopes to [−1, 1], which is exact in every floating-point format."""

    def forward(self, slopes: Tensor) -> Tensor:
        return slopes.clamp(-1, 1)


@drop_in(
    nn.PReLU,
    Card(
        kind="activation",
        guarantee="1-Lipschitz",
        paper="Serrurier et al., 2021",
        url="https://arxiv.org/abs/2006.06520",
        choose="From ReLU (0) to Abs (−1) and the identity (1), as the slope of a channel learns.",
        arguments={"num_parameters": 4, "init": -0.5},
        shape=(4, 3),
    ),
)
def lprelu(prelu: nn.PReLU) -> None:
    """Builds a PReLU whose slopes below 0 are clipped to [−1, 1].

    Arguments are those of `nn.PReLU`.
    """
    register_parametrization(prelu, "weight", _Clamp())
