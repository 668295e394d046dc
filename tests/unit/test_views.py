"""What of a picture a denoiser sees: no hidden pixels, one of three equal channels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
from PIL import Image

from dbsn.io.formats import read_image

Command = Callable[..., Any]
COLOUR, GRAY = skimage.data.astronaut()[:192, 100:292], skimage.data.camera()[100:292, 100:292]
RANDOM = np.random.default_rng(0)


def noisy(clean: np.ndarray) -> np.ndarray:
    return (clean + np.random.default_rng(1).normal(0, 15, clean.shape)).clip(0, 255).round().astype(np.uint8)


def test_what_full_transparency_hides_does_not_reach_what_is_seen_and_stays_as_it_is(
    tmp_path: Path, dbsn_command: Command
) -> None:
    rows, columns = np.mgrid[:192, :192]
    visible = (rows - 96) ** 2 + (columns - 90) ** 2 < 70**2
    hiding = (RANDOM.integers(0, 256, COLOUR.shape), np.zeros(COLOUR.shape), np.full(COLOUR.shape, 255))
    results = []
    for number, hidden in enumerate(hiding):
        seen = np.where(visible[..., None], noisy(COLOUR), hidden).astype(np.uint8)
        Image.fromarray(np.dstack([seen, np.where(visible, 255, 0).astype(np.uint8)])).save(tmp_path / f"{number}.png")
        done = dbsn_command("denoise", tmp_path / f"{number}.png", "-o", tmp_path / "out")
        assert done.returncode == 0, done.stderr
        result = read_image(tmp_path / "out" / f"{number}.png").samples
        assert (result[~visible] == seen[~visible]).all()
        results.append(result[visible])
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert np.sqrt(((results[0] - COLOUR[visible].astype(float)) ** 2).mean()) < 7


def test_hidden_pixels_come_back_in_another_data_type(tmp_path: Path, dbsn_command: Command) -> None:
    alpha = np.full(GRAY.shape, 255, np.uint8)
    alpha[:50] = 0
    Image.fromarray(np.dstack([*np.moveaxis(noisy(COLOUR), 2, 0), alpha])).save(tmp_path / "a.png")
    for dtype, factor in (("uint16", 257), ("float32", 1)):
        out = tmp_path / f"{dtype}.tif"
        done = dbsn_command("denoise", tmp_path / "a.png", "-o", out, "--dtype", dtype)
        assert done.returncode == 0, done.stderr
        assert np.allclose(read_image(out).samples[:50], factor * noisy(COLOUR)[:50].astype(float), atol=1e-3)


@pytest.mark.parametrize(("suffix", "options"), [(".png", {}), (".jpg", {"quality": 85}), (".webp", {"quality": 85})])
def test_gray_that_is_stored_as_colours_stays_gray(
    suffix: str, options: dict[str, int], tmp_path: Path, dbsn_command: Command
) -> None:
    Image.fromarray(np.dstack([noisy(GRAY)] * 3)).save(tmp_path / f"a{suffix}", **options)
    out = tmp_path / "out.png"
    done = dbsn_command("denoise", tmp_path / f"a{suffix}", "-o", out, "--save-std")
    assert done.returncode == 0, done.stderr
    result = read_image(out).samples
    assert result.shape == (192, 192, 3)
    assert (result == result[..., :1]).all()
    std = read_image(tmp_path / "out_std.tif").samples
    assert (std == std[..., :1]).all()
    assert "gray image" in done.stderr


def test_gray_that_is_stored_as_colours_stays_gray_under_a_model_for_colours(
    tmp_path: Path, dbsn_command: Command
) -> None:
    Image.fromarray(np.dstack([noisy(GRAY)] * 3)).save(tmp_path / "a.png")
    for method in ("student", "posterior"):
        out = tmp_path / f"{method}.png"
        done = dbsn_command("denoise", tmp_path / "a.png", "-m", "photo", "--method", method, "-o", out)
        assert done.returncode == 0, done.stderr
        result = read_image(out).samples
        assert (result == result[..., :1]).all()
        assert np.sqrt(((result[..., 0] - GRAY.astype(float)) ** 2).mean()) < 9
