"""Make the pictures of the tutorials from photographs of scikit-image and generated micrographs.

Usage: python benchmarks/docs_pictures.py FOLDER [--minutes 2] [--pictures docs/tutorial]
It writes the example files of both tutorials below FOLDER, runs the commands that the tutorials show, and draws the
pictures from their results. `--data-only` writes the example files alone.
"""

import argparse
import subprocess
import sys
from pathlib import Path

import numpy as np
import skimage.data
import tifffile
from PIL import Image, ImageDraw
from scipy.ndimage import gaussian_filter

from dbsn.io.formats import read_image

SIDE = 256
FIELDS = 12
WIDTH = 272
"""Micrographs, their side in pixels, and the side of a panel in a picture."""


def dbsn(*arguments: object) -> str:
    """Run a dbsn command as a user would; print and return its output."""
    print("$ dbsn", *arguments, flush=True)
    command = [sys.executable, "-m", "dbsn", *map(str, arguments)]
    said = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout
    print(said, flush=True)
    return said


def make_photo(folder: Path) -> None:
    """A photograph with noise that rises with intensity, in 8 bits: photo.png, and its truth."""
    folder.mkdir(parents=True, exist_ok=True)
    clean = skimage.data.chelsea()
    generator = np.random.default_rng(0)
    std = np.hypot(0.12 * clean, 10)
    noisy = clean + std * generator.normal(size=clean.shape)
    Image.fromarray(clean).save(folder / "truth.png")
    Image.fromarray(np.rint(noisy.clip(0, 255)).astype(np.uint8)).save(folder / "photo.png")


def field(generator: np.random.Generator) -> np.ndarray:
    """One generated field: cells with fibres and bright spots, in photons a pixel."""
    y, x = np.mgrid[:SIDE, :SIDE]
    photons = np.full((SIDE, SIDE), 4.0)
    for _ in range(9):
        cy, cx = generator.uniform(0, SIDE, 2)
        ry, rx = generator.uniform(18, 40, 2)
        turn = generator.uniform(0, np.pi)
        u = (x - cx) * np.cos(turn) + (y - cy) * np.sin(turn)
        v = (y - cy) * np.cos(turn) - (x - cx) * np.sin(turn)
        inside = gaussian_filter(((u / rx) ** 2 + (v / ry) ** 2 < 1).astype(float), 2)
        fibres = gaussian_filter(generator.normal(size=photons.shape), (1.2, 6), mode="wrap")
        fibres = np.abs(fibres) / np.abs(fibres).max()
        photons += inside * (10 + 60 * fibres)
    for cy, cx in generator.uniform(0, SIDE, (60, 2)):
        photons += generator.uniform(20, 70) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * 1.6**2))
    return photons


def make_micrographs(folder: Path) -> None:
    """Write noisy fields as 16-bit TIFF in counts (Poisson and read noise), and their truths."""
    for kind in ("noisy", "truth"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(1)
    for number in range(FIELDS):
        photons = field(generator)
        counts = 2000 + 400 * generator.poisson(photons) + generator.normal(0, 600, photons.shape)
        for kind, image in (("noisy", counts), ("truth", 2000 + 400 * photons)):
            tifffile.imwrite(folder / kind / f"field{number:02}.tif", np.rint(image.clip(0, 65535)).astype(np.uint16))


def strip(path: Path, panels: list[tuple[str, np.ndarray]], *, quality: int = 82) -> None:
    """Panels side by side with a label each."""
    picture = Image.new("RGB", (WIDTH * len(panels), WIDTH))
    draw = ImageDraw.Draw(picture)
    for number, (label, pixels) in enumerate(panels):
        samples = np.rint(255 * pixels.clip(0, 1)).astype(np.uint8)
        samples = np.repeat(samples, 3, 2) if samples.shape[2] == 1 else samples
        picture.paste(Image.fromarray(samples).resize((WIDTH, WIDTH), Image.Resampling.LANCZOS), (number * WIDTH, 0))
        draw.text((number * WIDTH + 8, 6), label, "white", stroke_width=2, stroke_fill="black", font_size=16)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture.save(path, quality=quality)


def first_photo(folder: Path, pictures: Path) -> None:
    """Tutorial 1."""
    results = folder / "denoised"
    dbsn("denoise", folder / "photo.png", "-o", results, "--save-std", "--overwrite")
    window = (slice(20, 20 + WIDTH), slice(60, 60 + WIDTH))
    noisy, denoised, truth = (
        read_image(file).pixels[window] for file in (folder / "photo.png", results / "photo.png", folder / "truth.png")
    )
    std = tifffile.imread(results / "photo_std.tif")[window].mean(2, keepdims=True)
    doubt = std / np.quantile(std, 0.995)
    strip(
        pictures / "first-photo.jpg",
        [("photo.png", noisy), ("denoised/photo.png", denoised), ("uncertainty", doubt), ("truth", truth)],
    )
    strengths = []
    for strength in ("0.5", "1", "1.3"):
        out = folder / f"strength-{strength}"
        dbsn("denoise", folder / "photo.png", "-o", out, "--strength", strength, "--overwrite")
        strengths.append((f"--strength {strength}", read_image(out / "photo.png").pixels[window]))
    strip(pictures / "strength.jpg", [("photo.png", noisy), *strengths])


def microscope(folder: Path, pictures: Path, minutes: float) -> None:
    """Tutorial 2."""
    run = folder / "run"
    dbsn("inspect", folder / "noisy", "--picture", folder / "noise.png")
    Image.open(folder / "noise.png").convert("RGB").save(pictures / "noise.jpg", quality=82)
    begun = (run / "config.json").exists()
    start = ("--resume",) if begun else (folder / "noisy", "--clean", "none", "--minutes", minutes)
    dbsn("train", *start, "-o", run)
    for name, model in (("at-once", ()), ("learned", ("-m", run))):
        dbsn("denoise", folder / "noisy", *model, "-o", folder / name, "--overwrite")
    for model in ("gray", run):
        dbsn("evaluate", "-m", model, "--noisy", folder / "noisy", "--clean", folder / "truth", "--protocol", "affine")
    files = [folder / kind / "field03.tif" for kind in ("noisy", "at-once", "learned", "truth")]
    images = [read_image(file).pixels for file in files]
    black, white = np.quantile(images[-1], (0.001, 0.999))
    labels = ("noisy/field03.tif", "built-in model", "learned from noisy/", "truth (never used)")
    strip(
        pictures / "microscope.jpg",
        [(label, (image - black) / (white - black)) for label, image in zip(labels, images, strict=True)],
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--pictures", type=Path, default=Path("docs/tutorial"))
    parser.add_argument("--data-only", action="store_true")
    arguments = parser.parse_args()
    make_photo(arguments.folder / "photo")
    make_micrographs(arguments.folder / "micrographs")
    if not arguments.data_only:
        arguments.pictures.mkdir(parents=True, exist_ok=True)
        first_photo(arguments.folder / "photo", arguments.pictures)
        microscope(arguments.folder / "micrographs", arguments.pictures, arguments.minutes)


if __name__ == "__main__":
    main()
