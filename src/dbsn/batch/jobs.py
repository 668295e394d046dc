"""Jobs done one after the other; one that fails does not stop the rest (tests/e2e/test_shell.py)."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dbsn.batch.model_choice import PickReason
from dbsn.batch.plan import Job
from dbsn.intensity import OF_255, Unit

LOOKED_AT = 8  # blocks of a Zarr, or files, that tell a unit


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What became of a job."""

    source: Path
    output: Path
    seconds: float
    noise_std: float | None = None
    """Root-mean-square noise, intensity: estimated, or put on; None if the student did not ask."""
    unit: Unit = OF_255
    """The numbers that intensities of it are known by."""
    why: PickReason | None = None
    """Which model was picked for it and why, if one was picked."""
    remarks: tuple[str, ...] = ()
    """What the result does not keep of its file, or what is wrong with the file, each in a few words."""
    is_by_others: bool = False
    """Whether another process made the result meanwhile."""
    outliers: int = 0
    """Number of pixels that are isolated outliers."""
    error: str | None = None
    """One line that names the file, if it failed."""

    @property
    def noise(self) -> tuple[str, str]:
        """The noise level as a number, and what it is in: "of 255"; empty where it is not known."""
        return ("", "") if self.noise_std is None else (self.unit.number(self.noise_std), self.unit.of.strip())


@dataclass(frozen=True)
class Found:
    """What a job found out."""

    level: float | None
    """As `JobResult.noise_std`."""
    unit: Unit
    """As `JobResult.unit`."""
    why: PickReason | None = None
    """Which model was picked for it and why, if one was picked."""
    remarks: tuple[str, ...] = ()
    """As `JobResult.remarks`."""
    outliers: int = 0
    """As `JobResult.outliers`."""


def mean_level(levels: Sequence[float]) -> float | None:
    """Root mean square of noise levels, if there are any."""
    return float(np.sqrt(np.mean(np.square(levels)))) if levels else None


def each_job(jobs: Sequence[Job], work: Callable[[int, Job], Found]) -> Iterator[JobResult]:
    """Do each job; one that fails is told by a line that names its file."""
    for number, job in enumerate(jobs):
        began = time.perf_counter()
        try:
            found = work(number, job)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = reason if str(job.source) in reason else f"{job.source}: {reason}"
            yield JobResult(source=job.source, output=job.output, seconds=time.perf_counter() - began, error=text)
        else:
            yield JobResult(
                source=job.source, output=job.output, seconds=time.perf_counter() - began, noise_std=found.level,
                unit=found.unit, why=found.why, remarks=found.remarks, outliers=found.outliers,
            )  # fmt: skip
