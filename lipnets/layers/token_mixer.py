"""Mixing of tokens and of channels by orthogonal matrices.

References:
    | MLP-Mixer: An all-MLP Architecture for Vision (Tolstikhin et al., 2021)
    | https://arxiv.org/abs/2105.01601

What differs: one orthogonal matrix for the tokens and one for the channels instead of two perceptrons
with residual connections; put an activation between two of them.
"""

__all__ = ["TokenMixer", "token_mixer"]

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

from ..bounds import Bound, NotCertifiedError, Shape, lipschitz, rule
from ..linalg import mul_up
from ..parametrizations import Cayley
from ..program import AxisMaps, lower, lowering
from ._registry import Card, drop_in


class TokenMixer(nn.Module):
    """Multiplies a matrix of tokens from both sides, A X Bᵀ + b.

    Arguments:
        num_tokens: The number N of tokens.
        embed_dim: The number D of channels of a token.
        bias: Whether to add a bias to the channels.
    """

    def __init__(
        self,
        num_tokens: int,
        embed_dim: int,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.tokens = nn.Linear(num_tokens, num_tokens, False, device, dtype)
        self.channels = nn.Linear(embed_dim, embed_dim, bias, device, dtype)

    def forward(self, x: Tensor) -> Tensor:  # (B, N, D) -> (B, N, D)
        return self.channels(self.tokens(x.mT).mT)


@rule(TokenMixer)
def _token_mixer(module: TokenMixer, shape: Shape) -> Bound:
    """The linear part is the Kronecker product A ⊗ B, whose norm is ‖A‖ ‖B‖."""
    if len(shape) != 2:
        raise NotCertifiedError(
            f"TokenMixer takes tokens with channels, got examples of shape {tuple(shape)}."
        )
    if module.tokens.bias is not None:
        raise NotCertifiedError("TokenMixer takes a bias on channels, not on tokens.")
    parts = (lipschitz(module.tokens, shape[::-1]), lipschitz(module.channels, shape))
    value = mul_up(parts[0].value, parts[1].value)
    return Bound(value, "TokenMixer: norm over tokens times norm over channels", parts)


@lowering(TokenMixer)
def _lowered(module: TokenMixer, shape: Shape) -> nn.Module:
    """A matrix along the axis of tokens, and a linear layer on that of channels."""
    lipschitz(module, shape)  # refuses hooks of either
    return nn.Sequential(AxisMaps([module.tokens.weight, None]), lower(module.channels, shape))


@drop_in(
    TokenMixer,
    Card(
        kind="attention",
        guarantee="orthogonal",
        paper="Tolstikhin et al., 2021",
        url="https://arxiv.org/abs/2105.01601",
        choose="In place of attention: it mixes all tokens and loses nothing.",
        arguments={"num_tokens": 4, "embed_dim": 6},
        shape=(4, 6),
    ),
)
def token_mixer(mixer: TokenMixer) -> None:
    """Builds a mixer of tokens and channels with orthogonal matrices, by the Cayley map.

    Arguments are those of `TokenMixer`.
    """
    if mixer.channels.bias is not None:
        nn.init.zeros_(mixer.channels.bias)
    for linear in (mixer.tokens, mixer.channels):
        nn.init.normal_(linear.weight, std=0.1 * linear.in_features**-0.5)
        register_parametrization(linear, "weight", Cayley())
