"""Views that adapt an image to a network: stretched intensities, gray as colour.

A network trained on photographs expects intensities from black to white. So an image in counts, a dark one, or one of
little contrast is stretched. A network for colour images gets a gray image as equal channels. Results are converted
back. Tested in tests/unit/test_builtin.py and tests/unit/test_student.py.
"""

from collections.abc import Mapping

import numpy as np

from dbsn.config import ModelConfig, StudentConfig
from dbsn.intensity import clean_range, intensity_range, to_pixels
from dbsn.types import Canvas, Pixels, Place

_SAMPLED_ROWS, _SAMPLED_STRIPS = 8, 32
_LEAST_CONTRAST = 0.5
_INTENSITIES = ("denoised", "mean", "under_known_noise")  # the other results are differences: no offset


def shown_range(image: Pixels) -> tuple[float, float]:
    """Intensity of black and its distance from white in a network that `stretches`.

    They are 0 and 1, unless the image is in counts or fills less than half of this range.
    """
    height = image.shape[0]
    starts = range(0, height, max(_SAMPLED_ROWS, height // _SAMPLED_STRIPS))
    middle, half = intensity_range([np.concatenate([image[slice(at, at + _SAMPLED_ROWS)] for at in starts])])
    return (middle - half, 2 * half) if 2 * half < _LEAST_CONTRAST else clean_range(middle, half)


def stretched(
    image: Pixels, into: Mapping[str, Canvas], config: ModelConfig | StudentConfig
) -> tuple[Pixels, Mapping[str, Canvas], float]:
    """Stretch an image for a network that `stretches`.

    Returns:
        The stretched image, canvases that convert results back, and the intensity width that the network sees as 1.
    """
    low, width = shown_range(image) if config.stretches else (0.0, 1.0)
    if (low, width) == (0, 1):
        return image, into, 1.0
    starts = {name: low if name in _INTENSITIES else 0.0 for name in into}
    return _Shown(image, low, width), {name: _Back(canvas, starts[name], width) for name, canvas in into.items()}, width


class _Shown:
    """An image whose intensities `low` to `low + width` become 0 to 1."""

    def __init__(self, image: Pixels, low: float, width: float) -> None:
        self.image, self.low, self.width, self.shape = image, low, width, image.shape

    def __getitem__(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns."""
        return np.asarray((to_pixels(self.image[where]) - np.float32(self.low)) / np.float32(self.width))


class _Back:
    """A canvas that converts results back: `low` plus `width` times the value."""

    def __init__(self, canvas: Canvas, low: float, width: float) -> None:
        self.canvas, self.low, self.width = canvas, low, width

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Write a part in intensities."""
        self.canvas[where] = np.float32(self.low) + np.float32(self.width) * part


def in_colours(image: Pixels, into: Mapping[str, Canvas], channels: int) -> tuple[Pixels, Mapping[str, Canvas]]:
    """Copy a gray image to several channels; keep any other image.

    Returns:
        The image, and canvases that average the results over channels.
    """
    if image.shape[2:] != (1,) or channels == 1:
        return image, into
    return _Alike(image, channels), {name: _Mean(canvas) for name, canvas in into.items()}


class _Alike:
    """A gray image copied to several channels."""

    def __init__(self, image: Pixels, channels: int) -> None:
        self.image, self.channels, self.shape = image, channels, (*image.shape[:2], channels)

    def __getitem__(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns."""
        return np.repeat(self.image[where], self.channels, 2)


class _Mean:
    """A canvas that receives the mean over channels."""

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Write a part (h, w, c)."""
        self.canvas[where] = part.mean(2, keepdims=True)
