"""EXIF blocks, what a camera says of a picture: read, taken out of a TIFF's directories, and put into another's.

By Pillow. Tested in tests/unit/test_images.py. This module must not import torch.
"""

from typing import Any, BinaryIO, Literal

from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2
from tifffile import DATATYPE, TiffFile

ORIENTATION, _PREFIX = 274, b"Exif\0\0"
TEXTS = (271, 272, 306, 315, 33432)
"""Maker, model, date, artist and copyright, which a TIFF has beside the picture's size."""
_DIRECTORIES = (34665, 34853)  # the camera's settings; the place
_HEADS = {"<": b"II*\0\0\0\0\0", ">": b"MM\0*\0\0\0\0"}


def orientation(exif: bytes) -> int:
    """How a picture is to be turned to be seen, 1 to 8; 1, as it is, if its EXIF block does not say."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        found = int(tags.get(ORIENTATION, 1))
    except Exception:  # a damaged block is carried along, and says nothing
        return 1
    return found if 1 <= found <= 8 else 1


def oriented(turned: int) -> bytes:
    """A block that says nothing but this orientation, 2 to 8; empty for another."""
    tags = Image.Exif()
    tags[ORIENTATION] = turned
    return tags.tobytes().removeprefix(_PREFIX) if 2 <= turned <= 8 else b""


def block_of(file: BinaryIO, turned: int) -> bytes:
    """What a TIFF's first directory says of the picture, as a block; the file is read from where it likes.

    Args:
        file: The whole TIFF.
        turned: Its orientation, 1 to 8; elsewhere it is taken for 1.

    Returns:
        Empty if it says nothing; the orientation alone if the rest is damaged.
    """
    told, kept = Image.Exif(), Image.Exif()
    try:
        file.seek(0)
        told.load_from_fp(file)
        kept.update({tag: told[tag] for tag in TEXTS if tag in told})
        kept.update({tag: told.get_ifd(tag) for tag in _DIRECTORIES if tag in told})
        if not len(kept):
            return oriented(turned)
        if 2 <= turned <= 8:
            kept[ORIENTATION] = turned
        return kept.tobytes().removeprefix(_PREFIX)
    except Exception:  # Pillow answers damage with any kind
        return oriented(turned)


def texts_of(exif: bytes) -> dict[int, str]:
    """What a block says in words: maker, model, date, artist, copyright."""
    tags = _understood(exif)
    return {tag: str(tags[tag]) for tag in TEXTS if tag in tags}


def directories(exif: bytes, start: int, byteorder: Literal["<", ">"]) -> tuple[bytes, list[tuple[Any, ...]]]:
    """A block's directories, of settings and place, for a TIFF that is not a BigTIFF.

    Args:
        exif: The block.
        start: Offset, even, at which the directories will lie in the file.
        byteorder: The file's.

    Returns:
        The bytes, and the tags that point to them, for `tifffile.TiffWriter.write` and then `point`.
    """
    tags, written, pointers = _understood(exif), b"", list[tuple[Any, ...]]()
    for which in _DIRECTORIES:
        if told := tags.get_ifd(which):
            directory = ImageFileDirectory_v2(_HEADS[byteorder], group=which)
            for tag, value in told.items():
                directory[tag] = value
            pointers.append((which - 1, DATATYPE.LONG, 1, start + len(written), True))
            written += directory.tobytes(start + len(written))
    return written, pointers


def point(file: BinaryIO) -> None:
    """Give the pointers of `directories` in a whole TIFF, open to be read and written, their numbers.

    Tifffile writes no tag that points to a directory; the number before each, which nobody uses, takes the same place.
    """
    file.seek(0)
    with TiffFile(file) as tif:
        tags = tif.pages.first.tags
        found = [(tags[which - 1].offset, which) for which in _DIRECTORIES if which - 1 in tags]
        order: Literal["little", "big"] = "little" if tif.byteorder == "<" else "big"
    for offset, which in found:
        file.seek(offset)
        file.write(which.to_bytes(2, order))


def _understood(exif: bytes) -> Image.Exif:
    """A block's tags; none if it is damaged."""
    tags = Image.Exif()
    try:
        tags.load(exif)
        for which in _DIRECTORIES:
            tags.get_ifd(which)
    except Exception:
        return Image.Exif()
    return tags
