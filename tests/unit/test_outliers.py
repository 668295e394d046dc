"""Pixels that are no part of the picture: what lies elsewhere is denoised as if they were not there."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from dbsn import Denoiser
from dbsn.inference.options import InferenceOptions
from dbsn.intensity import to_pixels
from dbsn.outliers import Filled, Rules, without_outliers

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def gray() -> Denoiser:
    return Denoiser.load("gray", device="cpu")


def scene(side: int = 128, seed: int = 0) -> np.ndarray:
    """A smooth picture with a disc, from 0 to 1."""
    smooth = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(side, side)), 12, mode="wrap")
    rows, columns = np.mgrid[:side, :side]
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return np.where((rows - 40) ** 2 + (columns - 90) ** 2 < 300, 0.2, smooth)


def counts(noise: float = 110, dtype: str = "uint16") -> tuple[np.ndarray, np.ndarray]:
    """A clean and a noisy picture of a camera with 16 bits, most of whose range is empty."""
    truth = 1500 + 1200 * scene()
    noisy = truth + np.random.default_rng(1).normal(0, noise, truth.shape)
    return truth, np.rint(noisy).astype(dtype)


def bead(image: np.ndarray) -> None:
    rows, columns = np.mgrid[: image.shape[0], : image.shape[1]]
    image += (60000 * np.exp(-((rows - 64) ** 2 + (columns - 64) ** 2) / 8)).astype(image.dtype)


def stamp(image: np.ndarray) -> None:
    image[2:12, 4:80:3] = 65535


def put(where: tuple[slice | int, slice | int], value: float):
    def work(image: np.ndarray) -> None:
        image[where] = value

    return work


SPOILED = {
    "a hot pixel": ("uint16", put((64, 64), 65535)),
    "a dead pixel": ("uint16", put((64, 64), 0)),
    "hot pixels": ("uint16", put((slice(3, None, 20), slice(5, None, 20)), 40000)),
    "a bright bead": ("uint16", bead),
    "a time stamp": ("uint16", stamp),
    "a huge value": ("float32", put((64, 64), 1e6)),
    "a hole of NaN": ("float32", put((slice(60, 80), slice(50, 60)), np.nan)),
    "an infinite value": ("float32", put((64, 64), -np.inf)),
    "a corner of nodata": ("float32", put((slice(0, 12), slice(0, 12)), -9999)),
}


@pytest.mark.parametrize("kind", SPOILED)
def test_what_lies_elsewhere_is_as_good_as_without(kind: str, gray: Denoiser) -> None:
    dtype, spoil = SPOILED[kind]
    truth, noisy = counts(dtype=dtype)
    spoiled = noisy.copy()
    spoil(spoiled)
    elsewhere = ~ndimage.binary_dilation(spoiled != noisy, iterations=8)
    plain, result = gray.denoise(noisy), gray.denoise(spoiled)
    before, after = (float(np.sqrt(np.mean((image - truth)[elsewhere] ** 2))) for image in (plain, result))
    assert after < 1.1 * before < 0.5 * 110


@pytest.mark.parametrize("kind", ["a hole of NaN", "an infinite value", "a corner of nodata", "a huge value"])
def test_what_is_no_part_of_the_picture_stays(kind: str, gray: Denoiser) -> None:
    dtype, spoil = SPOILED[kind]
    _, noisy = counts(dtype=dtype)
    spoiled = noisy.copy()
    spoil(spoiled)
    there = spoiled != noisy
    result, std = gray.predict(spoiled, return_std=True)
    assert np.array_equal(result[there], spoiled[there], equal_nan=True)
    assert np.isfinite(result[~there]).all()
    assert np.isfinite(std[~there]).all()
    if kind != "a huge value":
        assert np.isnan(std[there]).all(), "nothing is known of what is not there"


def test_posterior_means_do_without_them_too(gray: Denoiser) -> None:
    _, noisy = counts(dtype="float32")
    spoiled = noisy.copy()
    spoiled[20:30, 40:60] = np.nan
    there, far = np.isnan(spoiled), ~ndimage.binary_dilation(np.isnan(spoiled), iterations=12)
    plain, result = (gray.denoise(image, method="posterior") for image in (noisy, spoiled))
    assert np.isnan(result[there]).all()
    assert np.sqrt(np.mean((result - plain)[far] ** 2)) < 0.1 * 110


def test_an_unstretched_astronomical_image_is_denoised(gray: Denoiser) -> None:
    rows, columns = np.mgrid[:128, :128]
    sky = np.full((128, 128), 0.0012)
    for row, column, peak in ((30, 30, 0.5), (90, 40, 0.03), (60, 100, 0.004)):
        sky += peak * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 5)
    noisy = (sky + np.random.default_rng(0).normal(0, 0.00015, sky.shape)).astype(np.float32)
    result = gray.denoise(noisy)
    dark = sky < 0.00121
    assert (result - sky)[dark].std() < 0.3 * (noisy - sky)[dark].std()
    for row, column in ((30, 30), (90, 40), (60, 100)):
        star = np.hypot(rows - row, columns - column) < 7
        assert (result - 0.0012)[star].sum() == pytest.approx((noisy - 0.0012)[star].sum(), rel=0.03)


def salted(share: float = 0.03) -> tuple[np.ndarray, np.ndarray]:
    """A clean picture of 8 bits, and the same with salt and pepper."""
    truth = np.rint(60 + 120 * scene()).astype(np.uint8)
    draw = np.random.default_rng(2).random(truth.shape)
    return truth, np.where(draw < share / 2, 0, np.where(draw > 1 - share / 2, 255, truth)).astype(np.uint8)


def test_salt_and_pepper_is_kept_unless_it_shall_be_repaired(gray: Denoiser) -> None:
    truth, noisy = salted()
    hit = noisy != truth
    kept, repaired = gray.denoise(noisy), gray.denoise(noisy, repair_outliers=True)
    assert (kept[hit] == noisy[hit]).mean() > 0.95
    assert np.sqrt(np.mean((repaired.astype(float) - truth) ** 2)) < 4
    assert np.sqrt(np.mean((noisy.astype(float) - truth) ** 2)) > 15


def test_the_number_of_outliers_is_told_once(gray: Denoiser) -> None:
    truth, noisy = salted(0.005)
    found = list[int]()
    into, std = (np.empty((*noisy.shape, 1), np.float32) for _ in range(2))
    options = InferenceOptions(tile=48, repair_outliers=True, on_outliers=found.append)
    gray.denoise_into(into, to_pixels(noisy)[..., None], std=std, options=options)
    assert sum(found) == pytest.approx(np.count_nonzero(noisy != truth), rel=0.1)


def test_pixels_do_not_depend_on_tiles(gray: Denoiser) -> None:
    _, noisy = salted()
    whole, tiled = (gray.denoise(noisy, tile=tile) for tile in (0, 40))
    assert np.abs(whole.astype(int) - tiled).max() <= 1


@pytest.mark.parametrize("noise", [0, 5, 25])
def test_ordinary_images_have_none(noise: float) -> None:
    image = 255 * scene(256) + np.random.default_rng(0).normal(0, noise, (256, 256))
    image = np.clip(np.rint(image), 0, 255).astype(np.uint8)[..., None]
    shown, into = without_outliers(image, {"denoised": image})
    assert shown is image, "so that nothing is slower or changes"
    assert into["denoised"] is image


def test_photons_stars_and_patterns_are_no_outliers() -> None:
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:128, :128]
    stars = np.zeros((128, 128))
    for row, column in random.integers(8, 120, (30, 2)):
        stars += 100 * np.exp(-((rows - row) ** 2 + (columns - column) ** 2) / 2.5)
    images = {
        "photons": random.poisson(0.2, (128, 128)).astype(np.uint8),
        "stars": (stars + random.normal(0, 1, stars.shape)).astype(np.float32),
        "checkers": (255 * ((rows + columns) % 2)).astype(np.uint8),
        "lines": np.where(rows % 9 == 4, 255, 0).astype(np.uint8),
    }
    for name, image in images.items():
        rules = Rules.of(image[..., None], all_outliers=True)
        assert not Filled(image[..., None], rules).read(slice(0, 128))[2].any(), name


def test_an_image_without_a_finite_pixel_is_refused(gray: Denoiser) -> None:
    with pytest.raises(ValueError, match="not finite"):
        gray.denoise(np.full((16, 16), np.nan))


def test_the_command_says_what_it_kept_and_what_it_replaced(dbsn_command: Command, tmp_path: Path) -> None:
    _, noisy = salted()
    tifffile.imwrite(tmp_path / "a.tif", noisy)
    kept = dbsn_command("denoise", tmp_path / "a.tif", "-o", tmp_path / "kept")
    assert " isolated outliers (hot pixels, salt and pepper) kept; --repair-outliers replaces them" in kept.stderr
    done = dbsn_command("denoise", tmp_path / "a.tif", "-o", tmp_path / "new", "--repair-outliers")
    assert " isolated outliers (hot pixels, salt and pepper) replaced" in done.stderr
    assert np.abs(tifffile.imread(tmp_path / "new/a.tif").astype(int) - noisy).max() > 50


def test_nan_goes_through_the_command_at_any_strength(dbsn_command: Command, tmp_path: Path) -> None:
    _, noisy = counts(dtype="float32")
    noisy[40:50, 40:50], noisy[3, 3] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "a.tif", noisy)
    assert dbsn_command("denoise", tmp_path / "a.tif", "-o", tmp_path / "b.tif", "--strength", "0.5").returncode == 0
    result = tifffile.imread(tmp_path / "b.tif")
    assert np.array_equal(np.isfinite(result), np.isfinite(noisy))
    assert result[3, 3] == np.inf
