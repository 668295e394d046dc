"""WebP files: read with imagecodecs, written with Pillow.

Other formats do not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.checks import check_size
from dbsn.io.picture import Picture, picture_of
from dbsn.io.pillow import write_by_pillow


def read_webp(path: Path) -> Picture:
    """Read a WebP; errors are those of `dbsn.io.formats.read_image`."""
    data = path.read_bytes()
    chunks = list(_webp_chunks(data))
    if any(kind == b"ANMF" for kind, _ in chunks):
        raise ImageError(f"{path}: an animated WebP. Save the frame to denoise as a single picture first.")
    extras = dict(chunks)
    exif = extras.get(b"EXIF", b"").removeprefix(b"Exif\0\0")
    check_size(path, _samples(dict(reversed(chunks))), len(data))
    array = imagecodecs.webp_decode(data)
    kept = {"xmp": extras.get(b"XMP ", b""), "icc": extras.get(b"ICCP", b"")}
    return picture_of(path, array, exif=exif, lossless=b"VP8L" in extras, **kept)


def write_webp(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a WebP without loss, or of high quality, as `like` was."""
    write_by_pillow(file, samples, like, "WEBP", lossless=like.lossless, quality=95, exact=True)


def _samples(chunks: dict[bytes, bytes]) -> int:
    """Bytes of the decoded samples, by the frame's own header."""
    if b"VP8L" in chunks:
        bits = int.from_bytes(chunks[b"VP8L"][1:5], "little")
        return 4 * (1 + bits % 2**14) * (1 + (bits >> 14) % 2**14)
    width, height = struct.unpack_from("<HH", chunks[b"VP8 "], 6)
    return 4 * (width % 2**14) * (height % 2**14)


def _webp_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    (size,) = struct.unpack_from("<I", data, 4)
    offset = 12
    while offset < size + 8:
        kind, length = struct.unpack_from("<4sI", data, offset)
        yield kind, data[offset + 8 : offset + 8 + length]
        offset += 8 + length + length % 2
