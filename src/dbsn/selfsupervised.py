"""Stage 1: what is minimised when only noisy images exist (Wu et al. 2020, sec. 3.2; docs/math.md, L1-L5).

A loss is a function from (model, batch, share of the budget spent) to `Losses`; the training loop minimises the sum
of their terms. How the variance of the residual is split between prediction and noise decides everything downstream:
the default splits by the lower envelope of the total variance, see docs/lab-notes.md.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbsn.config import ModelConfig, TrainConfig
from dbsn.likelihood import as_covariance, channel_variance, constrained_nll, fusion_share, gaussian_nll, marginal_nll
from dbsn.model import BlindSpotModel, Estimate
from dbsn.patches import Batch, ImageSet, Patches, as_tensor, hold_out, intensity_range
from dbsn.train import Losses, LossOf, Progress, train
from dbsn.types import Features, Image, Scalar, Variance

_HELD_OUT_SIDE = 240
_HELD_OUT_IMAGES = 8


def learn(
    images: Sequence[np.ndarray],
    model_config: ModelConfig,
    config: TrainConfig,
    *,
    run: Path,
    about: dict[str, Any],
    resume: bool = False,
    device: str = "auto",
) -> Iterator[Progress]:
    """Learn a model from noisy images (h, w, c) of any sizes and one kind; `train` says what is yielded and left.

    Raises:
        ValueError: There is no image, or their channels differ from the model's.
    """
    if not images:
        raise ValueError("no image to learn from")
    torch.manual_seed(config.seed)
    offset, scale = intensity_range(images)
    model = BlindSpotModel(replace(model_config, offset=offset, scale=scale))
    learned, held = hold_out(images)
    held_set = ImageSet.of(held, model.measure)
    crops = [as_tensor(image[:_HELD_OUT_SIDE, :_HELD_OUT_SIDE]) for image in held_set.images[:_HELD_OUT_IMAGES]]
    patches = Patches(
        ImageSet.of(learned, model.measure),
        size=config.patch,
        batch=config.batch,
        multiple=model.multiple,
        spacing=model.network.spacing,
        seed=config.seed,
    )
    return train(
        model,
        self_supervised_loss(config),
        patches,
        lambda average: held_out_nll(average, crops, held_set.measurements),
        config,
        run=run,
        about=about,
        resume=resume,
        device=device,
    )


def self_supervised_loss(config: TrainConfig) -> LossOf:
    """The loss of stage 1 under this configuration."""

    def loss(model: BlindSpotModel, batch: Batch, share: float) -> Losses:
        estimate = model(batch.noisy, batch.measurement, batch.phase)
        valid = batch.valid if batch.phase is None else model.network.observed(batch.valid, batch.phase)
        staged = share < config.staged
        residual = estimate.noisy - estimate.mean
        fixed = residual.detach()
        terms = {"total": _average(gaussian_nll(fixed, estimate.total_var), valid)}
        if staged or config.mean == "l2":
            terms["mean"] = _average(relative_squared_error(estimate), valid)
        elif config.mean == "fusion":
            terms["mean"] = _average(fused_squared_error(estimate), valid)
        learns_mean = residual if not staged and config.mean == "likelihood" else fixed
        if config.loss == "envelope":
            terms["noise"] = _average(
                envelope_loss(estimate.total_var.detach(), estimate.noise_var, config.quantile), valid
            )
            terms["prediction"] = _average(
                marginal_nll(learns_mean, estimate.mean_var, estimate.noise_var.detach()), valid
            )
        else:
            nll = constrained_nll if config.loss == "constrained" else marginal_nll
            terms["prediction"] = _average(nll(learns_mean, estimate.mean_var, estimate.noise_var), valid)
        return Losses(terms=terms, shown={"noise_std": estimate.noise_std().mean()})

    return loss


def relative_squared_error(estimate: Estimate) -> Tensor:
    """Squared error of the mean over each patch's own average total variance (L1), (b, h, w).

    So an image with a tenth of the noise neither drowns nor, as under a likelihood, drowns the others.
    """
    size = channel_variance(estimate.total_var.detach()).mean((1, 2, 3), keepdim=True)
    return ((estimate.noisy - estimate.mean).square() / size).mean(1)


def fused_squared_error(estimate: Estimate) -> Tensor:
    """Squared error that an error of the mean leaves in the fused image, over the patch's noise variance (L2)."""
    share = fusion_share(estimate.noisy - estimate.mean, estimate.mean_var.detach(), estimate.noise_var.detach())
    size = channel_variance(estimate.noise_var.detach()).mean((1, 2, 3), keepdim=True)
    return (share.square() / size).mean(1)


def envelope_loss(total_var: Variance, noise_var: Variance, quantile: float) -> Tensor:
    """Pinball loss whose minimum is the lower `quantile` of the total variance, in every direction of colour (L3).

    Prediction variance is nearly zero somewhere - on walls, skies, and nearly everywhere for differences of
    channels - so there the total variance is the noise's.

    Returns:
        (b, h, w), the mean over the axes of colour and their differences.
    """
    excess = _along_directions(total_var).log() - _along_directions(noise_var).log()
    return torch.maximum(quantile * excess, (quantile - 1) * excess).mean(1)


def _along_directions(variance: Variance) -> Features:
    """Quadratic form a' V a for each channel's axis a and each normalised difference of two axes, (b, d, h, w)."""
    channels = variance.shape[1]
    if channels == 1:
        return channel_variance(variance)
    matrix = as_covariance(variance)
    own = channel_variance(matrix)
    pairs = [(i, j) for i in range(channels) for j in range(i)]
    differences = [(own[:, i] + own[:, j]) / 2 - matrix[:, i, j] for i, j in pairs]
    return torch.cat([own, torch.stack(differences, 1)], 1)


def _average(values: Tensor, valid: Tensor) -> Scalar:
    return (values * valid[:, 0]).sum() / valid.sum()


def held_out_nll(model: BlindSpotModel, images: Sequence[Image], measurements: Sequence[Tensor]) -> float:
    """Marginal negative log-likelihood per pixel of held-out noisy images: the figure that picks the checkpoint."""
    device = next(model.parameters()).device
    values = []
    with torch.inference_mode():
        for image, measurement in zip(images, measurements, strict=False):
            estimate = model(image.to(device, memory_format=torch.channels_last), measurement.to(device))
            residual = estimate.noisy - estimate.mean
            values.append(marginal_nll(residual, estimate.mean_var, estimate.noise_var).mean())
    return float(torch.stack(values).mean())
