"""What a command on many files is to do: which file becomes which, and what of it is left to do.

Promise: no input is ever written over, and no two inputs become one file (tests/e2e/test_shell.py). Doing it does not
belong here.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dbsn.io
from dbsn.batch.journal import Journal, Provenance
from dbsn.io.folders import find_images
from dbsn.io.format_table import format_named


@dataclass(frozen=True)
class Job:
    """One file and what becomes of it."""

    source: Path
    output: Path
    beside: Path | None = None
    """Where the second result goes, if there is one: the standard deviation, or a pair's clean half."""

    @property
    def targets(self) -> tuple[Path, ...]:
        """Every file that is to be written."""
        return (self.output, self.beside) if self.beside else (self.output,)


def goes_to_file(output: Path) -> bool:
    """Whether --output names a file, not a folder."""
    return format_named(output) is not None and (dbsn.io.open(output).is_array or not output.is_dir())


def plan(inputs: Sequence[Path], output: Path, *, save_std: bool = False) -> list[Job]:
    """Pair each input file with its output: sub-folders of an input folder are mirrored below `output`.

    Raises:
        FileNotFoundError: An input does not exist.
        FileExistsError: A result would replace an input.
        ValueError: Two inputs would have the same output, or several inputs are to go into one file.
    """
    to_file, place = goes_to_file(output), output.resolve()
    around = [folder for folder in _folders(inputs) if folder.resolve() in place.parents]
    earlier = place if around and not to_file else None  # results of an earlier run are no input
    sources = [path for path in find_images(inputs) if earlier is None or not path.resolve().is_relative_to(earlier)]
    if to_file and len(sources) > 1:
        raise ValueError(f"--output {output}: one file cannot take {len(sources)} images. Name a folder.")
    folders = _folders(inputs)
    jobs = []
    for source in sources:
        target = output if to_file else dbsn.io.open(source).result(output / _below(source, folders))
        jobs.append(Job(source, target, _std_of(target, target.stem) if save_std else None))
    stds = Counter(job.beside for job in jobs)
    return _safe(
        [
            replace(job, beside=_std_of(job.output, job.output.name)) if job.beside and stds[job.beside] > 1 else job
            for job in jobs
        ]
    )


def _std_of(target: Path, name: str) -> Path:
    """Where a result's standard deviation goes."""
    named = format_named(target)
    return target.with_name(f"{name}_std{target.suffix.lower() if named and named.is_array else '.tif'}")


def plan_pairs(inputs: Sequence[Path], output: Path, *, float_tiff: bool) -> list[Job]:
    """Pair each clean file with outputs below `output`/noisy and `output`/clean; raises as `plan`."""
    folders = _folders(inputs)
    jobs = []
    for source in find_images(inputs):
        below = _below(source, folders)
        below = below.with_suffix(".tif") if float_tiff else below
        jobs.append(Job(source, output / "noisy" / below, output / "clean" / below))
    return _safe(jobs)


def left(jobs: Sequence[Job], journal: Journal | None, settings: str = "") -> list[Job]:
    """The jobs whose results are not there yet.

    Args:
        jobs: Everything that is wanted.
        journal: What is known of results that exist; without it there must be none.
        settings: What they would be made with.

    Raises:
        FileExistsError: A result exists that was made in another way, from another file, or not by this journal's work.
    """
    found = [target for job in jobs for target in job.targets if target.exists()]
    if found and journal is None:
        more = f" ({len(found)} files in all)" if len(found) > 1 else ""
        raise FileExistsError(f"{found[0]}: exists already{more}. Add --overwrite to replace it.")

    def is_missing(job: Job) -> bool:
        there = [target for target in job.targets if target.exists()]
        made = [journal.is_made(target, Provenance(settings, job.source)) for target in there] if journal else []
        return len(there) < len(job.targets) or not all(made)

    return [job for job in jobs if is_missing(job)]


def _safe(jobs: list[Job]) -> list[Job]:
    """The jobs, if none of their results stands in the way of another file."""
    by_output: dict[Path, Path] = {}
    for job in jobs:
        for target in job.targets:
            if (other := by_output.get(target.resolve())) is not None:
                raise ValueError(f"{target}: {other} and {job.source} would both be written here. Use two folders.")
            by_output[target.resolve()] = job.source
    replaced = set(by_output) & {job.source.resolve() for job in jobs}
    if replaced:
        raise FileExistsError(f"{min(replaced)}: is an input and would be replaced. Choose another --output.")
    return jobs


def _folders(inputs: Sequence[Path]) -> list[Path]:
    """Those of the inputs that hold images, and are not one."""
    return [path for path in inputs if path.is_dir() and not dbsn.io.open(path).is_array]


def _below(source: Path, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if source.is_relative_to(folder):
            return source.relative_to(folder)
    return Path(source.name)
