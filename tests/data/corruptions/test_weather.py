"""Fog, snow, frost and spatter by their laws, computed again pixel by pixel."""

import itertools

import numpy as np
import pytest
import torch
from scipy import ndimage

from lipnets.data.corruptions import CONSTANTS, corrupt
from lipnets.data.corruptions._edges import canny, distances, grown
from lipnets.data.corruptions._plasma import plasma
from lipnets.data.corruptions.spatter import _equalized
from lipnets.data.corruptions.weather import veil


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _diamond_square(side: int, decay: float, draws: list[float]) -> np.ndarray:
    """Midpoints one by one, on a torus: each is the mean of four neighbours, and noise."""
    heights = np.zeros((side, side))
    noise, step, size = iter(draws), side, 1.0
    while step >= 2:
        half = step // 2
        grid = list(itertools.product(range(0, side, step), repeat=2))
        for y, x in grid:
            corners = [
                heights[(y + i) % side, (x + j) % side] for i in (0, step) for j in (0, step)
            ]
            heights[y + half, x + half] = np.mean(corners) + size * next(noise)
        for down, right in ((0, half), (half, 0)):
            for y, x in grid:
                at = y + down, x + right
                around = [
                    heights[(at[0] + i) % side, (at[1] + j) % side]
                    for i, j in ((-half, 0), (half, 0), (0, -half), (0, half))
                ]
                heights[at] = np.mean(around) + size * next(noise)
        step, size = half, size / decay**2
    return (heights - heights.min()) / (heights.max() - heights.min())


def test_clouds_are_midpoints_displaced_in_turn() -> None:
    draws = (2 * torch.rand(8 * 8 - 1, generator=_generator()) - 1).tolist()
    clouds = plasma([_generator()], 1.75, (8, 8), torch.zeros(1))
    np.testing.assert_allclose(clouds[0].numpy(), _diamond_square(8, 1.75, draws), atol=1e-12)


def test_clouds_go_from_zero_to_one_and_are_cut_to_any_shape() -> None:
    clouds = plasma([_generator(1), _generator(2)], 2.0, (32, 32), torch.zeros(1))
    assert clouds.amin(dim=(1, 2)).tolist() == [0, 0]
    assert clouds.amax(dim=(1, 2)).tolist() == [1, 1]
    part = plasma([_generator(1), _generator(2)], 2.0, (17, 30), torch.zeros(1))
    assert torch.equal(part, clouds[:, :17, :30])


def test_fog_hides_by_its_law() -> None:
    images, clouds = torch.rand(2, 3, 8, 8), torch.rand(2, 8, 8)
    fogged = veil(images, 0.75, clouds)
    for i in range(2):
        most = images[i].max()
        expected = (images[i] + 0.75 * clouds[i]) * most / (most + 0.75)
        assert torch.allclose(fogged[i], expected)
    assert (fogged <= images.amax(dim=(1, 2, 3), keepdim=True) + 1e-12).all()


@pytest.mark.parametrize("severity", range(1, 6))
def test_fog_of_a_plain_image_goes_from_none_to_all(severity) -> None:
    weight, _ = CONSTANTS["fog"][severity - 1]
    fogged = corrupt(torch.full((3, 1, 16, 16), 0.6), "fog", severity, range(3))
    lowest, highest = 0.36 / (0.6 + weight), 0.6
    assert fogged.amin(dim=(1, 2, 3)).tolist() == pytest.approx([lowest] * 3)
    assert fogged.amax(dim=(1, 2, 3)).tolist() == pytest.approx([highest] * 3)
    assert (corrupt(torch.zeros(1, 1, 8, 8), "fog", severity, [0]) == 0).all()


@pytest.mark.parametrize("severity", range(1, 6))
def test_frost_weighs_the_image_and_the_ice(severity) -> None:
    of_image, of_ice = CONSTANTS["frost_proc"][severity - 1]
    dark = corrupt(torch.zeros(4, 1, 32, 32), "frost_proc", severity, range(4))
    assert dark.min() >= 0
    assert dark.max() <= of_ice + 1e-12
    assert dark.max() > 0.95 * of_ice  # ridges
    grey = corrupt(torch.full((4, 1, 32, 32), 0.2), "frost_proc", severity, range(4))
    assert torch.allclose(grey - dark, torch.tensor(0.2 * of_image))


@pytest.mark.parametrize("severity", range(1, 6))
def test_snow_whitens_by_its_law_where_no_flake_falls(severity) -> None:
    kept = CONSTANTS["snow"][severity - 1][6]
    images = torch.full((16, 1, 32, 32), 0.1)
    snowed = corrupt(images, "snow", severity, range(16))
    paled = kept * 0.1 + (1 - kept) * (0.1 * 1.5 + 0.5)
    assert snowed.min() >= paled - 1e-12
    assert snowed.max() > paled + 0.05
    flakes = snowed - paled  # fall on both halves, turned
    unclipped = (snowed < 1) & (snowed.flip(2, 3) < 1)
    assert torch.allclose((flakes * unclipped), (flakes.flip(2, 3) * unclipped), atol=1e-12)
    if severity < 3:
        assert (flakes < 1e-9).double().mean() > 0.1


def test_mud_hides_and_water_shines() -> None:
    white, black = torch.ones(8, 3, 32, 32), torch.zeros(8, 3, 32, 32)
    for severity in (1, 2, 3):
        wet = corrupt(black, "spatter", severity, range(8))
        assert wet.amax(dim=(2, 3))[:, 1].tolist() == pytest.approx([0.5 * 238 / 255] * 8)
        assert torch.allclose(wet[:, 0] * 238, wet[:, 1] * 175)
        assert (corrupt(white, "spatter", severity, range(8)) == 1).all()
    for severity in (4, 5):
        on_white = corrupt(white, "spatter", severity, range(8))
        on_black = corrupt(black, "spatter", severity, range(8))
        cover = 1 - (on_white - on_black)  # the share of mud
        assert torch.allclose(on_black, cover * torch.tensor([63, 42, 20])[:, None, None] / 255)
        assert ((cover < 1e-12) | (cover > 0.8 - 1e-12)).all()
        assert (cover > 0.8).double().mean() > 0.005


def test_distances_are_those_of_scipy() -> None:
    edges = torch.rand(3, 1, 9, 14) < 0.03
    edges[2] = False
    edges[:2, :, 4, 4] = True
    found = distances(edges, most=6)
    for i in range(2):
        expected = ndimage.distance_transform_edt(~edges[i, 0].numpy())
        np.testing.assert_allclose(found[i, 0].numpy(), np.minimum(expected, 6), atol=1e-12)
    assert (found[2] == 6).all()


def test_sets_grow_as_far_as_they_are_connected() -> None:
    within = torch.rand(4, 1, 12, 12) < 0.45
    seeds = torch.rand(4, 1, 12, 12) < 0.05
    found = grown(seeds, within)
    for i in range(4):
        parts, _ = ndimage.label(within[i, 0].numpy(), np.ones((3, 3)))
        touched = set(parts[(seeds & within)[i, 0].numpy()].tolist()) - {0}
        assert np.array_equal(found[i, 0].numpy(), np.isin(parts, list(touched)))


def test_the_edge_of_a_step_is_a_line() -> None:
    steps = torch.zeros(2, 1, 9, 9)
    steps[0, :, :, 5:] = 100.0
    steps[1, :, 5:] = 30.0
    edges = canny(steps, 50, 150, border="edge", absolute=True)
    assert edges[0, 0, 1:-1].sum(dim=1).tolist() == [2] * 7  # both sides of a step are as steep
    assert edges[0, 0, 1:-1, 4:6].all()
    assert not edges[1].any()  # 4 · 30 is above 50 and below 150


def test_levels_are_spread_by_rank() -> None:
    levels = torch.tensor([[3.0, 3, 7, 7], [7, 9, 9, 9]])[None, None]
    # 2 of the least; 3 of 7 and 3 of 9 above: 0, 127.5 and 255.
    assert _equalized(levels)[0, 0].tolist() == [[0, 0, 128, 128], [128, 255, 255, 255]]
    assert (_equalized(torch.full((1, 1, 2, 2), 5.0)) == 5).all()
