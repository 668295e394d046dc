"""Zarr arrays, read and written block by block.

Versions 2 and 3, plain or OME-Zarr. The last two axes besides colour span a plane. Every other axis (time, channel,
depth) counts planes. All planes share one noise model. Of an OME-Zarr's pyramid only the full resolution is read and
written. Tested in tests/unit/test_zarr.py. This module must not import torch.
"""

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dbsn.errors import ImageError
from dbsn.intensity import Array, from_pixels
from dbsn.io.atomic import naming
from dbsn.io.axes import letters_of
from dbsn.io.checks import check_size
from dbsn.io.picture import DEPTHS, Picture, converted, damaged, mixed, picture_of
from dbsn.limits import LONGEST_SIDE, MOST_PLANES, MOST_SPARSE

SUFFIX = ".zarr"
BLOCK = 512
"""Approximate side of the blocks for training, in pixels."""
Place = slice | tuple[slice, slice]
_MARKS = ("zarr.json", ".zarray", ".zgroup")
_SPATIAL, _COLOUR = "YX", "S"
_COLOUR_NAMES = frozenset({"s", "sample", "samples", "rgb"})


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr array or group."""
    return path.is_dir() and any((path / mark).exists() for mark in _MARKS)


class ZarrImage:
    """A Zarr array opened for reading.

    Args:
        path: A folder that `is_zarr`: an array, an OME-Zarr, or a group with one array.
        axes: One letter for each axis, see `dbsn.io.axes`. None uses the axes that the file names.

    Raises:
        ImageError: The axes do not match the array, or it is damaged. It holds no array or several, or its samples are
            not those of an image. Or zarr is not installed.
    """

    def __init__(self, path: Path, axes: str | None = None) -> None:
        zarr = _zarr()
        self.path = path
        try:
            self.group = zarr.open(path, mode="r")
            self.name = "" if isinstance(self.group, zarr.Array) else _first_array(path, self.group)
            self.array = self.group[self.name] if self.name else self.group
            self.axes = _axes(self) if axes is None else _given_axes(self, axes)
        except ImageError:
            raise
        except Exception as error:  # a damaged store may raise anything
            raise ImageError(f"{path}: not a readable Zarr ({error}). Copy it again from its source.") from error
        if self.array.dtype.newbyteorder("=") not in DEPTHS:
            raise ImageError(f"{path}: {self.array.dtype} samples are not supported. Convert it to uint16 or float32.")
        missing = [axis for axis in _SPATIAL if axis not in self.axes]
        if missing or len(self.axes) != self.array.ndim or not math.prod(self.array.shape):
            shape = f"got shape {self.array.shape}, axes {self.axes or 'unknown'}"
            raise ImageError(f"{path}: the array is no image ({shape}). Name its axes, with X and Y, by --axes.")
        self._check_size()

    def planes(self) -> "Planes":
        """The planes of the array, in order."""
        return Planes(self)

    def _check_size(self) -> None:
        """Check that what the array claims to hold can be in its files."""
        sizes = dict(zip(self.axes, self.array.shape, strict=True))
        count = math.prod(size for axis, size in sizes.items() if axis not in _SPATIAL + _COLOUR)
        if count > MOST_PLANES or max(sizes["Y"], sizes["X"]) > LONGEST_SIDE:
            shape = f"got shape {self.array.shape}, expected {MOST_PLANES} planes, {LONGEST_SIDE} pixels a side"
            raise ImageError(f"{self.path}: claims more pixels than it can hold ({shape} at most). Use a part of it.")
        stored = sum(file.lstat().st_size for file in self.path.rglob("*"))
        item = self.array.dtype.itemsize
        check_size(self.path, item * math.prod(self.array.shape), stored, MOST_SPARSE)
        check_size(self.path, item * math.prod(self.array.chunks), stored)


class Planes(Sequence["Plane"]):
    """The planes of an array, in order; each is made when it is asked for."""

    def __init__(self, image: ZarrImage) -> None:
        self.image = image
        letters = zip(image.axes, image.array.shape, strict=True)
        self.counts = [1 if axis in _SPATIAL + _COLOUR else size for axis, size in letters]

    def __len__(self) -> int:
        return math.prod(self.counts)

    def __getitem__(self, number: Any) -> Any:
        """The plane of this number, from 0."""
        if not 0 <= number < len(self):
            raise IndexError(number)
        place = zip(self.image.axes, np.unravel_index(number, self.counts), strict=True)
        return Plane(self.image, tuple(slice(None) if axis in _SPATIAL + _COLOUR else int(at) for axis, at in place))


class Plane:
    """One plane of an array, (h, w, c); its parts are read on request, as intensities."""

    def __init__(self, image: ZarrImage, index: tuple[Any, ...]) -> None:
        self.image, self.index = image, index
        sizes = dict(zip(image.axes, image.array.shape, strict=True))
        self.shape = (sizes["Y"], sizes["X"], sizes.get(_COLOUR, 1))

    def __getitem__(self, where: Place) -> Array:
        """Read rows, or rows and columns, (h, w, c) float32."""
        return self.block(where).pixels

    def block(self, where: Place) -> Picture:
        """Read a part as a picture."""
        place = where if isinstance(where, tuple) else (where, slice(None))
        try:
            samples = np.asarray(self.image.array[self.at(place)])
        except MemoryError:
            raise
        except Exception as error:  # each codec raises its own error for a damaged chunk
            raise damaged(self.image.path, error) from error
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        left = [axis for axis in self.image.axes if axis in _SPATIAL + _COLOUR]
        order = [left.index(axis) for axis in _SPATIAL + _COLOUR if axis in left]
        return picture_of(self.image.path, samples.transpose(order))

    def at(self, place: tuple[slice, slice]) -> tuple[Any, ...]:
        """The place of a part in the array."""
        spatial = dict(zip(_SPATIAL, place, strict=True))
        return tuple(spatial.get(axis, part) for axis, part in zip(self.image.axes, self.index, strict=True))


class PlaneCanvas:
    """A plane of an array that is written.

    Args:
        array: The array that `writing_zarr` yields.
        plane: The plane it is made from.
        strength: Denoising strength, 0 to 1. None for results that are no image; they are written in `unit`.
        unit: The number written for 1 if `strength` is None.
    """

    def __init__(self, array: Any, plane: Plane, strength: float | None, unit: float = 1.0) -> None:
        self.array, self.plane, self.strength, self.unit = array, plane, strength, unit

    def __setitem__(self, place: tuple[slice, slice], pixels: Array) -> None:
        """Write intensities (h, w, c) at rows and columns, in the array's data type."""
        samples = self.unit * pixels
        if self.strength is not None:
            like = self.plane.block(place)
            result = pixels if self.strength == 1 else mixed(like.pixels, pixels, self.strength)
            samples = from_pixels(converted(result, like, self.array.dtype)[0], self.array.dtype)
        axes = [axis for axis in self.plane.image.axes if axis in _SPATIAL + _COLOUR]
        order = [(_SPATIAL + _COLOUR).index(axis) for axis in axes]
        turned = samples if _COLOUR in axes else samples[..., 0]
        self.array[self.plane.at(place)] = turned.transpose(order)


@contextmanager
def writing_zarr(path: Path, source: ZarrImage, dtype: np.dtype[Any]) -> Iterator[Any]:
    """Make an array like `source` to write into.

    It has the same chunks, compression, axes and names. The folder appears whole or not at all. What was there before
    is removed last. Other content of a group (lower levels of a pyramid, labels) is omitted.

    Args:
        path: Folder to write or replace.
        source: The Zarr it is made from.
        dtype: Data type of its samples.

    Yields:
        The array.

    Raises:
        ImageError: There is something else than a Zarr at `path`.
    """
    if path.exists() and not is_zarr(path):
        raise ImageError(f"{path}: exists and is no Zarr. Choose another --output.")
    zarr = _zarr()
    partial, old = (path.with_name(f".{path.name[-200:]}.{what}") for what in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    with naming(path), _cleared(partial, old):
        like, whole = source.array, source.group
        if source.name:
            attributes = _alone(whole.attrs.asdict(), source.name)
            zarr.create_group(partial, zarr_format=whole.metadata.zarr_format, attributes=attributes)
        if dtype == like.dtype:
            kept = like.attrs.asdict()
            yield zarr.from_array(partial, data=like, write_data=False, name=source.name or None, attributes=kept)
        else:
            version, metadata = like.metadata.zarr_format, like.metadata
            keys = (
                {"name": "v2", "separator": metadata.dimension_separator}
                if version == 2
                else metadata.chunk_key_encoding
            )
            yield zarr.create_array(
                partial, name=source.name or None, shape=like.shape, dtype=dtype, chunks=like.chunks,
                shards=like.shards, compressors=like.compressors, chunk_key_encoding=keys, zarr_format=version,
                attributes=like.attrs.asdict(), dimension_names=getattr(metadata, "dimension_names", None),
            )  # fmt: skip
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)


@contextmanager
def _cleared(*folders: Path) -> Iterator[None]:
    """Remove folders in the end."""
    try:
        yield
    finally:
        for folder in folders:
            shutil.rmtree(folder, ignore_errors=True)


def blocks(path: Path, most: int | None = None, axes: str | None = None) -> Iterator[Picture]:
    """Read blocks of about 512 x 512 pixels of all planes, for training.

    Args:
        path: A folder that `is_zarr`.
        most: Read at most this many, evenly chosen.
        axes: See `ZarrImage`.

    Raises:
        ImageError: As `ZarrImage`; or no value of a block is finite.
    """
    image = ZarrImage(path, axes)
    planes = image.planes()
    height, width, _ = planes[0].shape
    places = list(product(_parts(height), _parts(width)))
    every = len(planes) * len(places)
    count = min(every, most or every)
    for number in (i * every // count for i in range(count)):
        yield planes[number // len(places)].block(places[number % len(places)])


def megapixels(path: Path, axes: str | None = None) -> float:
    """Size of all planes; errors as `ZarrImage`."""
    planes = ZarrImage(path, axes).planes()
    return len(planes) * math.prod(planes[0].shape[:2]) / 1e6


def _parts(size: int) -> list[slice]:
    """Divide a side into parts of about 512 pixels and about equal size."""
    count = round(size / BLOCK) or 1
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def _first_array(path: Path, group: Any) -> str:
    """Name of a group's image: the full resolution of OME-Zarr, or the only array."""
    attributes = group.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales")
    names = [multiscales[0]["datasets"][0]["path"]] if multiscales else sorted(group.array_keys())
    if len(names) != 1:
        have = f"got arrays {', '.join(names)}. Name one of them: {path}/{names[0]}." if names else "holds no array."
        raise ImageError(f"{path}: {have}")
    return str(names[0])


def _alone(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    """Attributes of a group with the full resolution of its pyramid alone."""
    place = attributes.get("ome", attributes)
    scales = [
        {**scale, "datasets": [level for level in scale["datasets"] if level["path"] == name]}
        for scale in place.get("multiscales", [])[:1]
    ]
    alone = {**place, "multiscales": scales} if scales else place
    return {**attributes, "ome": alone} if "ome" in attributes else alone


def _axes(image: ZarrImage) -> str:
    """One letter for each axis, as the file names them.

    Otherwise the last two span a plane; a third axis of length 3 is colour.
    """
    attributes = image.group.attrs.asdict()
    multiscales = attributes.get("ome", attributes).get("multiscales") if image.name else None
    names = None
    if multiscales and "axes" in multiscales[0]:
        names = [axis["name"] if isinstance(axis, dict) else axis for axis in multiscales[0]["axes"]]
    if names is None:
        names = getattr(image.array.metadata, "dimension_names", None) or image.array.attrs.get("_ARRAY_DIMENSIONS")
    if names and all(names):
        return "".join(_letter(str(name), size) for name, size in zip(names, image.array.shape, strict=True))
    shape = image.array.shape
    if len(shape) >= 3 and shape[-1] == 3 and min(shape[-3:-1]) > 4:
        return "".join(chr(ord("A") + i) for i in range(len(shape) - 3)) + _SPATIAL + _COLOUR
    return "".join(chr(ord("A") + i) for i in range(len(shape) - 2)) + _SPATIAL


def _given_axes(image: ZarrImage, axes: str) -> str:
    """Check given letters against the array; ImageError if they do not match."""
    try:
        letters = letters_of(axes, image.array.ndim)
    except ValueError as error:
        raise ImageError(f"{image.path}: {error} The array has shape {image.array.shape}.") from None
    if _COLOUR in letters and (colours := image.array.shape[letters.index(_COLOUR)]) != 3:
        raise ImageError(
            f"{image.path}: axes={axes!r}: wrong number of colours S (got {colours}, expected 3). C counts planes."
        )
    return letters


def _letter(name: str, size: int) -> str:
    """The letter of an axis: Y, X, S for colour, or another letter."""
    colour = name.lower() in _COLOUR_NAMES and size == 3
    letter = name[0].upper()
    return _COLOUR if colour else "Q" if letter == _COLOUR else letter


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImageError("Zarr files need the package zarr. Install it: pip install 'dbsn[zarr]'") from error
    return zarr
