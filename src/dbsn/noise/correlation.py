"""Correlated noise: its measurement and its synthesis (math.md, C2).

Demosaicking, scaling and compression cause it. `autocorrelation` measures the correlation of noise at each distance.
`kernel` gives the filter that makes white noise correlated in the same way. The noise level does not belong here.
Tested in tests/unit/test_correlation.py.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dbsn.types import Image

REACH = 6
"""Largest distance in pixels, in any direction, at which noise can be correlated."""
_BLOCK = 32
_FLATTEST = 0.25  # share of the blocks, by power, that hold noise alone
_LEAST_POWER = 0.1  # of a block's noise variance; clipped or drawn parts of an image have less
_FFT = 64  # twice the block: no cyclic overlap


def autocorrelation(residual: Image) -> Tensor | None:
    """Autocorrelation of noise, mean over channels.

    Args:
        residual: (1, c, h, w) noisy minus denoised image, in standard deviations of the noise.

    Returns:
        (13, 13), for distances of -6 to 6 pixels down and across, 1 in the middle. None if the image is smaller than
        32 x 32 pixels or has no noise.
    """
    if min(residual.shape[-2:]) < _BLOCK:
        return None
    planes = residual[0].unfold(1, _BLOCK, _BLOCK).unfold(2, _BLOCK, _BLOCK)
    blocks = planes.permute(1, 2, 0, 3, 4).flatten(0, 1).double()
    power = blocks.square().mean((1, 2, 3))
    blocks, power = blocks[power > _LEAST_POWER], power[power > _LEAST_POWER]
    if not len(blocks):
        return None
    flat = blocks[power <= torch.quantile(power, _FLATTEST)]
    distances = _around_zero(torch.fft.irfft2(torch.fft.rfft2(flat, s=(_FFT, _FFT)).abs().square()).mean((0, 1)))
    overlap = _BLOCK - torch.arange(-REACH, REACH + 1, dtype=distances.dtype).abs()
    found = distances / torch.outer(overlap, overlap).to(distances)
    return (found / found[REACH, REACH]).float()


def kernel(alike: Tensor) -> Tensor:
    """The symmetric filter (13, 13) that gives white noise this autocorrelation.

    The autocorrelation is (13, 13), too. The filter keeps the variance.
    """
    window = torch.hann_window(2 * REACH + 3, periodic=False, dtype=torch.float64)[1:-1]
    spread = torch.zeros(_FFT, _FFT, dtype=torch.float64)
    spread[: 2 * REACH + 1, : 2 * REACH + 1] = alike.double() * torch.outer(window, window).sqrt()
    spectrum = torch.fft.fft2(spread.roll((-REACH, -REACH), (0, 1))).real.clamp_min(0)
    filtering = _around_zero(torch.fft.ifft2(spectrum.sqrt()).real)
    return (filtering / filtering.square().sum().sqrt()).float()


def filtered(white: Tensor, by: Tensor) -> Image:
    """Filter white noise (1, c, h + 12, w + 12) by a kernel (13, 13): (1, c, h, w)."""
    return functional.conv2d(white.transpose(0, 1), by[None, None].to(white)).transpose(0, 1)


def _around_zero(cyclic: Tensor) -> Tensor:
    """The entries of a cyclic array at distances of -6 to 6."""
    return cyclic.roll((REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
