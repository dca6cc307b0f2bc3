"""What attacks find: accuracy from above where certificates bound it from below."""

__all__ = ["attacked"]

import math
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import torch

from ..attacks import LOSSES, Norm, losses_for
from ..records import Record
from ._campaign import Campaign, Stage
from ._registry import Probe, presets, registry
from .subject import Subject

_LEVELS = (0.05, 0.25, 0.5, 0.75, 0.95)  # quantiles of certified over attacked radii


@registry.register
def attacked(
    radii: Sequence[float] = (36 / 255, 108 / 255),
    linf: Sequence[float] = (),
    losses: Sequence[str] | None = None,
    nearest: str = "margin",
    steps: int = 40,
    targets: int = 9,
    rounds: int = 6,
    share: float = 1.0,
    limit: int | None = 1000,
    seed: int = 0,
    batch_size: int = 256,
    cross_check: bool = False,
) -> Probe:
    """Builds the probe of attacks: see `lipnets.attacks`.

    Attacks search in float32, and the certified program judges what they find.  Each runs on the images
    that survived those before it.  For each radius it yields `attacked_accuracy`, the share of images
    that are right and survive: details are the `norm`, the `radius`, the `losses` and `steps` of attacks,
    how many images went through the network for each image of the sample (`searched`, forward and
    backward; `judged`, forward in float64), and how many certified ones were `spared`;
    `attack_success` of each `loss`, the share of images that it broke among those it was let loose on,
    and of `"bisection"`; and `certified_gap`, the attacked accuracy less the certified one.

    Then bisection over the radius searches for the nearest wrong image in ℓ2: `image/attacked_radius` is
    its distance, 0 for images that are wrong, ∞ if none was found.  `attacked_curve` has these as
    `distances`, in ascending order without those of wrong images and infinite ones, and the certified radii
    of the same images as `certified`; its value is the mean distance, clipped to the diameter of
    [0, 1]^(C×H×W).  `certified_share` is the median of certified radius over distance, with `quantiles`.

    Attacked accuracy is no proof: a stronger attack may find more.  But an image that is certified at a
    radius must survive there, and be right: one exception, and there is no evaluation.  Networks of a
    single class have nothing to attack, and records say `vacuous`.

    Arguments:
        radii: The radii of attacks, ℓ2 in pixels of [0, 1].
        linf: Those in ℓ∞.
        losses: What attacks maximize, of `lipnets.attacks.LOSSES`; by default `losses_for` the number
            of classes.
        nearest: What bisection maximizes.
        steps: The number of steps of an attack, at most.
        targets: How many other classes targeted attacks aim at, at most.
        rounds: The number of radii that bisection tries; without any, distances are those of attacks
            at the radii.
        share: The share of the images certified at a radius that are attacked there all the same; the
            others count as survivors.
        limit: The number of images, evenly spaced; None for all.
        seed: Which starts.
        batch_size: The number of images and targets at a time.  It is not that of the evaluation: in
            float32 it decides the last digits, and with them what attacks find.
        cross_check: Whether AutoAttack takes on what is left, as a last loss, `"autoattack"`: it has to
            be installed, as `lipnets[attacks]` does, and takes long.

    Raises:
        ValueError: If a radius is not positive, a share is not in [0, 1], or there is no such loss.
    """
    if not all(radius > 0 for radius in (*radii, *linf)):
        raise ValueError(f"Radii of attacks should be positive, got {(*radii, *linf)}.")
    if not 0 <= share <= 1:
        raise ValueError(f"'share' should be in [0, 1], got {share}.")
    for loss in (*(losses or ()), nearest):
        if loss not in LOSSES:
            raise ValueError(f"No loss is called '{loss}': there are {', '.join(LOSSES)}.")

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        classes = subject.certificate.num_classes
        names = losses_for(classes) if losses is None else tuple(dict.fromkeys(losses))
        names = (*names, *(["autoattack"] if cross_check else [])) if classes > 1 else ()
        campaign = Campaign(
            subject,
            steps=steps,
            targets=targets,
            rounds=rounds,
            share=share,
            seed=seed,
            batch_size=batch_size,
        )
        balls = list(_balls(radii, linf))
        flags = {"vacuous": True} if subject.certificate.vacuous else {}
        settings = {"steps": steps, "targets": targets, "seed": seed, "kind": "measured", **flags}
        blocks = torch.arange(len(subject)).split(batch_size)
        stages = [Stage(*ball, loss) for ball in balls for loss in names]
        # Bisection begins where attacks at all radii ended.
        last = Stage("l2", math.inf, nearest)
        stages += [last] if rounds and names else []
        for stage, (number, block) in subject.track(
            list(product(stages, enumerate(blocks))), "attacks"
        ):
            campaign.run(stage, block)
            if number == len(blocks) - 1:
                campaign.finish(stage)
                if stage.loss in names[-1:]:
                    campaign.settle(stage.norm, stage.radius)
        for norm, radius in balls:
            yield from _at_radius(
                campaign, names, {"norm": norm, "radius": radius, **settings}, last in stages
            )
        yield from _distances(campaign, {**settings, "rounds": rounds, "loss": nearest})
        yield from campaign.pairs.records("attacked")
        if subject.proved:
            yield subject.record(
                "check/sandwich",
                campaign.closest,
                "1",
                campaign.cases,
                says="images that are certified at a radius survive all attacks within it, and those "
                "that survive are right; closest: the largest share that a certified radius is of the "
                "distance of a wrong image",
            )

    return probe


presets(
    "attacked",
    quick={"limit": 100, "steps": 20, "targets": 2, "rounds": 5},
    full={
        "losses": ("margin", "ce", "dlr", "targeted_dlr", "targeted_margin"),
        "nearest": "targeted_margin",
        "linf": (1 / 255, 2 / 255, 8 / 255),
        "steps": 100,
        "rounds": 12,
    },
)


def _balls(radii: Sequence[float], linf: Sequence[float]) -> Iterator[tuple[Norm, float]]:
    for radius in sorted(set(radii)):
        yield "l2", radius
    for radius in sorted(set(linf)):
        yield "linf", radius


def _at_radius(
    campaign: Campaign, names: Sequence[str], ball: dict[str, Any], bisected: bool
) -> Iterator[Record]:
    """The records of one radius."""
    subject, norm, radius = campaign.subject, ball["norm"], ball["radius"]
    survives = campaign.survivors(norm, radius)
    scores = {name: campaign.scores[Stage(norm, radius, name)] for name in names}
    yield subject.share(
        "attacked_accuracy",
        survives,
        losses=list(names),
        searched=sum(each.tally.searched for each in scores.values()) / len(subject),
        judged=sum(each.tally.judged for each in scores.values()) / len(subject),
        spared=int(campaign.spared(norm, radius).sum()),
        **ball,
    )
    for name, score in scores.items():
        if score.tried:
            yield subject.record(
                "attack_success",
                score.broken / score.tried,
                "fraction",
                score.tried,
                hits=score.broken,
                loss=name,
                searched=score.tally.searched / score.tried,
                **ball,
            )
    tried, broken = campaign.drawn_in(norm, radius)
    if bisected and norm == "l2" and tried:
        share, details = broken / tried, {"hits": broken, "loss": "bisection", **ball}
        yield subject.record("attack_success", share, "fraction", tried, **details)
    if subject.proved:
        certified = campaign.certified(norm) > radius
        gap = int(survives.sum()) - int(certified.sum())
        yield subject.record(
            "certified_gap",
            gap / len(subject),
            "fraction",
            len(subject),
            hits=gap,
            certified=int(certified.sum()) / len(subject),
            **ball,
        )


def _distances(campaign: Campaign, settings: dict[str, Any]) -> Iterator[Record]:
    """The records of how near the nearest wrong image of each is."""
    subject, lengths = campaign.subject, campaign.distances()
    yield subject.column("attacked_radius", lengths, "l2 pixels")
    diameter = math.prod(subject.shape) ** 0.5
    clipped = lengths.clamp(max=diameter)
    found = lengths[(lengths > 0) & lengths.isfinite()].sort().values
    radii = campaign.certified("l2")
    details = {"infinite": int(lengths.isinf().sum()), **settings}
    if subject.proved:
        details["certified"] = radii[radii > 0].sort().values.clamp(max=diameter).tolist()
    yield subject.record(
        "attacked_curve",
        float(clipped.mean()),
        "l2 pixels",
        len(subject),
        distances=found.tolist(),
        hits=int(campaign.right.sum()),
        **details,
    )
    both = (radii > 0) & lengths.isfinite()
    if subject.proved and both.any():
        levels = torch.tensor(_LEVELS, dtype=torch.float64)
        quantiles = (radii / lengths)[both].quantile(levels).tolist()
        yield subject.record(
            "certified_share",
            quantiles[_LEVELS.index(0.5)],
            "fraction",
            int(both.sum()),
            quantiles=dict(zip(map(str, _LEVELS), quantiles, strict=True)),
            **settings,
        )
