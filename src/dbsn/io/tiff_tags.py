"""Tags of a TIFF page: which are kept as they are, and how they are written again.

Kept is everything that does not describe how the samples lie in the file, and holds no offset into it: GeoTIFF,
descriptions (ImageJ, OME), makers' own. EXIF, XMP, profile and IPTC are read elsewhere. Tested in
tests/unit/test_metadata.py. This module must not import torch.
"""

import json
import math
from collections.abc import Sequence
from typing import Any

import tifffile
from tifffile import DATATYPE

from dbsn.io.exif import texts_of
from dbsn.io.iptc import iptc_of, with_iptc
from dbsn.io.picture import Picture, TiffTag

DESCRIPTION, XMP, IPTC, PHOTOSHOP = 270, 700, 33723, 34377
_OF_SAMPLES = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 282, 283, 284, 288, 289, 290}
    | {
        291,
        292,
        293,
        296,
        301,
        317,
        320,
        321,
        322,
        323,
        324,
        325,
        326,
        327,
        328,
        330,
        332,
        333,
        334,
        336,
        337,
        338,
        339,
    }
    | {340, 341, 342, 343, 344, 345, 346, 347, 512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 559}
    | {32997, 32998, 34016, 34019, 34022, 34023, 34024, 34025, 34027, 50674, 50675}
)
_READ_ELSEWHERE = frozenset({274, XMP, IPTC, PHOTOSHOP, 34665, 34675, 34853, 40965})
OFFSETS = {  # tags that point into the file, or describe the pixels as they were, by their makers
    **dict.fromkeys(range(33628, 33632), "MetaMorph's plane tables"),
    34412: "Zeiss's LSM table",
    37724: "Photoshop's layers",
    **dict.fromkeys(range(65420, 65460), "Hamamatsu's NDPI tables"),
    400: "",
}
_DIRECTORIES = frozenset({DATATYPE.IFD, DATATYPE.IFD8})
_BYTES = frozenset({DATATYPE.BYTE, DATATYPE.ASCII, DATATYPE.SBYTE, DATATYPE.UNDEFINED})
_LARGE = frozenset({DATATYPE.LONG8, DATATYPE.SLONG8, DATATYPE.IFD8})


def kept_tags(
    tif: tifffile.TiffFile, page: tifffile.TiffPage, series: Sequence[tifffile.TiffPageSeries]
) -> tuple[tuple[TiffTag, ...], tuple[str, ...]]:
    """Tags of a page that are kept, and remarks about those that cannot be."""
    kept, remarks = list[TiffTag](), list[str]()
    for tag in page.tags:
        if tag.code in OFFSETS:
            remarks += [f"{OFFSETS[tag.code]} cannot be kept"] if OFFSETS[tag.code] else []
        elif tag.code not in _OF_SAMPLES | _READ_ELSEWHERE and tag.dtype not in _DIRECTORIES:
            value = _bytes_of(tif, tag)
            if tag.code == DESCRIPTION and value.startswith(b'{"shape":'):
                value = _shape_told(value, series)
            if value:
                kept.append(TiffTag(tag.code, tag.dtype, value))
    return tuple(kept), tuple(dict.fromkeys(remarks))


def photoshop_of(tif: tifffile.TiffFile, page: tifffile.TiffPage) -> bytes:
    """Photoshop's image resources of a page, with the IPTC block that it may have beside them."""
    return with_iptc(bytes_of(tif, page, PHOTOSHOP), bytes_of(tif, page, IPTC))


def bytes_of(tif: tifffile.TiffFile, page: tifffile.TiffPage, code: int) -> bytes:
    """The bytes of a tag; empty if there is none."""
    return _bytes_of(tif, page.tags[code]) if code in page.tags else b""


def _bytes_of(tif: tifffile.TiffFile, tag: tifffile.TiffTag) -> bytes:
    tif.filehandle.seek(tag.valueoffset)
    return tif.filehandle.read(tag.valuebytecount)


def written_tags(like: Picture, order: str, *, big: bool) -> list[tuple[Any, ...]]:
    """A picture's tags for `tifffile.TiffWriter.write`, of a file of this byte order."""
    tags = [tag for tag in like.tags if order == like.layout.byteorder or tag.kind in _BYTES]
    found = [(tag.code, tag.kind, len(tag.value), tag.value, True) for tag in tags if big or tag.kind not in _LARGE]
    for code, value in ((XMP, like.xmp), (IPTC, iptc_of(like.photoshop)), (PHOTOSHOP, like.photoshop)):
        found += [(code, DATATYPE.BYTE, len(value), value, True)] if value else []
    codes = {tag[0] for tag in found}
    return found + [tag for tag in texts_of(like.exif) if tag[0] not in codes]


def _shape_told(value: bytes, series: Sequence[tifffile.TiffPageSeries]) -> bytes:
    """Tifffile's note of a stack's shape, for pages that each have a header.

    It is empty if it would be wrong.
    """
    shaped = json.loads(value.rstrip(b"\0"))
    shaped.pop("truncated", None)
    fits = len(series) == 1 and math.prod(shaped["shape"]) == series[0].size
    return json.dumps(shaped).encode() if fits else b""
