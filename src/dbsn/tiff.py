"""TIFF files to pictures and back, by tifffile.

Tested in tests/unit/test_images.py. Not here: other formats. This module must not import torch.
"""

import logging
import math
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import BinaryIO

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, SAMPLEFORMAT

from dbsn.picture import Array, ImageError, Picture, damaged, picture_of

TIFF_COLOURS: dict[int, int] = {PHOTOMETRIC.MINISWHITE: 1, PHOTOMETRIC.MINISBLACK: 1, PHOTOMETRIC.RGB: 3}
TIFF_COMPRESSIONS: dict[int, int] = {
    kind: kind for kind in (COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.ZSTD, COMPRESSION.PACKBITS)
}


def read_tiff(path: Path) -> Picture:
    with _complaints() as complaints, tifffile.TiffFile(path, is_ome=False) as tif:
        series = [one for one in tif.series if not one.keyframe.is_reduced]  # a preview is no page
        planes = sum(one.size // one.keyframe.size for one in series)
        if complaints:
            raise damaged(path, complaints[0].getMessage())
        page = series[0].keyframe if series else tif.pages.first
        if planes != 1 or page.axes not in ("YX", "YXS", "SYX"):
            stack = f"a stack of {planes} pages, each {page.axes}"
            raise ImageError(f"{path}: {stack}; stacks come in a later version, split it into single pages")
        alpha_kind = _check_kind(path, page)
        _check_whole(path, page, tif.filehandle.size)
        array = page.asarray()
        icc = page.iccprofile or b""  # inside the block: tifffile reads large tags when they are asked for
        stated = "XResolution" in page.tags and min(page.resolution) > 0
        resolution = (*page.resolution, page.resolutionunit) if stated else None
    array = np.moveaxis(array, 0, 2) if page.axes == "SYX" else array
    array = array * np.uint8(255) if array.dtype == bool else array
    if page.photometric == PHOTOMETRIC.MINISWHITE:
        array = np.iinfo(array.dtype).max - array
    compression = TIFF_COMPRESSIONS.get(page.compression, COMPRESSION.ADOBE_DEFLATE)
    kept = {"icc": icc, "resolution": resolution, "compression": compression}
    return picture_of(path, array, alpha_kind=alpha_kind, **kept)


def _check_kind(path: Path, page: tifffile.TiffPage) -> int:
    """Refuse colours and depths that could not be written back; return the kind of the alpha channel."""
    colours = TIFF_COLOURS.get(page.photometric, 0)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG:
        colours = 3  # decoded to RGB
    if page.photometric == PHOTOMETRIC.MINISWHITE and page.sampleformat == SAMPLEFORMAT.IEEEFP:
        colours = 0  # no number is white
    if colours == 0:
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageError(f"{path}: {name} colours are not supported; convert it to gray or RGB first")
    bits = page.bitspersample
    if page.dtype is None or bits not in (1, 8 * page.dtype.itemsize):
        raise ImageError(f"{path}: {bits} bits a sample are not supported; convert it to 8 or 16 bits first")
    extra = page.samplesperpixel - colours
    alpha_kind = page.extrasamples[0] if page.extrasamples else EXTRASAMPLE.UNSPECIFIED
    if extra not in (0, 1) or (extra == colours == 1 and alpha_kind == EXTRASAMPLE.UNSPECIFIED):
        channels = f"{page.samplesperpixel} channels, expected gray or RGB, with alpha or without"
        raise ImageError(f"{path}: {channels}; split it first")
    return alpha_kind if extra else EXTRASAMPLE.UNASSALPHA


def _check_whole(path: Path, page: tifffile.TiffPage, size: int) -> None:
    """Refuse lost strips or tiles: tifffile makes up zeros for them, and LZW cut short passes unseen."""
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    whole = sum(offset > 0 and 0 < count <= size - offset for offset, count in segments)
    if whole != (expected := math.prod(page.chunked)):
        raise damaged(path, f"only {whole} of {expected} strips or tiles are whole")


@contextmanager
def _complaints() -> Iterator[list[logging.LogRecord]]:
    """Collect the errors tifffile only logs: it drops a tag or page it cannot read, and the rest is wrong."""
    thread = threading.get_ident()
    listener = BufferingHandler(capacity=sys.maxsize)
    listener.setLevel(logging.ERROR)
    listener.addFilter(lambda record: record.thread == thread)
    tifffile.logger().addHandler(listener)
    try:
        yield listener.buffer
    finally:
        tifffile.logger().removeHandler(listener)


def write_tiff(file: BinaryIO, samples: Array, like: Picture) -> None:
    packed = like.compression not in (COMPRESSION.NONE, COMPRESSION.PACKBITS)
    tifffile.imwrite(
        file,
        samples,
        photometric="rgb" if like.pixels.shape[2] == 3 else "minisblack",
        planarconfig="contig" if samples.ndim == 3 else None,
        extrasamples=None if like.alpha is None else [like.alpha_kind],
        compression=like.compression,
        predictor=packed and samples.dtype.kind == "u",  # few programs read the predictor for floats
        resolution=like.resolution[:2] if like.resolution else None,
        resolutionunit=like.resolution[2] if like.resolution else None,
        iccprofile=like.icc or None,
        metadata=None,
        software=False,
    )
