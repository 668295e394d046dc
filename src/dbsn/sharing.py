"""Images of a folder that seem to have the same noise have it: their calibrations become one (docs/math.md, S8).

One image tells its noise to a few percent, more at intensities that it hardly has, and takes texture for noise. What a
student is taught must not stray as these errors do: a denoiser of one level loses 0.05 dB if that strays by 3 percent.
Reading images does not belong here. Tested in tests/unit/test_sharing.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dbsn.calibrate import Calibration
from dbsn.likelihood import channel_variance
from dbsn.noisemodel import NoiseModel

_FEWEST = 5  # images
_LEAST, _ALIKE = 0.01, 0.05  # relative; no level is known better, and one that is shared is known as well as that
_STRAY = 5.0  # such standard deviations beyond which an image has a noise of its own
_KNOTS_A_BIN, _ROUNDS = 20, 5
_MAD = 1.4826  # of a normal distribution, its standard deviation


@dataclass(frozen=True)
class _Common:
    """What the calibrations of several images agree on in one channel."""

    intensities: np.ndarray
    """(n,), ascending."""
    log_levels: np.ndarray
    """Logarithm of the noise's standard deviation there, (n,)."""
    skewness: np.ndarray
    """(n,)"""
    offsets: np.ndarray
    """How much larger the noise of each image is, logarithm of a factor, median 0."""


def shared(noise: NoiseModel) -> NoiseModel:
    """The same folder's noise, with one calibration for all images whose level is that of most (S8).

    It is returned as it is if it has fewer than five calibrated images, or if their levels differ by more than five
    percent (a robust standard deviation, at least one percent). An image whose level is further than five such
    deviations from the others' keeps its own.
    """
    known = [number for number, image in enumerate(noise.images) if image.calibration]
    if len(known) < _FEWEST:
        return noise
    channels = [_common(noise, known, channel) for channel in range(noise.model.config.channels)]
    offsets = np.abs([common.offsets for common in channels])
    deviations = (_MAD * np.median(offsets, 1, keepdims=True)).clip(_LEAST)
    if deviations.max() > _ALIKE:
        return noise
    images = list(noise.images)
    alike = np.all(offsets <= _STRAY * deviations, 0)
    for number, shares in zip(known, alike.tolist(), strict=True):
        if shares:
            images[number] = replace(images[number], calibration=_calibration(noise, number, channels))
    return NoiseModel(noise.model, images, noise.recording)


def _common(noise: NoiseModel, known: Sequence[int], channel: int) -> _Common:
    """Median polish of all images' levels: a curve over intensity, and one factor an image."""
    parts = [_knots(noise, number, channel) for number in known]
    image = np.repeat(np.arange(len(parts)), [part.shape[1] for part in parts])
    intensity, log_level, skewness = np.concatenate(parts, 1)
    one_level = len(intensity) == len(parts)
    bins = np.array_split(np.argsort(intensity), 1 if one_level else max(1, len(intensity) // _KNOTS_A_BIN))
    middles, offsets = np.array([np.median(intensity[part]) for part in bins]), np.zeros(len(parts))
    for _ in range(_ROUNDS):
        curve = np.array([np.median((log_level - offsets[image])[part]) for part in bins])
        rest = log_level - np.interp(intensity, middles, curve)
        offsets = np.array([np.median(rest[image == number]) for number in range(len(parts))])
        offsets -= np.median(offsets)
    return _Common(middles, curve, np.array([np.median(skewness[part]) for part in bins]), offsets)


def _knots(noise: NoiseModel, number: int, channel: int) -> np.ndarray:
    """Intensity, logarithm of the level, and skewness where one image's calibration knows them: (3, n)."""
    calibration = noise.images[number].calibration
    assert calibration is not None
    level = channel_variance(noise.variance(calibration.intensities[None, :, None], [number])).sqrt()[0, channel, 0]
    knots = torch.stack([calibration.intensities[channel], level.log(), calibration.skewness[channel]]).cpu().numpy()
    return knots[:, np.append(True, np.diff(knots[0]) > 0)]  # the end of a short one is repeated


def _calibration(noise: NoiseModel, number: int, channels: Sequence[_Common]) -> Calibration:
    """One image's calibration that makes its noise the common one."""
    own = noise.images[number].calibration
    assert own is not None
    curves = ([common.intensities, np.exp(2 * common.log_levels), common.skewness] for common in channels)
    intensities, wanted, skewness = torch.tensor(np.stack([np.stack(curve) for curve in curves], 1)).to(own.intensities)
    uncorrected = replace(noise.images[number], calibration=None)
    told = NoiseModel(noise.model, [uncorrected], noise.recording).variance(intensities[None, :, None], [0])
    factors = wanted / channel_variance(told)[0, :, 0].to(wanted)
    return replace(own, intensities=intensities, noise_factors=factors, skewness=skewness)
