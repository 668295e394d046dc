"""Pooling: similar images of a folder share one calibration (math.md, S8).

One image gives its noise to a few percent. The error is larger at intensities that it hardly has, and where it mistakes
texture for noise. These errors must not enter the training of a student: a student of a single level is better at that
level. Reading images does not belong here. Tested in tests/unit/test_pooling.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dbsn.noise.learned import NoiseModel

_FEWEST = 8  # images
_LEAST, _ALIKE = 0.01, 0.05  # relative deviations: the smallest assumed, and the largest of images with common noise
_STRAY, _FURTHEST = 5.0, 0.1  # largest offset: in deviations, and as a logarithm (a third of a stop is 0.115)
_ELSEWHERE, _MOST = 0.4, 0.75  # logarithm, at this share of intensities: at those it lacks, an image only guesses
_KNOTS_A_BIN, _ROUNDS, _INTENSITIES = 20, 5, 33
_MAD = 1.4826  # standard deviation over median absolute deviation, for a normal distribution


@dataclass(frozen=True)
class _ImageNoise:
    """The noise of one image; levels are logarithms of standard deviations."""

    knots: np.ndarray
    """Intensity, level and skewness at the points of its calibration, (c, 3, n)."""
    own: np.ndarray
    """Level at the intensities of the grid, even those it does not have, (c, g)."""
    uncorrected: np.ndarray
    """The same by CNN_est alone, without calibration."""


@dataclass(frozen=True)
class _Common:
    """The common noise of several images in one channel, at the grid's intensities."""

    levels: np.ndarray
    """Common level, (g,)."""
    skewness: np.ndarray
    """Common skewness, (g,)."""
    offsets: np.ndarray
    """Level of each image minus the common one; median 0."""


def shared(noise: NoiseModel) -> NoiseModel:
    """Give one calibration to all images of a folder with the common noise level (S8).

    The noise is returned unchanged if fewer than eight images are calibrated. It is also returned unchanged if their
    levels differ by more than five percent (a robust standard deviation, at least one percent).

    An image keeps its own noise in two cases. Its level is further from the others than five such deviations or than a
    tenth. Or its noise would be quite different at other intensities: dark images with much noise and bright ones with
    little would otherwise form one curve.
    """
    config, one_level = noise.model.config, noise.model.noise_estimator.per_image
    grid = np.linspace(config.offset - config.scale, config.offset + config.scale, _INTENSITIES, dtype=np.float32)
    known = {number: _noise_of(noise, number, grid) for number, image in enumerate(noise.images) if image.calibration}
    for _ in range(2):  # the second time without the images that differ
        if len(known) < _FEWEST:
            return noise
        channels = [_common(list(known.values()), grid, channel, one_level) for channel in range(config.channels)]
        offsets = np.abs([common.offsets for common in channels])
        deviations = (_MAD * np.median(offsets, 1, keepdims=True)).clip(_LEAST)
        if deviations.max() > _ALIKE:
            return noise
        levels = np.stack([common.levels for common in channels])
        elsewhere = np.array([np.quantile(abs(one.own - levels), _MOST, axis=1).max() for one in known.values()])
        alike = np.all(offsets <= (_STRAY * deviations).clip(max=_FURTHEST), 0) & (elsewhere <= _ELSEWHERE)
        known = {number: one for (number, one), shares in zip(known.items(), alike, strict=True) if shares}
    images = list(noise.images)
    variance = np.exp(2 * levels)
    skewness = np.stack([common.skewness for common in channels])
    curves = [torch.from_numpy(curve).float() for curve in (np.stack([grid] * len(levels)), variance, skewness)]
    for number in known:
        images[number] = noise.calibrated_to(number, *curves)
    return NoiseModel(noise.model, images, noise.recording)


def _noise_of(noise: NoiseModel, number: int, grid: np.ndarray) -> _ImageNoise:
    calibration = noise.images[number].calibration
    assert calibration is not None
    at = calibration.intensities
    knots = torch.stack([at, _level(noise.at(number, at)), calibration.skewness], 1).cpu().numpy()
    everywhere = torch.from_numpy(grid).to(at).expand(len(knots), -1)
    own, uncorrected = noise.at(number, everywhere), noise.uncorrected(number).at(0, everywhere)
    return _ImageNoise(knots, _level(own).cpu().numpy(), _level(uncorrected).cpu().numpy())


def _level(variance: Tensor) -> Tensor:
    """Logarithm of the standard deviation."""
    return variance.log() / 2


def _common(images: Sequence[_ImageNoise], grid: np.ndarray, channel: int, one_level: bool) -> _Common:
    """Median polish of all levels: a curve over intensity, an offset per image.

    The mean level of CNN_est is subtracted first.
    """
    knots = [one.knots[channel] for one in images]
    image = np.repeat(np.arange(len(knots)), [part.shape[1] for part in knots])
    intensity, level, skewness = np.concatenate(knots, 1)
    expected = np.mean([one.uncorrected[channel] for one in images], 0)
    beside = level - np.interp(intensity, grid, expected)
    bins = np.array_split(np.argsort(intensity), 1 if one_level else max(1, len(intensity) // _KNOTS_A_BIN))
    middles, offsets = [np.median(intensity[part]) for part in bins], np.zeros(len(knots))
    for _ in range(_ROUNDS):
        curve = [np.median((beside - offsets[image])[part]) for part in bins]
        rest = beside - np.interp(intensity, middles, curve)
        offsets = np.array([np.median(rest[image == number]) for number in range(len(knots))])
        offsets -= np.median(offsets)
    skewed = [np.median(skewness[part]) for part in bins]
    return _Common(expected + np.interp(grid, middles, curve), np.interp(grid, middles, skewed), offsets)
