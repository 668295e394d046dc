"""PNG files: read and written with imagecodecs.

Pillow would read 16-bit colour as 8 bit without a warning. Other formats do not belong here. Tested in
tests/unit/test_images.py. This module must not import torch.
"""

import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs
from tifffile import RESUNIT

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.checks import check_size, inflated
from dbsn.io.picture import Picture, picture_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_COLOUR_CHUNKS = frozenset({b"cICP", b"cHRM", b"gAMA", b"sRGB"})
_SAMPLES = {0: 1, 2: 3, 4: 2}  # of a pixel, by colour type; a palette may become four
_XMP_KEYWORD = b"XML:com.adobe.xmp"


def read_png(path: Path) -> Picture:
    """Read a PNG; errors are those of `dbsn.io.formats.read_image`."""
    chunks = list(_chunks(path.read_bytes()))
    if any(kind == b"acTL" for kind, _ in chunks):
        raise ImageError(f"{path}: an animated PNG. Save the frame to denoise as a single picture first.")
    extras = {kind: bytes(body) for kind, body in chunks if kind != b"IDAT"}
    width, height, depth, kind = struct.unpack_from(">IIBB", extras[b"IHDR"])
    samples = width * height * _SAMPLES.get(kind, 4) * max(depth, 8) // 8
    check_size(path, samples, path.stat().st_size)
    # only the chunks of the pixels: libpng prints a warning for every harmless flaw in the others
    pixel_chunks = [_chunk(kind, body) for kind, body in chunks if kind in _PIXEL_CHUNKS]
    array = imagecodecs.png_decode(SIGNATURE + b"".join(pixel_chunks))
    resolution = None
    if b"pHYs" in extras:
        per_metre_x, per_metre_y, unit_is_metre = struct.unpack(">IIB", extras[b"pHYs"])
        if unit_is_metre:
            resolution = (per_metre_x / 100, per_metre_y / 100, RESUNIT.CENTIMETER)
    icc = inflated(extras[b"iCCP"].split(b"\0", 1)[1][1:]) if b"iCCP" in extras else b""
    colour = tuple((kind, body) for kind, body in extras.items() if kind in _COLOUR_CHUNKS)
    exif, xmp = extras.get(b"eXIf", b""), b"".join(_xmp(bytes(body)) for kind, body in chunks if kind == b"iTXt")
    return picture_of(path, array, exif=exif, xmp=xmp, icc=icc, resolution=resolution, png_chunks=colour)


def _xmp(text: bytes) -> bytes:
    """The XMP packet of an iTXt chunk; empty if there is none."""
    keyword, _, rest = text.partition(b"\0")
    if keyword != _XMP_KEYWORD:
        return b""
    packet = rest[2:].split(b"\0", 2)[2]  # behind two flags, a language and a translated keyword
    return inflated(packet) if rest[0] else packet


def _chunks(data: bytes) -> Iterator[tuple[bytes, memoryview]]:
    view, offset, kind = memoryview(data), len(SIGNATURE), b""
    while kind != b"IEND":
        length, kind = struct.unpack_from(">I4s", data, offset)
        body = view[offset + 8 : offset + 8 + length]
        (checksum,) = struct.unpack_from(">I", data, offset + 8 + length)
        if zlib.crc32(body, zlib.crc32(kind)) != checksum:
            raise ValueError(f"wrong checksum at byte {offset}")
        yield kind, body
        offset += length + 12


def _chunk(kind: bytes, body: bytes | memoryview) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def write_png(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), with the metadata of `like`."""
    data = bytes(imagecodecs.png_encode(samples))
    chunks = list(like.png_chunks)
    if like.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(like.icc)))
    if per_metre := like.pixels_per_metre:
        chunks.append((b"pHYs", struct.pack(">IIB", round(per_metre[0]), round(per_metre[1]), 1)))
    if like.exif:
        chunks.append((b"eXIf", like.exif))
    if like.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + bytes(5) + like.xmp))
    header_end = len(SIGNATURE) + 25
    file.write(data[:header_end] + b"".join(_chunk(*chunk) for chunk in chunks) + data[header_end:])
