"""Turn clean images into a folder of noisy ones: one fixed realisation each, float TIFF, neither clipped nor rounded.

Usage: python benchmarks/make_noisy.py CLEAN --noise awgn:25 -o NOISY [--gray] [--seed 0]
"""

import argparse
from pathlib import Path

import tifffile

from dbsn.evaluate import synthetic_noise, to_gray
from dbsn.images import find_images, read_image
from dbsn.noise import parse_noise


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("clean", type=Path, nargs="+")
    parser.add_argument("--noise", type=parse_noise, required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--gray", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    files = find_images(arguments.clean)
    for index, path in enumerate(files):
        clean = read_image(path).pixels
        clean = to_gray(clean) if arguments.gray else clean
        noisy = synthetic_noise(clean, arguments.noise, seed=arguments.seed, index=index).noisy
        tifffile.imwrite(arguments.output / f"{path.stem}.tif", noisy.squeeze(-1) if noisy.shape[2] == 1 else noisy)
    print(f"{len(files)} noisy images in {arguments.output}")


if __name__ == "__main__":
    main()
