"""Shape checks on every annotated function of the package, and small helpers that several tests use."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from jaxtyping import install_import_hook

_hook = install_import_hook("dbsn", "beartype.beartype")

import torch  # noqa: E402

torch.set_num_threads(2)

SHARED = Path(os.environ.get("DBSN_SHARED", Path(__file__).parents[2] / "shared"))
"""Golden values and public images; tests that need them are skipped where they are missing."""


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


@pytest.fixture
def dbsn_command() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run the command line in a process of its own."""

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "dbsn", *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600)

    return run
