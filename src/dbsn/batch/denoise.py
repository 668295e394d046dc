"""Many files, one after the other as `dbsn.batch.plan` says; a file that fails does not stop the rest.

Promise: an output file is whole or absent (tests/e2e/test_shell.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

import dbsn.io
from dbsn.batch.claims import claimed
from dbsn.batch.jobs import LOOKED_AT, Found, JobResult, each_job, mean_level
from dbsn.batch.journal import Journal, Provenance
from dbsn.batch.model_choice import ModelPicker, PickReason
from dbsn.batch.plan import Job, is_made
from dbsn.batch.views import PictureView
from dbsn.config import UNetConfig
from dbsn.denoiser import Denoiser, Method
from dbsn.inference.light import needs_fractions
from dbsn.inference.options import InferenceOptions
from dbsn.inference.tiles import DEFAULT_TILE
from dbsn.intensity import OF_255, Unit, from_pixels, to_pixels
from dbsn.io import raw, zarr
from dbsn.io.picture import check_converts, converted, mixed
from dbsn.io.tiff import writing_float_tiff
from dbsn.types import Pixels, Place

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

    def inference(self, denoiser: Denoiser, outliers: list[int]) -> InferenceOptions:
        """How images go through this denoiser; the numbers of isolated outliers are added to `outliers`.

        A denoiser without a noise-level input takes the noise as it is.
        """
        factor = max(self.strength, 1.0) if self.is_guided(denoiser) else 1.0
        return InferenceOptions(
            tile=self.tile_for(denoiser), ensemble=self.ensemble, level_factor=factor,
            repair_outliers=self.repair_outliers, on_outliers=outliers.append,
        )  # fmt: skip

    def is_guided(self, denoiser: Denoiser) -> bool:
        """Whether the method of this denoiser has a noise-level input."""
        return denoiser.picks_student(self.method) and denoiser.student is not None and denoiser.student.guided

    def remarks(self, denoiser: Denoiser) -> tuple[str, ...]:
        """What of the settings cannot be done by this denoiser."""
        if self.strength <= 1 or self.is_guided(denoiser):
            return ()
        return (f"--strength {self.strength:g} is used as 1, because this model has no noise-level input",)

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


@dataclass(frozen=True, kw_only=True)
class Batch:
    """How results are noted and replaced."""

    settings: str = ""
    """What is noted of how they were made."""
    overwrites: bool = False
    """Whether results are replaced that dbsn did not make or that were edited since."""


ALONE = Batch()


def denoise_files(
    choice: ModelPicker, jobs: Sequence[Job], how: DenoiseOptions, journal: Journal | None = None, batch: Batch = ALONE
) -> Iterator[JobResult]:
    """Denoise each file into its output; yields one `JobResult` per job, failures included.

    Args:
        choice: What denoises.
        jobs: What goes where.
        how: Settings.
        journal: Where to note what became of each. Processes that share it make each result once.
        batch: What is noted, and what may be replaced.
    """

    def denoise(number: int, job: Job) -> Found:
        job.output.parent.mkdir(parents=True, exist_ok=True)
        source = dbsn.io.open(job.source)
        if source.is_array:
            return _denoise_zarr(choice, job, how)
        levels, denoiser, why, unit, remarks = list[float](), None, None, OF_255, dict[str, None]()
        outliers = list[int]()
        with ExitStack() as files:
            write, write_std = None, None
            for picture in source.planes(axes=how.axes):
                dtype = picture.dtype if how.dtype == "input" else np.dtype(how.dtype)
                source.check_fits(job.output, replace(picture, dtype=dtype))
                remarks |= dict.fromkeys(source.remarks(job.output, picture))
                write = write or files.enter_context(source.writing(job.output))
                check_converts(picture, dtype)
                rounds = dtype.kind in "iu" and picture.dtype.kind in "iu" and not raw.is_raw(job.source)
                samples = np.empty(picture.samples.shape, dtype if rounds else np.float32)
                std = np.empty(samples.shape, np.float32) if job.beside else None
                view = PictureView.of(picture, splits=choice.is_builtin and not raw.is_raw(job.source))
                if denoiser is None:
                    unit = Unit.of_samples(picture.samples)
                    denoiser, why = _pick(choice, view, unit, job)
                    remarks |= dict.fromkeys(how.remarks(denoiser))
                remarks |= dict.fromkeys(_rounding(picture.samples, picture.dtype, dtype))
                image = view.for_model(denoiser.channels, takes_gray=denoiser.picks_student(how.method))
                for place in view.places:
                    level = denoiser.denoise_into(
                        _Mixed(samples[place], image[place], how.strength, is_gray=view.colours is not None),
                        image[place],
                        std=None if std is None else std[place],
                        method=how.method,
                        options=how.inference(denoiser, outliers),
                    )
                    levels += [] if level is None else [level]
                view.put_back(samples)
                if job.beside and std is not None:
                    write_std = write_std or files.enter_context(writing_float_tiff(job.beside))
                    write_std(std * _unit(picture.dtype, dtype))
                write(*converted(samples, picture, dtype))
        return Found(mean_level(levels), unit, why, tuple(remarks), sum(outliers))

    if journal is None:
        yield from each_job(jobs, denoise)
        return
    claimed_by_others = list[Job]()
    for waits, some in ((False, jobs), (True, claimed_by_others)):
        for job in some:
            with claimed(journal.folder, job.output, waits=waits) as is_ours:
                done = _noted(job, denoise, choice, journal, batch) if is_ours else None
            if done:
                yield done
            else:
                claimed_by_others.append(job)


def _noted(
    job: Job, work: Callable[[int, Job], Found], choice: ModelPicker, journal: Journal, batch: Batch
) -> JobResult:
    """Do a job and note it in the journal, unless another process has done it or its results are not dbsn's."""
    journal.read()
    if all(map(journal.made_meanwhile, job.targets)) and is_made(job, journal, batch.settings):
        return JobResult(source=job.source, output=job.output, seconds=0.0, is_by_others=True)
    made = Provenance(batch.settings, job.source)
    try:
        for target in () if batch.overwrites else job.targets:
            journal.check(target, made)
    except FileExistsError as error:
        return JobResult(source=job.source, output=job.output, seconds=0.0, error=str(error))
    for target in job.targets:
        journal.begin(target)
    [done] = each_job([job], work)
    for target in job.targets:
        model = _model_of(done, choice)
        journal.end(target, made, seconds=done.seconds, noise=done.noise, error=done.error, model=model)
    return done


def _model_of(done: JobResult, choice: ModelPicker) -> str:
    """Which model was used and why, for a person."""
    if done.why or done.error:
        return done.why.line if done.why else ""
    return f"model {choice.given}"


def choose_models(choice: ModelPicker, jobs: Sequence[Job], how: DenoiseOptions) -> Iterator[JobResult]:
    """Which model `denoise_files` would use for each file and why; reads the first plane and writes nothing."""

    def choose(number: int, job: Job) -> Found:
        source = dbsn.io.open(job.source)
        if source.is_array:
            _check_zarr(job)
            plane = next(iter(zarr.ZarrImage(job.source, how.axes).planes()))
            unit = _unit_of_zarr(job, how)
            return Found(None, unit, choice.pick(plane, unit)[1])
        picture = next(source.planes(axes=how.axes))
        dtype = picture.dtype if how.dtype == "input" else np.dtype(how.dtype)
        source.check_fits(job.output, replace(picture, dtype=dtype))
        unit = Unit.of_samples(picture.samples)
        view = PictureView.of(picture, splits=choice.is_builtin and not raw.is_raw(job.source))
        return Found(None, unit, _pick(choice, view, unit, job)[1], source.remarks(job.output, picture))

    return each_job(jobs, choose)


def _pick(choice: ModelPicker, view: PictureView, unit: Unit, job: Job) -> tuple[Denoiser, PickReason | None]:
    """The model for a picture, and why."""
    return choice.pick(view.samples[view.places[0]], unit, is_mosaic=view.is_mosaic or raw.is_raw(job.source))


class _Mixed:
    """Where to put a picture's result part by part: mixed with the picture, and rounded if the place holds integers.

    So a large picture of integers is never in memory as floats, which take up to four times what its samples do.
    """

    def __init__(self, samples: np.ndarray, source: np.ndarray, strength: float, *, is_gray: bool = False) -> None:
        self.samples, self.source, self.strength, self.is_gray = samples, source, strength, is_gray

    def __setitem__(self, place: Place, part: np.ndarray) -> None:
        """Put intensities (h, w, c) at rows and columns."""
        if self.strength < 1:
            before = to_pixels(self.source[place])
            part = mixed(before, part, self.strength)
        if self.is_gray:
            part = part.mean(2, keepdims=True)  # all channels get it
        self.samples[place] = part if self.samples.dtype.kind == "f" else from_pixels(part, self.samples.dtype)


def _denoise_zarr(choice: ModelPicker, job: Job, how: DenoiseOptions) -> Found:
    """Denoise an array plane by plane, each block by block."""
    _check_zarr(job)
    source = zarr.ZarrImage(job.source, how.axes)
    levels, denoiser, why, unit, remarks = list[float](), None, None, OF_255, dict[str, None]()
    outliers = list[int]()
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
                remarks |= dict.fromkeys(how.remarks(denoiser))
            remarks |= dict.fromkeys(_rounding(plane, source.array.dtype, dtype))
            level = denoiser.denoise_into(
                zarr.PlaneCanvas(result, plane, min(how.strength, 1.0)),
                plane,
                std=None if beside is None else zarr.PlaneCanvas(beside, plane, None, _unit(source.array.dtype, dtype)),
                method=how.method,
                options=how.inference(denoiser, outliers),
            )
            levels += [] if level is None else [level]
    return Found(mean_level(levels), unit, why, tuple(remarks), sum(outliers))


def _rounding(image: Pixels, was: np.dtype[Any], dtype: np.dtype[Any]) -> tuple[str, ...]:
    """That integers lose the light of few photons, if they do."""
    if dtype.kind not in "iu" or was.kind not in "iu" or not needs_fractions(image, 1 / np.iinfo(dtype).max):
        return ()
    return ("integers are too coarse for so few photons a pixel, so add --dtype float32",)


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
