"""The stages of the paper: train on noisy images, apply the teacher, distil.

`stages` yields them one after the other; the caller consumes the progress of each. In a folder where some stages are
done it continues with the next. So starting and resuming are the same call (tests/e2e/test_stages.py). Screen output
and file names do not belong here.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dbsn.config import MODEL, ModelConfig, StudentConfig, TrainConfig
from dbsn.devices import pick_device, uses_bf16
from dbsn.intensity import (
    OF_255,
    Unit,
    by_unit,
    clean_range,
    from_pixels,
    intensity_range,
    placement,
    to_gray,
    to_pixels,
)
from dbsn.io.atomic import write_atomically
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.mixtures import Several, one_noise, parse_noises
from dbsn.noise.pooling import shared
from dbsn.store.model_file import load_model
from dbsn.training.checkpoint import CHECKPOINT, finished
from dbsn.training.distill import REFINED, StageTwo, distil, new_student
from dbsn.training.loop import Progress, TrainingContext, is_main_process, wait_for_all
from dbsn.training.selfsupervised import learn
from dbsn.training.teacher import RESULTS, recall_refined, recalled, some_of, teach

STUDENT = "student"
"""Name of a run's sub-folder for the checkpoint of stage 2."""
LIKELIHOOD, ERROR = "negative log-likelihood", "error, in noise variances"
SYNTHETIC_ERROR = "error of synthetic pairs, in noise variances"  # for baselines, which use no noisy images


@dataclass(frozen=True, kw_only=True)
class StageOne:
    """The inputs of stage 1 besides the noisy images."""

    model: ModelConfig
    """Configuration of the model."""
    config: TrainConfig
    """Configuration of its training."""
    truth: Sequence[np.ndarray] = ()
    """The noisy images without noise, to learn from them, too (L6); may be empty."""
    init_from: BlindSpotModel | None = None
    """A blind-spot model with the initial weights."""


@dataclass(frozen=True)
class Stage:
    """One stage; its progress must be consumed before the next stage is requested."""

    name: Literal["blind", "teacher", "student", "comparison"]
    progress: Iterator[Progress] | Iterator[float]
    """Progress of a training; for teacher and comparison the share of the work done."""
    note: str = ""
    """Note for the user at the start of the stage."""
    unit: Unit = OF_255
    """Unit of the noisy images' intensities."""
    figure: str = LIKELIHOOD
    """Figure on held-out images: LIKELIHOOD (negative), ERROR or SYNTHETIC_ERROR."""


def stages(
    noisy: Sequence[np.ndarray],
    first: StageOne,
    second: StageTwo | None,
    context: TrainingContext,
    *,
    teacher: BlindSpotModel | None = None,
    results: Path | None = None,
) -> Iterator[Stage]:
    """Yield the remaining stages of a run; its folder may be empty.

    Args:
        noisy: Noisy images (h, w, c) of any sizes and one data type.
        first: Stage 1.
        second: Stage 2; None for stage 1 alone.
        context: Folder for checkpoints, the teacher's results and the model file; description for that file; device.
            Checkpoints in the folder are resumed.
        teacher: A trained blind-spot model that replaces stage 1.
        results: File with the teacher's results for the same noisy images (`teach`), to avoid computing them again.

    Yields:
        Stages. An interrupted stage is the last.

    Raises:
        ValueError: There is no noisy image, no clean image with their channels, or the student is impossible.
    """
    folder, config, story = context.run, first.config, context.about
    if second:
        second = replace(second, images=clean_like(second.images, noisy))
        _check(second, noisy, (teacher.config if teacher else first.model).stride)
    if not teacher and not finished(folder / CHECKPOINT, config):
        if (folder / RESULTS).exists():
            raise ValueError(f"{folder}: stage 2 has begun, so stage 1 can no longer be extended. Start a new run.")
        resume = (folder / CHECKPOINT).exists()
        here = replace(context, resume=resume)
        progress = learn(noisy, first.model, config, here, truth=first.truth, init_from=first.init_from)
        yield Stage("blind", progress, unit=Unit.of_samples(*noisy))
        wait_for_all()
        if not finished(folder / CHECKPOINT, config):
            return
    if second is None:
        return
    if not teacher:
        saved = load_model(folder / MODEL)
        teacher, story = saved.teacher, {**story, "teacher": saved.about.get("teacher", saved.about)}
    here = replace(context, about=story)
    yield from _distilled(teacher, noisy, second, here, precision=config.precision, results=results)


def _distilled(
    teacher: BlindSpotModel,
    noisy: Sequence[np.ndarray],
    second: StageTwo,
    context: TrainingContext,
    *,
    precision: str,
    results: Path | None,
) -> Iterator[Stage]:
    """Apply the teacher to the noisy images and train a student on the results.

    Arguments are those of `stages`; clean images have the data type of the noisy ones. `precision` is that of the
    teacher's convolutions.
    """
    folder = context.run
    is_baseline = second.config.baseline is not None  # without a teacher; one image is enough to know the range
    chosen = some_of(noisy)
    note = ""
    if len(chosen) < len(noisy):
        note = f"the teacher uses {len(chosen)} of the {len(noisy)} noisy images, evenly chosen"
    if results and not is_baseline and is_main_process() and not (folder / RESULTS).exists():
        write_atomically(folder / RESULTS, results.read_bytes())
        note = f"the teacher's results for these images are taken from {results.parent}"
    where = pick_device(context.device)
    teacher.eval().to(where)
    bf16 = uses_bf16(precision, where, "convolution")
    asked = chosen[:1] if is_baseline else chosen
    teaching = teach(teacher, asked, folder / RESULTS, bf16=bf16) if is_main_process() else iter(())
    if is_baseline:
        deque(teaching, maxlen=0)
    else:
        yield Stage("teacher", teaching, note)
    wait_for_all()
    (folder / STUDENT).mkdir(exist_ok=True)
    known = recalled(teacher.to("cpu"), chosen, folder / RESULTS)
    here = replace(context, run=folder / STUDENT, resume=(folder / STUDENT / CHECKPOINT).exists())
    distilling = distil(known, second, here, to=folder)
    unit, refined = Unit.of_samples(*noisy), folder / STUDENT / REFINED
    noise, whose = known.noise, "learned from the noisy images"
    if refined.exists():
        noise, whose = recall_refined(known, refined)[0], "corrected by the student"
    note = "" if is_baseline else f"{whose}: {shared(noise).describe(unit)}"
    figure = SYNTHETIC_ERROR if is_baseline else ERROR
    yield Stage("student", distilling, note, unit, LIKELIHOOD if second.config.uncertainty_alone else figure)


def _check(second: StageTwo, noisy: Sequence[np.ndarray], stride: int) -> None:
    """Check the inputs of stage 2 before stage 1 starts."""
    channels = noisy[0].shape[2]
    if second.config.uncertainty_alone and not second.init_from:
        raise ValueError("--student.uncertainty-alone: needs a student. Name its model file with --student.start.")
    config = StudentConfig(network=second.network, channels=channels)
    student = new_student(config, second.config.seed, second.init_from)
    if second.config.uncertainty_alone and second.init_from and second.init_from.config.network != second.network:
        kept = f"got {second.network}, expected that of --student.start, {second.init_from.config.network}"
        raise ValueError(f"--student.uncertainty-alone: cannot change the network ({kept}). Omit --student.network.")
    if student.guided and stride > 1:
        raise ValueError("--student.network unet-guided: the level of correlated noise cannot be measured. Use unet.")
    if second.config.noise:
        noises = parse_noises(second.config.noise)
        if isinstance(noises, Several) and clean_range(*intensity_range(noisy)) != (0, 1):
            raise ValueError(
                f"--student.noise {second.config.noise}: levels are of 255, but these images are in counts or dark. "
                "Omit --student.noise."
            )
        one_noise(noises, channels, torch.Generator()).variance(torch.zeros(1, channels, 1, 1))


def clean_like(clean: Sequence[np.ndarray], noisy: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Convert clean images to the channels and unit of the noisy ones (`placement`).

    Raises:
        ValueError: No clean image can be used.
    """
    channels = noisy[0].shape[2]
    fitting = [image for image in clean if image.shape[2] in (channels, 3)]
    if not fitting:
        raise ValueError(
            "--clean: got no colour image, but the noisy ones are in colour. Name clean colour images."
            if clean
            else "--clean: got no image, expected at least one. Name clean images."
        )
    if channels == 1:
        fitting = [from_pixels(to_gray(to_pixels(image)), image.dtype) for image in fitting]
    seen = intensity_range(noisy)
    places = {unit: placement(seen, intensity_range(alike)) for unit, alike in by_unit(fitting).items()}

    def placed(image: np.ndarray) -> np.ndarray:
        low, width = places[Unit.of_samples(image)]
        return image if (low, width) == (0, 1) else low + width * to_pixels(image)

    return [placed(image) for image in fitting]
