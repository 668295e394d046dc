"""Arrays with any axes as planes that share one noise model: stacks in time and depth, channels that lie first.

Axes are named as in TIFF: Y and X are a plane, S the colours of a pixel, every other letter (Z, T, C) counts planes.
Tested in tests/unit/test_axes.py. This module must not import torch.
"""

from collections.abc import Callable

import numpy as np

_PLANE, _COLOUR = "YX", "S"
_COUNTED = "ABCDEFGHIJKLMNOPQR"


def as_planes(
    array: np.ndarray, axes: str | None = None, channel_axis: int | None = None
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """The planes of an array, and what puts results in their place.

    Args:
        array: Of two axes or more.
        axes: A letter for each axis, as "TZYX"; None for what `channel_axis` says.
        channel_axis: The axis of colours, as scikit-image says it; the last two of the others are then a plane. None
            for (height, width) and (height, width, colours).

    Returns:
        Planes (n, h, w, c), a view where it can be one; and a function from results of the same shape to the array's.

    Raises:
        ValueError: The axes are not the array's, or it is empty.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(f"expected an array, got {type(array).__name__}; read the file first (tifffile, skimage.io)")
    if not array.size:
        raise ValueError(f"image of shape {array.shape}: it is empty")
    letters = _letters(array, axes, channel_axis)
    counted = [letter for letter in letters if letter not in _PLANE + _COLOUR]
    order = [letters.index(letter) for letter in [*counted, *_PLANE, *(_COLOUR if _COLOUR in letters else "")]]
    turned = array.transpose(order)
    planes = turned.reshape(-1, *turned.shape[len(counted) :])

    def back(results: np.ndarray) -> np.ndarray:
        return results.reshape(turned.shape).transpose(np.argsort(order))

    return planes if _COLOUR in letters else planes[..., None], back


def _letters(array: np.ndarray, axes: str | None, channel_axis: int | None) -> str:
    if axes is not None and channel_axis is not None:
        raise ValueError(f"axes={axes!r} and channel_axis={channel_axis}: give one of them; S in axes is the colours")
    if channel_axis is not None:
        if not -array.ndim <= channel_axis < array.ndim or array.ndim < 3:
            raise ValueError(
                f"channel_axis={channel_axis}: an array of shape {array.shape} has no such axis of colours"
            )
        others = [*_COUNTED[: array.ndim - 3], *_PLANE]
        others.insert(channel_axis % array.ndim, _COLOUR)
        return "".join(others)
    if axes is None:
        if array.ndim not in (2, 3):
            given = f"image of shape {array.shape}"
            raise ValueError(
                f'{given}: expected (height, width) or (height, width, channels); of a stack, say axes="ZYX"'
            )
        return _PLANE if array.ndim == 2 else _PLANE + _COLOUR
    return letters_of(axes, array.ndim)


def letters_of(axes: str, count: int) -> str:
    """The letters of so many axes, in capitals; ValueError if they are not."""
    letters = axes.upper()
    if len(letters) != count or len(set(letters)) != count or not set(_PLANE) <= set(letters) or not letters.isalpha():
        raise ValueError(f"axes={axes!r}: expected a letter for each of {count} axes, Y and X among them")
    return letters
