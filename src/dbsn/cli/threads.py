"""How many threads compute, and how they wait for each other.

Both are settled before PyTorch is loaded, for a process that is ours, the command line's. Idle threads wait passively:
by default they would spin, which on a busy machine costs several times the work (docs/lab). Measured by
`benchmarks/speed/small_images.py`, tested in tests/unit/test_threads.py.
"""

import os
import sys


def wait_passively() -> None:
    """Let idle threads sleep, unless the environment says otherwise."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


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
