"""Kill a training at ten random moments, resume it each time, and compare its weights with an uninterrupted run's.

Usage: python -m benchmarks.robustness.kill [--kills 10] [--steps 4000] [--student-steps 0] [--seed 0]
With --student-steps the training has a second stage of so many steps, and the kills fall into both.
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import skimage.data
import torch
from PIL import Image

from dbsn.store.tensors import load_tensors

STUDENT = ("--student.network", "unet-tiny", "--student.batch", "4", "--student.patch", "32")
SETTINGS = ("--network", "grid-small", "--batch", "2", "--patch", "24", "--validations", "60", "--device", "cpu")


def train(*arguments: object) -> subprocess.Popen[bytes]:
    """Start a training without waiting for it."""
    return subprocess.Popen([sys.executable, "-m", "dbsn", "train", *map(str, arguments)], stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--student-steps", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    moments = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "noisy").mkdir()
        Image.fromarray(skimage.data.camera()[:128, :128]).save(folder / "noisy" / "camera.png")
        start = (folder / "noisy", *SETTINGS, "--steps", arguments.steps, "--clean")
        if arguments.student_steps:
            (folder / "clean").mkdir()
            Image.fromarray(skimage.data.coins()).save(folder / "clean" / "coins.png")
            start += (folder / "clean", *STUDENT, "--student.steps", arguments.student_steps)
        else:
            start += ("none",)
        began = time.monotonic()
        train(*start, "-o", folder / "whole").wait()
        whole, kills, runs = time.monotonic() - began, 0, 0
        began = time.monotonic()
        train("--resume", "-o", folder / "whole").wait()  # all is done: the time that it takes to start
        start_up = time.monotonic() - began
        while True:
            resume = (folder / "killed" / "config.json").exists()
            process = train(*(("--resume",) if resume else start), "-o", folder / "killed")
            runs += 1
            if kills < arguments.kills:
                time.sleep(start_up + moments.uniform(-0.5, 1.5) * (whole - start_up) / arguments.kills)
                if process.poll() is None:
                    os.kill(process.pid, signal.SIGKILL)
                    kills += 1
            if process.wait() == 0:
                break
        same = {}
        files = ["checkpoint.safetensors", "model.safetensors"]
        for file in (*files, *(["student/checkpoint.safetensors"] if arguments.student_steps else [])):
            first, second = (load_tensors(folder / run / file)[0] for run in ("whole", "killed"))
            same[file] = first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        print(f"{kills} kills in {runs} runs of {whole:.0f} s; identical to the uninterrupted run: {same}")
        sys.exit(0 if all(same.values()) and kills else 1)


if __name__ == "__main__":
    main()
