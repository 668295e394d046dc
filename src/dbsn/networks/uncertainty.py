"""The uncertainty of a student: the expected error of each denoised pixel (S5).

A small network computes it from the noisy and the denoised image. Tested in tests/unit/test_student.py.
"""

import torch
from torch import nn
from torch.nn import functional

from dbsn.networks.layers import full_precision
from dbsn.types import Image

_WIDTH, _DILATIONS = 16, (1, 2, 4)
_REACH = 7  # pixels; radius of the surroundings
_LEAST = 1e-3  # network units
_STARTED = 1.0  # the untrained network gives e^-1 times the residual around a pixel


class Uncertainty(nn.Module):
    """Uncertainty of each denoised pixel and channel, from 29 x 29 pixels around it.

    The unit of its input and output is the root mean square of the residual around the pixel. So what it learns at one
    noise level holds at other levels.
    """

    receptive_radius = _REACH + sum(_DILATIONS)
    factor: torch.Tensor
    """Factor on its output, so that it is calibrated on held-out images."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = (3 * channels, _WIDTH, _WIDTH, channels)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(widths[i], widths[i + 1], 3, padding=dilation, dilation=dilation)
            for i, dilation in enumerate(_DILATIONS)
        )
        self.register_buffer("factor", torch.ones(()))

    def forward(self, noisy: Image, denoised: Image) -> Image:
        """Compute the uncertainty, float32, in the shape and unit of the inputs.

        Both are (b, c, h, w) in network units.
        """
        with full_precision(noisy):
            denoised = denoised.float()
            taken = noisy.float() - denoised
            around = (_surroundings(taken.square()) + _LEAST**2).sqrt()
            contrast = (denoised - _surroundings(denoised)) / around
            features = torch.cat([(taken / around).abs().asinh(), contrast.asinh(), around.log()], 1)
            for convolution in self.convolutions[:-1]:
                features = functional.relu(convolution(features))
            raw = self.convolutions[-1](features)
        return self.factor * around * (raw - _STARTED).exp()


def _surroundings(image: Image) -> Image:
    """Means over 15 x 15 pixels, as far as they are inside the image."""
    side = 2 * _REACH + 1
    columns = functional.avg_pool2d(image, (side, 1), 1, (_REACH, 0), count_include_pad=False)
    return functional.avg_pool2d(columns, (1, side), 1, (0, _REACH), count_include_pad=False)
