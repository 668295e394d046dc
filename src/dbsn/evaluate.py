"""Measure a model against clean images: real pairs, or clean images with one fixed noise realisation each.

`evaluate` yields an image at a time, `summarise` averages; what was compared and how is part of the figures
(tests/e2e/test_shell.py).
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from dbsn.images import to_pixels
from dbsn.infer import DEFAULT_TILE, MEAN, predict
from dbsn.likelihood import channel_variance
from dbsn.metrics import Protocol, prepare, psnr, ssim
from dbsn.model import BlindSpotModel
from dbsn.noise import Noise
from dbsn.patches import as_tensor


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A noisy image and its truth, both (h, w, c) intensities."""

    name: str
    noisy: np.ndarray
    clean: np.ndarray
    noise: Noise | None = None
    """The true noise, where it is known."""


@dataclass(frozen=True, kw_only=True)
class Score:
    """One image's figures: PSNR in dB, noise levels in intensities."""

    name: str
    psnr: float
    ssim: float
    mean_psnr: float
    """Of the blind mean, before fusion."""
    noisy_psnr: float
    noise_std: float
    """Estimated root-mean-square noise."""
    true_noise_std: float | None
    oracle_psnr: float | None
    """Of the blind mean fused under the true noise, where it is known: what a perfect noise estimate would give."""
    seconds: float


def to_gray(pixels: np.ndarray) -> np.ndarray:
    """Luma of Rec. 601 of an image (h, w, 3), as (h, w, 1); a gray image as it is."""
    if pixels.shape[2] == 1:
        return pixels
    luma: np.ndarray = (pixels @ np.array([0.299, 0.587, 0.114], np.float32))[..., None]
    return luma


def synthetic_noise(clean: np.ndarray, noise: Noise, *, seed: int, index: int) -> Pair:
    """The one noisy realisation of image number `index` under this seed; neither clipped nor rounded."""
    state = int(np.random.SeedSequence([seed, index]).generate_state(1, np.uint64)[0]) % 2**63
    tensor = as_tensor(clean)
    noisy = noise.sample(tensor, torch.Generator().manual_seed(state))
    return Pair(name=str(index), noisy=noisy[0].permute(1, 2, 0).numpy(), clean=to_pixels(clean), noise=noise)


def true_noise_std(pair: Pair) -> float | None:
    """Root-mean-square of the true noise, where it is known."""
    if pair.noise is None:
        return None
    return float(channel_variance(pair.noise.variance(as_tensor(pair.clean))).mean().sqrt())


def evaluate(
    model: BlindSpotModel,
    pairs: Iterable[Pair],
    *,
    protocol: Protocol = "float",
    tile: int = DEFAULT_TILE,
    ensemble: bool = False,
    bf16: bool = False,
) -> Iterator[Score]:
    """Score the model on each pair, in order.

    Raises:
        ValueError: A pair's channels are not the model's; names the pair.
    """
    for pair in pairs:
        began = time.perf_counter()
        try:
            estimate = predict(
                model, pair.noisy, tile=tile, ensemble=ensemble, bf16=bf16, extras=MEAN, known_noise=pair.noise
            )
        except ValueError as error:
            raise ValueError(f"{pair.name}: {error}") from None
        seconds = time.perf_counter() - began
        assert estimate.mean is not None
        oracle = estimate.under_known_noise
        denoised, mean = (prepare(image, pair.clean, protocol) for image in (estimate.denoised, estimate.mean))
        # the paper's rule: the noisy input is not clamped
        noisy = prepare(pair.noisy, pair.clean, protocol) if protocol != "float" else pair.noisy
        yield Score(
            name=pair.name,
            psnr=psnr(denoised, pair.clean),
            ssim=ssim(denoised, pair.clean),
            mean_psnr=psnr(mean, pair.clean),
            noisy_psnr=psnr(noisy, pair.clean),
            noise_std=estimate.noise_level,
            true_noise_std=true_noise_std(pair),
            oracle_psnr=None if oracle is None else psnr(prepare(oracle, pair.clean, protocol), pair.clean),
            seconds=seconds,
        )


def summarise(scores: Sequence[Score], protocol: Protocol) -> dict[str, float | int | str | None]:
    """Means over images (PSNR: of the images' decibels), with the protocol they belong to; None if not finite."""

    def mean(values: Iterable[float]) -> float | None:
        average = float(np.mean(list(values)))
        return average if np.isfinite(average) else None

    summary: dict[str, float | int | str | None] = {
        "psnr": mean(score.psnr for score in scores),
        "ssim": mean(score.ssim for score in scores),
        "mean_psnr": mean(score.mean_psnr for score in scores),
        "noisy_psnr": mean(score.noisy_psnr for score in scores),
        "noise_std_255": mean(255 * score.noise_std for score in scores),
        "images": len(scores),
        "protocol": protocol,
        "seconds": sum(score.seconds for score in scores),
    }
    levels = [score.true_noise_std for score in scores if score.true_noise_std is not None]
    oracles = [score.oracle_psnr for score in scores if score.oracle_psnr is not None]
    if levels and oracles:
        summary |= {"true_noise_std_255": mean(255 * level for level in levels), "oracle_psnr": mean(oracles)}
    return summary
