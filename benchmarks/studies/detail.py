"""Measure the detail of clean images: a student learns little from sky, walls and blur.

Usage: python -m benchmarks.studies.detail FOLDER... [--shrink F] [--every N]
It subtracts the mean of 3 x 3 pixels from gray images shrunk by F. It prints the quantiles of the rest's root mean
square (of 255) over all squares of 48 x 48 pixels.
"""

import argparse
from pathlib import Path

import numpy as np
from torch.nn import functional

from dbsn.intensity import to_gray
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.tensors import as_tensor
from dbsn.training.pairs import resized_to

SQUARE, AROUND = 48, 3
QUANTILES = (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95)


def detail(pixels: np.ndarray, shrink: float) -> np.ndarray:
    """The detail of each square of one image (h, w, c); empty if it is too small."""
    gray = as_tensor(to_gray(pixels))
    if min(gray.shape[2:]) / shrink < SQUARE:
        return np.empty(0)
    if shrink > 1:
        gray = resized_to(gray, (int(gray.shape[2] / shrink), int(gray.shape[3] / shrink)))
    left = gray - functional.avg_pool2d(gray, AROUND, 1, AROUND // 2, count_include_pad=False)
    return 255 * functional.avg_pool2d(left.square(), SQUARE).sqrt().flatten().numpy()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--shrink", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.shrink < 1:
        parser.error(f"--shrink {arguments.shrink}: expected 1 or more")
    print("quantiles:", *QUANTILES)
    for folder in arguments.folders:
        files = find_images([folder])[:: arguments.every]
        found = np.concatenate([detail(read_image(file).pixels, arguments.shrink) for file in files])
        print(f"{folder.name}:", *(f"{value:.2f}" for value in np.quantile(found, QUANTILES)))


if __name__ == "__main__":
    main()
