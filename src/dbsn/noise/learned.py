"""The learned noise of a folder: its level at each intensity, and the recording.

CNN_est gives the noise at each intensity of a measured image. `NoiseModel` keeps the measurements of the folder's
images. So drawn noise varies from image to image as in the folder. It is also clipped at black and white and rounded as
in the folder (math.md, S2). Files, denoising networks and losses do not belong here. Tested in
tests/unit/test_learned.py and tests/e2e/test_stages.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from dbsn.intensity import Unit
from dbsn.likelihood import channel_variance, coloured, scaled
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.calibration import Calibration, interpolate, stacked
from dbsn.networks.measurement import typical_intensity
from dbsn.noise.correlation import REACH, filtered
from dbsn.noise.recording import Recording
from dbsn.types import Image, Variance

_LEAST_KEPT = 1e-3
_CURVES = ("intensities", "noise_factors", "skewness")  # the part of a calibration that concerns noise
_ALONE = functional.pad(torch.ones(1, 1), [REACH] * 4)  # the identity filter
_REACH, _KNOTS = 4.0, 129  # in standard deviations: clipping at a larger distance has no effect


def before_cut_off(distance: Tensor) -> Tensor:
    """Ratio of the standard deviations of Gaussian noise before and after clipping.

    Args:
        distance: Distance of the mean from the clipping point, in standard deviations *after* clipping, at least 0. Any
            shape.

    Returns:
        1 far from the clipping point, rising to 1.71 at the point itself, where half of the noise is clipped.
    """
    at = torch.linspace(0, _REACH, _KNOTS, dtype=torch.float64)  # the distance in standard deviations before
    density, above = (-at.square() / 2).exp() / (2 * torch.pi) ** 0.5, torch.special.ndtr(-at)
    mean = at * above - density
    left = (1 - above - at * density + at.square() * above - mean.square()).sqrt()
    return interpolate(distance, (at / left).to(distance), (1 / left).to(distance))


def skewed(white: Image, skewness: Image) -> Image:
    """Give white Gaussian noise a skewness (Cornish and Fisher 1938).

    Mean 0 and variance 1 are kept: (w + a (w^2 - 1)) / sqrt(1 + 2 a^2) with a = skewness / 6. The resulting skewness is
    3 % too small at 0.8 and 7 % at 1.2. Photon noise needs it: a Poisson count of mean m has skewness 1 / sqrt(m).
    """
    bend = skewness / 6
    return (white + bend * (white.square() - 1)) / (1 + 2 * bend.square()).sqrt()


@dataclass(frozen=True)
class ImageNoise:
    """The learned noise of one image."""

    measurement: Tensor
    """`BlindSpotModel.measure` of the image, (1, m, 1, 1)."""
    calibration: Calibration | None = None
    """Correction of CNN_est by the image's own pixels (M8); None for a tiny image."""
    kernel: Tensor | None = None
    """Filter (13, 13) that makes white noise correlated as in the image (C2).

    It is None for independent noise.
    """


class NoiseModel:
    """The noise of a folder's images: its variance at each intensity, and samples."""

    def __init__(self, model: BlindSpotModel, images: Sequence[ImageNoise], recording: Recording) -> None:
        if not images:
            raise ValueError("images: got none, expected the noise of at least one image. Pass one.")
        self.model, self.images, self.recording = model, list(images), recording

    @torch.no_grad()
    def variance(self, intensity: Image, which: Sequence[int] | None = None) -> Variance:
        """Noise variance, or channel covariance, at clean intensities.

        Args:
            intensity: (b, c, h, w), on the model's device.
            which: Number of the noisy image, for each of b. By default the variance is averaged over all images.

        Returns:
            (b, c, h, w) or (b, c, c, h, w), intensities squared. It includes the variance of rounding.
        """
        if which is None:
            every = [self.variance(intensity, [k] * len(intensity)) for k in range(len(self.images))]
            return torch.stack(every).mean(0)
        where = self._device
        noises = [self.images[number] for number in which]
        measurement = torch.cat([noise.measurement for noise in noises]).to(where)
        variance = self.model.noise_variance(intensity.to(where), measurement).to(intensity.device)
        parts = zip(intensity.split(1), variance.split(1), noises, strict=True)
        corrected = [
            noise.calibration.to(image.device).noise(image, variance) if noise.calibration else variance
            for image, variance, noise in parts
        ]
        return torch.cat(corrected)

    @torch.no_grad()
    def at(self, number: int, intensities: Tensor) -> Tensor:
        """Noise variance of one image at intensities (c, n) of each channel: (c, n)."""
        return channel_variance(self.variance(intensities[None, :, None], [number]))[0, :, 0]

    def uncorrected(self, number: int) -> "NoiseModel":
        """The noise of one image by CNN_est alone, without the calibration."""
        return NoiseModel(self.model, [replace(self.images[number], calibration=None)], self.recording)

    def calibrated_to(self, number: int, intensities: Tensor, variance: Tensor, skewness: Tensor) -> ImageNoise:
        """Calibrate an image's noise to variances and skewness at intensities.

        Each is (c, n).
        """
        factors = variance / self.uncorrected(number).at(0, intensities)
        unit = torch.ones_like(factors[0, :1])
        calibration = Calibration(intensities, factors, skewness, 0 * unit, unit)  # predictions stay uncalibrated
        return replace(self.images[number], calibration=calibration)

    def white(self, like: Image, generator: torch.Generator, which: Sequence[int]) -> Image:
        """Draw noise of variance 1 in the shape of `like`, (b, c, h, w).

        It is correlated as in the images `which`.
        """
        kernels = [self.images[number].kernel for number in which]
        margin = 2 * REACH if any(kernel is not None for kernel in kernels) else 0
        size = (*like.shape[:2], like.shape[2] + margin, like.shape[3] + margin)
        white = torch.randn(size, generator=generator, device=generator.device).to(like.device)
        if not margin:
            return white
        inside = (..., slice(REACH, -REACH), slice(REACH, -REACH))
        parts = zip(white.split(1), kernels, strict=True)
        return torch.cat([part[inside] if kernel is None else filtered(part, kernel) for part, kernel in parts])

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _skewness(self, clean: Image, which: Sequence[int]) -> Image:
        known = [self.images[number].calibration for number in which]
        images = zip(clean.split(1), known, strict=True)
        parts = [curve.to(image.device).noise_skewness(image) if curve else 0 * image for image, curve in images]
        return torch.cat(parts)

    def _without_rounding(self, variance: Variance) -> Variance:
        """Subtract the variance of rounding, which may be nearly all of a variance."""
        size = channel_variance(variance)
        return scaled(
            variance,
            (1 - self.recording.step**2 / 12 / size.mean(1, keepdim=True)).clamp_min(_LEAST_KEPT).expand_as(size),
        )

    @torch.no_grad()
    def sample(
        self,
        clean: Image,
        generator: torch.Generator,
        which: Sequence[int] | None = None,
        *,
        jitter: float = 0.0,
    ) -> Image:
        """Add noise to clean images as the folder's images have it.

        The result is clipped and rounded as the folder's images are.

        Args:
            clean: (b, c, h, w) intensities.
            generator: Source of all random numbers.
            which: Number of the noisy image whose noise is drawn, for each of b. By default it is random, too.
            jitter: Each image's noise level is multiplied by a number from 1 - jitter to 1 + jitter (paper: 0.1).
        """
        if which is None:
            drawn = torch.randint(len(self.images), (len(clean),), generator=generator, device=generator.device)
            which = drawn.tolist()
        white = self.white(clean, generator, which)
        variance = self._without_rounding(self.variance(clean, which))
        distance = self.recording.from_ends(clean, channel_variance(variance).sqrt())
        white = skewed(white, self._skewness(clean, which) * (distance / _REACH).clamp(0, 1))
        variance = scaled(variance, before_cut_off(distance).square())
        level = 1 + jitter * (2 * torch.rand((len(clean), 1, 1, 1), generator=generator, device=generator.device) - 1)
        noise = coloured(variance, white) * level.to(clean.device)
        return self.recording.of_signal(clean + noise)

    def levels(self) -> list[float]:
        """Noise level of each image at its mean intensity.

        It is a mean over channels, in intensity.
        """
        model = self.model
        levels = []
        for number, image in enumerate(self.images):
            middle = typical_intensity(image.measurement, model.config.channels)
            intensity = middle * model.config.scale + model.config.offset
            variance = channel_variance(self.variance(intensity, [number]))
            levels.append(float(variance.mean().sqrt()))
        return levels

    def describe(self, unit: Unit) -> str:
        """Describe the noise in one line."""
        levels = self.levels()
        least, most = (unit.number(end(levels)) for end in (min, max))
        which = f"{least} to {most}{unit.of} over" if least != most else f"{most}{unit.of} in all"
        return f"noise {which} {len(levels)} images; {self.recording.describe(unit)}"

    def tensors(self) -> dict[str, Tensor]:
        """Convert to named tensors for a file, without the model."""
        known = [image.calibration for image in self.images]
        tensors = {
            "measurement": torch.cat([image.measurement for image in self.images]).cpu(),
            "calibrated": torch.tensor([calibration is not None for calibration in known]),
        }
        kernels = [image.kernel for image in self.images]
        if any(kernel is not None for kernel in kernels):
            tensors["kernel"] = torch.stack([_ALONE if kernel is None else kernel.cpu() for kernel in kernels])
        found = [calibration for calibration in known if calibration]
        if found:
            for name in _CURVES:
                tensors[name] = stacked([getattr(calibration, name).cpu() for calibration in found])
        return tensors

    @staticmethod
    def from_tensors(model: BlindSpotModel, tensors: dict[str, Tensor], recording: Recording) -> "NoiseModel":
        """The inverse of `tensors`."""
        one = torch.ones(1)
        curves = iter(zip(*(tensors.get(name, ()) for name in _CURVES), strict=True))

        def calibration() -> Calibration:
            return Calibration(**dict(zip(_CURVES, next(curves), strict=True)), shares=0 * one, prediction_factors=one)

        count = len(tensors["measurement"])
        kernels: Sequence[Tensor | None] = tensors["kernel"].unbind() if "kernel" in tensors else [None] * count
        images = [
            ImageNoise(measurement[None], calibration() if calibrated else None, kernel)
            for measurement, calibrated, kernel in zip(
                tensors["measurement"], tensors["calibrated"].tolist(), kernels, strict=True
            )
        ]
        return NoiseModel(model, images, recording)
