"""Types for tensor shapes and for images that need not be in memory. No code.

Inside, an image is a float32 tensor (b, c, h, w). A variance has the image's shape if the channels are independent.
Otherwise it is a covariance (b, c, c, h, w). Functions that take either use the type `Variance`.
"""

from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float
from torch import Tensor

Image = Float[Tensor, "b c h w"]
Features = Float[Tensor, "b f rows columns"]
Cells = Float[Tensor, "b c down across"]
Part = Float[Tensor, "b c height width"]
PartOfSome = Float[Tensor, "some c height width"]
Mask = Float[Tensor, "b 1 rows columns"]
Covariance = Float[Tensor, "b c c h w"]
Variance = Float[Tensor, "b c h w"] | Float[Tensor, "b c c h w"]
Scalar = Float[Tensor, ""]
PixelMap = Float[Tensor, "b h w"]

Place = slice | tuple[slice, slice]
"""Rows, or rows and columns."""


class Margin(NamedTuple):
    """Pixels at the edges that a network reads but that are not part of its result."""

    top: int
    bottom: int
    left: int
    right: int


NO_MARGIN = Margin(0, 0, 0, 0)


@runtime_checkable
class Pixels(Protocol):
    """An image (h, w, c) whose parts can be read: an array or an image on disk."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Height, width, channels."""
        ...

    def __getitem__(self, where: Any, /) -> np.ndarray:
        """Read rows, or rows and columns, (h, w, c).

        Values are intensities, or integers of the file's range.
        """
        ...


@runtime_checkable
class Canvas(Protocol):
    """An image (h, w, c) whose parts can be written."""

    def __setitem__(self, where: Any, part: np.ndarray, /) -> None:
        """Write intensities (h, w, c) at rows and columns."""
        ...
