"""Shape checks on every annotated function of the package, and small helpers that several tests use."""

import io
import os
import sys
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

_hook = install_import_hook("dbsn", "beartype.beartype")
# the networks of the tests are too small to share out, and waiting threads are slow on a busy machine
os.environ["OMP_NUM_THREADS"] = "1"

import torch  # noqa: E402

SHARED = Path(os.environ.get("DBSN_SHARED", Path(__file__).parents[2] / "shared"))
"""Golden values and public images; tests that need them are skipped where they are missing."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Chance without a generator is the same in each test, whichever ran before it in this process."""
    torch.manual_seed(0)


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture
def golden() -> Callable[[str], dict[str, np.ndarray]]:
    """Load one file of values computed with the published implementation."""

    def load(name: str) -> dict[str, np.ndarray]:
        path = SHARED / "golden" / f"{name}.npz"
        if not path.exists():
            pytest.skip(f"no golden values {path.name}")
        with np.load(path) as file:
            return dict(file)

    return load


@dataclass(frozen=True)
class Finished:
    """What a command left on the screen, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture(scope="session")
def dbsn_command() -> Callable[..., Finished]:
    """Run the command line, in this process: torch is loaded once for all tests."""
    from dbsn.cli import main

    def run(*arguments: object) -> Finished:
        out, err = io.StringIO(), io.StringIO()
        with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
            patch.setattr(sys, "argv", ["dbsn", *map(str, arguments)])
            with pytest.raises(SystemExit) as exit_:
                main()
        return Finished(int(exit_.value.code or 0), out.getvalue(), err.getvalue())

    return run
