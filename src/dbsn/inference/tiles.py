"""Tiles that cover an image: the part each reads and the part each gives.

A tile is read with a margin of the network's receptive radius. It lies at multiples of the network's grid from every
corner. So every pixel sees exactly what it would see in the whole image, in every orientation. A tile ends where the
image ends. Tested in tests/property/test_tiles.py.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from dbsn.types import Canvas, Margin, Pixels

_LARGER = 0.1  # of a tile's side: so small a rest is divided among the tiles and gets no tile of its own


@dataclass(frozen=True)
class Tile:
    """The part of the image that a tile reads (`read`, with margin) and gives (`own`)."""

    read: tuple[slice, slice]
    own: tuple[slice, slice]

    @property
    def pixels(self) -> int:
        """Number of pixels of its own part."""
        return math.prod(part.stop - part.start for part in self.own)

    @property
    def margin(self) -> Margin:
        """The margin of the part that is read around its own part."""
        ends = zip(self.own, self.read, strict=True)
        return Margin(*(side for own, read in ends for side in (own.start - read.start, read.stop - own.stop)))

    @property
    def inner(self) -> tuple[slice, slice]:
        """Its own part, relative to the part that is read."""
        first, second = (
            slice(own.start - read.start, own.stop - read.start) for own, read in zip(self.own, self.read, strict=True)
        )
        return first, second


def tiles(height: int, width: int, *, tile: int, margin: int, multiple: int) -> Iterator[Tile]:
    """Cover an image with tiles.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        tile: Largest side of a tile's own part; 0 means the whole image. A tenth more is allowed if it saves a tile,
            because margins cost time. The sizes of tiles differ by less than `multiple`.
        margin: Pixels to read around it, rounded up to `multiple`.
        multiple: Tiles start and stop at multiples of this from either end.

    Yields:
        Tiles whose own parts cover the image exactly once.
    """
    margin = -(-margin // multiple) * multiple

    def spans(size: int) -> list[tuple[slice, slice]]:
        count = max(1, math.ceil(size / tile - _LARGER)) if tile else 1
        step = max(1, -(-size // (count * multiple))) * multiple
        starts = range(0, size, step)
        reach = margin + size % multiple
        return [
            (slice(max(start - margin, 0), min(start + step + reach, size)), slice(start, min(start + step, size)))
            for start in starts
        ]

    for read_rows, own_rows in spans(height):
        for read_columns, own_columns in spans(width):
            yield Tile((read_rows, read_columns), (own_rows, own_columns))


@dataclass(frozen=True)
class TileResult:
    """A model's result for a tile's own part."""

    place: tuple[slice, slice]
    """Its place in the image."""
    values: Mapping[str, Tensor]
    """The results by name, (h, w, c) each."""
    noise_power: float
    """Mean square of its noise, intensities squared; 0 if not known."""
    pixels: int
    """Number of its pixels."""


def put_tiles(into: Mapping[str, Canvas], results: Iterable[TileResult], image: Pixels) -> float:
    """Write the results of an image's tiles; return the mean square of the noise.

    Raises:
        ValueError: A result is NaN or infinite.
    """
    noise_power = 0.0
    for result in results:
        for name, canvas in into.items():
            values = result.values[name].cpu().numpy()
            if bad := values.size - np.count_nonzero(np.isfinite(values)):
                raise ValueError(f"{bad} of {values.size} values are NaN or infinite, expected finite values")
            canvas[result.place] = values
        noise_power += result.noise_power * result.pixels / math.prod(image.shape[:2])
    return noise_power


DEFAULT_TILE = 768
_STRIP = 512  # rows, a multiple of 8


def strips(height: int, rows: int = _STRIP) -> Iterator[slice]:
    """The rows of an image in strips, by default of 512."""
    return (slice(top, top + rows) for top in range(0, height, rows))


def check_image(image: Pixels, tile: int, channels: int) -> None:
    """Check an image's channels and the side of a tile.

    Raises:
        ValueError: The number of channels differs from the model's, or the side is negative.
    """
    if tile < 0:
        raise ValueError(f"--tile {tile}: expected a side in pixels, or 0. Use 0 for the whole image.")
    if len(image.shape) != 3 or image.shape[2] != channels:
        wanted = "gray" if channels == 1 else "colour"
        raise ValueError(
            f"image: wrong number of channels (got shape {image.shape}, expected {channels}). "
            f"This model is for {wanted} images. Choose another model."
        )
