"""Photon counts keep their light; other images are not touched."""

import contextlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy import ndimage

from dbsn import Denoiser
from dbsn.cli import main
from dbsn.inference.light import keeping_light, needs_fractions
from dbsn.types import Canvas


def a_rate(mean: float, *, sparse: bool, seed: int = 0) -> np.ndarray:
    """Photons expected in each pixel of a smooth picture, or of spots on a dark ground."""
    draw = np.random.default_rng(seed)
    if sparse:
        rate = np.full((256, 256), 0.1)
        rate[tuple(draw.integers(0, 256, (2, 60)))] += 120
        rate = ndimage.gaussian_filter(rate, 1.5)
    else:
        field = ndimage.gaussian_filter(draw.normal(size=(256, 256)), 14)
        rate = 0.15 + (field - field.min()) / np.ptp(field)
    return rate * mean / rate.mean()


def a_dark_denoiser(result: float) -> Callable[[Canvas], float]:
    """A denoiser that gives the same intensity everywhere."""

    def run(into: Canvas) -> float:
        into[:] = np.full((256, 256, 1), result, np.float32)
        return 0.5

    return run


@pytest.mark.parametrize("method", ["student", "posterior"])
@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("mean", [0.2, 1.0])
def test_few_photons_keep_their_light(mean: float, sparse: bool, method: str) -> None:
    rate = a_rate(mean, sparse=sparse)
    counts = np.random.default_rng(1).poisson(rate).astype(np.uint8)
    result = 255 * Denoiser.load("gray").predict(counts, method=method)  # type: ignore[call-overload]
    dark = rate <= np.median(rate)
    assert result.mean() == pytest.approx(counts.mean(), rel=0.02)
    assert result[dark].mean() == pytest.approx(counts[dark].mean(), rel=0.05)
    assert result.min() > -1e-3


@pytest.mark.parametrize(("gain", "offset"), [(1, 0), (7, 50), (2.3, 0)])
def test_light_that_was_lost_is_given_back_in_any_unit(gain: float, offset: float) -> None:
    rate = a_rate(0.5, sparse=False)
    noisy = np.rint(gain * np.random.default_rng(2).poisson(rate) + offset).astype(np.float32)[..., None]
    result = np.empty_like(noisy)
    assert keeping_light(a_dark_denoiser(offset - 1), result, noisy) == 0.5
    light, kept = (np.mean((each - offset).reshape(8, 32, 8, 32), (1, 3)) for each in (noisy, result))
    assert np.abs(kept / light - 1).mean() < 0.05, "regions of 32 x 32 pixels"
    assert result.min() >= offset


def test_a_right_result_is_left_alone() -> None:
    rate = a_rate(2, sparse=False).astype(np.float32)[..., None]
    result, worst = np.empty_like(rate), 0.0

    def run(into: Canvas) -> None:
        into[:] = rate

    for seed in range(3):
        keeping_light(run, result, np.random.default_rng(seed).poisson(rate).astype(np.float32))
        worst = max(worst, float(np.sqrt(np.mean((result - rate) ** 2)) / rate.mean()))
    assert worst < 0.05, "the noise is 0.71"


@pytest.mark.parametrize(("low", "high", "noise"), [(10, 200, 12), (60, 60, 20)])
def test_noise_that_does_not_follow_intensity_is_not_from_photons(low: float, high: float, noise: float) -> None:
    level = np.linspace(low, high, 256)[None] * np.ones((256, 1))
    level[:, :40] = 0  # black, cut off
    noisy = np.clip(np.rint(level + np.random.default_rng(7).normal(0, noise, level.shape)), 0, 255)
    result = np.empty((256, 256, 1), np.float32)
    keeping_light(a_dark_denoiser(-7.0), result, noisy.astype(np.uint8)[..., None])
    assert (result == -7).all()


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_pictures_that_are_no_counts_are_not_touched(dtype: type) -> None:
    draw = np.random.default_rng(3)
    picture = 60 * a_rate(1, sparse=False) - 30 + draw.normal(0, 15, (256, 256))
    noisy = np.clip(np.rint(picture), 0, 255).astype(dtype)[..., None]
    result = np.empty(noisy.shape, np.float32)
    keeping_light(a_dark_denoiser(-7.0), result, noisy)
    assert (result == -7).all()


def test_what_was_not_denoised_stays() -> None:
    noisy = np.random.default_rng(4).poisson(a_rate(0.5, sparse=False)).astype(np.float32)[..., None]
    noisy[:9, :9], noisy[100, 100] = np.nan, 5000
    result = np.empty_like(noisy)

    def run(into: Canvas) -> None:
        part = np.full(noisy.shape, -0.5, np.float32)
        part[:9, :9], part[100, 100] = np.nan, 5000
        into[:] = part

    keeping_light(run, result, noisy)
    assert np.isnan(result[:9, :9]).all()
    assert result[100, 100] == 5000
    near = result[90:110, 90:110].copy()
    near[10, 10] = np.nan
    assert np.nanmean(near) == pytest.approx(np.nanmean(noisy[80:120, 80:120].clip(max=9)), abs=0.15)
    assert np.nanmax(near) < 1.5, "the hot pixel does not leak"


def test_a_part_that_was_not_denoised_says_nothing_about_the_rest() -> None:
    noisy = np.random.default_rng(8).poisson(a_rate(0.5, sparse=False)).astype(np.float32)[..., None]
    result = np.empty_like(noisy)

    def run(into: Canvas) -> None:
        into[:] = np.concatenate([noisy[:200], noisy[200:] * 0 - 1])

    keeping_light(run, result, noisy)
    assert (result[:200] == noisy[:200]).all()
    assert result[208:].mean() == pytest.approx(noisy[208:].mean(), rel=0.02)


def test_large_images_wait_in_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    noisy = np.random.default_rng(5).poisson(a_rate(0.5, sparse=False)).astype(np.float32)[..., None]
    in_memory, in_file = np.empty_like(noisy), np.empty_like(noisy)
    keeping_light(a_dark_denoiser(-1), in_memory, noisy)
    monkeypatch.setattr("dbsn.inference.light._IN_MEMORY", 1)
    monkeypatch.setattr("dbsn.inference.light._STRIP", 64)
    keeping_light(a_dark_denoiser(-1), in_file, noisy)
    np.testing.assert_allclose(in_file, in_memory, atol=1e-5)


def test_few_photons_need_fractions() -> None:
    draw = np.random.default_rng(6)
    few, many = (draw.poisson(a_rate(mean, sparse=False)).astype(np.uint16)[..., None] for mean in (0.5, 100))
    assert needs_fractions(few, 1 / 65535)
    assert not needs_fractions(100 * few, 1 / 65535), "a hundred steps a photon"
    assert not needs_fractions(many, 1 / 65535)


def test_denoise_names_the_option_where_integers_are_too_coarse(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tifffile.imwrite(tmp_path / "few.tif", np.random.default_rng(9).poisson(0.4, (64, 64)).astype(np.uint16))
    for dtype, is_told in (("input", True), ("float32", False)):
        arguments = ["denoise", tmp_path / "few.tif", "-o", tmp_path / dtype, "-m", "gray", "--dtype", dtype]
        monkeypatch.setattr("sys.argv", ["dbsn", *map(str, arguments)])
        with contextlib.suppress(SystemExit):
            main()
        assert ("too coarse for so few photons a pixel, so add --dtype float32." in capsys.readouterr().err) is is_told
        assert list((tmp_path / dtype).rglob("few.tif")), "it was written"
