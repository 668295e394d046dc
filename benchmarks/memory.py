"""Peak memory and time of `dbsn denoise` on one large colour photograph or a TIFF stack, as whole-process figures.

Usage: python benchmarks/memory.py [--megapixels 50 | --pages 1000] [--network grid-tiny]
Pages are gray, 256 x 256, 16 bit.
"""

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from dbsn.checkpoint import Saved, save_model
from dbsn.config import NETWORKS, ModelConfig
from dbsn.model import BlindSpotModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=50.0)
    parser.add_argument("--pages", type=int, help="a stack of so many pages instead of a photograph")
    parser.add_argument("--network", default="grid-tiny")
    arguments = parser.parse_args()
    width = round((arguments.megapixels * 1e6 * 1.5) ** 0.5)
    height = round(arguments.megapixels * 1e6 / width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        channels = 1 if arguments.pages else 3
        model = BlindSpotModel(ModelConfig(channels=channels, network=NETWORKS[arguments.network]))
        save_model(folder / "m", Saved(model=model))
        generator = np.random.default_rng(0)
        if arguments.pages:
            source, result, height, width = folder / "stack.tif", folder / "out.tif", 256 * arguments.pages, 256
            with tifffile.TiffWriter(source) as writer:
                for _ in range(arguments.pages):
                    writer.write(generator.integers(0, 65536, (256, 256), np.uint16), metadata=None)
        else:
            source, result = folder / "photo.jpg", folder / "out.jpg"
            Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(source, quality=90)
        began = time.perf_counter()
        command = ["denoise", source, "-m", folder / "m", "-o", result]
        subprocess.run([sys.executable, "-m", "dbsn", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(json.dumps({"megapixels": width * height / 1e6, "pages": arguments.pages or 1, "network": arguments.network,
                      "peak_gib": round(peak, 2), "seconds": round(seconds, 1)}))  # fmt: skip


if __name__ == "__main__":
    main()
