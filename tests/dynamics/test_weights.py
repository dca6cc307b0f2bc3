"""Which weights are followed, as what; and the norms of batch normalizations."""

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from lipnets.dynamics import follow, gains


def model() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 2, 3, padding=1),
        nn.BatchNorm2d(2),
        parametrizations.spectral_norm(nn.Conv2d(2, 2, 3, padding=1)),
        nn.Flatten(),
        parametrizations.orthogonal(nn.Linear(32, 5)),
        nn.Linear(5, 3),
    )


def test_parameters_are_followed_by_their_role() -> None:
    net = model()
    assert [(f.name, f.role) for f in follow(net, (1, 4, 4))] == [
        *(("0", "free"), ("2", "raw"), ("4", "raw"), ("5", "free"))
    ]
    assert follow(net, (1, 4, 4))[0].parameter is net[0].weight
    assert follow(net, (1, 4, 4))[1].parameter is net[2].parametrizations.weight.original
    effective = follow(net, (1, 4, 4), effective=True)
    assert [f.role for f in effective] == ["free", "effective", "effective", "free"]
    net.eval()
    for followed in effective:
        assert torch.equal(followed.read(), net.get_submodule(followed.name).weight)


def test_following_and_reading_leave_a_model_in_training_mode_as_it_is() -> None:
    """Power iteration in training mode moves its vectors whenever the weight is read."""
    net = model().train()
    state = {key: value.clone() for key, value in net.state_dict().items()}
    for followed in follow(net, (1, 4, 4), effective=True):
        followed.read()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    assert all(module.training for module in net.modules())


def test_layers_that_are_not_reached_are_not_followed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    net.add_module("unused", nn.Identity())
    net[2].inner = nn.Linear(3, 3)
    assert [f.name for f in follow(net, (1, 2, 2))] == ["1"]


@pytest.mark.parametrize("affine", [True, False])
def test_the_gain_of_a_batch_normalization_is_its_norm_in_evaluation(affine) -> None:
    norm = nn.BatchNorm1d(4, affine=affine)
    norm.running_var.copy_(torch.rand(4) + 0.1)
    if affine:
        nn.init.normal_(norm.weight)
    [gain] = gains(nn.Sequential(norm))
    norm.eval()
    moved = norm(torch.eye(4)) - norm(torch.zeros(4, 4))
    truth = torch.linalg.matrix_norm(moved, 2).log().item()
    assert gain.log(norm.weight, norm.running_var) == pytest.approx(truth, rel=1e-12)
    assert gains(nn.BatchNorm1d(4, track_running_stats=False)) == []
