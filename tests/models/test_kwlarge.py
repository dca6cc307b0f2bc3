"""KW-Large."""

import pytest
import torch
from torch import nn

import lipnets
from lipnets.models import kwlarge

TINY = {"in_chans": 2, "img_size": 4, "width": 4, "hidden": (6, 4), "num_classes": 3}


def test_parameters_are_those_of_the_description() -> None:
    with torch.device("meta"):
        model = lipnets.create_model("kwlarge")
    count = sum(parameter.numel() for parameter in model.parameters())
    kernels = 3 * 32 * 9 + 4 * 32 * 32 + 32 * 64 * 9 + 4 * 64 * 64
    dense = 64 * 8 * 8 * 512 + 512 * 512 + 512 * 10
    assert count == kernels + dense + (32 + 32 + 64 + 64 + 512 + 512 + 10)
    assert count == pytest.approx(lipnets.models.card("kwlarge").variant.parameters, rel=1e-3)


@pytest.mark.parametrize("name", ["kwlarge", "kwlarge_bcop"])
@pytest.mark.parametrize("trained", [False, True])
def test_the_backbone_is_proved_1_lipschitz(name, trained) -> None:
    model = lipnets.create_model(name, **TINY)
    if trained:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
        for _ in range(2):
            optimizer.zero_grad()
            logits = model(torch.rand(6, 2, 4, 4))
            nn.functional.cross_entropy(logits, torch.arange(6) % 3).backward()
            optimizer.step()
    else:
        for parameter in model.parameters():
            nn.init.normal_(parameter)
    plain = lipnets.export(model.eval(), (2, 4, 4)).backbone
    x = torch.rand(2, 4, 4)
    jacobian = torch.autograd.functional.jacobian(lambda x: plain(x[None])[0], x).flatten(1)
    bound = lipnets.lipschitz(plain, (2, 4, 4)).value
    assert torch.linalg.matrix_norm(jacobian, ord=2) <= bound <= 1 + 1e-6


@pytest.mark.parametrize("name", ["kwlarge", "kwlarge_bcop"])
def test_convolutions_are_circular(name) -> None:
    model = lipnets.create_model(name, **{**TINY, "img_size": 8})
    maps = model.backbone[: [type(m) for m in model.backbone].index(nn.Flatten)]
    x = torch.rand(1, 2, 8, 8)
    moved = maps(x.roll((4, -4), dims=(2, 3)))
    torch.testing.assert_close(moved, maps(x).roll((1, -1), dims=(2, 3)), rtol=0, atol=1e-9)


def test_heads_have_orthonormal_rows() -> None:
    weight = kwlarge(**TINY).head.weight
    torch.testing.assert_close(weight @ weight.mT, torch.eye(3), rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", [8, 28, (5, 9), 32, 64])
@pytest.mark.parametrize("in_chans", [1, 3])
def test_images_of_any_size_are_quartered(size, in_chans) -> None:
    with torch.device("meta"):
        model = kwlarge(in_chans=in_chans, img_size=size, width=4, hidden=())
    height, width = (size, size) if isinstance(size, int) else size
    assert model.num_features == 8 * -(-height // 4) * -(-width // 4)
    assert model(torch.empty(2, in_chans, height, width, device="meta")).shape == (2, 10)


def test_slots_take_other_layers() -> None:
    model = kwlarge(**TINY, conv="aol_conv2d", linear="qr_linear", act="householder", head="linear")
    bound = lipnets.lipschitz(lipnets.export(model.eval()).backbone, (2, 4, 4)).value
    assert bound <= 1 + 1e-6
    with pytest.raises(ValueError, match="dense layer is needed"):
        kwlarge(**TINY, linear="maxmin")
