"""The gradients of some examples, as all weights that are followed show them.

References:
    | An Empirical Model of Large-Batch Training (McCandlish, Kaplan & Amodei, 2018)
    | https://arxiv.org/abs/1812.06162, appendix A.1: the noise scale of gradients
"""

__all__ = ["Entry", "Look", "Noise", "ProbeLoss", "couples", "look", "sights"]

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..layers.normalization import BatchCentering, BatchLipNorm
from .lenses import highest
from .noise import Examples, Seen, Sight
from .singular import Top, top
from .weights import Followed, Gain

ProbeLoss = Callable[
    [nn.Module, Tensor, Tensor], Tensor
]  # of a model, images and labels: their mean

_COUPLING = (
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm),
    *(BatchCentering, BatchLipNorm),
)
_AGREES = 5e-3  # what is seen of a batch and of its examples, where convolutions round to TF32


@dataclass(frozen=True)
class Noise:
    """Squared norms of gradients of all parameters, unbiased.

    Arguments:
        signal: That of the gradient of the loss over all examples, |g|²; noise may make it negative.
        noise: The trace of the covariance of gradients of examples.
    """

    signal: float
    noise: float


@dataclass(frozen=True)
class Look:
    """What was seen.

    Arguments:
        batches: Of each sight, what is seen of the gradients of R batches.
        examples: Of each sight, what is seen of the gradients of examples; None where they cannot be
            told apart.
        size: The number of examples of each of these batches.
        largest: Of each sight, the norm of the matrices of these gradients, about: root mean square.
        noise: The noise of gradients of all parameters.
    """

    batches: list[Seen]
    examples: list[Seen | None]
    size: int
    largest: list[float]
    noise: Noise


class Entry:
    """The lens that shows each number of a vector as a matrix of one number."""

    def __init__(self, count: int) -> None:
        self.count = count

    def matrices(self, weight: Tensor, places: Tensor) -> Tensor:
        """The numbers at some places (F,), with shape (F, 1, 1)."""
        return weight.double()[places.to(weight.device)][:, None, None]

    def norms(self, weight: Tensor) -> Tensor:
        """Their moduli."""
        return weight.abs()

    def around(self, place: int) -> Tensor:
        """Itself."""
        return torch.tensor([place])

    def folded(self, places: Tensor) -> Tensor:
        """Themselves."""
        return places


def sights(followed: Sequence[Followed], gains: Sequence[Gain] = ()) -> list[Sight]:
    """Weights that training changes, each seen where its norm is largest.

    Arguments:
        followed: Weights with a parameter behind them, in use or raw.
        gains: Batch normalizations: they are seen where |γ| / √(variance + ε) is largest, at a place where
            the variance counts as constant.
    """
    found = []
    for each in followed:
        if not each.parameter.requires_grad:
            continue
        place, highest_there = highest(each.lens, each.read())
        module = each.module if each.role == "free" else None
        found.append(
            Sight(each.name, each.role, each.parameter, each.lens, place, highest_there, module)
        )
    for each in gains:
        weight = each.module.weight
        if not isinstance(weight, nn.Parameter) or not weight.requires_grad:
            continue
        scale = (each.module.get_buffer("running_var").double() + each.module.eps).rsqrt()
        norms = weight.detach().double().abs() * scale
        place = int(norms.argmax())
        lens = Entry(len(weight))
        there = top(lens.matrices(weight.detach(), torch.tensor([place])))
        if len(weight) > 1:
            there = replace(there, second=norms.topk(2).values[1:] / scale[place])
        found.append(Sight(each.name, "gain", weight, lens, place, there))
    return found


def couples(model: nn.Module) -> bool:
    """Whether, in training, the output of an example depends on the others of its batch."""
    return any(isinstance(module, _COUPLING) for module in model.modules())


def look(
    model: nn.Module,
    looked: Sequence[Sight],
    loss: ProbeLoss,
    batches: Sequence[tuple[Tensor, Tensor]],
    population: int,
    *,
    seed: int = 0,
) -> Look:
    """Sees gradients in training mode; weights, gradients, mode, buffers and random state stay as they are.

    Gradients of examples are seen of layers that are used on examples apart.  It is checked that they sum to
    that of the batch: where the loss reads a weight elsewhere as well, they would not.

    Arguments:
        model: The model.
        looked: What to look at.
        loss: The loss of images (B, C, H, W) and labels (B,), a mean over examples.
        batches: Images and labels, drawn without replacement; batches of the same size, 2 at least.
        population: The number of examples they were drawn from.
        seed: The seed of what layers draw.

    Raises:
        ValueError: If there are fewer than 2 batches, or they differ in size.
    """
    size = len(batches[0][0]) if batches else 0
    if len(batches) < 2 or any(len(images) != size for images, _ in batches):
        raise ValueError(
            "There should be 2 batches or more of one size, got sizes "
            f"{[len(images) for images, _ in batches]}."
        )
    parameters = [each for each in model.parameters() if each.requires_grad]
    where = {id(each): index for index, each in enumerate(parameters)}
    apart = not couples(model)
    seen: list[list[Seen]] = [[] for _ in looked]
    single: list[list[Seen] | None] = [[] if apart else None for _ in looked]
    largest = [0.0] * len(looked)
    total, squares = [torch.zeros_like(each) for each in parameters], []
    with _undisturbed(model, seed):
        for images, labels in batches:
            with Examples(list(looked) if apart else [], size) as examples:
                gradients = torch.autograd.grad(
                    loss(model, images, labels),
                    parameters,
                    allow_unused=True,
                    materialize_grads=True,
                )
            squares.append(_square(gradients))
            for whole, each in zip(total, gradients, strict=True):
                whole += each
            for index, sight in enumerate(looked):
                gradient = gradients[where[id(sight.parameter)]]
                batch, each = sight.of(gradient), examples.seen(index)
                seen[index].append(batch)
                largest[index] += _norm(sight.matrix(gradient), sight.top) ** 2
                kept = single[index]
                if kept is None or each is None or not _agree(each, batch):
                    single[index] = None
                else:
                    kept.append(each)
    small = sum(squares) / len(squares)
    large = _square(total) / len(squares) ** 2
    return Look(
        [_joined(each) for each in seen],
        [None if each is None else _joined(each) for each in single],
        size,
        [(each / len(batches)) ** 0.5 for each in largest],
        _noise(small, large, size, len(batches), population),
    )


def _noise(small: float, large: float, size: int, count: int, population: int) -> Noise:
    """From mean squared norms of the gradients of batches, and that of their mean.

    Of n examples of N it is |g|² + tr S² (1/n − 1/N).
    """
    noise = (small - large) / (1 / size - 1 / (size * count))
    return Noise(large - noise * (1 / (size * count) - 1 / population), noise)


@contextmanager
def _undisturbed(model: nn.Module, seed: int) -> Iterator[None]:
    """Training mode, and randomness of a seed, inside; outside all is as before."""
    modes = {module: module.training for module in model.modules()}
    buffers = [(each, each.clone()) for each in model.buffers()]
    devices = {each.device for each in model.parameters() if each.is_cuda}
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            torch.manual_seed(seed)
            model.train()
            yield
    finally:
        for module, mode in modes.items():
            module.training = mode
        with torch.no_grad():
            for buffer, before in buffers:
                buffer.copy_(before)


def _square(gradients: Sequence[Tensor]) -> float:
    """The squared ℓ2 norm of all of them."""
    if not gradients:
        return 0.0
    return torch.stack([each.double().square().sum() for each in gradients]).sum().item()


def _norm(matrix: Tensor, around: Top, steps: int = 4) -> float:
    """The norm of a matrix (1, m, n), about: power iteration from the singular vector of another."""
    matrix = matrix[0].to(around.right)
    vector = around.right[0]
    for _ in range(steps):
        vector = matrix.mH @ (matrix @ vector)
        vector = vector / torch.linalg.vector_norm(vector).clamp_min(1e-300)
    return torch.linalg.vector_norm(matrix @ vector).item()


def _agree(examples: Seen, batch: Seen) -> bool:
    """Whether the mean of what is seen of examples is what is seen of their batch."""
    for parts, whole in ((examples.pushed, batch.pushed), (examples.pulled, batch.pulled)):
        off = (parts.mean(dim=0) - whole[0]).abs().amax()
        if off > _AGREES * parts.abs().mean(dim=0).amax():
            return False
    return True


def _joined(seen: Sequence[Seen]) -> Seen:
    pushed = torch.cat([each.pushed for each in seen])
    return Seen(pushed, torch.cat([each.pulled for each in seen]))
