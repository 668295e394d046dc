"""Many files: what is to be done, and doing it one after the other; a file that fails does not stop the rest.

Promise: an output file is whole or absent, and no input is ever written over (tests/e2e/test_shell.py).
"""

import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tifffile
import torch

from dbsn.checkpoint import write_atomically
from dbsn.denoiser import Denoiser, Method
from dbsn.evaluate import to_gray
from dbsn.images import SUFFIXES, check_fits, find_images, read_image, write_image
from dbsn.infer import NO_EXTRAS, STD
from dbsn.noisemodel import NoiseModel, clean_range
from dbsn.patches import as_tensor, step_seed


@dataclass(frozen=True)
class Job:
    """One file and what becomes of it."""

    source: Path
    output: Path
    beside: Path | None = None
    """Where the second result goes, if there is one: the standard deviation, or a pair's clean half."""


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a job."""

    output: Path
    seconds: float
    noise_std: float | None = None
    """Root-mean-square noise, intensity: estimated, or put on; None if the student did not ask."""
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
    return _safe(jobs, overwrite=overwrite)


def plan_pairs(inputs: Sequence[Path], output: Path, *, overwrite: bool, float_tiff: bool) -> list[Job]:
    """Pair each clean file with outputs below `output`/noisy and `output`/clean; raises as `plan`."""
    folders = [path for path in inputs if path.is_dir()]
    jobs = []
    for source in find_images(inputs):
        below = _below(source, folders)
        below = below.with_suffix(".tif") if float_tiff else below
        jobs.append(Job(source, output / "noisy" / below, output / "clean" / below))
    return _safe(jobs, overwrite=overwrite)


def _safe(jobs: list[Job], *, overwrite: bool) -> list[Job]:
    """The jobs, if none of their results stands in the way of another file."""
    by_output: dict[Path, Path] = {}
    for job in jobs:
        for target in filter(None, (job.output, job.beside)):
            if (other := by_output.get(target.resolve())) is not None:
                raise ValueError(f"{other} and {job.source} would both become {target}; do them apart")
            by_output[target.resolve()] = job.source
    replaced = set(by_output) & {job.source.resolve() for job in jobs}
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


def denoise_files(
    denoiser: Denoiser, jobs: Sequence[Job], *, method: Method = "auto", tile: int, ensemble: bool = False
) -> Iterator[Done]:
    """Denoise each file into its output; yields one `Done` per job, failures included."""

    def denoise(number: int, job: Job) -> float | None:
        picture = read_image(job.source)
        check_fits(job.output, picture)
        job.output.parent.mkdir(parents=True, exist_ok=True)
        if denoiser.picks_student(method):
            result = denoiser.denoise(picture.pixels, method="student", tile=tile, ensemble=ensemble)
            write_image(job.output, result, picture)
            return None
        extras = STD if job.beside else NO_EXTRAS
        estimate = denoiser.estimate(picture.pixels, tile=tile, ensemble=ensemble, extras=extras)
        write_image(job.output, estimate.denoised, picture)
        if job.beside is not None and estimate.std is not None:
            _write_float_tiff(job.beside, estimate.std)
        return estimate.noise_level

    return _each(jobs, denoise)


def synthesize_files(noise: NoiseModel, jobs: Sequence[Job], *, float_tiff: bool, seed: int) -> Iterator[Done]:
    """Write each clean file with noise into its output, and itself beside it.

    Gray noise makes gray pairs of colour files. Noise of images in counts is put on the file stretched to their range;
    what is written in the file's own format is brought back.

    Args:
        noise: The learned noise.
        jobs: What goes where.
        float_tiff: Write float32 TIFF, in the noisy images' range, instead of the input's format.
        seed: Of the noise; a file's realisation depends on it and the file's place in `jobs`.
    """

    def synthesize(number: int, job: Job) -> float:
        picture = read_image(job.source)
        pixels = to_gray(picture.pixels) if noise.model.config.channels == 1 else picture.pixels
        if pixels.shape[2] != noise.model.config.channels:
            raise ValueError("the noise was learned in colour, and this image is gray")
        low, width = clean_range(noise.model.config.offset, noise.model.config.scale)
        clean = low + width * pixels
        noisy_image = noise.sample(as_tensor(clean), torch.Generator().manual_seed(step_seed(seed, number, 0)))
        noisy = noisy_image[0].permute(1, 2, 0).numpy()
        assert job.beside is not None
        for file, image in ((job.output, noisy), (job.beside, clean)):
            file.parent.mkdir(parents=True, exist_ok=True)
            if float_tiff:
                _write_float_tiff(file, image)
            else:
                back = (image - low) / width
                write_image(file, back, replace(picture, pixels=back))
        return float(np.sqrt(((noisy - clean) ** 2).mean()))

    return _each(jobs, synthesize)


def _each(jobs: Sequence[Job], work: Callable[[int, Job], float | None]) -> Iterator[Done]:
    """Do each job; one that fails is told by a line that names its file."""
    for number, job in enumerate(jobs):
        began = time.perf_counter()
        try:
            level = work(number, job)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = reason if str(job.source) in reason else f"{job.source}: {reason}"
            yield Done(output=job.output, seconds=time.perf_counter() - began, error=text)
        else:
            yield Done(output=job.output, seconds=time.perf_counter() - began, noise_std=level)


def _write_float_tiff(path: Path, image: np.ndarray) -> None:
    content = io.BytesIO()
    tifffile.imwrite(content, image[..., 0] if image.shape[2] == 1 else image)
    write_atomically(path, content.getvalue())
