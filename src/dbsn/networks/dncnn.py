"""DnCNN: a stack of 3x3 convolutions that predicts the noise (Zhang et al. 2017).

It has no normalisation layers.
"""

from torch import nn

from dbsn.config import DnCNNConfig
from dbsn.networks.layers import convolutions
from dbsn.types import Image


class DnCNN(nn.Module):
    """An ordinary denoiser: the image minus the predicted noise."""

    multiple = 1
    """Images may have any size."""

    def __init__(self, config: DnCNNConfig, channels: int) -> None:
        super().__init__()
        widths = [channels, *(config.width for _ in range(config.depth - 1)), channels]
        self.layers = convolutions(widths, ends_in_relu=False)
        self.receptive_radius = config.depth

    def forward(self, noisy: Image) -> Image:
        """(b, c, h, w) to the same shape."""
        return noisy - self.layers(noisy)

    @property
    def last(self) -> nn.Module:
        """The layer that produces the output."""
        return self.layers[-1]
