"""Pages of a TIFF: which kinds are read, what their samples stand for, and the smaller copies of a pyramid.

Files do not belong here. Tested in tests/unit/test_metadata.py. This module must not import torch.
"""

import math
from pathlib import Path

import numpy as np
import tifffile
from tifffile import COMPRESSION, EXTRASAMPLE, PHOTOMETRIC, PLANARCONFIG, SAMPLEFORMAT

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.picture import TiffLayout

_COLOURS: dict[int, int] = {PHOTOMETRIC.MINISWHITE: 1, PHOTOMETRIC.MINISBLACK: 1, PHOTOMETRIC.RGB: 3}


def check_kind(path: Path, page: tifffile.TiffPage) -> int:
    """Check that colours and depth can be read and written back; return the kind of alpha."""
    colours = _COLOURS.get(page.photometric, 0)
    if page.photometric == PHOTOMETRIC.YCBCR and page.compression == COMPRESSION.JPEG:
        colours = 3  # decoded to RGB
    if page.photometric == PHOTOMETRIC.MINISWHITE and page.sampleformat == SAMPLEFORMAT.IEEEFP:
        colours = 0  # floats have no white
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        colours = 1
    if colours == 0:
        name = getattr(page.photometric, "name", page.photometric)
        raise ImageError(f"{path}: {name} colours are not supported. Convert it to gray or RGB first.")
    bits = page.bitspersample
    if page.dtype is None or (bits != 8 * page.dtype.itemsize and not (page.dtype.kind in "bu" and bits < 16)):
        raise ImageError(f"{path}: {bits} bits a sample are not supported. Convert it to 8 or 16 bits first.")
    extra = page.samplesperpixel - colours
    alpha_kind = page.extrasamples[0] if page.extrasamples else EXTRASAMPLE.UNSPECIFIED
    if extra not in (0, 1) or (extra == colours == 1 and alpha_kind == EXTRASAMPLE.UNSPECIFIED):
        channels = f"got {page.samplesperpixel} channels, expected gray or RGB, with alpha or without"
        raise ImageError(f"{path}: {channels}. Split it first.")
    return alpha_kind if extra else EXTRASAMPLE.UNASSALPHA


def as_usual(array: Array, page: tifffile.TiffPage) -> Array:
    """Convert samples: channels last, at least 8 bits, black at zero, colours instead of a palette's numbers."""
    array = np.moveaxis(array, 0, 2) if page.axes == "SYX" else array
    if page.photometric == PHOTOMETRIC.PALETTE and page.colormap is not None:
        return (page.colormap >> 8).astype(np.uint8).T[array]
    if array.dtype.kind not in "bu":
        return array
    white = 2**page.bitspersample - 1
    array = array.astype(np.uint8) if array.dtype == bool else array
    array = array.dtype.type(white) - array if page.photometric == PHOTOMETRIC.MINISWHITE else array
    return (array * np.float32(255 / white)).round().astype(np.uint8) if page.bitspersample < 8 else array


def layout_of(tif: tifffile.TiffFile, series: tifffile.TiffPageSeries) -> tuple[TiffLayout, tuple[str, ...]]:
    """How the samples of a series lie in the file, and remarks about what cannot be written again."""
    page, levels = series.keyframe, series.levels[1:]
    within, planes = bool(page.subifds), series.size // series.keyframe.size
    remarks = list[str]()
    if 8 < page.bitspersample < 16:
        remarks.append(f"samples of {page.bitspersample} bits are written as 16 bits, with the same numbers")
    if levels and not within and planes > 1:
        levels = []
        remarks.append("the smaller copies of its pages are left out")
    previews = sum(bool(one.keyframe.is_reduced) for one in tif.series)
    if previews:
        remarks.append(f"{previews} preview{'s' if previews > 1 else ''} of another shape cannot be kept")
    layout = TiffLayout(
        byteorder=tif.byteorder,
        planar=page.planarconfig == PLANARCONFIG.SEPARATE and page.samplesperpixel > 1,
        tile=(page.tilelength, page.tilewidth) if page.is_tiled else None,
        levels=tuple((level.keyframe.imagelength, level.keyframe.imagewidth) for level in levels),
        levels_within=within,
    )
    return layout, tuple(remarks)


def smaller(samples: Array, height: int, width: int) -> Array:
    """Reduce samples, (h, w) or (h, w, c), to a height and width: each is the mean of those that it stands for."""
    rows, columns = (
        max(1, math.floor(was / to + 0.5)) for was, to in zip(samples.shape, (height, width), strict=False)
    )
    missing = [(0, max(0, height * rows - samples.shape[0])), (0, max(0, width * columns - samples.shape[1]))]
    samples = np.pad(samples, [*missing, (0, 0)][: samples.ndim], mode="edge")[: height * rows, : width * columns]
    total = np.zeros((height, width, *samples.shape[2:]), np.float64)
    for row in range(rows):
        for column in range(columns):
            total += samples[row::rows, column::columns]
    mean = total / (rows * columns)
    return (mean.round() if samples.dtype.kind in "iu" else mean).astype(samples.dtype)
