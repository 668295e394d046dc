"""Intensities: their unit, their range, and the samples of files that they are made from and become again.

Integers are divided by their kind's largest value; floats are taken as they are. Tested in tests/unit/test_images.py,
tests/unit/test_patches.py and tests/unit/test_learned.py. Not here: files, tensors. This module must not
import torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbsn.errors import ImageError

Array = NDArray[Any]
CONVERTED_AT_ONCE = 2**22  # samples, so that a large picture is not in memory once more as floats
COUNTS_FROM = 2.0  # floats beyond are counts, no share of a usual range


@dataclass(frozen=True)
class Unit:
    """The numbers a person knows intensities by: of 255, as usual; of 16 bits their own; counts as they are."""

    one: float = 255.0
    """What intensity 1 is."""
    of: str = " of 255"
    """What stands behind a number, or behind an axis's name."""

    @staticmethod
    def of_samples(*images: Array) -> "Unit":
        """That of images' samples; of several kinds, the usual one."""
        if len({samples.dtype for samples in images}) > 1:
            return Unit()
        kind = images[0].dtype
        if kind.kind in "iu" and kind.itemsize > 1:
            most = int(np.iinfo(kind).max)
            return Unit(float(most), f" of {most}")
        if kind.kind == "f" and any(samples.size and np.abs(samples).max() > COUNTS_FROM for samples in images):
            return Unit(1.0, "")
        return Unit()

    def number(self, intensity: float, digits: int = 3) -> str:
        """An intensity or a noise level as a number: one decimal or, where that says too little or too much, so many
        digits, all of those before the point.
        """
        value = self.one * intensity
        if digits == 3 and (1 <= abs(value) < 100 or self.one == 255):
            return f"{value:.1f}"
        return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


OF_255 = Unit()


def by_unit(images: Iterable[Array]) -> dict[Unit, list[Array]]:
    """Images' samples, those of one unit together."""
    kinds: dict[Unit, list[Array]] = {}
    for samples in images:
        kinds.setdefault(Unit.of_samples(samples), []).append(samples)
    return kinds


def to_pixels(array: Array) -> NDArray[np.float32]:
    """Convert samples of any integer or float kind to the numbers the denoiser sees.

    Args:
        array: Any shape. Integers, signed or not, are divided by their dtype's maximum; floats are kept.

    Returns:
        float32, same shape; a new array.

    Raises:
        ImageError: if the samples are neither, such as bool or complex.
    """
    if np.issubdtype(array.dtype, np.integer):
        return np.asarray(np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32))
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    raise ImageError(f"{array.dtype} samples are not supported; convert them to integers or floats first")


def from_pixels(pixels: Array, dtype: np.dtype[Any]) -> Array:
    """Convert the denoiser's numbers to samples of an integer or float kind: `to_pixels` undone.

    Args:
        pixels: Float, any shape; nominally in [0, 1], values outside are clipped to what `dtype` holds.
        dtype: Integers are multiplied by their maximum and rounded to the nearest; floats are kept.

    Returns:
        Array of `dtype`, same shape.

    Raises:
        ValueError: if any value is NaN or infinite.
    """
    flat, samples = pixels.reshape(-1), np.empty(pixels.size, dtype)
    parts = [slice(start, start + CONVERTED_AT_ONCE) for start in range(0, flat.size, CONVERTED_AT_ONCE)]
    if bad := sum(np.count_nonzero(~np.isfinite(flat[part])) for part in parts):
        raise ValueError(f"{bad} of {pixels.size} values are NaN or infinite, which no picture can show")
    for part in parts:
        samples[part] = _samples(flat[part], dtype)
    return samples.reshape(pixels.shape)


def _samples(pixels: Array, dtype: np.dtype[Any]) -> Array:
    if np.issubdtype(dtype, np.floating):
        return np.clip(pixels, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
    limits = np.iinfo(dtype)
    # float32 is exact enough for 16 bits and half the memory; 64 bits lack a float64 equal to their maximum
    work = np.dtype(np.float32 if limits.bits <= 16 else np.float64)
    largest = float(limits.max) if limits.bits < 64 else float(np.nextafter(float(limits.max), 0))
    with np.errstate(over="ignore"):
        samples = np.asarray(np.multiply(pixels, work.type(limits.max), dtype=work))
    np.rint(samples, out=samples)
    return np.clip(samples, limits.min, largest, out=samples).astype(dtype)


_RANGE_SAMPLES = 4_000_000


def intensity_range(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Middle and half-width of the intensities that occur, but for the outermost thousandth: what a network sees as
    0 and 1.
    """
    stride = max(1, round((sum(image.size for image in images) / _RANGE_SAMPLES) ** 0.5))
    pixels = np.concatenate([to_pixels(image[::stride, ::stride]).ravel() for image in images])
    low, high = np.quantile(pixels, [1e-3, 1 - 1e-3]).tolist()
    middle, half = (low + high) / 2, (high - low) / 2
    return middle, max(half, 1e-6 * abs(middle)) or 1.0


_DARK_BELOW = 0.5  # largest intensity that fills no usual range
_BRIGHTER, _DARKER = 1.5, 16.0  # than the noisy images, times: still in their unit


def clean_range(offset: float, scale: float) -> tuple[float, float]:
    """Where the intensities 0 to 1 of a clean image are put among noisy ones of offset - scale to offset + scale.

    They stay, unless the noisy images are in counts or fill a small part of their range only, as 12 bits do in files of
    16: then they are stretched to the noisy images' range.

    Returns:
        The intensity of black, and the distance of white from it.
    """
    usual = _DARK_BELOW <= offset + scale <= COUNTS_FROM
    return (0.0, 1.0) if usual else (offset - scale, 2 * scale)


def placement(noisy: tuple[float, float], clean: tuple[float, float]) -> tuple[float, float]:
    """How clean images are put among noisy ones: their intensity x becomes low + width * x.

    They stay what they are in the noisy images' own unit. Where theirs is another, 0 to 1, or of counts the intensities
    that occur, become what `clean_range` says.

    Args:
        noisy: Middle and half-width of the noisy images' intensities, as `intensity_range`.
        clean: The same of all clean images of one kind, which have one unit.

    Returns:
        low and width.
    """
    most, brightest = sum(clean), sum(noisy)
    low, width = clean_range(*noisy)
    if (low, width) != (0, 1) and brightest / _DARKER <= most <= brightest * _BRIGHTER:
        return 0.0, 1.0
    black, span = (0.0, 1.0) if most <= COUNTS_FROM else (clean[0] - clean[1], 2 * clean[1])
    return low - width * black / span, width / span


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """Luma of Rec. 601 of an image (h, w, 3), as (h, w, 1); a gray image as it is."""
    if pixels.shape[2] == 1:
        return pixels
    luma: np.ndarray = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return luma
