"""How far a denoised pixel is from the truth, as a small network reads it off the noisy and the denoised image (S5)."""

import torch
from torch import nn
from torch.nn import functional

from dbsn.networks.layers import full_precision
from dbsn.types import Image

_WIDTH, _DILATIONS = 16, (1, 2, 4)
_LEAST_STD = 1e-3
_STARTED = 3.0  # the untrained network says 0.05


class Spread(nn.Module):
    """Standard deviation of each denoised pixel and channel, from its surroundings of 15 x 15 pixels."""

    receptive_radius = sum(_DILATIONS)

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (2 * channels, _WIDTH, _WIDTH, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, padding=dilation, dilation=dilation)
            for i, dilation in enumerate(_DILATIONS)
        )

    def forward(self, noisy: Image, denoised: Image) -> Image:
        """Both (b, c, h, w) in network units, to a standard deviation of the same shape and unit, float32."""
        with full_precision(noisy):
            features = torch.cat([denoised.float(), (noisy.float() - denoised.float()).abs()], 1)
            for convolution in self.convolutions[:-1]:
                features = functional.relu(convolution(features))
            raw = self.convolutions[-1](features)
        return functional.softplus(raw - _STARTED) + _LEAST_STD
