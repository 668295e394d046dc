"""Show dbsn on four photographs with strong noise: `make demo` and `make demo-train`.

`make demo` denoises them with the built-in models. `make demo-train` then trains on the four noisy files. It begins
with the weights of a built-in model. The photographs come with scikit-image. Each has one fixed realisation of noise.

Usage: python benchmarks/demo.py FOLDER [--train] [--steps 300]
FOLDER then holds demo.png or demo_train.png: before, after, uncertainty (or built-in model), and truth, with the PSNR.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageDraw

from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.evaluation.metrics import psnr
from dbsn.intensity import from_pixels
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise

PHOTOGRAPHS = {"astronaut": "hg:40,15", "chelsea": "awgn:40", "coffee": "hg:40,15", "rocket": "awgn:25"}
"""Each photograph and its noise, of 255."""
SIDE = 256
TRUTH = "truth (never used)"


def dbsn(*arguments: object) -> None:
    """Run a dbsn command as a person would, and show what it prints."""
    print("$ dbsn", *arguments, flush=True)
    subprocess.run([sys.executable, "-m", "dbsn", *map(str, arguments)], check=True)


def make_photographs(folder: Path) -> None:
    """Write the clean photographs as PNG and the noisy ones as float TIFF."""
    for kind in ("clean", "noisy"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index, (name, noise) in enumerate(PHOTOGRAPHS.items()):
        clean = getattr(skimage.data, name)()[..., :3]
        Image.fromarray(clean).save(folder / "clean" / f"{name}.png")
        noisy = synthetic_noise(clean, parse_noise(noise), seed=0, index=index).noisy
        tifffile.imwrite(folder / "noisy" / f"{name}.tif", noisy)


def read(folder: Path, kind: str, name: str) -> np.ndarray:
    """Intensities (h, w, 3) of one picture of the demo."""
    return read_image(folder / kind / f"{name}.{'png' if kind == 'clean' else 'tif'}").pixels


def compare(folder: Path, kinds: dict[str, str], path: Path) -> None:
    """Print the PSNR of each photograph, and write a picture with a row for each.

    Args:
        folder: Of the demo.
        kinds: Sub-folders to show from left to right, each with its title; the uncertainty is "NAME_std".
        path: The picture to write.
    """
    rows, labels, figures = [], list[str](), list[list[float]]()
    for name in PHOTOGRAPHS:
        clean, panels, line = read(folder, "clean", name), [], []
        top, left = (max(side - SIDE, 0) // 2 for side in clean.shape[:2])
        window = (slice(top, top + SIDE), slice(left, left + SIDE))
        for kind, title in kinds.items():
            is_std = kind.endswith("_std")
            pixels = read(folder, kind.removesuffix("_std"), f"{name}_std" if is_std else name)
            if is_std:
                pixels = np.repeat(pixels.mean(2, keepdims=True) / np.quantile(pixels, 0.995), 3, 2)
            elif kind != "clean":
                line.append(psnr(pixels.clip(0, 1), clean))
                title = f"{title}, {line[-1]:.1f} dB"
            panels.append(pixels[window])
            labels.append(title)
        rows.append(np.concatenate(panels, 1))
        figures.append(line)
        print(f"{name:10}", "  ".join(f"{value:5.2f} dB" for value in line))
    titles = [title for kind, title in kinds.items() if kind != "clean" and not kind.endswith("_std")]
    means = ", ".join(f"{title} {mean:.2f} dB" for title, mean in zip(titles, np.mean(figures, 0), strict=True))
    print(f"mean PSNR: {means}")
    image = Image.fromarray(from_pixels(np.concatenate(rows).clip(0, 1), np.dtype(np.uint8)))
    draw = ImageDraw.Draw(image)
    for number, label in enumerate(labels):
        row, column = divmod(number, len(kinds))
        at = (column * SIDE + 8, row * SIDE + 6)
        draw.text(at, label, fill="white", stroke_width=2, stroke_fill="black", font_size=15)
    image.save(path)
    print(f"picture: {path}")


def train(folder: Path, steps: int) -> None:
    """Train on the noisy photographs, and compare with the model that the training began with."""
    noisy, run = folder / "noisy", folder / "run"
    start = ("--resume",) if (run / "config.json").exists() else (noisy, "--clean", "none")
    dbsn("train", *start, "--steps", steps, "-o", run)
    for model, kind in (("photo", "builtin"), (run / "model.safetensors", "trained")):
        dbsn("denoise", noisy, "-m", model, "--method", "posterior", "-o", folder / kind, "--overwrite", "-q")
    kinds = {"noisy": "noisy", "builtin": "built-in blind-spot model", "trained": "trained on these", "clean": TRUTH}
    compare(folder, kinds, folder / "demo_train.png")
    print("both are blind-spot models; `make demo` shows a built-in student, which learned from clean photographs, too")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--train", action="store_true")
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    folder, began = arguments.folder, time.monotonic()
    make_photographs(folder)
    if arguments.train:
        train(folder, arguments.steps)
    else:
        dbsn("denoise", folder / "noisy", "-o", folder / "denoised", "--save-std", "--overwrite")
        kinds = {"noisy": "noisy", "denoised": "denoised", "denoised_std": "uncertainty", "clean": TRUTH}
        compare(folder, kinds, folder / "demo.png")
    print(f"{time.monotonic() - began:.0f} seconds")


if __name__ == "__main__":
    main()
