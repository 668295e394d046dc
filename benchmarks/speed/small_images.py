"""CPU seconds of `dbsn denoise` on many small images, with and without another program that keeps every core busy.

Usage: python -m benchmarks.speed.small_images [--images 100] [--side 128] [--runs 3]
Two ways of waiting take turns: idle threads sleep (what `dbsn` sets) or spin (OMP_WAIT_POLICY=ACTIVE, the default of
OpenMP). One JSON line for each; medians over runs.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

BUSY = "while True: pass"


def make_images(folder: Path, count: int, side: int) -> None:
    """Small noisy images, gray, as PNG files."""
    random = np.random.default_rng(0)
    for number in range(count):
        pixels = 128 + 40 * np.sin(np.arange(side) / 9)[None] + 15 * random.standard_normal((side, side))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number:03}.png")


def denoise(folder: Path, policy: str) -> tuple[float, float]:
    """Wall-clock and CPU seconds of the command."""
    began = time.perf_counter()
    command = [
        sys.executable,
        "-m",
        "dbsn",
        "denoise",
        folder / "in",
        "-o",
        folder / "out",
        "--overwrite",
        "-m",
        "gray",
    ]
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.DEVNULL,
        env=os.environ | ({"OMP_WAIT_POLICY": policy} if policy else {}),
    )
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit("dbsn denoise failed")
    return time.perf_counter() - began, usage.ru_utime + usage.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=100)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "in").mkdir()
        make_images(folder / "in", arguments.images, arguments.side)
        for busy in (0, os.cpu_count() or 1):
            others = [subprocess.Popen([sys.executable, "-c", BUSY]) for _ in range(busy)]
            try:
                runs = [[denoise(folder, policy) for policy in ("", "ACTIVE")] for _ in range(arguments.runs)]
            finally:
                for other in others:
                    other.kill()
            for policy, (wall, cpu) in zip(("sleep", "spin"), np.median(runs, 0).tolist(), strict=True):
                row = {"idle threads": policy, "busy programs": busy, "wall seconds": round(wall, 1)}
                print(json.dumps(row | {"cpu seconds": round(cpu, 1), "images": arguments.images}), flush=True)


if __name__ == "__main__":
    main()
