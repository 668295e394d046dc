"""The file formats: one table says how each is recognised, read and written.

A new format is one row of `FORMATS`, and a module that reads it. What is done with a file does not belong here: see
`dbsn.io.formats`. Tested in tests/unit/test_formats.py. This module must not import torch.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from tifffile import EXTRASAMPLE

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io import fits, gif, heif, jpeg, jpeg2000, microscopy, netpbm, png, raw, tiff, webp, zarr
from dbsn.io.other_formats import named_other
from dbsn.io.picture import BEHIND, DEPTHS, Picture

HEAD = 64  # bytes that tell a format
Write = Callable[[BinaryIO, Array, Picture], None]
WritePlane = Callable[[Array, Picture], None]
"""Writes the next plane of a file: its samples or pixels, and the picture they were made from."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a format cannot hold."""

    dtypes: frozenset[np.dtype[Any]] = frozenset({np.dtype("uint8")})
    alpha: bool = True
    """Whether it holds plain transparency."""
    other_alpha: bool = False
    """Whether it holds premultiplied transparency, or an extra channel."""
    longest_side: float = math.inf
    exif: float = math.inf
    """Most bytes of an EXIF block."""
    xmp: float = math.inf
    """Most bytes of an XMP packet."""

    def problem(self, like: Picture) -> tuple[str, str] | None:
        """What of a picture the format cannot hold, and the suffixes that can; None if it holds everything."""
        height, width = like.samples.shape[:2]
        if like.dtype not in self.dtypes:
            if like.dtype.kind == "f" or like.dtype == np.int16:
                return "signed samples" if like.dtype == np.int16 else f"{like.dtype} samples", ".tif"
            return "16 bits a sample", ".png or .tif"
        if like.alpha is not None and like.alpha_kind != EXTRASAMPLE.UNASSALPHA and not self.other_alpha:
            return "premultiplied transparency or an extra channel", ".tif"
        if like.alpha is not None and not self.alpha:
            return "transparency", ".png or .tif"
        if len(like.exif) > self.exif:
            return f"{len(like.exif)} bytes of EXIF", ".png"
        if len(like.xmp) > self.xmp:
            return f"{len(like.xmp)} bytes of XMP", ".png"
        if max(height, width) > self.longest_side:
            return f"{width} x {height} pixels", ".png or .tif"
        return None


def _megapixels(path: Path, axes: str | None) -> float:
    """The size of a file with all its pages, from headers that Pillow reads."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a large picture is no attack here
        with Image.open(path) as image:
            return image.width * image.height * getattr(image, "n_frames", 1) / 1e6


@dataclass(frozen=True, kw_only=True)
class Format:
    """A file format: how it is recognised, read and written."""

    name: str
    suffixes: frozenset[str]
    """With dot, in lower case: the files of a folder that are images, and what a result may be called."""
    recognises: Callable[[Path, bytes], bool]
    """Whether a file is of this format, by its path and its first 64 bytes (none of a folder)."""
    read: Callable[[Path], Picture]
    """Reads a file of one plane, and refuses another with an ImageError."""
    has_one_plane: Callable[[Path], bool] = lambda path: True
    """Whether `read` reads the whole file; `planes` reads another."""
    planes: Callable[[Path, int | None, str | None], Iterator[Picture]] | None = None
    """Reads planes one by one: of a file, at most so many, with axes (see `dbsn.io.axes`)."""
    megapixels: Callable[[Path, str | None], float] = _megapixels
    """Size of all planes with these axes, from headers; any error means that they do not tell."""
    write: Write | None = None
    """Writes samples, (h, w) or (h, w, 2..4), like a picture to an open file; None where no picture becomes one."""
    refusal: str = ""
    """Why no picture becomes one, where `write` is None."""
    limits: Limits = field(default_factory=Limits)
    """What `write` cannot hold."""
    keeps: frozenset[str] = frozenset()
    """What `write` keeps, by the names of `Picture.kept`."""
    own: str = ""
    """Metadata that no other format keeps, in words."""
    writing_like: Callable[[Path, Path], AbstractContextManager[WritePlane]] | None = None
    """Writes all planes of a file like another of this format: path to write, path of the other."""
    writing_pages: Callable[[Path, float], AbstractContextManager[WritePlane]] | None = None
    """Writes the planes of a file of another format as pages: path to write, megapixels of all planes."""
    written: str = ""
    """Suffix of a result, if it is not the file's own."""
    is_array: bool = False
    """Whether it is a folder that holds an array, read and written block by block, whose axes may be named."""


_SHORT = frozenset(map(np.dtype, ("uint8", "uint16")))
COMMON = frozenset({"EXIF", "XMP", "the colour profile"})


def _unknown_size(path: Path, axes: str | None) -> float:
    return 0.0


def _is_nd2(path: Path, head: bytes) -> bool:
    return path.suffix.lower() == ".nd2" and head.startswith(microscopy.ND2_MAGIC)


def _starts(*magic: bytes) -> Callable[[Path, bytes], bool]:
    return lambda path, head: head.startswith(magic)


def _read_zarr(path: Path) -> Picture:
    planes = zarr.ZarrImage(path).planes()
    if len(planes) > 1:
        raise ImageError(f"{path}: got {len(planes)} planes, expected one. Save one plane as an array of its own.")
    return planes[0].block((slice(None), slice(None)))


def _refuse_raw(path: Path) -> Picture:
    raise ImageError(f"{path}: a RAW mosaic is four planes, expected one. Develop it to a TIFF first.")


def _read_unknown(path: Path) -> Picture:
    if not path.stat().st_size:
        raise ImageError(f"{path}: the file is empty. Copy it again from its source.")
    if name := named_other(path):
        raise ImageError(f"{path}: {name} files are not supported. Convert it to PNG or TIFF.")
    *names, last = (known.name for known in FORMATS if not known.is_array and known.name != RAW)
    raise ImageError(f"{path}: damaged, or not {', '.join(names)} or {last}. Convert it to one of these.")


RAW = "camera RAW"
FORMATS = (
    Format(
        name="Zarr", suffixes=frozenset({zarr.SUFFIX}), recognises=lambda path, head: zarr.is_zarr(path),
        read=_read_zarr, has_one_plane=lambda path: False, planes=zarr.blocks,
        megapixels=zarr.megapixels,
        refusal="only a Zarr input can be saved as Zarr", written=zarr.SUFFIX, is_array=True,
    ),
    Format(  # by its name, because its content is that of other formats
        name=RAW, suffixes=raw.RAW_SUFFIXES, recognises=lambda path, head: raw.is_raw(path),
        read=_refuse_raw, has_one_plane=lambda path: False, planes=lambda path, most, axes: raw.read_planes_of(path),
        refusal="only a camera RAW can be saved as DNG", writing_like=raw.writing_dng, written=raw.WRITTEN,
    ),
    Format(
        name="PNG", suffixes=frozenset({".png"}), recognises=_starts(png.SIGNATURE), read=png.read_png,
        write=png.write_png, limits=Limits(dtypes=_SHORT),
        keeps=COMMON | {"IPTC", "PNG texts"},
    ),
    Format(
        name="JPEG", suffixes=frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".mpo"}),
        recognises=_starts(b"\xff\xd8\xff"), read=jpeg.read_jpeg, write=jpeg.write_jpeg,
        limits=Limits(alpha=False, exif=65527.0, xmp=65504.0, longest_side=65500.0),
        keeps=COMMON | {"IPTC", "the comment", BEHIND, "other JPEG segments"},
    ),
    Format(
        name="TIFF", suffixes=frozenset({".tif", ".tiff"}), recognises=_starts(*tiff.TIFF_MAGIC), read=tiff.read_tiff,
        has_one_plane=lambda path: tiff.stack_size(path) == 1,
        planes=lambda path, most, axes: tiff.read_stack(path, most), write=tiff.write_tiff,
        limits=Limits(dtypes=DEPTHS, other_alpha=True), writing_like=tiff.writing_stack,
        writing_pages=tiff.writing_pages,
        keeps=COMMON | {"IPTC", "GeoTIFF tags", "the description", "the pyramid"},
    ),
    Format(
        name="WebP", suffixes=frozenset({".webp"}), read=webp.read_webp, write=webp.write_webp,
        recognises=lambda path, head: head.startswith(b"RIFF") and head[8:12] == b"WEBP",
        limits=Limits(longest_side=16383.0), keeps=COMMON,
    ),
    Format(
        name="BMP", suffixes=frozenset({".bmp"}), recognises=_starts(b"BM"), read=jpeg.read_bmp,
        write=jpeg.write_bmp, limits=Limits(alpha=False),
    ),
    Format(
        name="AVIF", suffixes=frozenset({".avif"}), recognises=lambda path, head: heif.kind_of(head) == "AVIF",
        read=heif.read_avif, write=heif.write_avif, keeps=COMMON,
    ),
    Format(
        name="HEIC", suffixes=frozenset({".heic", ".heif", ".hif"}), read=heif.read_heic, write=heif.write_heic,
        recognises=lambda path, head: heif.kind_of(head) == "HEIF", keeps=COMMON,
    ),
    Format(
        name="JPEG 2000", suffixes=frozenset({".jp2"}), recognises=_starts(jpeg2000.SIGNATURE), keeps=COMMON,
        read=jpeg2000.read_jpeg2000, write=jpeg2000.write_jp2, limits=Limits(dtypes=_SHORT),
    ),
    Format(
        name="JPEG 2000 codestream", suffixes=frozenset({".j2k", ".j2c", ".jpc"}), read=jpeg2000.read_jpeg2000,
        recognises=_starts(jpeg2000.CODESTREAM), write=jpeg2000.write_codestream, limits=Limits(dtypes=_SHORT),
    ),
    Format(
        name="PPM", suffixes=frozenset({".ppm", ".pgm", ".pbm", ".pnm"}), read=netpbm.read_netpbm,
        recognises=_starts(b"P1", b"P2", b"P3", b"P4", b"P5", b"P6"), write=netpbm.write_netpbm,
        limits=Limits(dtypes=_SHORT, alpha=False),
    ),
    Format(
        name="PAM", suffixes=frozenset({".pam"}), recognises=_starts(b"P7\n"), read=netpbm.read_netpbm,
        write=netpbm.write_pam, limits=Limits(dtypes=_SHORT),
    ),
    Format(
        name="GIF", suffixes=frozenset({".gif"}), recognises=_starts(b"GIF87a", b"GIF89a"), read=gif.read_gif,
        refusal="a GIF holds 256 colours, too few for a result", written=gif.WRITTEN,
    ),
    Format(
        name="FITS", suffixes=frozenset({".fits", ".fit", ".fts"}), recognises=_starts(fits.MAGIC), read=fits.read_fits,
        has_one_plane=lambda path: fits.plane_count(path) == 1,
        planes=lambda path, most, axes: fits.read_fits_planes(path, most), megapixels=_unknown_size,
        refusal="only a FITS input can be saved as FITS", writing_like=fits.writing_fits, own="the FITS header",
    ),
    Format(
        name="CZI", suffixes=frozenset({".czi"}), recognises=_starts(microscopy.CZI_MAGIC), megapixels=_unknown_size,
        read=lambda path: microscopy.first_of(microscopy.read_czi_planes(path)), has_one_plane=lambda path: False,
        planes=lambda path, most, axes: microscopy.read_czi_planes(path, most),
        refusal="dbsn writes no CZI", written=microscopy.WRITTEN,
    ),
    Format(
        name="ND2", suffixes=frozenset({".nd2"}), recognises=_is_nd2, megapixels=_unknown_size,
        read=lambda path: microscopy.first_of(microscopy.read_nd2_planes(path)), has_one_plane=lambda path: False,
        planes=lambda path, most, axes: microscopy.read_nd2_planes(path, most),
        refusal="dbsn writes no ND2", written=microscopy.WRITTEN,
    ),
)  # fmt: skip
UNKNOWN = Format(name="unknown", suffixes=frozenset(), recognises=lambda path, head: True, read=_read_unknown)
SUFFIXES = frozenset[str]().union(*(known.suffixes for known in FORMATS))
NAMED = " ".join(sorted(SUFFIXES - raw.RAW_SUFFIXES))


def format_of(path: Path) -> Format:
    """The format of a file by its content (of a camera RAW by its name); `UNKNOWN` if it has none of them.

    A file that cannot be opened is unknown, too. Reading it says why.
    """
    try:
        head = _head(path) if path.is_file() else b""  # a pipe may never begin
    except OSError:
        head = b""
    return next(known for known in (*FORMATS, UNKNOWN) if known.recognises(path, head))


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(HEAD)


def format_named(path: Path) -> Format | None:
    """The format that a file to write is named for by its suffix; None if there is none."""
    return next((known for known in FORMATS if path.suffix.lower() in known.suffixes), None)
