"""The two log-likelihoods and Bayes' rule, as pure functions in closed form.

They work for any number of channels. Equations M1-M6 of math.md. Tests: golden values in tests/golden, laws in
tests/property. A variance is per channel (b, c, h, w) or a full covariance (b, c, c, h, w). Matrices are factored by a
Cholesky decomposition written out over channels. So no general inverse and no eigenvalue is computed per pixel.
Everything runs in float32.
"""

import torch
from torch import Tensor

from dbsn.types import Covariance, Image, Mask, PixelMap, Scalar, Variance

_Rows = list[list[Tensor]]


def as_covariance(variance: Variance) -> Covariance:
    """Convert a per-channel variance to a diagonal covariance; keep a covariance."""
    return torch.diag_embed(variance.movedim(1, -1)).movedim((-2, -1), (1, 2)) if variance.ndim == 4 else variance


def channel_variance(variance: Variance) -> Image:
    """The variance of each channel (b, c, h, w); of a covariance its diagonal."""
    return variance.diagonal(dim1=1, dim2=2).movedim(-1, 1) if variance.ndim == 5 else variance


def total_variance(mean_var: Variance, noise_var: Variance) -> Variance:
    """Sigma_y = Sigma_mu + Sigma_n (M1); a full covariance if either one is."""
    if mean_var.ndim != noise_var.ndim:
        mean_var, noise_var = as_covariance(mean_var), as_covariance(noise_var)
    return mean_var + noise_var


def _cholesky(covariance: Covariance) -> _Rows:
    """Lower factor L of covariance = L L^T; row i holds the maps L[i][0..i]."""
    lower: _Rows = []
    for i in range(covariance.shape[1]):
        row: list[Tensor] = []
        for j in range(i + 1):
            rest = covariance[:, i, j]
            for k in range(j):
                rest = rest - row[k] * (row[k] if i == j else lower[j][k])
            row.append(rest.sqrt() if i == j else rest / lower[j][j])
        lower.append(row)
    return lower


def _solve_lower(lower: _Rows, right: list[Tensor]) -> list[Tensor]:
    """L^-1 right, by forward substitution."""
    solved: list[Tensor] = []
    for i, row in enumerate(lower):
        rest = right[i]
        for k in range(i):
            rest = rest - row[k] * solved[k]
        solved.append(rest / row[i])
    return solved


def _log_determinant(lower: _Rows) -> PixelMap:
    return 2 * torch.stack([row[-1] for row in lower]).log().sum(0)


def log_volume(variance: Variance) -> PixelMap:
    """1/2 log |Sigma| of each pixel: the total uncertainty of all its channels."""
    if variance.ndim == 4:
        return 0.5 * variance.log().sum(1)
    return 0.5 * _log_determinant(_cholesky(variance))


def _squares(vector: list[Tensor]) -> PixelMap:
    return torch.stack(vector).square().sum(0)


def gaussian_nll(residual: Image, variance: Variance) -> PixelMap:
    """Negative log-likelihood of a residual under N(0, variance), no constant (M2)."""
    if variance.ndim == 4:
        return 0.5 * (residual.square() / variance + variance.log()).sum(1)
    lower = _cholesky(variance)
    return 0.5 * (_squares(_solve_lower(lower, list(residual.unbind(1)))) + _log_determinant(lower))


def profile_nll(residual: Image, variance: Variance) -> Scalar:
    """Mean of `gaussian_nll`, minimised over one common factor on all variances (L7).

    Args:
        residual: (b, c, h, w).
        variance: Per channel or full, > 0. A common factor on it does not change the result.
    """
    channels, volume = residual.shape[1], log_volume(variance)
    squares = 2 * (gaussian_nll(residual, variance) - volume).mean() / channels  # under the variance as it is: 1
    return channels / 2 * (squares.clamp_min(torch.finfo(squares.dtype).tiny).log() + 1) + volume.mean()


def marginal_nll(residual: Image, mean_var: Variance, noise_var: Variance) -> PixelMap:
    """Negative log-likelihood of y ~ N(mu, Sigma_mu + Sigma_n), no constant (M2).

    Args:
        residual: T = y - mu.
        mean_var: Variance of the prediction, per channel or full, >= 0.
        noise_var: Variance of the noise, per channel or full, > 0.

    Returns:
        1/2 T' Sigma_y^-1 T + 1/2 log |Sigma_y| of each pixel.
    """
    return gaussian_nll(residual, total_variance(mean_var, noise_var))


def constrained_nll(residual: Image, mean_var: Variance, noise_var: Variance) -> PixelMap:
    """The paper's constrained negative log-likelihood (M3).

    It replaces log |Sigma_y| by its first-order upper bound. Arguments and units are those of `marginal_nll`.

    Returns:
        1/2 T' Sigma_y^-1 T + 1/2 log |Sigma_n| + 1/2 tr(Sigma_n^-1 Sigma_mu) of each pixel.
    """
    variance = total_variance(mean_var, noise_var)
    if variance.ndim == 4:
        ratio = mean_var / noise_var
        return 0.5 * (residual.square() / variance + noise_var.log() + ratio).sum(1)
    noise_lower = _cholesky(as_covariance(noise_var))
    prediction = as_covariance(mean_var)
    channels = residual.shape[1]
    columns = [_solve_lower(noise_lower, list(prediction[:, :, j].unbind(1))) for j in range(channels)]
    whitened = [_solve_lower(noise_lower, [columns[j][i] for j in range(channels)])[i] for i in range(channels)]
    distance = _squares(_solve_lower(_cholesky(variance), list(residual.unbind(1))))
    return 0.5 * (distance + _log_determinant(noise_lower) + torch.stack(whitened).sum(0))


def _multiply(covariance: Covariance, vector: list[Tensor]) -> Image:
    return (covariance * torch.stack(vector, 1).unsqueeze(1)).sum(2)


def _solve(lower: _Rows, right: list[Tensor]) -> list[Tensor]:
    """(L L^T)^-1 right, by forward and back substitution."""
    half = _solve_lower(lower, right)
    channels = len(lower)
    solved: list[Tensor] = [right[0]] * channels
    for i in reversed(range(channels)):
        rest = half[i]
        for k in range(i + 1, channels):
            rest = rest - lower[k][i] * solved[k]
        solved[i] = rest / lower[i][i]
    return solved


def fuse(noisy: Image, mean: Image, mean_var: Variance, noise_var: Variance) -> tuple[Image, Image]:
    """Fuse the blind prediction with the noisy pixel itself (M4, M5).

    x = mu + Sigma_mu Sigma_y^-1 (y - mu). This is the mean of the product of two Gaussians. It is written with a gain,
    so that it is exact where Sigma_mu = 0.

    Args:
        noisy: Observation y; values outside [0, 1] are allowed.
        mean: Blind prediction mu, same units.
        mean_var: Its variance Sigma_mu, per channel or full, >= 0.
        noise_var: Noise variance Sigma_n, per channel or full, > 0.

    Returns:
        Posterior mean, and the posterior variance of each channel (the diagonal of Sigma_mu - Sigma_mu Sigma_y^-1
        Sigma_mu); both (b, c, h, w).
    """
    variance = total_variance(mean_var, noise_var)
    residual = noisy - mean
    if variance.ndim == 4:
        gain = mean_var / variance
        return mean + gain * residual, gain * noise_var
    lower = _cholesky(variance)
    prediction = as_covariance(mean_var)
    posterior_mean = mean + _multiply(prediction, _solve(lower, list(residual.unbind(1))))
    explained = [_squares(_solve_lower(lower, list(column.unbind(1)))) for column in prediction.unbind(2)]
    posterior_var = channel_variance(prediction) - torch.stack(explained, 1)
    return posterior_mean, posterior_var.clamp_min(0)


def fusion_share(residual: Image, mean_var: Variance, noise_var: Variance) -> Image:
    """The part of an error of the mean that remains after fusion (M6).

    It is (I - gain) T = Sigma_n Sigma_y^-1 T. Shapes are those of `fuse`.
    """
    variance = total_variance(mean_var, noise_var)
    if variance.ndim == 4:
        return noise_var / variance * residual
    return _multiply(as_covariance(noise_var), _solve(_cholesky(variance), list(residual.unbind(1))))


def scaled(variance: Variance, factor: Image) -> Variance:
    """Multiply a variance by a factor (b, c, h, w).

    A covariance becomes D^1/2 Sigma D^1/2, which is a covariance again.
    """
    if variance.ndim == 4:
        return variance * factor
    root = factor.sqrt()
    return variance * root.unsqueeze(1) * root.unsqueeze(2)


def coloured(variance: Variance, white: Image) -> Image:
    """Turn white noise w of variance 1 (b, c, h, w) into noise of this variance: L w.

    The variance may be a channel covariance.
    """
    if variance.ndim == 4:
        return variance.sqrt() * white
    lower = _cholesky(variance)
    parts = list(white.unbind(1))
    return torch.stack([sum((row[j] * parts[j] for j in range(len(row))), parts[0] * 0) for row in lower], 1)


def spread_nll(missed: Image, std: Image, error_unit: Tensor, valid: Mask) -> Scalar:
    """Negative log-likelihood of errors under the predicted uncertainty (S5).

    It is 0 if no pixel is valid.

    Args:
        missed: Result minus truth, (b, c, h, w), intensities.
        std: Uncertainty predicted by the student, same shape and unit.
        error_unit: Unit of squared errors of each patch, (b, 1, 1, 1), see `Pairs`.
        valid: 1 for pixels that count, (b, 1, h, w).
    """
    nll = (missed / std).square() / 2 + (std.square() / error_unit).log() / 2  # a constant: no gradient
    return (nll * valid).sum() / (valid.sum() * nll.shape[1]).clamp_min(1)
