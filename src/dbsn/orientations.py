"""The eight flips and quarter turns of a square.

Training, the self-ensemble and symmetric networks use them. The orientation tag of files (EXIF) does not belong here.
Tested in tests/property/test_symmetry.py.
"""

from itertools import product
from typing import NamedTuple

from torch import Tensor


class Orientation(NamedTuple):
    """Whether an image is transposed, then flipped upside down, then left to right."""

    transposed: bool
    down: bool
    across: bool

    def turned(self, image: Tensor) -> Tensor:
        """Apply this orientation to an image (..., h, w): (..., w, h) if it is transposed."""
        flips = [axis for axis, flipped in ((-2, self.down), (-1, self.across)) if flipped]
        return (image.mT if self.transposed else image).flip(flips)

    def after(self, first: "Orientation") -> "Orientation":
        """The composition: `first`, then this orientation."""
        down, across = (first.across, first.down) if self.transposed else (first.down, first.across)
        return Orientation(self.transposed != first.transposed, self.down != down, self.across != across)

    @property
    def inverse(self) -> "Orientation":
        """The orientation that undoes this one."""
        return next(other for other in ORIENTATIONS if not any(other.after(self)))


ORIENTATIONS = tuple(Orientation(*flags) for flags in product((False, True), repeat=3))
"""All eight, the identity first.

The channels of symmetric networks, and so their model files, are in this order.
"""
