"""Light that the denoiser took away is given back: smooth corrections, only as far as the noise lets one say.

The residual, noisy minus denoised, has mean zero where the denoiser keeps the light. Its mean over a window has a known
standard error. A mean far beyond it is added to the result, from the whole plane down to windows of 16 pixels. Tested
in tests/unit/test_light.py; its figures come from benchmarks/robustness/counts.py. Networks do not belong here.
"""

import math
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from dbsn.intensity import Array, to_pixels
from dbsn.types import Canvas, Pixels

_BLOCK = 8  # pixels; the side of the cells in which sums are kept
_SUB = 4  # pixels; the variance of sums over so many pixels tells correlated noise
_SIDES = (64, 32, 16, 8, 4, 2)  # blocks; windows below the whole plane
_SIGNIFICANT = 3.5  # standard errors
_SIGNIFICANT_COUNTS = 1.0  # of few photons, whose variance is known
_FEW = 4.0  # photons a pixel; of more the networks lose nothing
_STRIP = 512  # rows, a multiple of `_BLOCK`
_IN_MEMORY = 2**26  # samples; the results of larger images wait in a temporary file
_SAMPLED = 2**20  # samples that tell the darkest and the brightest value
_TINY = 1e-20  # instead of 0 in a denominator
_PILED_UP = 10  # samples of the same lowest value
_CUT_OFF = 0.01  # share of pixels at an end of the range
_POISSON = 2.0  # variance relative to that of photon counts; more is not from counting


@dataclass(frozen=True)
class _Ends:
    """The ends of an image's range, where noise may have been cut off."""

    floor: float
    """The lowest value if many pixels have it, otherwise minus infinity."""
    ceiling: float
    """The highest value if many pixels have it, otherwise infinity."""
    step: float
    """Distance of the next values from the floor: for photon counts, one photon."""


def keeping_light(run: Callable[[Canvas], float | None], into: Canvas, image: Pixels) -> float | None:
    """Denoise an image, and give back the light that the denoiser took away.

    Args:
        run: Denoises the image into a canvas; returns the noise level.
        into: Where the result is written, (h, w, c), intensities.
        image: The noisy image (h, w, c), intensities or integers of the file's range. NaN is ignored.

    Returns:
        The noise level that `run` returns.
    """
    if isinstance(into, np.ndarray) and into.dtype == np.float32:
        level = run(into)
        _correct(into, into, image)
        return level
    with tempfile.TemporaryFile() as file:
        is_small = np.prod(image.shape) <= _IN_MEMORY
        waiting = np.empty(image.shape, np.float32) if is_small else np.memmap(file, np.float32, shape=image.shape)
        level = run(waiting)
        _correct(into, waiting, image)
        return level


def _correct(into: Canvas, denoised: Array, image: Pixels) -> None:
    """Write the corrected result; values that were not denoised stay."""
    ends = [_ends(image, channel) for channel in range(image.shape[2])]
    floor = np.array([each.floor for each in ends], np.float32)
    corrections = np.stack(_corrections(denoised, image, ends), -1)
    is_needed = bool(corrections.any() or np.isfinite(floor).any())
    for rows in _strips(image.shape[0]):
        part = denoised[rows]
        if is_needed:
            right = np.maximum(part, floor) + _enlarged(corrections, rows, image.shape[1])
            part = np.where(part == to_pixels(image[rows]), part, np.maximum(right, floor))
        into[rows, slice(0, image.shape[1])] = part


def _strips(height: int) -> list[slice]:
    return [slice(top, min(top + _STRIP, height)) for top in range(0, height, _STRIP)]


def _ends(image: Pixels, channel: int) -> _Ends:
    """Find the ends of a channel's range on some of its rows."""
    height, width = image.shape[:2]
    rows = range(0, height, max(1, height * width // _SAMPLED))
    starts = rows[:: max(1, len(rows) // 64)]
    run = max(1, len(rows) // max(1, len(starts)))
    pixels = np.concatenate([to_pixels(image[slice(at, at + run)])[..., channel].ravel() for at in starts])
    values, counts = np.unique(pixels[np.isfinite(pixels)], return_counts=True)
    if len(values) < 2:
        return _Ends(-np.inf, np.inf, 0.0)
    piled = counts[-1] >= _PILED_UP and counts[-1] > 2 * counts[-2]
    floor = float(values[0]) if counts[0] >= _PILED_UP else -np.inf
    first = np.searchsorted(counts[1:].cumsum(), 1e-3 * counts[1:].sum())
    return _Ends(floor, float(values[-1]) if piled else np.inf, float(values[1 + first] - values[0]))


def _sums(image: Array, side: int) -> Array:
    """Sums over cells of `side` x `side` pixels; the last ones may be smaller."""
    down, across = (-size % side for size in image.shape)
    if down or across:
        image = np.pad(image, ((0, down), (0, across)))
    rows, columns = (size // side for size in image.shape)
    return np.asarray(np.einsum("rick->rc", image.reshape(rows, side, columns, side)))


def _corrections(denoised: Array, image: Pixels, ends: list[_Ends]) -> list[Array]:
    """What to add in each block, for each channel (rows, columns)."""
    kept: list[list[_Sums]] = [[] for _ in ends]
    for rows in _strips(image.shape[0]):
        noisy, result = to_pixels(image[rows]), denoised[rows]
        for channel, each in enumerate(ends):
            first, second = (np.ascontiguousarray(part[..., channel]) for part in (noisy, result))
            kept[channel].append(_of_strip(first, second, each))
    return [_correction(_Sums(*map(np.concatenate, zip(*strips, strict=True)))) for strips in kept]


class _Sums(NamedTuple):
    """Sums over the pixels of each block, (rows, columns) each."""

    pixels: Array
    """Number of pixels that were denoised."""
    total: Array
    """Sum of the residual."""
    squares: Array
    """Sum of its squares."""
    together: Array
    """The same from sums of 4 x 4 pixels; more than `squares` where noise is correlated."""
    expected: Array
    """Its value if the image is in photon counts and the result is right, otherwise 0."""
    step: Array
    """Intensity of one photon."""


def _of_strip(noisy: Array, denoised: Array, ends: _Ends) -> _Sums:
    """Sums over the blocks of some rows of a channel."""
    has_floor, has_ceiling = math.isfinite(ends.floor), math.isfinite(ends.ceiling)
    residual = noisy - (np.maximum(denoised, np.float32(ends.floor)) if has_floor else denoised)
    known = np.isfinite(residual) & (denoised != noisy)  # what was not denoised is no sign of lost light
    if not known.all():
        residual = np.where(known, residual, 0)
    count = _sums(known.astype(np.float32), _BLOCK)
    fine = _sums(residual, _SUB)
    total, squares = _sums(fine, _BLOCK // _SUB), _sums(residual * residual, _BLOCK)
    together = _sums(fine * fine, _BLOCK // _SUB) / _SUB**2
    expected, step = np.zeros_like(total), np.full_like(total, ends.step)
    if has_floor or has_ceiling:
        low = np.float32(ends.floor if has_floor else 0)
        at_end = _sums(((noisy <= ends.floor) | (noisy >= ends.ceiling)).astype(np.float32), _BLOCK)
        light = _sums(np.where(known, noisy - low, 0), _BLOCK)
        cut = (at_end > _CUT_OFF * count) & (squares > _POISSON * ends.step * light)
        expected = ends.step * (light - total)
        count, total, squares, together, expected = (
            np.where(cut, 0, each) for each in (count, total, squares, together, expected)
        )
    return _Sums(count, total, squares, together, expected, step)


def _correction(sums: _Sums) -> Array:
    """What to add in each block of a channel, from coarse to fine."""
    correction = np.zeros_like(sums.total)
    if not sums.pixels.any():
        return correction
    sides = (None, *(side for side in _SIDES if side < max(correction.shape)))
    for side in sides * (2 if sums.expected.any() else 1):
        mean, error = _mean_and_error(sums, correction, side)
        correction = correction + mean * np.clip(1 - np.square(error / np.maximum(np.abs(mean), _TINY)), 0, None)
    return np.where(sums.pixels > 0, correction, 0)


def _mean_and_error(sums: _Sums, correction: Array, side: int | None) -> tuple[Array, Array]:
    """Mean of the residual in windows of `side` x `side` blocks, and how large it is by chance.

    None is the whole plane. In few photons the variance is that of photon counts, otherwise that of the residual.
    """

    def over(values: Array) -> Array:
        return values.mean(keepdims=True) if side is None else ndimage.uniform_filter(values, side, mode="constant")

    given = correction * sums.pixels
    pixels = np.maximum(over(sums.pixels), _TINY)
    centred = correction * (given - 2 * sums.total)
    observed = np.maximum(over(sums.squares + centred), over(sums.together + centred))
    variance, often = observed, np.full_like(observed, _SIGNIFICANT)
    if sums.expected.any():
        expected, step = over(sums.expected + sums.step * given), sums.step.flat[0]
        counts = (expected > observed / _POISSON) & (expected < _FEW * pixels * step * step)
        variance = np.where(counts, expected, observed)
        often = np.where(counts, np.float32(_SIGNIFICANT_COUNTS), often)
    number = pixels * (sums.pixels.size if side is None else side**2)
    return over(sums.total - given) / pixels, often * np.sqrt(np.maximum(variance, 0) / pixels / number)


def _enlarged(blocks: Array, rows: slice, width: int) -> Array:
    """Interpolate blocks (down, across, c) linearly to the pixels of some rows."""

    def along(values: Array, pixels: Array, axis: int) -> Array:
        at = np.clip((pixels + 0.5) / _BLOCK - 0.5, 0, values.shape[axis] - 1)
        low = np.minimum(at.astype(int), max(values.shape[axis] - 2, 0))
        share = (at - low).astype(np.float32).reshape([-1 if each == axis else 1 for each in range(3)])
        high = np.minimum(low + 1, values.shape[axis] - 1)
        return np.asarray(values.take(low, axis) * (1 - share) + values.take(high, axis) * share)

    return along(along(blocks, np.arange(rows.start, rows.stop), 0), np.arange(width), 1)
