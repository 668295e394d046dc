"""Train a built-in model: noisy images, a teacher that also learns from the truth, a student. Resumable.

Usage: python training/make.py gray|photo|jpeg-photo [--clean DIR ...] [--runs DIR] [--threads N]
           [--part noisy|teacher|student|all] [--teacher-steps N] [--student-steps N] [--learning-rate R] [--afresh]
Each part continues where it was stopped, also with more steps than before. If its run folder is gone, it starts from
the built-in model's weights, if that has this part. `--afresh` prevents this. `training/README.md` lists the commands
that were run.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import tifffile
import torch

from dbsn.intensity import to_gray
from dbsn.io.atomic import replacing
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.mixtures import one_noise, parse_noises
from dbsn.store.builtin import names, path_of
from dbsn.store.model_file import ModelFile, load_model
from dbsn.tensors import as_tensor

NOISES = {"gray": "any:60", "photo": "any:60", "jpeg-photo": "jpeg:25"}
NETWORKS = {"gray": "unet-fast", "photo": "unet-guided", "jpeg-photo": "unet"}
TEACHERS = {"gray": "gray", "photo": "photo", "jpeg-photo": "photo"}
"""Whose teacher stands beside the student while it is trained."""
CONTINUED = 5e-4
"""Learning rate of what has been trained before, for some thousand steps."""
SHARPER, SHARPEST = (2, 2), (3, 4)
CONTENT = {"gray": SHARPER, "photo": SHARPEST, "jpeg-photo": SHARPEST}
"""By how much clean patches are shrunk at most, and of how many each is the one with the most detail."""
DATA = Path("../shared/data")
CLEAN = {"gray": ("clean_more", "clean_free"), "photo": ("clean_free",), "jpeg-photo": ("clean_free",)}
"""Folders of the clean photographs."""
PATCH = 128, 9
"""Side and number of a student's patches: it sees 63 pixels in every direction."""
PARTS = 5
"""Of a clean photograph; the last one is all of it."""
FEW = 1
"""Noisy images that stage 2 is shown, as it must be shown one; the student learns, and is picked, by clean ones."""


def make_noisy(clean: list[Path], gray: bool, folder: Path) -> tuple[list[Path], list[Path]]:
    """Write five parts of each clean image, each with its own fixed noise, and without noise.

    The parts are the quarters, and the whole at half the size, where edges are sharper. Files are float32 TIFF.
    """
    noises, made = parse_noises("any:60"), tuple[list[Path], list[Path]](([], []))
    for kind in ("noisy", "truth"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    for index, path in enumerate(find_images(clean)):
        pixels = read_image(path).pixels
        pixels = to_gray(pixels) if gray else pixels
        rows, columns = (side // 2 for side in pixels.shape[:2])
        parts = [pixels[y : y + rows, x : x + columns] for y in (0, rows) for x in (0, columns)]
        parts.append(pixels[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean((1, 3)))
        assert len(parts) == PARTS
        for number, part in enumerate(parts):
            files = [folder / kind / f"{path.stem}_{number}.tif" for kind in ("noisy", "truth")]
            for known, file in zip(made, files, strict=True):
                known.append(file)
            if all(file.exists() for file in files):
                continue
            generator = torch.Generator().manual_seed(len(parts) * index + number)
            noise = one_noise(noises, part.shape[2], generator)
            noisy = noise.sample(as_tensor(np.ascontiguousarray(part)), generator)[0].permute(1, 2, 0).numpy()
            for file, image in zip(files, (noisy, part), strict=True):
                with replacing(file) as partial:
                    tifffile.imwrite(partial, image.squeeze().astype(np.float32))
    return made


def train(run: Path, steps: tuple[str, int], threads: int, *start: object) -> None:
    """Start a run with these arguments of `dbsn train`, or continue it."""
    begun = (run / "config.json").exists()
    command = [sys.executable, "-m", "dbsn", "train", "-o", run, *steps]
    command += ["--resume"] if begun else start
    subprocess.run(list(map(str, command)), check=True, env=os.environ | {"OMP_NUM_THREADS": str(threads)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", choices=NOISES)
    parser.add_argument("--clean", type=Path, nargs="+", help="folders of the clean photographs")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--part", choices=("noisy", "teacher", "student", "all"), default="all")
    parser.add_argument("--teacher-steps", type=int, default=5000)
    parser.add_argument("--student-steps", type=int, default=7000)
    parser.add_argument(
        "--learning-rate",
        type=float,
        default=CONTINUED,
        help="learning rate of a training from the built-in weights; a continued run keeps its rate",
    )
    parser.add_argument("--afresh", action="store_true", help="do not start from the built-in weights")
    arguments = parser.parse_args()
    name = arguments.model
    arguments.clean = arguments.clean or [DATA / folder for folder in CLEAN[name]]
    folder, taught = arguments.runs / f"ship_{name}", arguments.runs / f"ship_{TEACHERS[name]}"
    (noisy, truth), teacher = make_noisy(arguments.clean, name == "gray", taught), taught / "teacher"

    def begun(name: str) -> ModelFile | None:
        return load_model(path_of(name)) if name in names() and not arguments.afresh else None

    if arguments.part in ("teacher", "all"):
        shipped, start = begun(TEACHERS[name]), ["--from", "scratch"]
        if shipped and shipped.model:
            start = ["--from", TEACHERS[name], "--learning-rate", arguments.learning_rate]
        train(teacher, ("--steps", arguments.teacher_steps), arguments.threads, *noisy, "--truth", *truth, *start)
    few = noisy[PARTS - 1 :: PARTS][:FEW]
    own = teacher / "model.safetensors"
    known = own if own.exists() else path_of(TEACHERS[name])
    flags = ("--from", "scratch", "--clean", *arguments.clean, "--teacher", known)
    flags += ("--student.network", NETWORKS[name], "--student.baseline", "n2c", "--student.noise", NOISES[name])
    flags += ("--student.shrink", CONTENT[name][0], "--student.busiest-of", CONTENT[name][1])
    flags += ("--student.patch", PATCH[0], "--student.batch", PATCH[1])
    student = folder / "student"
    if arguments.part in ("student", "all"):
        start = ["--student.start", name, "--student.learning-rate", arguments.learning_rate] if begun(name) else []
        if not start and begun(TEACHERS[name]):
            start = ["--student.start", TEACHERS[name]]
        train(student, ("--student.steps", arguments.student_steps), arguments.threads, *few, *flags, *start)


if __name__ == "__main__":
    main()
