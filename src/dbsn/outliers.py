"""Pixels that are no part of the picture: values that are not finite, nodata, and isolated outliers.

`Rules.of` looks at samples of an image and says what tells such pixels. `Filled` shows the image with other pixels in
their place, so that a network, a measurement or a range of intensities does as if they were not there. `Kept` puts them
back into a result. Both work part by part, so images need not be in memory. Networks do not belong here. This module
must not import torch. Tested in tests/unit/test_outliers.py.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from dbsn.intensity import to_pixels
from dbsn.types import Canvas, Pixels, Place

Mask = NDArray[np.bool_]
Parts = tuple[np.ndarray, Mask, Mask]

_SAMPLED_SIDE, _SAMPLED_BLOCKS, _SAMPLED_WHOLE = 128, 8, 512 * 512  # blocks along each side; pixels
_REACH = 3  # an outlier is compared with the 7 x 7 pixels around it
_STANDS_OUT, _STEPS = 7.0, 8.0  # standard deviations of the noise, and steps of the samples, above all neighbours
_ALONE = 0.5  # of its height: how far the neighbours of an outlier may be above their surroundings
_NORMAL = 1.4826  # standard deviation of a normal distribution of median absolute deviation 1
_SECOND_DIFFERENCE = 1.5**0.5  # standard deviation of x - (left + right) / 2 for noise of 1
_TEXTURE, _SCATTERED = 0.1, 1e-3  # share of outliers from which they are texture; and from which all are searched for
_MOST_VALUES = 4096  # with more different ones samples have no steps
_LEAST_NODATA, _APART = 24, 0.5  # samples of one value; its distance in ranges of all others
_ENDS = 0.01  # share of the pixels at either end that does not count for the range
_A_FEW = 2  # neighbours, too few for a median
_AT_ONCE, _ROWS_AT_ONCE = 100_000, 128


@dataclass(frozen=True, kw_only=True)
class Rules:
    """What tells the pixels of one image that are no part of the picture; in intensities."""

    nodata: tuple[float, ...] = ()
    """Values that mark missing pixels: an extreme one that is repeated far away from all others."""
    stands_out: float = np.inf
    """How far an isolated outlier is beyond all of its neighbours but one, at least."""
    low: float = -np.inf
    """Isolated outliers are searched for among the pixels below this intensity..."""
    high: float = np.inf
    """...and above this one."""
    is_float: bool = False
    """Whether there may be values that are not finite."""

    @staticmethod
    def of(image: Pixels, *, all_outliers: bool = False) -> "Rules":
        """Find the rules from samples of an image (h, w, c).

        Args:
            image: Intensities, or integers of the file's range.
            all_outliers: Search for isolated outliers of any intensity. By default only for those beyond the range of
                the others, unless the image is full of them (salt and pepper).

        Raises:
            ValueError: No sample is finite.
        """
        blocks = list(_samples(image))
        is_float = blocks[0].dtype.kind == "f"
        pixels = [to_pixels(block) for block in blocks]
        values = np.concatenate([block[np.isfinite(block)] for block in pixels])
        if not values.size:
            raise ValueError("image: no pixel is finite (got only NaN and infinite values). Nothing can be denoised.")
        nodata = _nodata(values)
        known = Rules(nodata=nodata, is_float=is_float)
        others = values[~np.isin(values, nodata)]
        if min(image.shape[:2]) < 3 or not others.size:
            return known
        low, high = np.quantile(others, [_ENDS, 1 - _ENDS]).tolist()
        if low == high:
            low, high = float(others.min()), float(others.max())
        pixels = [_without(block, known.lost(block)) for block in pixels]
        stands_out = _least_height(pixels, others)
        found = sum(np.count_nonzero(_isolated(block, stands_out)) for block in pixels) / values.size
        if found > _TEXTURE:
            return known
        if all_outliers or found > _SCATTERED:
            return Rules(nodata=nodata, stands_out=stands_out, low=np.inf, high=-np.inf, is_float=is_float)
        width = high - low + stands_out
        return Rules(nodata=nodata, stands_out=stands_out, low=low - width, high=high + width, is_float=is_float)

    def may_find(self, image: Pixels) -> bool:
        """Whether there may be such pixels in an image: exact for an array, with caution for one on disk."""
        if self.nodata or self.low > self.high or not isinstance(image, np.ndarray):
            return True
        ends = to_pixels(np.array([image.min(), image.max()]))
        return not (self.low <= ends[0] <= ends[1] <= self.high)

    def lost(self, pixels: np.ndarray) -> Mask:
        """Pixels of a part (h, w, c) that are not finite or nodata."""
        lost = ~np.isfinite(pixels) if self.is_float else np.zeros(pixels.shape, bool)
        for value in self.nodata:
            lost |= pixels == np.float32(value)
        return lost

    def outliers(self, pixels: np.ndarray) -> Mask:
        """Isolated outliers in a part (h, w, c) of finite pixels."""
        beyond = None if self.low > self.high else (pixels < self.low) | (pixels > self.high)
        if not np.isfinite(self.stands_out) or (beyond is not None and not beyond.any()):
            return np.zeros(pixels.shape, bool)
        return _isolated(pixels, self.stands_out, beyond)


def _samples(image: Pixels) -> Iterator[np.ndarray]:
    """The whole image if it is small, or blocks spread over it."""
    height, width = image.shape[:2]
    if height * width <= _SAMPLED_WHOLE:
        yield np.asarray(image[slice(0, height), slice(0, width)])
        return
    rows, columns = (
        np.linspace(0, max(side - _SAMPLED_SIDE, 0), min(_SAMPLED_BLOCKS, -(-side // _SAMPLED_SIDE))).astype(int)
        for side in (height, width)
    )
    for top in rows.tolist():
        for left in columns.tolist():
            yield np.asarray(image[top : top + _SAMPLED_SIDE, left : left + _SAMPLED_SIDE])


def _nodata(values: np.ndarray) -> tuple[float, ...]:
    """Extreme values that are repeated far away from all others."""
    different, counts = np.unique(values, return_counts=True)
    found = list[float]()
    while len(different) > 2:
        ends = [(0, different[1], different[-1]), (-1, different[-2], different[0])]
        far = [
            end
            for end, nearest, other in ends
            if counts[end] >= _LEAST_NODATA
            and abs(float(different[end]) - float(nearest)) > _APART * abs(float(nearest) - float(other))
        ]
        if not far:
            break
        end = max(far, key=lambda end: counts[end])
        found.append(float(different[end]))
        keep = slice(1, None) if end == 0 else slice(None, -1)
        different, counts = different[keep], counts[keep]
    return tuple(found)


def _least_height(blocks: list[np.ndarray], values: np.ndarray) -> float:
    """How far an isolated outlier stands out at least: far beyond the noise and the steps of the samples."""
    seconds = [abs(block[:, 1:-1] - (block[:, 2:] + block[:, :-2]) / 2).ravel() for block in blocks]
    noise = _NORMAL / _SECOND_DIFFERENCE * float(np.median(np.concatenate(seconds)))
    different = np.unique(values)
    step = float(np.diff(different).min()) if 1 < len(different) <= _MOST_VALUES else 0.0
    return max(_STANDS_OUT * noise, _STEPS * step, 1e-6 * float(abs(values).max()), float(np.finfo(np.float32).tiny))


def _isolated(pixels: np.ndarray, stands_out: float, among: Mask | None = None) -> Mask:
    """Pixels of a part (h, w, c) that stand out from all of their neighbours but one, above or below."""
    found = np.zeros(pixels.shape, bool)
    if min(pixels.shape[:2]) < 2:
        return found
    padded = np.pad(pixels, ((_REACH, _REACH), (_REACH, _REACH), (0, 0)), "reflect" if _fits(pixels) else "edge")
    centre = slice(_REACH, -_REACH)
    across = (padded[centre, 2:-4], padded[centre, 4:-2])
    down = (padded[2:-4, centre], padded[4:-2, centre])
    for sign in (1, -1):
        gate = np.zeros(pixels.shape, bool)
        for one, other in (across, down):
            nearer = np.maximum(one, other) if sign > 0 else np.minimum(one, other)
            gate |= (pixels - nearer) * sign > stands_out
        if among is not None:
            gate &= among
        at = np.nonzero(gate)
        for start in range(0, len(at[0]), _AT_ONCE):
            some = tuple(axis[start : start + _AT_ONCE] for axis in at)
            found[some] |= _stand_out(padded, some, sign, stands_out)
    return found


def _stand_out(padded: np.ndarray, at: tuple[NDArray[np.intp], ...], sign: int, stands_out: float) -> Mask:
    """Which of some pixels are isolated outliers; `padded` has three more pixels on each side."""
    offset = np.arange(2 * _REACH + 1)
    rows, columns, channels = (axis[:, None, None] for axis in at)
    window = sign * padded[rows + offset[:, None], columns + offset, channels]
    pixel = window[:, _REACH, _REACH]
    near = np.delete(window[:, 2:5, 2:5].reshape(-1, 9), 4, 1)
    second = np.partition(near, -2, 1)[:, -2]
    around = window.reshape(len(window), -1)
    middle = np.median(around, 1)
    noise = _NORMAL * np.median(abs(around - middle[:, None]), 1)
    height = pixel - second
    return np.asarray((height > np.maximum(stands_out, _STANDS_OUT * noise)) & (second - middle < _ALONE * height))


def _fits(pixels: np.ndarray) -> bool:
    return min(pixels.shape[:2]) > _REACH


def _without(pixels: np.ndarray, lost: Mask, known: float = 0.0) -> np.ndarray:
    """A part (h, w, c) with the local mean of the nearest other pixels in place of lost ones; `known` if all are."""
    if not lost.any():
        return pixels
    filled = pixels.copy()
    for channel in range(pixels.shape[2]):
        gone = lost[..., channel]
        if gone.all():
            filled[..., channel] = known
        elif gone.any():
            there = (~gone).astype(np.float32)
            weight = ndimage.uniform_filter(there, 5)
            total = ndimage.uniform_filter(np.where(gone, 0, pixels[..., channel]), 5)
            mean = total / np.maximum(weight, 1e-6)
            nearest = ndimage.distance_transform_edt(gone, return_distances=False, return_indices=True)
            filled[..., channel][gone] = mean[tuple(nearest)][gone]
    return filled


class Filled:
    """An image (h, w, c) in intensities, with others in place of the pixels that the rules tell."""

    def __init__(self, image: Pixels, rules: Rules) -> None:
        self.image, self.rules, self.shape = image, rules, image.shape
        self._typical: float | None = None
        self._last: tuple[tuple[range, range], Parts] | None = None

    def __getitem__(self, where: Place) -> np.ndarray:
        """Read rows, or rows and columns."""
        filled, _, _ = self.read(where)
        return filled

    def read(self, where: Place) -> Parts:
        """Read a part: the filled pixels, which of them are lost, and which are isolated outliers.

        The last part is remembered, because a result is written where its pixels were read just before.
        """
        rows, columns = _ranges(where, self.shape)
        if rows.step > 1 and len(rows) > _ROWS_AT_ONCE:  # of a large part few rows are wanted
            starts = range(0, len(rows), _ROWS_AT_ONCE)
            some = [self.read((_slice(rows[at : at + _ROWS_AT_ONCE]), _slice(columns))) for at in starts]
            joined, *masks = (np.concatenate(parts) for parts in zip(*some, strict=True))
            return joined, masks[0], masks[1]
        if self._last is None or not (_holds(self._last[0][0], rows) and _holds(self._last[0][1], columns)):
            self._last = (rows, columns), self._read(rows, columns)
        (first_row, first_column), parts = (of.start for of in self._last[0]), self._last[1]
        down, across = (
            slice(of.start - first, of.stop - first, of.step)
            for of, first in ((rows, first_row), (columns, first_column))
        )
        filled, lost, outliers = (part[down, across] for part in parts)
        return filled, lost, outliers

    def _read(self, rows: range, columns: range) -> Parts:
        """Read a part without gaps."""
        starts = [max(of.start - 2 * _REACH, 0) for of in (rows, columns)]
        wide = (slice(starts[0], rows.stop + 2 * _REACH), slice(starts[1], columns.stop + 2 * _REACH))
        inner = tuple(
            slice(of.start - start, of.stop - start) for of, start in zip((rows, columns), starts, strict=True)
        )
        pixels = to_pixels(self.image[wide])
        lost = self.rules.lost(pixels)
        filled = _without(pixels, lost, self.typical if lost.all((0, 1)).any() else 0.0)
        outliers = self.rules.outliers(filled)
        if outliers.any():
            filled = _mended(filled, outliers)
        return filled[inner], lost[inner], outliers[inner] & ~lost[inner]

    @property
    def typical(self) -> float:
        """The median of the image, in place of parts in which there is nothing else."""
        if self._typical is None:
            pixels = [to_pixels(block) for block in _samples(self.image)]
            values = np.concatenate([block[~self.rules.lost(block)] for block in pixels])
            self._typical = float(np.median(values)) if values.size else 0.0
        return self._typical


def _mended(pixels: np.ndarray, outliers: Mask) -> np.ndarray:
    """A part (h, w, c) with the median of the other pixels around in place of outliers."""
    at = np.nonzero(outliers)
    hidden = np.where(outliers, np.float32(np.nan), pixels)
    padded = np.pad(hidden, ((2, 2), (2, 2), (0, 0)), constant_values=np.nan)
    mended, offset = pixels.copy(), np.arange(5)
    for start in range(0, len(at[0]), _AT_ONCE):
        some = tuple(axis[start : start + _AT_ONCE] for axis in at)
        rows, columns, channels = (axis[:, None, None] for axis in some)
        window = padded[rows + offset[:, None], columns + offset, channels]
        near, around = window[:, 1:4, 1:4].reshape(-1, 9), window.reshape(-1, 25)
        median = np.where(np.isfinite(near).sum(1) > _A_FEW, _median(near), _median(around))
        mended[some] = np.where(np.isfinite(median), median, pixels[some])
    return mended


def _median(values: np.ndarray) -> np.ndarray:
    """Median of each row without NaN; NaN of a row without numbers."""
    ordered, count, rows = np.sort(values, 1), np.isfinite(values).sum(1), np.arange(len(values))
    middle = (
        ordered[rows, np.maximum(count - 1, 0) // 2] + ordered[rows, np.minimum(count // 2, values.shape[1] - 1)]
    ) / 2
    return np.asarray(middle)


def _ranges(where: Place, shape: tuple[int, ...]) -> tuple[range, range]:
    """The rows and the columns of a place."""
    parts = where if isinstance(where, tuple) else (where, slice(None))
    return range(*parts[0].indices(shape[0])), range(*parts[1].indices(shape[1]))


def _slice(places: range) -> slice:
    return slice(places.start, places.stop, places.step)


def _holds(all_of_it: range, part: range) -> bool:
    return all_of_it.start <= part.start and part.stop <= all_of_it.stop


class Kept:
    """A canvas that gets back the pixels that were filled."""

    def __init__(
        self,
        canvas: Canvas,
        filled: Filled,
        *,
        repair: bool = False,
        lost_value: float | None = None,
        on_outliers: Callable[[int], None] | None = None,
    ) -> None:
        """Choose.

        Args:
            canvas: Where the result is written.
            filled: What the result was made of.
            repair: Keep the result in place of isolated outliers.
            lost_value: What is written in place of lost pixels; by default all that was filled gets its own value.
            on_outliers: Called with the number of pixels that are isolated outliers, for each part.
        """
        self.canvas, self.filled, self.on_outliers = canvas, filled, on_outliers
        self.keeps_outliers, self.lost_value = not repair and lost_value is None, lost_value

    def __setitem__(self, where: Place, part: np.ndarray) -> None:
        """Write a part (h, w, c)."""
        _, lost, outliers = self.filled.read(where)
        if self.on_outliers:
            self.on_outliers(int(np.count_nonzero(outliers.any(2))))
        kept = lost | outliers if self.keeps_outliers else lost
        if kept.any():
            own = to_pixels(self.filled.image[where]) if self.lost_value is None else np.float32(self.lost_value)
            part = np.where(kept, own, part)
        self.canvas[where] = part


def without_outliers(
    image: Pixels,
    into: Mapping[str, Canvas],
    *,
    repair: bool = False,
    differences: Collection[str] = (),
    on_outliers: Callable[[int], None] | None = None,
) -> tuple[Pixels, Mapping[str, Canvas]]:
    """Show an image without the pixels that are no part of the picture.

    Args:
        image: (h, w, c) intensities, or integers of the file's range.
        into: Where results are written, by name.
        repair: Replace isolated outliers of any intensity by the result. By default they stay as they are.
        differences: Results that are no intensities, such as an uncertainty. They are NaN where pixels are lost.
        on_outliers: Called with the number of pixels that are isolated outliers, for each part of the first result.

    Returns:
        The image, and canvases on which these pixels stay as they are.

    Raises:
        ValueError: No pixel is finite.
    """
    rules = Rules.of(image, all_outliers=repair)
    if not rules.may_find(image):
        return image, into
    filled, first = Filled(image, rules), next(iter(into), None)
    canvases = {
        name: Kept(
            canvas, filled, repair=repair, lost_value=np.nan if name in differences else None,
            on_outliers=on_outliers if name == first else None,
        )
        for name, canvas in into.items()
    }  # fmt: skip
    return filled, canvases
