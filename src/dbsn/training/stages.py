"""The whole paper as a sequence of stages: learn from noisy images, let the teacher speak, distil a student.

`stages` yields them one after the other, each with its progress to be consumed; a folder where some are done goes on
with the next, so that resuming and starting are the same call (tests/e2e/test_stages.py). What a person sees and
which files were named do not belong here.
"""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dbsn.config import MODEL, DistillConfig, ModelConfig, StudentConfig, StudentNetwork, TrainConfig
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
from dbsn.models.student import Student
from dbsn.noise.mixtures import Several, one_noise, parse_noises
from dbsn.noise.pooling import shared
from dbsn.store.model_file import load_model
from dbsn.training.checkpoint import CHECKPOINT, finished
from dbsn.training.distill import REFINED, distil, new_student
from dbsn.training.loop import Progress, TrainingContext, is_main_process, wait_for_all
from dbsn.training.selfsupervised import learn
from dbsn.training.teacher import RESULTS, recall_refined, recalled, some_of, teach

STUDENT = "student"
"""Name of the sub-folder of a run where stage 2 keeps its checkpoint."""
LIKELIHOOD, ERROR = "negative log-likelihood", "error, in noise variances"
SYNTHETIC_ERROR = "error of synthetic pairs, in noise variances"  # a baseline's, which no noisy image tells of


@dataclass(frozen=True, kw_only=True)
class StageOne:
    """What stage 1 needs besides the noisy images."""

    model: ModelConfig
    """What is trained."""
    config: TrainConfig
    """How."""
    truth: Sequence[np.ndarray] = ()
    """The noisy images without noise, if it is to learn from that, too (L6)."""
    init_from: BlindSpotModel | None = None
    """A blind-spot model whose weights to start from."""


@dataclass(frozen=True, kw_only=True)
class StageTwo:
    """What stage 2 needs besides stage 1."""

    images: Sequence[np.ndarray]
    """Clean images (h, w, c) of anything."""
    network: StudentNetwork
    """The student's."""
    config: DistillConfig
    """How it is trained."""
    init_from: Student | None = None
    """A student whose weights to start from."""


@dataclass(frozen=True)
class Stage:
    """One of the stages, to be consumed before the next is asked for."""

    name: Literal["blind", "teacher", "student"]
    progress: Iterator[Progress] | Iterator[float]
    """Of training; or, while the teacher goes through the noisy images, the share done."""
    note: str = ""
    """What a person should know before."""
    unit: Unit = OF_255
    """The numbers that the noisy images' intensities are known by."""
    figure: str = LIKELIHOOD
    """What is measured on held-out images: LIKELIHOOD (negative), ERROR or SYNTHETIC_ERROR."""


def stages(
    noisy: Sequence[np.ndarray],
    first: StageOne,
    second: StageTwo | None,
    context: TrainingContext,
    *,
    teacher: BlindSpotModel | None = None,
    results: Path | None = None,
) -> Iterator[Stage]:
    """Everything that is still to be done in a run's folder, which may be empty.

    Args:
        noisy: Noisy images (h, w, c) of any sizes and one kind.
        first: Stage 1.
        second: Stage 2; None for stage 1 alone.
        context: Folder for checkpoints, the teacher's results and the model file; what is kept in that; the device. The
            checkpoints that are there say what is to be resumed.
        teacher: A trained blind-spot model, in the place of stage 1.
        results: What it has left elsewhere of the same noisy images (`teach`), rather than go through them again.

    Yields:
        Stages. One that was interrupted ends the sequence.

    Raises:
        ValueError: No image to learn from, no clean image of the noisy ones' channels, or an impossible student.
    """
    folder, config, story = context.run, first.config, context.about
    if second:
        second = replace(second, images=clean_like(second.images, noisy))
        _check(second, noisy, (teacher.config if teacher else first.model).stride)
    if not teacher and not finished(folder / CHECKPOINT, config):
        if (folder / RESULTS).exists():
            raise ValueError(f"{folder}: stage 2 has begun, so stage 1 can no longer be extended; start a new run")
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
    """The teacher goes through the noisy images, and a student learns from it.

    Arguments as of `stages`, the clean images in the kind of the noisy ones. `precision` is that of the teacher's
    convolutions.
    """
    folder = context.run
    is_baseline = second.config.baseline is not None  # which nobody teaches; one image says what range there is
    chosen = some_of(noisy)
    note = ""
    if len(chosen) < len(noisy):
        note = f"{len(chosen)} of the {len(noisy)} noisy images, evenly chosen, will do for the teacher"
    if results and not is_baseline and is_main_process() and not (folder / RESULTS).exists():
        write_atomically(folder / RESULTS, results.read_bytes())
        note = f"taken over from {results.parent}: what the teacher has made of these images"
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
    distilling = distil(
        known, second.images, second.network, second.config, here, init_from=second.init_from, to=folder
    )
    unit, refined = Unit.of_samples(*noisy), folder / STUDENT / REFINED
    noise, whose = known.noise, "learned from the noisy images"
    if refined.exists():
        noise, whose = recall_refined(known, refined)[0], "as the student has corrected it"
    note = "" if is_baseline else f"{whose}: {shared(noise).told(unit)}"
    figure = SYNTHETIC_ERROR if is_baseline else ERROR
    yield Stage("student", distilling, note, unit, LIKELIHOOD if second.config.uncertainty_alone else figure)


def _check(second: StageTwo, noisy: Sequence[np.ndarray], stride: int) -> None:
    """Find what is wrong with stage 2 before stage 1 has taken its time."""
    channels = noisy[0].shape[2]
    if second.config.uncertainty_alone and not second.init_from:
        raise ValueError("--student.uncertainty-alone: of which student? Name its model file: --student.start")
    config = StudentConfig(network=second.network, channels=channels)
    student = new_student(config, second.config.seed, second.init_from)
    if second.config.uncertainty_alone and second.init_from and second.init_from.config.network != second.network:
        kept = f"it stays what it is, {second.init_from.config.network}, and {second.network} was asked for"
        raise ValueError(f"--student.uncertainty-alone: {kept}; leave --student.network out")
    if student.guided and stride > 1:
        raise ValueError(
            "--student.network unet-guided: noise that neighbours share cannot be measured for it; take unet"
        )
    if second.config.noise:
        noises = parse_noises(second.config.noise)
        if isinstance(noises, Several) and clean_range(*intensity_range(noisy)) != (0, 1):
            raise ValueError(f"--student.noise {second.config.noise}: of 255, and these images are in counts, or dark")
        one_noise(noises, channels, torch.Generator()).variance(torch.zeros(1, channels, 1, 1))


def clean_like(clean: Sequence[np.ndarray], noisy: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Clean images in the kind of the noisy ones: gray for gray, and in their unit (`placement`).

    Raises:
        ValueError: There is no clean image that can serve.
    """
    channels = noisy[0].shape[2]
    fitting = [image for image in clean if image.shape[2] in (channels, 3)]
    if not fitting:
        raise ValueError("colour images need clean ones in colour" if clean else "no clean image to learn from")
    if channels == 1:
        fitting = [from_pixels(to_gray(to_pixels(image)), image.dtype) for image in fitting]
    seen = intensity_range(noisy)
    places = {unit: placement(seen, intensity_range(alike)) for unit, alike in by_unit(fitting).items()}

    def placed(image: np.ndarray) -> np.ndarray:
        low, width = places[Unit.of_samples(image)]
        return image if (low, width) == (0, 1) else low + width * to_pixels(image)

    return [placed(image) for image in fitting]
