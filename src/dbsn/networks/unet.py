"""A plain residual U-Net: dense 3x3 convolutions, ReLU, no normalisation - what a processor runs fastest.

`UNet` maps features to features; `DenseUNet` is the student that is made of it.
"""

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import UNetConfig
from dbsn.types import Image


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(x))), starting as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(b, width, h, w) to the same shape."""
        inner: Tensor = self.first(features.relu()).relu_()
        return self.second(inner).add_(features)  # in place, here and below: a fifth less memory


class UNet(nn.Module):
    """(b, widths[0], h, w) to the same shape, at len(widths) resolutions; h and w are multiples of `multiple`."""

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        steps = list(pairwise(widths))

        def stage(level: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(widths[level]) for _ in range(blocks[level])))

        self.encoder = nn.ModuleList(stage(level) for level in range(len(widths)))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.decoder = nn.ModuleList(stage(level) for level in range(len(widths) - 1))
        self.multiple = 2 ** len(steps)
        passes = [2] * len(steps) + [1]
        reach = sum(2 * n * p * 2**level for level, (n, p) in enumerate(zip(blocks, passes, strict=True)))
        self.receptive_radius = reach + 2 * (self.multiple - 1)

    def forward(self, features: Tensor) -> Tensor:
        """Refine a feature map; height and width must be multiples of `multiple`."""
        skips: list[Tensor] = []
        for stage, down in zip(self.encoder, self.down, strict=False):
            skips.append(stage(features))
            features = down(skips[-1])
        features = self.encoder[-1](features)
        for stage, up in zip(reversed(self.decoder), reversed(self.up), strict=True):
            features = stage(up(features).add_(skips.pop()))
        return features


class DenseUNet(nn.Module):
    """An ordinary denoiser: a U-Net on 2 x 2 pixels at a time, added to its input; perhaps told the noise level."""

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        width = config.widths[0]
        self.head = nn.Conv2d(4 * channels * (2 if config.guided else 1), width, 3, padding=1)
        self.backbone = UNet(config.widths, config.blocks)
        self.tail = nn.Conv2d(width, 4 * channels, 1)
        self.multiple = 2 * self.backbone.multiple
        self.receptive_radius = 2 * (self.backbone.receptive_radius + 1) + 1

    def forward(self, noisy: Image, level: Image | None = None) -> Image:
        """(b, c, h, w) to the same shape, given the noise level of each pixel if it is guided.

        Height and width are multiples of `multiple`.
        """
        seen = noisy if level is None else torch.cat([noisy, level], 1)
        features = self.backbone(self.head(functional.pixel_unshuffle(seen, 2)))
        return noisy + functional.pixel_shuffle(self.tail(features.relu()), 2)

    def begin_untold(self, other: "DenseUNet", level: float) -> None:
        """Begin, unguided, with the weights of a guided one as though it were always told this level, network units."""
        pixels = self.head.in_channels
        weights = other.state_dict()
        told = weights["head.weight"][:, pixels:].sum((1, 2, 3))
        weights["head.weight"] = weights["head.weight"][:, :pixels]
        weights["head.bias"] = weights["head.bias"] + level * told
        self.load_state_dict(weights)

    @property
    def last(self) -> nn.Module:
        """The layer that produces the output."""
        return self.tail


def zero_residuals(module: nn.Module) -> None:
    """Let every residual block below `module` start as the identity."""
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.second.weight)
