"""What of a picture goes through a denoiser: gray of equal colours, the planes of a mosaic, no hidden pixels.

Models do not belong here. Tested in tests/unit/test_views.py.
"""

from dataclasses import dataclass

import numpy as np

from dbsn.intensity import Array, from_pixels, to_pixels
from dbsn.io import mosaic
from dbsn.io.hidden import filled, hidden_of
from dbsn.io.picture import Picture

_CODED = 1  # of 255, between channels of gray that a WebP has coded
_WHOLE = [(slice(None), slice(None))]


@dataclass(frozen=True, kw_only=True)
class PictureView:
    """A picture as a denoiser shall see it."""

    samples: Array
    """Samples (h, w, c). Hidden pixels are filled; three equal channels are one."""
    places: list[tuple[slice, slice]]
    """The parts that are denoised by themselves: all, or the four planes of a mosaic."""
    colours: Array | None
    """All channels, if they are equal."""
    hidden: Array | None
    """Which pixels (h, w) are fully transparent."""
    original: Array
    """The picture's own samples."""

    @staticmethod
    def of(picture: Picture, *, splits: bool) -> "PictureView":
        """The view of a picture; `splits` allows it to be taken for a mosaic."""
        hidden = hidden_of(picture)
        samples = picture.samples if hidden is None else filled(picture, hidden).samples
        colours = samples if _is_gray(samples, 0 if picture.lossless else _CODED) else None
        shown = samples if colours is None else samples[..., 1:2]
        places = mosaic.PLACES if splits and colours is None and mosaic.is_mosaic(shown) else _WHOLE
        return PictureView(samples=shown, places=places, colours=colours, hidden=hidden, original=picture.samples)

    @property
    def is_mosaic(self) -> bool:
        """Whether the picture is a mosaic of four planes."""
        return len(self.places) > 1

    def for_model(self, channels: int, *, takes_gray: bool) -> Array:
        """The samples for a model of so many channels; `takes_gray` if it copies a gray image to them itself."""
        return self.samples if self.colours is None or channels == 1 or takes_gray else self.colours

    def put_back(self, result: Array) -> None:
        """Put hidden pixels back as they were into the result: intensities, or samples of any integer type."""
        if self.hidden is None:
            return
        own = self.original[self.hidden]
        if result.dtype.kind == "f":
            result[self.hidden] = to_pixels(own)
        else:
            result[self.hidden] = own if own.dtype == result.dtype else from_pixels(to_pixels(own), result.dtype)


def _is_gray(samples: Array, within: int) -> bool:
    """Whether three channels are equal everywhere, within so many of 255 in 8 bits."""
    if samples.shape[2] != 3:
        return False
    if within == 0 or samples.dtype != np.uint8:
        return all((part[..., :1] == part).all() for part in (samples[:1], samples))
    return bool((samples.max(2) - samples.min(2)).max() <= within)
