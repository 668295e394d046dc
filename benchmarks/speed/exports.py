"""Exported files beside the student in PyTorch: size, largest difference, seconds a megapixel.

Usage: python -m benchmarks.speed.exports [MODEL ...] [--side 1024] [--repeats 5]
One thread, single precision. The ratio is that of medians in one run. It prints a table.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from dbsn.export.files import KINDS, About, export
from dbsn.models.student import Student
from dbsn.store.builtin import names, path_of
from dbsn.store.model_file import load_model


def runner(path: Path) -> Callable[[np.ndarray], object] | None:
    """What applies a file here; None for a package that holds a file of another row."""
    if path.suffix == ".onnx":
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda noisy: session.run(None, {"input": noisy})
    if path.suffix == ".pt":
        module = torch.jit.load(str(path))
        return lambda noisy: module(torch.from_numpy(noisy))
    return None


def seconds(run: Callable[[np.ndarray], object], noisy: np.ndarray) -> float:
    """Of one application."""
    began = time.perf_counter()
    with torch.inference_mode():
        run(noisy)
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", nargs="*", default=names())
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| model | file | MB | differs by | s / megapixel | PyTorch = 1 |\n|---|---|---|---|---|---|")
    for name in arguments.models:
        student = load_model(path_of(name)).student
        assert student is not None

        def torch_run(image: np.ndarray, student: Student = student) -> object:
            return student(torch.from_numpy(image))

        shape = (1, student.config.channels, arguments.side, arguments.side)
        noisy = np.random.default_rng(0).random(shape, np.float32)
        with tempfile.TemporaryDirectory() as folder:
            for suffix in KINDS:
                path = Path(folder) / f"model{suffix}"
                difference = export(student, path, About(name=name, purpose="A benchmark."))
                run, both = runner(path), list[tuple[float, float]]()
                for _ in range(arguments.repeats if run else 0):
                    both.append((seconds(run, noisy), seconds(torch_run, noisy)))
                row = f"| {name} | {suffix} | {path.stat().st_size / 1e6:.1f} | {difference:.0e} "
                if both:
                    own, torchs = (statistics.median(each) for each in zip(*both, strict=True))
                    row += f"| {own / arguments.side**2 * 1e6:.2f} | {own / torchs:.2f} |"
                print(row if both else f"{row}| | |", flush=True)


if __name__ == "__main__":
    main()
