"""Zarr arrays (versions 2 and 3, plain or OME-Zarr) as planes that are read and written block by block.

An array's last two axes but colour are a plane; every other axis (time, channel, depth) counts planes, which share one
noise model. Of an OME-Zarr's pyramid the full resolution is read, and it alone is written. Tested in
tests/unit/test_zarr.py. This module must not import torch.
"""

import math
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from dbsn.errors import ImageError
from dbsn.intensity import Array, from_pixels
from dbsn.io.axes import letters_of
from dbsn.io.picture import DEPTHS, Picture, converted, damaged, picture_of

SUFFIX = ".zarr"
BLOCK = 512
"""Side of the blocks that are learned from, about."""
Place = slice | tuple[slice, slice]
_MARKS = ("zarr.json", ".zarray", ".zgroup")
_SPATIAL, _COLOUR = "YX", "S"
_COLOUR_NAMES = frozenset({"s", "sample", "samples", "rgb"})


def is_zarr(path: Path) -> bool:
    """Whether a path is a Zarr array or group."""
    return path.is_dir() and any((path / mark).exists() for mark in _MARKS)


class ZarrImage:
    """A Zarr array opened to be read.

    Args:
        path: A folder that `is_zarr`: an array, an OME-Zarr, or a group with one array.
        axes: A letter for each axis, see `dbsn.io.axes`; None for what the file says.

    Raises:
        ImageError: The axes are not the array's; it is damaged, holds no array or several, or samples that are no
            image's; or zarr is not installed.
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
        except Exception as error:  # whatever a damaged store makes it raise
            raise ImageError(f"{path}: not a Zarr that can be read ({error}); copy it again from its source") from error
        if self.array.dtype.newbyteorder("=") not in DEPTHS:
            raise ImageError(f"{path}: {self.array.dtype} samples are not supported; convert it to uint16 or float32")
        missing = [axis for axis in _SPATIAL if axis not in self.axes]
        if missing or len(self.axes) != self.array.ndim or not math.prod(self.array.shape):
            shape = f"an array of shape {self.array.shape}, axes {self.axes or 'unknown'}"
            raise ImageError(f"{path}: {shape}, is no image; name its axes, x and y among them: --axes")

    def planes(self) -> list["Plane"]:
        """Its planes, in order."""
        counted = [range(n) if axis not in _SPATIAL + _COLOUR else [slice(None)] for axis, n in self._sizes()]
        return [Plane(self, index) for index in product(*counted)]

    def _sizes(self) -> Iterator[tuple[str, int]]:
        return zip(self.axes, self.array.shape, strict=True)


class Plane:
    """One plane of an array, (h, w, c): parts of it are read when asked for, as intensities."""

    def __init__(self, image: ZarrImage, index: tuple[Any, ...]) -> None:
        self.image, self.index = image, index
        sizes = dict(zip(image.axes, image.array.shape, strict=True))
        self.shape = (sizes["Y"], sizes["X"], sizes.get(_COLOUR, 1))

    def __getitem__(self, where: Place) -> Array:
        """Rows, or rows and columns, (h, w, c) float32; ImageError if they hold what is no number."""
        return self.block(where).pixels

    def block(self, where: Place) -> Picture:
        """The same as a picture."""
        place = where if isinstance(where, tuple) else (where, slice(None))
        try:
            samples = np.asarray(self.image.array[self.at(place)])
        except MemoryError:
            raise
        except Exception as error:  # a damaged chunk makes each codec raise its own
            raise damaged(self.image.path, error) from error
        samples = samples.astype(samples.dtype.newbyteorder("="), copy=False)
        left = [axis for axis in self.image.axes if axis in _SPATIAL + _COLOUR]
        order = [left.index(axis) for axis in _SPATIAL + _COLOUR if axis in left]
        return picture_of(self.image.path, samples.transpose(order))

    def at(self, place: tuple[slice, slice]) -> tuple[Any, ...]:
        """Where in the array a part lies."""
        spatial = dict(zip(_SPATIAL, place, strict=True))
        return tuple(spatial.get(axis, part) for axis, part in zip(self.image.axes, self.index, strict=True))


class PlaneCanvas:
    """The same plane of an array that is written.

    Args:
        array: What `writing_zarr` yields.
        plane: What it is made from.
        strength: Of the denoising, 0 to 1; None for what is no image: it is written in `unit`.
        unit: What 1 is then written as.
    """

    def __init__(self, array: Any, plane: Plane, strength: float | None, unit: float = 1.0) -> None:
        self.array, self.plane, self.strength, self.unit = array, plane, strength, unit

    def __setitem__(self, place: tuple[slice, slice], pixels: Array) -> None:
        """Put intensities (h, w, c) at rows and columns, as samples of the array's kind."""
        samples = self.unit * pixels
        if self.strength is not None:
            like = self.plane.block(place)
            mixed = pixels if self.strength == 1 else like.pixels + self.strength * (pixels - like.pixels)
            samples = from_pixels(converted(mixed, like, self.array.dtype)[0], self.array.dtype)
        axes = [axis for axis in self.plane.image.axes if axis in _SPATIAL + _COLOUR]
        order = [(_SPATIAL + _COLOUR).index(axis) for axis in axes]
        turned = samples if _COLOUR in axes else samples[..., 0]
        self.array[self.plane.at(place)] = turned.transpose(order)


@contextmanager
def writing_zarr(path: Path, source: ZarrImage, dtype: np.dtype[Any]) -> Iterator[Any]:
    """An array like `source` to write into: chunks, compression, axes and names are its own.

    The folder appears whole or not at all, and what was there before goes last. What else a group holds (a pyramid's
    lower levels, labels) is left out.

    Args:
        path: Folder to write or replace.
        source: What it is made from.
        dtype: Of its samples.

    Yields:
        The array.

    Raises:
        ImageError: What is at `path` is no Zarr.
    """
    if path.exists() and not is_zarr(path):
        raise ImageError(f"{path}: in the way of a Zarr; choose another --output")
    zarr = _zarr()
    partial, old = (path.with_name(f".{path.name[-200:]}.{what}") for what in ("partial", "old"))
    for left in (partial, old):
        shutil.rmtree(left, ignore_errors=True)
    try:
        like, whole = source.array, source.group
        if source.name:
            attributes = _alone(whole.attrs.asdict(), source.name)
            zarr.create_group(partial, zarr_format=whole.metadata.zarr_format, attributes=attributes)
        if dtype == like.dtype:
            kept = like.attrs.asdict()
            yield zarr.from_array(partial, data=like, write_data=False, name=source.name or None, attributes=kept)
        else:
            version, told = like.metadata.zarr_format, like.metadata
            keys = {"name": "v2", "separator": told.dimension_separator} if version == 2 else told.chunk_key_encoding
            yield zarr.create_array(
                partial, name=source.name or None, shape=like.shape, dtype=dtype, chunks=like.chunks,
                shards=like.shards, compressors=like.compressors, chunk_key_encoding=keys, zarr_format=version,
                attributes=like.attrs.asdict(), dimension_names=getattr(told, "dimension_names", None),
            )  # fmt: skip
        if path.exists():
            os.replace(path, old)
        os.replace(partial, path)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def blocks(path: Path, most: int | None = None, axes: str | None = None) -> Iterator[Picture]:
    """Blocks of about 512 x 512 pixels of all planes, to learn from.

    Args:
        path: A folder that `is_zarr`.
        most: Read so many, evenly chosen, if there are more.
        axes: As of `ZarrImage`.

    Raises:
        ImageError: As of `ZarrImage`; or there are NaN.
    """
    image = ZarrImage(path, axes)
    planes = image.planes()
    height, width, _ = planes[0].shape
    places = list(product(_parts(height), _parts(width)))
    every = len(planes) * len(places)
    count = min(every, most or every)
    for number in (i * every // count for i in range(count)):
        yield planes[number // len(places)].block(places[number % len(places)])


def _parts(size: int) -> list[slice]:
    """A side in parts of about 512 pixels, all of like size."""
    count = round(size / BLOCK) or 1
    return [slice(i * size // count, (i + 1) * size // count) for i in range(count)]


def _first_array(path: Path, group: Any) -> str:
    """Name of a group's image: the full resolution of OME-Zarr, or the only array."""
    attributes = group.attrs.asdict()
    told = attributes.get("ome", attributes).get("multiscales")
    names = [told[0]["datasets"][0]["path"]] if told else sorted(group.array_keys())
    if len(names) != 1:
        have = f"arrays {', '.join(names)}; name one of them ({path}/{names[0]})" if names else "no array"
        raise ImageError(f"{path}: {have}")
    return str(names[0])


def _alone(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    """A group's attributes when of its pyramid the full resolution is left."""
    place = attributes.get("ome", attributes)
    scales = [
        {**scale, "datasets": [level for level in scale["datasets"] if level["path"] == name]}
        for scale in place.get("multiscales", [])[:1]
    ]
    alone = {**place, "multiscales": scales} if scales else place
    return {**attributes, "ome": alone} if "ome" in attributes else alone


def _axes(image: ZarrImage) -> str:
    """A letter for each axis: as the file names them, or the last two are a plane and a third of 3 is colour."""
    attributes = image.group.attrs.asdict()
    told = attributes.get("ome", attributes).get("multiscales") if image.name else None
    names = None
    if told and "axes" in told[0]:
        names = [axis["name"] if isinstance(axis, dict) else axis for axis in told[0]["axes"]]
    if names is None:
        names = getattr(image.array.metadata, "dimension_names", None) or image.array.attrs.get("_ARRAY_DIMENSIONS")
    if names and all(names):
        return "".join(_letter(str(name), size) for name, size in zip(names, image.array.shape, strict=True))
    shape = image.array.shape
    if len(shape) >= 3 and shape[-1] == 3 and min(shape[-3:-1]) > 4:
        return "".join(chr(ord("A") + i) for i in range(len(shape) - 3)) + _SPATIAL + _COLOUR
    return "".join(chr(ord("A") + i) for i in range(len(shape) - 2)) + _SPATIAL


def _given_axes(image: ZarrImage, axes: str) -> str:
    """The letters a person gives, checked against the array; ImageError if they are not its own."""
    try:
        letters = letters_of(axes, image.array.ndim)
    except ValueError as error:
        raise ImageError(f"{image.path}: {error}; it is of shape {image.array.shape}") from None
    if _COLOUR in letters and (colours := image.array.shape[letters.index(_COLOUR)]) != 3:
        raise ImageError(f"{image.path}: axes={axes!r}: {colours} colours (S), expected 3; C counts planes")
    return letters


def _letter(name: str, size: int) -> str:
    """Y, X, S for colour, or another letter for what counts planes."""
    colour = name.lower() in _COLOUR_NAMES and size == 3
    letter = name[0].upper()
    return _COLOUR if colour else "Q" if letter == _COLOUR else letter


def _zarr() -> Any:
    try:
        import zarr
    except ImportError as error:
        raise ImageError("Zarr needs the package of this name: pip install 'dbsn[zarr]'") from error
    return zarr
