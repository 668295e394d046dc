"""Ablation of stage 2, as in the paper: students of one teacher that differ in one part.

Usage: python -m benchmarks.studies.ablation EXPERIMENT --teacher RUN/model.safetensors [--variants NAME ...]
       [--steps N] [--from scratch] [--data DIR] [--runs DIR] [--threads N] [dbsn train's flags]
EXPERIMENT is one of stage2.py's with synthetic noise, and RUN its folder, whose teacher's results are used. It prints
PSNR and SSIM on (c)bsd68 as a line of JSON for each variant.
set1: noisy images with the teacher's results alone. set2: clean images with learned noise alone. both: both sets.
level: both, with a noise-level input (unet-guided). oracle: both, with the true noise on the clean images. n2c: oracle
without set 1.
"""

import argparse
import json
import os
from pathlib import Path

from benchmarks.quality.stage1 import dbsn
from benchmarks.quality.stage2 import EXPERIMENTS, halves

VARIANTS: dict[str, tuple[str, ...]] = {
    "set1": ("--student.noisy-share", "1"),
    "set2": ("--student.noisy-share", "0"),
    "both": (),
    "level": ("--student.network", "unet-guided"),
    "oracle": ("--student.noise", "{noise}"),
    "n2c": ("--student.noise", "{noise}", "--student.baseline", "n2c"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiment", choices=[name for name, each in EXPERIMENTS.items() if each.noise])
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=["set1", "set2", "both", "oracle"])
    parser.add_argument("--steps", type=int, default=1800, help="15 minutes of two idle cores")
    parser.add_argument(
        "--from", dest="start", default="scratch", help="initial weights of every student: scratch, builtin"
    )
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments, flags = parser.parse_known_args()
    experiment = EXPERIMENTS[arguments.experiment]
    noisy, clean = halves(experiment, arguments.data, arguments.runs / f"stage2_{arguments.experiment}_data")
    for variant in arguments.variants:
        run = arguments.runs / f"ablation_{arguments.experiment}_{variant}"
        own = [flag.format(noise=experiment.noise) for flag in VARIANTS[variant]]
        if (run / "config.json").exists():
            steps = ("--student.steps", arguments.steps)
            dbsn("train", "-o", run, "--resume", *steps, threads=arguments.threads)
        else:
            dbsn(
                "train", *noisy, "-o", run, "--teacher", arguments.teacher, "--from", arguments.start,
                "--student.steps", arguments.steps, *own, *flags, "--clean", *clean, threads=arguments.threads,
            )  # fmt: skip
        shown = dbsn(
            "evaluate", "-m", run / "model.safetensors", "--clean", arguments.data / experiment.clean,
            "--noise", experiment.noise, "--method", "student", "--json", threads=arguments.threads,
        )  # fmt: skip
        print(json.dumps({"variant": variant, "flags": flags} | json.loads(shown)), flush=True)


if __name__ == "__main__":
    main()
