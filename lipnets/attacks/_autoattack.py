"""AutoAttack, where it is installed: a second opinion, by other people's code."""

__all__ = ["autoattack"]

import importlib
import importlib.util

import torch
from torch import Tensor, nn

from ._balls import Norm, fit

_PACKAGE = "pyautoattack"


def autoattack(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    radius: float,
    num_classes: int,
    norm: Norm = "l2",
    seed: int = 0,
    batch_size: int = 256,
) -> Tensor:
    """Runs the standard AutoAttack, aiming at all other classes if there are fewer than ten.

    With three classes or fewer, for which its targeted losses are not defined, it runs APGD on
    cross-entropy, FAB and Square.  It leaves the random state as it was.

    Arguments:
        network: The network, in evaluation mode.
        images: The images, in [0, 1], with shape (B, *S).
        labels: Their classes, with shape (B,).
        radius: Of the ball, in pixels.
        num_classes: The number K of classes, two at least.
        norm: Of the ball, "l2" or "linf".
        seed: Its seed.
        batch_size: The number of images at a time.

    Returns:
        The images that it came to, in float64, with shape (B, *S), in [0, 1] and within the radius.

    Raises:
        ValueError: If it is not installed.
    """
    if importlib.util.find_spec(_PACKAGE) is None:
        raise ValueError(
            f"AutoAttack is not installed: 'pip install lipnets[attacks]' brings {_PACKAGE}."
        )
    own = next((each for each in network.parameters()), images)
    settings = {"norm": {"l2": "L2", "linf": "Linf"}[norm], "eps": radius, "seed": seed}
    if num_classes < 4:
        settings |= {"version": "custom", "attacks": ["apgd-ce", "fab", "square"]}
    with torch.random.fork_rng([own.device] if own.is_cuda else []):
        attack = importlib.import_module(_PACKAGE).AutoAttack(
            network, device=own.device, **settings
        )
        for each in (attack.apgd_targeted, attack.fab):
            each.n_target_classes = min(9, num_classes - 1)
        found = attack.run_standard_evaluation(
            images.to(own), labels.to(own.device), batch_size=batch_size
        )
    found = found[0] if isinstance(found, tuple) else found
    radii = torch.full((len(images),), radius, dtype=torch.float64)
    return fit(found.detach().cpu(), images.cpu(), radii, norm)
