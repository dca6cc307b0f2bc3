"""Whether evaluations will be comparable, asked before any of them begins."""

__all__ = ["refuse_incomparable"]

from collections.abc import Collection, Mapping

from ..data import Dataset
from .targets import Target, TargetError

_PROBE = "certified"  # its records say the label and the prediction of each image


def refuse_incomparable(targets: Mapping[str, Target], probes: Collection[str]) -> None:
    """Refuses networks that `lipnets.comparison.compare` would, before hours are spent on them.

    Arguments:
        targets: The networks, by the names of their evaluations; of fewer than two, none is refused.
        probes: The names of the probes that will run.

    Raises:
        TargetError: If their data are not the same, or if no probe names the label of each image.
    """
    if len(targets) < 2:
        return
    if _PROBE not in probes:
        raise TargetError(
            f"what is compared image by image should run the probe '{_PROBE}', got only "
            f"{', '.join(probes)}: name it with --probes too, or evaluate one network at a time."
        )
    (base, first), *others = ((name, target.dataset) for name, target in targets.items())
    for name, other in others:
        if (other.name, other.sha256) == (first.name, first.sha256):
            continue
        if other.name != first.name:
            way = "name the same data for all with --data"
        else:
            way = "name the same files for all with --data-dir, or with --data if they are .npz"
        raise TargetError(
            f"networks that are compared should have the same data, got {_said(first)} for '{base}' "
            f"and {_said(other)} for '{name}': {way}, or evaluate one network at a time."
        )


def _said(dataset: Dataset) -> str:
    return (
        f"{dataset.name} ({len(dataset.test)} test images of {dataset.num_classes} classes, SHA-256 "
        f"{dataset.sha256[:12]})"
    )
