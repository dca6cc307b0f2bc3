"""Weights that go half the way back every few steps.

References:
    | Lookahead Optimizer: k steps forward, 1 step back (Zhang, Lucas, Hinton & Ba, 2019)
    | https://arxiv.org/abs/1907.08610
    | LipNeXt (Hu, Hu & Fredrikson, 2026) https://arxiv.org/abs/2601.18513, for orthogonal weights

What differs: LipNeXt goes half of the sum of all steps in the tangent space; here an orthogonal weight
becomes the polar factor of the average of both ends, for square matrices the middle of the geodesic
between them.  Parameters are averaged, and nothing else: no buffers, no iterates of power iterations.
"""

__all__ = ["look_ahead"]

from typing import Any

import torch
from torch.optim import Optimizer

from ._stiefel import on_manifold


def look_ahead(optimizer: Optimizer, steps: int) -> None:
    """Makes an optimizer look ahead: every `steps` steps, weights go half the way back.

    The weights that it goes back to are those after the first step, and later those of the last
    time.  They are in the state of the optimizer, and resume with it.

    Raises:
        ValueError: If `steps` is below 1.
    """
    if steps < 1:
        raise ValueError(f"'lookahead' should be a number of steps, or 0 for none, got {steps}.")
    for group in optimizer.param_groups:
        group["lookahead_step"] = 0

    def hook(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for group in optimizer.param_groups:
            group["lookahead_step"] += 1
            _go_back(optimizer, group, due=group["lookahead_step"] % steps == 0)

    optimizer.register_step_post_hook(hook)


@torch.no_grad()
def _go_back(optimizer: Optimizer, group: dict[str, Any], *, due: bool) -> None:
    for parameter in group["params"]:
        if parameter.grad is None:  # the optimizer may not have made its state yet
            continue
        state = optimizer.state[parameter]
        if "lookahead" not in state:
            state["lookahead"] = parameter.detach().clone(memory_format=torch.preserve_format)
        if not due:
            continue
        middle = state["lookahead"].lerp_(parameter, 0.5)
        if group.get("manifold"):
            middle.copy_(on_manifold(middle))
        parameter.copy_(middle)
