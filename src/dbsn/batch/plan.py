"""What a command on many files is to do: which file becomes which, and what of it is left to do.

Promise: no input is ever written over, and no two inputs become one file (tests/e2e/test_shell.py). Doing it does not
belong here.
"""

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import dbsn.io
from dbsn.batch.journal import Journal, Provenance, State
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
        ValueError: Several inputs are to go into one file.
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
        jobs.append(Job(source, target))
    jobs = _told_apart(jobs, output)
    if save_std:
        jobs = [replace(job, beside=_std_of(job.output, job.output.stem)) for job in jobs]
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


def shard_of(jobs: Sequence[Job], shard: str | None) -> list[Job]:
    """Every N-th job, from the K-th on, for a shard "K/N"; all jobs for None.

    The jobs of N shards are all jobs, each in one shard, as long as the inputs are the same.

    Raises:
        ValueError: The shard is not of that form, or K is not from 1 to N.
    """
    if shard is None:
        return list(jobs)
    number, count = _numbers_of(shard)
    return list(jobs[number - 1 :: count])


def is_first(shard: str | None) -> bool:
    """Whether a shard is the one that speaks for all: there are none, or it is the first."""
    return shard is None or _numbers_of(shard)[0] == 1


def _numbers_of(shard: str) -> tuple[int, int]:
    number, slash, count = shard.partition("/")
    if not (slash and number.isascii() and number.isdigit() and count.isascii() and count.isdigit()):
        raise ValueError(f"--shard: got {shard}, expected K/N, for example 2/8. Write it like this.")
    if not 1 <= int(number) <= int(count):
        raise ValueError(f"--shard: got {shard}, expected a part from 1/{count} to {count}/{count}.")
    return int(number), int(count)


def left(jobs: Sequence[Job], journal: Journal | None, settings: str = "") -> list[Job]:
    """The jobs whose results are not there yet, or would be made in another way now.

    Args:
        jobs: Everything that is wanted.
        journal: What is known of results that exist; without it there must be none.
        settings: What they would be made with.

    Raises:
        FileExistsError: A result exists, and there is no journal.
    """
    if journal is None:
        found = [target for job in jobs for target in job.targets if target.exists()]
        if found:
            more = f" ({len(found)} files in all)" if len(found) > 1 else ""
            raise FileExistsError(f"{found[0]}: exists already{more}. Add --overwrite to replace it.")
        return list(jobs)
    return [job for job in jobs if not is_made(job, journal, settings)]


def is_made(job: Job, journal: Journal, settings: str) -> bool:
    """Whether all results of a job are there as they would be made now."""
    made = Provenance(settings, job.source)
    return all(journal.state(target, made) is State.MADE for target in job.targets)


def _told_apart(jobs: Sequence[Job], output: Path) -> list[Job]:
    """Give results of the same name other names, which tell their sources: `a.nef.dng`, `x/a.png`, else `a_2.png`."""
    jobs = _renamed(jobs, lambda job, alike: job.output.with_name(_full_name(job)))
    jobs = _renamed(jobs, lambda job, alike: output / _from_common_folder(job, alike).with_name(job.output.name))
    taken = {_place(job.output) for job in jobs}

    def numbered(job: Job, alike: Sequence[Job]) -> Path:
        if job is alike[0]:
            return job.output
        number = 2
        while _place(path := job.output.with_stem(f"{job.output.stem}_{number}")) in taken:
            number += 1
        taken.add(_place(path))
        return path

    return _renamed(jobs, numbered)


def _renamed(jobs: Sequence[Job], name: Callable[[Job, Sequence[Job]], Path]) -> list[Job]:
    """Rename the results that have the same path as another one."""
    alike: dict[Path, list[Job]] = {}
    for job in jobs:
        alike.setdefault(_place(job.output), []).append(job)
    groups = [alike[_place(job.output)] for job in jobs]
    return [
        replace(job, output=name(job, group)) if len(group) > 1 else job
        for job, group in zip(jobs, groups, strict=True)
    ]


def _place(path: Path) -> Path:
    """A path by which two names of one file are known."""
    return Path(os.path.normcase(path.resolve()))


def _full_name(job: Job) -> str:
    """The name of a source with its suffix, and the result's suffix where that is another one."""
    same = job.source.suffix.lower() == job.output.suffix.lower()
    return job.output.name if same else f"{job.source.name}{job.output.suffix}"


def _from_common_folder(job: Job, alike: Sequence[Job]) -> Path:
    """The path of a source below the folder that all of these have in common."""
    common = os.path.commonpath([each.source.absolute().parent for each in alike])
    return job.source.absolute().relative_to(common)


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
        first = min(job.source for job in jobs if job.source.resolve() in replaced)
        raise FileExistsError(f"{first}: is an input and would be replaced. Choose another --output.")
    return jobs


def _folders(inputs: Sequence[Path]) -> list[Path]:
    """Those of the inputs that hold images, and are not one."""
    return [path for path in inputs if path.is_dir() and not dbsn.io.open(path).is_array]


def _below(source: Path, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if source.is_relative_to(folder):
            return source.relative_to(folder)
    return Path(source.name)
