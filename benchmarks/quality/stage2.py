"""Experiments on stage 2: unrelated clean images, a teacher, a student.

Usage: python -m benchmarks.quality.stage2 EXPERIMENT [--data DIR] [--runs DIR] [--name NAME] [--threads N]
       [dbsn train's flags]
gray25, colour25, hg, mg: the even images of clean_bsds, made noisy once, and the odd ones, clean; measured on (c)bsd68.
sidd, w2s: scenes 002-005 / fields 011-051, and clean_free; measured on scene 001 / field 001.
cc15: all its noisy images, and clean_free; measured on the same images. --stride 1 for comparison.
Prints figures of the student and of its teacher's posterior as JSON. --teacher MODEL skips stage 1.
"""

import argparse
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import tifffile

from benchmarks.quality.stage1 import budget, dbsn
from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import to_gray
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """The training images and the test images of an experiment."""

    noise: str = ""
    """Synthetic noise on half of clean_bsds; empty for real images."""
    gray: bool = True
    real: str = ""
    """Folder of real pairs."""
    held: str = ""
    """The real pairs to measure on alone: what their names begin with, or hold between underscores; empty: on all."""
    clean: str = "bsd68"
    """Folder to measure on, for synthetic noise."""
    protocol: str = "float"
    minutes: float = 40.0
    """Of each stage, on two idle cores."""


EXPERIMENTS = {
    "gray25": Experiment(noise="awgn:25"),
    "colour25": Experiment(noise="awgn:25", gray=False, clean="cbsd68"),
    "hg": Experiment(noise="hg:40,10", minutes=30),
    "mg": Experiment(noise="mg:75", gray=False, clean="cbsd68"),
    "sidd": Experiment(real="real_sidd_small", held="_001_", minutes=30),
    "cc15": Experiment(real="real_cc15", minutes=30),
    "w2s": Experiment(real="real_w2s", held="001_", protocol="affine", minutes=30),
}


def halves(experiment: Experiment, data: Path, folder: Path) -> tuple[list[Path], list[Path]]:
    """Noisy files of the even images of clean_bsds, and the odd images themselves."""
    noise, files = parse_noise(experiment.noise), find_images([data / "clean_bsds"])
    folder.mkdir(parents=True, exist_ok=True)
    noisy = []
    for index, path in enumerate(files[::2]):
        noisy.append(folder / f"{path.stem}.tif")
        if not noisy[-1].exists():
            pixels = read_image(path).pixels
            pair = synthetic_noise(to_gray(pixels) if experiment.gray else pixels, noise, seed=0, index=index)
            tifffile.imwrite(noisy[-1], pair.noisy.squeeze())
    return noisy, files[1::2]


def split(experiment: Experiment, data: Path, folder: Path) -> list[Path]:
    """Real noisy files for training; the held-out pairs are copied below `folder`."""
    every = find_images([data / experiment.real / "noisy"])
    if not experiment.held:
        return every
    learned = []
    for path in every:
        if path.name.startswith(experiment.held) or (experiment.held.startswith("_") and experiment.held in path.name):
            for kind in ("noisy", "clean"):
                (folder / kind).mkdir(parents=True, exist_ok=True)
                shutil.copy(data / experiment.real / kind / path.name, folder / kind)
        else:
            learned.append(path)
    return learned


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--name", help="name of the run folder; by default stage2_EXPERIMENT")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments, flags = parser.parse_known_args()
    experiment, data = EXPERIMENTS[arguments.experiment], arguments.data
    run = arguments.runs / (arguments.name or f"stage2_{arguments.experiment}")
    scratch = arguments.runs / f"stage2_{arguments.experiment}_data"
    if experiment.real:
        noisy, clean = split(experiment, data, scratch), [data / "clean_free"]
        held = scratch if experiment.held else data / experiment.real
        measured = ["--clean", held / "clean", "--noisy", held / "noisy"]
    else:
        noisy, clean = halves(experiment, data, scratch)
        measured = ["--clean", data / experiment.clean, "--noise", experiment.noise]
    if (run / "config.json").exists():
        dbsn("train", "-o", run, "--resume", *budget(flags), threads=arguments.threads)
    else:
        length = ("--minutes", experiment.minutes, "--student.minutes", experiment.minutes)
        origin = () if "--from" in flags else ("--from", "scratch")
        dbsn("train", *noisy, "-o", run, *origin, *length, *flags, "--clean", *clean, threads=arguments.threads)
    for method in ("student", "posterior"):
        shown = dbsn(
            "evaluate", "-m", run / "model.safetensors", *measured, "--method", method,
            "--protocol", experiment.protocol, "--json", threads=arguments.threads,
        )  # fmt: skip
        print(json.dumps(json.loads(shown) | {"experiment": arguments.experiment, "flags": flags}), flush=True)


if __name__ == "__main__":
    main()
