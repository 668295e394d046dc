"""Photon counts keep their light: what the denoiser takes away is given back, as far as the noise lets one say.

Networks that learned from other noise take the few photons of a dark image for noise around a lower intensity. The
residual, noisy minus denoised, has mean zero where the light is kept. Its mean over a window has a known standard
error, and what lies beyond is added to the result: of the whole plane first, of windows of 16 pixels last. Images that
are not in photon counts stay as they are. Tested in tests/unit/test_light.py. Networks do not belong here.
"""

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dbsn.intensity import Array, to_pixels
from dbsn.types import Canvas, Pixels

_BLOCK = 8  # pixels; the side of the cells in which sums are kept
_SUB = 4  # pixels; the variance of sums over so many pixels tells correlated noise
_SIDES = (64, 32, 16, 8, 4, 2)  # blocks; windows below the whole plane
_SWEEPS = 2  # from the whole plane to the smallest windows
_SIGNIFICANT = 3.5  # standard errors, where structure or outliers are in the residual
_SIGNIFICANT_COUNTS = 1.0  # where its variance is that of few photons
_FEW = 4.0  # photons a pixel; of more the networks lose little
_POISSON = 2.0  # variance relative to that of photon counts; more is not from counting
_STRIP = 512  # rows, a multiple of `_BLOCK`
_IN_MEMORY = 2**26  # samples; the results of larger images wait in a temporary file
_TINY = 1e-20  # instead of 0 in a denominator

_SAMPLED_ROWS, _SAMPLED_STRIPS = 64, 16
_ROUNDED = 10  # mean intensity, samples; in darker images rounding changes more than 5 %
_PILED_UP = 10  # pixels with the same lowest value
_PHOTONS = 25  # in a window that tells whether the variance is that of photons
_QUANTILES = (0.05, 0.3)
_FLAT = 1.3  # ratio of these quantiles of variance to intensity; larger where noise does not follow intensity
_GAINS = (0.6, 1.5)  # intensity of a photon, of the smallest step


@dataclass(frozen=True)
class _Counts:
    """A channel in photon counts."""

    floor: float
    """Intensity of no photon."""
    photon: float
    """Intensity of one photon; 0 if all pixels are alike."""
    ceiling: float
    """Intensity at which many pixels are cut off, or infinity."""


def keeping_light(run: Callable[[Canvas], float | None], into: Canvas, image: Pixels) -> float | None:
    """Denoise an image; if it is in photon counts, give back the light that the denoiser took away.

    Args:
        run: Denoises the image into a canvas; returns the noise level.
        into: Where the result is written, (h, w, c), intensities.
        image: The noisy image (h, w, c), intensities or integers of the file's range. NaN is ignored.

    Returns:
        The noise level that `run` returns.
    """
    counts = _photon_counts(image)
    if counts is None:
        return run(into)
    with tempfile.TemporaryFile() as file:
        is_small = math.prod(image.shape) <= _IN_MEMORY
        denoised = np.empty(image.shape, np.float32) if is_small else np.memmap(file, np.float32, shape=image.shape)
        level = run(denoised)
        _correct(into, denoised, image, counts)
        return level


def needs_fractions(image: Pixels, sample: float) -> bool:
    """Whether an image is in photon counts so few that integers cannot hold its denoised result.

    Args:
        image: As of `keeping_light`.
        sample: Intensity of a step of 1 in the integers that are written.
    """
    counts = _photon_counts(image)
    if counts is None:
        return False
    light = _sampled(image) - np.array([each.floor for each in counts], np.float32)
    return float(np.nanmean(light)) < _ROUNDED * sample


def _sampled(image: Pixels) -> Array:
    """Some rows of an image, intensities."""
    height = image.shape[0]
    starts = range(0, height, max(_SAMPLED_ROWS, height // _SAMPLED_STRIPS))
    return np.concatenate([to_pixels(image[slice(at, at + _SAMPLED_ROWS)]) for at in starts])


def _photon_counts(image: Pixels) -> list[_Counts] | None:
    """The channels of an image in photon counts; None for another image, or if one of its channels is none.

    The lowest value is frequent, the next ones follow in steps, and the variance is everywhere the step times the
    intensity.
    """
    counts = []
    for channel in np.moveaxis(_sampled(image), 2, 0):
        known = np.isfinite(channel)
        values, often = np.unique(channel[known], return_counts=True)
        if len(values) < 2:
            counts.append(_Counts(float(values[0]) if len(values) else 0.0, 0.0, math.inf))
            continue
        first = np.searchsorted(often[1:].cumsum(), 1e-3 * often[1:].sum())
        step = float(values[1 + first] - values[0])
        gain = _gain(np.where(known, channel - values[0], 0) / step) if often[0] >= _PILED_UP else 0.0
        if not _GAINS[0] < gain < _GAINS[1]:
            return None
        is_cut = len(values) > 2 and often[-1] >= max(_PILED_UP, 2 * often[-2])
        counts.append(_Counts(float(values[0]), gain * step, float(values[-1]) if is_cut else math.inf))
    return counts if any(each.photon for each in counts) else None


def _gain(light: Array) -> float:
    """Variance of counts (rows, columns) relative to their mean; 0 if it differs from place to place, or is unknown."""
    if light.shape[1] < 3 or not light.any():
        return 0.0
    detail = np.square(np.diff(light, axis=1, append=light[:, -2:-1])) / 2
    side = max(2, math.ceil(math.sqrt(_PHOTONS / light.mean()) / _BLOCK))
    variance, mean = (_windows(_sums(each, _BLOCK), side) for each in (detail, light))
    has_photons = mean * side**2 >= _PHOTONS / 2
    if not has_photons.any():
        return 0.0
    low, usual = np.quantile(variance[has_photons] / mean[has_photons], _QUANTILES).tolist()
    return usual if usual < _FLAT * low else 0.0


def _correct(into: Canvas, denoised: Array, image: Pixels, counts: list[_Counts]) -> None:
    """Write the corrected result; values that were not denoised stay."""
    floor = np.array([each.floor if each.photon else -math.inf for each in counts], np.float32)
    corrections = np.stack(_corrections(denoised, image, counts), -1)
    for rows in _strips(image.shape[0]):
        part = denoised[rows]
        right = np.maximum(np.maximum(part, floor) + _enlarged(corrections, rows, image.shape[1]), floor)
        into[rows, slice(0, image.shape[1])] = np.where(part == to_pixels(image[rows]), part, right)


def _corrections(denoised: Array, image: Pixels, counts: list[_Counts]) -> list[Array]:
    """What to add in each block, for each channel (rows, columns)."""
    kept: list[list[_Sums]] = [[] for _ in counts]
    for rows in _strips(image.shape[0]):
        noisy, result = to_pixels(image[rows]), denoised[rows]
        for channel, each in enumerate(counts):
            kept[channel].append(_of_strip(noisy[..., channel], result[..., channel], each))
    joined = (_Sums(*map(np.concatenate, zip(*strips, strict=True))) for strips in kept)
    return [_correction(sums, each.photon) for sums, each in zip(joined, counts, strict=True)]


class _Sums(NamedTuple):
    """Sums over the pixels of each block, (rows, columns) each."""

    pixels: Array
    """Number of pixels that were denoised."""
    total: Array
    """Sum of the residual."""
    squares: Array
    """Sum of its squares."""
    together: Array
    """The same from sums of 4 x 4 pixels; more than `squares` where the residual is correlated."""
    expected: Array
    """The sum of squares if the result is right."""


def _of_strip(noisy: Array, denoised: Array, counts: _Counts) -> _Sums:
    """Sums over the blocks of some rows of a channel."""
    result = np.maximum(denoised, np.float32(counts.floor))
    known = np.isfinite(noisy) & (denoised != noisy) & (noisy < counts.ceiling)
    residual = np.where(known, noisy - result, 0)
    fine = _sums(residual, _SUB)
    return _Sums(
        pixels=_sums(known.astype(np.float32), _BLOCK),
        total=_sums(fine, _BLOCK // _SUB),
        squares=_sums(np.square(residual), _BLOCK),
        together=_sums(np.square(fine), _BLOCK // _SUB) / _SUB**2,
        expected=counts.photon * _sums(np.where(known, result - np.float32(counts.floor), 0), _BLOCK),
    )


def _correction(sums: _Sums, photon: float) -> Array:
    """What to add in each block of a channel, from coarse to fine."""
    correction = np.zeros_like(sums.total)
    if not photon:
        return correction
    for side in (None, *(side for side in _SIDES if side < max(correction.shape))) * _SWEEPS:
        mean, error = _mean_and_error(sums, correction, photon, side)
        correction = correction + mean * np.clip(1 - np.square(error / np.maximum(np.abs(mean), _TINY)), 0, None)
    return np.where(sums.pixels > 0, correction, 0)


def _mean_and_error(sums: _Sums, correction: Array, photon: float, side: int | None) -> tuple[Array, Array]:
    """Mean of the residual in windows of `side` x `side` blocks, and how large it is by chance.

    None is the whole plane. The variance is that of photon counts, unless that of the residual is far larger.
    """
    given = correction * sums.pixels
    centred = correction * (given - 2 * sums.total)
    pixels = np.maximum(_windows(sums.pixels, side), _TINY)
    observed = np.maximum(_windows(sums.squares + centred, side), _windows(sums.together + centred, side))
    expected = _windows(sums.expected + photon * given, side)
    is_counting = (expected > observed / _POISSON) & (expected < _FEW * pixels * photon**2)
    variance = np.where(is_counting, expected, np.maximum(observed, 0)) / pixels
    number = pixels * (sums.pixels.size if side is None else side**2)
    error = np.where(is_counting, _SIGNIFICANT_COUNTS, _SIGNIFICANT) * np.sqrt(variance / number)
    return _windows(sums.total - given, side) / pixels, error


def _windows(values: Array, side: int | None) -> Array:
    """Means over windows of `side` x `side` blocks, zero outside; None is the whole plane."""
    if side is None:
        return np.asarray(values.mean(keepdims=True))
    return np.asarray(ndimage.uniform_filter(values, side, mode="constant"))


def _sums(image: Array, side: int) -> Array:
    """Sums over cells of `side` x `side` pixels; the last ones may be smaller."""
    down, across = (-size % side for size in image.shape)
    if down or across:
        image = np.pad(image, ((0, down), (0, across)))
    rows, columns = (size // side for size in image.shape)
    return np.asarray(np.einsum("rick->rc", image.reshape(rows, side, columns, side)))


def _strips(height: int) -> Iterator[slice]:
    return (slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP))


def _enlarged(blocks: Array, rows: slice, width: int) -> Array:
    """Interpolate blocks (down, across, c) linearly to the pixels of some rows."""

    def along(values: Array, pixels: Array, axis: int) -> Array:
        at = np.clip((pixels + 0.5) / _BLOCK - 0.5, 0, values.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        return np.asarray(values.take(low, axis) * (1 - share) + values.take(high, axis) * share, np.float32)

    return along(along(blocks, np.arange(rows.start, rows.stop), 0), np.arange(width), 1)
