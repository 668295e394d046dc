"""Trace of JPEG compression in an image's pixels: where its blocks lie, and how coarse it is.

It is found in any crop and in any lossless file. Tested in tests/unit/test_inspection.py. Files do not belong here.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dct

from dbsn.intensity import to_gray

Array = NDArray[np.floating]

_BLOCK = 8
_BASIS = dct(np.eye(_BLOCK, dtype=np.float32), axis=0, norm="ortho")
_VANISHES = 0.6  # of 255
_BLOCKS, _MOST_BLOCKS = 256, 2000  # compared at all 64 places of the grid; that tell the step
_COARSE = ((0, 1), (1, 0), (1, 1), (0, 2), (2, 0))
_COMPRESSED, _COARSE_STEP = 0.03, 3
_STEPS, _LEAST_COEFFICIENTS, _MULTIPLES = range(2, 41), 25, 0.45


@dataclass(frozen=True, kw_only=True)
class JpegGrid:
    """The blocks of JPEG in an image."""

    strength: float
    """Share of vanishing fine frequencies in the blocks, minus the largest such share elsewhere; 0 to 1."""
    corner: tuple[int, int]
    """Row and column of the first whole block, 0 to 7 each."""
    step: int
    """Quantization step of coarse frequencies, of 255: about 10 for quality 60, 6 for 75; 0 if it is below 2."""

    @property
    def is_there(self) -> bool:
        """Whether there are blocks at all."""
        return self.strength > _COMPRESSED

    @property
    def is_coarse(self) -> bool:
        """Whether compression itself spoils the image, as below a quality of about 88."""
        return self.is_there and self.step >= _COARSE_STEP

    @staticmethod
    def of(pixels: Array) -> "JpegGrid":
        """Find the blocks in an image (h, w, c), intensities; at least 16 x 16 pixels."""
        gray = 255 * to_gray(pixels).mean(2)
        rows, columns = ((side - _BLOCK) // _BLOCK for side in gray.shape)
        windows = np.lib.stride_tricks.sliding_window_view(gray, (_BLOCK, _BLOCK))

        def frequencies(corner: tuple[int, int], most: int, basis: Array) -> Array:
            number = np.linspace(0, rows * columns - 1, min(most, rows * columns)).astype(int)
            row, column = np.divmod(number, columns)
            return np.asarray(basis @ windows[_BLOCK * row + corner[0], _BLOCK * column + corner[1]] @ basis.T)

        share = np.empty((_BLOCK, _BLOCK))
        for corner in np.ndindex(share.shape):
            share[corner] = (abs(frequencies(corner, _BLOCKS, _BASIS[4:])) < _VANISHES).mean()
        corner = tuple(map(int, np.unravel_index(share.argmax(), share.shape)))
        elsewhere = np.delete(np.delete(share, corner[0], 0), corner[1], 1)  # other rows and other columns
        strength = float(share.max() - elsewhere.max())
        return JpegGrid(strength=strength, corner=corner, step=_step(frequencies(corner, _MOST_BLOCKS, _BASIS)))


def _step(frequencies: Array) -> int:
    """The step of which most coarse frequencies (n, 8, 8) are multiples; 0 if there is none."""
    steps = []
    for place in _COARSE:
        values = abs(frequencies[(slice(None), *place)])
        found = 0
        for step in _STEPS:
            some = values[values > step / 2]
            if len(some) < _LEAST_COEFFICIENTS:
                break
            if np.cos(2 * np.pi * some / step).mean() > _MULTIPLES:
                found = step
        steps.append(found)
    return sorted(steps)[len(steps) // 2]
