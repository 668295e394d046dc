"""The range of intensities that PSNR and SSIM are relative to: the one that the clean images use.

Tested in tests/unit/test_evaluate.py. Metrics do not belong here.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

_BITS = (8, 10, 12, 14, 16)
_USUAL_FLOATS = (-0.05, 0.5, 1.05)  # from where to where the lowest and the highest of floats from 0 to 1 are


@dataclass(frozen=True)
class ValueRange:
    """Black and white in a file's own numbers."""

    black: float
    white: float
    one: float = 1.0
    """What intensity 1 is in the file's own numbers."""

    @property
    def offset(self) -> float:
        """The intensity of black."""
        return self.black / self.one

    @property
    def width(self) -> float:
        """The distance of white from black, in intensity."""
        return (self.white - self.black) / self.one

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Intensities as shares of the range."""
        return pixels if (self.offset, self.width) == (0, 1) else (pixels - self.offset) / self.width

    def back(self, shares: np.ndarray) -> np.ndarray:
        """Shares of the range as intensities."""
        return shares if (self.offset, self.width) == (0, 1) else self.offset + self.width * shares

    def __str__(self) -> str:
        """The peak, if black is 0; otherwise both ends."""
        return f"a peak of {self.white:g}" if self.black == 0 else f"a range from {self.black:g} to {self.white:g}"


WHOLE = ValueRange(0.0, 1.0)
"""Intensities from 0 to 1."""


def used_range(dtype: np.dtype[Any], lowest: float, highest: float) -> ValueRange:
    """Find the range that images of one data type use.

    - 8 bits: all of them.
    - More bits: the smallest of 8, 10, 12, 14 and 16 bits that holds all values, as cameras of 12 bits write 16.
    - Floats from 0 to 1: these.
    - Other floats and negative integers: from the lowest to the highest value.

    Args:
        dtype: Data type of the files.
        lowest: Lowest value of all clean images of this type, in the file's own numbers.
        highest: Highest value.
    """
    if dtype.kind in "iu":
        most = float(np.iinfo(dtype).max)
        if lowest >= 0:
            fitting = (2.0**bits - 1 for bits in _BITS)
            white = next((peak for peak in fitting if highest <= peak < most), most)
            return ValueRange(0.0, most if dtype.itemsize == 1 else white, most)
        return ValueRange(lowest, max(highest, lowest + 1), most)
    low, bright, high = _USUAL_FLOATS
    is_usual = low <= lowest and bright <= highest <= high
    return WHOLE if is_usual or highest <= lowest else ValueRange(lowest, highest)
