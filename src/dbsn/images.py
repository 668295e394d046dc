"""Image files to arrays and back: nothing of a picture is lost or changed without a sentence saying so.

The promise: writing back the pixels that were read gives a file that decodes to the same numbers, at the same
depth, with the same channels (JPEG and lossy WebP to within their coding). What cannot be kept is refused in
one line with the file, the fault and the remedy; a damaged file is an error, never a wrong picture.

PNG, WebP and TIFF are decoded by imagecodecs and tifffile, because Pillow reads 16-bit colour PNG as 8 bit
without a word; JPEG and BMP by Pillow. Four things become their nearest equal kind: a palette becomes RGB
(denoised colours do not fit a palette), a transparent colour an alpha channel, samples of 1, 2 or 4 bits (in
TIFF of 1 bit) become 8 bits, and white-is-zero TIFF black-is-zero. EXIF orientation is carried along, not
applied.

Tested in tests/unit/test_images.py. Not here: tensors, patches, stacks of pages, and metadata beyond ICC
profile, resolution, EXIF (not in TIFF) and the PNG colour chunks. This module must not import torch.
"""

import glob
import logging
import math
import os
import secrets
import struct
import sys
import threading
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, BinaryIO

import imagecodecs
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import BmpImagePlugin, Image, JpegImagePlugin
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, RESUNIT, SAMPLEFORMAT

Array = NDArray[Any]

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"})

DEPTHS = frozenset(np.dtype(kind) for kind in ("uint8", "uint16", "float16", "float32", "float64"))
LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
LARGEST_JPEG_EXIF = 65527
CONVERTED_AT_ONCE = 2**22  # samples, so that a large picture is not in memory once more as floats
MOST_PIXELS_PER_BYTE = 1024  # in JPEG and BMP; a header that promises more would fill the memory
JPEG_OPTIONS = {"quality": 95, "subsampling": "4:4:4"}
WEBP_QUALITY = 95

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
PNG_COLOUR_CHUNKS = frozenset({b"cICP", b"cHRM", b"gAMA", b"sRGB"})
UNITS_PER_METRE: dict[int, float] = {RESUNIT.INCH: 1 / 0.0254, RESUNIT.CENTIMETER: 100}
TIFF_COLOURS: dict[int, int] = {PHOTOMETRIC.MINISWHITE: 1, PHOTOMETRIC.MINISBLACK: 1, PHOTOMETRIC.RGB: 3}
TIFF_COMPRESSIONS: dict[int, int] = {
    kind: kind for kind in (COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.ZSTD, COMPRESSION.PACKBITS)
}


class ImageError(ValueError):
    """A file that cannot be read or written as asked; one line with what is wrong and what to do."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Picture:
    """An image file as arrays: what the denoiser sees, and what is needed to write the same kind back."""

    path: Path
    """The file it was read from."""
    pixels: Array
    """(h, w, c) float32, c = 1 gray or 3 RGB; integer files in [0, 1], float files as they are; finite."""
    alpha: Array | None
    """(h, w) in the file's own dtype, untouched; None without transparency."""
    dtype: np.dtype[Any]
    """Of the file's samples: uint8, uint16, float16, float32 or float64."""
    exif: bytes = b""
    """EXIF block as it stands in a TIFF header, without the JPEG prefix; empty if there is none."""
    icc: bytes = b""
    """ICC colour profile; empty if there is none."""
    resolution: tuple[float, float, int] | None = None
    """Pixels per unit in x and y, and the unit as a tifffile.RESUNIT."""
    lossless: bool = True
    """Whether the file's coding kept every sample; a WebP is written the same way."""
    compression: int = COMPRESSION.ADOBE_DEFLATE
    """tifffile.COMPRESSION a TIFF is written with."""
    alpha_kind: int = EXTRASAMPLE.UNASSALPHA
    """tifffile.EXTRASAMPLE of the alpha channel: plain, premultiplied or of unstated meaning."""
    png_chunks: tuple[tuple[bytes, bytes], ...] = ()
    """PNG chunks that say how the numbers become colours, as (kind, body)."""


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


def read_image(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP or BMP file, recognised by its content, not by its name.

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
    with path.open("rb") as file:
        reader = _reader(path, file.read(16))
    try:
        return reader(path)
    except ImageError:
        raise
    except MemoryError as error:
        raise ImageError(f"{path}: too large for this computer's memory, or damaged; crop it") from error
    except Exception as error:  # decoders answer damage with any kind: IndexError, SyntaxError, RuntimeError
        raise _damaged(path, error) from error


def write_image(path: Path, pixels: Array, like: Picture) -> None:
    """Write pixels with the depth, channels and colour profile of `like`, in the format of the path's suffix.

    The file appears whole or not at all: an error leaves what was there before.

    Args:
        path: File to write or replace; a suffix of `SUFFIXES`, in a folder that exists.
        pixels: Same shape as `like.pixels`, nominally in [0, 1]; integer kinds are clipped and rounded.
        like: The picture it was made from; its alpha channel is written untouched.

    Raises:
        ImageError: if the format cannot hold the picture without loss, or for another shape or a NaN.
        OSError: if the folder is missing, or the file cannot be written.
    """
    check_fits(path, like)
    if pixels.shape != like.pixels.shape:
        raise ImageError(f"{path}: got pixels of shape {pixels.shape}, expected {like.pixels.shape}")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} in; create it first")
    temporary = path.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        samples = from_pixels(pixels, like.dtype)
        if like.alpha is not None:
            samples = np.dstack([samples, like.alpha])
        with temporary.open("xb") as file:
            _encode(file, path.suffix.lower(), samples[..., 0] if samples.shape[2] == 1 else samples, like)
        temporary.replace(path)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({_one_line(error)})") from error
    finally:
        temporary.unlink(missing_ok=True)


def megapixels(path: Path) -> float:
    """Size of an image file by its header, for a forecast; 0 where the header says nothing."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture is none of an attacker's here
            with Image.open(path) as image:
                return image.width * image.height / 1e6
    except Exception:  # a file that cannot be read is told of when it is read
        return 0.0


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """List the image files a person means by some files, folders and glob patterns.

    Args:
        inputs: Files are taken whatever their suffix; folders are searched to any depth for known suffixes,
            without hidden files and folders, in sorted order; patterns that no shell expanded are expanded.

    Returns:
        Paths in the order of `inputs`, each file once.

    Raises:
        FileNotFoundError: if a path does not exist or a pattern matches nothing.
        ImageError: if a folder holds no image.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(given):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(given: Path) -> Iterable[Path]:
    if given.is_dir():
        images = sorted(path for path in given.rglob("*") if _is_visible_image(path, given))
        if not images:
            raise ImageError(f"{given}: no images in this folder; looked for {' '.join(sorted(SUFFIXES))}")
        return images
    if given.exists():
        return [given]
    matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    if not matches:
        raise FileNotFoundError(f"{given}: no such file or folder; check the spelling")
    return [path for match in matches for path in _expand(Path(match))]


def _is_visible_image(path: Path, folder: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
    return path.suffix.lower() in SUFFIXES and not hidden and path.is_file()


def _reader(path: Path, head: bytes) -> Callable[[Path], Picture]:
    if head.startswith(PNG_SIGNATURE):
        return _read_png
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return _read_webp
    if head.startswith((b"\xff\xd8\xff", b"BM")):
        return _read_jpeg_or_bmp
    if head.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return _read_tiff
    if not head:
        raise ImageError(f"{path}: the file is empty; copy it again from its source")
    raise ImageError(f"{path}: damaged, or not PNG, JPEG, TIFF, WebP or BMP; convert it to one of these")


def _picture(path: Path, array: Array, **kept: Any) -> Picture:
    """Split decoded samples, (h, w) or (h, w, 1..4), into colour and alpha."""
    if array.dtype not in DEPTHS:
        raise ImageError(f"{path}: {array.dtype} samples are not supported; convert it to uint16 or float32")
    array = array[..., np.newaxis] if array.ndim == 2 else array
    alpha = array[..., -1].copy() if array.shape[2] in (2, 4) else None
    pixels = to_pixels(array[..., : 1 if array.shape[2] < 3 else 3])
    if bad := np.count_nonzero(~np.isfinite(pixels).all(axis=2)):
        raise ImageError(f"{path}: {bad} pixels are NaN or infinite; replace them with numbers first")
    return Picture(path=path, pixels=pixels, alpha=alpha, dtype=array.dtype, **kept)


def _read_png(path: Path) -> Picture:
    chunks = list(_png_chunks(path.read_bytes()))
    if any(kind == b"acTL" for kind, _ in chunks):
        raise ImageError(f"{path}: an animated PNG; save the frame to denoise as a picture of its own first")
    extras = {kind: bytes(body) for kind, body in chunks if kind != b"IDAT"}
    # only what the pixels need: libpng prints a warning for every harmless flaw in the rest
    pixel_chunks = [_png_chunk(kind, body) for kind, body in chunks if kind in PNG_PIXEL_CHUNKS]
    array = imagecodecs.png_decode(PNG_SIGNATURE + b"".join(pixel_chunks))
    resolution = None
    if b"pHYs" in extras:
        per_metre_x, per_metre_y, unit_is_metre = struct.unpack(">IIB", extras[b"pHYs"])
        if unit_is_metre:
            resolution = (per_metre_x / 100, per_metre_y / 100, RESUNIT.CENTIMETER)
    icc = zlib.decompress(extras[b"iCCP"].split(b"\0", 1)[1][1:]) if b"iCCP" in extras else b""
    colour = tuple((kind, body) for kind, body in extras.items() if kind in PNG_COLOUR_CHUNKS)
    exif = extras.get(b"eXIf", b"")
    return _picture(path, array, exif=exif, icc=icc, resolution=resolution, png_chunks=colour)


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, offset, kind = memoryview(data), len(PNG_SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, offset)
        body = view[offset + 8 : offset + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, offset + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise ValueError(f"wrong checksum at byte {offset}")
        yield kind, body
        offset += length + 12


def _png_chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _read_webp(path: Path) -> Picture:
    data = path.read_bytes()
    chunks = list(_webp_chunks(data))
    if any(kind == b"ANMF" for kind, _ in chunks):
        raise ImageError(f"{path}: an animated WebP; save the frame to denoise as a picture of its own first")
    extras = dict(chunks)
    exif = extras.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    array = imagecodecs.webp_decode(data)
    return _picture(path, array, exif=exif, icc=extras.get(b"ICCP", b""), lossless=b"VP8L" in extras)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    (size,) = struct.unpack_from("<I", data, 4)
    offset = 12
    while offset < size + 8:
        kind, length = struct.unpack_from("<4sI", data, offset)
        yield kind, data[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2


def _read_jpeg_or_bmp(path: Path) -> Picture:
    with path.open("rb") as file:
        # the class, not Image.open: whose limit is one global number, and refuses a picture of 200 megapixels
        is_bmp = file.read(2) == b"BM"
        file.seek(0)
        image = BmpImagePlugin.BmpImageFile(file) if is_bmp else JpegImagePlugin.JpegImageFile(file)
        mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}.get(image.mode)
        if mode is None:
            raise ImageError(f"{path}: {image.mode} colours are not supported; convert it to RGB first")
        if image.width * image.height > MOST_PIXELS_PER_BYTE * path.stat().st_size:
            raise ValueError(f"too short for {image.width} x {image.height} pixels")
        image.load()
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    icc = image.info.get("icc_profile") or b""
    dpi = image.info.get("dpi")
    resolution = (float(dpi[0]), float(dpi[1]), RESUNIT.INCH) if dpi else None
    return _picture(path, array, exif=exif, icc=icc, resolution=resolution, lossless=is_bmp)


def _read_tiff(path: Path) -> Picture:
    with _complaints() as complaints, tifffile.TiffFile(path, is_ome=False) as tif:
        series = [one for one in tif.series if not one.keyframe.is_reduced]  # a preview is no page
        planes = sum(one.size // one.keyframe.size for one in series)
        if complaints:
            raise _damaged(path, complaints[0].getMessage())
        page = series[0].keyframe if series else tif.pages.first
        if planes != 1 or page.axes not in ("YX", "YXS", "SYX"):
            stack = f"a stack of {planes} pages, each {page.axes}"
            raise ImageError(f"{path}: {stack}; stacks come in a later version, split it into single pages")
        alpha_kind = _check_tiff_kind(path, page)
        _check_tiff_whole(path, page, tif.filehandle.size)
        array = page.asarray()
        icc = page.iccprofile or b""  # inside the block: tifffile reads large tags when they are asked for
        stated = "XResolution" in page.tags and min(page.resolution) > 0
        resolution = (*page.resolution, page.resolutionunit) if stated else None
    array = np.moveaxis(array, 0, 2) if page.axes == "SYX" else array
    array = array * np.uint8(255) if array.dtype == bool else array
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        array = np.iinfo(array.dtype).max - array
    compression = TIFF_COMPRESSIONS.get(page.compression, COMPRESSION.ADOBE_DEFLATE)
    kept = {"icc": icc, "resolution": resolution, "compression": compression}
    return _picture(path, array, alpha_kind=alpha_kind, **kept)


def _check_tiff_kind(path: Path, page: tifffile.TiffPage) -> int:
    """Refuse colours and depths that could not be written back; return the kind of the alpha channel."""
    colours = TIFF_COLOURS.get(page.photometric, 0)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG:
        colours = 3  # decoded to RGB
    if page.photometric == PHOTOMETRIC.MINISWHITE and page.sampleformat == SAMPLEFORMAT.IEEEFP:
        colours = 0  # no number is white
    if colours == 0:
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageError(f"{path}: {name} colours are not supported; convert it to gray or RGB first")
    bits = page.bitspersample
    if page.dtype is None or bits not in (1, 8 * page.dtype.itemsize):
        raise ImageError(f"{path}: {bits} bits a sample are not supported; convert it to 8 or 16 bits first")
    extra = page.samplesperpixel - colours
    alpha_kind = page.extrasamples[0] if page.extrasamples else EXTRASAMPLE.UNSPECIFIED
    if extra not in (0, 1) or (extra == colours == 1 and alpha_kind == EXTRASAMPLE.UNSPECIFIED):
        channels = f"{page.samplesperpixel} channels, expected gray or RGB, with alpha or without"
        raise ImageError(f"{path}: {channels}; split it first")
    return alpha_kind if extra else EXTRASAMPLE.UNASSALPHA


def _check_tiff_whole(path: Path, page: tifffile.TiffPage, size: int) -> None:
    """Refuse lost strips or tiles: tifffile makes up zeros for them, and LZW cut short passes unseen."""
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    whole = sum(offset > 0 and 0 < count <= size - offset for offset, count in segments)
    if whole != (expected := math.prod(page.chunked)):
        raise _damaged(path, f"only {whole} of {expected} strips or tiles are whole")


@contextmanager
def _complaints() -> Iterator[list[logging.LogRecord]]:
    """Collect the errors tifffile only logs: it drops a tag or page it cannot read, and the rest is wrong."""
    thread = threading.get_ident()
    listener = BufferingHandler(capacity=sys.maxsize)
    listener.setLevel(logging.ERROR)
    listener.addFilter(lambda record: record.thread == thread)
    tifffile.logger().addHandler(listener)
    try:
        yield listener.buffer
    finally:
        tifffile.logger().removeHandler(listener)


def _damaged(path: Path, reason: object) -> ImageError:
    cause = f"truncated or damaged, cannot be read ({_one_line(reason)})"
    return ImageError(f"{path}: {cause}; copy it again from its source")


def _one_line(reason: object) -> str:
    return " ".join(str(reason).split())[:120] or type(reason).__name__


def check_fits(path: Path, like: Picture) -> None:
    """Refuse, before any work is done, a file format that cannot hold a picture without loss.

    Raises:
        ImageError: names the output file, what it cannot hold, and the format that can.
    """
    suffix, (height, width) = path.suffix.lower(), like.pixels.shape[:2]
    if suffix not in SUFFIXES:
        raise ImageError(f"{path}: unknown suffix; use one of {' '.join(sorted(SUFFIXES))}")
    if suffix in (".tif", ".tiff"):
        return
    if like.dtype.kind == "f":
        problem, remedy = f"{like.dtype} samples", ".tif"
    elif like.dtype == np.uint16 and suffix != ".png":
        problem, remedy = "16 bits a sample", ".png or .tif"
    elif like.alpha is not None and like.alpha_kind != EXTRASAMPLE.UNASSALPHA:
        problem, remedy = "premultiplied transparency or an extra channel", ".tif"
    elif like.alpha is not None and suffix in (".jpg", ".jpeg", ".bmp"):
        problem, remedy = "transparency", ".png or .tif"
    elif len(like.exif) > LARGEST_JPEG_EXIF and suffix in (".jpg", ".jpeg"):
        problem, remedy = f"{len(like.exif)} bytes of EXIF", ".png"
    elif max(height, width) > LONGEST_SIDE.get(suffix, math.inf):
        problem, remedy = f"{width} x {height} pixels", ".png or .tif"
    else:
        return
    raise ImageError(f"{path}: a {suffix} file cannot hold {problem}; write {remedy} instead")


def _encode(file: BinaryIO, suffix: str, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4) of the file's dtype, to an open file."""
    if suffix == ".png":
        file.write(_png(samples, like))
    elif suffix in (".tif", ".tiff"):
        _write_tiff(file, samples, like)
    else:
        kind, options = {
            ".bmp": ("BMP", {}),
            ".webp": ("WEBP", {"lossless": like.lossless, "quality": WEBP_QUALITY, "exact": True}),
        }.get(suffix, ("JPEG", JPEG_OPTIONS))
        _write_pillow(file, samples, like, kind, options)


def _png(samples: Array, like: Picture) -> bytes:
    data = bytes(imagecodecs.png_encode(samples))
    chunks = list(like.png_chunks)
    if like.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(like.icc)))
    if per_metre := _pixels_per_metre(like):
        chunks.append((b"pHYs", struct.pack(">IIB", round(per_metre[0]), round(per_metre[1]), 1)))
    if like.exif:
        chunks.append((b"eXIf", like.exif))
    header_end = len(PNG_SIGNATURE) + 25
    return data[:header_end] + b"".join(_png_chunk(*chunk) for chunk in chunks) + data[header_end:]


def _write_tiff(file: BinaryIO, samples: Array, like: Picture) -> None:
    packed = like.compression not in (COMPRESSION.NONE, COMPRESSION.PACKBITS)
    tifffile.imwrite(
        file,
        samples,
        photometric="rgb" if like.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.ndim == 3 else None,
        extrasamples=None if like.alpha is None else [like.alpha_kind],
        compression=like.compression,
        predictor=packed and samples.dtype.kind == "u",  # few programs read the predictor for floats
        resolution=like.resolution[:2] if like.resolution else None,
        resolutionunit=like.resolution[2] if like.resolution else None,
        iccprofile=like.icc or None,
        metadata=None,
        software=False,
    )


def _write_pillow(file: BinaryIO, samples: Array, like: Picture, kind: str, options: dict[str, Any]) -> None:
    if like.exif:
        options = {**options, "exif": b"Exif\0\0" + like.exif}
    if per_metre := _pixels_per_metre(like):
        options = {**options, "dpi": (per_metre[0] * 0.0254, per_metre[1] * 0.0254)}
    Image.fromarray(samples).save(file, kind, icc_profile=like.icc or None, **options)


def _pixels_per_metre(like: Picture) -> tuple[float, float] | None:
    """Resolution in the unit of PNG and BMP; None if it has no unit of length, or is beyond their 32 bits."""
    if like.resolution is None or like.resolution[2] not in UNITS_PER_METRE:
        return None
    x, y = (length * UNITS_PER_METRE[like.resolution[2]] for length in like.resolution[:2])
    return (x, y) if 0.5 < x < 2**31 and 0.5 < y < 2**31 else None
