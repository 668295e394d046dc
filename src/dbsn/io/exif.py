"""EXIF blocks: read them, extract them from a TIFF, and write them to a TIFF.

An entry is kept as its bytes. So types, unusual texts and makers' notes stay unchanged. Pillow and tifffile would
convert them to numbers and texts, and back to something else. Damaged entries and previews are omitted. EXIF 2.32,
section 4.6.2 (a directory is TIFF's). Tested in tests/unit/test_images.py. This module must not import torch.
"""

import io
import struct
from typing import Any, BinaryIO, Literal

import numpy as np
from tifffile import TiffFile

from dbsn.limits import LARGEST_METADATA

Order = Literal["<", ">"]
Entry = tuple[int, int, bytes]
"""Type, count, and bytes of the value."""
Directory = dict[int, "Entry | Directory"]

ORIENTATION, DESCRIPTION = 274, 270
_SETTINGS, _PLACE, _INTEROPERABILITY = 34665, 34853, 40965
_TEXTS = frozenset({DESCRIPTION, 271, 272, 306, 315, 33432, *range(40091, 40096)})  # of the picture as a whole
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}  # bytes of each type
_UNITS = {3: 2, 4: 4, 5: 4, 8: 2, 9: 4, 10: 4, 11: 4, 12: 8, 13: 4}  # bytes of each unit with a byte order
_SHORT, _LONG = 3, 4
_LARGEST = LARGEST_METADATA  # bytes of all entries of a directory; damaged ones may have any size
_DEEPEST = 3


def orientation(exif: bytes) -> int:
    """Orientation of a picture, 1 to 8; 1 if its EXIF block does not hold it."""
    order, tags = _understood(exif)
    entry = tags.get(ORIENTATION)
    if not isinstance(entry, tuple) or entry[0] != _SHORT:
        return 1
    found = int(struct.unpack(f"{order}H", entry[2][:2])[0])
    return found if 1 <= found <= 8 else 1


def oriented(turned: int) -> bytes:
    """A block with this orientation alone, 2 to 8; empty for other values."""
    return _block({ORIENTATION: (_SHORT, 1, struct.pack("<H", turned))}, "<") if 2 <= turned <= 8 else b""


def block_of(file: BinaryIO, order: Order, start: int) -> bytes:
    """Read a block from a TIFF's directory: orientation, camera, settings, place.

    Args:
        file: The TIFF, not a BigTIFF, open for reading.
        order: Its byte order.
        start: Offset of the directory.

    Returns:
        The block, empty if there is nothing. It does not hold the description, which in TIFF may give axes and sizes.
    """
    kept = (_TEXTS - {DESCRIPTION}) | {ORIENTATION, _SETTINGS, _PLACE}
    said = {tag: entry for tag, entry in _read(file, order, start).items() if tag in kept}
    as_it_is = said.get(ORIENTATION, ()) == (_SHORT, 1, struct.pack(f"{order}H", 1))
    return _block(said, order) if said and (len(said) > 1 or not as_it_is) else b""


def texts_of(exif: bytes) -> list[tuple[Any, ...]]:
    """The texts of a block as tags for `tifffile.TiffWriter.write`."""
    tags = _understood(exif)[1]
    entries = [(tag, tags[tag]) for tag in sorted(_TEXTS & tags.keys())]
    return [
        (tag, entry[0], len(entry[2]), entry[2], True)
        for tag, entry in entries
        if isinstance(entry, tuple) and entry[0] not in _UNITS
    ]


def directories(exif: bytes, start: int, order: Order) -> tuple[bytes, list[tuple[Any, ...]]]:
    """Convert a block's directories (settings and place) for a TIFF.

    The TIFF must not be a BigTIFF.

    Args:
        exif: The block.
        start: Offset of the directories in the file, an even number.
        order: The file's byte order.

    Returns:
        The bytes, and the tags that point to them, for `tifffile.TiffWriter.write` and then `point`.
    """
    was, tags = _understood(exif)
    written, pointers = b"", list[tuple[Any, ...]]()
    for which in (_SETTINGS, _PLACE):
        if isinstance(inner := tags.get(which), dict):
            pointers.append((which - 1, _LONG, 1, start + len(written), True))
            written += _written(inner, start + len(written), was, order)
    return written, pointers


def point(file: BinaryIO) -> None:
    """Set the tag numbers of the pointers of `directories` in a complete TIFF.

    The file is open for reading and writing. Tifffile writes no tag that points to a directory. So the tag is first
    written with the number before, which is unused.
    """
    file.seek(0)
    with TiffFile(file) as tif:
        tags = tif.pages.first.tags
        found = [(tags[which - 1].offset, which) for which in (_SETTINGS, _PLACE) if which - 1 in tags]
        order: Literal["little", "big"] = "little" if tif.byteorder == "<" else "big"
    for offset, which in found:
        file.seek(offset)
        file.write(which.to_bytes(2, order))


def _understood(exif: bytes) -> tuple[Order, Directory]:
    """Byte order and entries of a block; no entries if it is damaged."""
    order: Order = "<" if exif[:2] == b"II" else ">"
    if len(exif) < 8 or exif[:2] not in (b"II", b"MM"):
        return order, {}
    return order, _read(io.BytesIO(exif), order, struct.unpack(f"{order}I", exif[4:8])[0])


def _read(file: BinaryIO | io.BytesIO, order: Order, start: int, depth: int = 1) -> Directory:
    """Read the directory at an offset, with those it points to.

    Incomplete entries are omitted.
    """
    file.seek(start)
    (count,) = struct.unpack(f"{order}H", file.read(2).ljust(2, b"\0"))
    listed = file.read(12 * count)
    found, left = Directory(), _LARGEST
    for tag, kind, number, place in struct.iter_unpack(f"{order}HHI4s", listed[: len(listed) // 12 * 12]):
        size = _SIZES.get(kind, 0) * number
        (offset,) = struct.unpack(f"{order}I", place)
        if tag in (_SETTINGS, _PLACE, _INTEROPERABILITY):
            within = _read(file, order, offset, depth + 1) if depth < _DEEPEST else {}
            found |= {tag: within} if within else {}
            continue
        value = place[:size]
        if 4 < size <= left:
            file.seek(offset)
            value, left = file.read(size), left - size
        if 0 < size == len(value):
            found[tag] = (kind, number, value)
    return found


def _block(tags: Directory, order: Order) -> bytes:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    return head + _written(tags, 8, order, order)


def _written(tags: Directory, start: int, was: Order, order: Order) -> bytes:
    """Convert a directory to bytes for an offset and a byte order.

    What it points to follows behind it.
    """
    entries, behind = b"", b""
    first = start + 2 + 12 * len(tags) + 4
    for tag, entry in sorted(tags.items()):
        if isinstance(entry, dict):
            kind, number, offset = _LONG, 1, first + len(behind)
            place, value = struct.pack(f"{order}I", offset), _written(entry, offset, was, order)
        else:
            kind, number, value = entry
            if kind in _UNITS and was != order:
                value = np.frombuffer(value, f"u{_UNITS[kind]}").byteswap().tobytes()
            if len(value) <= 4:
                place, value = value.ljust(4, b"\0"), b""
            else:
                place = struct.pack(f"{order}I", first + len(behind))
        entries += struct.pack(f"{order}HHI", tag, kind, number) + place
        behind += value + b"\0" * (len(value) % 2)
    return struct.pack(f"{order}H", len(tags)) + entries + bytes(4) + behind
