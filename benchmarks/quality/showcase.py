"""Make the picture at the top of the README: photographs of scikit-image with noise, and their results.

Usage: python -m benchmarks.quality.showcase [-o docs/showcase.jpg]
"""

import argparse
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image, ImageDraw

from dbsn.denoiser import Denoiser
from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.evaluation.metrics import psnr
from dbsn.intensity import from_pixels
from dbsn.noise.families import parse_noise
from dbsn.store.builtin import path_of

CROPS = {"chelsea": ("hg:40,15", 10, 60), "astronaut": ("awgn:40", 0, 110)}
"""Photograph, its noise, and where it is shown: top, left."""
SIDE = 288


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path("docs/showcase.jpg"))
    arguments = parser.parse_args()
    denoiser = Denoiser.load(path_of("photo"))
    rows, labels = [], list[str]()
    for index, (name, (noise, top, left)) in enumerate(CROPS.items()):
        pair = synthetic_noise(getattr(skimage.data, name)()[..., :3], parse_noise(noise), seed=0, index=index)
        denoised, std = denoiser.predict(pair.noisy, return_std=True)
        window = (slice(top, top + SIDE), slice(left, left + SIDE))
        doubt = np.repeat(std[window].mean(2, keepdims=True), 3, 2)
        rows.append([pair.noisy[window], denoised[window], doubt / np.quantile(doubt, 0.995), pair.clean[window]])
        labels += [f"noisy, {psnr(pair.noisy.clip(0, 1), pair.clean):.1f} dB"]
        labels += [f"dbsn denoise, {psnr(denoised.clip(0, 1), pair.clean):.1f} dB", "its uncertainty", "truth"]
    strip = np.concatenate([np.concatenate(row, 1) for row in rows])
    picture = Image.fromarray(from_pixels(strip.clip(0, 1), np.dtype(np.uint8)))
    draw = ImageDraw.Draw(picture)
    for number, label in enumerate(labels):
        row, column = divmod(number, 4)
        at = (column * SIDE + 8, row * SIDE + 6)
        draw.text(at, label, "white", stroke_width=2, stroke_fill="black", font_size=16)
    picture.save(arguments.output, quality=80)


if __name__ == "__main__":
    main()
