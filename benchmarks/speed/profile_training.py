"""Profile a training step of teacher and student, in colour, in the first version and now.

Usage: python -m benchmarks.speed.profile_training [--repeats 5]
Before: float32, channels first, Adam. Now: bf16 if the processor has it, channels last, Muon. Each kind of operation is
given as a share of its step, forward and backward. `times as fast` is a median over consecutive pairs of steps. Run
nothing else at the same time.
"""

import argparse
import json
from collections import Counter
from collections.abc import Callable

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.speed.speed import precisions, seconds, student_step, teacher_step

KINDS = (  # what an operation's name contains, first match
    ("convolutions", ("convolution", "conv_")),
    ("ReLU", ("relu", "threshold")),
    ("optimiser", ("optimizer", "foreach", "addmm", "aten::mm", "bmm", "lerp", "norm")),
    ("copies and casts", ("copy", "fill", "zero", "cat", "contiguous", "clone")),
)


def shares(step: Callable[[], None], steps: int = 3) -> dict[str, float]:
    """Share of each kind of operation in a step, 0 to 1."""
    with profile(activities=[ProfilerActivity.CPU]) as recorded:
        for _ in range(steps):
            step()
    spent = Counter[str]()
    for event in recorded.key_averages():
        kind = next((kind for kind, parts in KINDS if any(part in event.key.lower() for part in parts)), "others")
        spent[kind] += event.self_cpu_time_total
    return {kind: round(time / sum(spent.values()), 3) for kind, time in spent.most_common()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for what, make in (("student", student_step), ("teacher", teacher_step)):
        plain, ours = (make(is_plain=is_plain)[2] for is_plain in (True, False))

        def in_bf16(step: Callable[[], None] = ours) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=torch.bfloat16 in precisions()):
                step()

        pairs = [(seconds(plain), seconds(in_bf16)) for _ in range(repeats + 1)][1:]
        before, now = np.median(pairs, 0).tolist()
        row = {"step": what, "times as fast": float(np.median([b / a for b, a in pairs]))}
        row |= {"before": {"seconds": before} | shares(plain), "now": {"seconds": now} | shares(in_bf16)}
        print(json.dumps(row | {"threads": torch.get_num_threads()}), flush=True)


if __name__ == "__main__":
    main()
