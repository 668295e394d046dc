"""A Bayer mosaic that was saved as a gray picture: recognised by its pattern of 2 x 2 pixels.

Files do not belong here. Tested in tests/unit/test_mosaic.py. This module must not import torch.
"""

from itertools import product

import numpy as np

from dbsn.intensity import Array, to_pixels

PLACES = [(slice(row, None, 2), slice(column, None, 2)) for row, column in product((0, 1), repeat=2)]
"""The places of the four planes of a mosaic."""
_CELL = 8  # side of the areas whose means are compared, pixels
_ROWS, _STRIPS, _MOST_COLUMNS = 64, 8, 2048
_LEAST_CELLS = 32
_LEAST_SHARE, _OTHER_LINES, _FEW_LINES, _LEAST_SCORE = 0.04, 0.5, 0.05, 4.0


def is_mosaic(samples: Array) -> bool:
    """Whether a gray picture (h, w, 1) is a mosaic of four colours, in any order.

    The mean of each of the four colours is taken in cells of 8 x 8 pixels. They differ by rows, by columns or
    chequerwise. A mosaic is chequered (green less the others), and rows and columns differ together (red less blue). In
    an interlaced frame rows alone differ. Products of neighbouring cells hold no noise.
    """
    if samples.shape[2] != 1 or min(samples.shape[:2]) < 4 * _CELL:
        return False
    height = samples.shape[0] // 2 * 2
    starts = np.unique(
        np.linspace(0, max(0, height - _ROWS), -(-min(height, _ROWS * _STRIPS) // _ROWS)).astype(int) & ~1
    )
    strips = [_finite(to_pixels(samples[start : start + _ROWS, :_MOST_COLUMNS, 0])) for start in starts]
    found = [_alternations(strip) for strip in strips if strip.shape[0] >= _CELL]
    rows, columns, chequered, within = (np.concatenate([part[i].ravel() for part in found]) for i in range(4))
    if len(rows) < 2 * _LEAST_CELLS:
        return False
    together, chequer = _neighbours(rows, columns), _neighbours(chequered, chequered)
    both = 2 * abs(together.mean())
    pattern = chequer.mean() + both
    lines = (_neighbours(rows, rows) + _neighbours(columns, columns)).mean() - both
    if pattern < _LEAST_SHARE * within.mean() or lines > _OTHER_LINES * pattern:
        return False
    is_alike = bool(lines < _FEW_LINES * pattern) and _score(together) > _LEAST_SCORE
    return is_alike or (bool(chequer.mean() > 0) and _score(chequer) > _LEAST_SCORE)


def _finite(strip: Array) -> Array:
    """The strip with the median of the others in place of values that are not finite."""
    there = np.isfinite(strip)
    return strip if there.all() else np.where(there, strip, np.median(strip[there]) if there.any() else 0)


def _score(products: Array) -> float:
    """The size of a mean in its standard deviations."""
    return float(abs(products.mean()) / max(products.std() / np.sqrt(len(products)), 1e-12))


def _neighbours(one: Array, other: Array) -> Array:
    """Products of each cell and the next one."""
    return (one[:-1] * other[1:] + one[1:] * other[:-1]) / 2


def _alternations(strip: Array) -> tuple[Array, Array, Array, Array]:
    """How much cells (8 x 8) alternate by rows, by columns and chequerwise, and their variance otherwise."""
    rows, columns = (side // _CELL for side in strip.shape)
    cells = strip[: rows * _CELL, : columns * _CELL].reshape(rows, _CELL // 2, 2, columns, _CELL // 2, 2)
    means = cells.mean((1, 4))  # (rows, 2, columns, 2)
    within = (cells - means[:, None, :, :, None, :]).var((1, 2, 4, 5))
    a, b, c, d = means[:, 0, :, 0], means[:, 0, :, 1], means[:, 1, :, 0], means[:, 1, :, 1]
    return (a + b - c - d) / 4, (a - b + c - d) / 4, (a - b - c + d) / 4, within
