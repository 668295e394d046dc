"""A picture in memory, with everything needed to write the same kind of file.

Files and their formats do not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, RESUNIT

from dbsn.errors import ImageError
from dbsn.intensity import Array, from_pixels, to_pixels

DEPTHS = frozenset(np.dtype(kind) for kind in ("uint8", "uint16", "int16", "float16", "float32", "float64"))
_UNITS_PER_METRE: dict[int, float] = {RESUNIT.INCH: 1 / 0.0254, RESUNIT.CENTIMETER: 100}


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """An image file as arrays, with everything needed to write the same kind of file."""

    path: Path
    """The file it was read from."""
    samples: Array
    """Samples (h, w, c) in the file's data type, c = 1 gray or 3 RGB; some may be NaN or infinite."""
    alpha: Array | None
    """Alpha (h, w) in the file's data type, unchanged; None without transparency."""
    dtype: np.dtype[Any]
    """Data type of the file: uint8, uint16, int16, float16, float32 or float64."""
    exif: bytes = b""
    """EXIF block as in a TIFF header, without the JPEG prefix; empty if none."""
    xmp: bytes = b""
    """XMP packet; empty if there is none."""
    icc: bytes = b""
    """ICC colour profile; empty if there is none."""
    resolution: tuple[float, float, int] | None = None
    """Pixels per unit in x and y, and the unit as a tifffile.RESUNIT."""
    lossless: bool = True
    """Whether the file was coded without loss; a WebP is written in the same way."""
    compression: int = COMPRESSION.ADOBE_DEFLATE
    """tifffile.COMPRESSION for writing a TIFF."""
    alpha_kind: int = EXTRASAMPLE.UNASSALPHA
    """tifffile.EXTRASAMPLE of the alpha channel: plain, premultiplied or unspecified."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks about colour, as (kind, body)."""

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The samples as intensities, in a new array.

        Integers are in [0, 1] (signed ones from -1). Floats are unchanged.
        """
        return to_pixels(self.samples)

    @property
    def pixels_per_metre(self) -> tuple[float, float] | None:
        """Resolution in the unit of PNG and BMP.

        None if it has no unit of length or does not fit into their 32 bits.
        """
        if self.resolution is None or self.resolution[2] not in _UNITS_PER_METRE:
            return None
        x, y = (length * _UNITS_PER_METRE[self.resolution[2]] for length in self.resolution[:2])
        return (x, y) if 0.5 < x < 2**31 and 0.5 < y < 2**31 else None


def mixed(before: Array, after: Array, strength: float) -> Array:
    """A picture between the noisy one (strength 0) and the denoised one (1); values that are not finite stay."""
    with np.errstate(invalid="ignore"):
        return np.where(np.isfinite(before), before + strength * (after - before), after)


def check_converts(like: Picture, dtype: np.dtype[Any]) -> None:
    """Check that a picture's samples can become another data type.

    Raises:
        ImageError: Floats outside of 0 to 1 shall become integers.
    """
    if like.dtype.kind == "f" and dtype.kind != "f" and (like.samples.min() < 0 or like.samples.max() > 1):
        raise ImageError(
            f"{like.path}: some values do not fit into {dtype} (expected values from 0 to 1). Keep the data type."
        )


def converted(pixels: Array, like: Picture, dtype: np.dtype[Any]) -> tuple[Array, Picture]:
    """Convert pixels made from a picture, and the picture, to another data type.

    Integers become integers of the same share of the range. As floats they keep the file's own numbers, without
    rounding. Integer pixels already are samples of the new type.

    Raises:
        ImageError: Floats outside of 0 to 1 shall become integers.
    """
    if dtype == like.dtype:
        return pixels, like
    alpha = None if like.alpha is None else from_pixels(to_pixels(like.alpha), dtype)
    unit = 1.0
    check_converts(like, dtype)
    if like.dtype.kind != "f" and dtype.kind == "f":
        unit = float(np.iinfo(like.dtype).max)
        alpha = None if like.alpha is None else like.alpha.astype(dtype)
    return pixels if pixels.dtype.kind in "iu" else unit * pixels, replace(like, dtype=dtype, alpha=alpha)


def picture_of(path: Path, array: Array, **kept: Any) -> Picture:
    """Split decoded samples, (h, w) or (h, w, 1..4), into colour and alpha."""
    if array.dtype not in DEPTHS:
        raise ImageError(f"{path}: {array.dtype} samples are not supported. Convert it to uint16 or float32.")
    array = array[..., np.newaxis] if array.ndim == 2 else array
    alpha = array[..., -1].copy() if array.shape[2] in (2, 4) else None
    samples = array[..., : 1 if array.shape[2] < 3 else 3]
    if array.dtype.kind == "f" and not np.isfinite(to_pixels(samples)).any():
        raise ImageError(f"{path}: no pixel is finite (got only NaN and infinite values). Check the file.")
    return Picture(path=path, samples=np.ascontiguousarray(samples), alpha=alpha, dtype=array.dtype, **kept)


def damaged(path: Path, reason: object) -> ImageError:
    """The error for a file that is not complete."""
    cause = f"truncated or damaged, cannot be read ({one_line(reason)})"
    return ImageError(f"{path}: {cause}. Copy it again from its source.")


def one_line(reason: object) -> str:
    """Shorten a reason to one line of at most 120 characters."""
    return " ".join(str(reason).split())[:120] or type(reason).__name__
