"""What several commands share: flags, opening models, telling of files that failed."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dbsn.store import builtin

if TYPE_CHECKING:
    from dbsn.denoiser import Denoiser

Device = Literal["auto", "cpu", "cuda", "mps"]
Method = Literal["auto", "student", "posterior"]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
AXES_HELP = (
    "A letter for each axis of a Zarr that does not name them, as TZYX or SYX: Y and X are a plane, S the three "
    "colours of a pixel, and every other letter counts planes that share one noise."
)
Axes = Annotated[str | None, tyro.conf.arg(help=AXES_HELP)]
Threads = Annotated[int | None, tyro.conf.arg(metavar="N", help="Threads to compute with. Default: one for each core.")]
ModelPath = Annotated[Path, tyro.conf.arg(aliases=["-m"])]


def report_failures(failures: list[str]) -> None:
    """A line on stderr for each file that failed."""
    for failure in failures:
        print(f"dbsn: {failure}", file=sys.stderr)


def load(path: Path, device: str) -> "Denoiser":
    """A model file, or one that comes with dbsn by its name."""
    from dbsn.denoiser import Denoiser

    return Denoiser.load(builtin.find_model(path), device=device)
