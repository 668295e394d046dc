"""Where an image's noise is: factors on the level that is measured for the whole image (math.md, E4).

E1 measures one line of variance over intensity for a whole image. The noise may lie in a part of it alone, texture may
look like noise, and drawings have none. White noise has the same power in all bands of a Haar transform. Texture has
less in the diagonal one, and drawings are exactly flat nearly everywhere. Networks do not belong here. Tested in
tests/unit/test_levels.py.
"""

import math
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from dbsn.inference.tiles import Tile, TileResult
from dbsn.inference.views import INTENSITIES
from dbsn.tensors import as_tensor
from dbsn.types import Cells, Image, Mask, Part, Pixels

CELL = 16
"""Side of a cell in pixels."""
_FLATTEST = 0.1  # share of the cells that tell texture from noise
_NOISE_RATIO, _TEXTURE_RATIO = 1.25, 3.5  # power of the upright bands, in that of the diagonal one; of texture alone
_WHITE, _WHITE_COARSE = 1.2, 1.35  # power of the upright bands and of the next scale in noise, at most
_ALIKE = 0.2  # correlation of the upright bands, and their difference, in noise, at most
_MANY_WHITE, _TOGETHER = 0.1, 0.1  # share of such cells in an image; around a cell
_HARDLY, _CLEARLY = 2.6 / 255, 3.4 / 255  # noise levels, of the range
_UNEVEN = 0.05  # squared variation of noise among neighbouring cells, at most
_MORE, _LESS = 2.2, 0.4  # variances, in the one expected: beyond these they differ
_FLOOR = 0.5  # steps of the samples: no level is lowered further by its neighbourhood
_EXACT, _NEARLY_ALL_EXACT, _MOSTLY_EXACT, _HARDLY_EXACT = (
    1e-6,
    0.98,
    0.5,
    0.3,
)  # differences that are none; shares of them
_DRAWN, _PATTERN = 4.0, 2.5  # steps: edges of drawings are higher; the diagonal power of patterns, in the upright one
_CLEAN_SHARE = 0.1  # of all cells that are clean; of these that are not
_MOST_VALUES = 4096
_GUIDED_ALONE = 0.5  # factor from which a guided network needs no help
_WIDE = 5  # cells over which the level of noise is spread
_FLAT = 17  # side of the smallest flat square, in pixels
FLAT_REACH = _FLAT
"""How many pixels away `with_noise_where_flat` looks."""
_NEAR_WHITE, _NEARLY = 7, 3 / 255  # side of a neighbourhood in pixels; what is nearly white, below white
_SEEN = 9  # cells around one whose levels a network looks at


@dataclass(frozen=True)
class Bands:
    """Mean powers of the Haar bands in cells, (1, c, rows, columns) each."""

    diagonal: Cells
    upright: Cells
    slant: Cells
    """Mean product of the two upright bands: 0 unless there are slanted lines."""
    tilt: Cells
    """Half of the difference of their powers: 0 unless there are upright or level lines."""
    coarse: Cells
    """Both kinds of bands of the next scale."""
    exact: Cells
    """Share of the diagonal differences that are 0."""
    mean: Cells


class LevelWatch:
    """Measures the bands of an image whose strips of rows pass by."""

    def __init__(self) -> None:
        self._parts: list[Bands] = []
        self._step: float | None = None

    def passing(self, strips: Iterable[Image]) -> Iterator[Image]:
        """Yield strips (1, c, h, w); each but the last has a multiple of 16 rows."""
        for strip in strips:
            if self._step is None:
                self._step = _step(strip)
            height, width = (side // CELL * CELL for side in strip.shape[-2:])
            if height and width:
                self._parts.append(_bands(strip[..., :height, :width]))
            yield strip

    def levels(self, variance: Callable[[Cells], Cells], *, by_texture: bool = True) -> "Levels":
        """The factors on the level of the whole image.

        Args:
            variance: Noise variance that is measured for the whole image, at intensities (1, c, rows, columns).
            by_texture: Lower the level where even the flattest cells have texture. For noise that neighbours share
                this is wrong.
        """
        if not self._parts:
            return Levels(None)
        bands = Bands(*(torch.cat([getattr(part, name) for part in self._parts], 2) for name in Bands.__annotations__))
        expected = variance(bands.mean).sum(1, keepdim=True)
        return _levels(bands, expected, self._step or 0.0, by_texture=by_texture)


def _step(image: Image) -> float:
    """Smallest step of the samples; 0 if there are too many different ones, or two as in a drawing."""
    rows = image[..., :: max(1, image.shape[-2] // 64), :]
    values = rows.unique()
    return float(values.diff().min()) if 2 < len(values) <= _MOST_VALUES else 0.0


def _haar(image: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean, two upright bands and the diagonal band; white noise keeps its power in each."""
    left, right = image[..., ::2], image[..., 1::2]
    plus, minus = left + right, left - right
    return (
        (plus[..., ::2, :] + plus[..., 1::2, :]) / 2,
        (plus[..., ::2, :] - plus[..., 1::2, :]) / 2,
        (minus[..., ::2, :] + minus[..., 1::2, :]) / 2,
        (minus[..., ::2, :] - minus[..., 1::2, :]) / 2,
    )


def _bands(image: Image) -> Bands:
    coarse, across, down, diagonal = _haar(image)
    _, *coarser = _haar(coarse)
    side = CELL // 2
    return Bands(
        diagonal=functional.avg_pool2d(diagonal.square(), side),
        upright=functional.avg_pool2d((across.square() + down.square()) / 2, side),
        slant=functional.avg_pool2d(across * down, side),
        tilt=functional.avg_pool2d((across.square() - down.square()) / 2, side),
        coarse=functional.avg_pool2d(torch.stack([band.square() for band in coarser]).mean(0), side // 2),
        exact=functional.avg_pool2d((diagonal.abs() < _EXACT).float(), side),
        mean=functional.avg_pool2d(coarse, side) / 2,
    )


def _levels(bands: Bands, expected: Cells, step: float, *, by_texture: bool) -> "Levels":
    diagonal, upright, coarse = (band.sum(1, keepdim=True) for band in (bands.diagonal, bands.upright, bands.coarse))
    exact = bands.exact.amin(1, keepdim=True)
    flat = torch.maximum(torch.maximum(diagonal, upright), coarse) < _EXACT**2
    near = _around(diagonal) / _around(torch.where(exact > _HARDLY_EXACT, 1 - exact, 1)).clamp_min(1e-9)
    ratio = near / expected
    has_all_bands = (_around(upright) < _WHITE * near) & (_around(coarse) < _WHITE_COARSE * near)
    is_strong = upright > (_DRAWN * max(step, _EXACT)) ** 2
    drawn = (exact > _HARDLY_EXACT) & is_strong
    drawn |= diagonal > _PATTERN * upright  # checkers have one
    active = (exact < _HARDLY_EXACT) & ~flat & ~drawn
    faint = (exact >= _HARDLY_EXACT) & (exact < 1) & ~is_strong & ~flat  # single photons
    clean = _share(flat | drawn)
    if clean > _CLEAN_SHARE and _share(active | faint) < _CLEAN_SHARE * clean:
        return Levels(None, none=True)
    is_white = has_all_bands & (exact < _MOSTLY_EXACT)
    for lines in (bands.slant, bands.tilt):
        is_white &= _around(lines.sum(1, keepdim=True)).abs() < _ALIKE * near
    power = torch.ones_like(expected)
    if by_texture and active.any():
        power *= _texture_factor(diagonal, upright, active & (_around(flat.float()) == 0))
        level = float((expected[active].mean() / bands.mean.shape[1]).sqrt())
        power *= _trust(level, _share(is_white & (ratio > _LESS) & (ratio < _MORE))) ** 2
    own = diagonal / expected
    is_even = _around(own.square()) < (1 + _UNEVEN) * _around(own).square()  # else a patch of texture that is white
    more = is_white & is_even & (ratio > _MORE * power)
    more &= _around(more.float(), _WIDE) > _TOGETHER
    if more.any():
        weight = _around(more.float(), _WIDE)
        spread = _around(torch.where(more, ratio, 0), _WIDE) / weight.clamp_min(1e-9)
        found = torch.maximum(own, ratio).minimum(spread)
        power = torch.where(weight > 0, torch.maximum(power, found), power)
    less = (ratio < _LESS * power) & ((exact < _MOSTLY_EXACT) | (_around(flat.float()) == 1))
    floor = torch.minimum(torch.ones_like(expected), (_FLOOR * step) ** 2 * bands.mean.shape[1] / expected)
    power = torch.where(less, torch.maximum(ratio, floor), power)
    drawn &= ~has_all_bands | (exact < _EXACT)  # noise that is cut off at white is rare, and has all bands
    power = torch.where(drawn & (_around(active.float()) == 0), 0, power)
    return Levels(None if bool((power == 1).all()) else power.sqrt())


def _share(cells: Tensor) -> float:
    return float(cells.float().mean())


def _trust(level: float, white: float) -> float:
    """How far a low level is trusted, 0 to 1: fully where many cells show white noise of that level.

    In a detailed photograph a low level is mostly detail, and the error of a network is no smaller.
    """
    by_level = min(max((level - _HARDLY) / (_CLEARLY - _HARDLY), 0.0), 1.0)
    return max(by_level, min(white / _MANY_WHITE, 1.0))


def _texture_factor(diagonal: Cells, upright: Cells, known: Tensor) -> float:
    """Share of noise in the power that E1 takes for it: 1, unless even the flattest cells have texture."""
    if not known.any():
        return 1.0
    both = torch.stack([(diagonal + 2 * upright)[known], diagonal[known], upright[known]])
    flattest = both[:, both[0].argsort()[: max(1, round(_FLATTEST * both.shape[1]))]]
    ratio = float(flattest[2].mean() / flattest[1].mean())
    if ratio <= _NOISE_RATIO:
        return 1.0
    return max(0.0, 1 - (ratio - _NOISE_RATIO) / (_TEXTURE_RATIO - _NOISE_RATIO))


def _around(cells: Cells, side: int = 3) -> Cells:
    """Mean of square neighbourhoods of cells."""
    return functional.avg_pool2d(cells, side, 1, side // 2, count_include_pad=False)


@dataclass(frozen=True)
class Levels:
    """Factors on the noise level of a whole image in cells of 16 x 16 pixels."""

    factors: Cells | None
    """(1, 1, rows, columns); None if the factor is 1 everywhere."""
    none: bool = False
    """Whether the image has no noise at all."""

    def given(self, place: tuple[slice, slice], side: int) -> Tensor | None:
        """The factors that a network gets, as in the method `of`.

        A lowered level is as high as that of its neighbours: a network looks around and leaves the noise beside
        clean parts, if the level changes there. `kept_where_clean` restores these parts.
        """
        if self.factors is None:
            return None
        highest = functional.max_pool2d(self.factors, _SEEN, 1, _SEEN // 2).clamp(max=1)
        return _interpolated(torch.maximum(self.factors, highest), place, side)

    def of(self, place: tuple[slice, slice], side: int) -> Tensor | None:
        """The factors in cells of `side` pixels of a part of the image, interpolated."""
        return None if self.factors is None else _interpolated(self.factors, place, side)


def _interpolated(factors: Tensor, place: tuple[slice, slice], side: int) -> Tensor:
    """Factors in cells of `side` pixels of a part of an image."""
    found = factors
    for axis, part in ((2, place[0]), (3, place[1])):
        count = found.shape[axis]
        middle = torch.arange(part.start, part.stop, side, device=found.device) + side / 2
        at = (middle / CELL - 0.5).clamp(0, count - 1)
        first = at.floor().long()
        share = (at - first).reshape(-1, *([1] * (3 - axis)))
        after = (first + 1).clamp(max=count - 1)
        found = found.index_select(axis, first) * (1 - share) + found.index_select(axis, after) * share
    return found


def with_noise_where_flat(noisy: Image, level: Cells | None, cell: int, part: Tile) -> Image:
    """What a network sees of a tile (b, c, h, w) whose levels differ: noise also where the image is exactly flat.

    A network takes noise that ends at a mask or a frame for structure, and leaves it there. The noise that is added
    depends on the place alone, so tiles agree. `kept_where_clean` restores the flat parts.

    Args:
        noisy: Intensities.
        level: Noise level in cells, intensities; None if it was not measured. Then nothing is added.
        cell: Side of these cells in pixels.
        part: The tile that was read.
    """
    if level is None:
        return noisy
    is_flat = _is_flat(noisy)
    if not is_flat.any():
        return noisy
    std = functional.interpolate(level, scale_factor=float(cell))[..., : noisy.shape[-2], : noisy.shape[-1]]
    rows, columns = (torch.arange(at.start, at.stop, device=noisy.device) for at in part.read)
    channels = torch.arange(noisy.shape[1], device=noisy.device)[:, None, None]
    uniform = [_hash(rows[:, None] * 92_837 + columns * 68_917 + channels * 7 + 3 * way) for way in (0, 1)]
    normal = (-2 * uniform[0].clamp_min(1e-7).log()).sqrt() * (2 * math.pi * uniform[1]).cos()
    return noisy + is_flat * std * normal.to(noisy.dtype)


def _is_flat(noisy: Image) -> Mask:
    """Where an image (b, c, h, w) is exactly flat: 1 or 0, (b, 1, h, w).

    That is in and beside squares of 17 x 17 equal pixels. Between single photons there are smaller ones.
    """

    def constant(side: int) -> Tensor:
        highest, lowest = (functional.max_pool2d(way * noisy, side, 1, side // 2) for way in (1, -1))
        return (highest == -lowest).all(1, keepdim=True)

    wide = constant(_FLAT)
    if not wide.any():
        return wide.float()
    near = functional.max_pool2d(wide.float(), _FLAT, 1, _FLAT // 2)
    return near * constant(3)


def _hash(numbers: Tensor) -> Tensor:
    """Numbers in [0, 1) that look random, from whole numbers."""
    mixed = numbers
    for factor in (0x45D9F3B, 0x119DE1F3):
        mixed = ((mixed ^ (mixed >> 16)) * factor) & 0xFFFFFFFF
    return (mixed ^ (mixed >> 16)).float() / 2**32


def white_where_cut_off(denoised: Part, noisy: Image, level: Cells | None, cell: int, part: Tile) -> Part:
    """The result (b, c, h, w) of a tile, white where most noisy pixels around are white and it is nearly white.

    There the truth is white or beyond, for half of the noise is below the truth. A network sees the mean, which is
    lower, because noise above white was cut off.

    Args:
        denoised: The result without the tile's margin.
        noisy: With the margin, intensities.
        level: Noise level with the margin, intensities, in cells; None if it was not measured.
        cell: Side of these cells in pixels.
        part: The tile.
    """
    is_white = (noisy == 1).float()
    if not is_white.any():
        return denoised
    share = functional.avg_pool2d(is_white, _NEAR_WHITE, 1, _NEAR_WHITE // 2, count_include_pad=False)
    near = torch.full_like(noisy, _NEARLY)
    if level is not None:
        near = functional.interpolate(level, scale_factor=float(cell))[..., : noisy.shape[-2], : noisy.shape[-1]]
    inside = (..., *part.inner)
    return denoised.masked_fill((share[inside] > 0.5) & (denoised > 1 - near[inside]), 1)


def unchanged(image: Pixels, part: Tile, names: Collection[str]) -> TileResult:
    """The result for a tile of an image without noise: the image itself, and an uncertainty of 0."""
    pixels = as_tensor(image[part.own])[0].permute(1, 2, 0)
    return TileResult(
        part.own,
        {name: pixels if name in INTENSITIES else torch.zeros_like(pixels) for name in names},
        0.0,
        part.pixels,
    )


def kept_where_clean(denoised: Tensor, image: Pixels, part: Tile, levels: Levels, *, guided: bool) -> Tensor:
    """The result (h, w, c) of a network, mixed with the image where there is much less noise than in the whole.

    A guided network knows of it. But it is not exact where there is hardly any.
    """
    factors = levels.of(part.own, 1)
    if factors is None and not levels.none:
        return denoised
    read = as_tensor(image[part.read]).to(denoised.device)
    inside = (..., *part.inner)
    noisy = read[inside][0].permute(1, 2, 0)
    if factors is None:
        return noisy
    share = (factors / (_GUIDED_ALONE if guided else 1)).clamp(max=1) * (1 - _is_flat(read)[inside])
    share = share[0].permute(1, 2, 0)
    return noisy + share * (denoised - noisy)
