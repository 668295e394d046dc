"""`make demo`: learn from noisy photographs for three minutes, denoise them, show before / after / truth.

The photographs are those of scikit-image. Noise is added to each once. Training uses only the noisy files.
Usage: python benchmarks/demo.py FOLDER [--minutes 3]
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageDraw

from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import from_pixels
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise

PHOTOGRAPHS = ("astronaut", "chelsea", "coffee", "rocket")
NOISE = "hg:40,15"
CROP = 256


def dbsn(*arguments: object) -> str:
    """Run a dbsn command as a user would, and show its errors."""
    command = [sys.executable, "-m", "dbsn", *map(str, arguments)]
    print("$ dbsn", *arguments, flush=True)
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


def make_photographs(folder: Path) -> None:
    """Write clean photographs as PNG and their one noisy realisation as float TIFF."""
    for kind in ("clean", "noisy"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index, name in enumerate(PHOTOGRAPHS):
        clean = getattr(skimage.data, name)()[..., :3]
        Image.fromarray(clean).save(folder / "clean" / f"{name}.png")
        noisy = synthetic_noise(clean, parse_noise(NOISE), seed=0, index=index).noisy
        tifffile.imwrite(folder / "noisy" / f"{name}.tif", noisy)


def picture(folder: Path) -> Path:
    """Draw noisy, denoised and true photographs side by side, one row for each."""
    rows = []
    for name in PHOTOGRAPHS:
        files = (
            folder / "noisy" / f"{name}.tif",
            folder / "denoised" / f"{name}.tif",
            folder / "clean" / f"{name}.png",
        )
        panels = [read_image(file).pixels for file in files]
        top, left = (max(side - CROP, 0) // 2 for side in panels[0].shape[:2])
        rows.append(np.concatenate([panel[top : top + CROP, left : left + CROP] for panel in panels], 1))
    image = Image.fromarray(from_pixels(np.concatenate(rows), np.dtype(np.uint8)))
    draw = ImageDraw.Draw(image)
    for column, label in enumerate(("noisy", "denoised", "truth (never used)")):
        draw.text((column * CROP + 8, 6), label, fill="white", stroke_width=2, stroke_fill="black")
    path = folder / "before_after_truth.png"
    image.save(path)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=3.0)
    arguments = parser.parse_args()
    folder, run = arguments.folder, arguments.folder / "run"
    make_photographs(folder)
    start = (folder / "noisy", "--minutes", arguments.minutes, "--from", "scratch")  # from these images alone
    resume = ("--resume",) if (run / "config.json").exists() else start
    command = ["train", *resume, "-o", run]
    print("$ dbsn", *command, flush=True)
    subprocess.run([sys.executable, "-m", "dbsn", *map(str, command)], check=True)
    model = run / "model.safetensors"
    print(dbsn("denoise", folder / "noisy", "-m", model, "-o", folder / "denoised", "--overwrite"))
    scores = json.loads(
        dbsn("evaluate", "-m", model, "--noisy", folder / "noisy", "--clean", folder / "clean", "--json")
    )
    before, after, count = scores["noisy_psnr"], scores["psnr"], scores["images"]
    print(f"PSNR: noisy {before:.2f} dB, denoised {after:.2f} dB, mean of {count} photographs")
    print(f"picture: {picture(folder)}")


if __name__ == "__main__":
    main()
