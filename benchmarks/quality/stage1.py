"""Experiments on stage 1: train on noisy images alone, then measure with the truth.

Usage: python -m benchmarks.quality.stage1 EXPERIMENT [--data DIR] [--runs DIR] [--name NAME] [--threads N] [--brief]
           [--curve] [dbsn train's flags]
Training starts from random weights; --from builtin starts from the built-in model.
Experiments: gray25, levels, hg (synthetic, clean_bsds -> bsd68); w2s, sidd (real). Prints figures as JSON.
--brief measures every 4th image, without self-ensemble and without the curve of the noise. --curve also measures each
model that was the best so far during the training, which shows the speed of learning.
"""

import argparse
import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import tifffile

from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import to_gray
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.families import Noise, parse_noise
from dbsn.store.tensors import load_tensors

BUDGET = ("--minutes", "--steps", "--student.minutes", "--student.steps")


@dataclass(frozen=True)
class Experiment:
    """The training images and the test images of an experiment."""

    noises: tuple[str, ...] = ()
    """Synthetic noise put on clean_bsds, images in turn; empty for real images."""
    noisy: str = ""
    clean: str = "bsd68"
    protocol: str = "float"
    minutes: float = 30.0


EXPERIMENTS = {
    "gray25": Experiment(noises=("awgn:25",), minutes=60),
    "levels": Experiment(noises=("awgn:15", "awgn:25", "awgn:50")),
    "hg": Experiment(noises=("hg:40,10",)),
    "w2s": Experiment(noisy="real_w2s/noisy", clean="real_w2s/clean", protocol="affine"),
    "sidd": Experiment(noisy="real_sidd_small/noisy", clean="real_sidd_small/clean"),
}


def make_noisy(clean: Path, noises: list[Noise], folder: Path) -> None:
    """Write one fixed noisy realisation of each clean image, gray, as float TIFF; noises alternate."""
    folder.mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(find_images([clean])):
        pair = synthetic_noise(to_gray(read_image(path).pixels), noises[index % len(noises)], seed=0, index=index)
        tifffile.imwrite(folder / f"{path.stem}.tif", pair.noisy.squeeze(-1))


def dbsn(*arguments: object, threads: int) -> str:
    """Run a dbsn command with a number of threads; its progress goes to standard error."""
    environment = os.environ | {"OMP_NUM_THREADS": str(threads)}
    command = [sys.executable, "-m", "dbsn", *map(str, arguments)]
    capture = arguments[0] == "evaluate"
    done = subprocess.run(command, text=True, env=environment, stdout=subprocess.PIPE if capture else 2)
    if done.returncode:
        raise SystemExit(f"dbsn {arguments[0]} failed with exit status {done.returncode}")
    return done.stdout or ""


def budget(flags: list[str]) -> list[str]:
    """The flags of `dbsn train` that a resumed run accepts: the budget."""
    pairs = itertools.pairwise(flags)
    return [part for pair in pairs if pair[0] in BUDGET for part in pair]


def keeping_models(run: Path, *arguments: object, threads: int) -> None:
    """Run `dbsn train` in `run`; keep each best model so far as run/curve/STEP.safetensors."""
    (run / "curve").mkdir(parents=True, exist_ok=True)
    model, seen = run / "model.safetensors", 0.0
    with ThreadPoolExecutor() as pool:
        training = pool.submit(dbsn, *arguments, threads=threads)
        while not training.done() or (model.exists() and model.stat().st_mtime > seen):
            if model.exists() and model.stat().st_mtime > seen:
                seen = model.stat().st_mtime
                copy = shutil.copy(model, run / "curve" / "latest.safetensors")
                copy.rename(copy.with_stem(str(load_tensors(copy)[1]["about"]["step"])))
            time.sleep(1)
        training.result()


def minutes_of(run: Path) -> dict[int, float]:
    """The time of each step in the run's metrics.csv, in minutes of training."""
    with open(run / "metrics.csv", newline="") as file:
        return {int(row["step"]): float(row["seconds"]) / 60 for row in csv.DictReader(file)}


def every_fourth(folder: Path, chosen: Path) -> Path:
    """A folder `chosen` of links to every fourth image of `folder`."""
    chosen.mkdir(parents=True, exist_ok=True)
    for path in find_images([folder])[::4]:
        if not (chosen / path.name).exists():
            (chosen / path.name).symlink_to(path.resolve())
    return chosen


def noise_curve(model: Path, clean: Path, noise: Noise) -> list[dict[str, float]]:
    """Estimated over true noise level in 16 bins of the clean intensity, over all images."""
    from dbsn.denoiser import Denoiser

    denoiser = Denoiser.load(model)
    intensity, estimated, true = [], [], []
    for index, path in enumerate(find_images([clean])):
        pair = synthetic_noise(read_image(path).pixels, noise, seed=0, index=index)
        level = denoiser.estimate(pair.noisy, extras=("noise_std",)).noise_std
        assert level is not None
        intensity.append(pair.clean.ravel())
        estimated.append(level.ravel())
        true.append(noise.variance(_tensor(pair.clean)).sqrt().numpy().ravel())
    values, ours, theirs = (np.concatenate(parts) for parts in (intensity, estimated, true))
    bins = np.minimum((values * 16).astype(int), 15)
    return [
        {"intensity": (b + 0.5) / 16, "share": float((bins == b).mean()),
         "ratio": float(np.sqrt((ours[bins == b] ** 2).mean() / (theirs[bins == b] ** 2).mean()))}
        for b in range(16) if (bins == b).any()
    ]  # fmt: skip


def _tensor(image: np.ndarray):  # torch is loaded late
    import torch

    return torch.from_numpy(image)[None]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=EXPERIMENTS)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--name", help="name of the run folder; by default the experiment's")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--brief", action="store_true")
    parser.add_argument("--curve", action="store_true")
    arguments, flags = parser.parse_known_args()
    experiment = EXPERIMENTS[arguments.experiment]
    data, run = arguments.data, arguments.runs / (arguments.name or arguments.experiment)
    noises = [parse_noise(noise) for noise in experiment.noises]
    noisy = arguments.runs / f"{arguments.experiment}_noisy" if noises else data / experiment.noisy
    if noises and not noisy.exists():
        make_noisy(data / "clean_bsds", noises, noisy)
    asked: tuple[object, ...] = ("--resume", *budget(flags))
    if not (run / "config.json").exists():
        origin = () if "--from" in flags else ("--from", "scratch")
        asked = (noisy, *origin, "--clean", "none", "--minutes", experiment.minutes, *flags)
    train = partial(keeping_models, run) if arguments.curve else dbsn
    train("train", "-o", run, *asked, threads=arguments.threads)
    model = run / "model.safetensors"
    clean = data / experiment.clean
    if arguments.brief:
        brief = arguments.runs / f"{arguments.experiment}_brief"
        clean, noisy = every_fourth(clean, brief / "clean"), every_fourth(noisy, brief / "noisy")
    pairs = [("--noise", noise) for noise in experiment.noises] or [("--noisy", noisy)]
    for step, minutes in minutes_of(run).items() if arguments.curve else ():
        passed = run / "curve" / f"{step}.safetensors"
        for pair in pairs if passed.exists() else ():
            where = ("-m", passed, "--clean", clean, *pair, "--protocol", experiment.protocol, "--json")
            shown = json.loads(dbsn("evaluate", *where, threads=arguments.threads))
            row = {"step": step, "minutes": round(minutes, 2), "noise": shown["noise"], "psnr": round(shown["psnr"], 3)}
            print(json.dumps(row), flush=True)
    for pair, ensemble in itertools.product(pairs, ((),) if arguments.brief else ((), ("--ensemble",))):
        shown = dbsn(
            "evaluate", "-m", model, "--clean", clean, *pair, *ensemble,
            "--protocol", experiment.protocol, "--json", threads=arguments.threads,
        )  # fmt: skip
        figures = json.loads(shown) | {"experiment": arguments.experiment, "threads": arguments.threads, "flags": flags}
        if pair[0] == "--noise" and not ensemble and not arguments.brief:
            figures["noise_curve"] = noise_curve(model, clean, parse_noise(pair[1]))
        print(json.dumps(figures), flush=True)


if __name__ == "__main__":
    main()
