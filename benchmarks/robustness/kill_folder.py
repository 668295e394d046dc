"""Kill `dbsn denoise` of a folder at random moments, start it again each time, and compare with one run.

Usage: python -m benchmarks.robustness.kill_folder [--files 200] [--kills 5] [--seed 0]
It reports whether all results are equal bit for bit, whether files are left over, and how often files were started and
finished.
"""

import argparse
import collections
import csv
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from dbsn.config import NETWORKS, ModelConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile, save_model


def denoise(folder: Path, output: str) -> subprocess.Popen[bytes]:
    """Start without waiting."""
    command = ("denoise", folder / "in", "-m", folder / "model", "-o", folder / output)
    return subprocess.Popen([sys.executable, "-m", "dbsn", *map(str, command)], stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments, generator = random.Random(arguments.seed), np.random.default_rng(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model", ModelFile(model=BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))))
        for number in range(arguments.files):
            file = folder / "in" / f"{number % 7}" / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (96, 96), np.uint8)).save(file)
        began = time.monotonic()
        denoise(folder, "whole").wait()
        seconds, kills = time.monotonic() - began, 0
        began = time.monotonic()
        denoise(folder, "whole").wait()  # all is done: the time that it takes to start
        start = time.monotonic() - began
        while (process := denoise(folder, "killed")) and kills < arguments.kills:
            time.sleep(start + moments.uniform(-0.5, 1.5) * (seconds - start) / arguments.kills)
            if process.poll() is not None:
                break
            process.kill()
            process.wait()
            kills += 1
        process.wait()
        whole, killed = (
            {path.relative_to(folder / run).as_posix(): path.read_bytes() for path in (folder / run).rglob("*.*")
             if path.is_file() and path.suffix != ".csv"}
            for run in ("whole", "killed")
        )  # fmt: skip
        with (folder / "killed" / "denoise.csv").open(newline="") as ledger:
            done = collections.Counter(row["file"] for row in csv.DictReader(ledger) if row["status"] == "done")
        figures = {
            "files": len(whole), "kills": kills, "seconds of one run": round(seconds), "identical": whole == killed,
            "left over": sorted(set(killed) - set(whole)), "done twice": sum(times > 1 for times in done.values()),
        }  # fmt: skip
        print(json.dumps(figures))
        sys.exit(0 if whole == killed and kills and not figures["done twice"] else 1)


if __name__ == "__main__":
    main()
