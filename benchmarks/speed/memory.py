"""Measure peak memory and time of `dbsn denoise` on one large photograph, a Zarr or a TIFF stack.

Usage: python -m benchmarks.speed.memory [--megapixels 50 [--zarr] | --pages 1000] [--network grid-tiny|unet-tiny]
Figures are those of the whole process. The photograph is in colour. Zarr and pages are gray, 16 bit. Pages have
256 x 256 pixels, a Zarr's chunks 1024 x 1024.
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
import zarr
from PIL import Image

from dbsn.config import NETWORKS, STUDENTS, ModelConfig, StudentConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.store.model_file import ModelFile, save_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megapixels", type=float, default=50.0)
    parser.add_argument("--pages", type=int, help="a stack with this number of pages instead of a photograph")
    parser.add_argument("--zarr", action="store_true", help="a Zarr instead of a photograph")
    parser.add_argument("--network", default="grid-tiny", choices=(*NETWORKS, *STUDENTS))
    arguments = parser.parse_args()
    width = round((arguments.megapixels * 1e6 * 1.5) ** 0.5)
    height = round(arguments.megapixels * 1e6 / width)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        channels = 1 if arguments.pages or arguments.zarr else 3
        if arguments.network in STUDENTS:
            shape = StudentConfig(channels=channels, network=STUDENTS[arguments.network])
            saved = ModelFile(student=Student(shape))
        else:
            saved = ModelFile(model=BlindSpotModel(ModelConfig(channels=channels, network=NETWORKS[arguments.network])))
        save_model(folder / "m", saved)
        generator = np.random.default_rng(0)
        if arguments.pages:
            source, result, height, width = folder / "stack.tif", folder / "out.tif", 256 * arguments.pages, 256
            with tifffile.TiffWriter(source) as writer:
                for _ in range(arguments.pages):
                    writer.write(generator.integers(0, 65536, (256, 256), np.uint16), metadata=None)
        elif arguments.zarr:
            source, result = folder / "photo.zarr", folder / "out.zarr"
            array = zarr.create_array(source, shape=(height, width), chunks=(1024, 1024), dtype="uint16")
            for top in range(0, height, 1024):
                rows = min(1024, height - top)
                array[top : top + rows] = generator.integers(0, 65536, (rows, width), np.uint16)
        else:
            source, result = folder / "photo.jpg", folder / "out.jpg"
            Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)).save(source, quality=90)
        began = time.perf_counter()
        command = ["denoise", source, "-m", folder / "m", "-o", result]
        subprocess.run([sys.executable, "-m", "dbsn", *map(str, command)], check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    facts = {"megapixels": width * height / 1e6, "pages": arguments.pages or 1, "zarr": arguments.zarr}
    print(json.dumps(facts | {"network": arguments.network, "peak_gib": round(peak, 2), "seconds": round(seconds, 1)}))


if __name__ == "__main__":
    main()
