"""Reading and writing of image files; nothing is lost without an error.

Promise: if the pixels that were read are written back, the file decodes to the same numbers. Depth and channels are the
same, too. JPEG, AVIF, HEIC and lossy WebP keep the numbers to within their coding. If something cannot be kept, an
error names the file, the fault and the remedy. A damaged file is an error, never a wrong picture.

imagecodecs and tifffile decode PNG, WebP and TIFF, because Pillow reads 16-bit colour PNG as 8 bit without a warning.
Pillow decodes JPEG and BMP. Four things are converted:

- A palette becomes RGB, because denoised colours do not fit a palette.
- A transparent colour becomes an alpha channel.
- Samples of 1, 2 or 4 bits (in TIFF of 1 bit) become 8 bits.
- White-is-zero TIFF becomes black-is-zero.

EXIF orientation is kept, not applied. Other kept metadata: ICC profile, resolution, EXIF, XMP, the PNG colour chunks
and a TIFF's description. EXIF in TIFF loses its preview; in a BigTIFF only its orientation is kept. Tensors and patches
do not belong here. Tested in tests/unit/test_images.py and tests/unit/test_stacks.py. This module must not import
torch.
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
    """Read a PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC file, or a Zarr of one plane.

    The content decides the format, not the name. A JPEG may hold further pictures (a camera's preview, a gain map); the
    first one is read.

    Args:
        path: The file; from 1 x 1 pixel up, 8 or 16 bit, or float TIFF.

    Returns:
        Its pixels, and everything that `write_image` needs to write the same kind of file.

    Raises:
        ImageError: The file is damaged, or cannot be denoised or written back: several pages or frames, CMYK, an
            unusual depth, or no finite value.
        OSError: The file does not exist or may not be read.
    """
    if zarr.is_zarr(path):
        reader: Callable[[Path], Picture] = _read_zarr
    elif raw.is_raw(path):
        raise ImageError(f"{path}: a RAW mosaic is four planes, expected one. Develop it to a TIFF first.")
    else:
        with path.open("rb") as file:
            reader = _reader(path, file.read(64))
    try:
        return reader(path)
    except ImageError:
        raise
    except MemoryError as error:
        raise _too_large(path) from error
    except Exception as error:  # decoders raise anything for damage: IndexError, SyntaxError, RuntimeError
        raise damaged(path, error) from error


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: too large for this computer's memory, or damaged. Crop it.")


def write_image(path: Path, pixels: Array, like: Picture) -> None:
    """Write pixels with the depth, channels and colour profile of `like`.

    The suffix of the path decides the format. The file appears whole or not at all: after an error the old file is
    still there.

    Args:
        path: File to write or replace, with a suffix of `SUFFIXES`, in an existing folder.
        pixels: Same shape as `like.samples`. Floats are nominally in [0, 1]; for integer types they are clipped and
            rounded. Or samples of the picture's own integer type.
        like: The picture it was made from. Its alpha channel is written unchanged.

    Raises:
        ImageError: The format cannot hold the picture without loss, the shape differs, or a value that
            shall become an integer is NaN.
        OSError: The folder is missing, or the file cannot be written.
    """
    check_fits(path, like)
    samples = _samples_of(path, pixels, like)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} in. Create it first.")
    try:
        with replacing(path) as partial, partial.open("w+b") as file:
            _encode(file, path.suffix.lower(), samples, like)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({one_line(error)})") from error


def _samples_of(path: Path, pixels: Array, like: Picture) -> Array:
    """Convert pixels to samples, (h, w) or (h, w, 2..4), with the picture's alpha."""
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


def megapixels(path: Path, axes: str | None = None) -> float:
    """Estimate the size of an image file with all its pages from its headers.

    It is 0 if the headers do not tell. For `axes` see `read_planes`.
    """
    try:
        if zarr.is_zarr(path):
            return sum(math.prod(plane.shape[:2]) for plane in zarr.ZarrImage(path, axes).planes()) / 1e6
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture is no attack here
            with Image.open(path) as image:
                return image.width * image.height * getattr(image, "n_frames", 1) / 1e6
    except Exception:  # reading the file reports the error
        return 0.0


def read_planes(path: Path, most: int | None = None, axes: str | None = None) -> Iterator[Picture]:
    """Read the planes of a file one by one.

    Planes are the pages of a TIFF stack, the blocks of a Zarr, or the planes of a RAW mosaic. Another file has one.

    Args:
        path: The file.
        most: Read at most this many, evenly chosen.
        axes: One letter for each axis of a Zarr, see `dbsn.io.axes`. By default those that the Zarr names. The axes of
            other files must agree.

    Raises:
        ImageError, OSError: As `read_image`; or the axes do not match the file.
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
    """Check that axes match the pages of a file; only those of a Zarr can be chosen."""
    own = "YXS" if plane.samples.shape[2] == 3 else "YX"
    if axes is not None and set(axes.upper()) & set("YXS") != set(own):
        raise ImageError(
            f"{path}: the axes do not match (got --axes {axes}, but each of its pages is {own}). Omit --axes."
        )


@contextmanager
def writing_planes(path: Path, source: Path) -> Iterator[Callable[[Array, Picture], None]]:
    """Write the planes of a file like `source`, one after the other.

    The file appears whole or not at all.

    Args:
        path: File to write or replace, in an existing folder.
        source: The file that `read_planes` read.

    Yields:
        A function that writes the next plane: pixels, and the picture they were made from (see `write_image`).

    Raises:
        ImageError, OSError: As `write_image`; or a stack shall not become a TIFF.
    """
    if raw.is_raw(source):
        with raw.writing_dng(path, source) as write_plane:
            yield write_plane
        return
    if path.suffix.lower() not in (".tif", ".tiff") or not is_tiff(source):
        if stack_size(source) > 1:
            raise ImageError(f"{path}: a {path.suffix} file cannot hold a stack of pages. Write .tif instead.")
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
        raise ImageError(f"{path}: the file is empty. Copy it again from its source.")
    raise ImageError(f"{path}: damaged, or not PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC. Convert it to one of these.")


def _read_zarr(path: Path) -> Picture:
    planes = zarr.ZarrImage(path).planes()
    if len(planes) > 1:
        raise ImageError(f"{path}: got {len(planes)} planes, expected one. Save one plane as an array of its own.")
    return planes[0].block((slice(None), slice(None)))


def check_fits(path: Path, like: Picture) -> None:
    """Check that a file format can hold a picture without loss, before any work.

    Raises:
        ImageError: It cannot. The message names the output file, the problem, and a format that can.
    """
    suffix, (height, width) = path.suffix.lower(), like.samples.shape[:2]
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: unknown suffix. Use one of {NAMED}.")
    if suffix == zarr.SUFFIX:
        raise ImageError(f"{path}: only a Zarr input can be saved as Zarr. Use .tif.")
    if suffix in raw.RAW_SUFFIXES:
        raise ImageError(f"{path}: only a camera RAW can be saved as DNG. Use .tif.")
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
    raise ImageError(f"{path}: a {suffix} file cannot hold {problem}. Write {remedy} instead.")


def _encode(file: BinaryIO, suffix: str, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), in the file's data type to an open file."""
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
