"""A picture in memory, with everything needed to write the same kind of file.

Files and their formats do not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from tifffile import COMPRESSION, EXTRASAMPLE, RESUNIT

from dbsn.errors import ImageError
from dbsn.intensity import Array, from_pixels, to_pixels

DEPTHS = frozenset(np.dtype(kind) for kind in ("uint8", "uint16", "int16", "float16", "float32", "float64"))
JPEG_COMMENT = 0xFE
BEHIND = "the gain map, video or further views"
GEOTIFF = frozenset({33550, 33922, 34264, 34735, 34736, 34737, 42112, 42113})
PNG_TEXTS = frozenset({b"tEXt", b"zTXt", b"iTXt"})
_UNITS_PER_METRE: dict[int, float] = {RESUNIT.INCH: 1 / 0.0254, RESUNIT.CENTIMETER: 100}


@dataclass(frozen=True)
class TiffTag:
    """A tag that is kept as its bytes."""

    code: int
    kind: int
    """tifffile.DATATYPE."""
    value: bytes
    """In the byte order of the page's layout."""


@dataclass(frozen=True)
class TiffLayout:
    """How the samples of a TIFF page lie in the file."""

    byteorder: Literal["<", ">"] = "<"
    """Of the file."""
    planar: bool = False
    """Whether each colour is a plane of its own."""
    tile: tuple[int, int] | None = None
    """Height and width of a tile; None for strips."""
    levels: tuple[tuple[int, int], ...] = ()
    """Heights and widths of the smaller copies of a pyramid, in their order; they are made again."""
    levels_within: bool = True
    """Whether the smaller copies lie in the page's SubIFDs, not behind it as pages."""


@dataclass(frozen=True)
class JpegRest:
    """What a JPEG holds beside its picture, EXIF, XMP, IPTC and profile."""

    segments: tuple[tuple[int, bytes], ...] = ()
    """Segments that are kept as they are, as (marker, body): comments, extended XMP and others."""
    behind: bytes = b""
    """What follows the picture: a gain map, a video, further views."""

    @property
    def has_comment(self) -> bool:
        """Whether it holds a comment."""
        return any(marker == JPEG_COMMENT for marker, _ in self.segments)

    @property
    def has_others(self) -> bool:
        """Whether it holds segments that are no comments."""
        return any(marker != JPEG_COMMENT for marker, _ in self.segments)


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
    """PNG chunks that are kept as they are, as (kind, body): colour, texts, time and others."""
    photoshop: bytes = b""
    """Photoshop's image resources, which hold IPTC captions, keywords and authors; empty if there are none."""
    jpeg: JpegRest | None = None
    """What else a JPEG holds; None without it."""
    tags: tuple[TiffTag, ...] = ()
    """Tags of a TIFF page that are kept as they are."""
    layout: TiffLayout = TiffLayout()
    """How the samples of a TIFF page lie in the file."""
    remarks: tuple[str, ...] = ()
    """What no result can have of this file, as noun phrases: "the damaged colour profile"."""

    @property
    def kept(self) -> frozenset[str]:
        """Names of the kinds of metadata that this picture has."""
        tags = {tag.code for tag in self.tags if not tag.value.startswith(b'{"shape"')}  # which tifffile always adds
        there = {
            "EXIF": self.exif, "XMP": self.xmp, "the colour profile": self.icc, "IPTC": self.photoshop,
            "PNG texts": any(kind in PNG_TEXTS for kind, _ in self.png_chunks), "GeoTIFF tags": tags & GEOTIFF,
            "the description": 270 in tags, "the comment": self.jpeg and self.jpeg.has_comment,
            BEHIND: self.jpeg and self.jpeg.behind,
            "other JPEG segments": self.jpeg and self.jpeg.has_others, "the pyramid": self.layout.levels,
        }  # fmt: skip
        return frozenset(name for name, held in there.items() if held)

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


def samples_of(path: Path, pixels: Array, like: Picture) -> Array:
    """Convert pixels for the file `path` to samples, (h, w) or (h, w, 2..4), with the picture's alpha.

    Raises:
        ImageError: Shape or data type are not those of the picture, or a value is NaN.
    """
    if pixels.shape != like.samples.shape:
        raise ImageError(
            f"{path}: wrong shape of pixels (got {pixels.shape}, expected {like.samples.shape}). Pass the right shape."
        )
    if pixels.dtype.kind in "iu" and pixels.dtype != like.dtype:
        raise ImageError(f"{path}: wrong data type of pixels (got {pixels.dtype}, expected {like.dtype}). Pass floats.")
    try:
        samples = pixels if pixels.dtype.kind in "iu" else from_pixels(pixels, like.dtype)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({one_line(error)})") from error
    if like.alpha is not None:
        samples = np.dstack([samples, like.alpha])
    return samples[..., 0] if samples.shape[2] == 1 else samples


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
