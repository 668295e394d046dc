"""Stage 1: learning from noisy images alone.

Wu et al. 2020, sec. 3.2; math.md, L1-L5. If the truth is known, stage 1 can learn from it, too (L6). Such a model gives
initial weights for noise whose truth is not known.

A loss is a function from (model, batch, share of the budget spent) to `Losses`. The training loop minimises the sum of
their terms. The split of the residual's variance between prediction and noise decides the quality of all results. By
default it follows the lower envelope of the total variance, see docs/lab.
"""

from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dbsn.config import MODEL, ModelConfig, TrainConfig
from dbsn.devices import MEMORY_FORMAT
from dbsn.inference.lattices import lattices
from dbsn.intensity import intensity_range, to_pixels
from dbsn.likelihood import (
    channel_variance,
    constrained_nll,
    fusion_share,
    gaussian_nll,
    log_volume,
    marginal_nll,
    profile_nll,
    total_variance,
)
from dbsn.models.blindspot import SETTLED, BlindSpotModel, Estimate
from dbsn.models.calibration import leaked
from dbsn.store.model_file import ModelFile, save_model
from dbsn.tensors import as_tensor
from dbsn.training.loop import Losses, LossOf, Progress, Task, TrainingContext, train
from dbsn.training.patches import Batch, ImageSet, Patches
from dbsn.types import Image, Scalar

_SPLIT = ("flat", "noise", "prediction")
_ANCHOR = 0.03  # weight of L1 beside L2: with L2 alone, a mean that the fused image hardly uses could drift
_PROBED = 4  # one in this many patches is disturbed
_HELD_OUT_SIDE = 240
_SAME_MEAN = 0.25  # largest difference of a noisy image's mean from the truth's, in half-widths of the intensity range
_HELD_OUT_IMAGES = 8


def learn(
    images: Sequence[np.ndarray],
    model_config: ModelConfig,
    config: TrainConfig,
    context: TrainingContext,
    *,
    truth: Sequence[np.ndarray] = (),
    init_from: BlindSpotModel | None = None,
) -> Iterator[Progress]:
    """Train a model on noisy images (h, w, c) of any sizes and one data type.

    It yields the progress of `train`. The best model is written to the run as `model.safetensors`. It starts with the
    weights of `init_from`, if given, and may end halfway between these and its own (L8). With `truth`, images of the
    same order and shapes, it learns from the truth, too (L6).

    Raises:
        ValueError: There is no image, their channels differ from the model's, or the truth does not fit the images.
    """
    if not images:
        raise ValueError("noisy images: got none, expected at least one. Name noisy images.")
    offset, scale = intensity_range(images)
    check_truth(truth, images)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        model = BlindSpotModel(replace(model_config, offset=offset, scale=scale))
    stride = model_config.stride
    parts, truths = ([part for image in kind for _, part in lattices(image, stride)] for kind in (images, truth))
    known = ImageSet.of(parts, model.measure, truths)
    model.noise_estimator.expect(known.measurements)
    initial_weights = {}
    if init_from:
        model.init_from(init_from)
        network = {name: weight for name, weight in model.named_parameters() if name.startswith("network.")}
        initial_weights = {name: weight.detach().clone() for name, weight in network.items()}
    learned, held = known.hold_out(siblings=stride**2)
    patches = Patches(learned, config, multiple=model.multiple, spacing=model.network.spacing, fill=offset)
    crops = held_out_crops(held, config.seed)

    def save(average: BlindSpotModel, story: dict[str, Any]) -> None:
        save_model(context.run / MODEL, ModelFile(model=average, about=context.about | story))

    task = Task(
        is_pretrained=init_from is not None,
        model=model,
        groups=model.parameter_groups(),
        loss_of=self_supervised_loss(config),
        batches=patches,
        validate=lambda average: held_out_nll(average, crops),
        save=save,
        initial_weights=initial_weights,
    )
    return train(task, config, context)


def check_truth(truth: Sequence[np.ndarray], images: Sequence[np.ndarray]) -> None:
    """Check that `truth`, which may be empty, fits the noisy images.

    Raises:
        ValueError: It cannot be the truth of these images.
    """
    if not truth:
        return
    if [image.shape for image in truth] != [image.shape for image in images]:
        expected = (
            f"got {len(truth)} images, expected the {len(images)} noisy ones without noise, in their order and shape"
        )
        raise ValueError(
            f"--truth: the images do not fit (got {len(truth)} images, {expected}). "
            "Name the files that belong to the noisy ones."
        )
    clean, noisy = (np.array([to_pixels(image[::4, ::4]).mean() for image in kind]) for kind in (truth, images))
    worst = int(np.abs(clean - noisy).argmax())
    if abs(clean[worst] - noisy[worst]) > _SAME_MEAN * intensity_range(images)[1]:
        means = f"got mean {clean[worst]:.4g}, expected about {noisy[worst]:.4g} as in the noisy one"
        raise ValueError(f"--truth: image {worst + 1} does not fit ({means}). Use the same scene in the same unit.")


def self_supervised_loss(config: TrainConfig) -> LossOf[BlindSpotModel, Batch]:
    """Make the loss of stage 1 for a configuration."""

    def loss(model: BlindSpotModel, batch: Batch, share: float) -> Losses:
        estimate = model(batch.noisy, batch.measurement, batch.phase)
        valid = batch.predicted
        staged = share < max(config.staged, SETTLED)
        truth = None if batch.truth is None else batch.of_phase(batch.truth)
        observed = (estimate.noisy - estimate.mean).detach()
        residual = (estimate.noisy if truth is None else truth) - estimate.mean
        terms = {"total": _average(gaussian_nll(observed, estimate.total_var), valid)}
        if staged or config.mean == "l2":
            terms["mean"] = _average(relative_squared_error(residual, estimate), valid)
        elif config.mean == "fusion":
            held = _ANCHOR * relative_squared_error(residual, estimate)
            terms["mean"] = _average(fused_squared_error(residual, estimate) + held, valid)
        learns_mean = residual if not staged and config.mean == "likelihood" else residual.detach()
        if config.loss == "envelope" or truth is not None:
            terms["flat"] = _average(flat_loss(estimate, config.quantile), valid)
        if truth is not None:
            terms["noise"] = _average(gaussian_nll(estimate.noisy - truth, estimate.noise_var), valid)
            terms["prediction"] = _average(gaussian_nll(learns_mean, model.at_least_rounding(estimate.mean_var)), valid)
        elif config.loss == "envelope":
            terms["noise"] = noise_loss(model, batch, estimate)
            terms["prediction"] = _average(
                marginal_nll(learns_mean, estimate.mean_var, estimate.noise_var.detach()), valid
            )
        else:
            nll = constrained_nll if config.loss == "constrained" else marginal_nll
            terms["prediction"] = _average(nll(learns_mean, estimate.mean_var, estimate.noise_var), valid)
        if share < SETTLED:
            # a zero gradient, because several processes would wait for a missing one
            terms |= {name: terms[name].detach() + 0.0 * terms[name] for name in _SPLIT if name in terms}
        with torch.no_grad():
            shown = {"noise_std": _average(estimate.noise_std().mean(1), valid)}
            if share >= SETTLED:  # before that it has not been trained
                shown["denoised_std"] = _average(estimate.fused()[1].sqrt().mean(1), valid)
        return Losses(terms=terms, shown=shown)

    return loss


def relative_squared_error(residual: Image, estimate: Estimate) -> Tensor:
    """Squared error of the mean over each patch's mean total variance (L1), (b, h, w).

    So an image with a tenth of the noise counts as much as the others. Under a likelihood it would outweigh them.
    """
    size = channel_variance(estimate.total_var.detach()).mean((1, 2, 3), keepdim=True)
    return (residual.square() / size).mean(1)


def fused_squared_error(residual: Image, estimate: Estimate) -> Tensor:
    """Squared error in the fused image caused by the mean's error (L2).

    It is divided by the patch's noise variance.
    """
    share = fusion_share(residual, estimate.mean_var.detach(), estimate.noise_var.detach())
    size = channel_variance(estimate.noise_var.detach()).mean((1, 2, 3), keepdim=True)
    return (share.square() / size).mean(1)


def flat_loss(estimate: Estimate, quantile: float) -> Tensor:
    """Pinball loss (b, h, w) that trains `flat_below` (L3).

    It puts `flat_below` at the lower quantile of 1/2 log |Sigma| of the total variance.
    """
    excess = log_volume(estimate.total_var.detach()) - estimate.flat_below
    return torch.maximum(quantile * excess, (quantile - 1) * excess)


def flat_pixels(estimate: Estimate) -> Tensor:
    """1 for the flattest pixels of an image and intensity, else 0; (b, 1, h, w).

    Blind features decide, so the choice does not depend on the pixel's own noise. Therefore the mean square of the
    residual there is an unbiased estimate of the noise variance, even if the total variance is inexact.
    """
    return (log_volume(estimate.total_var) <= estimate.flat_below).detach().float().unsqueeze(1)


def noise_loss(model: BlindSpotModel, batch: Batch, estimate: Estimate) -> Scalar:
    """Negative log-likelihood of flat areas' residuals under the noise estimate (L4).

    The residual there is the pixel's noise plus the leak of its neighbours' noise. The leak is divided out.
    """
    flat = flat_pixels(estimate) * batch.predicted
    residual = (estimate.noisy - estimate.mean).detach() / (1 + leaked_share(model, batch, estimate, flat)).sqrt()
    return _average(gaussian_nll(residual, estimate.noise_var), flat)


@torch.no_grad()
def leaked_share(model: BlindSpotModel, batch: Batch, estimate: Estimate, flat: Tensor) -> Tensor:
    """Leak of each channel in flat areas: (1, c, 1, 1).

    It is measured by disturbing a part of the batch a little.
    """
    part = slice(0, max(1, batch.noisy.shape[0] // _PROBED))
    where = flat[part]
    some = Estimate(**{field.name: getattr(estimate, field.name)[part] for field in fields(estimate)})
    leak = leaked(lambda noisy: model(noisy, batch.measurement[part], batch.phase), some, batch.noisy[part], batch.seed)
    return (leak * where).sum((0, 2, 3), keepdim=True) / where.sum().clamp_min(1)


def _average(values: Tensor, valid: Tensor) -> Scalar:
    return (values * valid[:, 0]).sum() / valid.sum().clamp_min(1)


def held_out_crops(held: ImageSet, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Cut one random crop of each of some held-out images.

    Each comes with the measurement of its whole image.
    """
    random = np.random.default_rng(seed)
    chosen = random.permutation(len(held.images))[:_HELD_OUT_IMAGES]
    crops = []
    for index in chosen.tolist():
        image = held.images[index]
        top, left = (int(random.integers(max(side - _HELD_OUT_SIDE, 0) + 1)) for side in image.shape[:2])
        crop = as_tensor(image[top : top + _HELD_OUT_SIDE, left : left + _HELD_OUT_SIDE])
        crops.append((crop, held.measurements[index]))
    return crops


def held_out_nll(model: BlindSpotModel, crops: Sequence[tuple[Tensor, Tensor]]) -> float:
    """Negative log-likelihood per pixel of held-out noisy images (L7).

    It selects the best weights.
    """
    device = next(model.parameters()).device
    values = []
    with torch.inference_mode():
        for image, measurement in crops:
            estimate = model(image.to(device, memory_format=MEMORY_FORMAT), measurement.to(device))
            residual = estimate.noisy - estimate.mean
            values.append(profile_nll(residual, total_variance(estimate.mean_var, estimate.noise_var)))
    return float(torch.stack(values).mean())
