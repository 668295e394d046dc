"""Axes of arrays: split an array with any axes into planes.

Examples are stacks in time and depth, and arrays with the channels first. All planes share one noise model. Axes are
named as in TIFF: Y and X span a plane, S holds the colours of a pixel. Every other letter (Z, T, C) counts planes.
Tested in tests/unit/test_axes.py. This module must not import torch.
"""

from collections.abc import Callable

import numpy as np

_PLANE, _COLOUR = "YX", "S"
_COUNTED = "ABCDEFGHIJKLMNOPQR"


def as_planes(
    array: np.ndarray, axes: str | None = None, channel_axis: int | None = None
) -> tuple[np.ndarray, Callable[[np.ndarray], np.ndarray]]:
    """Split an array into planes.

    Args:
        array: Array with two axes or more.
        axes: One letter for each axis, for example "TZYX". None to use `channel_axis`.
        channel_axis: Axis of the colours, as in scikit-image. The last two of the other axes span a plane. None for
            (height, width) and (height, width, colours).

    Returns:
        Planes (n, h, w, c), a view if possible, and a function that reshapes results to the shape of the array.

    Raises:
        ValueError: The axes do not match the array, or it is empty.
    """
    if not isinstance(array, np.ndarray):
        raise ValueError(
            f"image: wrong type (got {type(array).__name__}, expected an array). Read the file first, with skimage.io."
        )
    if not array.size:
        raise ValueError(f"image: is empty (got shape {array.shape}). Pass an image with pixels.")
    letters = letters_for(array.shape, axes, channel_axis)
    counted = [letter for letter in letters if letter not in _PLANE + _COLOUR]
    order = [letters.index(letter) for letter in [*counted, *_PLANE, *(_COLOUR if _COLOUR in letters else "")]]
    turned = array.transpose(order)
    planes = turned.reshape(-1, *turned.shape[len(counted) :])

    def back(results: np.ndarray) -> np.ndarray:
        return results.reshape(turned.shape).transpose(np.argsort(order))

    return planes if _COLOUR in letters else planes[..., None], back


def letters_for(shape: tuple[int, ...], axes: str | None, channel_axis: int | None) -> str:
    """Find one letter for each axis of an array of this shape; arguments and errors as of `as_planes`."""
    ndim = len(shape)
    if axes is not None and channel_axis is not None:
        raise ValueError(
            f"axes={axes!r} and channel_axis={channel_axis}: got both, expected one. In axes, S is the colours."
        )
    if channel_axis is not None:
        if not -ndim <= channel_axis < ndim or ndim < 3:
            raise ValueError(
                f"channel_axis={channel_axis}: no such axis of colours (got shape {shape}). Name another axis."
            )
        others = [*_COUNTED[: ndim - 3], *_PLANE]
        others.insert(channel_axis % ndim, _COLOUR)
        return "".join(others)
    if axes is None:
        if ndim not in (2, 3):
            given = f"got {shape}"
            raise ValueError(
                f"image: wrong shape ({given}, expected (height, width) or (height, width, channels)). "
                'For a stack, pass axes="ZYX".'
            )
        return _PLANE if ndim == 2 else _PLANE + _COLOUR
    return letters_of(axes, ndim)


def letters_of(axes: str, count: int) -> str:
    """Check the letters of axes and convert them to capitals.

    Raises:
        ValueError: There is not one letter for each of `count` axes, or Y or X is missing.
    """
    letters = str(axes).upper()
    if len(letters) != count or len(set(letters)) != count or not set(_PLANE) <= set(letters) or not letters.isalpha():
        raise ValueError(f"axes={axes!r}: expected a letter for each of {count} axes, with Y and X. Correct them.")
    return letters
