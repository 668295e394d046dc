"""Noise of camera JPEGs, made as a camera makes it, written `camera` (N7 of math.md).

A clean photograph is taken back to a mosaic of linear samples (Brooks et al. 2019). The mosaic gets photon and read
noise and is developed again: demosaicking, white balance, colours, tone, noise reduction, sharpening. It is saved as a
file. The truth is the development without noise, because a camera's pictures are as soft as its noise. Other noise does
not belong here. Tested in tests/unit/test_camera.py.
"""

import io
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from PIL import Image as PillowImage
from torch import Tensor
from torch.nn import functional

from dbsn.noise.families import standard_normal
from dbsn.types import Image, Variance

_GAMMA, _DARK = 2.2, 1e-4
_PHOTONS, _READ_SPREAD = (3e-5, 3e-2), 0.26  # variance per intensity of a linear sample
_READ_SLOPE, _READ_AT_ONE = 2.18, 1.2  # log read variance by log shot variance (Brooks et al. 2019, equation 6)
_GAINS, _EXPOSURE = (1.2, 2.6), (0.5, 1.0)
_MIXING, _MIXING_SPREAD = (0.1, 0.8), 0.05
_CLEAN = 0.1  # share of photographs without noise
_BRIGHTNESS, _COLOUR = ((0.6, 1.0), (0.4, 1.3)), (0.5, 2.0)  # shares and standard deviations in pixels
_SHARPER, _SHARPENING = 0.6, (0.8, 2.0)
_KEEPS_EDGES, _GRAY = 0.3, 0.12
_QUALITIES, _COMPRESSED = (60, 99), 0.93
_LUMA = (0.299, 0.587, 0.114)
_GREEN = torch.tensor([[0.0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4
_RED = torch.tensor([[1.0, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4
_FIELDS, _FIELD, _EDGE = 8, 48, 8  # flat fields on which the noise is measured, their sides, and what is left out


@dataclass(frozen=True, kw_only=True)
class Developed:
    """Noise of one camera and one shot (N7)."""

    photons: float
    """Variance of a linear sample per intensity; 0 for a photograph without noise."""
    read: float
    """Variance of a linear sample at black."""
    gains: tuple[float, float, float]
    """White balance: factors from the samples to neutral linear channels."""
    colours: Tensor
    """Matrix (3, 3) from neutral linear channels to those of the picture. Rows sum to 1."""
    exposure: float
    """The sample of white, of the largest that the sensor can hold."""
    contrast: bool
    """Whether the camera's tone curve is S-shaped beside the gamma."""
    phase: tuple[int, int]
    """Row and column of the first red sample."""
    edge_aware: bool
    """Whether demosaicking corrects its linear interpolation by the mosaic's own details."""
    brightness: tuple[float, float]
    """Noise reduction of the brightness: its share, and its standard deviation in pixels."""
    colour: float
    """Noise reduction of the colours: its standard deviation in pixels."""
    sharpening: tuple[float, float]
    """Sharpening: its strength, and its standard deviation in pixels."""
    keeps_edges: bool
    """Whether noise reduction and sharpening see the noise alone, as if they knew every edge."""
    quality: int | None
    """Quality of the JPEG file; None if it is not compressed."""
    subsampled: bool
    """Whether the file keeps colours at half the size (4:2:0)."""
    is_gray: bool = False
    """Whether the file has brightness alone, in all channels."""

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """The file (b, c, h, w) that the camera writes of a scene, with noise.

        Of a gray image it is the brightness.
        """
        return self._recorded(self._finished(clean, self._exposed(clean, generator)) if self.photons else clean)

    def developed(self, clean: Image) -> Image:
        """The picture of the same scene without noise and compression."""
        return self._finished(clean, self._exposed(clean, None)) if self.photons else clean

    def variance(self, clean: Image) -> Variance:
        """Noise variance (b, c, h, w) at each clean intensity, as the measurement E1 sees it.

        It is that of the diagonal differences, because the noise of neighbours is correlated.
        """
        if not self.photons:
            return torch.zeros_like(clean)
        known = self._measured[: clean.shape[1]]
        place = clean.clamp(0, 1) * (_FIELDS - 1)
        lower = place.floor().clamp_max(_FIELDS - 2).long()
        share = place - lower
        channel = torch.arange(clean.shape[1]).view(1, -1, 1, 1)
        known = known.to(clean)
        return known[channel, lower] * (1 - share) + known[channel, lower + 1] * share

    @cached_property
    def _measured(self) -> Tensor:
        """Variance of each channel on flat gray fields of rising intensity, (3, fields)."""
        fields = torch.linspace(0, 1, _FIELDS).repeat_interleave(_FIELD).view(1, 1, -1, 1).expand(1, 3, -1, _FIELD)
        seen = self.sample(fields, torch.Generator().manual_seed(0)) - self.developed(fields)
        seen = seen.view(3, _FIELDS, _FIELD, _FIELD)[..., _EDGE:-_EDGE, _EDGE:-_EDGE]
        detail = seen[..., ::2, ::2] - seen[..., ::2, 1::2] - seen[..., 1::2, ::2] + seen[..., 1::2, 1::2]
        return (detail / 2).square().mean((2, 3))

    def _exposed(self, clean: Tensor, generator: torch.Generator | None) -> Tensor:
        """The samples (b, 3, h, w) of a scene, with noise if there is a generator."""
        samples = self._samples(clean.expand(-1, 3, -1, -1).clamp(0, 1))
        if generator is None:
            return samples
        std = (self.photons * samples + self.read).sqrt()
        return (samples + std * standard_normal(samples, generator)).clamp_max(1)

    def _finished(self, clean: Tensor, samples: Tensor) -> Tensor:
        """The picture of some samples of a scene, of its channels."""
        picture = self._picture(samples)
        if self.keeps_edges:
            quiet = self._picture(self._exposed(clean, None))
            picture = quiet + self._filtered(picture - quiet)
        else:
            picture = self._filtered(picture)
        if clean.shape[1] == 3:
            return _luma(picture).expand_as(picture) if self.is_gray else picture
        return _luma(picture)

    def _samples(self, picture: Image) -> Image:
        """The linear samples (b, 3, h, w) of a picture, each as if its pixel were of all three colours."""
        toned = 0.5 - torch.sin(torch.asin(1 - 2 * picture) / 3) if self.contrast else picture
        linear = torch.einsum("ij,bjhw->bihw", torch.linalg.inv(self.colours), toned**_GAMMA)
        return (linear * self.exposure / self._balance).clamp(0, 1)

    def _picture(self, samples: Image) -> Image:
        """Develop the mosaic of samples: demosaicking, white balance, colours, tone."""
        red = torch.zeros(samples.shape[-2:])
        blue = red.clone()
        row, column = self.phase
        red[row::2, column::2] = 1
        blue[1 - row :: 2, 1 - column :: 2] = 1
        masks = torch.stack([red, 1 - red - blue, blue])
        mosaic = samples * masks
        kernels = torch.stack([_RED, _GREEN, _RED]).unsqueeze(1)
        linear = functional.conv2d(functional.pad(mosaic, (1, 1, 1, 1), "reflect"), kernels, groups=3)
        if self.edge_aware:
            raw = functional.pad(mosaic.sum(1, keepdim=True), (2, 2, 2, 2), "reflect")
            around = (raw[..., :-4, 2:-2] + raw[..., 4:, 2:-2] + raw[..., 2:-2, :-4] + raw[..., 2:-2, 4:]) / 4
            linear = linear + 0.5 * (raw[..., 2:-2, 2:-2] - around) * (1 - masks)
        linear = torch.einsum("ij,bjhw->bihw", self.colours, linear * self._balance / self.exposure)
        toned = linear.clamp(_DARK, 1) ** (1 / _GAMMA)
        return toned.square() * (3 - 2 * toned) if self.contrast else toned

    def _filtered(self, picture: Image) -> Image:
        """What noise reduction and sharpening make of a picture or of noise."""
        brightness = _luma(picture)
        colours = blurred(picture - brightness, self.colour)
        share, width = self.brightness
        brightness = (1 - share) * brightness + share * blurred(brightness, width)
        strength, width = self.sharpening
        if strength:
            brightness = brightness + strength * (brightness - blurred(brightness, width))
        return brightness + colours

    def _recorded(self, picture: Image) -> Image:
        """The picture in 8 bits, through JPEG if the file is compressed."""
        pixels = (picture.clamp(0, 1) * 255).round().to(torch.uint8)
        if self.quality is not None:
            pixels = torch.stack([through_jpeg(each, self.quality, subsampled=self.subsampled) for each in pixels])
        return pixels.to(picture.dtype) / 255

    @property
    def _balance(self) -> Tensor:
        return torch.tensor(self.gains).view(3, 1, 1)


@dataclass(frozen=True)
class AnyCamera:
    """Another `Developed` noise for each image (N7)."""

    def draw(self, channels: int, generator: torch.Generator) -> Developed:
        """Draw the noise of one image; `channels` does not matter."""
        del channels
        drawn = iter(torch.rand(24, generator=generator, dtype=torch.float64).tolist())

        def between(ends: tuple[float, float]) -> float:
            return ends[0] + next(drawn) * (ends[1] - ends[0])

        def chance(share: float) -> bool:
            return next(drawn) < share

        log_photons = between((math.log(_PHOTONS[0]), math.log(_PHOTONS[1])))
        normal = torch.randn(10, generator=generator)
        mixing = between(_MIXING)
        colours = (1 + mixing) * torch.eye(3) - mixing / 3 + _MIXING_SPREAD * normal[1:].view(3, 3)
        log_read = _READ_SLOPE * log_photons + _READ_AT_ONE + _READ_SPREAD * float(normal[0])
        lowest, highest = _QUALITIES
        return Developed(
            photons=0.0 if chance(_CLEAN) else math.exp(log_photons),
            read=math.exp(log_read),
            gains=(between(_GAINS), 1.0, between(_GAINS)),
            colours=colours / colours.sum(1, keepdim=True),
            exposure=between(_EXPOSURE),
            contrast=chance(0.5),
            phase=(int(chance(0.5)), int(chance(0.5))),
            edge_aware=chance(0.4),
            brightness=(between(_BRIGHTNESS[0]) * chance(0.93), between(_BRIGHTNESS[1])),
            colour=between(_COLOUR) * chance(0.85),
            sharpening=(between((0.0, _SHARPER)) * chance(0.3), between(_SHARPENING)),
            keeps_edges=chance(_KEEPS_EDGES),
            quality=round(lowest + next(drawn) ** 0.5 * (highest - lowest)) if chance(_COMPRESSED) else None,
            subsampled=chance(0.5),
            is_gray=chance(_GRAY),
        )


def blurred(image: Image, width: float) -> Image:
    """Blur an image (b, c, h, w) by a Gaussian of standard deviation `width` pixels; borders are mirrored."""
    if width < 0.05:
        return image
    reach = min(math.ceil(3 * width), min(image.shape[-2:]) - 1)
    taps = (-torch.arange(-reach, reach + 1, dtype=image.dtype, device=image.device).square() / (2 * width**2)).exp()
    taps = taps / taps.sum()
    alone = functional.pad(image.flatten(0, 1).unsqueeze(1), (reach, reach, reach, reach), "reflect")
    return functional.conv2d(functional.conv2d(alone, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1)).view_as(image)


def through_jpeg(pixels: Tensor, quality: int, *, subsampled: bool = False) -> Tensor:
    """Compress an image (c, h, w) of 8 bits as JPEG and decode it."""
    file = io.BytesIO()
    PillowImage.fromarray(pixels.permute(1, 2, 0).squeeze(-1).numpy()).save(
        file, "JPEG", quality=quality, subsampling=2 if subsampled else 0
    )
    decoded = np.array(PillowImage.open(file)).reshape(*pixels.shape[1:], pixels.shape[0])
    return torch.from_numpy(decoded).permute(2, 0, 1)


def _luma(image: Tensor) -> Tensor:
    weights = torch.tensor(_LUMA, dtype=image.dtype, device=image.device)
    return torch.einsum("j,bjhw->bhw", weights, image).unsqueeze(1)
