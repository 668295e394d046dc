"""Many files: what is to be done, and doing it one after the other; a file that fails does not stop the rest.

Promise: an output file is whole or absent, and no input is ever written over (tests/e2e/test_shell.py).
"""

import io
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import tifffile

from dbsn.checkpoint import write_atomically
from dbsn.denoiser import Denoiser
from dbsn.images import SUFFIXES, check_fits, find_images, read_image, write_image
from dbsn.infer import NO_EXTRAS, STD


@dataclass(frozen=True)
class Job:
    """One file to denoise."""

    source: Path
    output: Path
    std: Path | None = None
    """Where the standard deviation goes, if it is wanted."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a job."""

    output: Path
    seconds: float
    noise_std: float = float("nan")
    """Estimated root-mean-square noise, intensity."""
    error: str | None = None
    """One line that names the file, if it failed."""


def plan(inputs: Sequence[Path], output: Path, *, overwrite: bool, save_std: bool = False) -> list[Job]:
    """Pair each input file with its output: sub-folders of an input folder are mirrored below `output`.

    Raises:
        FileNotFoundError: An input does not exist.
        FileExistsError: A result exists and `overwrite` is off, or a result would replace an input.
        ValueError: Two inputs would have the same output, or several inputs are to go into one file.
    """
    sources = find_images(inputs)
    to_file = output.suffix.lower() in SUFFIXES and not output.is_dir()
    if to_file and len(sources) > 1:
        raise ValueError(f"--output {output}: one file cannot take {len(sources)} images; name a folder")
    folders = [path for path in inputs if path.is_dir()]
    jobs = []
    for source in sources:
        target = output if to_file else output / _below(source, folders)
        jobs.append(Job(source, target, target.with_name(f"{target.stem}_std.tif") if save_std else None))
    by_output: dict[Path, Path] = {}
    for job in jobs:
        for target in filter(None, (job.output, job.std)):
            if (other := by_output.get(target.resolve())) is not None:
                raise ValueError(f"{other} and {job.source} would both become {target}; denoise them apart")
            by_output[target.resolve()] = job.source
    replaced = set(by_output) & {source.resolve() for source in sources}
    if replaced:
        raise FileExistsError(f"{min(replaced)} is an input and would be replaced; choose another --output")
    existing = [target for target in by_output if target.exists()]
    if existing and not overwrite:
        raise FileExistsError(f"{existing[0]} exists already ({len(existing)} in all); --overwrite replaces")
    return jobs


def _below(source: Path, folders: Sequence[Path]) -> Path:
    for folder in folders:
        if source.is_relative_to(folder):
            return source.relative_to(folder)
    return Path(source.name)


def denoise_files(denoiser: Denoiser, jobs: Sequence[Job], *, tile: int, ensemble: bool = False) -> Iterator[Done]:
    """Denoise each file into its output; yields one `Done` per job, failures included."""
    for job in jobs:
        began = time.perf_counter()
        try:
            level = _denoise(denoiser, job, tile=tile, ensemble=ensemble)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = reason if str(job.source) in reason else f"{job.source}: {reason}"
            yield Done(output=job.output, seconds=time.perf_counter() - began, error=text)
        else:
            yield Done(output=job.output, seconds=time.perf_counter() - began, noise_std=level)


def _denoise(denoiser: Denoiser, job: Job, *, tile: int, ensemble: bool) -> float:
    """Denoise one file; returns its estimated root-mean-square noise."""
    picture = read_image(job.source)
    check_fits(job.output, picture)
    job.output.parent.mkdir(parents=True, exist_ok=True)
    extras = STD if job.std else NO_EXTRAS
    estimate = denoiser.estimate(picture.pixels, tile=tile, ensemble=ensemble, extras=extras)
    write_image(job.output, estimate.denoised, picture)
    if job.std is not None and estimate.std is not None:
        content = io.BytesIO()
        tifffile.imwrite(content, estimate.std[..., 0] if estimate.std.shape[2] == 1 else estimate.std)
        write_atomically(job.std, content.getvalue())
    return estimate.noise_level
