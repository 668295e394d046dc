"""Measure a supervised student on real_w2s: trained on true pairs of five fields, tested on the sixth.

It is an upper limit for methods that use noisy images alone, not a way to use dbsn. Gain and offset of each image are
fitted to the truth ("affine"), for training and for measuring.
Usage: python -m benchmarks.studies.ceiling [--data DIR] [--held 001_] [--steps 600] [--threads N]
"""

import argparse
import json
import math
import os
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dbsn.config import StudentConfig
from dbsn.evaluation.metrics import prepare, psnr
from dbsn.inference.options import InferenceOptions
from dbsn.inference.student import apply_student
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.models.student import Student
from dbsn.training.optimizer import Muon

BATCH, PATCH, LEARNING_RATE = 16, 96, 1e-3


def batch(pairs: list[np.ndarray], generator: np.random.Generator) -> tuple[Tensor, Tensor]:
    """Random patches (b, 1, h, w) in random orientations: noisy, clean."""
    patches = []
    for pair in (pairs[i] for i in generator.integers(0, len(pairs), BATCH)):
        top, left = (generator.integers(0, side - PATCH + 1) for side in pair.shape[1:])
        patch = np.rot90(pair[:, top : top + PATCH, left : left + PATCH], generator.integers(4), (1, 2))
        patches.append(patch[:, :, :: generator.choice([-1, 1])])
    both = torch.from_numpy(np.stack(patches))
    return both[:, :1].contiguous(memory_format=torch.channels_last), both[:, 1:]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--held", default="001_", help="prefix of the names of the test images")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    learned, held = [], []
    for path in find_images([arguments.data / "real_w2s" / "noisy"]):
        noisy = read_image(path).pixels[..., 0]
        truth = read_image(arguments.data / "real_w2s" / "clean" / path.name).pixels[..., 0]
        gain, offset = np.polyfit(truth.ravel(), noisy.ravel(), 1)
        pair = np.stack([noisy, gain * truth + offset]).astype(np.float32)
        (held if path.name.startswith(arguments.held) else learned).append((pair, truth))
    student = Student(StudentConfig()).to(memory_format=torch.channels_last)
    optimizer = Muon(student.parameter_groups(), lr=LEARNING_RATE)
    generator, began = np.random.default_rng(0), time.perf_counter()
    for step in range(arguments.steps):
        rate = LEARNING_RATE * min(1, (step + 1) / 20) * (1 + math.cos(math.pi * step / arguments.steps)) / 2
        for group in optimizer.param_groups:
            group["lr"] = rate
        noisy, clean = batch([pair for pair, _ in learned], generator)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            result = student(noisy)
        errors = [(image.float() - clean).square().mean((1, 2, 3)) for image in (result, noisy)]
        optimizer.zero_grad()
        (errors[0] / errors[1]).mean().backward()
        optimizer.step()
    student.eval()
    scores = []
    for pair, truth in held:
        result = apply_student(student, pair[0][..., None], options=InferenceOptions(bf16=True))
        scores.append(psnr(prepare(result, truth[..., None], "affine"), truth[..., None]))
    print(json.dumps({"psnr": float(np.mean(scores)), "of images": scores, "steps": arguments.steps,
                      "minutes": (time.perf_counter() - began) / 60}))  # fmt: skip


if __name__ == "__main__":
    main()
