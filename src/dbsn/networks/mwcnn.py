"""MWCNN, the paper's student, works on Haar wavelet bands (Liu et al. 2018).

With the released weights the output is the published one (tests/golden). Module names are those of the released
checkpoints, so their files load by name.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import MWCNNConfig
from dbsn.networks.layers import convolutions
from dbsn.types import Image


class _Level(nn.Module):
    """The convolutions of one level in one direction."""

    def __init__(self, widths: list[int], *, ends_in_relu: bool) -> None:
        super().__init__()
        self.block = convolutions(widths, ends_in_relu=ends_in_relu)

    def forward(self, features: Tensor) -> Tensor:
        """(b, widths[0], h, w) to (b, widths[-1], h, w)."""
        out: Tensor = self.block(features)
        return out


class MWCNN(nn.Module):
    """An ordinary denoiser whose output is added to its input.

    Each level halves the resolution by a wavelet transform.
    """

    def __init__(self, config: MWCNNConfig, channels: int) -> None:
        super().__init__()
        self.depth = len(config.widths)
        inputs = [channels, *config.widths]
        for level, width in enumerate(config.widths, 1):
            bands = 4 * inputs[level - 1]
            inner = [width] * config.depth
            self.add_module(f"level{level}_prev", _Level([bands, *inner], ends_in_relu=True))
            self.add_module(f"level{level}_next", _Level([*inner, bands], ends_in_relu=level > 1))
        self.multiple = 2**self.depth
        self.receptive_radius = sum((2 * config.depth + 1) * 2**level for level in range(1, self.depth + 1))

    def forward(self, noisy: Image) -> Image:
        """(b, c, h, w) to the same shape; height and width are multiples of `multiple`."""
        skips = [noisy]
        for level in range(1, self.depth + 1):
            skips.append(self.get_submodule(f"level{level}_prev")(haar(skips[-1])))
        features = skips.pop()
        for level in range(self.depth, 0, -1):
            features = inverse_haar(self.get_submodule(f"level{level}_next")(features)) + skips.pop()
        return features

    @property
    def last(self) -> nn.Module:
        """The layer that produces the output."""
        level = self.get_submodule("level1_next")
        assert isinstance(level, _Level)
        return level.block[-1]


_ROWS = ((1, 1, 1, 1), (1, 1, -1, -1), (1, -1, 1, -1), (1, -1, -1, 1))  # of the four pixels, row by row


def haar(image: Tensor) -> Tensor:
    """Orthonormal Haar transform: (b, c, h, w) to (b, 4 c, h / 2, w / 2).

    The four bands of a channel are adjacent.
    """
    return _mixed(functional.pixel_unshuffle(image, 2))


def inverse_haar(bands: Tensor) -> Tensor:
    """The inverse of `haar`, which mixes the four bands by the same symmetric matrix."""
    return functional.pixel_shuffle(_mixed(bands), 2)


def _mixed(bands: Tensor) -> Tensor:
    matrix = torch.tensor(_ROWS, dtype=bands.dtype, device=bands.device) / 2
    kernel = matrix.repeat(bands.shape[1] // 4, 1)[..., None, None]
    return functional.conv2d(bands, kernel, groups=bands.shape[1] // 4)
