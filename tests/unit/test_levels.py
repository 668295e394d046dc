"""Where an image's noise is: what has none stays, and noise of a part of an image is removed there."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image, ImageDraw
from scipy import ndimage

from dbsn import Denoiser
from dbsn.inference.levels import with_noise_where_flat
from dbsn.inference.tiles import Tile

Array = np.ndarray


@pytest.fixture(scope="module")
def gray() -> Denoiser:
    return Denoiser.load("gray", device="cpu")


@pytest.fixture(scope="module")
def photo() -> Denoiser:
    return Denoiser.load("photo", device="cpu")


def smooth(side: int = 192, seed: int = 0) -> Array:
    """A smooth picture from 0 to 1."""
    found = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 20, mode="wrap")
    return (found - found.min()) / (found.max() - found.min())


def with_noise(image: Array, std: float | Array, seed: int = 1) -> Array:
    return np.clip(np.rint(image + std * np.random.default_rng(seed).normal(size=image.shape)), 0, 255).astype(np.uint8)


def psnr(image: Array, truth: Array) -> float:
    error = float(np.mean((image.astype(float) - truth) ** 2))
    return 99.0 if error == 0 else 10 * np.log10(255**2 / error)


def text() -> Array:
    page = Image.new("L", (200, 160), 255)
    draw = ImageDraw.Draw(page)
    for line in range(9):
        draw.text((6, 4 + 16 * line), "The quick brown fox jumps 0123", fill=0)
    return np.asarray(page)


def lines() -> Array:
    page = Image.new("L", (200, 160), 255)
    draw = ImageDraw.Draw(page)
    for angle in np.deg2rad(range(0, 180, 6)):
        x, y = 70 * np.cos(angle), 70 * np.sin(angle)
        draw.line((100 - x, 80 - y, 100 + x, 80 + y), fill=0)
    return np.asarray(page)


def checkers() -> Array:
    rows, columns = np.mgrid[:96, :96]
    return (255 * ((rows + columns) % 2)).astype(np.uint8)


CLEAN = {
    "text": text,
    "lines": lines,
    "checkers": checkers,
    "blocks": lambda: np.kron(np.random.default_rng(0).integers(0, 6, (16, 16)) * 40, np.ones((8, 8))).astype(np.uint8),
    "a gradient": lambda: np.tile(np.linspace(20, 230, 200), (160, 1)).astype(np.uint8),
    "a rendering": lambda: with_noise(60 + 120 * smooth(), 0),
    "black, 16 bits": lambda: np.zeros((96, 96), np.uint16),
    "black, float": lambda: np.zeros((96, 96), np.float32),
    "one step": lambda: np.where(np.arange(128) < 64, 1000, 1001).astype(np.uint16)[None].repeat(128, 0),
    "fur": lambda: skimage.data.chelsea()[:192, :192, 1],
    "gravel": lambda: skimage.data.gravel()[:192, :192],
}


@pytest.mark.parametrize("kind", CLEAN)
def test_what_has_no_noise_stays(kind: str, gray: Denoiser) -> None:
    image = np.ascontiguousarray(CLEAN[kind]())
    result = gray.denoise(image)
    scale = 255 / np.iinfo(image.dtype).max if image.dtype.kind == "u" else 255
    error = scale * np.sqrt(np.mean((result.astype(float) - image) ** 2))
    assert error < 255 * 10 ** (-45 / 20), f"{error:.2f} of 255"
    if image.max() == 0:
        assert result.max() == result.min() == 0, "what is black stays black"


def test_drawings_come_back_bit_for_bit_from_any_model(gray: Denoiser, photo: Denoiser) -> None:
    page = text()
    colours = np.dstack([page, 255 - page // 2, page])
    for denoiser, image in ((gray, page), (photo, colours), (Denoiser.load("jpeg-photo", device="cpu"), colours)):
        assert np.array_equal(denoiser.denoise(image), image)
    assert np.array_equal(gray.denoise(page, method="posterior"), page)
    result, std = gray.predict(page, return_std=True)
    assert np.array_equal(np.rint(255 * result), page)
    assert std.max() == 0


def test_a_level_of_zero_is_told(gray: Denoiser) -> None:
    black = np.zeros((96, 96, 1), np.float32)
    assert gray.denoise_into(np.empty_like(black), black) == 0


def test_noise_of_a_part_is_removed_there_and_the_rest_stays(photo: Denoiser) -> None:
    truth = np.repeat((120 + 60 * smooth())[..., None], 3, 2)
    rows, columns = np.mgrid[:192, :192]
    distance = np.hypot(rows - 100, columns - 90)[..., None]
    noisy = with_noise(truth, np.where(distance < 55, 12, 0))
    result = photo.denoise(noisy)
    inside, outside = (np.broadcast_to(where, truth.shape) for where in (distance < 40, distance > 75))
    assert psnr(result[inside], truth[inside]) > psnr(noisy[inside], truth[inside]) + 8
    assert psnr(result[outside], noisy[outside]) > 45


def test_a_noisy_and_a_clean_picture_side_by_side(gray: Denoiser) -> None:
    left, right = skimage.data.camera()[:192, :192].astype(float), skimage.data.coins()[:192, :192]
    both = np.hstack([with_noise(left, 30), right])
    result = gray.denoise(both)
    assert psnr(result[:, :180], left[:, :180]) > psnr(both[:, :180], left[:, :180]) + 7
    assert psnr(result[:, 204:], right[:, 12:]) > 38


@pytest.mark.parametrize("std", [0, 1])
def test_hardly_any_noise_of_a_detailed_photograph_is_left_alone(std: float, photo: Denoiser) -> None:
    truth = skimage.data.astronaut()[:192, :192].astype(float)
    noisy = with_noise(truth, std)
    assert psnr(photo.denoise(noisy), truth) > psnr(noisy, truth) - 0.05


@pytest.mark.parametrize("std", [3, 25])
def test_ordinary_noise_is_removed_as_before(std: float, gray: Denoiser) -> None:
    truth = 60 + 120 * smooth()
    noisy = with_noise(truth, std)
    assert psnr(gray.denoise(noisy), truth) > psnr(noisy, truth) + 9


def test_frames_do_not_hide_the_noise_beside_them(gray: Denoiser) -> None:
    noisy = with_noise(skimage.data.camera()[:160, :160].astype(float), 20)
    framed = np.full((240, 240), 255, np.uint8)
    framed[40:200, 40:200] = noisy
    truth = skimage.data.camera()[8:152, 8:152]
    assert psnr(gray.denoise(framed)[48:192, 48:192], truth) > psnr(gray.denoise(noisy)[8:152, 8:152], truth) - 0.4


def test_single_photons_are_noise_and_no_drawing(gray: Denoiser) -> None:
    truth = 0.02 + 0.4 * smooth()
    counts = np.random.default_rng(0).poisson(truth).astype(np.uint8)
    result = gray.predict(counts) * 255
    assert np.sqrt(np.mean((result - truth) ** 2)) < 0.5 * np.sqrt(np.mean((counts - truth) ** 2))


def test_the_map_does_not_depend_on_tiles_or_orientation(gray: Denoiser) -> None:
    truth = 120 + 60 * smooth()
    noisy = with_noise(truth, np.where(np.arange(192) < 90, 15, 0))
    whole = gray.denoise(noisy)
    assert np.abs(whole.astype(int) - gray.denoise(noisy, tile=64)).max() <= 1
    assert psnr(gray.denoise(noisy, ensemble=True)[:, :80], truth[:, :80]) > psnr(whole[:, :80], truth[:, :80]) - 0.3


def test_texture_alone_is_no_noise_at_all(gray: Denoiser) -> None:
    image = np.ascontiguousarray(skimage.data.gravel()[:192, :192])
    assert np.array_equal(gray.denoise(image), image)


def test_a_small_clean_part_of_a_noisy_image_is_left_alone(gray: Denoiser) -> None:
    image = 60 + 120 * smooth() + 12 * ndimage.gaussian_filter(np.random.default_rng(3).normal(size=(192, 192)), 1.5)
    noisy = with_noise(image, 25)
    noisy[:48, :48] = np.rint(image[:48, :48])
    result = gray.denoise(noisy)
    assert psnr(result[:32, :32], noisy[:32, :32]) > 45


def test_a_sky_that_is_cut_off_at_white_stays_white(photo: Denoiser) -> None:
    truth = 0.6 * skimage.data.coffee()[:160, :160].astype(float)
    truth[:70] = 262
    noisy = with_noise(truth, 12)
    result = photo.denoise(noisy)
    assert (noisy[6:60] == 255).mean() < 0.8
    assert (result[6:60] == 255).mean() > 0.9
    assert psnr(result[80:], truth[80:]) > psnr(noisy[80:], truth[80:]) + 3


def test_dark_lines_on_white_stay_lines_and_a_light_gray_stays_gray(gray: Denoiser) -> None:
    truth = np.full((96, 96), 255.0)
    truth[::8] = 120
    truth[:, 60:] = 246
    result = gray.denoise(with_noise(truth, 8)).astype(float)
    assert np.abs(result[16:80:8, 8:50] - 120).mean() < 8
    assert result[:, 66:90].mean() == pytest.approx(246, abs=1.5)


def test_what_is_masked_stays_and_its_border_is_as_good_as_without_the_mask(gray: Denoiser) -> None:
    truth = 60 + 120 * smooth()
    noisy = with_noise(truth, 15)
    rows, columns = np.mgrid[:192, :192] - 96
    inside = rows**2 + columns**2 < 70**2
    masked = np.where(inside, noisy, 0).astype(np.uint8)
    result, plain = gray.denoise(masked), gray.denoise(noisy)
    core = ndimage.binary_erosion(inside, iterations=4)
    assert psnr(result[core], truth[core]) > psnr(plain[core], truth[core]) - 0.6
    assert result[~ndimage.binary_dilation(inside, iterations=4)].max() <= 2


def test_noise_that_a_network_sees_in_flat_parts_depends_on_the_place_alone() -> None:
    image = torch.full((1, 1, 64, 96), 0.5)
    image[..., 40:, :] += torch.rand(1, 1, 24, 96, generator=torch.Generator().manual_seed(0))
    level = torch.full((1, 1, 8, 12), 0.1)

    def seen(rows: slice) -> torch.Tensor:
        part = Tile(read=(rows, slice(0, 96)), own=(rows, slice(0, 96)))
        return with_noise_where_flat(image[..., rows, :], level[..., : (rows.stop - rows.start) // 8, :], 8, part)

    whole, lower = seen(slice(0, 64)), seen(slice(16, 64))
    assert torch.equal(whole[..., 20:, :], lower[..., 4:, :])
    assert torch.equal(whole[..., 42:, :], image[..., 42:, :])
    added = (whole - image)[..., :38, :]
    assert float(added.std()) == pytest.approx(0.1, rel=0.05)
    assert abs(float(added.mean())) < 0.01
    assert abs(float((added[..., 1:] * added[..., :-1]).mean())) < 0.001
