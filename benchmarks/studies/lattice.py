"""Measure the loss by the unseen pixels of a grid network, for the best linear denoiser, in decibels.

Usage: python -m benchmarks.studies.lattice [--data DIR] [--spacings 2 3 4 5 6]
It takes patches of 19 x 19 pixels of clean_bsds in gray, in 72 classes by contrast and direction of their middle. For
each class it computes the linear estimate of the middle pixel with the least error. White noise is 15, 25 and 50 of
255. One estimate uses all noisy pixels. The other omits the other pixels of the same grid phase, as a blind-spot
network with fusion on a grid of spacing s does (math.md, G1). A linear estimate is not a network, but the difference
shows the value of the unseen pixels. D-BSN's two branches together omit those of a grid of 6.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from dbsn.intensity import to_gray
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image

SIDE, MIDDLE = 19, slice(6, 13)
IMAGES, PATCHES = 72, 600
CONTRASTS, DIRECTIONS = 8, 8
LEAST = 300
"""Patches of a class, for a covariance."""


def patches(folder: Path) -> np.ndarray:
    """Random patches (n, side, side) of evenly chosen images, turned and flipped at random, of 255."""
    random, files = np.random.default_rng(0), find_images([folder])
    found = []
    for number in range(IMAGES):
        image = 255 * to_gray(read_image(files[number * len(files) // IMAGES]).pixels)[..., 0]
        for _ in range(PATCHES):
            top, left = (random.integers(0, side - SIDE + 1) for side in image.shape)
            patch = image[top : top + SIDE, left : left + SIDE]
            turned = np.rot90(patch, random.integers(0, 4))
            found.append(turned.T if random.integers(0, 2) else turned)
    return np.stack(found).astype(np.float64)


def classes(every: np.ndarray) -> np.ndarray:
    """The class of each patch, by the contrast of its middle and the direction of its edges, if any."""
    middle = every[:, MIDDLE, MIDDLE]
    contrast = middle.var((1, 2))
    quantiles = np.quantile(contrast, np.linspace(0, 1, CONTRASTS + 1)[1:-1])
    across, down = np.diff(middle, axis=2)[:, :-1], np.diff(middle, axis=1)[:, :, :-1]
    xx, yy, xy = ((a * b).sum((1, 2)) for a, b in ((across, across), (down, down), (across, down)))
    clear = np.hypot(xx - yy, 2 * xy) > 0.35 * (xx + yy)
    angle = np.mod(np.arctan2(2 * xy, xx - yy), 2 * np.pi) / (2 * np.pi)
    direction = np.where(clear, (angle * DIRECTIONS).astype(int) % DIRECTIONS, DIRECTIONS)
    return np.searchsorted(quantiles, contrast) * (DIRECTIONS + 1) + direction


def covariances(every: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """The number of patches in each class, and the covariance of their pixels."""
    kinds = classes(every)
    for kind in np.unique(kinds):
        members = every[kinds == kind].reshape(-1, SIDE**2)
        if len(members) >= LEAST:
            yield len(members), np.cov(members, rowvar=False)


def error(known: list[tuple[int, np.ndarray]], seen: np.ndarray, level: float) -> float:
    """Mean squared error of the middle pixel's best linear estimate from the noisy pixels seen."""
    places, middle = np.flatnonzero(seen), SIDE**2 // 2
    total = 0.0
    for count, covariance in known:
        noisy = covariance[np.ix_(places, places)] + level**2 * np.eye(len(places))
        shared = covariance[places, middle]
        total += count * (covariance[middle, middle] - shared @ np.linalg.solve(noisy, shared))
    return total / sum(count for count, _ in known)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--spacings", type=int, nargs="*", default=[2, 3, 4, 5, 6])
    arguments = parser.parse_args()
    known = list(covariances(patches(arguments.data / "clean_bsds")))
    rows, columns = np.indices((SIDE, SIDE)) - SIDE // 2
    print("| white noise | all pixels | " + " | ".join(f"grid of {s}" for s in arguments.spacings) + " |")
    print("|---" * (2 + len(arguments.spacings)) + "|")
    for level in (15, 25, 50):
        whole = error(known, np.ones((SIDE, SIDE), bool), level)
        lost = []
        for spacing in arguments.spacings:
            own_phase = (rows % spacing == 0) & (columns % spacing == 0)
            seen = ~own_phase | ((rows == 0) & (columns == 0))
            lost.append(10 * np.log10(error(known, seen, level) / whole))
        print(f"| {level} | {10 * np.log10(255**2 / whole):.2f} dB | " + " | ".join(f"-{x:.3f}" for x in lost) + " |")


if __name__ == "__main__":
    main()
