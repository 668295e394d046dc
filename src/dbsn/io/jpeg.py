"""JPEG and BMP files: read and written with Pillow.

Other formats do not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

import io
import re
import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, Image, JpegImagePlugin
from tifffile import RESUNIT

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.checks import check_size
from dbsn.io.jpeg_segments import rest_of, with_rest
from dbsn.io.picture import JpegRest, Picture, one_line, picture_of
from dbsn.io.pillow import write_by_pillow

MOST_PIXELS_PER_BYTE = 1024  # in JPEG and BMP; a damaged header with more would fill the memory
_EXTRANEOUS = re.compile(r"Corrupt JPEG data: (\d{1,4}) extraneous bytes before marker 0xd9")


def read_jpeg(path: Path) -> Picture:
    """Read a JPEG; errors are those of `dbsn.io.formats.read_image`."""
    picture = _read(path, JpegImagePlugin.JpegImageFile, lossless=False)
    rest, photoshop, remarks = _beside(path.read_bytes())
    return replace(picture, jpeg=rest, photoshop=photoshop, remarks=remarks)


def read_bmp(path: Path) -> Picture:
    """Read a BMP; errors are those of `dbsn.io.formats.read_image`."""
    return _read(path, BmpImagePlugin.BmpImageFile, lossless=True)


def _read(path: Path, decode: Callable[[BinaryIO], Image.Image], *, lossless: bool) -> Picture:
    with path.open("rb") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow reads the resolution from EXIF, which is kept as it is, damaged or not
        # not Image.open: its limit is one global number and refuses a picture of 200 megapixels
        image = decode(file)
        mode = {"1": "L", "L": "L", "P": "RGB", "RGB": "RGB", "RGBA": "RGBA"}.get(image.mode)
        if mode is None:
            raise ImageError(f"{path}: {image.mode} colours are not supported. Convert it to RGB first.")
        if image.width * image.height > MOST_PIXELS_PER_BYTE * path.stat().st_size:
            raise ValueError(f"too short for {image.width} x {image.height} pixels")
        check_size(path, image.width * image.height * len(mode), path.stat().st_size)
        image.load()
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    icc, xmp = image.info.get("icc_profile") or b"", image.info.get("xmp") or b""
    dpi = image.info.get("dpi")
    resolution = (float(dpi[0]), float(dpi[1]), RESUNIT.INCH) if dpi else None
    return picture_of(path, array, exif=exif, xmp=xmp, icc=icc, resolution=resolution, lossless=lossless)


def _beside(data: bytes) -> tuple[JpegRest | None, bytes, tuple[str, ...]]:
    """As `rest_of`, with a remark if libjpeg warns of damage: Pillow does not pass its warnings on."""
    rest, photoshop, remarks = rest_of(data)
    try:
        simplejpeg.decode_jpeg(data, colorspace="GRAY", strict=True, min_factor=8, min_width=1, min_height=1)
    except ValueError as error:
        if _is_padding(str(error), data):
            return rest, photoshop, remarks
        remarks += (f"libjpeg warns that it is damaged ({one_line(error)}), so parts of the picture may be wrong",)
    return rest, photoshop, remarks


def _is_padding(warning: str, data: bytes) -> bool:
    """Whether libjpeg warns of zeros or ones behind the last pixel alone, which are harmless."""
    found = _EXTRANEOUS.match(warning)
    return bool(found and re.search(rb"(?:\0{%s}|\xff{%s})\xff\xd9" % ((found[1].encode(),) * 2), data))


def write_jpeg(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a JPEG of high quality, with all its colours."""
    coded = io.BytesIO()
    write_by_pillow(coded, samples, like, "JPEG", quality=95, subsampling="4:4:4")
    file.write(with_rest(coded.getvalue(), like.jpeg, like.photoshop))


def write_bmp(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a BMP, which keeps the resolution alone."""
    write_by_pillow(file, samples, like, "BMP")
