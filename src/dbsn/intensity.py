"""Intensities: their unit, their range, and conversion from and to file samples.

Integers are divided by the largest value of their type. Floats are used as they are. Tested in
tests/unit/test_images.py, tests/unit/test_patches.py and tests/unit/test_learned.py. Files and tensors do not belong
here. This module must not import torch.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dbsn.errors import ImageError

Array = NDArray[Any]
CONVERTED_AT_ONCE = 2**22  # samples; converting a large picture in one piece would need a float copy of it
_SMALL_UNITS = 1 / 255  # smaller floats are of another unit than shares of the usual range, too
COUNTS_FROM = 2.0  # larger floats are counts, not shares of the usual range 0 to 1


@dataclass(frozen=True)
class Unit:
    """The unit in which intensities are shown.

    8 bits are shown of 255, integers of more bits of their largest value, and floats of 255 if they are shares of the
    usual range 0 to 1. Counts and floats of a small unit are shown as they are.
    """

    one: float = 255.0
    """The number shown for intensity 1."""
    of: str = " of 255"
    """Text after a number or after the name of an axis."""

    @staticmethod
    def of_samples(*images: Array) -> "Unit":
        """The unit of images' samples; for several data types the usual one, of 255."""
        if len({samples.dtype for samples in images}) > 1:
            return Unit()
        kind = images[0].dtype
        if kind.kind == "f":
            most = max(float(np.abs(samples).max(initial=0, where=np.isfinite(samples))) for samples in images)
            return Unit(1.0, "") if most > COUNTS_FROM or 0 < most < _SMALL_UNITS else Unit()
        if kind.kind in "iu" and kind.itemsize > 1:
            most = int(np.iinfo(kind).max)
            return Unit(float(most), f" of {most}")
        return Unit()

    def number(self, intensity: float, digits: int = 3) -> str:
        """Format an intensity or a noise level in this unit.

        It has one decimal, if that is sensible for its size. Otherwise it has `digits` significant digits, and at
        least all digits before the point.
        """
        value = self.one * intensity
        if digits == 3 and (1 <= abs(value) < 100 or self.one == 255):
            return f"{value:.1f}"
        return f"{value:.0f}" if abs(value) >= 10 ** (digits - 1) else f"{value:.{digits}g}"


OF_255 = Unit()


def by_unit(images: Iterable[Array]) -> dict[Unit, list[Array]]:
    """Group images' samples by their unit."""
    kinds: dict[Unit, list[Array]] = {}
    for samples in images:
        kinds.setdefault(Unit.of_samples(samples), []).append(samples)
    return kinds


def to_pixels(array: Array) -> NDArray[np.float32]:
    """Convert samples of any integer or float type to intensities.

    Args:
        array: Any shape. Integers, signed or not, are divided by their dtype's maximum; floats are kept.

    Returns:
        float32, same shape; a new array.

    Raises:
        ImageError: The samples are neither integers nor floats, for example bool or complex.
    """
    if np.issubdtype(array.dtype, np.integer):
        return np.asarray(np.divide(array, np.float32(np.iinfo(array.dtype).max), dtype=np.float32))
    if np.issubdtype(array.dtype, np.floating):
        with np.errstate(over="ignore"):
            return array.astype(np.float32)
    raise ImageError(
        f"image: unsupported data type (got {array.dtype}, expected integers or floats). Convert the samples first."
    )


def from_pixels(pixels: Array, dtype: np.dtype[Any]) -> Array:
    """Convert intensities to integer or float samples: the inverse of `to_pixels`.

    Args:
        pixels: Float, any shape, nominally in [0, 1]. Values outside are clipped to the range of `dtype`.
        dtype: For integers, intensities are multiplied by the maximum and rounded to the nearest. Floats are kept.

    Returns:
        Array of `dtype`, same shape.

    Raises:
        ValueError: A value that shall become an integer is NaN or infinite. As floats such values stay.
    """
    flat, samples = pixels.reshape(-1), np.empty(pixels.size, dtype)
    parts = [slice(start, start + CONVERTED_AT_ONCE) for start in range(0, flat.size, CONVERTED_AT_ONCE)]
    integers = np.issubdtype(dtype, np.integer)
    if integers and (bad := sum(np.count_nonzero(~np.isfinite(flat[part])) for part in parts)):
        raise ValueError(f"{bad} of {pixels.size} values are NaN or infinite, expected finite values")
    for part in parts:
        samples[part] = _samples(flat[part], dtype)
    return samples.reshape(pixels.shape)


def _samples(pixels: Array, dtype: np.dtype[Any]) -> Array:
    if np.issubdtype(dtype, np.floating):
        inside = np.clip(pixels, np.finfo(dtype).min, np.finfo(dtype).max).astype(dtype)
        infinite = np.isinf(pixels)
        inside[infinite] = pixels[infinite]
        return inside
    limits = np.iinfo(dtype)
    # float32 is exact enough for 16 bits and takes half the memory; no float64 equals the maximum of 64 bits
    work = np.dtype(np.float32 if limits.bits <= 16 else np.float64)
    largest = float(limits.max) if limits.bits < 64 else float(np.nextafter(float(limits.max), 0))
    with np.errstate(over="ignore"):
        samples = np.asarray(np.multiply(pixels, work.type(limits.max), dtype=work))
    np.rint(samples, out=samples)
    return np.clip(samples, limits.min, largest, out=samples).astype(dtype)


_RANGE_SAMPLES = 4_000_000


def intensity_range(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Middle and half-width of the intensities that occur.

    The lowest and the highest thousandth are left out. In network units the middle is 0 and the half-width is 1.
    """
    stride = max(1, round((sum(image.size for image in images) / _RANGE_SAMPLES) ** 0.5))
    pixels = np.concatenate([to_pixels(image[::stride, ::stride]).ravel() for image in images])
    low, high = np.quantile(pixels, [1e-3, 1 - 1e-3]).tolist()
    middle, half = (low + high) / 2, (high - low) / 2
    return middle, max(half, 1e-6 * abs(middle)) or 1.0


_DARK_BELOW = 0.5  # images whose largest intensity is lower do not fill the usual range 0 to 1
_BRIGHTER, _DARKER = 1.5, 16.0  # factors: clean images this much brighter or darker still have the noisy images' unit


def clean_range(offset: float, scale: float) -> tuple[float, float]:
    """Map the intensities 0 to 1 of a clean image to the range of noisy ones.

    The noisy images' range is offset - scale to offset + scale. Usually intensities stay unchanged. They are stretched
    to the noisy images' range in two cases. The noisy images are in counts, or they fill only a small part of their
    range, as 12 bits do in files of 16.

    Returns:
        The intensity of black, and the distance of white from it.
    """
    usual = _DARK_BELOW <= offset + scale <= COUNTS_FROM
    return (0.0, 1.0) if usual else (offset - scale, 2 * scale)


def placement(noisy: tuple[float, float], clean: tuple[float, float]) -> tuple[float, float]:
    """Map clean images to the unit of noisy ones: intensity x becomes low + width * x.

    Clean images in the noisy images' unit stay unchanged. In any other unit their range is mapped to `clean_range`.
    That range is 0 to 1, or for counts the intensities that occur.

    Args:
        noisy: Middle and half-width of the noisy images' intensities, see `intensity_range`.
        clean: The same for all clean images of one data type, which share one unit.

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
    """Convert an image (h, w, 3) to its Rec. 601 luma (h, w, 1); keep a gray image."""
    if pixels.shape[2] == 1:
        return pixels
    luma: np.ndarray = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return luma
