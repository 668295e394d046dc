"""A Bayer mosaic that was saved as a gray picture is known for one, and denoised as the four planes it is."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from dbsn.evaluation.metrics import psnr
from dbsn.intensity import to_pixels
from dbsn.io.formats import read_image
from dbsn.io.mosaic import PLACES, is_mosaic

Command = Callable[..., Any]
COLOUR, GRAY = skimage.data.astronaut()[:256, 100:356].astype(float), skimage.data.camera().astype(float)


def mosaic_of(red_at: tuple[int, int], gains: tuple[float, float, float] = (1, 1, 1)) -> np.ndarray:
    (row, column), seen = red_at, COLOUR * gains
    samples = seen[..., 1].copy()
    samples[row::2, column::2] = seen[row::2, column::2, 0]
    samples[1 - row :: 2, 1 - column :: 2] = seen[1 - row :: 2, 1 - column :: 2, 2]
    return samples


def noisy(clean: np.ndarray, level: float) -> np.ndarray:
    return (257 * (clean + np.random.default_rng(0).normal(0, level, clean.shape))).clip(0, 65535).astype(np.uint16)


@pytest.mark.parametrize("red_at", [(0, 0), (0, 1), (1, 0), (1, 1)])
@pytest.mark.parametrize("gains", [(1, 1, 1), (0.5, 1, 0.6)])
def test_a_mosaic_is_known_in_any_order_of_colours_white_balanced_or_not(
    red_at: tuple[int, int], gains: tuple[float, float, float]
) -> None:
    for level in (0, 10, 40):
        assert is_mosaic(noisy(mosaic_of(red_at, gains), level)[..., None])
    assert is_mosaic(noisy(mosaic_of(red_at, gains), 10)[7:157, 5:205, None])


def test_other_gray_pictures_are_no_mosaics() -> None:
    interlaced, striped = GRAY.copy(), GRAY + 8 * np.sin(np.pi * np.arange(512) / 3)[:, None]
    interlaced[1::2] = np.roll(GRAY, 9, 1)[1::2]
    columns = GRAY + 6 * (np.arange(512) % 2)
    textures = [getattr(skimage.data, name)().astype(float) for name in ("brick", "grass", "gravel", "text", "page")]
    for clean in (GRAY, interlaced, striped, columns, np.kron(GRAY[::2, ::2], np.ones((2, 2))), *textures):
        for level in (0, 15):
            assert not is_mosaic(noisy(clean, level)[..., None])
    assert not is_mosaic(noisy(COLOUR, 15))
    assert not is_mosaic(noisy(mosaic_of((0, 0)), 0)[:20, :, None]), "too small to tell"


def test_each_of_its_colours_is_denoised_and_it_stays_a_mosaic(tmp_path: Path, dbsn_command: Command) -> None:
    clean = mosaic_of((0, 0))
    seen = noisy(clean, 10)
    Image.fromarray(seen).save(tmp_path / "a.png")
    done = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / "out", "--save-std")
    assert done.returncode == 0, done.stderr
    assert "built-in model gray, because this is a mosaic with noise of" in done.stderr
    result = read_image(tmp_path / "out" / "a.png").samples[..., 0]
    assert result.dtype == np.uint16
    for place in PLACES:
        before, after = (psnr(to_pixels(each[place]), clean[place] / 255) for each in (seen, result))
        assert after > before + 3
    assert read_image(tmp_path / "out" / "a_std.tif").samples.min() > 0
