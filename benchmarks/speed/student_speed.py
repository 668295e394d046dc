"""Measure the time of student, grid teacher with fusion, and full-size D-BSN on one image, in one process.

Weights are random, because the time does not depend on them. Figures are medians, and medians of the ratios of
consecutive runs.
Usage: python -m benchmarks.speed.student_speed [--side 512] [--channels 3] [--repeats 5] [--student unet]
"""

import argparse
import json
import time
from collections.abc import Callable

import numpy as np
import torch

from dbsn.config import NETWORKS, STUDENTS, ModelConfig, StudentConfig
from dbsn.inference.blindspot import predict
from dbsn.inference.options import InferenceOptions
from dbsn.inference.student import apply_student
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--student", choices=STUDENTS, default="unet")
    arguments = parser.parse_args()
    torch.manual_seed(0)
    image = np.random.default_rng(0).random((arguments.side, arguments.side, arguments.channels), np.float32)
    models = {}
    for name in ("grid", "dbsn"):
        model = BlindSpotModel(ModelConfig(channels=arguments.channels, network=NETWORKS[name])).eval()
        models[name] = model.to(memory_format=torch.channels_last)
    student = Student(StudentConfig(channels=arguments.channels, network=STUDENTS[arguments.student])).eval()
    student.to(memory_format=torch.channels_last)
    work = {
        "student": lambda: apply_student(student, image, options=InferenceOptions(bf16=True)),
        "grid teacher, calibrated and fused": lambda: predict(
            models["grid"], image, options=InferenceOptions(bf16=True)
        ),
        "D-BSN, fused": lambda: predict(models["dbsn"], image, options=InferenceOptions(bf16=True), calibrated=False),
    }
    work["student"]()
    taken = {name: [] for name in work}
    for _ in range(arguments.repeats):
        for name, one in work.items():
            taken[name].append(seconds(one))
    print(json.dumps({
        "seconds": {name: float(np.median(times)) for name, times in taken.items()},
        "over the student": {
            name: float(np.median(np.divide(times, taken["student"]))) for name, times in taken.items()
        },
        "side": arguments.side, "channels": arguments.channels, "threads": torch.get_num_threads(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
