"""Inspection of noisy images: their noise, and whether this method suits it.

It needs neither clean images nor a network. It measures noise in the flat blocks of each image, after subtracting a
plane from each block. Blocks are chosen by their power, and the bias of this choice is corrected. Files and networks do
not belong here. Tested in tests/unit/test_inspection.py.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammainc

from dbsn.config import Auto, ModelConfig, NoiseFamily
from dbsn.intensity import OF_255, Unit, to_pixels
from dbsn.networks.measurement import MEASURES, measure
from dbsn.noise.jpeg_grid import JpegGrid
from dbsn.noise.recording import Recording
from dbsn.tensors import as_tensor

Array = NDArray[np.floating]

LAGS = 6
A_FEW = 30
"""Number of images that is enough to inspect a folder before training."""
_BLOCK, _LEAST_SIDE = 8, 64
_BINS, _LEAST_BLOCKS = 8, 4
_LOWEST, _WITHOUT_TEXTURE = 0.02, 1.2  # blocks up to 1.2 times the power of the lowest 2 % count as noise alone
_MOST_BLOCKS = 60_000  # of one image
_CORRELATED, _CHANNELS_CORRELATED, _LEVEL_DEPENDS = 0.15, 0.08, 1.25
_WORTH_A_STRIDE = 0.3  # correlation; in photographs with hardly any noise, texture mistaken for noise has 0.2
_NOTHING = 1e-9  # power, in that of a block: of a block without any noise
_CHANCE = 4.0  # standard deviations


@dataclass(frozen=True, kw_only=True)
class ImageInspection:
    """The measured noise of one image (h, w, c)."""

    curve: Array
    """Intensity and noise level of each channel and bin, dark to bright: (c, bins, 2)."""
    channel_correlation: Array
    """Correlation of the noise between channels: (c, c)."""
    autocorrelation: Array
    """Autocorrelation of the noise: (6, 11).

    Distances are 0 to 5 pixels down and -5 to 5 across. [0, 5], at distance 0, is 1. What may be chance is 0.
    """
    jpeg: JpegGrid
    """Trace of JPEG compression."""

    @property
    def level(self) -> float:
        """Noise level: root mean square over intensities and channels, intensity."""
        return float(np.sqrt((self.curve[..., 1] ** 2).mean()))

    @property
    def dependence(self) -> float:
        """Largest over smallest noise level, mean over channels.

        Neighbouring intensities are averaged first, against chance.
        """
        smooth = (self.curve[:, 1:, 1] + self.curve[:, :-1, 1]) / 2
        return float((smooth.max(1) / np.maximum(smooth.min(1), 1e-12)).mean())

    @property
    def sharing(self) -> float:
        """Largest absolute correlation between two channels; 0 for gray."""
        return float(abs(self.channel_correlation - np.eye(len(self.channel_correlation))).max())


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The measured noise of a folder; figures are medians over its images."""

    images: Sequence[ImageInspection]
    """The images that are large enough and have a flat part, in order; at least one."""
    recording: Recording
    """Black, white and rounding of the images."""
    unit: Unit = OF_255
    """Unit of the intensities in the verdict."""

    @property
    def levels(self) -> list[float]:
        """Noise level of each image, intensity."""
        return [each.level for each in self.images]

    @property
    def autocorrelation(self) -> Array:
        """Median over the images, see `ImageInspection`."""
        return np.asarray(np.median([each.autocorrelation for each in self.images], 0))

    @property
    def channel_correlation(self) -> Array:
        """Median over the images, see `ImageInspection`."""
        return np.asarray(np.median([each.channel_correlation for each in self.images], 0))

    @property
    def neighbours(self) -> float:
        """Correlation of the noise of neighbours: beside or below, the larger one."""
        return float(max(self.autocorrelation[0, LAGS], self.autocorrelation[1, LAGS - 1], key=abs))

    @property
    def reach(self) -> int:
        """Number of pixels over which noise is correlated, in any direction.

        It is 1 for independent noise.
        """
        found, size = self.autocorrelation, range(2 * LAGS - 1)
        distance = np.array([[max(down, abs(across - (LAGS - 1))) for across in size] for down in range(LAGS)])
        # beyond a neighbour, negative values come from the plane subtracted from widely correlated noise
        shared = (found > _CORRELATED) | ((found < -_CORRELATED) & (distance == 1))
        return int(distance[shared].max()) + 1

    @property
    def is_compressed(self) -> bool:
        """Whether the noise shows the blocks of JPEG."""
        return bool(np.mean([each.jpeg.is_there for each in self.images]) > 0.5)

    @property
    def suits(self) -> bool:
        """Whether noise is independent, as learning from noisy images alone needs."""
        return self.reach == 1 and not self.is_compressed

    @property
    def stride(self) -> int:
        """Recommended stride.

        It is 1 unless noise is so correlated that a blind-spot network would keep it.
        """
        others = np.abs(np.delete(self.autocorrelation, LAGS - 1))  # without distance 0
        return 1 if self.suits or others.max() < _WORTH_A_STRIDE else self._independent_from

    @property
    def _independent_from(self) -> int:
        return 2 * max(self.reach, 2) + 1

    @property
    def family(self) -> NoiseFamily:
        """The narrowest form of noise that covers most images (`ModelConfig.noise`)."""
        depends = float(np.median([each.dependence for each in self.images])) > _LEVEL_DEPENDS
        # the lower quartile: remaining texture correlates channels, too, but not in every image
        if float(np.quantile([each.sharing for each in self.images], 0.25)) > _CHANNELS_CORRELATED:
            return "any" if depends else "mg"
        return "hg" if depends else "awgn"

    @property
    def verdict(self) -> str:
        """Description of the noise, and whether it can be learned, in a few sentences."""
        low, high = (self.unit.number(level) for level in (min(self.levels), max(self.levels)))
        said = f"noise of {'' if self.suits else 'at least '}{low}" + (f" to {high}" if len(self.images) > 1 else "")
        form = f"{_FORMS[self.family]} (--noise {self.family})"
        said += f"{self.unit.of}, {form}; {self.recording.describe(self.unit)}. "
        if self.suits:
            return said + "It is independent from pixel to pixel, as learning from noisy images alone needs."
        if self.is_compressed:
            said += "JPEG compression has spread it over blocks of 8 x 8 pixels"
        else:
            said += f"It is correlated over about {self.reach} pixels"
        said += f" (correlation {self.neighbours:.2f} between neighbours). "
        if self.stride > 1:
            said += f"A blind-spot network takes it for structure. Use --stride {self.stride}. Better,"
        else:
            said += f"A blind-spot network keeps a part of it. Try --stride {self._independent_from}, or"
        return said + " use RAW or uncompressed files."


_FORMS: dict[NoiseFamily, str] = {
    "awgn": "the same at every intensity",
    "hg": "different from intensity to intensity",
    "mg": "the same at every intensity, correlated between channels",
    "any": "different from intensity to intensity, correlated between channels",
}


def suited(
    model: ModelConfig, found: Inspection | None, *, noise: NoiseFamily | Auto, stride: int | Auto
) -> ModelConfig:
    """Set the noise and the stride of a model's configuration.

    Args:
        model: The configuration.
        found: Used where `noise` or `stride` is "auto". None if the images are too small to inspect; then any form of
            noise is assumed, and the stride 1.
        noise: Form of the noise, or "auto".
        stride: Distance in pixels at which noise counts as independent, or "auto".
    """
    family = (found.family if found else "any") if noise == "auto" else noise
    return replace(model, noise=family).with_stride((found.stride if found else 1) if stride == "auto" else stride)


def inspect_noise(images: Sequence[NDArray[np.generic]], most: int | None = None) -> Inspection:
    """Measure the noise of images (h, w, c) of any integer or float type.

    Args:
        images: All images; they have the same number of channels.
        most: Inspect at most this many, evenly chosen.

    Raises:
        ValueError: No image has at least 64 x 64 pixels, or nothing in them varies: they are constant, drawings, or
            cut off nearly everywhere.
    """
    if most:
        images = images[:: -(-len(images) // most)]
    recording = Recording.of(images)
    found = [each for each in (inspect_image(image, recording) for image in images) if each]
    if not found and max(min(image.shape[:2]) for image in images) < _LEAST_SIDE:
        raise ValueError(
            "images: none is large enough to measure its noise (expected at least 64 x 64 pixels). Use larger images."
        )
    if not found:
        raise ValueError(
            "images: no noise can be measured. They are constant, or drawings, or black or white nearly everywhere."
        )
    return Inspection(images=found, recording=recording, unit=Unit.of_samples(*images))


def inspect_image(image: NDArray[np.generic], recording: Recording) -> ImageInspection | None:
    """Measure the noise of one image (h, w, c).

    The result is None if the image is too small or nearly all of it is clipped.
    """
    if min(image.shape[:2]) < 2 * _BLOCK:
        return None
    pixels = to_pixels(image)
    blocks = _blocks(pixels)
    ends = np.array([end for end in (recording.black, recording.white) if end is not None], np.float32)
    cut = np.isin(blocks, ends).mean((1, 2, 3)) > 0.01
    residual = without_plane(blocks)
    power = (residual**2).mean((1, 2, 3))
    varied = (blocks.max((1, 2)) > blocks.min((1, 2))).any(-1)  # masks and margins have no noise
    usable = np.flatnonzero(~cut & varied)
    if len(usable) < _LEAST_BLOCKS * _BINS:
        return None
    by_intensity = usable[np.argsort(blocks[usable].mean((1, 2, 3)))]
    freedom = _BLOCK**2 - 3  # a plane was subtracted
    chosen, bins = [], []
    for some in np.array_split(by_intensity, _BINS):
        part, missing = _flat(some, power, freedom * pixels.shape[2])
        chosen.append(part)
        variance = missing * _BLOCK**2 / freedom * (residual[part] ** 2).mean((0, 1, 2))
        bins.append(np.stack([blocks[part].mean((0, 1, 2)), np.sqrt(variance)]))
    flat = residual[np.concatenate(chosen)]
    return ImageInspection(
        curve=np.stack(bins).transpose(2, 0, 1),
        channel_correlation=_channel_correlation(flat),
        autocorrelation=_autocorrelation(np.concatenate(_least_correlated([residual[part] for part in chosen]))),
        jpeg=JpegGrid.of(pixels),
    )


def _blocks(pixels: Array) -> Array:
    """Blocks (n, 8, 8, c) without overlap, evenly chosen if there are many."""
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    whole = pixels[: rows * _BLOCK, : columns * _BLOCK]
    tiled = whole.reshape(rows, _BLOCK, columns, _BLOCK, -1).swapaxes(1, 2)
    every = -(-rows * columns // _MOST_BLOCKS)
    return np.asarray(tiled.reshape(-1, *tiled.shape[2:])[::every], np.float32)


def without_plane(blocks: Array) -> Array:
    """Subtract mean and slopes from blocks (n, 8, 8, c)."""
    ramp = (np.arange(_BLOCK) - (_BLOCK - 1) / 2) / math.sqrt(_BLOCK * (_BLOCK**2 - 1) / 12)
    flat = blocks - blocks.mean((1, 2), keepdims=True)
    for shape in ((-1, 1, 1), (1, -1, 1)):
        slope = np.broadcast_to((ramp / math.sqrt(_BLOCK)).reshape(shape), (_BLOCK, _BLOCK, 1)).astype(np.float32)
        flat = flat - (flat * slope).sum((1, 2), keepdims=True) * slope
    return flat


def _flat(part: NDArray[np.intp], power: Array, freedom: int) -> tuple[NDArray[np.intp], float]:
    """Choose the blocks without texture, by their power.

    Returns:
        The chosen blocks and a factor on their power. The factor corrects for blocks of pure noise that are missing
        because their power is large by chance. For noise of variance s^2, let m be the mean power below a limit L. The
        ratio m / L is known and determines s^2 / L.
    """
    limit = _WITHOUT_TEXTURE * np.quantile(power[part], _LOWEST)
    smooth = part[power[part] <= limit]
    if not power[smooth].any():
        return smooth, 1.0
    at = np.linspace(0.5, 3, 251)  # limits in units of s^2, of which block powers are Gamma distributed
    shape = freedom / 2
    mean = gammainc(shape + 1, shape * at) / gammainc(shape, shape * at)
    noise_power = limit / np.interp(-power[smooth].mean() / limit, -mean / at, at)
    return smooth, float(noise_power / power[smooth].mean())


def _channel_correlation(residual: Array) -> Array:
    flat = residual.reshape(-1, residual.shape[-1]).astype(np.float64)
    covariance = np.atleast_2d(flat.T @ flat)
    scale = np.sqrt(np.maximum(covariance.diagonal(), 1e-30))
    return covariance / np.outer(scale, scale)


def _autocorrelation(residual: Array) -> Array:
    """Autocorrelation (6, 11) of blocks, each divided by its own power.

    It is the mean over channels. The effect of subtracting planes is corrected.
    """
    unit = residual / np.sqrt((residual**2).mean((1, 2), keepdims=True) + 1e-30)
    every = unit.transpose(0, 3, 1, 2).reshape(-1, _BLOCK**2).astype(np.float64)
    found = _by_distance(every.T @ every / len(every))
    if found[0, LAGS - 1] < _NOTHING:
        return np.eye(1, 2 * LAGS - 1, LAGS - 1).repeat(LAGS, 0) * np.eye(LAGS, 1)
    identity = np.identity(_BLOCK**2, np.float32).reshape(-1, _BLOCK, _BLOCK, 1)
    independent = _by_distance(without_plane(identity).reshape(_BLOCK**2, -1))
    here = (0, LAGS - 1)
    autocorrelation = found / found[here] - independent / independent[here]
    chance = _CHANCE / np.sqrt(len(every) * _by_distance(np.ones((_BLOCK**2, _BLOCK**2)), mean=False))
    autocorrelation[abs(autocorrelation) < chance] = 0
    autocorrelation[here] = 1
    return autocorrelation


def _least_correlated(bins: list[Array]) -> list[Array]:
    """The half of the bins whose neighbours are least correlated: texture is not in all of them, noise is."""
    found = [_autocorrelation(flat) for flat in bins]
    order = np.argsort([max(abs(each[0, LAGS]), abs(each[1, LAGS - 1])) for each in found])
    return [bins[number] for number in order[: len(bins) // 2]]


def _by_distance(covariance: Array, *, mean: bool = True) -> Array:
    """Mean or sum of the covariance of a block's pixels at each distance down and across: (6, 11)."""
    row, column = np.divmod(np.arange(_BLOCK**2), _BLOCK)
    down, across = row[:, None] - row, column[:, None] - column
    near = (down >= 0) & (down < LAGS) & (abs(across) < LAGS)
    place = (down * (2 * LAGS - 1) + across + LAGS - 1)[near]
    sums = np.bincount(place, np.asarray(covariance)[near], LAGS * (2 * LAGS - 1))
    return (sums / (np.bincount(place, minlength=len(sums)) if mean else 1)).reshape(LAGS, -1)


def flaws(image: np.ndarray) -> tuple[float, float]:
    """Measure noise and JPEG blocks of a clean image (h, w, c).

    Noise or JPEG blocks in clean images limit what a student can learn.

    Returns:
        The noise level of flat areas and the strength of blocks, both in intensity. Both are near 0 in a clean image.
        The strength is the mean step across the borders of 8 x 8 blocks, minus the largest mean step elsewhere. The
        borders may lie anywhere.
    """
    if min(image.shape[:2]) < 8:
        return 0.0, 0.0  # too small to measure
    levels = measure([as_tensor(image)]).unflatten(1, (-1, MEASURES))[:, :, 0].exp()
    pixels, excess = to_pixels(image).mean(2), list[float]()
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(1 - axis)
        others, border = np.sort([steps[start::8].mean() for start in range(min(8, len(steps)))])[-2:]
        excess.append(float(border - others))
    return float(levels.max()), min(excess)  # blocks show in both directions, buildings in one
