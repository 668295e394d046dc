"""A plain residual U-Net: dense 3x3 convolutions, ReLU, no normalisation.

Processors run such layers fastest. `UNet` maps features to features. `DenseUNet` is the student made of it.
"""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import UNetConfig
from dbsn.networks.layers import halved, without
from dbsn.networks.symmetry import CanBeSymmetric, Layer, between_eights
from dbsn.types import NO_MARGIN, Image, Margin, Part


class ResidualBlock(nn.Module):
    """x + conv(relu(conv(relu(x)))), which starts as the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(width, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor) -> Tensor:
        """(b, width, h, w) to the same shape."""
        inner: Tensor = self.first(features.relu()).relu_()
        return self.second(inner).add_(features)  # in place, here and below: saves a fifth of the memory


class UNet(nn.Module):
    """A U-Net from features (b, widths[0], h, w) to the same shape.

    It has len(widths) resolutions. h and w must be multiples of `multiple`.
    """

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
        super().__init__()
        steps = list(pairwise(widths))

        def stage(level: int) -> nn.Sequential:
            return nn.Sequential(*(ResidualBlock(widths[level]) for _ in range(blocks[level])))

        self.blocks = blocks
        self.encoder = nn.ModuleList(stage(level) for level in range(len(widths)))
        self.down = nn.ModuleList(nn.Conv2d(fine, coarse, 2, stride=2) for fine, coarse in steps)
        self.up = nn.ModuleList(nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in steps)
        self.decoder = nn.ModuleList(stage(level) for level in range(len(widths) - 1))
        self.multiple = 2 ** len(steps)
        passes = [2] * len(steps) + [1]
        reach = sum(2 * n * p * 2**level for level, (n, p) in enumerate(zip(blocks, passes, strict=True)))
        self.receptive_radius = reach + 2 * (self.multiple - 1)

    def forward(self, features: Tensor, margin: Margin = NO_MARGIN) -> Tensor:
        """Refine a feature map and leave out the margin.

        Height, width and margin must be multiples of `multiple`. The coarsest stage and the decoder compute only the
        part of the margin that later layers read.
        """
        assert not any(side % self.multiple for side in margin)
        return self._refined(features, 0, margin)

    def _refined(self, features: Tensor, level: int, margin: Margin) -> Tensor:
        """Refine a feature map at a level and all coarser ones; leave out the margin."""
        step, sees = 2 ** (len(self.down) - level), 2 * self.blocks[level]
        seen = Margin(*(min(side, -(-sees // step) * step) for side in margin))  # what the last stage reads
        spare = Margin(*(side - of_it for side, of_it in zip(margin, seen, strict=True)))
        if level == len(self.down):
            return without(self.encoder[level](without(features, spare)), seen)
        fine = self.encoder[level](features)
        del features  # here and below: free memory for later stages
        coarse = self._refined(self.down[level](fine), level + 1, halved(spare))
        features = self.up[level](coarse).add_(without(fine, spare))
        del fine, coarse
        return without(self.decoder[level](features), seen)


class DenseUNet(CanBeSymmetric):
    """An ordinary denoiser: a U-Net on blocks of 2 x 2 pixels, added to its input.

    A guided one also has a noise-level input.
    """

    def __init__(self, config: UNetConfig, channels: int) -> None:
        super().__init__()
        width = config.widths[0]
        self.head = nn.Conv2d(4 * channels * (2 if config.guided else 1), width, 3, padding=1)
        self.backbone = UNet(config.widths, config.blocks)
        self.tail = nn.Conv2d(width, 4 * channels, 1)
        self.multiple = 2 * self.backbone.multiple
        self.receptive_radius = 2 * (self.backbone.receptive_radius + 1) + 1

    def forward(self, noisy: Image, level: Image | None = None, margin: Margin = NO_MARGIN) -> Part:
        """Denoise (b, c, h, w) to the same shape without the margin.

        A guided network also takes the noise level of each pixel. Height, width and margin are multiples of `multiple`.
        """
        seen = noisy if level is None else torch.cat([noisy, level], 1)
        features = self.backbone(self.head(functional.pixel_unshuffle(seen, 2)), halved(margin))
        return without(noisy, margin) + functional.pixel_shuffle(self.tail(features.relu()), 2)

    def layers(self) -> list[Layer]:
        """All convolutions."""
        head, tail = Layer(self.head, "blocks", "eights"), Layer(self.tail, "eights", "blocks")
        return [head, *between_eights(self.backbone), tail]

    def init_from_guided(self, other: "DenseUNet", level: float) -> None:
        """Start an unguided network with the weights of a guided one.

        It behaves as if the noise level were always `level`, in network units.
        """
        pixels = self.head.in_channels
        weights = other.state_dict()
        level_weights = weights["head.weight"][:, pixels:].sum((1, 2, 3))
        weights["head.weight"] = weights["head.weight"][:, :pixels]
        weights["head.bias"] = weights["head.bias"] + level * level_weights
        self.load_state_dict(weights)

    @property
    def last(self) -> nn.Module:
        """The layer that produces the output."""
        return self.tail


def zero_residuals(module: nn.Module) -> None:
    """Make every residual block below `module` the identity."""
    for block in module.modules():
        if isinstance(block, ResidualBlock):
            nn.init.zeros_(block.second.weight)


def begin_smaller(owner: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load the weights of a module with a smaller U-Net.

    Its `backbone` has fewer residual blocks or fewer coarse stages than that of `owner`. At first the new layers change
    nothing, if sides are multiples of the larger network's `multiple`.
    """
    missing, unexpected = owner.load_state_dict(weights, strict=False)
    assert not unexpected, unexpected
    assert all(name.startswith("backbone.") for name in missing), missing
    for name in missing:
        block, _, _ = name.rpartition(".")
        if block.startswith("backbone.up.") or block.endswith(".second"):
            nn.init.zeros_(owner.get_parameter(name))
