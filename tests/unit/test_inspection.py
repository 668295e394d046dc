"""What is said of noise is true of the noise that was put on; photographs' structure is not taken for it."""

import io
from dataclasses import replace

import numpy as np
import pytest
import skimage.data
from PIL import Image
from scipy.ndimage import gaussian_filter

from dbsn.config import ModelConfig
from dbsn.intensity import OF_255, Unit, from_pixels, to_pixels
from dbsn.noise.inspection import Inspection, inspect_noise, suited
from dbsn.noise.jpeg_grid import JpegGrid

ASTRONAUT = skimage.data.astronaut().astype(np.float32) / 255
CAMERA = skimage.data.camera()[..., None].astype(np.float32) / 255
WHITE = np.random.default_rng(0).normal(size=ASTRONAUT.shape).astype(np.float32)


def inspected(clean: np.ndarray, noise: np.ndarray) -> Inspection:
    return inspect_noise([clean + noise])


@pytest.mark.parametrize("level", [10, 25, 50])
def test_independent_noise_of_one_level(level: int) -> None:
    for clean in (ASTRONAUT, CAMERA):
        found = inspected(clean, WHITE[..., : clean.shape[2]] * level / 255)
        assert found.suits
        assert found.family == "awgn"
        assert 255 * found.levels[0] == pytest.approx(level, rel=0.07)
        assert abs(found.neighbours) < 0.04


def test_noise_that_grows_with_intensity_and_its_curve() -> None:
    found = inspected(CAMERA, WHITE[..., :1] * (10 + 40 * CAMERA) / 255)
    assert found.suits
    assert found.family == "hg"
    intensity, level = found.images[0].curve[0].T
    assert np.abs(255 * level / (10 + 40 * intensity) - 1).max() < 0.15


def test_noise_that_channels_share() -> None:
    shared = (0.5**0.5 * (WHITE + WHITE[..., :1])) * 20 / 255
    found = inspected(ASTRONAUT, shared)
    assert found.suits
    assert found.family == "mg"
    correlation = np.corrcoef(shared.reshape(-1, 3).T)
    assert np.abs(found.channel_correlation - correlation).max() < 0.07
    assert inspected(ASTRONAUT, shared * (0.3 + ASTRONAUT)).family == "any"


@pytest.mark.parametrize("across", [(1.0, 1.0, 0), (0.0, 1.0, 0)])
def test_noise_that_neighbours_share_does_not_suit(across: tuple[float, float, int]) -> None:
    noise = gaussian_filter(WHITE, across)
    found = inspected(ASTRONAUT, noise / noise.std() * 20 / 255)
    assert not found.suits
    assert found.reach in (2, 3)
    assert 0.55 < found.neighbours < np.exp(-1 / 4)  # of a Gaussian filter; a plane of 8 x 8 pixels takes some of it
    assert f"correlated over about {found.reach} pixels" in found.verdict
    assert f"--stride {2 * found.reach + 1}" in found.verdict


@pytest.mark.parametrize("quality", [75, 90, 95])
def test_jpeg_is_seen(quality: int) -> None:
    noisy = from_pixels((ASTRONAUT + WHITE * 15 / 255).clip(0, 1), np.dtype(np.uint8))
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, "jpeg", quality=quality)
    assert inspect_noise([noisy]).suits
    found = inspect_noise([np.asarray(Image.open(file))])
    assert not found.suits
    assert "JPEG" in found.verdict
    assert found.stride == (5 if quality == 75 else 1)
    assert ("keeps a part of it. Try --stride 5" in found.verdict) == (quality > 75)


@pytest.mark.parametrize("corner", [(0, 0), (3, 5), (7, 2)])
def test_the_blocks_of_jpeg_are_found_in_any_crop_with_their_step(corner: tuple[int, int]) -> None:
    noisy = from_pixels((ASTRONAUT + WHITE * 4 / 255).clip(0, 1), np.dtype(np.uint8))
    for quality, step in ((75, 6), (60, 10), (95, 0)):
        file = io.BytesIO()
        Image.fromarray(noisy).save(file, "jpeg", quality=quality)
        crop = np.asarray(Image.open(file))[corner[0] : corner[0] + 200, corner[1] : corner[1] + 230]
        grid = JpegGrid.of(to_pixels(crop))
        assert grid.is_there
        assert grid.corner == (-corner[0] % 8, -corner[1] % 8)
        assert abs(grid.step - step) <= 1
    assert not JpegGrid.of(to_pixels(noisy[:200, :200])).is_there
    assert not JpegGrid.of(CAMERA[:200, :200]).is_there


def test_texture_of_photographs_with_hardly_any_noise_asks_for_no_stride() -> None:
    noise = WHITE * 0.5 / 255
    for clean in (ASTRONAUT, ASTRONAUT[:161:2, 100:291:2], CAMERA[::4, ::4]):
        assert inspect_noise([clean + noise[: clean.shape[0], : clean.shape[1], : clean.shape[2]]]).stride == 1


def test_what_is_left_open_follows_from_what_is_found() -> None:
    independent = inspected(CAMERA, WHITE[..., :1] * 20 / 255)
    blurred = inspected(CAMERA, gaussian_filter(WHITE[..., :1], (1, 1, 0)) * 40 / 255)
    asked = ModelConfig(channels=1)
    open_ = {"noise": "auto", "stride": "auto"}
    assert suited(asked, independent, **open_) == replace(asked, noise="awgn")
    found = suited(asked, blurred, **open_)
    assert (found.stride, found.denoising_stride) == (2 * blurred.reach + 1, blurred.reach)
    assert suited(asked, blurred, noise="hg", stride=1) == replace(asked, noise="hg")
    assert suited(asked, None, **open_) == asked, "nothing is known"


def test_figures_of_a_folder_are_those_of_most_images() -> None:
    blurred = gaussian_filter(WHITE[..., :1], (1, 1, 0))
    independent = [CAMERA + WHITE[..., k : k + 1] * level / 255 for k, level in ((0, 10), (1, 30))]
    found = inspect_noise(
        [*independent, CAMERA + blurred / blurred.std() * 20 / 255, np.zeros((20, 20, 1), np.float32)]
    )
    assert len(found.images) == 3, "not the small one"
    assert found.suits
    assert 255 * min(found.levels) == pytest.approx(10, rel=0.1)
    assert 255 * max(found.levels) == pytest.approx(30, rel=0.1)


def test_what_is_cut_off_is_left_out() -> None:
    noisy = (0.2 + ASTRONAUT + WHITE * 20 / 255).clip(0, 1)
    found = inspect_noise([from_pixels(noisy, np.dtype(np.uint8))])
    assert found.recording.white == 1
    assert 255 * found.levels[0] == pytest.approx(20, rel=0.1)
    assert "white cut off at 255 of 255" in found.verdict


def test_the_verdict_speaks_the_files_own_numbers() -> None:
    flat = np.full_like(WHITE, 0.5) + WHITE / 1000
    said = {scale: inspect_noise([scale * flat]).verdict for scale in (1, 4000)}
    assert said[1].startswith("noise of 0.3 of 255,")
    assert said[4000].startswith("noise of 4.0, ")
    of_16_bits = inspect_noise([from_pixels(flat, np.dtype(np.uint16))]).verdict
    assert of_16_bits.startswith("noise of 65.")
    assert "of 65535, " in of_16_bits
    loud = inspect_noise([from_pixels(0.5 + 0.03 * WHITE, np.dtype(np.uint16))])
    assert loud.verdict.startswith("noise of 19")
    assert loud.verdict.split()[2].isdigit(), "no power of ten"
    assert "steps of 1 of 65535" in of_16_bits


@pytest.mark.parametrize("shift", [(0, 2), (1, 1), (1, -1), (3, 0)])
def test_noise_that_is_shared_with_any_near_pixel_does_not_suit(shift: tuple[int, int]) -> None:
    noise = WHITE[..., :1] + np.roll(WHITE[..., :1], shift, (0, 1))
    found = inspected(CAMERA, noise * 20 / 255)
    assert not found.suits
    assert found.reach == max(map(abs, shift)) + 1


def test_margins_and_thin_images_are_no_noise() -> None:
    noisy = from_pixels((CAMERA + WHITE[..., :1] * 20 / 255).clip(0, 1), np.dtype(np.uint8))
    noisy[:64] = 101
    found = inspect_noise([noisy, noisy[:6], noisy[:10], noisy[:, :12]])
    assert len(found.images) == 1
    assert found.suits
    assert 255 * found.levels[0] == pytest.approx(20, rel=0.1)


def test_nothing_to_see_is_said() -> None:
    with pytest.raises(ValueError, match="at least 64 x 64"):
        inspect_noise([np.zeros((40, 40, 1), np.float32)])
    drawing = np.full((375, 500, 1), 255, np.uint8)
    drawing[20::40, 20:-20] = 0
    for image in (np.full((300, 300, 1), 101, np.uint8), drawing):
        with pytest.raises(ValueError, match=r"no noise can be measured\. They are constant, or drawings"):
            inspect_noise([image])


def test_a_ramp_without_noise_has_a_level_that_is_a_number() -> None:
    found = inspect_noise([np.tile(np.arange(256, dtype=np.uint16) * 16, (256, 1))[..., None]])
    assert 0 <= 65535 * found.levels[0] < 0.1
    assert "nan" not in found.verdict


def test_floats_of_a_small_unit_are_told_in_their_own_numbers() -> None:
    image = ((CAMERA + WHITE[..., :1] * 20 / 255) * 1e-6).astype(np.float32)
    found = inspect_noise([image])
    assert "e-08" in found.verdict
    assert "of 255" not in found.verdict
    assert Unit.of_samples(np.full((2, 2), 0.3, np.float32)) == OF_255
    assert Unit.of_samples(np.array([0.3, np.inf, np.nan], np.float32)) == OF_255
