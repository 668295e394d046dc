"""Is the uncertainty true? Share of pixels whose true error is within one and two of the standard deviations promised.

A Gaussian error has 68.3 and 95.4 %. The truth is used for measuring only.
Usage: python benchmarks/calibration.py -m MODEL (--noisy DIR --clean DIR [--affine] | --clean DIR --noise awgn:25)
       [--every N]
--affine fits gain and offset of each clean image to its noisy one first. Errors and promises are given as root mean
squares (of 255) too.
"""

import argparse
import json
from pathlib import Path

import numpy as np
from noise_match import fitted

from dbsn.denoiser import Denoiser
from dbsn.evaluate import synthetic_noise
from dbsn.images import find_images, read_image
from dbsn.noise import parse_noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--noisy", type=Path)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--noise")
    parser.add_argument("--affine", action="store_true")
    parser.add_argument("--every", type=int, default=1)
    arguments = parser.parse_args()
    denoiser = Denoiser.load(arguments.model)
    rows = []
    for index, path in enumerate(find_images([arguments.clean])[:: arguments.every]):
        clean = read_image(path).pixels
        if arguments.noise:
            noisy = synthetic_noise(clean, parse_noise(arguments.noise), seed=0, index=index).noisy
        else:
            noisy = read_image(arguments.noisy / path.name).pixels
            clean = fitted(clean, noisy) if arguments.affine else clean
        denoised, std = denoiser.predict(noisy, return_std=True)
        error = abs(denoised - clean)
        rows.append([(error < std).mean(), (error < 2 * std).mean(), (error**2).mean(), (std**2).mean()])
    within, within_two, error, promised = np.mean(rows, 0)
    print(json.dumps({
        "model": str(arguments.model), "images": len(rows), "within 1": within, "within 2": within_two,
        "spread of within 1": float(np.std([row[0] for row in rows])),
        "error_255": 255 * error**0.5, "promised_255": 255 * promised**0.5,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
