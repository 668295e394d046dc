"""Peak memory and time of `dbsn denoise` on one large colour photograph, as whole-process figures.

Usage: python benchmarks/memory.py [--megapixels 50] [--network grid-tiny]
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
from PIL import Image

from dbsn.checkpoint import Saved, save_model
from dbsn.config import NETWORKS, ModelConfig
from dbsn.model import BlindSpotModel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=50.0)
    parser.add_argument("--network", default="grid-tiny")
    arguments = parser.parse_args()
    width = round((arguments.megapixels * 1e6 * 1.5) ** 0.5)
    height = round(arguments.megapixels * 1e6 / width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = BlindSpotModel(ModelConfig(channels=3, network=NETWORKS[arguments.network]))
        save_model(folder / "m", Saved(model=model))
        pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "photo.jpg", quality=90)
        del pixels
        began = time.perf_counter()
        command = ["denoise", folder / "photo.jpg", "-m", folder / "m", "-o", folder / "out.jpg"]
        subprocess.run([sys.executable, "-m", "dbsn", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(json.dumps({"megapixels": width * height / 1e6, "network": arguments.network,
                      "peak_gib": round(peak, 2), "seconds": round(seconds, 1)}))  # fmt: skip


if __name__ == "__main__":
    main()
