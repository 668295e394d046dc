"""Check the uncertainty: shares of pixels whose true error is within one and two standard deviations.

For a Gaussian error they are 68.3 and 95.4 %. The truth is used for measuring only.
Usage: python -m benchmarks.quality.calibration -m MODEL
       (--noisy DIR --clean DIR [--affine] | --clean DIR --noise awgn:25) [--gray] [--every N]
       [--method student|posterior]
--affine fits gain and offset of each clean image to its noisy one first. Errors and uncertainty are also given as root
mean squares (of 255).
"""

import json

import numpy as np

from benchmarks.quality.noise_match import pair_flags, pairs_of
from dbsn.denoiser import Denoiser


def main() -> None:
    parser = pair_flags(__doc__)
    parser.add_argument("--method", choices=("student", "posterior"), default="posterior")
    arguments = parser.parse_args()
    denoiser = Denoiser.load(arguments.model)
    rows = []
    for clean, noisy, _ in pairs_of(arguments):
        denoised, std = denoiser.predict(noisy, return_std=True, method=arguments.method)
        error = abs(denoised - clean)
        rows.append([(error < std).mean(), (error < 2 * std).mean(), (error**2).mean(), (std**2).mean()])
    within, within_two, error, promised = np.mean(rows, 0)
    print(json.dumps({
        "model": str(arguments.model), "method": arguments.method, "images": len(rows),
        "within 1": within, "within 2": within_two,
        "spread of within 1": float(np.std([row[0] for row in rows])),
        "error_255": 255 * error**0.5, "promised_255": 255 * promised**0.5,
    }))  # fmt: skip


if __name__ == "__main__":
    main()
