"""CNN_est: the noise of one image as a function of intensity (math.md, E1-E3).

It is a stack of 1x1 convolutions. A 1x1 convolution sees one pixel and cannot know its image. Yet the noise of the
frames of one folder can differ by a factor of ten. So the whole image is first measured without a network (`measure`).
The network learns by how much the noise differs from that measurement at each intensity.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import NoiseFamily
from dbsn.networks.layers import PixelMLP, lower_triangular, outer_square
from dbsn.networks.measurement import MEASURES, measured_variance, typical_intensity
from dbsn.types import Covariance, Image

_LEAST_SPREAD = 0.1


def noise_std_link(raw: Tensor) -> Tensor:
    """Link of the released CNN_est from raw output to standard deviation.

    softplus(raw - 4) + 1e-3.
    """
    return functional.softplus(raw - 4) + 1e-3


class NoiseEstimator(nn.Module):
    """CNN_est with an image's measurements as input beside the intensity.

    Without them (`measured=False`) it is the released network. The noise family decides the form of the output:

    - "awgn": one level per image
    - "hg": a level for each channel and intensity
    - "mg": one channel covariance per image
    - "any": a channel covariance for each intensity

    For one level per image the paper averages the output over the image. Here the input is averaged, so a tile needs
    only the measurements.
    """

    usual: Tensor
    spread: Tensor

    def __init__(self, channels: int, family: NoiseFamily, width: int, depth: int = 5, measured: bool = True) -> None:
        super().__init__()
        self.channels, self.family, self.measured = channels, family, measured
        self.full = family in ("mg", "any") and channels > 1
        self.per_image = family in ("awgn", "mg")
        levels = 1 if family == "awgn" else channels
        pairs = channels * (channels - 1) // 2 if self.full else 0
        self.levels = levels
        inputs = channels + (MEASURES * channels if measured else 0)
        if measured:
            self.register_buffer("usual", torch.zeros(1, MEASURES * channels, 1, 1))
            self.register_buffer("spread", torch.ones(1, MEASURES * channels, 1, 1))
        self.mlp = PixelMLP(inputs, width, levels + pairs, depth)

    @torch.no_grad()
    def expect(self, measurements: Sequence[Tensor]) -> None:
        """Normalise `context` by the measurements of the training images."""
        known = torch.cat(list(measurements))
        self.usual.copy_(known.mean(0, keepdim=True))
        self.spread.copy_(known.std(0, keepdim=True, correction=0).clamp_min(_LEAST_SPREAD))

    @torch.no_grad()
    def show_in(self, usual: Tensor, spread: Tensor, stack: PixelMLP) -> None:
        """Adapt a stack that receives `context` to another normalisation.

        With the new mean `usual` and `spread` of the measurements its output stays the same.
        """
        first = stack.first
        assert first.bias is not None
        level_weights = first.weight[:, self.channels :, 0, 0]
        first.bias += level_weights @ ((usual - self.usual) / self.spread).flatten()
        level_weights *= (spread / self.spread).flatten()

    def context(self, image: Image, measurement: Tensor) -> Tensor:
        """Join each pixel's intensity and its image's measurements: (b, (1 + 5) c, h, w).

        The measurements of one folder differ little from image to image. So they are normalised by this difference;
        otherwise a network learns hardly anything from them (docs/lab).
        """
        apart = (measurement - self.usual) / self.spread
        return torch.cat([image, apart.expand(-1, -1, *image.shape[-2:])], 1)

    def raw(self, image: Image, measurement: Tensor) -> Tensor:
        """Raw output of the network, before any link: (b, levels + pairs, h, w)."""
        return self.mlp(self.context(image, measurement) if self.measured else image)

    def forward(self, image: Image, measurement: Tensor) -> Covariance | Image:
        """Estimate the noise variance at each intensity of `image` (E2, E3).

        Args:
            image: (b, c, h, w) in network units: the blind mean, or a clean image.
            measurement: `measure` of the noisy image, (b, 5 c, 1, 1).

        Returns:
            Variance (b, c, h, w), or covariance (b, c, c, h, w) for a family with dependent channels, in squared
            network units.
        """
        size = image.shape[-2:]
        if self.per_image and self.measured:
            image = typical_intensity(measurement, self.channels)
        raw = self.raw(image, measurement).expand(-1, -1, *size)
        std = noise_std_link(raw[:, : self.levels])
        if self.measured:
            level = measured_variance(image, measurement)
            level = level.mean(1, keepdim=True) if self.levels == 1 else level
            std = std / noise_std_link(raw.new_zeros(())) * level.sqrt()
        std = std.expand(-1, self.channels, -1, -1)
        if not self.full:
            return std.square()
        factor = lower_triangular(torch.ones_like(std), raw[:, self.levels :])
        correlation_factor = factor / factor.square().sum(2, keepdim=True).sqrt()
        return outer_square(correlation_factor * std.unsqueeze(2))
