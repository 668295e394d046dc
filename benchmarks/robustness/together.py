"""Start several `dbsn denoise` on one folder at once and compare with one run.

Usage: python -m benchmarks.robustness.together [--files 40] [--processes 2 4] [--times 20] [--kill] [--seed 0]
Each time it reports whether every process ended well, whether each file was made once, whether all results are equal
bit for bit to those of one process, and what is left over. With --kill one process is killed at a random moment; the
others must make its files, too. It exits with 1 if anything was wrong.
"""

import argparse
import collections
import csv
import json
import os
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


def denoise(folder: Path, output: Path) -> subprocess.Popen[bytes]:
    """Start without waiting."""
    command = ("denoise", folder / "in", "-m", folder / "model", "-o", output)
    return subprocess.Popen(
        [sys.executable, "-m", "dbsn", *map(str, command)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )


def contents(folder: Path) -> dict[str, bytes]:
    """All files of a folder but its list."""
    files = (path for path in folder.rglob("*") if path.is_file() and path.suffix != ".csv")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def faults(whole: dict[str, bytes], output: Path, codes: list[int]) -> list[str]:
    """What is wrong with the results of several processes."""
    made = contents(output)
    with (output / "denoise.csv").open(newline="") as ledger:
        done = collections.Counter(row["file"] for row in csv.DictReader(ledger) if row["status"] == "done")
    found = [f"exit status {code}" for code in codes if code]
    found += [f"missing {name}" for name in sorted(whole.keys() - made.keys())]
    found += [f"left over {name}" for name in sorted(made.keys() - whole.keys())]
    found += [f"different {name}" for name in sorted(whole.keys() & made.keys()) if whole[name] != made[name]]
    found += [f"made {times} times {name}" for name, times in sorted(done.items()) if times != 1]
    return found + [f"not listed {name}" for name in sorted(whole.keys() - done.keys())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=40)
    parser.add_argument("--processes", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--kill", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    generator, moments, wrong = np.random.default_rng(arguments.seed), random.Random(arguments.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_model(folder / "model", ModelFile(model=BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))))
        for number in range(arguments.files):
            file = folder / "in" / f"{number % 3}" / f"{number:03}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(generator.integers(0, 256, (64, 64), np.uint8)).save(file)
        began = time.monotonic()
        denoise(folder, folder / "whole").wait()
        seconds, whole = time.monotonic() - began, contents(folder / "whole")
        for count in arguments.processes:
            for number in range(arguments.times):
                output = folder / f"{count}-{number}"
                running = [denoise(folder, output) for _ in range(count)]
                if arguments.kill:
                    time.sleep(moments.uniform(0.3, 1.0) * seconds)
                    killed = running.pop()
                    killed.kill()
                    killed.wait()
                found = faults(whole, output, [process.wait() for process in running])
                wrong += bool(found)
                figures = {"processes": count, "time": number + 1, "files": len(whole), "wrong": found}
                print(json.dumps(figures), flush=True)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
