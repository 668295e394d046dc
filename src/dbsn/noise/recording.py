"""Recording: clipping and rounding by a camera or a file format (math.md, S2).

Tested in tests/unit/test_learned.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dbsn.intensity import COUNTS_FROM, Unit, to_pixels
from dbsn.types import Image

_PILED_UP = 1e-4  # smallest share of pixels at an extreme intensity that counts as clipping
_FEWEST = 8
_SAMPLES = 4_000_000


@dataclass(frozen=True)
class Recording:
    """Clipping and rounding of a signal by a camera or a file format."""

    black: float | None = None
    """Intensity below which the signal is clipped; None if it is not."""
    white: float | None = None
    """Intensity above which the signal is clipped; None if it is not."""
    step: float = 0.0
    """Distance of the intensities that can be recorded; 0 if not rounded."""

    @staticmethod
    def of(images: Sequence[np.ndarray]) -> "Recording":
        """Measure the recording of noisy images (h, w, c) of one integer or float type.

        The signal counts as clipped at an end of its range under two conditions. More than one pixel in 10,000 lies
        exactly there, and 1.5 times as many as at the next intensity. Integers are evenly spaced. Floats count as
        rounded if all of them are multiples of 1/255 or 1/65535, or of 1 if they are counts.
        """
        stride = max(1, round((sum(image.size for image in images) / _SAMPLES) ** 0.5))
        samples = [image[::stride, ::stride].ravel() for image in images]
        if len({part.dtype for part in samples}) > 1:
            samples = [to_pixels(part) for part in samples]
        values, counts = np.unique(np.concatenate(samples), return_counts=True)
        least = max(_PILED_UP * counts.sum(), _FEWEST)
        ends = [
            float(to_pixels(values)[end]) if len(counts) > 1 and counts[end] > max(least, 1.5 * counts[inner]) else None
            for end, inner in ((0, 1), (-1, -2))
        ]
        return Recording(black=ends[0], white=ends[1], step=_step(values))

    def of_signal(self, signal: Image) -> Image:
        """Record a signal: round and clip it."""
        if self.step:
            signal = (signal / self.step).round() * self.step
        return signal.clamp(self.black, self.white) if self.black is not None or self.white is not None else signal

    def from_ends(self, clean: Image, std: Image) -> Image:
        """Distance of clean intensities from the nearest clipping point.

        It is in standard deviations and at least 0.

        Args:
            clean: (b, c, h, w) intensities.
            std: Standard deviation of the noise after clipping, same shape.
        """
        ends = ((self.white, 1), (self.black, -1))
        distances = [(sign * (end - clean) / std).clamp_min(0) for end, sign in ends if end is not None]
        return torch.stack(distances).amin(0) if distances else torch.full_like(clean, torch.inf)

    def describe(self, unit: Unit) -> str:
        """Describe the recording in one line."""
        ends = [
            f"{name} cut off at {unit.number(end, 4)}{unit.of}"
            for name, end in (("black", self.black), ("white", self.white))
            if end is not None
        ]
        rounding = f"rounded to steps of {unit.number(self.step, 4)}{unit.of}" if self.step else "not rounded"
        return ", ".join([*(ends or ["nothing cut off"]), rounding])


def _step(values: np.ndarray) -> float:
    """Distance of the evenly spaced intensities of these samples, or 0.

    The samples are sorted and all different.
    """
    if np.issubdtype(values.dtype, np.integer):
        apart = int(np.gcd.reduce(np.diff(values.astype(np.int64)))) if len(values) > 1 else 1
        return apart / float(np.iinfo(values.dtype).max)
    for levels in (255, 65535) if abs(values).max() <= COUNTS_FROM else (1,):
        if np.allclose(values * levels, np.rint(values * levels), atol=1e-3, rtol=0):
            return 1 / levels
    return 0.0
