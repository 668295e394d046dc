"""A JPEG's segments, and what follows its picture: kept as they are.

A gain map, a motion photo's video and further views follow the picture. Multi-Picture Format (CIPA DC-007) finds them
by offsets, which are set anew. Other announcements count from the end of the file and stay true. Pixels do not belong
here. Tested in tests/unit/test_metadata.py. This module must not import torch.
"""

import re
import struct
from collections.abc import Iterator, Sequence

from dbsn.io.picture import JPEG_COMMENT, JpegRest

_EOI, _SOS = 0xD9, 0xDA
_APP0, _APP1, _APP2, _APP11, _APP13, _APP14, _APP15 = 0xE0, 0xE1, 0xE2, 0xEB, 0xED, 0xEE, 0xEF
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
_PHOTOSHOP, _PROFILE, _MPF = b"Photoshop 3.0\0", b"ICC_PROFILE\0", b"MPF\0"
_NEXT_MARKER = re.compile(rb"\xff[^\x00\x01\xd0-\xd7\xff]")
_TABLES = frozenset({0xC4, 0xC8, 0xCC})  # between the markers of frames
_MP_ENTRIES = 0xB002
_ANNOUNCING = {  # names in a namespace, as a pattern
    b"http://ns.adobe.com/hdr-gain-map/1.0/": rb"\w+",
    b"http://ns.google.com/photos/1.0/container/": rb"Directory",
    b"http://ns.google.com/photos/1.0/camera/": rb"(?:MotionPhoto|MicroVideo)\w*",
}
_LARGEST = 65533  # bytes of a segment's body


def rest_of(data: bytes) -> tuple[JpegRest | None, bytes, tuple[str, ...]]:
    """Split what a JPEG holds beside what Pillow reads.

    Args:
        data: The file.

    Returns:
        The rest, Photoshop's image resources (IPTC), and remarks about what cannot be kept.
    """
    kept, photoshop, remarks = list[tuple[int, bytes]](), b"", tuple[str, ...]()
    end = _end(data)
    behind = data[end:] if data[end:].strip(b"\0\xff") else b""
    for marker, start, body in _segments(data):
        if marker == _APP13 and body.startswith(_PHOTOSHOP):
            photoshop += body.removeprefix(_PHOTOSHOP)
        elif marker == _APP11 and body.startswith(b"JP"):
            remarks = ("its content credentials sign the old pixels and are left out",)
        elif marker == _APP2 and body.startswith(_MPF):
            if behind:
                kept.append((marker, _moved(body, -(end - start - 8), 0)))
        elif marker == JPEG_COMMENT or (_APP0 < marker <= _APP15 and not _is_read_elsewhere(marker, body)):
            kept.append((marker, body))
    if behind and _size(behind) == _size(data):
        remarks += ("its further views are kept as they are, with their noise",)
    rest = JpegRest(tuple(kept), behind)
    return (rest if kept or behind else None), photoshop, remarks


def with_rest(data: bytes, rest: JpegRest | None, photoshop: bytes) -> bytes:
    """A JPEG without further pictures, with segments and what follows put in."""
    segments = [(_APP13, _PHOTOSHOP + part) for part in _parts(photoshop, _LARGEST - len(_PHOTOSHOP))]
    segments += rest.segments if rest else ()
    at = next(
        start for marker, start, body in _segments(data) if marker != _APP0 and not _is_read_elsewhere(marker, body)
    )
    size = len(data) + sum(len(body) + 4 for _, body in segments)
    put = b""
    for marker, body in segments:
        if marker == _APP2 and body.startswith(_MPF):
            body = _moved(body, size - (at + len(put) + 8), size)
        put += struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body
    return data[:at] + put + data[at:] + (rest.behind if rest else b"")


def without_announcements(xmp: bytes) -> bytes:
    """An XMP packet that does not announce what follows the picture (gain map, video): it is not written along."""
    for uri, names in _ANNOUNCING.items():
        for prefix in re.findall(rb"xmlns:([\w.-]+)\s*=\s*[\"']" + re.escape(uri) + rb"[\"']", xmp):
            name = re.escape(prefix) + b":" + names
            xmp = re.sub(rb"<(" + name + rb")\b[^>]*?(?:/>|>.*?</\1\s*>)", b"", xmp, flags=re.DOTALL)
            xmp = re.sub(rb"\s" + name + rb"\s*=\s*(\"[^\"]*\"|'[^']*')", b"", xmp)
    return xmp


def _is_read_elsewhere(marker: int, body: bytes) -> bool:
    """Whether Pillow reads a segment, or writes one of its own: EXIF, XMP, profile and the kind of colours."""
    read = {_APP1: (b"Exif\0", _XMP), _APP2: (_PROFILE,), _APP14: (b"Adobe",)}
    return body.startswith(read.get(marker, (b"\xff" * 9,)))


def _segments(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, offset and body of each segment before the pixels."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        yield marker, at, data[at + 4 : at + 2 + length]
        if marker == _SOS:
            return
        at += 2 + length


def _size(data: bytes) -> bytes:
    """Height and width of a JPEG, as their four bytes; empty if it is none."""
    if not data.startswith(b"\xff\xd8"):
        return b""
    frames = (body[1:5] for marker, _, body in _segments(data) if 0xC0 <= marker <= 0xCF and marker not in _TABLES)
    return next(frames, b"")


def _end(data: bytes) -> int:
    """Offset behind the first picture."""
    at = 2
    while found := _NEXT_MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == _EOI:
            return at
        at += int.from_bytes(data[at : at + 2], "big")
    return len(data)


def _moved(body: bytes, by: int, size: int) -> bytes:
    """A Multi-Picture segment whose offsets are moved by so many bytes; the first picture has this size."""
    found = bytearray(body)
    order = "<" if body[4:6] == b"II" else ">"
    try:
        (start,) = struct.unpack_from(f"{order}I", body, 8)
        (count,) = struct.unpack_from(f"{order}H", body, 4 + start)
        for number in range(count):
            tag, _, length, place = struct.unpack_from(f"{order}HHII", body, 4 + start + 2 + 12 * number)
            for entry in range(length // 16 if tag == _MP_ENTRIES else 0):
                at = 4 + place + 16 * entry
                _, was, offset = struct.unpack_from(f"{order}III", body, at)
                struct.pack_into(f"{order}II", found, at + 4, *((was, (offset + by) % 2**32) if entry else (size, 0)))
    except struct.error:  # damaged: it stays as it is
        return body
    return bytes(found)


def _parts(data: bytes, most: int) -> Sequence[bytes]:
    return [data[at : at + most] for at in range(0, len(data), most)]
