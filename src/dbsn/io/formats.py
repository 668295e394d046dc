"""Image files to arrays and back: nothing of a picture is lost or changed without a sentence saying so.

The promise: writing back the pixels that were read gives a file that decodes to the same numbers, at the same
depth, with the same channels (JPEG, AVIF, HEIC and lossy WebP to within their coding). What cannot be kept is
refused in one line with the file, the fault and the remedy; a damaged file is an error, never a wrong picture.

PNG, WebP and TIFF are decoded by imagecodecs and tifffile, because Pillow reads 16-bit colour PNG as 8 bit
without a word; JPEG and BMP by Pillow. Four things become their nearest equal kind: a palette becomes RGB
(denoised colours do not fit a palette), a transparent colour an alpha channel, samples of 1, 2 or 4 bits (in
TIFF of 1 bit) become 8 bits, and white-is-zero TIFF black-is-zero. EXIF orientation is carried along, not
applied.

Tested in tests/unit/test_images.py and tests/unit/test_stacks.py. Not here: tensors, patches, and metadata beyond ICC
profile, resolution, EXIF (in TIFF without a preview, in a BigTIFF its orientation alone), XMP, the PNG colour chunks
and a TIFF's description. This module must not import torch.
"""

import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import Image
from tifffile import EXTRASAMPLE

from dbsn.errors import ImageError
from dbsn.intensity import Array, from_pixels
from dbsn.io import heif, png, raw, zarr
from dbsn.io.atomic import replacing
from dbsn.io.jpeg import JPEG_OPTIONS, read_jpeg_or_bmp
from dbsn.io.picture import Picture, damaged, one_line
from dbsn.io.tiff import TIFF_MAGIC, is_tiff, read_stack, read_tiff, stack_size, write_tiff, writing_stack
from dbsn.io.webp import WEBP_QUALITY, read_webp

SUFFIXES = (
    frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp", zarr.SUFFIX})
    | heif.AVIF_SUFFIXES
    | heif.HEIC_SUFFIXES
    | raw.RAW_SUFFIXES
)

NAMED = " ".join(sorted(SUFFIXES - raw.RAW_SUFFIXES))
LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
LARGEST_JPEG_EXIF, LARGEST_JPEG_XMP = 65527, 65504


def read_image(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC file, or a Zarr of one plane, whatever its name.

    Of a JPEG with more pictures behind it (a camera's preview, a gain map) the first is read.

    Args:
        path: The file; from 1 x 1 pixel up, 8 or 16 bit, or float TIFF.

    Returns:
        Its pixels and all that `write_image` needs to write the same kind of file.

    Raises:
        ImageError: if the file is damaged, or holds what could not be denoised or written back: several pages
            or frames, CMYK, NaN, an unusual depth.
        OSError: if there is no such file, or it may not be read.
    """
    if zarr.is_zarr(path):
        reader: Callable[[Path], Picture] = _read_zarr
    elif raw.is_raw(path):
        raise ImageError(f"{path}: a RAW mosaic is four planes; for this, develop it to a TIFF first")
    else:
        with path.open("rb") as file:
            reader = _reader(path, file.read(64))
    try:
        return reader(path)
    except ImageError:
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders answer damage with any kind: IndexError, SyntaxError, RuntimeError
        raise damaged(path, error) from error


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: too large for this computer's memory, or damaged; crop it")


def write_image(path: Path, pixels: Array, like: Picture) -> None:
    """Write pixels with the depth, channels and colour profile of `like`, in the format of the path's suffix.

    The file appears whole or not at all: an error leaves what was there before.

    Args:
        path: File to write or replace; a suffix of `SUFFIXES`, in a folder that exists.
        pixels: Same shape as `like.samples`, nominally in [0, 1], clipped and rounded for integer kinds; or samples of
            the picture's own integer kind.
        like: The picture it was made from; its alpha channel is written untouched.

    Raises:
        ImageError: if the format cannot hold the picture without loss, or for another shape or a NaN.
        OSError: if the folder is missing, or the file cannot be written.
    """
    check_fits(path, like)
    samples = _samples_of(path, pixels, like)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} in; create it first")
    try:
        with replacing(path) as partial, partial.open("w+b") as file:
            _encode(file, path.suffix.lower(), samples, like)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({one_line(error)})") from error


def _samples_of(path: Path, pixels: Array, like: Picture) -> Array:
    """Samples, (h, w) or (h, w, 2..4), of the picture's kind, its alpha channel with them."""
    if pixels.shape != like.samples.shape:
        raise ImageError(f"{path}: got pixels of shape {pixels.shape}, expected {like.samples.shape}")
    if pixels.dtype.kind in "iu" and pixels.dtype != like.dtype:
        raise ImageError(f"{path}: got samples of {pixels.dtype}, expected {like.dtype}")
    try:
        samples = pixels if pixels.dtype.kind in "iu" else from_pixels(pixels, like.dtype)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({one_line(error)})") from error
    if like.alpha is not None:
        samples = np.dstack([samples, like.alpha])
    return samples[..., 0] if samples.shape[2] == 1 else samples


def megapixels(path: Path, axes: str | None = None) -> float:
    """Size of an image file, all its pages, by its headers, for a forecast; 0 where they say nothing.

    `axes` are as of `read_planes`.
    """
    try:
        if zarr.is_zarr(path):
            return sum(math.prod(plane.shape[:2]) for plane in zarr.ZarrImage(path, axes).planes()) / 1e6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture is none of an attacker's here
            with Image.open(path) as image:
                return image.width * image.height * getattr(image, "n_frames", 1) / 1e6
    except Exception:  # a file that cannot be read is told of when it is read
        return 0.0


def read_planes(path: Path, most: int | None = None, axes: str | None = None) -> Iterator[Picture]:
    """Pages of a TIFF stack, blocks of a Zarr or planes of a RAW mosaic, one by one; else the one picture of a file.

    Args:
        path: The file.
        most: Read so many, evenly chosen, if there are more.
        axes: A letter for each axis of a Zarr, see `dbsn.io.axes`; by default as it says itself. Other files must
            agree.

    Raises:
        ImageError, OSError: as `read_image`; or the axes are not the file's.
    """
    try:
        if zarr.is_zarr(path):
            yield from zarr.blocks(path, most, axes)
            return
        if raw.is_raw(path):
            planes = raw.read_planes_of(path)
        else:
            planes = iter([read_image(path)]) if stack_size(path) == 1 else read_stack(path, most)
        for plane in planes:
            _check_axes(path, plane, axes)
            yield plane
    except (ImageError, OSError, GeneratorExit):
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:
        raise damaged(path, error) from error


def _check_axes(path: Path, plane: Picture, axes: str | None) -> None:
    """Refuse axes that are not those of this file's pages, which only a Zarr leaves open."""
    own = "YXS" if plane.samples.shape[2] == 3 else "YX"
    if axes is not None and set(axes.upper()) & set("YXS") != set(own):
        raise ImageError(f"{path}: --axes {axes}, but each of its pages is {own}; only those of a Zarr can be chosen")


@contextmanager
def writing_planes(path: Path, source: Path) -> Iterator[Callable[[Array, Picture], None]]:
    """Write the planes of a file like `source`, one after the other; the file appears whole or not at all.

    Args:
        path: File to write or replace, in a folder that exists.
        source: What `read_planes` read.

    Yields:
        A function that writes the next plane: pixels, and the picture they were made from (see `write_image`).

    Raises:
        ImageError, OSError: as `write_image`; or a stack is to become something else than a TIFF.
    """
    if raw.is_raw(source):
        with raw.writing_dng(path, source) as write_plane:
            yield write_plane
        return
    if path.suffix.lower() not in (".tif", ".tiff") or not is_tiff(source):
        if stack_size(source) > 1:
            raise ImageError(f"{path}: a {path.suffix} file cannot hold a stack of pages; write .tif instead")
        yield lambda pixels, like: write_image(path, pixels, like)
        return
    with replacing(path) as partial, writing_stack(partial, source) as write:
        yield lambda pixels, like: write(_samples_of(path, pixels, like), like)


def _reader(path: Path, head: bytes) -> Callable[[Path], Picture]:
    if head.startswith(png.SIGNATURE):
        return png.read_png
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return read_webp
    if head.startswith((b"\xff\xd8\xff", b"BM")):
        return read_jpeg_or_bmp
    if head.startswith(TIFF_MAGIC):
        return read_tiff
    if kind := heif.kind_of(head):
        return heif.read_avif if kind == "AVIF" else heif.read_heic
    if not head:
        raise ImageError(f"{path}: the file is empty; copy it again from its source")
    raise ImageError(f"{path}: damaged, or not PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC; convert it to one of these")


def _read_zarr(path: Path) -> Picture:
    planes = zarr.ZarrImage(path).planes()
    if len(planes) > 1:
        raise ImageError(f"{path}: {len(planes)} planes; for this, save the one that is meant as an array of its own")
    return planes[0].block((slice(None), slice(None)))


def check_fits(path: Path, like: Picture) -> None:
    """Refuse, before any work is done, a file format that cannot hold a picture without loss.

    Raises:
        ImageError: names the output file, what it cannot hold, and the format that can.
    """
    suffix, (height, width) = path.suffix.lower(), like.samples.shape[:2]
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: unknown suffix; use one of {NAMED}")
    if suffix == zarr.SUFFIX:
        raise ImageError(f"{path}: a Zarr is made of a Zarr, by denoising, alone; write .tif instead")
    if suffix in raw.RAW_SUFFIXES:
        raise ImageError(f"{path}: only a camera's RAW becomes a DNG; write .tif instead")
    if suffix in (".tif", ".tiff"):
        return
    if like.dtype.kind == "f":
        problem, remedy = f"{like.dtype} samples", ".tif"
    elif like.dtype == np.int16:
        problem, remedy = "signed samples", ".tif"
    elif like.dtype == np.uint16 and suffix != ".png":
        problem, remedy = "16 bits a sample", ".png or .tif"
    elif like.alpha is not None and like.alpha_kind != EXTRASAMPLE.UNASSALPHA:
        problem, remedy = "premultiplied transparency or an extra channel", ".tif"
    elif like.alpha is not None and suffix in (".jpg", ".jpeg", ".bmp"):
        problem, remedy = "transparency", ".png or .tif"
    elif len(like.exif) > LARGEST_JPEG_EXIF and suffix in (".jpg", ".jpeg"):
        problem, remedy = f"{len(like.exif)} bytes of EXIF", ".png"
    elif len(like.xmp) > LARGEST_JPEG_XMP and suffix in (".jpg", ".jpeg"):
        problem, remedy = f"{len(like.xmp)} bytes of XMP", ".png"
    elif max(height, width) > LONGEST_SIDE.get(suffix, math.inf):
        problem, remedy = f"{width} x {height} pixels", ".png or .tif"
    else:
        return
    raise ImageError(f"{path}: a {suffix} file cannot hold {problem}; write {remedy} instead")


def _encode(file: BinaryIO, suffix: str, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4) of the file's dtype, to an open file."""
    if suffix == ".png":
        file.write(png.encoded(samples, like))
    elif suffix in (".tif", ".tiff"):
        write_tiff(file, samples, like)
    else:
        kinds: dict[str, tuple[str, dict[str, Any]]] = {
            ".bmp": ("BMP", {}),
            ".webp": ("WEBP", {"lossless": like.lossless, "quality": WEBP_QUALITY, "exact": True}),
        }
        kind, options = heif.writing(suffix) or kinds.get(suffix, ("JPEG", JPEG_OPTIONS))
        _write_pillow(file, samples, like, kind, options)


def _write_pillow(file: BinaryIO, samples: Array, like: Picture, kind: str, options: dict[str, Any]) -> None:
    if like.exif:
        options = {**options, "exif": b"Exif\0\0" + like.exif}
    if like.xmp and kind != "BMP":
        options = {**options, "xmp": like.xmp}
    if per_metre := like.pixels_per_metre:
        options = {**options, "dpi": (per_metre[0] * 0.0254, per_metre[1] * 0.0254)}
    Image.fromarray(samples).save(file, kind, icc_profile=like.icc or None, **options)
