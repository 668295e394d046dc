"""Check `dbsn inspect` on known noise: real sets, and synthetic noise on cbsd68 with or without JPEG.

Usage: python -m benchmarks.quality.inspect_sets [--data DIR]
It prints one line for each set: independent or not, the form of the noise, and the measured figures.
"""

import argparse
import io
from pathlib import Path

import numpy as np
from PIL import Image

from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import from_pixels
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise
from dbsn.noise.inspection import inspect_noise

REAL = (
    "real_sidd_small/noisy",
    "real_w2s/noisy",
    "real_fmd/Confocal_FISH_3.png",
    "real_fmd/WideField_BPAE_raw_rgb_new1.png",
    "real_cc15/noisy",
)
SYNTHETIC = ("awgn:10", "awgn:25", "awgn:50", "hg:40,10", "pg:2,3", "mg:75")


def as_recorded(path: Path) -> np.ndarray:
    picture = read_image(path)
    return from_pixels(picture.pixels, picture.dtype)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(from_pixels(image.clip(0, 1), np.dtype(np.uint8))).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    data = parser.parse_args().data
    sets = {name: [as_recorded(path) for path in find_images([data / name])] for name in REAL}
    clean = [read_image(path).pixels for path in find_images([data / "cbsd68"])]
    for spec in SYNTHETIC:
        noise = parse_noise(spec)
        sets[spec] = [synthetic_noise(image, noise, seed=0, index=i).noisy for i, image in enumerate(clean)]
    for quality in (95, 75):
        sets[f"awgn:25, JPEG {quality}"] = [compressed(image, quality) for image in sets["awgn:25"]]
    print("set | suits | form | levels (of 255) | between neighbours | pixels | compressed")
    for name, images in sets.items():
        found = inspect_noise(images)
        low, middle, high = np.quantile(found.levels, (0, 0.5, 1)) * 255
        answer = ("no", "yes")
        figures = (f"{low:.1f} {middle:.1f} {high:.1f}", f"{found.neighbours:.2f}", str(found.reach))
        print(name, answer[found.suits], found.family, *figures, answer[found.is_compressed], sep=" | ", flush=True)


if __name__ == "__main__":
    main()
