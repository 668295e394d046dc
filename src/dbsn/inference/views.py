"""An image in counts, dark or of little contrast, shown to a network that knows photographs from black to white; and a
gray one, shown to a network of colours.

Tested in tests/unit/test_builtin.py and tests/unit/test_student.py. Results come back as the image was.
"""

from collections.abc import Mapping

import numpy as np

from dbsn.config import ModelConfig, StudentConfig
from dbsn.intensity import clean_range, intensity_range, to_pixels
from dbsn.types import Canvas, Pixels, Place

_SAMPLED_ROWS, _SAMPLED_STRIPS = 8, 32
_LEAST_CONTRAST = 0.5
_INTENSITIES = ("denoised", "mean", "under_known_noise")  # the other results are differences of intensities


def shown_range(image: Pixels) -> tuple[float, float]:
    """Intensity of black, and distance of white from it, at which a network that `stretches` is shown an image.

    They are 0 and 1, unless it is in counts or fills less than half of them.
    """
    height = image.shape[0]
    starts = range(0, height, max(_SAMPLED_ROWS, height // _SAMPLED_STRIPS))
    middle, half = intensity_range([np.concatenate([image[slice(at, at + _SAMPLED_ROWS)] for at in starts])])
    return (middle - half, 2 * half) if 2 * half < _LEAST_CONTRAST else clean_range(middle, half)


def stretched(
    image: Pixels, into: Mapping[str, Canvas], config: ModelConfig | StudentConfig
) -> tuple[Pixels, Mapping[str, Canvas], float]:
    """An image as a network that stretches is shown it, where to put results, and the intensity that it sees as 1."""
    low, width = shown_range(image) if config.stretches else (0.0, 1.0)
    if (low, width) == (0, 1):
        return image, into, 1.0
    starts = {name: low if name in _INTENSITIES else 0.0 for name in into}
    return _Shown(image, low, width), {name: _Back(canvas, starts[name], width) for name, canvas in into.items()}, width


class _Shown:
    """An image whose `low` to `low + width` are 0 to 1."""

    def __init__(self, image: Pixels, low: float, width: float) -> None:
        self.image, self.low, self.width, self.shape = image, low, width, image.shape

    def __getitem__(self, where: Place) -> np.ndarray:
        """Rows, or rows and columns."""
        return np.asarray((to_pixels(self.image[where]) - np.float32(self.low)) / np.float32(self.width))


class _Back:
    """Where to put what is in units of `width`, from `low`."""

    def __init__(self, canvas: Canvas, low: float, width: float) -> None:
        self.canvas, self.low, self.width = canvas, low, width

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Put a part in intensities."""
        self.canvas[where] = np.float32(self.low) + np.float32(self.width) * part


def in_colours(image: Pixels, into: Mapping[str, Canvas], channels: int) -> tuple[Pixels, Mapping[str, Canvas]]:
    """A gray image as so many colours that are alike, and where to put results, averaged; any other as it is."""
    if image.shape[2:] != (1,) or channels == 1:
        return image, into
    return _Alike(image, channels), {name: _Mean(canvas) for name, canvas in into.items()}


class _Alike:
    """A gray image as several colours that are alike."""

    def __init__(self, image: Pixels, channels: int) -> None:
        self.image, self.channels, self.shape = image, channels, (*image.shape[:2], channels)

    def __getitem__(self, where: Place) -> np.ndarray:
        """Rows, or rows and columns."""
        return np.repeat(self.image[where], self.channels, 2)


class _Mean:
    """Where to put the mean over colours."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Put a part (h, w, c)."""
        self.canvas[where] = part.mean(2, keepdims=True)
