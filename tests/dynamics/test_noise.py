"""Gradients of single examples through a lens, against those that autograd gives one by one."""

import itertools

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, vmap

from lipnets.dynamics import follow, highest
from lipnets.dynamics.noise import Examples, Sight


def sights(model: nn.Module, shape: tuple[int, ...], norm="operator") -> list[Sight]:
    found = []
    for each in follow(model, shape, norm=norm):
        place, top = highest(each.lens, each.read())
        found.append(
            Sight(each.name, each.role, each.parameter, each.lens, place, top, each.module)
        )
    return found


def one_by_one(model: nn.Module, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
    parameters = {name: each.detach() for name, each in model.named_parameters()}

    def loss(parameters: dict[str, Tensor], image: Tensor, label: Tensor) -> Tensor:
        logits = functional_call(model, parameters, (image[None],))
        return nn.functional.cross_entropy(logits, label[None])

    return vmap(grad(loss), in_dims=(None, 0, 0))(parameters, images, labels)


def check(model: nn.Module, shape: tuple[int, ...], norm: str = "operator") -> None:
    images, labels = torch.randn(5, *shape), torch.randint(3, (5,))
    looked = sights(model, shape, norm)
    assert looked
    with Examples(looked, 5) as examples:
        nn.functional.cross_entropy(model(images), labels).backward()
    truth = one_by_one(model, images, labels)
    for index, sight in enumerate(looked):
        matrices = torch.cat([sight.matrix(g) for g in truth[f"{sight.name}.weight"]])
        matrices = matrices.to(sight.top.right)
        seen = examples.seen(index)
        assert seen is not None
        pushed = torch.einsum("umn,n->um", matrices, sight.top.right[0])
        pulled = torch.einsum("umn,m->un", matrices.conj(), sight.top.left[0])
        size = pushed.abs().max()
        assert size > 1e-6
        assert (seen.pushed - pushed).abs().max() < 1e-11 * size
        assert (seen.pulled - pulled).abs().max() < 1e-11 * pulled.abs().max()
        # What autograd gives for all of them at once is seen as their mean.
        assert sight.parameter.grad is not None
        batch = sight.of(sight.parameter.grad)
        assert (batch.pushed[0] - pushed.mean(dim=0)).abs().max() < 1e-11 * size
        assert (batch.pulled[0] - pulled.mean(dim=0)).abs().max() < 1e-11 * pulled.abs().max()
    assert not any(module._forward_hooks for module in model.modules())


def after(conv: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """A network with a convolution behind one that makes its inputs depend on the image."""
    features = conv(torch.zeros(1, *shape)).flatten(1).shape[1]
    return nn.Sequential(conv, nn.Tanh(), nn.Flatten(), nn.Linear(features, 3))


PADDINGS = [
    *(("zeros", 0), ("zeros", 1), ("zeros", "same"), ("circular", "same"), ("circular", 1)),
    ("reflect", 1),
]


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("norm", ["operator", "reshape"])
@pytest.mark.parametrize(("mode", "padding"), PADDINGS)
@pytest.mark.parametrize("size", [2, 3])
def test_convolutions_of_every_kind(size: int, mode: str, padding: int | str, norm: str) -> None:
    checked = 0
    for stride, dilation, groups in itertools.product((1, 2, 3), (1, 2), (1, 2)):
        if stride > 1 and padding == "same":
            continue
        conv = nn.Conv2d(
            *(4, 6, size), stride, padding, dilation, groups, padding_mode=mode, bias=False
        )
        check(after(conv, (4, 6, 7)), (4, 6, 7), norm)
        checked += 1
    assert checked >= 4


@pytest.mark.parametrize("norm", ["operator", "reshape"])
def test_convolutions_along_one_axis_and_with_unequal_ones(norm: str) -> None:
    check(after(nn.Conv1d(2, 3, 4, stride=3, padding=2, dilation=2), (2, 11)), (2, 11), norm)
    conv = nn.Conv2d(3, 2, (3, 2), stride=(2, 1), padding=(0, 1), dilation=(1, 3))
    check(after(conv, (3, 7, 8)), (3, 7, 8), norm)
    conv = nn.Conv3d(2, 3, (1, 2, 3), padding=(0, 1, 1), padding_mode="circular")
    check(after(conv, (2, 2, 3, 4)), (2, 2, 3, 4), norm)


class Twice(nn.Module):
    """A layer on positions, used twice, whose outputs are changed in place."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(12, 3, bias=False)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:  # (B, 3, 4)
        return self.head(self.relu(self.inner(self.inner(x).tanh())).flatten(1))


def test_linear_layers_on_positions_that_are_used_twice() -> None:
    check(Twice(), (3, 4))
    check(nn.Sequential(nn.Linear(6, 5), nn.Tanh(), nn.Linear(5, 3)), (6,))


class Folded(nn.Module):
    """Puts positions into the batch."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = nn.Linear(4, 4), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.inner(x.flatten(0, 1)).tanh().reshape(-1, 12))


def test_examples_that_cannot_be_told_apart_are_not_seen() -> None:
    model = Folded()
    looked = sights(model, (3, 4))
    with Examples(looked, 5) as examples:
        model(torch.randn(5, 3, 4)).square().mean().backward()
    assert examples.seen(0) is None
    assert examples.seen(1) is not None
