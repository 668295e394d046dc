"""Does this method suit my noise? What noisy images alone say of their noise, without a network.

Noise is looked at in the flat blocks of each image, a plane taken out of each. Blocks are chosen by their power, and
what the choice does to a level is undone. Tested in tests/unit/test_inspection.py. Not here: files, networks.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.fft import dctn
from scipy.special import gammainc

from dbsn.config import Auto, ModelConfig, NoiseFamily
from dbsn.intensity import OF_255, Unit, to_pixels
from dbsn.networks.measurement import MEASURES, measure
from dbsn.noise.recording import Recording
from dbsn.tensors import as_tensor

Array = NDArray[np.floating]

LAGS = 6
A_FEW = 30
"""Images that tell enough of a folder before it is learned from."""
_BLOCK = 8
_BINS, _LEAST_BLOCKS = 8, 4
_LOWEST, _WITHOUT_TEXTURE = 0.02, 1.2  # blocks of up to 1.2 times the power of the lowest 2 % are taken for noise alone
_MOST_BLOCKS = 60_000  # of one image
_CORRELATED, _CHANNELS_CORRELATED, _LEVEL_DEPENDS = 0.15, 0.08, 1.25
_WORTH_A_STRIDE = 0.3  # correlation; texture that is taken for noise in photographs with hardly any has 0.2
_COMPRESSED, _VANISHES = 0.1, 0.6  # the latter of 255


@dataclass(frozen=True, kw_only=True)
class ImageInspection:
    """What is known of the noise of one image (h, w, c)."""

    curve: Array
    """Intensity and noise standard deviation there, for each channel and bin, dark to bright: (c, bins, 2)."""
    channel_correlation: Array
    """Of the noise between channels: (c, c)."""
    autocorrelation: Array
    """Of the noise, at distances of 0 to 5 pixels down and -5 to 5 across: (6, 11); [0, 5], of no distance, is 1."""
    jpeg: float
    """How much more often fine frequencies vanish in the 8 x 8 blocks of JPEG than in shifted ones: 0 to 1."""

    @property
    def level(self) -> float:
        """Noise standard deviation, root mean square over intensities and channels, intensity."""
        return float(np.sqrt((self.curve[..., 1] ** 2).mean()))

    @property
    def dependence(self) -> float:
        """Largest over smallest noise level, mean over channels; neighbouring intensities averaged against chance."""
        smooth = (self.curve[:, 1:, 1] + self.curve[:, :-1, 1]) / 2
        return float((smooth.max(1) / np.maximum(smooth.min(1), 1e-12)).mean())

    @property
    def sharing(self) -> float:
        """Largest correlation between two channels, without its sign; 0 in gray."""
        return float(abs(self.channel_correlation - np.eye(len(self.channel_correlation))).max())


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """What is known of the noise of a folder; figures are medians over its images."""

    images: Sequence[ImageInspection]
    """Those that are large enough and have a flat part, in their order; at least one."""
    recording: Recording
    """Where they are cut off and how they are rounded."""
    unit: Unit = OF_255
    """The numbers that the verdict is in."""

    @property
    def levels(self) -> list[float]:
        """Noise level of each image, intensity."""
        return [each.level for each in self.images]

    @property
    def autocorrelation(self) -> Array:
        """As of an image."""
        return np.asarray(np.median([each.autocorrelation for each in self.images], 0))

    @property
    def channel_correlation(self) -> Array:
        """As of an image."""
        return np.asarray(np.median([each.channel_correlation for each in self.images], 0))

    @property
    def neighbours(self) -> float:
        """Correlation of a pixel's noise with that of the pixel beside or below it, whichever is larger."""
        return float(max(self.autocorrelation[0, LAGS], self.autocorrelation[1, LAGS - 1], key=abs))

    @property
    def reach(self) -> int:
        """Over how many pixels noise is correlated, in any direction; 1 if every pixel is independent."""
        found, size = self.autocorrelation, range(2 * LAGS - 1)
        distance = np.array([[max(down, abs(across - (LAGS - 1))) for across in size] for down in range(LAGS)])
        # beyond a neighbour negative values are the mark of the plane that was taken out of wide correlation
        shared = (found > _CORRELATED) | ((found < -_CORRELATED) & (distance == 1))
        return int(distance[shared].max()) + 1

    @property
    def is_compressed(self) -> bool:
        """Whether JPEG's blocks are in the noise."""
        return float(np.median([each.jpeg for each in self.images])) > _COMPRESSED

    @property
    def suits(self) -> bool:
        """Whether noise is independent from pixel to pixel, which learning from noisy images alone needs."""
        return self.reach == 1 and not self.is_compressed

    @property
    def stride(self) -> int:
        """Distance of pixels to learn at; 1 unless neighbours share so much that a blind-spot network would keep it."""
        others = np.abs(np.delete(self.autocorrelation, LAGS - 1))  # without that of no distance
        return 1 if self.suits or others.max() < _WORTH_A_STRIDE else self._independent_from

    @property
    def _independent_from(self) -> int:
        return 2 * max(self.reach, 2) + 1

    @property
    def family(self) -> NoiseFamily:
        """The narrowest form of noise that holds most images' (`ModelConfig.noise`)."""
        depends = float(np.median([each.dependence for each in self.images])) > _LEVEL_DEPENDS
        # a quarter has less: left-over texture is shared between channels, too, but not in every image
        if float(np.quantile([each.sharing for each in self.images], 0.25)) > _CHANNELS_CORRELATED:
            return "any" if depends else "mg"
        return "hg" if depends else "awgn"

    @property
    def verdict(self) -> str:
        """What noise this is and whether it can be learned from, in two or three sentences."""
        low, high = (self.unit.number(level) for level in (min(self.levels), max(self.levels)))
        said = f"noise of {'' if self.suits else 'at least '}{low}" + (f" to {high}" if len(self.images) > 1 else "")
        form = f"{_FORMS[self.family]} (--noise {self.family})"
        said += f"{self.unit.of}, {form}; {self.recording.told(self.unit)}. "
        if self.suits:
            return said + "It is independent from pixel to pixel, as learning from noisy images alone needs it."
        if self.is_compressed:
            said += "JPEG compression has spread it over blocks of 8 x 8 pixels"
        else:
            said += f"It is correlated over about {self.reach} pixels"
        said += f" ({self.neighbours:.2f} between neighbours), which a blind-spot network takes for structure"
        if self.stride > 1:
            said += f": learn from every {self.stride}th pixel (--stride {self.stride}); better,"
        else:
            said += f" and keeps a part of: try --stride {self._independent_from}, or"
        return said + " use RAW or uncompressed files."


_FORMS: dict[NoiseFamily, str] = {
    "awgn": "the same at every intensity",
    "hg": "different from intensity to intensity",
    "mg": "the same at every intensity, shared between channels",
    "any": "different from intensity to intensity, shared between channels",
}


def suited(
    model: ModelConfig, found: Inspection | None, *, noise: NoiseFamily | Auto, stride: int | Auto
) -> ModelConfig:
    """A model's configuration for the noise that was found, where it is left open.

    Args:
        model: The rest of it.
        found: None if the images are too small to tell, which leaves every form of noise possible and the stride 1.
        noise: Form of the noise.
        stride: Distance of pixels at which noise counts as independent.
    """
    family = (found.family if found else "any") if noise == "auto" else noise
    return replace(model, noise=family).with_stride((found.stride if found else 1) if stride == "auto" else stride)


def inspect_noise(images: Sequence[NDArray[np.generic]], most: int | None = None) -> Inspection:
    """Look at noisy images (h, w, c) of any integer or float kind, all with the same channels.

    Args:
        images: All there are.
        most: Look at no more than so many, evenly chosen.

    Raises:
        ValueError: None of them is at least 64 x 64 pixels with a part that is not cut off.
    """
    if most:
        images = images[:: -(-len(images) // most)]
    recording = Recording.of(images)
    found = [each for each in (inspect_image(image, recording) for image in images) if each]
    if not found:
        raise ValueError("no image is large enough to see its noise; at least 64 x 64 pixels are needed")
    return Inspection(images=found, recording=recording, unit=Unit.of_samples(*images))


def inspect_image(image: NDArray[np.generic], recording: Recording) -> ImageInspection | None:
    """Look at one image (h, w, c); None if it is too small or nearly everything is cut off."""
    if min(image.shape[:2]) < 2 * _BLOCK:
        return None
    pixels = to_pixels(image)
    blocks = _blocks(pixels)
    ends = np.array([end for end in (recording.black, recording.white) if end is not None], np.float32)
    cut = np.isin(blocks, ends).mean((1, 2, 3)) > 0.01
    residual = _without_plane(blocks)
    power = (residual**2).mean((1, 2, 3))
    varied = (blocks.max((1, 2)) > blocks.min((1, 2))).any(-1)  # a mask or a margin has no noise
    usable = np.flatnonzero(~cut & varied)
    if len(usable) < _LEAST_BLOCKS * _BINS:
        return None
    by_intensity = usable[np.argsort(blocks[usable].mean((1, 2, 3)))]
    freedom = _BLOCK**2 - 3  # a plane was taken out
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
        autocorrelation=_autocorrelation(flat),
        jpeg=_jpeg(pixels),
    )


def _blocks(pixels: Array) -> Array:
    """Blocks (n, 8, 8, c) that do not overlap, evenly chosen if there are many."""
    rows, columns = (side // _BLOCK for side in pixels.shape[:2])
    whole = pixels[: rows * _BLOCK, : columns * _BLOCK]
    tiled = whole.reshape(rows, _BLOCK, columns, _BLOCK, -1).swapaxes(1, 2)
    every = -(-rows * columns // _MOST_BLOCKS)
    return np.asarray(tiled.reshape(-1, *tiled.shape[2:])[::every], np.float32)


def _without_plane(blocks: Array) -> Array:
    """Blocks without their mean and slopes."""
    ramp = (np.arange(_BLOCK) - (_BLOCK - 1) / 2) / math.sqrt(_BLOCK * (_BLOCK**2 - 1) / 12)
    flat = blocks - blocks.mean((1, 2), keepdims=True)
    for shape in ((-1, 1, 1), (1, -1, 1)):
        slope = np.broadcast_to((ramp / math.sqrt(_BLOCK)).reshape(shape), (_BLOCK, _BLOCK, 1)).astype(np.float32)
        flat = flat - (flat * slope).sum((1, 2), keepdims=True) * slope
    return flat


def _flat(part: NDArray[np.intp], power: Array, freedom: int) -> tuple[NDArray[np.intp], float]:
    """Of some blocks, those without texture, by their power.

    Returns:
        Which, and what to multiply their power by, because those of pure noise whose power chanced to be large are
        missing: noise of variance s^2 has the mean power m below a limit L, where m / L is known and so s^2 / L.
    """
    limit = _WITHOUT_TEXTURE * np.quantile(power[part], _LOWEST)
    smooth = part[power[part] <= limit]
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
    """Mean over channels, each block in units of its own power, (6, 11); what taking the plane out did is undone."""
    unit = residual / np.sqrt((residual**2).mean((1, 2), keepdims=True) + 1e-30)
    every = unit.transpose(0, 3, 1, 2).reshape(-1, _BLOCK**2).astype(np.float64)
    found = _by_distance(every.T @ every / len(every))
    identity = np.identity(_BLOCK**2, np.float32).reshape(-1, _BLOCK, _BLOCK, 1)
    independent = _by_distance(_without_plane(identity).reshape(_BLOCK**2, -1))
    here = (0, LAGS - 1)
    autocorrelation = found / found[here] - independent / independent[here]
    autocorrelation[here] = 1
    return autocorrelation


def _by_distance(covariance: Array) -> Array:
    """Mean covariance of the pixels of a block at each distance down and across: (6, 11)."""
    row, column = np.divmod(np.arange(_BLOCK**2), _BLOCK)
    down, across = row[:, None] - row, column[:, None] - column
    near = (down >= 0) & (down < LAGS) & (abs(across) < LAGS)
    place = (down * (2 * LAGS - 1) + across + LAGS - 1)[near]
    sums = np.bincount(place, np.asarray(covariance)[near], LAGS * (2 * LAGS - 1))
    return (sums / np.bincount(place, minlength=len(sums))).reshape(LAGS, -1)


def _jpeg(pixels: Array) -> float:
    """Share of fine frequencies near zero in blocks of 8 x 8 as JPEG lays them, less that in shifted ones."""
    gray = 255 * pixels.mean(2)

    def share(image: Array) -> float:
        rows, columns = (side // 8 for side in image.shape)
        tiled = image[: rows * 8, : columns * 8].reshape(rows, 8, columns, 8).swapaxes(1, 2).reshape(-1, 8, 8)
        tiled = tiled[:: -(-len(tiled) // _MOST_BLOCKS)]
        fine = abs(dctn(tiled, axes=(1, 2), norm="ortho")[:, 4:, 4:])
        return float((fine < _VANISHES).mean())

    return max(0.0, share(gray) - share(gray[4:, 4:]))


def flaws(image: np.ndarray) -> tuple[float, float]:
    """How unclean an image (h, w, c) is, for clean images with noise or JPEG blocks cap what a student can learn.

    Returns:
        Noise level of its flat areas, and how much larger the mean step across the borders of 8 x 8 blocks is, wherever
        they lie, than at any other distance from them; both intensities, near 0 in a clean image.
    """
    if min(image.shape[:2]) < 8:
        return 0.0, 0.0  # too small to tell
    levels = measure([as_tensor(image)]).unflatten(1, (-1, MEASURES))[:, :, 0].exp()
    pixels, excess = to_pixels(image).mean(2), list[float]()
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(1 - axis)
        others, border = np.sort([steps[start::8].mean() for start in range(min(8, len(steps)))])[-2:]
        excess.append(float(border - others))
    return float(levels.max()), min(excess)  # blocks stand out both ways, buildings one way
