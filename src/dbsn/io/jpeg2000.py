"""JPEG 2000 files: read with imagecodecs, and written without loss.

Boxes as in ISO/IEC 15444-1, annex I. Other formats do not belong here. Tested in tests/unit/test_more_formats.py. This
module must not import torch.
"""

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import imagecodecs

from dbsn.intensity import Array
from dbsn.io.picture import Picture, picture_of

SIGNATURE, CODESTREAM = b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"
_XMP = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
_EXIF = b"JpgTiffExif->JP2"
_OF_PICTURE = frozenset({b"jP  ", b"ftyp", b"jp2h", b"jp2c", b"free"})
_BITS = 42  # offset of the depth in a codestream


def read_jpeg2000(path: Path) -> Picture:
    """Read a JP2 file or a codestream; errors are those of `dbsn.io.formats.read_image`."""
    data = path.read_bytes()
    boxes = [] if data.startswith(CODESTREAM) else list(_boxes(data))
    xmp, exif, icc, others, remarks = b"", b"", b"", 0, list[str]()
    for kind, body in boxes:
        if kind == b"uuid" and body[:16] == _XMP:
            xmp = body[16:]
        elif kind == b"uuid" and body[:16] == _EXIF:
            exif = body[16:].removeprefix(b"Exif\0\0")
        elif kind == b"jp2h":
            profiles = [colour[3:] for name, colour in _boxes(body) if name == b"colr" and colour[:1] == b"\2"]
            icc = profiles[0] if profiles else b""
        others += kind not in _OF_PICTURE and body[:16] not in (_XMP, _EXIF)
    array = imagecodecs.jpeg2k_decode(data)
    start = data.index(CODESTREAM)
    bits = (data[start + _BITS] & 0x7F) + 1
    if bits != 8 * array.dtype.itemsize:
        remarks.append(f"samples of {bits} bits are written as {8 * array.dtype.itemsize} bits, with the same numbers")
    if others:
        remarks.append(f"{others} metadata boxes of JPEG 2000 are left out")
    return picture_of(path, array, exif=exif, xmp=xmp, icc=icc, lossless=False, remarks=tuple(remarks))


def write_jp2(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), as a JP2 file without loss, with the metadata of `like`."""
    data = bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="jp2"))
    for kind, body in _boxes(data):
        if kind == b"jp2h" and like.icc:
            inner = [(name, b"\2\0\0" + like.icc if name == b"colr" else part) for name, part in _boxes(body)]
            body = b"".join(_box(*part) for part in inner)
        if kind == b"jp2c":  # the pixels come last
            for name, extra in ((_XMP, like.xmp), (_EXIF, like.exif)):
                file.write(_box(b"uuid", name + extra) if extra else b"")
        file.write(_box(kind, body))


def write_codestream(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), as a codestream, which holds no metadata, without loss."""
    file.write(bytes(imagecodecs.jpeg2k_encode(samples, level=0, reversible=True, codecformat="j2k")))


def _box(kind: bytes, body: bytes) -> bytes:
    if len(body) + 8 < 2**32:
        return struct.pack(">I4s", len(body) + 8, kind) + body
    return struct.pack(">I4sQ", 1, kind, len(body) + 16) + body


def _boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and body of each box."""
    at = 0
    while at + 8 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        head = 16 if length == 1 else 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", data, at + 8)
        end = at + length if length else len(data)
        if end < at + head:
            return
        yield kind, data[at + head : end]
        at = end
