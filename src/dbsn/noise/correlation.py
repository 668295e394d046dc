"""Noise that neighbouring pixels share, as demosaicking, scaling and compression leave it: measured, and drawn.

`autocorrelation` says how alike the noise of pixels at a distance is, `kernel` what to filter white noise with to make
it so (math.md, C2). Tested in tests/unit/test_correlation.py. How strong the noise is does not belong here.
"""

import torch
from torch import Tensor
from torch.nn import functional

from dbsn.types import Image

REACH = 6
"""Pixels, in every direction, beyond which noise counts as independent."""
_BLOCK = 32
_FLATTEST = 0.25  # share of the blocks, by power, that hold noise alone
_LEAST_POWER = 0.1  # of a block's noise variance; there is less where an image is cut off or was drawn
_FFT = 64  # no block of 32 then meets itself around the corner


def autocorrelation(residual: Image) -> Tensor | None:
    """How alike noise is at each distance, mean over channels.

    Args:
        residual: (1, c, h, w) what sets a noisy image apart from its denoised version, in standard deviations.

    Returns:
        (13, 13), of distances of -6 to 6 pixels down and across, 1 in the middle; None if the image
        has not 32 x 32 pixels, or no noise.
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
    """The symmetric filter (13, 13) that gives white noise this autocorrelation (13, 13), and keeps its variance."""
    window = torch.hann_window(2 * REACH + 3, periodic=False, dtype=torch.float64)[1:-1]
    spread = torch.zeros(_FFT, _FFT, dtype=torch.float64)
    spread[: 2 * REACH + 1, : 2 * REACH + 1] = alike.double() * torch.outer(window, window).sqrt()
    spectrum = torch.fft.fft2(spread.roll((-REACH, -REACH), (0, 1))).real.clamp_min(0)
    filtering = _around_zero(torch.fft.ifft2(spectrum.sqrt()).real)
    return (filtering / filtering.square().sum().sqrt()).float()


def filtered(white: Tensor, by: Tensor) -> Image:
    """White noise (1, c, h + 12, w + 12) filtered by a kernel (13, 13): (1, c, h, w)."""
    return functional.conv2d(white.transpose(0, 1), by[None, None].to(white)).transpose(0, 1)


def _around_zero(cyclic: Tensor) -> Tensor:
    """Distances of -6 to 6 of a cyclic array."""
    return cyclic.roll((REACH, REACH), (0, 1))[: 2 * REACH + 1, : 2 * REACH + 1]
