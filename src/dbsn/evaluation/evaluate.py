"""Evaluation of a model on pairs of noisy and clean images.

Pairs are real, or clean images with one fixed noise realisation each. `evaluate` yields the figures of one image at a
time, `summarise` averages them. The figures include the protocol (tests/e2e/test_shell.py).
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from dbsn.evaluation.metrics import Protocol, prepare, psnr, ssim
from dbsn.evaluation.ranges import WHOLE, ValueRange
from dbsn.inference.blindspot import MEAN, predict
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.student import apply_student
from dbsn.intensity import to_pixels
from dbsn.likelihood import channel_variance
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.noise.families import Noise
from dbsn.tensors import as_tensor


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A noisy image and its truth, both (h, w, c) intensities."""

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    noise: Noise | None = None
    """The true noise, if it is known and `values` are all intensities from 0 to 1."""
    values: ValueRange = WHOLE
    """What the figures are relative to."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One image's figures: PSNR in dB, noise levels as shares of the pair's range."""

    name: str
    channels: int
    psnr: float
    ssim: float
    noisy_psnr: float
    seconds: float
    mean_psnr: float | None = None
    """PSNR of the blind mean, before fusion; None for a student."""
    noise_std: float | None = None
    """Estimated root-mean-square noise; None for a student."""
    true_noise_std: float | None = None
    oracle_psnr: float | None = None
    """PSNR of the blind mean fused under the true noise, if it is known.

    A perfect noise estimate would reach it.
    """


def synthetic_noise(clean: np.ndarray, noise: Noise, *, seed: int, index: int, values: ValueRange = WHOLE) -> Pair:
    """The one noisy realisation of image number `index` for this seed.

    It is neither clipped nor rounded. The noise is relative to the range of `values`.
    """
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]) % 2**63
    pixels = to_pixels(clean)
    sampled = noise.sample(as_tensor(values.shown(pixels)), torch.Generator().manual_seed(state))
    noisy = values.back(sampled[0].permute(1, 2, 0).numpy()).astype(np.float32, copy=False)
    known = noise if values == WHOLE or values.width == 1 else None
    return Pair(name=str(index), noisy=noisy, clean=pixels, noise=known, values=values)


def true_noise_std(pair: Pair) -> float | None:
    """Root mean square of the true noise, if it is known."""
    if pair.noise is None:
        return None
    return float(channel_variance(pair.noise.variance(as_tensor(pair.clean))).mean().sqrt())


def evaluate(
    denoiser: BlindSpotModel | Student,
    pairs: Iterable[Pair],
    *,
    protocol: Protocol = "float",
    options: InferenceOptions = USUAL,
) -> Iterator[Score]:
    """Score a blind-spot model's posterior mean, or a student, on each pair, in order.

    Raises:
        ValueError: The channels of a pair differ from the denoiser's; the message names the pair. A student for colour
            images also accepts gray ones.
    """
    for pair in pairs:
        began, estimate = time.perf_counter(), None
        try:
            if isinstance(denoiser, Student):
                denoised = apply_student(denoiser, pair.noisy, options=options)
            else:
                estimate = predict(denoiser, pair.noisy, options=options, extras=MEAN, known_noise=pair.noise)
                denoised = estimate.denoised
        except ValueError as error:
            raise ValueError(f"{pair.name}: {error}") from None
        seconds = time.perf_counter() - began

        clean, noisy, shown = pair.values.shown(pair.clean), pair.values.shown(pair.noisy), pair.values.shown

        def decibels(
            image: np.ndarray | None, clean: np.ndarray = clean, shown: Callable[[np.ndarray], np.ndarray] = shown
        ) -> float | None:
            return None if image is None else psnr(prepare(shown(image), clean, protocol), clean)

        compared = prepare(shown(denoised), clean, protocol)
        # the paper's rule: the noisy input is not clamped
        noisy = prepare(noisy, clean, protocol) if protocol != "float" else noisy
        score = Score(
            name=pair.name,
            channels=clean.shape[2],
            psnr=psnr(compared, clean),
            ssim=ssim(compared, clean),
            noisy_psnr=psnr(noisy, clean),
            seconds=seconds,
        )
        if estimate:
            score = replace(
                score,
                mean_psnr=decibels(estimate.mean),
                noise_std=estimate.noise_level / pair.values.width,
                true_noise_std=true_noise_std(pair),
                oracle_psnr=decibels(estimate.under_known_noise),
            )
        yield score


def summarise(scores: Sequence[Score], protocol: Protocol) -> dict[str, float | int | str | None]:
    """Average figures over images, with their protocol.

    The PSNR is a mean of the images' decibels. A mean that is not finite is None. Figures that a denoiser does not have
    are omitted.
    """
    names = {
        "psnr": "psnr",
        "ssim": "ssim",
        "mean_psnr": "mean_psnr",
        "noisy_psnr": "noisy_psnr",
        "noise_std": "noise_std_255",
        "true_noise_std": "true_noise_std_255",
        "oracle_psnr": "oracle_psnr",
    }
    summary: dict[str, float | int | str | None] = {}
    for name, shown in names.items():
        values = [value for score in scores if (value := getattr(score, name)) is not None]
        if values:
            average = float(np.mean(values)) * (255 if shown.endswith("_255") else 1)
            summary[shown] = average if np.isfinite(average) else None
    return summary | {"images": len(scores), "protocol": protocol, "seconds": sum(score.seconds for score in scores)}
