"""Measure how much light a result keeps at 0.1 to 100 photons a pixel, smooth and sparse, student and posterior.

Usage: python -m benchmarks.robustness.counts [--models gray,MODEL] [--train-steps 300] [--off] [--figure FILE.svg]
It prints the bias of the mean, that of the dark half, the share of regions of 32 x 32 pixels that are off by more than
5 % and twice their own noise, and the error in percent of the mean. `--off` leaves light as the denoiser gives it.
`--train-steps` also trains a model on counts, for so many steps a stage. The figure needs matplotlib.
"""

import argparse
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import skimage.data
from scipy import ndimage

import dbsn.denoiser
from dbsn import Denoiser
from dbsn.types import Canvas, Pixels

PHOTONS = (0.1, 0.2, 0.5, 1, 3, 10, 30, 100)
SIDE, REGION = 256, 32
METHODS = ("student", "posterior")


def rate(mean: float, *, sparse: bool, seed: int = 0) -> np.ndarray:
    """Photons expected in each pixel of a smooth picture, or of spots on a dark ground."""
    draw = np.random.default_rng(seed)
    if sparse:
        expected = np.full((SIDE, SIDE), 0.1)
        expected[tuple(draw.integers(0, SIDE, (2, 60)))] += 120
        expected = ndimage.gaussian_filter(expected, 1.5)
    else:
        field = ndimage.gaussian_filter(draw.normal(size=(SIDE, SIDE)), 14)
        expected = 0.15 + (field - field.min()) / np.ptp(field)
    return expected * mean / expected.mean()


def figures(result: np.ndarray, counts: np.ndarray, expected: np.ndarray) -> tuple[float, float, float, float]:
    """Bias of the mean and of the dark half, regions that are off, and the error, all in percent."""
    dark = expected <= np.median(expected)
    biases = [100 * (result[part].mean() / counts[part].mean() - 1) for part in (..., dark)]
    regions = [
        each.reshape(SIDE // REGION, REGION, SIDE // REGION, REGION).mean((1, 3)) for each in (result, counts, expected)
    ]
    allowed = np.maximum(0.05 * regions[2], 2 * np.sqrt(regions[2]) / REGION)
    off = 100 * np.mean(np.abs(regions[0] - regions[1]) > allowed)
    return *biases, off, 100 * np.sqrt(np.mean((result - expected) ** 2)) / expected.mean()


def trained(steps: int) -> Denoiser:
    """A model that learned from smooth and sparse counts of 0.2 to 10 photons a pixel."""
    draw = np.random.default_rng(1)
    rates = [rate(mean, sparse=sparse, seed=7) for mean in (0.2, 1, 10) for sparse in (False, True)]
    noisy = [draw.poisson(each).astype(np.float32) for each in rates]
    return Denoiser.fit(noisy, [skimage.data.camera()], steps=steps)


def as_denoised(run: Callable[[Canvas], float | None], into: Canvas, image: Pixels) -> float | None:
    """The step without effect."""
    return run(into)


def rows(denoiser: Denoiser) -> Iterator[tuple[str, float, bool, tuple[float, ...]]]:
    """Method, photons a pixel, sparse, and the figures."""
    for method in METHODS:
        for sparse in (False, True):
            for mean in PHOTONS:
                expected = rate(mean, sparse=sparse)
                counts = np.random.default_rng(2).poisson(expected).astype(np.float32)
                result = denoiser.predict(counts, method=method)  # type: ignore[call-overload]
                yield method, mean, sparse, figures(result, counts, expected)


def draw(file: Path, drawn: dict[tuple[str, str, bool], list[float]]) -> None:
    """Bias of the dark half against photons a pixel."""
    import matplotlib as mpl

    mpl.use("Agg")
    mpl.rcParams.update({"svg.hashsalt": "counts", "svg.fonttype": "none"})
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(8, 3), sharey=True, layout="constrained")
    for axis, sparse in zip(axes, (False, True), strict=True):
        for method in METHODS:
            for when, style in (("before", ":"), ("after", "-")):
                if values := drawn.get((when, method, sparse)):
                    colour = {"student": "C0", "posterior": "C1"}[method]
                    axis.semilogx(PHOTONS, values, style, color=colour, label=f"{method}, {when}")
        axis.axhspan(-5, 5, color="0.9")
        axis.set(title="sparse" if sparse else "smooth", xlabel="photons a pixel", ylim=(-60, 20))
    axes[0].set_ylabel("bias of the dark half (%)")
    axes[1].legend(fontsize=8, loc="lower right")
    figure.savefig(file, metadata={"Date": None} if file.suffix == ".svg" else None)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default="gray")
    parser.add_argument("--train-steps", type=int, default=0)
    parser.add_argument("--off", action="store_true")
    parser.add_argument("--figure", type=Path)
    arguments = parser.parse_args()
    denoisers = {name: Denoiser.load(name) for name in arguments.models.split(",") if name}
    if arguments.train_steps:
        denoisers[f"{arguments.train_steps} steps"] = trained(arguments.train_steps)
    drawn: dict[tuple[str, str, bool], list[float]] = {}
    print("| when | model | method | picture | photons | mean (%) | dark half (%) | regions off (%) | error (%) |")
    print("|---|---|---|---|---|---|---|---|---|")
    for when in ("before",) if arguments.off else ("before", "after"):
        step = as_denoised if when == "before" else dbsn.denoiser.keeping_light
        with mock.patch.object(dbsn.denoiser, "keeping_light", step):
            for name, denoiser in denoisers.items():
                for method, mean, sparse, found in rows(denoiser):
                    kind = "sparse" if sparse else "smooth"
                    cells = " | ".join(f"{each:+.1f}" for each in found[:2])
                    print(
                        f"| {when} | {name} | {method} | {kind} | {mean} | {cells} | {found[2]:.0f} | {found[3]:.0f} |"
                    )
                    if name == next(iter(denoisers)):
                        drawn.setdefault((when, method, sparse), []).append(found[1])
    if arguments.figure:
        draw(arguments.figure, drawn)


if __name__ == "__main__":
    main()
