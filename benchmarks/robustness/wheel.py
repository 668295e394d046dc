"""Check that the wheel works alone: in an empty environment, on one photograph, without network.

Usage: python -m benchmarks.robustness.wheel [--folder DIR]
It builds the wheel, installs it into a new environment, and denoises a noisy photograph there. The network is cut off
where the system allows it (unshare). It prints the written files and the PSNR before and after.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[2]


def run(*command: object, cwd: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(list(map(str, command)), check=True, cwd=cwd, env=environment)


def decibels(image: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((image.astype(float) - clean) ** 2).mean()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="working folder; by default a temporary one")
    folder = parser.parse_args().folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT, cwd=folder)
    [wheel] = folder.glob("dbsn-*.whl")
    run(sys.executable, "-m", "venv", folder / "env", cwd=folder)
    binaries = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    clean = skimage.data.chelsea()
    noisy = (clean + np.random.default_rng(0).normal(0, 25, clean.shape)).clip(0, 255).round().astype(np.uint8)
    Image.fromarray(noisy).save(folder / "photo.png")
    alone = shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0
    cut_off = ("unshare", "-n") if alone else ()
    run(*cut_off, binaries / "dbsn", "denoise", "photo.png", "--overwrite", cwd=folder)
    denoised = np.asarray(Image.open(folder / "denoised" / "photo.png"))
    before, after = decibels(noisy, clean), decibels(denoised, clean)
    print(f"{before:.2f} dB -> {after:.2f} dB, {'cut off from the network' if alone else 'the network was there'}")


if __name__ == "__main__":
    main()
