"""D-BSN, the paper's dilated blind-spot network (math.md, D1).

Promises: features and mean at a pixel do not depend on that pixel (tests/property/test_blind_spot.py). With the
released weights the output is the published one (tests/golden). Module names are those of the released checkpoints, so
their files load by name.
"""

import torch
from torch import Tensor, nn

from dbsn.config import DBSNConfig
from dbsn.networks.layers import Heads, MaskedConv2d, full_precision
from dbsn.types import Features, Image


def _conv_relu(in_channels: int, out_channels: int, kernel_size: int = 1, dilation: int = 1) -> list[nn.Module]:
    padding = dilation * (kernel_size // 2)
    return [nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation), nn.ReLU()]


class MDC(nn.Module):
    """Multi-dilated-convolution module with a residual connection.

    Its three paths are a dilated 5x5, a dilated 3x3 and a 1x1 convolution. A 1x1 convolution joins them.
    """

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.inception_br1 = nn.Sequential(*_conv_relu(width, width), *_conv_relu(width, width, 5, dilation))
        self.inception_br2 = nn.Sequential(*_conv_relu(width, width), *_conv_relu(width, width, 3, dilation))
        self.inception_br3 = nn.Sequential(*_conv_relu(width, width))
        self.concat = nn.Conv2d(3 * width, width, 1)
        self.middle_1x1_convs = nn.Sequential(*_conv_relu(width, width), *_conv_relu(width, width))

    def forward(self, features: Tensor) -> Tensor:
        """(b, width, h, w) to the same shape."""
        scales = [self.inception_br1(features), self.inception_br2(features), self.inception_br3(features)]
        joined: Tensor = self.middle_1x1_convs(self.concat(torch.cat(scales, 1)).relu() + features)
        return joined


class _Branch(nn.Module):
    """One masked k x k convolution, then only convolutions of dilation (k + 1) / 2.

    The latter never reach the masked pixel again.
    """

    def __init__(self, width: int, modules: int, kernel_size: int) -> None:
        super().__init__()
        dilation = (kernel_size + 1) // 2
        self.branch = nn.Sequential(
            MaskedConv2d(width, width, kernel_size),
            nn.ReLU(),
            *_conv_relu(width, width),
            *_conv_relu(width, width),
            *(MDC(width, dilation) for _ in range(modules)),
            nn.Conv2d(width, width, 1),
        )

    def forward(self, features: Tensor) -> Tensor:
        out: Tensor = self.branch(features)
        return out


class DBSN(nn.Module):
    """The two-branch dilated blind-spot network (Wu et al. 2020, sec. 3.2)."""

    spacing = 1
    """Pixels are not grouped into phases."""
    multiple = 1
    """Images may have any size."""

    def __init__(self, config: DBSNConfig, channels: int) -> None:
        super().__init__()
        width = config.width
        self.dbsn_head = nn.Sequential(*_conv_relu(channels, width))
        self.br1 = _Branch(width, config.modules, 3)
        self.br2 = _Branch(width, config.modules, 5)
        self.concat = nn.Conv2d(2 * width, width, 1)
        self.dbsn_tail = nn.Sequential(
            *_conv_relu(width, width), *_conv_relu(width, width), nn.Conv2d(width, channels, 1)
        )
        self.out_features = width
        self.receptive_radius = 2 + config.modules * 2 * 3

    def features(self, noisy: Image) -> Features:
        """Blind-spot features (b, width, h, w) of an image in network units."""
        head = self.dbsn_head(noisy)
        return self.concat(torch.cat([self.br1(head), self.br2(head)], 1))

    def read_out(self, noisy: Image, heads: Heads, phase: tuple[int, int] | None = None) -> list[Tensor]:
        """Apply `heads` to the features of an image in network units.

        `phase` must be None.
        """
        assert phase is None, "D-BSN has no grid phases"
        return heads(self.features(noisy))

    def mean(self, features: Features) -> Image:
        """Compute the blind mean (b, c, h, w), in network units, from `features`."""
        with full_precision(features):
            mean: Image = self.dbsn_tail(features.float())
        return mean
