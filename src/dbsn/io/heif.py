"""AVIF and HEIC files: read and written with Pillow.

AVIF needs Pillow alone, HEIC also pillow-heif ('dbsn[heic]'). Other formats do not belong here. Tested in
tests/unit/test_heif.py. This module must not import torch.
"""

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from PIL import AvifImagePlugin, Image

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.checks import check_size
from dbsn.io.picture import Picture, picture_of
from dbsn.io.pillow import write_by_pillow

_QUALITY = 95
_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")


def kind_of(head: bytes) -> str | None:
    """Detect the format by a file's first 64 bytes: AVIF, HEIF or None."""
    if head[4:8] != b"ftyp":
        return None
    brands = [head[at : at + 4] for at in range(8, min(len(head), int.from_bytes(head[:4], "big")), 4)]
    if b"avif" in brands:
        return "AVIF"
    return "HEIF" if any(brand in _BRANDS for brand in brands) else None


def read_avif(path: Path) -> Picture:
    """Read an AVIF of 8 bits.

    Arguments and errors are those of `dbsn.io.formats.read_image`.
    """
    data = path.read_bytes()
    configuration = data.find(b"av1C")
    if configuration >= 0 and data[configuration + 6] & 0x40:  # AV1 bindings, 2.3.3: high_bitdepth
        raise _too_deep(path)
    with path.open("rb") as file:
        image = AvifImagePlugin.AvifImageFile(file)
        if getattr(image, "n_frames", 1) > 1:
            raise ImageError(f"{path}: an animated AVIF. Save the frame to denoise as a single picture first.")
        return _picture(path, image)


def read_heic(path: Path) -> Picture:
    """Read a HEIC of 8 bits; its decoder turns it upright. Errors as `read_avif`."""
    plugin = _plugin()
    with path.open("rb") as file:
        image = plugin.HeifImageFile(file)  # not Image.open: its limit is one global number
        if image.info.get("bit_depth", 8) > 8:
            raise _too_deep(path)
        return _picture(path, image)


def write_avif(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write an AVIF of high quality, with all its colours."""
    write_by_pillow(file, samples, like, "AVIF", quality=_QUALITY, subsampling="4:4:4")


def write_heic(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a HEIC of high quality, with all its colours.

    Raises:
        ImageError: pillow-heif is not installed.
    """
    _plugin().register_heif_opener()
    write_by_pillow(file, samples, like, "HEIF", quality=_QUALITY, chroma=444)


def _picture(path: Path, image: Image.Image) -> Picture:
    check_size(path, image.width * image.height * 4, path.stat().st_size)
    mode = image.mode if image.mode in ("L", "LA", "RGB", "RGBA") else "RGB"
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    kept = {name: image.info.get(key) or b"" for name, key in (("xmp", "xmp"), ("icc", "icc_profile"))}
    exif = (image.info.get("exif") or b"").removeprefix(b"Exif\0\0")
    return picture_of(path, array, exif=exif, lossless=False, **kept)


def _too_deep(path: Path) -> ImageError:
    return ImageError(f"{path}: more than 8 bits a sample are not supported. Convert it to a PNG of 16 bits first.")


def _plugin() -> Any:
    try:
        from pillow_heif import as_plugin
    except ImportError as error:
        raise ImageError("HEIC files need the package pillow-heif. Install it: pip install 'dbsn[heic]'") from error
    return as_plugin
