"""Layers of several networks: masked convolutions and stacks of convolutions."""

from collections import OrderedDict
from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.types import Margin

Heads = Callable[[Tensor], list[Tensor]]
"""Function from features (b, f, h, w) to maps of the same height and width.

Each pixel of the maps depends on its own features alone.
"""


class MaskedConv2d(nn.Conv2d):
    """A k x k convolution whose centre weight is zero: the blind spot (math.md, D1).

    It can be computed on one phase of an s x s grid, at the cost of that phase.
    """

    mask: Tensor

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        mask = torch.ones(kernel_size, kernel_size)
        mask[kernel_size // 2, kernel_size // 2] = 0
        self.register_buffer("mask", mask, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the features of every pixel; the image is padded with zeros."""
        return functional.conv2d(image, self.weight * self.mask, self.bias, padding=self.padding)

    def phase(self, image: Tensor, row: int, column: int, spacing: int) -> Tensor:
        """Compute the features of the pixels [row::spacing, column::spacing] alone.

        Height and width must be multiples of `spacing`.
        """
        margin = self.kernel_size[0] // 2
        padded = functional.pad(image, (margin, margin, margin, margin))
        height, width = image.shape[-2] - spacing + 2 * margin + 1, image.shape[-1] - spacing + 2 * margin + 1
        window = padded[..., row : row + height, column : column + width]
        return functional.conv2d(window, self.weight * self.mask, self.bias, stride=spacing)


def convolutions(widths: Sequence[int], *, ends_in_relu: bool) -> nn.Sequential:
    """A stack of 3x3 convolutions with widths[0] to widths[-1] channels.

    ReLU is between them and, if `ends_in_relu`, after the last.
    """
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Conv2d(inputs, outputs, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*(layers if ends_in_relu else layers[:-1]))


class PixelMLP(nn.Module):
    """A stack of 1x1 convolutions with ReLU between, always in float32.

    It is the same small network at every pixel. Such stacks give means and variances. The three digits of bfloat16
    would cause bands in them. The parameter names are those of the released variance head.
    """

    def __init__(self, in_channels: int, width: int, out_channels: int, depth: int) -> None:
        super().__init__()
        layers: list[tuple[str, nn.Module]] = []
        for i in range(depth):
            inputs, outputs = (in_channels if i == 0 else width), (out_channels if i == depth - 1 else width)
            layers.append((str(2 * i), nn.Conv2d(inputs, outputs, 1)))
            if i < depth - 1:
                layers.append((str(2 * i + 1), nn.ReLU()))
        self.conv = nn.Sequential(OrderedDict(layers))

    def forward(self, features: Tensor) -> Tensor:
        """(b, in_channels, h, w) to (b, out_channels, h, w)."""
        with full_precision(features):
            out: Tensor = self.conv(features.float())
        return out

    @property
    def first(self) -> nn.Conv2d:
        """The layer that receives the input."""
        layer = self.conv[0]
        assert isinstance(layer, nn.Conv2d)
        return layer

    @property
    def last(self) -> nn.Conv2d:
        """The layer that produces the output."""
        layer = self.conv[-1]
        assert isinstance(layer, nn.Conv2d)
        return layer


def without(image: Tensor, margin: Margin) -> Tensor:
    """The part of an image (..., h, w) inside its margin."""
    height, width = image.shape[-2:]
    return image[..., margin.top : height - margin.bottom, margin.left : width - margin.right]


def halved(margin: Margin) -> Margin:
    """The same margin at half the resolution."""
    return Margin(*(side // 2 for side in margin))


def full_precision(features: Tensor) -> torch.autocast:
    """A context without bf16 autocast on the device of `features`."""
    return torch.autocast(features.device.type, enabled=False)


def initialise(module: nn.Module) -> None:
    """He initialisation of every convolution below `module`, biases zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d) and not layer.weight.is_meta:  # a network of shapes alone has no values
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def lower_triangular(diagonal: Tensor, below: Tensor) -> Tensor:
    """Build matrices (b, c, c, h, w) from the diagonal and the entries below it.

    The entries below the diagonal are given row by row.
    """
    channels = diagonal.shape[1]
    rows, columns = torch.tril_indices(channels, channels, -1)
    factor = torch.diag_embed(diagonal.movedim(1, -1)).movedim((-2, -1), (1, 2))
    factor = factor.contiguous()
    factor[:, rows, columns] = below
    return factor


def outer_square(factor: Tensor) -> Tensor:
    """Compute L L' of lower-triangular factors at every pixel, (b, c, c, h, w).

    It is written out, because autocast would compute a matrix product in bfloat16. A Cholesky decomposition of the
    result would fail.
    """
    channels = factor.shape[1]
    entries = [
        [(factor[:, i, : min(i, j) + 1] * factor[:, j, : min(i, j) + 1]).sum(1) for j in range(channels)]
        for i in range(channels)
    ]
    return torch.stack([torch.stack(row, 1) for row in entries], 1)
