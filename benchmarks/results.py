"""Keep measured figures in a JSON file, together with machine, versions and commit."""

import json
import os
import platform
import subprocess
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("torch", "numpy", "scikit-image", "bm3d", "opencv-python-headless")


def here() -> dict[str, Any]:
    """The machine, the versions and the commit of a measurement."""
    ask = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    commit = subprocess.run(ask, capture_output=True, text=True).stdout.strip()
    return {"machine": machine(), "commit": commit, "python": platform.python_version(), "versions": versions()}


def machine() -> str:
    """The processor, and the number of cores that this process may use."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{names[0] if names else platform.processor()}, {cores} cores"


def versions() -> dict[str, str]:
    """Versions of the relevant packages that are installed."""
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def kept(path: Path, row: dict[str, Any], *, same: Sequence[str], about: dict[str, Any]) -> None:
    """Write a row of figures into a JSON file.

    It replaces the row with equal entries `same`.
    """
    rows = json.loads(path.read_text()) if path.exists() else []
    rows = [old for old in rows if any(old[key] != row[key] for key in same)]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps([*rows, {**row, **about}], indent=1) + "\n")
