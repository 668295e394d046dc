"""Calibration of the model's variances on the image itself (math.md, M8).

CNN_est and the prediction head are trained on all images together. One whole image has enough pixels to correct them.
At each intensity, the residual of its flat areas gives the noise variance. At each promised accuracy, the residual
gives the prediction variance. Files and tiles do not belong here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dbsn.likelihood import channel_variance, log_volume, scaled
from dbsn.models.blindspot import Estimate
from dbsn.types import Image, PixelMap, Variance

_FLAT = 0.2  # share of the pixels of an intensity that count as flat: their residual is noise alone
_MOST_BINS, _PIXELS_A_BIN = 12, 4000
_NARROWEST_INTENSITY = 0.1  # standard deviations of the noise
_NARROWEST_SHARE = 0.05  # logarithm
_FURTHEST = 10.0  # largest factor on a variance, up or down
_LEAST_LEAK = 1e-3  # of a pixel's noise variance: the mean is at best an average of 1,000 pixels
_LEAST_SHARE = 1e-6  # prediction variance over noise variance; smaller shares count as equal
_MOST_SKEWED = 1.2
_PROBE = 0.5  # added noise, in standard deviations of the noise


@dataclass(frozen=True)
class Calibration:
    """Factors on the noise variance and on the prediction variance.

    The former depend on intensity, the latter on the promised share of prediction variance in noise variance.
    """

    intensities: Tensor
    """Middle of each bin of intensities, ascending: (c, bins)."""
    noise_factors: Tensor
    """Factor on the noise variance there: (c, bins)."""
    skewness: Tensor
    """Skewness of the noise there: (c, bins); 0 for Gaussian noise."""
    shares: Tensor
    """Log of prediction variance over noise variance, middle of each bin: (bins,).

    Ascending.
    """
    prediction_factors: Tensor
    """Factor on the prediction variance there: (bins,)."""

    def apply(self, estimate: Estimate) -> Estimate:
        """Correct the variances of an estimate; a covariance keeps its correlations."""
        noise_var = self.noise(estimate.mean, estimate.noise_var)
        share = _share(estimate.mean_var, noise_var)
        floored = share.clamp_min(_LEAST_SHARE)  # a smaller share gets the factor of this one
        factor = interpolate(floored.log(), self.shares, self.prediction_factors) * floored / share
        return replace(
            estimate,
            noise_var=noise_var,
            mean_var=scaled(estimate.mean_var, factor.unsqueeze(1).expand_as(estimate.mean)),
        )

    def to(self, device: torch.device) -> "Calibration":
        """The same calibration on a device."""
        return Calibration(**{name: curve.to(device) for name, curve in vars(self).items()})

    def noise(self, image: Image, noise_var: Variance) -> Variance:
        """The corrected noise variance at the intensities `image`."""
        return scaled(noise_var, self._at(image, self.noise_factors))

    def noise_skewness(self, image: Image) -> Image:
        """The skewness of the noise at the intensities `image`."""
        return self._at(image, self.skewness)

    def _at(self, image: Image, curve: Tensor) -> Image:
        by_channel = zip(image.unbind(1), self.intensities, curve, strict=True)
        return torch.stack([interpolate(*channel) for channel in by_channel], 1)


@dataclass(frozen=True)
class Sample:
    """The estimate of a part of an image and its leak, each (b, ..., h, w)."""

    estimate: Estimate
    leak: Image
    """One noisy measurement of the leak at each pixel, see `leaked`."""


def leaked(forward: Callable[[Tensor], Estimate], estimate: Estimate, noisy: Tensor, seed: int) -> Image:
    """Measure the leak: noise variance of the mean over that of the input (L4).

    The input is disturbed by a little white noise. Each value is one draw and must be averaged over many pixels. The
    shape (b, c, h, w) is that of `estimate`, which may be one grid phase of the pixels `noisy`.
    """
    level = estimate.noise_std().mean((1, 2, 3), keepdim=True) * _PROBE
    generator = torch.Generator(level.device).manual_seed(seed)
    probe = level * torch.randn(noisy.shape, generator=generator, device=noisy.device)
    return ((forward(noisy + probe).mean - estimate.mean) / level).square()


def calibrate(samples: Sequence[Sample], *, one_level: bool) -> Calibration | None:
    """Compute an image's calibration from samples of it.

    Args:
        samples: Parts of one image.
        one_level: The noise does not depend on intensity.

    Returns:
        The calibration; None if the samples have too few pixels.
    """
    count = sum(part.estimate.mean[:, 0].numel() for part in samples)
    bins = min(_MOST_BINS, count // _PIXELS_A_BIN)
    if not bins:
        return None
    mean = _columns([part.estimate.mean for part in samples])
    residual = _columns([part.estimate.noisy - part.estimate.mean for part in samples])
    leak = _columns([part.leak for part in samples])
    noise = _columns([channel_variance(part.estimate.noise_var) for part in samples])
    roughness = _columns([log_volume(part.estimate.total_var).unsqueeze(1) for part in samples])[0]
    curves = [
        _noise_curve(*channel, roughness, 1 if one_level else bins)
        for channel in zip(mean, residual, noise, leak, strict=True)
    ]
    intensities, noise_factors, skewness = (stacked(kind) for kind in zip(*curves, strict=True))
    unit = torch.ones(1, device=mean.device)
    calibration = Calibration(intensities, noise_factors, skewness, 0 * unit, unit)
    corrected = [calibration.apply(part.estimate) for part in samples]
    noise = _columns([channel_variance(estimate.noise_var) for estimate in corrected])
    share = _columns([_share(estimate.mean_var, estimate.noise_var).unsqueeze(1) for estimate in corrected])[0]
    share = share.clamp_min(_LEAST_SHARE).log()
    return replace(calibration, **_prediction_curve(share, (residual.square() / noise).mean(0), leak.mean(0), bins))


def stacked(curves: Sequence[Tensor]) -> Tensor:
    """Stack curves (..., n) of different length.

    Short curves repeat their last point, which does not change their meaning.
    """
    most = max(curve.shape[-1] for curve in curves)
    ends = [curve[..., -1:].expand(*curve.shape[:-1], most - curve.shape[-1]) for curve in curves]
    return torch.stack([torch.cat([curve, end], -1) for curve, end in zip(curves, ends, strict=True)])


def _noise_curve(
    mean: Tensor, residual: Tensor, noise: Tensor, leak: Tensor, roughness: Tensor, bins: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Intensities, noise factors and skewness of one channel.

    They come from the flattest pixels at each intensity. Arguments are (n,).
    """
    width = _NARROWEST_INTENSITY * float(noise.mean().sqrt())
    middles, factors, skewness = [], [], []
    for chosen in _bins(mean, bins, width):
        flat = chosen[roughness[chosen] <= torch.quantile(roughness[chosen], _FLAT)]
        middles.append(mean[chosen].mean())
        white = residual[flat] / noise[flat].sqrt()
        power = white.square().mean()
        factors.append(power / (1 + leak[flat].mean()))
        skewness.append((white - white.mean()).pow(3).mean() / power.clamp_min(_FURTHEST**-2).pow(1.5))
    limited = torch.stack(factors).clamp(1 / _FURTHEST, _FURTHEST)
    return torch.stack(middles), limited, torch.stack(skewness).clamp(-_MOST_SKEWED, _MOST_SKEWED)


def _prediction_curve(share: Tensor, excess: Tensor, leak: Tensor, bins: int) -> dict[str, Tensor]:
    """Logarithms of the promised shares, and the factors that correct them.

    The corrected shares never fall as the promised ones rise. Arguments are (n,).
    """
    parts = _bins(share, bins, _NARROWEST_SHARE)
    promised = torch.stack([share[part].mean() for part in parts])
    found = _rising([float(excess[part].mean()) - 1 for part in parts], promised)
    # the mean cannot be more exact than the noise that it lets through
    least = _rising([float(leak[part].mean()) for part in parts], promised).clamp_min(_LEAST_LEAK)
    return {"shares": promised, "prediction_factors": torch.maximum(found, least) / promised.exp()}


def _rising(values: list[float], like: Tensor) -> Tensor:
    """The nearest ascending values (isotonic regression)."""
    from scipy.optimize import isotonic_regression  # takes half a second to load; a student does not need it

    return torch.as_tensor(isotonic_regression(values).x, dtype=like.dtype, device=like.device)


def _bins(values: Tensor, bins: int, width: float) -> list[Tensor]:
    """Indices of values (n,) in ascending bins of about the same size.

    Bins closer together than `width` are joined.
    """
    joined: list[Tensor] = []
    for part in values.argsort().tensor_split(bins):
        if joined and float(values[part].mean() - values[joined[-1]].mean()) < width:
            joined[-1] = torch.cat([joined[-1], part])
        else:
            joined.append(part)
    return joined


def _share(mean_var: Variance, noise_var: Variance) -> PixelMap:
    """Prediction variance over noise variance, mean over channels: (b, h, w), > 0."""
    ratio = channel_variance(mean_var) / channel_variance(noise_var)
    return ratio.mean(1).clamp_min(torch.finfo(ratio.dtype).tiny)


def _columns(parts: Sequence[Tensor]) -> Tensor:
    """Join maps (b, c, h, w) of several parts to lists of pixels per channel (c, n)."""
    return torch.cat([part.transpose(0, 1).flatten(1) for part in parts], 1).float()


def interpolate(at: Tensor, known: Tensor, values: Tensor) -> Tensor:
    """Interpolate linearly between (known, values), ascending, (n,) each.

    Beyond the ends the end values are used. `at` may have any shape.
    """
    if len(known) == 1:
        return values.expand(at.shape)
    right = torch.searchsorted(known, at.contiguous()).clamp(1, len(known) - 1)
    left = right - 1
    step = (known[right] - known[left]).clamp_min(torch.finfo(known.dtype).tiny)
    weight = ((at - known[left]) / step).clamp(0, 1)
    return values[left] + weight * (values[right] - values[left])
