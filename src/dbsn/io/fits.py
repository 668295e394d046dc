"""FITS files: the images of the first HDU that has some, read and written with astropy ('dbsn[fits]').

The header comes back, and so do all other HDUs, unchanged. Other formats do not belong here. Tested in
tests/unit/test_more_formats.py. This module must not import torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.atomic import replacing
from dbsn.io.picture import Picture, picture_of, samples_of

MAGIC = b"SIMPLE  ="
_LARGEST_EXACT = 2**24  # integers up to it are exact in float32


def read_fits(path: Path) -> Picture:
    """Read a FITS file of one plane; errors are those of `dbsn.io.formats.read_image`."""
    if (planes := plane_count(path)) != 1:
        raise ImageError(f"{path}: got {planes} planes, expected one. Save one plane as a file of its own.")
    return next(read_fits_planes(path))


def plane_count(path: Path) -> int:
    """Number of planes of the image that is read."""
    with _opened(path) as (_, hdu):
        return int(np.prod(hdu.shape[:-2], dtype=int))


def read_fits_planes(path: Path, most: int | None = None) -> Iterator[Picture]:
    """Read the planes (all axes but the last two) one by one; at most this many, evenly chosen."""
    with _opened(path) as (file, hdu):
        planes, remarks = np.reshape(hdu.data, (-1, *hdu.shape[-2:])), list[str]()
        images = sum(one.is_image and len(one.shape) >= 2 for one in file)
        if images > 1:
            remarks.append(f"only the first of its {images} images is denoised")
        if planes.dtype.kind in "iu" and planes.dtype.itemsize > 2 and np.abs(planes).max() <= _LARGEST_EXACT:
            remarks.append(f"its {planes.dtype.name} samples are written as float32, with the same numbers")
            planes = planes.astype(np.float32)
        count = min(len(planes), most or len(planes))
        for number in (place * len(planes) // count for place in range(count)):
            plane = planes[number].astype(planes.dtype.newbyteorder("="))
            name = path if len(planes) == 1 else path.with_name(f"{path.name}, plane {number + 1}")
            yield picture_of(name, plane, remarks=tuple(remarks))


@contextmanager
def writing_fits(path: Path, source: Path) -> Iterator[Callable[[Array, Picture], None]]:
    """Write a FITS file with new planes, and everything else of `source`; whole or not at all.

    Yields:
        A function that takes the next plane: its pixels, and the plane it is made from.
    """
    planes = list[Array]()
    yield lambda pixels, like: planes.append(samples_of(path, pixels, like))
    with _opened(source) as (file, hdu), replacing(path) as partial:
        if planes[0].dtype.kind == "f":
            for card in ("BSCALE", "BZERO", "BLANK"):  # of integers
                hdu.header.remove(card, ignore_missing=True)
        signed = "CHECKSUM" in hdu.header
        hdu.data = np.stack(planes).reshape(hdu.shape)
        with partial.open("wb") as written:
            file.writeto(written, checksum=signed, output_verify="silentfix+ignore")


@contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, Any]]:
    """Open a file; yield it and its first HDU with an image."""
    try:
        from astropy.io import fits
    except ImportError as error:
        raise ImageError(f"{path}: FITS needs the package astropy. Install it: pip install 'dbsn[fits]'") from error
    with path.open("rb") as handle, fits.open(handle, memmap=False) as file:
        found = [hdu for hdu in file if hdu.is_image and len(hdu.shape) >= 2]
        if not found:
            raise ImageError(f"{path}: the FITS file holds no image. Name another file.")
        yield file, found[0]
