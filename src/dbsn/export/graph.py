"""A student as one graph from noisy to denoised, for images of any size.

A guided student measures the noise level in the graph (math.md, E1). Uncertainty, strength, the map of levels (E4) and
the range of images in counts do not belong to it. Tested in tests/unit/test_export.py.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.models.student import Student
from dbsn.networks.measurement import measure, measured_variance

NOISY, DENOISED = "input", "output"
"""Names of the graph's tensors, as darktable wants them."""
LEAST_SIDE = 16
"""Smallest height and width that a graph takes, in pixels."""


class StudentGraph(nn.Module):
    """What a student does with images of its channels, or of three channels where it is for gray ones."""

    def __init__(self, student: Student, *, channels: int) -> None:
        """Choose.

        Args:
            student: In evaluation mode, in single precision.
            channels: Of the graph: the student's, or 3 for a student of gray images. It then denoises each channel.

        Raises:
            ValueError: The student is for images of other channels.
        """
        super().__init__()
        own = student.config.channels
        if channels != own and (own, channels) != (1, 3):
            raise ValueError(f"channels: the student is for {own} (got {channels}). Export {own}.")
        self.student, self.as_gray = student, channels != own

    def forward(self, noisy: Tensor) -> Tensor:
        """Denoise (b, c, h, w) intensities to the same shape; h and w are at least 16."""
        if self.as_gray:
            each = noisy.reshape(noisy.shape[0] * 3, 1, noisy.shape[2], noisy.shape[3])
            return self._denoised(each).reshape(noisy.shape)
        return self._denoised(noisy)

    def _denoised(self, noisy: Tensor) -> Tensor:
        """As `Student.forward`, without any choice that depends on the size."""
        student, (height, width) = self.student, noisy.shape[-2:]
        side = student.multiple
        seen = student.seen(noisy)
        rows, columns = (torch.arange((size + side - 1) // side * side) for size in (height, width))
        padded = seen[..., _mirrored(rows, height), :][..., _mirrored(columns, width)]
        level_input = []
        if student.guided:
            inside = ((rows < height)[:, None] & (columns < width)).to(seen.dtype)[None, None]
            mean = functional.avg_pool2d(padded * inside, side) / functional.avg_pool2d(inside, side)
            level = measured_variance(mean, measure([seen])).sqrt()
            level_input = [functional.interpolate(level, scale_factor=float(side))]
        found: Tensor = student.network(padded, *level_input)
        return found[..., :height, :width] * student.config.scale + student.config.offset


def _mirrored(places: Tensor, size: int) -> Tensor:
    """Rows or columns of an image, mirrored beyond its end."""
    return torch.where(places < size, places, 2 * (size - 1) - places).clamp(min=0)
