"""Measure scikit-image's non-local means and wavelet denoising, calibrated without truth.

`skimage.restoration.calibrate_denoiser` chooses each image's strength from the noisy image alone. The denoiser that it
returns predicts every pixel without looking at it. "plain" is the denoiser itself with the same strength.
Usage: python -m benchmarks.quality.classical --noisy DIR --clean DIR [--protocol float|affine] [--save DIR] [--every N]
"""

import argparse
import json
import time
import warnings
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from skimage.restoration import calibrate_denoiser, denoise_nl_means, denoise_wavelet, estimate_sigma

from dbsn.evaluation.metrics import prepare, psnr, ssim
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image, write_image

STRENGTHS = (0.4, 0.6, 0.8, 1.0, 1.3, 1.7)


def denoised(method: str, noisy: np.ndarray, *, plain: bool = True) -> np.ndarray:
    """Denoise one image (h, w, c); the strength is a multiple of skimage's own noise estimate."""
    image = noisy if noisy.shape[2] > 1 else noisy[..., 0]
    axis = -1 if noisy.shape[2] > 1 else None
    level = float(np.mean(estimate_sigma(image, channel_axis=axis)))
    levels = [strength * level for strength in STRENGTHS]
    if method == "nl_means":
        function = partial(denoise_nl_means, patch_size=5, patch_distance=6, fast_mode=True)
        parameters = {"h": levels}
    else:
        function = partial(denoise_wavelet, convert2ycbcr=axis is not None, rescale_sigma=True)
        parameters = {"sigma": levels}
    # as a parameter, or calibrate_denoiser does not know of it and interpolates across channels
    parameters["channel_axis"] = [axis]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        blind, (tested, losses) = calibrate_denoiser(image, function, parameters, extra_output=True)
        result = function(image, **tested[int(np.argmin(losses))]) if plain else blind(image)
    return np.asarray(result, np.float32).reshape(noisy.shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--noisy", type=Path, required=True)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("--protocol", default="float")
    parser.add_argument("--save", type=Path)
    parser.add_argument("--every", type=int, default=1, help="measure every n-th image only")
    arguments = parser.parse_args()
    cleans = {path.stem: path for path in find_images([arguments.clean])}
    for method, plain in product(("nl_means", "wavelet"), (True, False)):
        began, scores = time.perf_counter(), []
        for path in find_images([arguments.noisy])[:: arguments.every]:
            picture = read_image(path)
            clean = read_image(cleans[path.stem]).pixels
            result = denoised(method, picture.pixels, plain=plain)
            if arguments.save and plain:
                (arguments.save / method).mkdir(parents=True, exist_ok=True)
                write_image(arguments.save / method / path.name, result, picture)
            compared = prepare(result, clean, arguments.protocol)
            scores.append((psnr(compared, clean), ssim(compared, clean)))
        values = np.mean(scores, 0)
        seconds = time.perf_counter() - began
        print(json.dumps({"method": method, "plain": plain, "psnr": values[0], "ssim": values[1], "images": len(scores),
                          "protocol": arguments.protocol, "seconds": seconds}), flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
