"""Many files, one after the other as `dbsn.batch.plan` says; a file that fails does not stop the rest.

Promise: an output file is whole or absent (tests/e2e/test_shell.py).
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from dbsn.batch.jobs import LOOKED_AT, Found, JobResult, each_job, mean_level
from dbsn.batch.journal import Journal, Provenance
from dbsn.batch.model_choice import ModelPicker
from dbsn.batch.plan import Job
from dbsn.config import UNetConfig
from dbsn.denoiser import Denoiser, Method
from dbsn.inference.options import InferenceOptions
from dbsn.inference.tiles import DEFAULT_TILE
from dbsn.intensity import OF_255, Unit, from_pixels, to_pixels
from dbsn.io import raw, zarr
from dbsn.io.formats import check_fits, read_planes, writing_planes
from dbsn.io.picture import check_converts, converted, mixed
from dbsn.io.tiff import writing_float_tiff
from dbsn.types import Place

_STRONGEST = 2
UNETS_TILE = 1536  # the margin of a smaller one costs much beside so fast a network, which halves its maps at once
DType = Literal["input", "uint8", "uint16", "float32"]


@dataclass(frozen=True, kw_only=True)
class DenoiseOptions:
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
    """A letter for each axis, see `dbsn.io.axes`; None for what a file says itself."""
    repair_outliers: bool = False
    """Replace isolated outliers; by default they are kept."""

    def __post_init__(self) -> None:
        if not 0 <= self.strength <= _STRONGEST:
            allowed = f"a number from 0 (keep the image) to {_STRONGEST} (assume twice the measured noise)"
            raise ValueError(f"--strength: got {self.strength:g}, expected {allowed}")

    @property
    def level_factor(self) -> float:
        """How much larger the noise is taken to be than it was measured."""
        return max(self.strength, 1.0)

    def inference(self, denoiser: Denoiser, outliers: list[int]) -> InferenceOptions:
        """How images go through this denoiser; the numbers of isolated outliers are added to `outliers`."""
        return InferenceOptions(
            tile=self.tile_for(denoiser), ensemble=self.ensemble, level_factor=self.level_factor,
            repair_outliers=self.repair_outliers, on_outliers=outliers.append,
        )  # fmt: skip

    def tile_for(self, denoiser: Denoiser) -> int:
        """Side of a tile for this denoiser."""
        if self.tile is not None:
            return self.tile
        is_light = denoiser.student is not None and isinstance(denoiser.student.config.network, UNetConfig)
        return UNETS_TILE if denoiser.picks_student(self.method) and is_light else DEFAULT_TILE

    def settings(self, choice: ModelPicker) -> str:
        """Everything that a result depends on, in words."""
        often = " ensemble" if self.ensemble else ""
        kind = "" if self.dtype == "input" else f" as {self.dtype}"
        method = self.method
        if choice.given and method == "auto":
            method = "student" if choice.load(choice.given).picks_student(method) else "posterior"
        axes = f" axes {self.axes.upper()}" if self.axes else ""
        repair = " outliers repaired" if self.repair_outliers else ""
        return f"{method} of model {choice.digest} strength {self.strength:g}{often}{kind}{axes}{repair}"


def denoise_files(
    choice: ModelPicker, jobs: Sequence[Job], how: DenoiseOptions, journal: Journal | None = None, settings: str = ""
) -> Iterator[JobResult]:
    """Denoise each file into its output; yields one `JobResult` per job, failures included.

    Args:
        choice: What denoises.
        jobs: What goes where.
        how: Settings.
        journal: Where to note what became of each.
        settings: What to note of how they were made.
    """

    def denoise(number: int, job: Job) -> Found:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        if zarr.is_zarr(job.source):
            return _denoise_zarr(choice, job, how)
        levels, outliers, denoiser, why, unit = list[float](), list[int](), None, None, OF_255
        with ExitStack() as files:
            write, write_std = None, None
            for picture in read_planes(job.source, axes=how.axes):
                dtype = picture.dtype if how.dtype == "input" else np.dtype(how.dtype)
                if not raw.is_raw(job.source):
                    check_fits(job.output, replace(picture, dtype=dtype))
                check_converts(picture, dtype)
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
                    options=how.inference(denoiser, outliers),
                )
                levels += [] if level is None else [level]
                if job.beside and std is not None:
                    write_std = write_std or files.enter_context(writing_float_tiff(job.beside))
                    write_std(std * _unit(picture.dtype, dtype))
                write(*converted(samples, picture, dtype))
        return Found(mean_level(levels), unit, why, sum(outliers))

    if journal is None:
        yield from each_job(jobs, denoise)
        return

    def noted(number: int, job: Job) -> Found:
        for target in job.targets:
            journal.begin(target)
        return denoise(number, job)

    for job, done in zip(jobs, each_job(jobs, noted), strict=True):
        for target in job.targets:
            made, model = Provenance(settings, job.source), _model_of(done, choice)
            journal.end(target, made, seconds=done.seconds, noise=done.noise, error=done.error, model=model)
        yield done


def _model_of(done: JobResult, choice: ModelPicker) -> str:
    """Which model was used and why, for a person."""
    if done.why or done.error:
        return done.why.line if done.why else ""
    return f"model {choice.given}"


def choose_models(choice: ModelPicker, jobs: Sequence[Job], how: DenoiseOptions) -> Iterator[JobResult]:
    """Which model `denoise_files` would use for each file and why; reads the first plane and writes nothing."""

    def choose(number: int, job: Job) -> Found:
        if zarr.is_zarr(job.source):
            _check_zarr(job)
            plane = next(iter(zarr.ZarrImage(job.source, how.axes).planes()))
            unit = _unit_of_zarr(job, how)
            return Found(None, unit, choice.pick(plane, unit)[1])
        picture = next(iter(read_planes(job.source, axes=how.axes)))
        dtype = picture.dtype if how.dtype == "input" else np.dtype(how.dtype)
        if not raw.is_raw(job.source):
            check_fits(job.output, replace(picture, dtype=dtype))
        unit = Unit.of_samples(picture.samples)
        return Found(None, unit, choice.pick(picture.samples, unit)[1])

    return each_job(jobs, choose)


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
            part = mixed(before, part, self.strength)
        self.samples[place] = part if self.samples.dtype.kind == "f" else from_pixels(part, self.samples.dtype)


def _denoise_zarr(choice: ModelPicker, job: Job, how: DenoiseOptions) -> Found:
    """Denoise an array plane by plane, each block by block."""
    _check_zarr(job)
    source = zarr.ZarrImage(job.source, how.axes)
    levels, outliers, denoiser, why, unit = list[float](), list[int](), None, None, OF_255
    with ExitStack() as arrays:
        dtype = source.array.dtype if how.dtype == "input" else np.dtype(how.dtype)
        result = arrays.enter_context(zarr.writing_zarr(job.output, source, dtype))
        beside = None
        if job.beside:
            beside = arrays.enter_context(zarr.writing_zarr(job.beside, source, np.dtype(np.float32)))
        for plane in source.planes():
            if denoiser is None:
                unit = _unit_of_zarr(job, how)
                denoiser, why = choice.pick(plane, unit)
            level = denoiser.denoise_into(
                zarr.PlaneCanvas(result, plane, min(how.strength, 1.0)),
                plane,
                std=None if beside is None else zarr.PlaneCanvas(beside, plane, None, _unit(source.array.dtype, dtype)),
                method=how.method,
                options=how.inference(denoiser, outliers),
            )
            levels += [] if level is None else [level]
    return Found(mean_level(levels), unit, why, sum(outliers))


def _check_zarr(job: Job) -> None:
    if job.output.suffix.lower() != zarr.SUFFIX:
        got = f"got {job.output.name}, expected a name that ends in {zarr.SUFFIX}"
        raise ValueError(f"{job.source}: a Zarr can only be saved as Zarr ({got}).")


def _unit_of_zarr(job: Job, how: DenoiseOptions) -> Unit:
    return Unit.of_samples(*(block.samples for block in zarr.blocks(job.source, LOOKED_AT, how.axes)))


def _unit(was: np.dtype[Any], dtype: np.dtype[Any]) -> float:
    """What intensity 1 of a file is in the numbers that are written; floats made of integers keep their numbers."""
    kind = dtype if dtype.kind in "iu" else was
    return float(np.iinfo(kind).max) if kind.kind in "iu" else 1.0
