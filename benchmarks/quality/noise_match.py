"""Compare the learned noise with the real noise at each intensity: drawn noise beside noisy - clean.

The truth is used for measuring only. Usage: python -m benchmarks.quality.noise_match -m MODEL
(--noisy DIR --clean DIR [--affine] | --clean DIR --noise awgn:25 [--gray]) [--every N]
Prints, as JSON, the standard deviations (of 255) in 16 bins of clean intensity that hold 1 % of the pixels, their worst
ratio, and lag-1 correlation, skewness and excess kurtosis of both. --affine fits gain and offset of each clean image to
its noisy one first.
"""

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from scipy.stats import kurtosis, skew

from dbsn.denoiser import Denoiser
from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import from_pixels, to_gray
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise
from dbsn.noise.learned import NoiseModel
from dbsn.noise.recording import Recording
from dbsn.tensors import as_tensor

BINS = 16


def fitted(clean: np.ndarray, noisy: np.ndarray) -> np.ndarray:
    """Gain and offset of the clean image that bring it closest to the noisy one."""
    gain, offset = np.polyfit(clean.ravel().astype(float), noisy.ravel().astype(float), 1)
    return (gain * clean + offset).astype(np.float32)


def lag_one(noise: np.ndarray) -> float:
    """Correlation of neighbours, over rows and columns and channels."""
    centred = noise - noise.mean((0, 1))
    pairs = [(centred[1:], centred[:-1]), (centred[:, 1:], centred[:, :-1])]
    return float(np.mean([(a * b).mean() for a, b in pairs]) / (centred**2).mean())


def shape(parts: list[np.ndarray]) -> dict[str, float]:
    """Figures of a noise, averaged over images; each image is standardised by its own spread."""
    flat = [part.ravel() for part in parts]
    return {
        "lag1": float(np.mean([lag_one(part) for part in parts])),
        "skewness": float(np.mean([skew(part) for part in flat])),
        "kurtosis": float(np.mean([kurtosis(part) for part in flat])),
    }


def pair_flags(description: str | None) -> argparse.ArgumentParser:
    """Flags for a model and for the pairs to measure it on."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--noisy", type=Path)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--noise")
    parser.add_argument("--affine", action="store_true")
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    return parser


def pairs_of(arguments: argparse.Namespace) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Clean and noisy pixels (h, w, c), and the noisy samples as they were recorded."""
    for index, path in enumerate(find_images([arguments.clean])[:: arguments.every]):
        clean = read_image(path).pixels
        clean = to_gray(clean) if arguments.gray else clean
        if arguments.noise:
            noisy = synthetic_noise(clean, parse_noise(arguments.noise), seed=0, index=index).noisy
            recorded = noisy
        else:
            picture = read_image(arguments.noisy / path.name)
            noisy, recorded = picture.pixels, from_pixels(picture.pixels, picture.dtype)
        yield fitted(clean, noisy) if arguments.affine else clean, noisy, recorded


def main() -> None:
    arguments = pair_flags(__doc__).parse_args()
    denoiser = Denoiser.load(arguments.model, device="cpu")
    pairs = list(pairs_of(arguments))
    recording = Recording.of([recorded for _, _, recorded in pairs])
    real, drawn, intensity = [], [], []
    for index, (clean, noisy, _) in enumerate(pairs):
        noise = NoiseModel(denoiser.model, [denoiser.estimate(noisy).noise], recording)
        synthetic = noise.sample(as_tensor(clean), torch.Generator().manual_seed(index))[0].permute(1, 2, 0).numpy()
        real.append(noisy - clean)
        drawn.append(synthetic - clean)
        intensity.append(clean)
    level, ours, theirs = (np.concatenate([part.ravel() for part in parts]) for parts in (intensity, drawn, real))
    low, high = np.quantile(level, [1e-4, 1 - 1e-4])
    which = ((level - low) / (high - low) * BINS).astype(int).clip(0, BINS - 1)
    rows = []
    for number in range(BINS):
        here = which == number
        if here.mean() >= 0.01:
            a, b = (255 * noise[here].std() for noise in (ours, theirs))
            figures = {
                "intensity": 255 * level[here].mean(),
                "share": here.mean(),
                "ours": a,
                "real": b,
                "ratio": a / b,
            }
            rows.append({name: round(float(value), 3) for name, value in figures.items()})
    print(json.dumps({
        "model": str(arguments.model), "images": len(pairs), "recording": str(recording), "bins": rows,
        "worst": max(abs(row["ratio"] - 1) for row in rows), "ours": shape(drawn), "real": shape(real),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
