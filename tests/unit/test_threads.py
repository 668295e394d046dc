"""`--threads` and passive waiting, as a new process of the command line has them."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dbsn.cli.threads import use_threads

SHOW = (
    "import os, torch; print(os.environ['OMP_WAIT_POLICY'], torch.get_num_threads(), os.environ.get('GOMP_SPINCOUNT'))"
)
PREPARE = "from dbsn.cli.threads import use_threads, wait_passively; wait_passively(); use_threads({})"


def plain_environment() -> dict[str, str]:
    """The environment without words on threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "MKL_", "GOMP_"))}


def shown(threads: int | None, **environment: str) -> list[str]:
    """The way of waiting and the number of threads of a process that has settled them."""
    done = subprocess.run(
        [sys.executable, "-c", f"{PREPARE.format(threads)}\n{SHOW}"],
        capture_output=True, text=True, check=True, env=plain_environment() | environment,
    )  # fmt: skip
    return done.stdout.split()


def test_idle_threads_wait_passively_and_as_many_compute_as_asked_for() -> None:
    assert shown(1) == ["PASSIVE", "1", "2000"]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    assert shown(cores) == ["PASSIVE", str(cores), "2000"]
    assert shown(1, OMP_NUM_THREADS=str(cores)) == ["PASSIVE", "1", "2000"], "the flag comes before the environment"


def test_the_environment_has_the_last_word_on_waiting() -> None:
    assert shown(None, OMP_WAIT_POLICY="ACTIVE", OMP_NUM_THREADS="1") == ["ACTIVE", "1", "None"]


@pytest.mark.parametrize("count", [0, -2])
def test_fewer_than_one_thread_is_refused(count: int) -> None:
    with pytest.raises(ValueError, match=f"--threads: got {count}, expected 1 or more"):
        use_threads(count)


@pytest.mark.parametrize(
    ("command", "waits"), [(["inspect"], "PASSIVE"), (["train", "-o", "unused", "--dry-run"], "None")]
)
def test_a_command_settles_both_before_it_computes(command: list[str], waits: str, tmp_path: Path) -> None:
    """Training keeps OpenMP's own way of waiting."""
    pixels = np.random.default_rng(0).normal(128, 20, (64, 64)).clip(0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "noisy.png")
    typed = [command[0], "noisy.png", *command[1:], "--threads", "1"]
    run = f"from dbsn.cli.app import _run; _run({typed})"
    show = "import os, torch; print(os.environ.get('OMP_WAIT_POLICY'), torch.get_num_threads())"
    done = subprocess.run(
        [sys.executable, "-c", f"{run}\n{show}"], capture_output=True, text=True, check=True, cwd=tmp_path,
        env=plain_environment() | {"OMP_NUM_THREADS": "2"},
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == f"{waits} 1"
