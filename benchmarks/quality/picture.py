"""Draw noisy, blind mean, denoised, noise level and truth side by side, a row for each image, with PSNR.

If the model has a student, its result is shown, too. --nl-means adds non-local means of scikit-image
(benchmarks/quality/classical.py).
Usage: python -m benchmarks.quality.picture -m MODEL --noisy DIR --clean DIR -o PICTURE [--names A B ...]
       [--protocol affine] [--nl-means]
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.quality.classical import denoised
from dbsn.denoiser import Denoiser
from dbsn.evaluation.metrics import prepare, psnr
from dbsn.intensity import from_pixels
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image

SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", type=Path, required=True)
    parser.add_argument("--noisy", type=Path, required=True)
    parser.add_argument("--clean", type=Path, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--names", nargs="*", help="stems of the images; by default four, evenly spaced")
    parser.add_argument("--protocol", default="float")
    parser.add_argument("--nl-means", action="store_true")
    arguments = parser.parse_args()
    denoiser = Denoiser.load(arguments.model)
    noisy_files = {path.stem: path for path in find_images([arguments.noisy])}
    clean_files = {path.stem: path for path in find_images([arguments.clean])}
    stems = arguments.names or sorted(noisy_files)[:: max(1, len(noisy_files) // 4)][:4]
    rows, labels = [], []
    for stem in stems:
        noisy, clean = read_image(noisy_files[stem]).pixels, read_image(clean_files[stem]).pixels
        estimate = denoiser.estimate(noisy, extras=("mean", "noise_std"))
        assert estimate.mean is not None
        assert estimate.noise_std is not None
        results = {"noisy": noisy}
        if arguments.nl_means:
            results["non-local means"] = denoised("nl_means", noisy)
        results |= {"mean": estimate.mean, "posterior": estimate.denoised}
        if denoiser.student:
            results["student"] = denoiser.denoise(noisy, method="student")
        shown = {name: prepare(image, clean, arguments.protocol) for name, image in results.items()}
        level = estimate.noise_std / estimate.noise_std.max()
        window = tuple(slice((side - SIDE) // 2, (side + SIDE) // 2) if side > SIDE else slice(None)
                       for side in clean.shape[:2])  # fmt: skip
        rows.append(np.concatenate([panel[window] for panel in (*shown.values(), level, clean)], 1))
        labels.append([f"{name} {psnr(image, clean):.2f}" for name, image in shown.items()])
        labels[-1] += [f"noise, white = {255 * estimate.noise_std.max():.0f}", "truth"]
    picture = Image.fromarray(from_pixels(np.concatenate(rows), np.dtype(np.uint8)).squeeze()).convert("RGB")
    draw = ImageDraw.Draw(picture)
    width, height = rows[0].shape[1] // len(labels[0]), rows[0].shape[0]
    for row, captions_of_row in enumerate(labels):
        for column, text in enumerate(captions_of_row):
            at = (column * width + 4, row * height + 3)
            draw.text(at, text, fill="white", stroke_width=2, stroke_fill="black")
    picture.save(arguments.output)


if __name__ == "__main__":
    main()
