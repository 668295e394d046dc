"""Noise that differs from image to image, written `any:60`, `jpeg:40` or `camera`.

Students for noise of any level are trained with it. Independent noise is N5 of math.md, that of camera JPEGs N6, and
that of a simulated camera N7, in `dbsn.noise.camera`; all of them together are N8. Noise
learned from noisy images does not belong here. Tested in tests/unit/test_mixtures.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dbsn.noise.camera import AnyCamera, Developed, through_jpeg
from dbsn.noise.families import Noise, parse_noise, standard_normal
from dbsn.types import Image, Variance

_NO_NOISE, _ALMOST_NO_NOISE = 0.06, 1e-4  # share of clean images, and their level, too small for any file
_PLAIN = 0.4  # share of images with white noise
_SMALL_MORE_OFTEN = 1.5
_UNEQUAL = 0.25
_LEAST_EIGENVALUE = 0.02
_OF_CAMERAS, _SAVED_AS_JPEG = 0.3, 0.25  # shares
_BLURS, _QUALITIES, _COMPRESSED = (0.3, 1.2), (60, 98), 0.9  # in pixels; of JPEG; share of compressed files


@dataclass(frozen=True)
class CameraNoise:
    """Independent noise of a camera (N5).

    Its level rises with intensity and differs between channels. Channels are correlated. It may be recorded in a file
    of 8 bits. The families of `dbsn.noise.families` are special cases.
    """

    photon: Tensor
    """Share of each channel's variance that depends on intensity, (c,)."""
    std: Tensor
    """Standard deviation of each channel, (c,), at the middle intensity 0.5."""
    power: int
    """Power of intensity in that share of the variance: 1 (photons) or 2 (HG)."""
    correlation: Tensor
    """Correlation between channels, (c, c)."""
    in_8_bits: bool
    """Whether noisy images are clipped at black and white and rounded to 255ths."""

    def variance(self, clean: Image) -> Variance:
        """Noise covariance (b, c, c, h, w) at each clean intensity.

        For gray images it is a variance (b, 1, h, w).
        """
        std = self._std(clean)
        if clean.shape[1] == 1:
            return std.square()
        return std.unsqueeze(1) * std.unsqueeze(2) * self.correlation.to(clean)[:, :, None, None]

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`."""
        factor = torch.linalg.cholesky(self.correlation.to(clean))
        white = torch.einsum("ij,bjhw->bihw", factor, standard_normal(clean, generator))
        noisy = clean + self._std(clean) * white
        return (noisy.clamp(0, 1) * 255).round() / 255 if self.in_8_bits else noisy

    def _std(self, clean: Image) -> Image:
        photon, std = (values.to(clean)[:, None, None] for values in (self.photon, self.std))
        return std * (1 - photon + photon * (2 * clean.clamp_min(0)) ** self.power).sqrt()


@dataclass(frozen=True)
class AnyNoise:
    """Another random `CameraNoise` for each image (N5)."""

    most: float
    """Largest standard deviation at the middle intensity, intensity."""

    def draw(self, channels: int, generator: torch.Generator) -> CameraNoise:
        """Draw the noise of one image.

        In many images it is white noise, from which a student learns most (docs/lab).
        """
        kind, level, *chances = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        dependent, unequal, correlated, in_8_bits = (chance < 0.5 and kind < 1 - _PLAIN for chance in chances)
        std = self.most * level**_SMALL_MORE_OFTEN if kind > _NO_NOISE else _ALMOST_NO_NOISE
        gains = torch.randn(channels, generator=generator) * (_UNEQUAL if unequal and channels > 1 else 0)
        photon = torch.rand((), generator=generator).expand(channels)
        return CameraNoise(
            photon=photon * dependent,
            std=std * gains.exp(),
            power=int(torch.randint(1, 3, (), generator=generator)),
            correlation=_correlation(channels, generator) if correlated else torch.eye(channels),
            in_8_bits=in_8_bits,
        )


def _correlation(channels: int, generator: torch.Generator) -> Tensor:
    """Correlation of a random covariance, whose eigenvalues differ more than N4's."""
    rotation, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
    eigenvalues = torch.rand(channels, generator=generator).square().clamp_min(_LEAST_EIGENVALUE)
    covariance = (rotation * eigenvalues) @ rotation.mT
    std = covariance.diagonal().sqrt()
    correlation: Tensor = covariance / (std[:, None] * std)
    return correlation


@dataclass(frozen=True)
class JPEGNoise:
    """Noise of camera JPEGs: correlated, rising with intensity, colour blotches (N6)."""

    photon: float
    """Share of the variance that is proportional to intensity."""
    std: float
    """Standard deviation of each channel at intensity 0.5, before compression."""
    luma_blur: float
    """Blur of brightness noise by the camera: standard deviation in pixels."""
    chroma_blur: float
    """The same for colour noise."""
    chroma: float
    """Level of the colour noise over that of the brightness noise."""
    quality: int | None
    """Quality of the JPEG file; None if only clipped and rounded, not compressed."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity, before compression."""
        return self._std(clean).square()

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`, as recorded in the file."""
        brightness = _blurred(standard_normal(clean[:, :1], generator), self.luma_blur)
        white = brightness.expand_as(clean)
        if clean.shape[1] > 1:
            colour = _blurred(standard_normal(clean, generator), self.chroma_blur)
            white = white + self.chroma * (colour - colour.mean(1, keepdim=True))
            white = white / (1 + self.chroma**2 * (1 - 1 / clean.shape[1])) ** 0.5
        pixels = ((clean + self._std(clean) * white).clamp(0, 1) * 255).round().to(torch.uint8)
        if self.quality is not None:
            pixels = torch.stack([through_jpeg(image, self.quality) for image in pixels])
        return pixels.to(clean.dtype) / 255

    def _std(self, clean: Image) -> Image:
        return self.std * (1 - self.photon + self.photon * 2 * clean.clamp_min(0)).sqrt()


@dataclass(frozen=True)
class AnyJPEGNoise:
    """Another `JPEGNoise` for each image (N6)."""

    most: float
    """Largest standard deviation at the middle intensity, intensity."""

    def draw(self, channels: int, generator: torch.Generator) -> JPEGNoise:
        """Draw the noise of one image."""
        drawn = torch.rand(8, generator=generator, dtype=torch.float64).tolist()
        kind, level, photon, luma, chroma, colour, compressed, quality = drawn
        lowest, highest = _QUALITIES
        luma_blur = _BLURS[0] + luma * (_BLURS[1] - _BLURS[0])
        return JPEGNoise(
            photon=photon,
            std=self.most * level**_SMALL_MORE_OFTEN if kind > _NO_NOISE else _ALMOST_NO_NOISE,
            luma_blur=luma_blur,
            chroma_blur=luma_blur + chroma * _BLURS[1],
            chroma=colour,
            quality=round(lowest + quality * (highest - lowest)) if compressed < _COMPRESSED else None,
        )


def _blurred(white: Image, blur: float) -> Image:
    """Blur white noise by a Gaussian of standard deviation `blur` pixels.

    The variance stays 1.
    """
    reach = max(1, math.ceil(3 * blur))
    taps = (-torch.arange(-reach, reach + 1, dtype=white.dtype).square() / (2 * blur**2)).exp().to(white.device)
    taps = taps / taps.square().sum().sqrt()
    alone = white.flatten(0, 1).unsqueeze(1)
    for kernel in (taps[None, None, :, None], taps[None, None, None, :]):
        margin = [size // 2 for size in (kernel.shape[3], kernel.shape[3], kernel.shape[2], kernel.shape[2])]
        alone = functional.conv2d(functional.pad(alone, margin, mode="circular"), kernel)
    return alone.view_as(white)


@dataclass(frozen=True)
class Compressed:
    """A noise whose image was saved as JPEG (N8)."""

    noise: CameraNoise
    """The noise before."""
    quality: int
    """Quality of the file."""
    subsampled: bool
    """Whether the file keeps colours at half the size (4:2:0)."""

    def variance(self, clean: Image) -> Variance:
        """Noise variance at each clean intensity, before compression."""
        return self.noise.variance(clean)

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`, as recorded in the file."""
        pixels = (self.noise.sample(clean, generator).clamp(0, 1) * 255).round().to(torch.uint8)
        saved = [through_jpeg(image, self.quality, subsampled=self.subsampled) for image in pixels]
        return torch.stack(saved).to(clean.dtype) / 255


@dataclass(frozen=True)
class AnyFile:
    """Another noise for each image: independent, independent and then compressed, or a camera's (N8)."""

    most: float
    """Largest standard deviation at the middle intensity, intensity."""

    def draw(self, channels: int, generator: torch.Generator) -> CameraNoise | Compressed | Developed:
        """Draw the noise of one image."""
        kind, quality, half = torch.rand(3, generator=generator, dtype=torch.float64).tolist()
        if kind > 1 - _OF_CAMERAS:
            return AnyCamera().draw(channels, generator)
        noise = AnyNoise(self.most).draw(channels, generator)
        if kind > _SAVED_AS_JPEG:
            return noise
        lowest, highest = _QUALITIES
        return Compressed(noise=noise, quality=round(lowest + quality**0.5 * (highest - lowest)), subsampled=half < 0.5)


Several = AnyNoise | AnyJPEGNoise | AnyCamera | AnyFile
"""Noise that differs from image to image."""
Noises = Noise | Several


def one_noise(noise: Noises, channels: int, generator: torch.Generator) -> Noise:
    """The noise of one image: a fresh draw if it differs between images, else itself."""
    return noise.draw(channels, generator) if isinstance(noise, Several) else noise


_FAMILIES: dict[str, Callable[[float], Several]] = {"any": AnyNoise, "jpeg": AnyJPEGNoise, "file": AnyFile}


def parse_noises(text: str) -> Noises:
    """Parse `any:MOST`, `jpeg:MOST`, `file:MOST`, `camera` or a noise of `parse_noise`; raises as that."""
    if text == "camera":
        return AnyCamera()
    family, _, most = text.partition(":")
    if family not in _FAMILIES:
        return parse_noise(text)
    try:
        level = float(most) / 255
        if not 0 < level < np.inf:
            raise ValueError
    except ValueError:
        raise ValueError(
            f"noise {text!r}: not a noise (expected {family}:60, the largest level of 255). Write it like this."
        ) from None
    return _FAMILIES[family](level)
