"""The images made of every s-th pixel, in which correlated noise is independent.

Tested in tests/unit/test_patches.py.
"""

from collections.abc import Iterator
from typing import overload

import numpy as np

from dbsn.types import Pixels, Place


@overload
def lattices(image: np.ndarray, stride: int) -> Iterator[tuple[tuple[slice, slice], np.ndarray]]: ...
@overload
def lattices(image: Pixels, stride: int) -> Iterator[tuple[tuple[slice, slice], Pixels]]: ...


def lattices(image: Pixels, stride: int) -> Iterator[tuple[tuple[slice, slice], Pixels]]:
    """Split an image into the images (h, w, c) made of every `stride`-th pixel.

    This is pixel-shuffle down-sampling; the images are views. Noise that is correlated over less than `stride` pixels
    is independent in each of them (Zhou et al. 2020).

    Yields:
        The place of the pixels and the image; no image is empty.
    """
    if stride == 1:
        yield (slice(None), slice(None)), image  # unchanged: it may be on disk
        return
    for row in range(min(stride, image.shape[0])):
        for column in range(min(stride, image.shape[1])):
            where = (slice(row, None, stride), slice(column, None, stride))
            yield where, image[where] if isinstance(image, np.ndarray) else _Lattice(image, (row, column), stride)


class _Lattice:
    """The image of every `stride`-th pixel of an image that is not in memory."""

    def __init__(self, image: Pixels, first: tuple[int, int], stride: int) -> None:
        self.image, self.all = image, (slice(first[0], None, stride), slice(first[1], None, stride))
        sides = [-(-(size - start) // stride) for size, start in zip(image.shape, first, strict=False)]
        self.shape = (*sides, *image.shape[2:])

    def __getitem__(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns."""
        rows, columns = where if isinstance(where, tuple) else (where, slice(None))
        height, width = self.shape[:2]
        return self.image[placed(self.all, (slice(*rows.indices(height)), slice(*columns.indices(width))))]


def placed(lattice: tuple[slice, slice], own: tuple[slice, slice]) -> tuple[slice, slice]:
    """The place in an image of the part `own` of one of its `lattices`."""

    def along(all_of_it: slice, part: slice) -> slice:
        start, step = all_of_it.start or 0, all_of_it.step or 1
        return slice(start + step * part.start, start + step * (part.stop - 1) + 1, step)

    return along(lattice[0], own[0]), along(lattice[1], own[1])
