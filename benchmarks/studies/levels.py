"""Measure the accuracy of a folder's learned noise, and the effect of a wrong level on a student.

Usage: python -m benchmarks.studies.levels learned RUN NOISE
       python -m benchmarks.studies.levels real RUN CLEAN [--affine]
       python -m benchmarks.studies.levels strayed SETTING ... [--parts full n2c] [--every N] [--data DIR]
               [--models DIR]
learned: standard deviation (of 255) of the noise of a run's images at eleven intensities, first channel: true, and as
         learned by each image itself, then corrected by the student (math.md, S9), and each of the two from all
         images (S8): mean and standard deviation over images.
real: how far a run's images are from their noisy less clean pixels (files of the same names) in the logarithm of the
      noise's standard deviation, in eight groups of like pixels of each image and channel: mean, root mean square and
      median size, of each image's own noise and corrected. --affine: clean images of another gain and offset.
strayed: PSNR of the students of paper.py when the level is not the one that they have learned: images stretched
         about the middle by 0.96 to 1.08, denoised, and shrunk back.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
import torch

from benchmarks.paper.paper import EVERY, MODELS, network_of, pairs
from dbsn.config import MODEL
from dbsn.evaluation.metrics import psnr
from dbsn.inference.student import apply_student
from dbsn.intensity import to_pixels
from dbsn.io.formats import read_image
from dbsn.likelihood import channel_variance
from dbsn.models.student import Student
from dbsn.noise.families import parse_noise
from dbsn.noise.learned import NoiseModel
from dbsn.noise.pooling import shared
from dbsn.store.model_file import load_model
from dbsn.training.distill import REFINED
from dbsn.training.run_config import saved_config
from dbsn.training.stages import STUDENT
from dbsn.training.teacher import RESULTS, recall_refined, recalled

STRETCHES = (0.96, 0.98, 1.0, 1.02, 1.04, 1.06, 1.08)


def gathered(run: Path) -> dict[str, NoiseModel]:
    """The noise that a run has learned."""
    model = load_model(run / MODEL).teacher
    if not (run / RESULTS).exists():
        sys.exit(f"{run}: no noise has been gathered; stage 2 does that")
    known = recalled(model, [], run / RESULTS)
    noises, corrections = {"own": known.noise}, run / STUDENT / REFINED
    return noises | ({"corrected": recall_refined(known, corrections)[0]} if corrections.exists() else {})


def learned(run: Path, noise: str) -> dict[str, list[float]]:
    """The noise of a run's images at eleven intensities."""
    noises = gathered(run)
    channels = noises["own"].model.config.channels
    grid = torch.linspace(0, 1, 11).expand(1, channels, 1, 11)
    found = {"intensity": grid[0, 0, 0], "true": channel_variance(parse_noise(noise).variance(grid))[0, 0, 0].sqrt()}
    for name, each in (noises | {f"{name}, shared": shared(each) for name, each in noises.items()}).items():
        levels = torch.stack([each.at(number, grid[0, :, 0])[0].sqrt() for number in range(len(each.images))])
        found |= {f"{name}, mean": levels.mean(0), f"{name}, std": levels.std(0)}
    return {
        name: [round(float(x) * (1 if name == "intensity" else 255), 2) for x in row] for name, row in found.items()
    }


def real(run: Path, clean: Path, *, affine: bool) -> dict[str, dict[str, float]]:
    """Error of each image's learned noise against noisy minus clean, for 1,000 pixels or more."""
    off: dict[str, list[float]] = {}
    noises = gathered(run)
    files, count = saved_config(run).files, len(noises["own"].images)
    if count != len(files):
        sys.exit(f"{run}: {count} images of {len(files)} files; expected one of each")
    for number, file in enumerate(files):
        noisy, truth = (to_pixels(read_image(path).pixels) for path in (Path(file), clean / Path(file).name))
        if noisy.shape != truth.shape:
            sys.exit(f"{file}: {noisy.shape}, clean {truth.shape}; expected the same shape")
        if affine:
            truth = np.polyval(np.polyfit(truth.ravel(), noisy.ravel(), 1), truth)
        for channel in range(noisy.shape[2]):
            signal, noise = truth[..., channel].ravel(), (noisy - truth)[..., channel].ravel()
            groups = np.searchsorted(np.quantile(signal, np.arange(1, 8) / 8), signal)
            for chosen in (groups == group for group in range(8)):
                if chosen.sum() < 1000:
                    continue
                at = torch.full((noisy.shape[2], 1), float(signal[chosen].mean()))
                for name, each in noises.items():
                    std = float(each.at(number, at)[channel].sqrt())
                    off.setdefault(name, []).append(float(np.log(std / noise[chosen].std())))
    return {
        name: {
            "mean": round(float(np.mean(each)), 3),
            "rms": round(float(np.sqrt(np.mean(np.square(each)))), 3),
            "median size": round(float(np.median(np.abs(each))), 3),
        }
        for name, each in off.items()
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
    of_real = commands.add_parser("real")
    of_real.add_argument("run", type=Path)
    of_real.add_argument("clean", type=Path)
    of_real.add_argument("--affine", action="store_true")
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
    if arguments.command == "real":
        for name, figures in real(arguments.run, arguments.clean, affine=arguments.affine).items():
            print(json.dumps({name: figures}))
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
