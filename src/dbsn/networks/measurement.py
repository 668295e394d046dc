"""Measurement of an image's noise level, without a network (math.md, E1).

It is an input of the noise estimator and of guided students. Tested in tests/unit/test_noise_estimator.py.
"""

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional

from dbsn.types import Image

MEASURES = 5
"""Number of measurements of each channel."""
_MEASURED_QUANTILE = 0.1
_CHI2_16_QUANTILE = 9.312 / 16  # 10 % quantile of the mean of 16 squared standard normals
_SMALLEST_STD = 1e-3
_NO_DETAIL_STD = 0.1
_MOST_BINS, _BLOCKS_A_BIN = 16, 64
_LONGEST_OF_FEW = 96  # blocks in a bin, where there are fewer than 16 bins
_LINE_FITS = 10
_CLOSE_FIT = 0.5
_LEAST_CONTRAST = 0.05
_MOST_RISE = 9.0


def measure(strips: Iterable[Tensor]) -> Tensor:
    """Measure the noise level of each channel on a whole image (E1).

    The diagonal difference of 2 x 2 blocks cancels smooth content and keeps white noise. Its mean square is taken over
    areas of 8 x 8 pixels. The 10 % quantile of these mean squares belongs to flat areas. The same is done among areas
    of similar intensity, and a straight line is fitted to the results.

    Args:
        strips: The image (b, c, h, w) in network units, any size; or in strips of rows. Each strip but the last has a
            multiple of 8 rows.

    Returns:
        (b, 5 c, 1, 1). For each channel: the log level, two log ratios, two means. The means are those of the darker
        and of the brighter half. The log ratios are those of the line to the level at these means.
    """
    parts, count, total = [], 0, torch.zeros(())
    for strip in strips:
        parts.append(_blocks(strip))
        count += strip[0, 0].numel()
        total = total.to(strip.device) + strip.sum((-2, -1)).unsqueeze(-1)
    power, mean = (torch.cat(kind, -1) for kind in zip(*parts, strict=True))
    if not power.shape[-1]:
        average, zero = total / count, torch.zeros_like(total)
        level = torch.full_like(total, _NO_DETAIL_STD).log()
        return torch.cat([level, zero, zero, average, average], 2).flatten(1)[..., None, None]
    mean, order = mean.sort(-1)
    power = power.gather(-1, order)
    half = (power.shape[-1] + 1) // 2
    ends = torch.cat([mean[..., :half].mean(-1, keepdim=True), mean[..., -half:].mean(-1, keepdim=True)], -1)
    level = _flat_level(power)
    dark, bright = (0.5 * _line(power, mean, ends).log() - level).unsqueeze(-2).unbind(-1)
    return torch.cat([level, dark, bright, ends[..., :1], ends[..., 1:]], 2).flatten(1)[..., None, None]


def _line(power: Tensor, mean: Tensor, at: Tensor) -> Tensor:
    """Fit a straight line of flat areas' variance over intensity.

    Return its values at the intensities `at` (b, c, n); all are positive. The line is fitted to bins of blocks of
    similar intensity. It minimises absolute differences relative to the line itself, by iterated weighted least
    squares. So bins of low variance count, and textured or clipped bins do not pull. `power` and `mean` (b, c, blocks)
    are sorted by `mean`.
    """
    powers, inside = _in_bins(power)
    variance = _flat_level(powers, inside).squeeze(-1).mul(2).exp()
    means, _ = _in_bins(mean)
    middle = means.where(inside, 0).sum(-1) / inside.sum(-1).clamp_min(1)
    used = inside.any(-1)
    noisy = (variance > _SMALLEST_STD**2 * 1.01) & used
    smallest = variance.where(noisy, torch.inf).amin(-1, keepdim=True)
    least = smallest.where(smallest.isfinite(), _SMALLEST_STD**2).clamp(max=1) / _MOST_RISE
    fitted = (variance.where(used, 0).sum(-1, keepdim=True) / used.sum()).expand_as(variance)
    for _ in range(_LINE_FITS):
        off = (variance - fitted).abs()
        weight = noisy / (fitted * torch.maximum(off, _CLOSE_FIT * fitted))
        weight = weight / weight.sum(-1, keepdim=True).clamp_min(torch.finfo(weight.dtype).tiny)
        centre, height = ((weight * values).sum(-1, keepdim=True) for values in (middle, variance))
        covariance = (weight * (middle - centre) * (variance - height)).sum(-1, keepdim=True)
        slope = covariance / (weight * (middle - centre).square()).sum(-1, keepdim=True).clamp_min(_LEAST_CONTRAST**2)
        fitted = torch.maximum(height + slope * (middle - centre), least)
    return torch.maximum(height + slope * (at - centre), least)


def _blocks(image: Tensor) -> tuple[Tensor, Tensor]:
    """Mean square of the diagonal difference and mean of each 8 x 8 block.

    Both are (b, c, blocks).
    """
    height, width = image.shape[-2] // 8 * 8, image.shape[-1] // 8 * 8
    if height * width == 0:
        nothing = image.new_zeros((*image.shape[:2], 0))
        return nothing, nothing
    image = image[..., :height, :width]
    detail = (image[..., ::2, ::2] - image[..., ::2, 1::2] - image[..., 1::2, ::2] + image[..., 1::2, 1::2]) / 2
    return functional.avg_pool2d(detail.square(), 4).flatten(2), functional.avg_pool2d(image, 8).flatten(2)


def _in_bins(values: Tensor) -> tuple[Tensor, Tensor]:
    """Divide values (b, c, n) into 2 to 16 bins of consecutive ones.

    The number of bins depends on n, but not the shape: the rows of 16 that are not used are empty. So a graph with
    these operations takes images of any size.

    Returns:
        The values (b, c, 16, m), and which of them are inside the bins, (16, m).
    """
    blocks, rows = values.shape[-1], torch.arange(_MOST_BINS, device=values.device)
    count = torch.full((), blocks, device=values.device)
    bins = torch.minimum((count // _BLOCKS_A_BIN).clamp(2, _MOST_BINS), count)
    size, larger = count // bins, count % bins
    start = rows * size + torch.minimum(rows, larger)
    length = torch.where(rows < bins, size + (rows < larger), 0)
    place = torch.arange(blocks // _MOST_BINS + _LONGEST_OF_FEW, device=values.device)
    index = (start[:, None] + place).clamp(max=count - 1)
    return values[..., index], place < length[:, None]


def _flat_level(power: Tensor, inside: Tensor | None = None) -> Tensor:
    """Log standard deviation of the flat areas among mean squares (..., n), those that are inside: (..., 1).

    It is that of the 10 % quantile. Areas without any noise do not count.
    """
    known = power > _SMALLEST_STD**2
    known = known if inside is None else known & inside
    ordered = power.masked_fill(~known, torch.inf).sort(-1)[0]
    place = _MEASURED_QUANTILE * (known.sum(-1, keepdim=True) - 1).clamp_min(0)
    before = place.long()
    share = place - before
    low, high = ordered.gather(-1, before), ordered.gather(-1, (before + 1).clamp(max=ordered.shape[-1] - 1))
    variance = low + share * (high.where(share > 0, low) - low)
    variance = variance.where(known.any(-1, keepdim=True), 0) / _CHI2_16_QUANTILE
    return 0.5 * variance.clamp_min(_SMALLEST_STD**2).log()


def measured_variance(image: Image, measurement: Tensor) -> Image:
    """Measured noise variance at each intensity (E1).

    It is the straight line through the darker and the brighter half. Photon noise is such a line. The two halves may
    lie close together, and an intensity far beyond them. So the line is limited to a ninth of the smaller and nine
    times the larger measured variance.
    """
    level, dark, bright, dark_mean, bright_mean = _by_kind(measurement, image.shape[1]).unbind(2)
    low, high = (2 * (level + dark)).exp(), (2 * (level + bright)).exp()
    slope = (high - low) / (bright_mean - dark_mean).clamp_min(_LEAST_CONTRAST)
    line = low + slope * (image - dark_mean)
    return torch.minimum(
        torch.maximum(line, torch.minimum(low, high) / _MOST_RISE), torch.maximum(low, high) * _MOST_RISE
    )


def typical_intensity(measurement: Tensor, channels: int) -> Tensor:
    """Mean of the means of the darker and the brighter half: (b, c, 1, 1).

    It is in network units.
    """
    return _by_kind(measurement, channels)[:, :, -2:].mean(2)


def _by_kind(measurement: Tensor, channels: int) -> Tensor:
    """Reshape the measurements to (b, c, 5, 1, 1)."""
    return measurement.unflatten(1, (channels, MEASURES))
