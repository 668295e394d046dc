"""Tiles that cover an image: where each is read, and what part of the image it is responsible for.

They are read with a margin of the network's receptive radius and lie at multiples of its grid from every corner, so
that every pixel sees exactly what it would see in the whole image, however that is turned; where the image ends, so
does the tile. Tested in tests/property/test_tiles.py.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from torch import Tensor

from dbsn.types import Canvas, Margin, Pixels

_LARGER = 0.1  # of a tile's side: so much is shared out among tiles rather than given one of its own


@dataclass(frozen=True)
class Tile:
    """Where a tile is read (with its margin) and which part of the image it is responsible for."""

    read: tuple[slice, slice]
    own: tuple[slice, slice]

    @property
    def pixels(self) -> int:
        """How many it is responsible for."""
        return math.prod(part.stop - part.start for part in self.own)

    @property
    def margin(self) -> Margin:
        """What of the part that is read is not its own."""
        ends = zip(self.own, self.read, strict=True)
        return Margin(*(side for own, read in ends for side in (own.start - read.start, read.stop - own.stop)))

    @property
    def inner(self) -> tuple[slice, slice]:
        """Its own part, counted from the corner where it is read."""
        first, second = (
            slice(own.start - read.start, own.stop - read.start) for own, read in zip(self.own, self.read, strict=True)
        )
        return first, second


def tiles(height: int, width: int, *, tile: int, margin: int, multiple: int) -> Iterator[Tile]:
    """Cover an image with tiles.

    Args:
        height: Rows of the image.
        width: Columns of the image.
        tile: Side of a tile's own part, at most; a tenth more where that makes fewer, for their margins cost. Tiles are
            of one size, up to `multiple`; 0 means the whole image.
        margin: Pixels to be seen around it, rounded up to `multiple`.
        multiple: Tiles start and stop at multiples of this from either end.

    Yields:
        Tiles whose own parts cover the image once.
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
    """What a model makes of a tile's own part."""

    place: tuple[slice, slice]
    """Where in the image it belongs."""
    values: Mapping[str, Tensor]
    """What is to be put there, by name, (h, w, c) each."""
    noise_power: float
    """Mean square of the noise in it, intensities squared; 0 if it is not known."""
    pixels: int
    """How many it is."""


def put_tiles(into: Mapping[str, Canvas], results: Iterable[TileResult], image: Pixels) -> float:
    """Put the results of an image's tiles, one after the other, in their places; the noise's mean square."""
    noise_power = 0.0
    for result in results:
        for name, canvas in into.items():
            canvas[result.place] = result.values[name].cpu().numpy()
        noise_power += result.noise_power * result.pixels / math.prod(image.shape[:2])
    return noise_power


DEFAULT_TILE = 768
_STRIP = 512  # rows, a multiple of 8


def strips(height: int) -> Iterator[slice]:
    """The rows of an image, a few hundred at a time."""
    return (slice(top, top + _STRIP) for top in range(0, height, _STRIP))


def check_image(image: Pixels, tile: int, channels: int) -> None:
    """Refuse, with a ValueError, an image of other channels than a model's, and a tile of a negative side."""
    if tile < 0:
        raise ValueError(f"--tile {tile}: expected the side of a tile in pixels, or 0 for the whole image")
    if len(image.shape) != 3 or image.shape[2] != channels:
        wanted = "gray" if channels == 1 else "colour"
        raise ValueError(f"this model is for {wanted} images ({channels} channels), not for shape {image.shape}")
