"""The grid family: any backbone on the phases of an s x s grid (math.md, G1).

It is blind by construction. The output of a masked (2s-1) x (2s-1) convolution at one phase depends only on pixels of
other phases. So a backbone that works within one phase never sees the pixel that it predicts
(tests/property/test_blind_spot.py).
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import GridConfig
from dbsn.networks.layers import Heads, MaskedConv2d, PixelMLP
from dbsn.networks.symmetry import CanBeSymmetric, Layer, between_eights
from dbsn.networks.unet import UNet
from dbsn.types import Features, Image


class Grid(CanBeSymmetric):
    """A blind-spot network that applies one residual U-Net to each grid phase."""

    def __init__(self, config: GridConfig, channels: int) -> None:
        super().__init__()
        width = config.widths[0]
        self.spacing = config.spacing
        self.head = MaskedConv2d(channels, width, 2 * config.spacing - 1)
        self.backbone = UNet(config.widths, config.blocks)
        self.tail = nn.Sequential(nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        self.to_mean = PixelMLP(width, width, channels, 2)
        self.out_features = width
        self.multiple = config.spacing * self.backbone.multiple
        self.receptive_radius = config.spacing * self.backbone.receptive_radius + config.spacing - 1

    def layers(self) -> list[Layer]:
        """The layers between image and mean, without the variance heads."""
        head, last = Layer(self.head, "intensities", "eights"), Layer(self.to_mean.last, "eights", "intensities")
        return [head, *between_eights(nn.ModuleList([self.backbone, self.tail, self.to_mean.first])), last]

    def read_out(self, noisy: Image, heads: Heads, phase: tuple[int, int] | None = None) -> list[Tensor]:
        """Apply `heads` to the blind-spot features of an image of any size.

        The phases are computed one after the other, including the heads. So memory holds the features of one phase.

        Args:
            noisy: (b, c, h, w) in network units.
            heads: From features to maps of the same height and width, pixel by pixel.
            phase: Row and column of one grid phase. Then only its pixels [row::s, column::s] are computed, at 1 / s^2
            of
                the cost. h and w must be multiples of `multiple`.

        Returns:
            The heads' maps, (b, f, h, w), or (b, f, h / s, w / s) for one phase.
        """
        if phase is not None:
            return heads(self._phase(noisy, *phase))
        height, width = noisy.shape[-2:]
        padded = functional.pad(noisy, (0, -width % self.multiple, 0, -height % self.multiple))
        rows = []
        for row in range(self.spacing):
            columns = [heads(self._phase(padded, row, column)) for column in range(self.spacing)]
            rows.append([torch.stack(maps, -1).flatten(-2) for maps in zip(*columns, strict=True)])
        return [torch.stack(maps, 3).flatten(2, 3)[..., :height, :width] for maps in zip(*rows, strict=True)]

    def _phase(self, noisy: Image, row: int, column: int) -> Features:
        return self.tail(self.backbone(self.head.phase(noisy, row, column, self.spacing)))

    def mean(self, features: Features) -> Image:
        """Compute the blind mean (b, c, h, w), in network units, from `features`."""
        return self.to_mean(features)
