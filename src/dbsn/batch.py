"""Many files, one after the other as `dbsn.plan` says; a file that fails does not stop the rest.

Promise: an output file is whole or absent (tests/e2e/test_shell.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import torch

from dbsn import raw, zarrs
from dbsn.atomic import replacing
from dbsn.choice import Choice, Why
from dbsn.config import UNetConfig
from dbsn.denoiser import Denoiser, Method
from dbsn.evaluate import to_gray
from dbsn.images import check_fits, read_image, read_planes, write_image, writing_planes
from dbsn.infer import DEFAULT_TILE
from dbsn.ledger import Ledger, Made
from dbsn.noisemodel import NoiseModel, placement
from dbsn.patches import as_tensor, intensity_range, step_seed
from dbsn.picture import OF_255, ImageError, Unit, by_unit, converted, from_pixels, to_pixels
from dbsn.plan import Job
from dbsn.types import Place

_STRONGEST = 2
_LOOKED_AT = 8  # blocks of a Zarr, or files, that tell a unit
UNETS_TILE = 1536  # the margin of a smaller one costs much beside so fast a network, which halves its maps at once
DType = Literal["input", "uint8", "uint16", "float32"]


@dataclass(frozen=True, kw_only=True)
class Done:
    """What became of a job."""

    output: Path
    seconds: float
    noise_std: float | None = None
    """Root-mean-square noise, intensity: estimated, or put on; None if the student did not ask."""
    unit: Unit = OF_255
    """The numbers that intensities of it are known by."""
    why: str = ""
    """Which model was picked for it and why, where that has not been said before."""
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
    """As `Done.noise_std`."""
    unit: Unit
    """As `Done.unit`."""
    why: Why | None = None
    """Which model was picked for it and why, if one was picked."""


@dataclass(frozen=True, kw_only=True)
class How:
    """Settings of `denoise_files`."""

    method: Method = "auto"
    """Student or posterior; see `Denoiser.denoise`."""
    ensemble: bool = False
    """Average over the eight orientations."""
    strength: float = 1.0
    """How much of what is taken for noise is taken out: 0 nothing, 1 all; beyond, the noise is taken to be so many
    times as large as it was measured, by a network that is told it."""
    dtype: DType = "input"
    """Kind of the samples that are written; float32 are the file's own numbers, not rounded."""
    tile: int | None = None
    """Side of a tile; None for what suits the network. The results do not depend on it."""
    axes: str | None = None
    """A letter for each axis, see `dbsn.axes`; None for what a file says itself."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= _STRONGEST:
            allowed = f"a number from 0 (nothing) over 1 (all of the noise) to {_STRONGEST}"
            raise ValueError(f"--strength {self.strength}: expected {allowed}")

    @property
    def level_factor(self) -> float:
        """How much larger the noise is taken to be than it was measured."""
        return max(self.strength, 1.0)

    def tile_for(self, denoiser: Denoiser) -> int:
        """Side of a tile for this denoiser."""
        if self.tile is not None:
            return self.tile
        is_light = denoiser.student is not None and isinstance(denoiser.student.config.network, UNetConfig)
        return UNETS_TILE if denoiser.picks_student(self.method) and is_light else DEFAULT_TILE

    def settings(self, choice: Choice) -> str:
        """Everything that a result depends on, in words."""
        often = " ensemble" if self.ensemble else ""
        kind = "" if self.dtype == "input" else f" as {self.dtype}"
        method = self.method
        if choice.given and method == "auto":
            method = "student" if choice.load(choice.given).picks_student(method) else "posterior"
        axes = f" axes {self.axes.upper()}" if self.axes else ""
        return f"{method} of model {choice.digest} strength {self.strength:g}{often}{kind}{axes}"


def denoise_files(
    choice: Choice, jobs: Sequence[Job], how: How, ledger: Ledger | None = None, settings: str = ""
) -> Iterator[Done]:
    """Denoise each file into its output; yields one `Done` per job, failures included.

    Args:
        choice: What denoises.
        jobs: What goes where.
        how: Settings.
        ledger: Where to note what became of each.
        settings: What to note of how they were made.
    """

    def denoise(number: int, job: Job) -> Found:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        if zarrs.is_zarr(job.source):
            return _denoise_zarr(choice, job, how)
        levels, denoiser, why, unit = list[float](), None, None, OF_255
        with ExitStack() as files:
            write, write_std = None, None
            for picture in read_planes(job.source, axes=how.axes):
                dtype = picture.dtype if how.dtype == "input" else np.dtype(how.dtype)
                if not raw.is_raw(job.source):
                    check_fits(job.output, replace(picture, dtype=dtype))
                write = write or files.enter_context(writing_planes(job.output, job.source))
                rounds = dtype.kind in "iu" and picture.dtype.kind in "iu" and not raw.is_raw(job.source)
                samples = np.empty(picture.samples.shape, dtype if rounds else np.float32)
                std = np.empty(samples.shape, np.float32) if job.beside else None
                if denoiser is None:
                    unit = Unit.of_samples(picture.samples)
                    denoiser, why = choice.pick(picture.samples, unit)
                level = denoiser.denoise_into(
                    _Mixed(samples, picture.samples, how.strength),
                    picture.samples,
                    std=std,
                    method=how.method,
                    tile=how.tile_for(denoiser),
                    ensemble=how.ensemble,
                    level_factor=how.level_factor,
                )
                levels += [] if level is None else [level]
                if job.beside and std is not None:
                    write_std = write_std or files.enter_context(_writing_float_tiff(job.beside))
                    write_std(std * _unit(picture.dtype, dtype))
                write(*converted(samples, picture, dtype))
        return Found(_mean_level(levels), unit, why)

    if ledger is None:
        yield from _each(jobs, denoise)
        return

    def noted(number: int, job: Job) -> Found:
        for target in job.targets:
            ledger.begin(target)
        return denoise(number, job)

    for job, done in zip(jobs, _each(jobs, noted), strict=True):
        for target in job.targets:
            made = Made(settings, job.source)
            ledger.end(target, made, seconds=done.seconds, noise=done.noise, error=done.error)
        yield done


class _Mixed:
    """Where to put a picture's result part by part: mixed with the picture, and rounded if the place holds integers.

    So a large picture of integers is never in memory as floats, which take up to four times what its samples do.
    """

    def __init__(self, samples: np.ndarray, source: np.ndarray, strength: float) -> None:
        self.samples, self.source, self.strength = samples, source, strength

    def __setitem__(self, place: Place, part: np.ndarray) -> None:
        """Put intensities (h, w, c) at rows and columns."""
        if self.strength < 1:
            before = to_pixels(self.source[place])
            part = before + self.strength * (part - before)
        self.samples[place] = part if self.samples.dtype.kind == "f" else from_pixels(part, self.samples.dtype)


def _denoise_zarr(choice: Choice, job: Job, how: How) -> Found:
    """Denoise an array plane by plane, each block by block."""
    if job.output.suffix.lower() != zarrs.SUFFIX:
        raise ValueError(f"{job.output}: a Zarr stays one; write {zarrs.SUFFIX} instead")
    source = zarrs.ZarrImage(job.source, how.axes)
    levels, denoiser, why, unit = list[float](), None, None, OF_255
    with ExitStack() as arrays:
        dtype = source.array.dtype if how.dtype == "input" else np.dtype(how.dtype)
        result = arrays.enter_context(zarrs.writing_zarr(job.output, source, dtype))
        beside = None
        if job.beside:
            beside = arrays.enter_context(zarrs.writing_zarr(job.beside, source, np.dtype(np.float32)))
        for plane in source.planes():
            if denoiser is None:
                unit = Unit.of_samples(*(block.samples for block in zarrs.blocks(job.source, _LOOKED_AT, how.axes)))
                denoiser, why = choice.pick(plane, unit)
            level = denoiser.denoise_into(
                zarrs.PlaneCanvas(result, plane, min(how.strength, 1.0)),
                plane,
                std=None
                if beside is None
                else zarrs.PlaneCanvas(beside, plane, None, _unit(source.array.dtype, dtype)),
                method=how.method,
                tile=how.tile_for(denoiser),
                ensemble=how.ensemble,
                level_factor=how.level_factor,
            )
            levels += [] if level is None else [level]
    return Found(_mean_level(levels), unit, why)


def _unit(was: np.dtype[Any], dtype: np.dtype[Any]) -> float:
    """What intensity 1 of a file is in the numbers that are written; floats made of integers keep their numbers."""
    kind = dtype if dtype.kind in "iu" else was
    return float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0


def _mean_level(levels: Sequence[float]) -> float | None:
    """Root mean square of noise levels, if there are any."""
    return float(np.sqrt(np.mean(np.square(levels)))) if levels else None


def synthesize_files(noise: NoiseModel, jobs: Sequence[Job], *, float_tiff: bool, seed: int) -> Iterator[Done]:
    """Write each clean file with noise into its output, and itself beside it.

    Gray noise makes gray pairs of colour files. Noise of images in another unit, such as counts, is put on the files
    stretched to their range; what is written in the file's own format is brought back.

    Args:
        noise: The learned noise.
        jobs: What goes where.
        float_tiff: Write float32 TIFF, in the noisy images' range, instead of the input's format.
        seed: Of the noise; a file's realisation depends on it and the file's place in `jobs`.
    """
    seen, some = noise.model.config, list[np.ndarray]()
    for job in jobs[:: -(-len(jobs) // _LOOKED_AT) or 1]:
        with suppress(ImageError, OSError):  # of which its own turn will tell
            some.append(read_image(job.source).samples)
    ranges = {unit: intensity_range(alike) for unit, alike in by_unit(some).items()}

    def synthesize(number: int, job: Job) -> Found:
        picture = read_image(job.source)
        pixels = to_gray(picture.pixels) if noise.model.config.channels == 1 else picture.pixels
        if pixels.shape[2] != noise.model.config.channels:
            raise ValueError("the noise was learned in colour, and this image is gray")
        unit = Unit.of_samples(picture.samples)
        low, width = placement((seen.offset, seen.scale), ranges.get(unit) or intensity_range([pixels]))
        clean = low + width * pixels
        noisy_image = noise.sample(as_tensor(clean), torch.Generator().manual_seed(step_seed(seed, number, 0)))
        noisy = noisy_image[0].permute(1, 2, 0).numpy()
        assert job.beside is not None
        for file, image in ((job.output, noisy), (job.beside, clean)):
            file.parent.mkdir(parents=True, exist_ok=True)
            if float_tiff:
                with _writing_float_tiff(file) as write:
                    write(image)
            else:
                samples = from_pixels((image - low) / width, picture.dtype)
                write_image(file, samples, replace(picture, samples=samples))
        level = float(np.sqrt(((noisy - clean) ** 2).mean()))
        return Found(level, Unit.of_samples(noisy)) if float_tiff else Found(level / width, unit)

    return _each(jobs, synthesize)


def _each(jobs: Sequence[Job], work: Callable[[int, Job], Found]) -> Iterator[Done]:
    """Do each job; one that fails is told by a line that names its file."""
    told = set[tuple[object, ...]]()
    for number, job in enumerate(jobs):
        began = time.perf_counter()
        try:
            found = work(number, job)
        except (ValueError, OSError, MemoryError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            text = reason if str(job.source) in reason else f"{job.source}: {reason}"
            yield Done(output=job.output, seconds=time.perf_counter() - began, error=text)
        else:
            why = found.why.line if found.why and found.why.like not in told else ""
            told |= {found.why.like} if found.why else set()
            yield Done(
                output=job.output, seconds=time.perf_counter() - began, noise_std=found.level, unit=found.unit, why=why
            )


@contextmanager
def _writing_float_tiff(path: Path) -> Iterator[Callable[[np.ndarray], None]]:
    """Write a float32 TIFF of one or more pages (h, w, c), whole or not at all."""
    with replacing(path) as partial, tifffile.TiffWriter(partial, bigtiff=True) as writer:

        def write(image: np.ndarray) -> None:
            kind = "minisblack" if image.shape[2] == 1 else "rgb"
            writer.write(image[..., 0] if image.shape[2] == 1 else image, photometric=kind, metadata=None)

        yield write
