"""What randomized smoothing proves of another classifier, with high probability: to compare with.

The smoothed classifier g names the class that the network names most often under Gaussian noise.  If that
class has a probability of p, g names it everywhere within σ Φ⁻¹(p).  p is not known: n noisy images
bound it from below, up to a probability α of being wrong, so that nothing here is a proof; and every answer
costs as many forwards.

References:
    | Certified Adversarial Robustness via Randomized Smoothing (Cohen et al., 2019)
    | https://arxiv.org/abs/1902.02918
"""

__all__ = ["smoothed_radius", "smoothing"]

from collections.abc import Iterator, Sequence

import torch
from scipy.special import ndtri
from torch import Tensor

from ..metrics import RADII, clopper_pearson_low, correct, predictions
from ..records import Record
from ..seeds import derived_seed
from ._registry import Probe, presets, registry
from .invariants import Pairs
from .subject import Subject

_AT_A_TIME = 500  # noisy images, whatever the batch size: the votes of a batch depend on it


@registry.register
def smoothing(
    sigmas: Sequence[float] = (0.25,),
    n: int = 200,
    n0: int = 100,
    alpha: float = 0.001,
    radii: Sequence[float] = RADII,
    limit: int | None = 20,
    seed: int = 0,
) -> Probe:
    """Builds the probe of randomized smoothing, as CERTIFY of Cohen et al. does it.

    For each `sigma`, it yields `smoothed_accuracy`, an estimate: the share of images of which the label has
    most of the n votes; `smoothed_certified_accuracy` at each radius, strict, where abstaining counts as wrong,
    and `smoothed_mean_radius`, both probabilistic.  Details are `n0`, `n`, `alpha`, `forwards` for each
    image, the share `abstained`, the `largest` radius that n votes can give, and what the network has
    on the same images without noise: `own`.

    Noise is a function of the seed, σ and the index of the image alone, and is not clipped.

    Arguments:
        sigmas: Standard deviations of the noise, in pixels of [0, 1].
        n: The number of noisy images that bound the probability.
        n0: The number of others that choose the class before.
        alpha: The probability that the bound of an image is wrong.
        radii: The radii, ℓ2 in pixels of [0, 1].
        limit: The number of images, evenly spaced; None for all.
        seed: Which draw of the noise.

    Raises:
        ValueError: If a number of noisy images is below 1, or a σ is not positive.
    """
    if n < 1 or n0 < 1 or not all(sigma > 0 for sigma in sigmas):
        raise ValueError(f"Smoothing needs n, n0 ≥ 1 and σ > 0, got {n}, {n0} and {tuple(sigmas)}.")

    def probe(subject: Subject) -> Iterator[Record]:
        subject = subject.sample(limit)
        pairs = Pairs(subject)
        for sigma in sigmas:
            votes = [
                _votes(subject, place, sigma, (n0, n), seed)
                for place in subject.track(range(len(subject)), f"smoothing, σ = {sigma:g}")
            ]
            noisy = torch.stack([first for first, _, _ in votes])
            pairs.check(noisy, subject.run(noisy), f"Gaussian noise of σ = {sigma:g}")
            found = [smoothed_radius(few, many, sigma, alpha) for _, few, many in votes]
            yield from _records(
                subject,
                torch.tensor([int(many[:-1].argmax()) for _, _, many in votes]),
                torch.tensor([chosen for chosen, _ in found]),
                torch.tensor([radius for _, radius in found], dtype=torch.float64),
                radii,
                {
                    "sigma": sigma,
                    "n0": n0,
                    "n": n,
                    "alpha": alpha,
                    "forwards": n0 + n,
                    "seed": seed,
                    "largest": sigma * float(ndtri(clopper_pearson_low(n, n, alpha))),
                },
            )
        yield from pairs.records("noisy")

    return probe


# The protocol has every 20th test image, 500: 2·10⁸ forwards in all.  A fifth of them has intervals of ±10 %.
presets(
    "smoothing",
    quick={"sigmas": (0.25,), "n": 400, "limit": 20},
    full={"sigmas": (0.12, 0.25, 0.5, 1.0), "n": 100_000, "limit": 100},
)


def smoothed_radius(few: Tensor, many: Tensor, sigma: float, alpha: float) -> tuple[int, float]:
    """The class of a smoothed classifier and its radius, from votes.

    Arguments:
        few: The votes for each class that choose one, with shape (K,).
        many: Other votes, which bound its probability, with shape (K + 1,): the last are for no class.
        sigma: The standard deviation of the noise.
        alpha: The probability of being wrong.

    Returns:
        The class and its radius; −1 and 0 to abstain, where it may have half of the votes or less.
    """
    chosen = int(few.argmax())
    low = clopper_pearson_low(int(many[chosen]), int(many.sum()), alpha)
    return (chosen, sigma * float(ndtri(low))) if low > 0.5 else (-1, 0.0)


@torch.no_grad()
def _votes(
    subject: Subject, place: int, sigma: float, numbers: tuple[int, int], seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """A noisy image, and the votes of the first and of the second number of noisy images.

    The second hold a place more, for outputs that are not finite: they are votes for no class.
    """
    index = int(subject.indices[place])
    generator = torch.Generator().manual_seed(derived_seed(seed, "smoothing", repr(sigma), index))
    image, classes = subject.images[place], subject.certificate.num_classes
    found, shown = [], image
    for number in numbers:
        votes = torch.zeros(classes + 1, dtype=torch.int64)
        for start in range(0, number, _AT_A_TIME):
            shape = (min(_AT_A_TIME, number - start), *image.shape)
            noise = torch.randn(shape, generator=generator, dtype=torch.float32)
            noisy = image + sigma * noise
            shown = noisy[0]
            named = predictions(subject.fast(noisy.to(subject.device)).cpu())
            votes += torch.bincount(named.where(named >= 0, classes), minlength=classes + 1)
        found.append(votes)
    return shown, found[0][:-1], found[1]


def _records(
    subject: Subject,
    voted: Tensor,
    chosen: Tensor,
    found: Tensor,
    radii: Sequence[float],
    details: dict[str, float],
) -> Iterator[Record]:
    labels, own = subject.labels, subject.radii
    right = chosen == labels
    abstained = float((chosen < 0).double().mean())
    details = {**details, "abstained": abstained}
    accuracy = float(correct(subject.logits, labels).double().mean())
    most = {"own": accuracy, "kind": "estimate", **details}
    yield subject.share("smoothed_accuracy", voted == labels, **most)
    for radius in radii:
        at = {"radius": radius, "own": float((own > radius).double().mean())}
        safe = right & (found > radius)
        yield subject.share(
            "smoothed_certified_accuracy", safe, kind="probabilistic", **at, **details
        )
    means = found.where(right, 0.0)
    diameter = float(subject.images[0].numel()) ** 0.5
    yield subject.mean(
        "smoothed_mean_radius",
        means,
        "l2 pixels",
        own=float(own.clamp(0, diameter).mean()),
        kind="probabilistic",
        **details,
    )
