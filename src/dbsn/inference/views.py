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
_ENDS, _FEW_BRIGHT = 0.02, 4.0  # share of the pixels at either end; widths of the others that the range is more than
_HIDDEN, _SEEN = 4 / 255, 6 / 255  # noise levels, of the range: too low beside a few bright pixels; high enough
_STD_OF_MEDIAN = 1.4826 / 1.5**0.5  # noise level from the median of |x - (left + right) / 2|
_BEYOND = 2.0  # widths: intensities farther from black and white are cut for the network
_LEAST_CONTRAST = 0.5
INTENSITIES = ("denoised", "mean", "under_known_noise")  # the other results are differences: no offset


def shown_range(image: Pixels) -> tuple[float, float]:
    """Intensity of black and its distance from white in a network that `stretches`.

    They are 0 and 1, unless the image is in counts or fills less than half of this range.
    """
    height = image.shape[0]
    starts = range(0, height, max(_SAMPLED_ROWS, height // _SAMPLED_STRIPS))
    rows = np.concatenate([image[slice(at, at + _SAMPLED_ROWS)] for at in starts])
    middle, half = intensity_range([rows])
    if (low_width := _of_most(to_pixels(rows), 2 * half)) is not None:
        return low_width
    return (middle - half, 2 * half) if 2 * half < _LEAST_CONTRAST else clean_range(middle, half)


def _of_most(pixels: np.ndarray, width: float) -> tuple[float, float] | None:
    """Black and width of most of an image, if stars, beads or lights would hide its noise; otherwise None."""
    if pixels.shape[1] < 3:
        return None
    low, high = np.quantile(pixels, [_ENDS, 1 - _ENDS]).tolist()
    if not 0 < _FEW_BRIGHT * (high - low) < width:
        return None
    steps = abs(pixels[:, 1:-1] - (pixels[:, 2:] + pixels[:, :-2]) / 2)
    noise_std = _STD_OF_MEDIAN * float(np.median(steps))
    if not 0 < noise_std < _HIDDEN * width:
        return None
    beyond = (high - low) / 2
    return low - beyond, max(high - low + 2 * beyond, noise_std / _SEEN)


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
    shown = _Shown(image, low, width)
    return shown, {name: _Back(canvas, shown, name in INTENSITIES) for name, canvas in into.items()}, width


class _Shown:
    """An image whose intensities `low` to `low + width` become 0 to 1.

    Those far beyond are cut at -2 and 3. A network knows nothing of them, and one would disturb all around it.
    """

    def __init__(self, image: Pixels, low: float, width: float) -> None:
        self.image, self.low, self.width, self.shape = image, low, width, image.shape

    def __getitem__(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns."""
        return np.clip(self.all_of(where), -_BEYOND, 1 + _BEYOND)

    def all_of(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns, uncut."""
        return np.asarray((to_pixels(self.image[where]) - np.float32(self.low)) / np.float32(self.width))


class _Back:
    """A canvas that converts results back: `low` plus `width` times the value, and what was cut.

    Differences have no `low`, and nothing of them was cut.
    """

    def __init__(self, canvas: Canvas, shown: _Shown, is_intensity: bool) -> None:
        self.canvas, self.shown, self.is_intensity = canvas, shown, is_intensity

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Write a part in intensities."""
        low, width = np.float32(self.shown.low), np.float32(self.shown.width)
        if not self.is_intensity:
            self.canvas[where] = width * part
            return
        pixels = self.shown.all_of(where)
        if pixels.min() < -_BEYOND or pixels.max() > 1 + _BEYOND:
            part = part + (pixels - np.clip(pixels, -_BEYOND, 1 + _BEYOND))
        self.canvas[where] = low + width * part


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
