"""Tests of unknown images: what they keep of an image, and what they do not."""

import io
import lzma
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lipnets.data.unknown import CHANGED, SYNTHETIC, other_sets, unknown

SHAPES = [(1, 8, 8), (3, 8, 12), (1, 6, 6), (2, 3, 5), (1, 1, 2)]


def images_of(shape: tuple[int, ...], count: int = 6) -> torch.Tensor:
    return torch.rand(count, *shape, dtype=torch.float32)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", [*SYNTHETIC, *CHANGED])
def test_every_set_has_the_shape_of_images_and_does_not_depend_on_the_batch(
    name: str, shape: tuple[int, ...]
) -> None:
    images, indices = images_of(shape), torch.tensor([5, 9, 2, 7, 11, 0])
    before, state = images.clone(), torch.get_rng_state()
    found = unknown(name, images, indices)
    assert torch.equal(images, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (found.shape, found.dtype) == (images.shape, torch.float32)
    assert found.isfinite().all()
    if name != "phase_scrambled":
        assert 0 <= float(found.min()) <= float(found.max()) <= 1
    order = torch.tensor([3, 1, 0, 5, 2, 4])
    torch.testing.assert_close(unknown(name, images[order], indices[order]), found[order])


@pytest.mark.parametrize("name", [*SYNTHETIC, "phase_scrambled", "jigsaw"])
def test_another_seed_and_another_index_are_another_draw(name: str) -> None:
    images, indices = images_of((1, 8, 8), 1), torch.tensor([4])
    found = unknown(name, images, indices)
    assert not torch.equal(found, unknown(name, images, indices, seed=1))
    assert not torch.equal(found, unknown(name, images, indices + 1))


def test_another_name_is_another_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of two sets have nothing to do with each other, however alike they are made."""
    monkeypatch.setitem(SYNTHETIC, "twin", SYNTHETIC["uniform_noise"])
    images, indices = images_of((1, 8, 8), 1), torch.tensor([4])
    found = unknown("uniform_noise", images, indices)
    assert not torch.equal(found, unknown("twin", images, indices))


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 7, 10)])
def test_scrambled_phases_keep_the_amplitudes_and_the_mean(shape: tuple[int, ...]) -> None:
    images = images_of(shape)
    found = unknown("phase_scrambled", images, torch.arange(6))
    before, after = (np.abs(np.fft.fft2(each.double().numpy())) for each in (images, found))
    np.testing.assert_allclose(after, before, atol=1e-5)
    torch.testing.assert_close(found.mean(dim=(2, 3)), images.mean(dim=(2, 3)), atol=1e-6, rtol=0)
    assert not torch.allclose(found, images, atol=0.05)


def test_scrambled_phases_turn_all_channels_alike() -> None:
    """Differences of phases between channels are what tells colours apart."""
    images = images_of((3, 6, 9))
    found = unknown("phase_scrambled", images, torch.arange(6))
    before, after = (np.fft.fft2(each.double().numpy()) for each in (images, found))
    turned = after / before
    np.testing.assert_allclose(turned[:, 1:], np.repeat(turned[:, :1], 2, axis=1), atol=1e-3)


def test_a_jigsaw_moves_tiles_and_keeps_them() -> None:
    image = torch.arange(64.0).reshape(1, 1, 8, 8).float() / 64
    found = unknown("jigsaw", image, torch.tensor([0]))

    def tiles(each: torch.Tensor) -> set[tuple[float, ...]]:
        rows = each[0, 0].numpy()
        return {
            tuple(rows[2 * i : 2 * i + 2, 2 * j : 2 * j + 2].ravel())
            for i in range(4)
            for j in range(4)
        }

    assert tiles(found) == tiles(image)
    assert not torch.equal(found, image)


def test_what_does_not_fit_the_grid_stays() -> None:
    image = torch.rand(1, 3, 6, 9, dtype=torch.float32)
    found = unknown("jigsaw", image, torch.tensor([0]))
    assert torch.equal(found[:, :, 4:], image[:, :, 4:])
    assert torch.equal(found[:, :, :, 8:], image[:, :, :, 8:])
    assert torch.equal(found.flatten().sort().values, image.flatten().sort().values)


def test_inverting_and_turning_are_what_they_say() -> None:
    image = torch.rand(1, 1, 3, 3, dtype=torch.float32)
    assert torch.equal(unknown("inverted", image, torch.tensor([0])), 1 - image)
    turned = unknown("rotated", image, torch.tensor([0]))[0, 0]
    np.testing.assert_array_equal(turned.numpy(), np.rot90(image[0, 0].numpy()))
    wide = torch.rand(1, 1, 2, 3, dtype=torch.float32)
    assert torch.equal(unknown("rotated", wide, torch.tensor([0]))[0, 0], wide[0, 0].flip(0, 1))


def test_pairs_are_half_of_all_images_apart() -> None:
    images = torch.arange(4.0).reshape(4, 1, 1, 1).float()
    found = unknown("pair_average", images, torch.tensor([0, 1, 2, 3])).flatten().tolist()
    assert found == [1.0, 2.0, 1.0, 2.0]


def test_noise_has_the_moments_it_should() -> None:
    images, indices = torch.zeros(4, 1, 64, 64, dtype=torch.float32), torch.arange(4)
    uniform = unknown("uniform_noise", images, indices)
    assert float(uniform.std()) == pytest.approx(1 / 12**0.5, abs=0.01)
    coins = unknown("rademacher_noise", images, indices)
    assert set(coins.unique().tolist()) == {0.0, 1.0}
    assert float(coins.mean()) == pytest.approx(0.5, abs=0.02)
    normal = unknown("gaussian_noise", images, indices)
    inside = normal[(normal > 0.25) & (normal < 0.75)].numel() / normal.numel()
    assert inside == pytest.approx(0.6827, abs=0.02)
    blobs = unknown("blobs", images, indices)
    assert (blobs == 0).float().mean().item() == pytest.approx(0.5, abs=0.01)
    steps = (blobs[..., 1:] - blobs[..., :-1]).abs().mean()
    assert float(steps) < 0.1 * float((uniform[..., 1:] - uniform[..., :-1]).abs().mean())


def test_tiles_of_a_mosaic_are_read_row_by_row(tmp_path: Path) -> None:
    tiles = torch.randint(256, (6, 4, 4, 3), dtype=torch.uint8).numpy()
    mosaic = tiles.reshape(2, 3, 4, 4, 3).swapaxes(1, 2).reshape(8, 12, 3)
    file = io.BytesIO()
    Image.fromarray(mosaic).save(file, format="png")
    content = np.frombuffer(file.getvalue(), np.uint8)
    np.savez(
        tmp_path / "ood_tiles.npz",
        tiles_sprites=content,
        tiles_offsets=np.array([0, len(content)]),
        tiles_grid=np.array([[5, 2, 3]]),
    )
    (found,) = other_sets(str(tmp_path), "mnist", (3, 4, 4), 10)
    expected = torch.from_numpy(tiles[:5]).permute(0, 3, 1, 2) / 255
    torch.testing.assert_close(found.images, expected.float())
    assert (found.name, found.prepared) == ("tiles", "")
    assert not list(other_sets(str(tmp_path), "tiles", (3, 4, 4), 10))  # which is the known one
    assert not list(other_sets(None, "mnist", (3, 4, 4), 10))


@pytest.mark.parametrize("kept", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_archives_that_are_cut_off_are_refused_by_name(tmp_path: Path, save, kept: float) -> None:
    stored = torch.randint(256, (7, 5, 5), dtype=torch.uint8).numpy()
    compressed = np.frombuffer(lzma.compress(stored.tobytes()), np.uint8)
    path = tmp_path / "ood_other.npz"
    save(path, other_xz=compressed, other_shape=np.array(stored.shape))
    assert len(list(other_sets(str(tmp_path), "mnist", (1, 5, 5), 10))) == 1
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(ValueError, match=r"ood_other\.npz' is damaged"):
        list(other_sets(str(tmp_path), "mnist", (1, 5, 5), 10))


def test_what_is_damaged_within_an_archive_is_refused_by_name(tmp_path: Path) -> None:
    noise = np.arange(100, dtype=np.uint8)
    np.savez(tmp_path / "ood_other.npz", other_xz=noise, other_shape=np.array([7, 5, 5]))
    with pytest.raises(ValueError, match=r"ood_other\.npz' is damaged"):
        list(other_sets(str(tmp_path), "mnist", (1, 5, 5), 10))
    np.savez(tmp_path / "ood_other.npz", other_xz=noise)
    with pytest.raises(ValueError, match=r"ood_other\.npz' is damaged"):
        list(other_sets(str(tmp_path), "mnist", (1, 5, 5), 10))


def test_grey_images_are_repeated_for_colour_networks(tmp_path: Path) -> None:
    stored = torch.randint(256, (7, 5, 5), dtype=torch.uint8).numpy()
    packed = np.frombuffer(lzma.compress(stored.tobytes()), np.uint8)
    np.savez(tmp_path / "ood_grey.npz", letters_xz=packed, letters_shape=np.array([7, 5, 5]))
    (found,) = other_sets(str(tmp_path), "cifar10", (3, 5, 5), 3)
    assert found.prepared == "repeated in each channel"
    picks = torch.from_numpy(stored[[0, 2, 4]]).float() / 255
    torch.testing.assert_close(found.images, picks[:, None].expand(-1, 3, -1, -1))


@pytest.mark.parametrize(
    ("data", "left"),
    [
        ("cifar10", ["cifar100", "usps_test"]),
        ("cifar100", ["cifar10_test", "usps_test"]),
        ("mnist", ["cifar100", "cifar10_test"]),  # USPS is of digits, too
        ("", ["cifar100", "cifar10_test", "usps_test"]),
    ],
)
def test_only_the_known_set_and_other_digits_are_left_out(
    tmp_path: Path, data: str, left: list[str]
) -> None:
    packed = np.frombuffer(lzma.compress(bytes(2 * 4 * 4)), np.uint8)
    arrays = {
        f"{name}_{what}": array
        for name in ("cifar100", "cifar10_test", "usps_test")
        for what, array in (("xz", packed), ("shape", np.array([2, 4, 4])))
    }
    np.savez(tmp_path / "ood_several.npz", **arrays)  # pyright: ignore[reportArgumentType]
    assert [each.name for each in other_sets(str(tmp_path), data, (1, 4, 4), 10)] == left
