"""TIFF files of one page or a stack of pages: read and written with tifffile.

Other formats do not belong here. Tested in tests/unit/test_images.py and tests/unit/test_stacks.py. This module must
not import torch.
"""

import logging
import math
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from logging.handlers import BufferingHandler
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import tifffile
from tifffile import COMPRESSION, DATATYPE

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.atomic import replacing
from dbsn.io.checks import check_size
from dbsn.io.exif import ORIENTATION, block_of, directories, orientation, oriented, point
from dbsn.io.picture import Picture, damaged, picture_of, samples_of
from dbsn.io.tiff_pages import as_usual, check_kind, layout_of, smaller
from dbsn.io.tiff_tags import XMP, kept_tags, photoshop_of, written_tags

TIFF_COMPRESSIONS: dict[int, int] = {
    kind: kind for kind in (COMPRESSION.NONE, COMPRESSION.LZW, COMPRESSION.ZSTD, COMPRESSION.PACKBITS)
}
TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
LARGEST_TIFF = 2_500_000_000  # bytes of samples; more may need offsets of 64 bits, since packing may lengthen them
_LARGEST_PIXEL = 32  # bytes: four float64
_MOST_COMPLAINTS = 100


def read_tiff(path: Path) -> Picture:
    """Read a TIFF of one page.

    Arguments and errors are those of `dbsn.io.formats.read_image`.
    """
    with _opened(path) as (tif, series):
        planes = _planes(path, series)
        if planes != 1:
            stack = f"got a stack of {planes} pages, each {series[0].keyframe.axes}, expected one page"
            raise ImageError(f"{path}: {stack}. Split it into single pages.")
        return next(_pictures(path, tif, series, range(1)))


def stack_size(path: Path) -> int:
    """Number of pages of a TIFF, without previews."""
    with _opened(path) as (_, series):
        return _planes(path, series)


def read_stack(path: Path, most: int | None = None) -> Iterator[Picture]:
    """Read the pages of a TIFF one by one; one at a time is in memory.

    Args:
        path: The file.
        most: Read at most this many, evenly chosen.

    Raises:
        ImageError: It is damaged, or its pages are not pictures of one data type, size and colour.
    """
    with _opened(path) as (tif, series):
        planes = _planes(path, series)
        count = min(planes, most or planes)
        yield from _pictures(path, tif, series, [number * planes // count for number in range(count)])


@contextmanager
def writing_stack(path: Path, source: Path) -> Iterator[Callable[[Array, Picture], None]]:
    """Write a stack like `source`, page by page, with its description.

    The description holds axes, pixel sizes, names and acquisition. The file appears whole or not at all.

    Args:
        path: File to write or replace.
        source: The TIFF it is made from.

    Yields:
        A function that writes the next page: its pixels, and the page it is made from.
    """
    with replacing(path) as partial, _opened(source) as (tif, series):
        raw = sum(one.size * one.dtype.itemsize for one in series)
        big = tif.is_bigtiff or raw > LARGEST_TIFF
        with tifffile.TiffWriter(partial, bigtiff=big, byteorder=tif.byteorder) as writer:

            def write(pixels: Array, like: Picture) -> None:
                _write_page(writer, samples_of(path, pixels, like), like)

            yield write
        with partial.open("r+b") as file:
            point(file)


@contextmanager
def writing_pages(path: Path, megapixels: float) -> Iterator[Callable[[Array, Picture], None]]:
    """Write pages that come from a file of another format; whole or not at all.

    Args:
        path: File to write or replace.
        megapixels: Size of all pages. A file that may need offsets of 64 bits becomes a BigTIFF.

    Yields:
        A function that writes the next page: its pixels, and the picture it is made from.
    """
    big = megapixels * 1e6 * _LARGEST_PIXEL > LARGEST_TIFF
    with replacing(path) as partial:
        with tifffile.TiffWriter(partial, bigtiff=big) as writer:
            yield lambda pixels, like: _write_page(writer, samples_of(path, pixels, like), like)
        with partial.open("r+b") as file:
            point(file)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[tifffile.TiffFile, list[tifffile.TiffPageSeries]]]:
    """Open a TIFF; yield it and its series without previews."""
    with _complaints() as complaints, tifffile.TiffFile(path, is_ome=False) as tif:
        series = _without_previews(tif)
        if complaints:
            raise damaged(path, complaints[0].getMessage())
        if not series:
            raise damaged(path, "it holds no picture")
        yield tif, series
        if complaints:
            raise damaged(path, complaints[0].getMessage())


def _without_previews(tif: tifffile.TiffFile) -> list[tifffile.TiffPageSeries]:
    """The series that are no previews, or the pictures of which all series are previews."""
    if series := [one for one in tif.series if not one.keyframe.is_reduced]:
        return series
    within = [page.aspage() for one in tif.series for page in one.keyframe.pages or ()]
    whole = [page for page in within if not page.is_reduced]
    return [tifffile.TiffPageSeries([page], page.shape, page.dtype, page.axes) for page in whole]


def _planes(path: Path, series: list[tifffile.TiffPageSeries]) -> int:
    """Number of pages; ImageError if they are not pictures of one kind."""
    first, planes = series[0].keyframe, sum(one.size // one.keyframe.size for one in series)
    if first.axes not in ("YX", "YXS", "SYX"):
        raise ImageError(f"{path}: got {planes} pages, each {first.axes}. Convert it to pages of gray or RGB first.")
    samples = sum(one.size for one in series) * max(np.dtype(first.dtype).itemsize, 1) if first.dtype else 0
    check_size(path, samples, path.stat().st_size)
    kinds = {(len(one.keyframe.shape), one.keyframe.dtype, one.keyframe.photometric) for one in series}
    if len(kinds) > 1:  # sizes may differ
        raise ImageError(f"{path}: a stack of {planes} pages of different kinds. Split it into single pages.")
    return planes


def _pictures(
    path: Path, tif: tifffile.TiffFile, series: list[tifffile.TiffPageSeries], which: Iterable[int]
) -> Iterator[Picture]:
    """Read the pages with these numbers, ascending."""
    wanted, start = set(which), 0
    for one in series:
        page, planes = one.keyframe, one.size // one.keyframe.size
        turned, first_exif = _exif_of(path, tif, page)
        stated = "XResolution" in page.tags and min(page.resolution) > 0
        layout, remarks = layout_of(tif, one)
        kept = {
            "icc": page.iccprofile or b"",  # inside the block: tifffile reads large tags when they are asked for
            "resolution": (*page.resolution, page.resolutionunit) if stated else None,
            "compression": TIFF_COMPRESSIONS.get(page.compression, COMPRESSION.ADOBE_DEFLATE),
            "alpha_kind": check_kind(path, page),
            "layout": layout,
        }
        first = {"xmp": page.tags.valueof(XMP, b""), "photoshop": photoshop_of(tif, page), "exif": first_exif}
        for number in range(planes):
            if start + number in wanted:
                array = _page(path, tif, one, number)
                name = path if planes == len(series) == 1 else path.with_name(f"{path.name}, page {start + number + 1}")
                own = page if number == 0 else _own_page(one, number)
                tags, more = kept_tags(tif, own, series) if own else ((), ())
                said = {"tags": tags, "remarks": (*remarks, *more), **({"exif": oriented(turned)} if number else first)}
                yield picture_of(name, as_usual(array, page), **said, **kept)
        start += planes


def _own_page(series: tifffile.TiffPageSeries, number: int) -> tifffile.TiffPage | None:
    """The header of a page that is not the first; None if it has none of its own, as ImageJ's."""
    page = None if series.dataoffset is not None and series.size > series.keyframe.size else series.pages[number]
    return page.aspage() if page else None


def _exif_of(path: Path, tif: tifffile.TiffFile, page: tifffile.TiffPage) -> tuple[int, bytes]:
    """Orientation and EXIF block of a page.

    For later pages and in a BigTIFF the block holds the orientation alone.
    """
    turned = int(page.tags.valueof(ORIENTATION, 1))
    if tif.is_bigtiff or page.index:
        return turned, oriented(turned)
    with path.open("rb") as file:
        return turned, block_of(file, tif.byteorder, page.offset)


def _page(path: Path, tif: tifffile.TiffFile, series: tifffile.TiffPageSeries, number: int) -> Array:
    """Read the samples of a page; ImageJ writes many behind one header."""
    keyframe, size = series.keyframe, tif.filehandle.size
    if series.dataoffset is not None and series.size > keyframe.size:
        offset, length = series.dataoffset + number * keyframe.nbytes, keyframe.nbytes
        if offset + length > size:
            raise damaged(path, f"ends before page {number + 1}")
        tif.filehandle.seek(offset)
        dtype = np.dtype(keyframe.dtype).newbyteorder(tif.byteorder)
        return np.frombuffer(tif.filehandle.read(length), dtype).reshape(keyframe.shape).astype(dtype.newbyteorder("="))
    page = series.pages[number]
    if page is None:
        raise damaged(path, f"page {number + 1} is missing")
    _check_whole(path, page, size)
    return np.asarray(page.asarray())


def _check_whole(path: Path, page: tifffile.TiffPage | tifffile.TiffFrame, size: int) -> None:
    """Check that no strip or tile is lost.

    Tifffile would replace them by zeros, and would not notice truncated LZW.
    """
    segments = zip(page.dataoffsets, page.databytecounts, strict=True)
    whole = sum(offset > 0 and 0 < count <= size - offset for offset, count in segments)
    if whole != (expected := math.prod(page.chunked)):
        raise damaged(path, f"only {whole} of {expected} strips or tiles are whole")


class _Listener(BufferingHandler):
    """Keep messages; too many end the reading of a file, which would otherwise go on for minutes."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a message."""
        super().emit(record)
        if len(self.buffer) > _MOST_COMPLAINTS:
            raise ValueError(self.buffer[0].getMessage())


@contextmanager
def _complaints() -> Iterator[list[logging.LogRecord]]:
    """Collect the errors that tifffile only logs.

    Tifffile drops a tag or page that it cannot read, and the rest is then wrong.
    """
    thread = threading.get_ident()
    listener = _Listener(capacity=sys.maxsize)
    listener.setLevel(logging.ERROR)
    listener.addFilter(lambda record: record.thread == thread)
    tifffile.logger().addHandler(listener)
    try:
        yield listener.buffer
    finally:
        tifffile.logger().removeHandler(listener)


def write_tiff(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), as a TIFF of one page like the picture's.

    The file is open for reading and writing.
    """
    with tifffile.TiffWriter(file, byteorder=like.layout.byteorder) as writer:
        _write_page(writer, samples, like)
    point(file)


def _write_page(writer: tifffile.TiffWriter, samples: Array, like: Picture) -> None:
    """Write a page, and the smaller copies of its pyramid."""
    turned, layout = orientation(like.exif), like.layout
    tags = written_tags(like, big=writer.tiff.is_bigtiff)
    tags += _written_directories(writer, like.exif)
    packed = like.compression not in (COMPRESSION.NONE, COMPRESSION.PACKBITS)

    def write(array: Array, **more: Any) -> None:
        is_planar = layout.planar and array.ndim == 3
        writer.write(
            np.moveaxis(array, 2, 0) if is_planar else array,
            photometric="rgb" if like.samples.shape[2] == 3 else "minisblack",
            planarconfig=None if array.ndim == 2 else "separate" if is_planar else "contig",
            extrasamples=None if like.alpha is None else [like.alpha_kind],
            compression=like.compression,
            predictor=packed and samples.dtype.kind in "iu",  # few programs can read the predictor for floats
            tile=layout.tile,
            metadata=None,
            software=False,
            contiguous=False,
            **more,
        )

    write(
        samples,
        subifds=len(layout.levels) if layout.levels_within else None,
        resolution=like.resolution[:2] if like.resolution else None,
        resolutionunit=like.resolution[2] if like.resolution else None,
        iccprofile=like.icc or None,
        extratags=[*tags, (ORIENTATION, DATATYPE.SHORT, 1, turned, True)] if turned != 1 else tags,
    )
    for height, width in layout.levels:
        samples = smaller(samples, height, width)
        write(samples, subfiletype=1)


def _written_directories(writer: tifffile.TiffWriter, exif: bytes) -> list[tuple[Any, ...]]:
    """Write an EXIF block's directories at the end of the file.

    Return the tags that point to them. A BigTIFF has none.
    """
    if writer.tiff.is_bigtiff:
        return []
    file, order = writer.filehandle, writer.tiff.byteorder
    written, pointers = directories(exif, file.tell(), order)
    file.write(written)
    return pointers


@contextmanager
def writing_float_tiff(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a float32 TIFF of one or more pages (h, w, c); whole or not at all."""
    with replacing(path) as partial, tifffile.TiffWriter(partial, bigtiff=True) as writer:

        def write(image: np.ndarray) -> None:
            kind = "minisblack" if image.shape[2] == 1 else "rgb"
            writer.write(image[..., 0] if image.shape[2] == 1 else image, photometric=kind, metadata=None)

        yield write
