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
from dbsn.io.picture import PNG_TEXTS, Picture, picture_of

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PIXEL_CHUNKS = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"})
_COLOUR_CHUNKS = frozenset({b"cICP", b"cHRM", b"gAMA", b"sRGB", b"mDCV", b"cLLI", b"mDCv", b"cLLi", b"sBIT"})
_ONE_EACH = frozenset({b"iCCP", b"pHYs", b"eXIf"})
_SPENT = frozenset({b"hIST", b"bKGD", b"iDOT", b"sPLT"})  # about a palette, or where the data lay in the file
_SAMPLES = {0: 1, 2: 3, 4: 2}  # of a pixel, by colour type; a palette may become four
_XMP_KEYWORD = b"XML:com.adobe.xmp"
_PROFILE = b"Raw profile type "


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
    icc, remarks = _profile(extras.get(b"iCCP"))
    profiles = [_raw_profile(bytes(body)) for kind, body in chunks if kind in PNG_TEXTS]
    raw = {name: body for name, body in profiles if name}
    kept = {
        "exif": extras.get(b"eXIf") or next((raw[name] for name in (b"exif", b"APP1") if name in raw), b""),
        "xmp": b"".join(_xmp(bytes(body)) for kind, body in chunks if kind == b"iTXt") or raw.get(b"xmp", b""),
        "icc": icc or raw.get(b"icc", raw.get(b"icm", b"")),
        "photoshop": raw.get(b"8bim", raw.get(b"iptc", b"")),
        "png_chunks": tuple(_as_they_are(chunks, array)),
        "resolution": _resolution(extras.get(b"pHYs", b"")),
    }
    dropped = sorted({kind.decode("latin1") for kind, _ in chunks if _is_unsafe(kind)})
    remarks += (f"PNG chunks that depend on the pixels are left out ({', '.join(dropped)})",) if dropped else ()
    return picture_of(path, array, remarks=remarks, **kept)


def _resolution(body: bytes) -> tuple[float, float, int] | None:
    if len(body) != 9 or body[8] != 1:  # 1 is the metre
        return None
    per_metre_x, per_metre_y = struct.unpack(">II", body[:8])
    return per_metre_x / 100, per_metre_y / 100, RESUNIT.CENTIMETER


def _profile(body: bytes | None) -> tuple[bytes, tuple[str, ...]]:
    """The colour profile of an iCCP chunk, and a remark if it is damaged: viewers ignore it, too."""
    if body is None:
        return b"", ()
    try:
        return inflated(body.split(b"\0", 1)[1][1:]), ()
    except (IndexError, ValueError, zlib.error):
        return b"", ("its colour profile is damaged and left out",)


def _is_unsafe(kind: bytes) -> bool:
    """Whether a chunk depends on the pixels in a way that we do not know (PNG 1.2, section 3.3)."""
    known = _PIXEL_CHUNKS | _COLOUR_CHUNKS | PNG_TEXTS | _ONE_EACH | _SPENT | {b"tIME"}
    return kind not in known and bool(kind[0] & 0x20) and not kind[3] & 0x20


def _as_they_are(chunks: list[tuple[bytes, memoryview]], array: Array) -> Iterator[tuple[bytes, bytes]]:
    """The chunks that are written again unchanged."""
    channels, bits = 1 if array.ndim == 2 else array.shape[2], 8 * array.dtype.itemsize
    for kind, view in chunks:
        body = bytes(view)
        if kind == b"sBIT":
            body += bytes([bits]) * (len(body) in (1, 3) and channels == len(body) + 1)  # tRNS became an alpha channel
            if len(body) != channels or not 0 < max(body) <= bits:
                continue
        if kind in PNG_TEXTS and (body.startswith(_XMP_KEYWORD + b"\0") or _raw_profile(body)[0]):
            continue
        if kind == b"pHYs" and body[8:] == b"\0":
            yield kind, body  # the aspect of a pixel, without a unit
        is_safe_to_copy = bool(kind[0] & 0x20 and kind[3] & 0x20) and kind not in _ONE_EACH | _SPENT | _PIXEL_CHUNKS
        if kind in _COLOUR_CHUNKS | PNG_TEXTS or kind == b"tIME" or is_safe_to_copy:
            yield kind, body


def _raw_profile(text: bytes) -> tuple[bytes, bytes]:
    """Name and bytes of a profile that ImageMagick and exiftool write as hexadecimal text; empty if there is none.

    The name is exif, APP1, xmp, icc, icm, iptc or 8bim.
    """
    keyword, _, rest = text.partition(b"\0")
    if not keyword.startswith(_PROFILE):
        return b"", b""
    try:
        lines = (inflated(rest[1:]) if rest[:1] == b"\0" else rest).split(b"\n", 3)
        body = bytes.fromhex("".join(lines[3].decode("ascii").split()))[: int(lines[2])]
    except (IndexError, ValueError, zlib.error):
        return b"", b""
    name = keyword.removeprefix(_PROFILE)
    if name == b"APP1" and not body.startswith(b"Exif\0\0"):
        return b"", b""
    return name, body.removeprefix(b"Exif\0\0")


def _profile_text(name: bytes, body: bytes) -> bytes:
    """A zTXt chunk's body that holds a profile as hexadecimal text."""
    digits = body.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    text = "\n".join(["", name.decode("ascii"), f"{len(body):8d}", *lines, ""])
    return _PROFILE + name + b"\0\0" + zlib.compress(text.encode("ascii"))


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
    chunks = [chunk for chunk in like.png_chunks if _fits(chunk, samples)]
    if like.icc:
        chunks.append((b"iCCP", b"ICC profile\0\0" + zlib.compress(like.icc)))
    if per_metre := like.pixels_per_metre:
        chunks.append((b"pHYs", struct.pack(">IIB", round(per_metre[0]), round(per_metre[1]), 1)))
    if like.exif:
        chunks.append((b"eXIf", like.exif))
    if like.photoshop:
        chunks.append((b"zTXt", _profile_text(b"iptc", like.photoshop)))
    if like.xmp:
        chunks.append((b"iTXt", _XMP_KEYWORD + bytes(5) + like.xmp))
    header_end = len(SIGNATURE) + 25
    file.write(data[:header_end] + b"".join(_chunk(*chunk) for chunk in chunks) + data[header_end:])


def _fits(chunk: tuple[bytes, bytes], samples: Array) -> bool:
    """Whether a chunk is true of these samples: significant bits are not of another depth."""
    kind, body = chunk
    channels = 1 if samples.ndim == 2 else samples.shape[2]
    return kind != b"sBIT" or (len(body) == channels and max(body) <= 8 * samples.dtype.itemsize)
