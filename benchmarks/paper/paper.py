"""The paper's tables 1 and 2 on two cores: nine settings, stage 1, the full method and N2C beside them. Resumable.

Usage: python -m benchmarks.paper.paper SETTING ...|all [--parts blind full n2c] [--data DIR] [--runs DIR] [--threads N]
           [--blind-steps N] [--student-steps N] [--only-measure] [--ensemble]
       python -m benchmarks.paper.paper [SETTING ...] --check [--data DIR]
Stage 1 learns from the even images of clean_bsds, made noisy once. The odd ones are the clean images of stage 2 and of
N2C. N2C is the same student with the same initial weights and the same training, but with the true noise. bsd68 and
cbsd68 are used for measuring alone. Each part continues where it was stopped, also with another number of steps.
Figures are written to benchmarks/results/paper.json, from which benchmarks/tables.py makes paper.md.

--check measures every 6th image again with the models in benchmarks/paper/models, and compares.
"""

import argparse
import csv
import json
import os
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.quality.stage1 import dbsn
from benchmarks.quality.stage2 import Experiment, halves
from benchmarks.results import here, kept
from benchmarks.tables import FULL, N2C, ORIENTED, STAGE_1
from dbsn.config import MODEL
from dbsn.devices import has_fast_bf16
from dbsn.evaluation.evaluate import Pair, Score, evaluate, summarise, synthetic_noise
from dbsn.inference.options import InferenceOptions
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.noise.families import parse_noise
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import in_half_precision, load_tensors, save_tensors
from dbsn.training.run_config import CONFIG
from dbsn.training.run_log import METRICS
from dbsn.training.stages import STUDENT

ROOT = Path(__file__).parents[1]
RESULTS, MODELS = ROOT / "results" / "paper.json", ROOT / "paper" / "models"
CHECKED_EVERY, TOLERANCE = 6, 0.02  # images, dB
MADE = "made.json"
LARGE = ("--student.network", "unet-large", "--student.jitter", 0)
"""Flags for students of the tables."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Images with one kind of noise, the networks trained on them, and their initial weights."""

    noise: str
    gray: bool
    start: str = ""
    """The setting whose blind-spot network that of this one begins with; empty: with random weights."""
    student_init_from: str = ""
    """The same for students, each part with its like."""
    parts: tuple[str, ...] = ("blind", "full", "n2c")
    """What there is to train."""
    form: str = "auto"
    """Of the noise, for `dbsn train --noise`."""
    network: tuple[object, ...] = ("--network", "grid-flat")
    """Flags for the blind-spot network, and for patches that it can be trained with."""
    steps: int
    """Of stage 1."""
    student: tuple[object, ...] = LARGE
    """Flags for students."""
    student_steps: int = 0
    """Of the full method, and of N2C."""

    @property
    def test(self) -> str:
        """The folder that is measured on."""
        return "bsd68" if self.gray else "cbsd68"


GRAY = {"gray25": "awgn:25", "gray15": "awgn:15", "gray50": "awgn:50", "gray-hg": "hg:40,10"}
COLOUR = {f"colour{level}": f"awgn:{level}" for level in (25, 15, 50)} | {"colour-hg": "hg:40,10", "colour-mg": "mg:75"}
STARTS = {
    name: Setting(
        noise="awgn:25",
        gray=gray,
        form="any",
        steps=steps,
        student=("--student.network", "unet-symmetric"),
        student_steps=student_steps,
    )
    for name, gray, steps, student_steps in (("gray-start", True, 6000, 3400), ("colour-start", False, 5000, 2400))
}
"""One strong network of each kind, which those of its table begin with; blind-spot ones, their noise estimates anew."""
OF_STUDENTS: dict[str, tuple[object, ...]] = {
    "gray50": ("--student.learning-rate", 3e-4),
    "colour50": ("--student.learning-rate", 3e-4),
    "colour-hg": ("--student.noisy-weight", 0.03),
}
"""Flags for those of some settings: a rate that is worse for HG, and less of a teacher that is 0.8 dB worse than they
are (docs/lab)."""
STUDENT_STEPS = {"awgn:25": 1500, "awgn:50": 4000}
SETTINGS = {
    name: Setting(
        noise=noise,
        gray=start == "gray-start",
        start=start,
        student_init_from=first if name != first else start,
        steps=1200,
        student=(*LARGE, *OF_STUDENTS.get(name, ())),
        student_steps=STUDENT_STEPS.get(noise, 1000),
    )
    for start, first, noises in (("gray-start", "gray25", GRAY), ("colour-start", "colour25", COLOUR))
    for name, noise in noises.items()
}
"""The rows of the tables. Students of white 25 are what the others of their table begin with."""
FULL_SIZE = {
    "gray25-dbsn": Setting(
        noise="awgn:25",
        gray=True,
        parts=("blind",),
        network=("--network", "dbsn", "--batch", 4, "--patch", 64),
        steps=1250,
    )
}
"""The paper's own blind-spot network, for as many minutes as `gray-start`."""
EVERY = STARTS | SETTINGS | FULL_SIZE
KEPT = (*STARTS, "gray25", "gray-hg", "colour25", "colour-hg")
"""Settings whose models stay in the repository, each part in a file of its own; logs of all that is measured do."""
METHODS = {"blind": STAGE_1, "full": FULL, "n2c": N2C}
"""What is trained, and what its figures are called."""
STUDENT_FLAGS = ("--student.patch", 128, "--student.batch", 9)
"""Flags of dbsn train for all students: not told the level, for there is one."""
TAUGHT_EVERY = 5
"""Of the noisy images one in so many goes through the teacher, as all would take as long as a thousand steps of a
student: set 1 counts a tenth, and noise of one kind is known from 44 images."""


def train(
    run: Path,
    begins: str,
    asked: tuple[object, ...],
    budget: tuple[object, ...],
    other: tuple[object, ...],
    threads: int,
) -> None:
    """Start or continue a run to the end of its budget.

    A run with another configuration is refused.
    """
    begun, told = (run / CONFIG).exists(), {"begins": begins, "asked": [str(flag) for flag in asked]}
    made = json.loads((run / MADE).read_text()) if begun else {}
    if begun and {name: made.get(name) for name in told} != told:
        remedy = "move it away, or measure it as it is with --only-measure"
        sys.exit(f"{run}: was begun in another way, or does not say how; {remedy}")
    if not begun:
        run.mkdir(parents=True, exist_ok=True)
        (run / MADE).write_text(json.dumps({"cores": threads, "trained_by": here()["commit"]} | told))
    dbsn("train", "-o", run, *budget, *(("--resume",) if begun else (*other, *asked)), threads=threads)


def train_part(name: str, part: str, arguments: argparse.Namespace) -> Path:
    """Train a part of a setting to the end of its budget, and return its run."""
    setting = EVERY[name]
    experiment = Experiment(noise=setting.noise, gray=setting.gray)
    noisy, clean = halves(experiment, arguments.data, arguments.runs / f"{name}_noisy")
    run = arguments.runs / name / part
    begins = setting.start if part == "blind" else setting.student_init_from
    first = trained(begins, part, arguments) if begins else None
    asked: tuple[object, ...]
    other: tuple[object, ...]
    if part == "blind":
        budget = ("--steps", arguments.blind_steps or setting.steps)
        asked = ("--noise", setting.form, *setting.network)
        other = (*noisy, "--clean", "none", "--from", first or "scratch")
    else:
        budget = ("--student.steps", arguments.student_steps or setting.student_steps)
        asked = (*setting.student, *STUDENT_FLAGS)
        asked += ("--student.baseline", "n2c", "--student.noise", setting.noise) if part == "n2c" else ()
        other = (*noisy[::TAUGHT_EVERY], "--teacher", trained(name, "blind", arguments), "--clean", *clean)
        other += ("--from", "scratch", *(("--student.start", first) if first else ()))
    train(run, begins, asked, budget, other, arguments.threads)
    return run


def trained(name: str, part: str, arguments: argparse.Namespace) -> Path:
    """The model of a part of a setting: that of its run, or the stored one."""
    run = arguments.runs / name / part / MODEL
    return run if run.exists() else arguments.models / name / f"{part}.safetensors"


def in_half(run: Path, part: str) -> Path:
    """Write the trained network of a part alone, in half precision, beside its run's model.

    This file is measured.
    """
    saved, half = load_model(run / MODEL), run / "half.safetensors"
    save_model(half, ModelFile(model=saved.model) if part == "blind" else ModelFile(student=saved.student))
    tensors, header = load_tensors(half)
    save_tensors(half, in_half_precision(tensors), header)
    return half


def network_of(model: Path) -> BlindSpotModel | Student:
    """The one network in a file of `in_half`."""
    saved = load_model(model)
    return saved.student or saved.teacher


def pairs(setting: Setting, data: Path, every: int = 1) -> Iterator[Pair]:
    """The test images under the setting's noise, one fixed realisation each."""
    noise = parse_noise(setting.noise)
    for index, path in list(enumerate(find_images([data / setting.test])))[::every]:
        yield replace(synthetic_noise(read_image(path).pixels, noise, seed=0, index=index), name=path.stem)


def scores(
    network: BlindSpotModel | Student, setting: Setting, data: Path, *, every: int = 1, ensemble: bool = False
) -> Iterator[Score]:
    """Figures of every n-th image, in the paper's protocol."""
    return evaluate(
        network, pairs(setting, data, every), options=InferenceOptions(ensemble=ensemble, bf16=has_fast_bf16("cpu"))
    )


def cost(network: BlindSpotModel | Student) -> dict[str, float | int]:
    """Parameters, and millions of operations a pixel (a multiplication and an addition are two)."""
    side = 4 * 36  # multiples of any grid and U-Net
    image = torch.rand(1, network.config.channels, side, side)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network(image)
    counted = network.network if isinstance(network, Student) else network
    parameters = sum(part.numel() for part in counted.parameters())
    return {"parameters": parameters, "mflop_per_pixel": round(counter.get_total_flops() / side**2 / 1e6, 3)}


def spent(run: Path, stage: Path, network: BlindSpotModel | Student) -> dict[str, Any]:
    """The cost of a stage in a run's folder: steps, minutes, cores, and the version of the code."""
    with (stage / METRICS).open(newline="") as file:
        last = list(csv.DictReader(file))[-1]
    made: dict[str, Any] = json.loads((run / MADE).read_text())
    made.pop("asked", None)
    asked = json.loads((run / CONFIG).read_text())["train" if isinstance(network, BlindSpotModel) else "distill"]
    spacing = network.network.spacing if isinstance(network, BlindSpotModel) else 1  # one phase of a grid learns
    pixels = asked["batch"] * (asked["patch"] // spacing) ** 2
    steps, minutes = int(last["step"]), round(float(last["seconds"]) / 60, 1)
    return {"steps": steps, "pixels_per_step": pixels, "minutes": minutes, **made}


def measure(name: str, part: str, run: Path, arguments: argparse.Namespace) -> None:
    """Measure a part of a setting on all test images, and keep its figures."""
    setting, half, stage = EVERY[name], in_half(run, part), run if part == "blind" else run / STUDENT
    network = network_of(half)
    for ensemble in (False, True) if arguments.ensemble else (False,):
        found = list(scores(network, setting, arguments.data, ensemble=ensemble))
        row = {"setting": name, "method": METHODS[part] + (ORIENTED if ensemble else "")}
        row |= summarise(found, "float") | cost(network) | spent(run, stage, network)
        row |= {"set": setting.test, "noise": setting.noise}
        print(json.dumps(row), flush=True)
        row["decibels"] = {score.name: round(score.psnr, 3) for score in found}
        kept(arguments.results, row, same=("setting", "method"), about=here())
    (arguments.models / name).mkdir(parents=True, exist_ok=True)
    shutil.copy(stage / METRICS, arguments.models / name / f"{part}.csv")
    if name in KEPT:
        shutil.copy(half, arguments.models / name / f"{part}.safetensors")


def check(settings: Sequence[str], arguments: argparse.Namespace) -> int:
    """Measure some images again with the stored models; return the number of wrong or missing figures."""
    rows = {(row["setting"], row["method"]): row for row in json.loads(arguments.results.read_text())}
    noted = [(name, part) for name in settings for part in METHODS if (name, METHODS[part]) in rows]
    missing = [name for name in settings if not any(name == each for each, _ in noted)]
    if missing:
        print(f"{', '.join(missing)}: no figures are noted", flush=True)
    wrong = len(missing)
    for name, part in noted:
        row, model = rows[name, METHODS[part]], arguments.models / name / f"{part}.safetensors"
        if not model.exists():
            print(f"{name}, {METHODS[part]}: {model} is not kept", flush=True)
            wrong += 1
            continue
        network = network_of(model)
        again = list(scores(network, EVERY[name], arguments.data, every=CHECKED_EVERY))
        off = max(abs(score.psnr - row["decibels"][score.name]) for score in again)
        mean = np.mean([score.psnr for score in again])
        verdict = "as noted" if off <= TOLERANCE else f"NOT as noted: an image differs by {off:.3f} dB"
        print(f"{name}, {METHODS[part]}: {mean:.2f} dB on {len(again)} images, {verdict}", flush=True)
        wrong += off > TOLERANCE
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "settings",
        nargs="*",
        metavar="SETTING",
        help=f"all (tables and what they begin with), or of {', '.join(EVERY)}",
    )
    parser.add_argument("--parts", nargs="*", choices=METHODS, default=list(METHODS))
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs/paper"))
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--models", type=Path, default=MODELS)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--blind-steps", type=int, help="of stage 1, instead of the setting's")
    parser.add_argument("--student-steps", type=int, help="of the full method and of N2C")
    parser.add_argument("--only-measure", action="store_true", help="measure without further training")
    parser.add_argument("--ensemble", action="store_true", help="also averaged over eight flips and rotations")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    every = [*STARTS, *SETTINGS]
    chosen = every if arguments.settings == ["all"] else arguments.settings
    unknown = [name for name in chosen if name not in EVERY]
    if unknown or not (chosen or arguments.check):
        parser.error(f"SETTING {', '.join(unknown)}: expected all, or some of {', '.join(EVERY)}")
    idle = [name for name in arguments.settings if name in EVERY and not {*arguments.parts} & {*EVERY[name].parts}]
    if idle:
        parser.error(f"--parts {' '.join(arguments.parts)}: {', '.join(idle)} has none of these")
    if arguments.check:
        sys.exit(check(chosen or KEPT, arguments))
    for name in chosen:
        for part in (each for each in arguments.parts if each in EVERY[name].parts):
            run = arguments.runs / name / part
            measure(name, part, run if arguments.only_measure else train_part(name, part, arguments), arguments)


if __name__ == "__main__":
    main()
