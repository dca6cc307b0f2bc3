"""A corrupted image depends on the image, its index, the seed, and on nothing else."""

import pytest
import torch

from lipnets.data.corruptions import applicable, corrupt, names

NOISES = ["gaussian_noise", "impulse_noise", "shot_noise", "speckle_noise"]


def _channels(name: str) -> list[int]:
    return [channels for channels in (1, 3) if name in applicable(channels)]


def test_corruptions_of_colour_are_for_colours() -> None:
    assert set(applicable(3)) == set(names())
    assert set(applicable(3)) - set(applicable(1)) == {"saturate"}
    with pytest.raises(ValueError, match="3 channels, got 1"):
        corrupt(torch.rand(1, 1, 4, 4), "saturate", 1, [0])


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("size", [(32, 32), (8, 8), (5, 9), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shape_dtype_and_range_are_kept(name, size, dtype) -> None:
    for channels in _channels(name):
        images = torch.rand(3, channels, *size, dtype=dtype)
        images[0], images[1] = 0, 1
        before = images.clone()
        for severity in range(1, 6):
            changed = corrupt(images, name, severity, range(3))
            assert changed.shape == images.shape
            assert changed.dtype == dtype
            assert changed.isfinite().all()
            assert changed.min() >= 0
            assert changed.max() <= 1
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", names())
def test_batches_and_their_order_do_not_matter(name) -> None:
    images = torch.rand(9, 3, 8, 7)
    indices = torch.tensor([40, 3, 17, 0, 9999, 5, 6, 8, 7])
    whole = corrupt(images, name, 3, indices)
    torch.manual_seed(99)
    # Noise is the same to the bit; sums of kernels may be rounded in another order.
    atol = 0 if name in NOISES else 1e-15
    order = torch.randperm(9)
    mixed = corrupt(images[order], name, 3, indices[order])
    assert torch.allclose(mixed, whole[order], rtol=0, atol=atol)
    for i in range(9):
        alone = corrupt(images[i : i + 1], name, 3, [int(indices[i])])
        assert torch.allclose(alone[0], whole[i], rtol=0, atol=atol)


@pytest.mark.parametrize("name", NOISES)
def test_noise_depends_on_index_seed_and_severity(name) -> None:
    images = torch.full((2, 3, 8, 8), 0.5)
    first, second = corrupt(images, name, 5, [0, 1])
    assert not torch.equal(first, second)
    assert torch.equal(first, corrupt(images, name, 5, [7, 0])[1])
    assert not torch.equal(first, corrupt(images, name, 5, [0, 1], seed=1)[0])


@pytest.mark.parametrize("name", sorted(set(names()) - set(NOISES)))
def test_other_corruptions_do_not_draw(name) -> None:
    images = torch.rand(1, 3, 8, 8)
    assert torch.equal(corrupt(images, name, 2, [0]), corrupt(images, name, 2, [5], seed=1))


def test_noise_of_another_name_or_severity_is_another() -> None:
    images = torch.full((1, 1, 8, 8), 0.5)
    draws = [
        (corrupt(images, "gaussian_noise", 2, [0]) - 0.5) / 0.06,
        (corrupt(images, "gaussian_noise", 3, [0]) - 0.5) / 0.08,
        (corrupt(images, "speckle_noise", 2, [0]) - 0.5) / 0.05,
    ]
    for i in range(3):
        assert not torch.allclose(draws[i], draws[i - 1])


def test_no_images_are_no_mistake() -> None:
    assert corrupt(torch.zeros(0, 1, 8, 8), "shot_noise", 1, []).shape == (0, 1, 8, 8)


@pytest.mark.parametrize(
    ("name", "severity", "indices", "message"),
    [
        ("gausian_noise", 1, [0], "did you mean 'gaussian_noise'"),
        ("contrast", 0, [0], "'severity' should be 1, 2, 3, 4 or 5, got 0"),
        ("contrast", 6, [0], "'severity' should be 1, 2, 3, 4 or 5, got 6"),
        ("contrast", 1, [0, 1], "'indices' shape"),
    ],
)
def test_mistakes_are_refused(name, severity, indices, message) -> None:
    with pytest.raises(ValueError, match=message):
        corrupt(torch.rand(1, 3, 8, 8), name, severity, indices)
