"""How well a folder's noise is known, and what a wrong level costs a student of one.

Usage: python benchmarks/levels.py learned RUN NOISE
       python benchmarks/levels.py strayed SETTING ... [--parts full n2c] [--every N] [--data DIR] [--models DIR]
learned: standard deviation (of 255) of the noise of a run's images at eleven intensities, first channel: true, and as
         learned by each image itself and from all of them (docs/math.md, S8): mean and standard deviation over images.
strayed: PSNR of the students of paper.py when the level is not the one that they have learned: images stretched
         about the middle by 0.96 to 1.08, denoised, and shrunk back.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch
from paper import EVERY, MODELS, network_of, pairs

from dbsn.checkpoint import load_model
from dbsn.config import MODEL
from dbsn.infer import apply_student
from dbsn.likelihood import channel_variance
from dbsn.metrics import psnr
from dbsn.noise import parse_noise
from dbsn.pairs import RESULTS, recalled
from dbsn.sharing import shared
from dbsn.student import Student

STRETCHES = (0.96, 0.98, 1.0, 1.02, 1.04, 1.06, 1.08)


def learned(run: Path, noise: str) -> dict[str, list[float]]:
    """The noise of a run's images at eleven intensities."""
    model = load_model(run / MODEL).teacher
    if not (run / RESULTS).exists():
        sys.exit(f"{run}: no noise has been gathered; stage 2 does that")
    own = recalled(model, [], run / RESULTS).noise
    grid = torch.linspace(0, 1, 11).expand(1, model.config.channels, 1, 11)
    found = {"intensity": grid[0, 0, 0], "true": channel_variance(parse_noise(noise).variance(grid))[0, 0, 0].sqrt()}
    for name, noises in (("own", own), ("shared", shared(own))):
        variances = torch.cat([noises.variance(grid, [number]) for number in range(len(own.images))])
        levels = channel_variance(variances).sqrt()[:, 0, 0]
        found |= {f"{name}, mean": levels.mean(0), f"{name}, std": levels.std(0)}
    return {
        name: [round(float(x) * (1 if name == "intensity" else 255), 2) for x in row] for name, row in found.items()
    }


def strayed(student: Student, setting: str, data: Path, every: int) -> list[float]:
    """PSNR, mean over images, at each of `STRETCHES`."""
    rows = []
    for pair in pairs(EVERY[setting], data, every):
        seen = [((pair.noisy - 0.5) * stretch + 0.5).astype(np.float32) for stretch in STRETCHES]
        results = [apply_student(student, image) for image in seen]
        shrunk = [(result - 0.5) / stretch + 0.5 for result, stretch in zip(results, STRETCHES, strict=True)]
        rows.append([psnr(result, pair.clean) for result in shrunk])
    return [round(float(figure), 3) for figure in np.mean(rows, 0)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    of_run = commands.add_parser("learned")
    of_run.add_argument("run", type=Path)
    of_run.add_argument("noise")
    of_setting = commands.add_parser("strayed")
    of_setting.add_argument("settings", nargs="+", choices=EVERY, metavar="SETTING")
    of_setting.add_argument("--parts", nargs="*", default=["full", "n2c"])
    of_setting.add_argument("--every", type=int, default=9)
    of_setting.add_argument("--data", type=Path, default=Path("../shared/data"))
    of_setting.add_argument("--models", type=Path, default=MODELS)
    arguments = parser.parse_args()
    if arguments.command == "learned":
        for name, row in learned(arguments.run, arguments.noise).items():
            print(json.dumps({name: row}))
        return
    print(json.dumps({"stretches": STRETCHES}))
    for setting in arguments.settings:
        for part in arguments.parts:
            student = network_of(arguments.models / setting / f"{part}.safetensors")
            if not isinstance(student, Student):
                sys.exit(f"--parts {part}: no student")
            figures = strayed(student, setting, arguments.data, arguments.every)
            print(json.dumps({"setting": setting, "part": part, "decibels": figures}), flush=True)


if __name__ == "__main__":
    main()
