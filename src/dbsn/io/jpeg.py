"""JPEG and BMP files: read and written with Pillow.

Other formats do not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import numpy as np
import simplejpeg
from PIL import BmpImagePlugin, Image, JpegImagePlugin
from tifffile import RESUNIT

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.checks import check_size
from dbsn.io.picture import Picture, picture_of
from dbsn.io.pillow import write_by_pillow

MOST_PIXELS_PER_BYTE = 1024  # in JPEG and BMP; a damaged header with more would fill the memory


def read_jpeg(path: Path) -> Picture:
    """Read a JPEG; errors are those of `dbsn.io.formats.read_image`."""
    return _read(path, JpegImagePlugin.JpegImageFile, lossless=False)


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
    if not lossless:
        _check_undamaged(path.read_bytes())
    array = np.asarray(image if image.mode == mode else image.convert(mode))
    exif = image.info.get("exif", b"").removeprefix(b"Exif\0\0")
    icc, xmp = image.info.get("icc_profile") or b"", image.info.get("xmp") or b""
    dpi = image.info.get("dpi")
    resolution = (float(dpi[0]), float(dpi[1]), RESUNIT.INCH) if dpi else None
    return picture_of(path, array, exif=exif, xmp=xmp, icc=icc, resolution=resolution, lossless=lossless)


def write_jpeg(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a JPEG of high quality, with all its colours."""
    write_by_pillow(file, samples, like, "JPEG", quality=95, subsampling="4:4:4")


def write_bmp(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write a BMP, which keeps the resolution alone."""
    write_by_pillow(file, samples, like, "BMP")


def _check_undamaged(data: bytes) -> None:
    """Check that the decoder does not warn: libjpeg replaces damaged parts by gray, and Pillow hides its warning.

    Padding behind the last pixel is harmless.

    Raises:
        ValueError: It warns.
    """
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError as warning:
        try:
            simplejpeg.decode_jpeg(data, strict=False)
        except ValueError:
            return  # a kind of JPEG that Pillow alone knows
        padding = re.match(r"Corrupt JPEG data: (\d{1,4}) extraneous bytes before marker 0xd9", str(warning))
        if not (padding and re.search(rb"(?:\0{%s}|\xff{%s})\xff\xd9" % ((padding[1].encode(),) * 2), data)):
            raise
