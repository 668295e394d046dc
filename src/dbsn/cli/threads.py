"""How many threads compute, and how they wait for each other.

Both are settled before PyTorch is loaded, for a process of the command line. Idle threads sleep after a few
microseconds. OpenMP's default lets them spin for milliseconds, which costs three times the CPU time on a busy machine
(`benchmarks/speed/small_images.py`). Training keeps that default: its thousands of short operations a second would wait
for sleeping threads. Tested in tests/unit/test_threads.py.
"""

import os
import sys

_SPINS = "2000"  # of GNU OpenMP, before a thread sleeps; with 0 a large image takes 2 % longer


def wait_passively() -> None:
    """Let idle threads sleep soon, unless the environment says otherwise."""
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)


def use_threads(count: int | None) -> None:
    """Compute with this many threads; None leaves it to PyTorch, which takes one for each core.

    Raises:
        ValueError: `count` is below 1.
    """
    if count is None:
        return
    if count < 1:
        raise ValueError(f"--threads: got {count}, expected 1 or more")
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:  # loaded already, when another program calls `main`
        import torch

        torch.set_num_threads(count)
