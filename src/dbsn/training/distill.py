"""Stage 2: a student learns from two sets of pairs.

Wu et al. 2020, sec. 3.3; math.md, S1-S6. `distil` passes the pairs of `dbsn.training.pairs` to the training loop, with
the loss and the figure that selects the best student. Reading files does not belong here. Tested in
tests/unit/test_distill.py and tests/e2e/test_stages.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dbsn.config import MODEL, DistillConfig, ModelConfig, ModuleConfig, StudentConfig, StudentNetwork
from dbsn.devices import pick_device, uses_bf16
from dbsn.intensity import Unit
from dbsn.likelihood import spread_nll
from dbsn.models.student import Student
from dbsn.noise.learned import NoiseModel
from dbsn.noise.pooling import shared
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.training.checkpoint import CHECKPOINT, TrainingState, finished
from dbsn.training.held_out import HeldOut
from dbsn.training.loop import Losses, LossOf, Progress, Task, TrainingContext, is_main_process, train, wait_for_all
from dbsn.training.noise_correction import can_tell
from dbsn.training.pairs import PairedPatches, Pairs
from dbsn.training.patches import hold_out
from dbsn.training.teacher import TeacherResults, keep_refined, recall_refined

REFINED = "noise.safetensors"
"""The noise as the student corrected it, in the folder of its checkpoint."""
_REFINED_AT = 0.3  # share of the budget
_SPREAD_WEIGHT = 0.01  # so small that, after about 60 steps, it does not affect the clipping of the gradient's norm
_SPREAD_OF = 3  # one in this many clean patches: enough for a small network, and a step takes a sixth less time


@dataclass(frozen=True, kw_only=True)
class StageTwo:
    """The inputs of stage 2 besides those of stage 1."""

    images: Sequence[np.ndarray]
    """Clean images (h, w, c) of any subject."""
    network: StudentNetwork
    """The network of the student."""
    config: DistillConfig
    """Configuration of its training."""
    init_from: Student | None = None
    """A student with the initial weights.

    If only its uncertainty is trained, it is also needed to resume.
    """


def distil(
    known: TeacherResults, second: StageTwo, context: TrainingContext, *, to: Path | None = None
) -> Iterator[Progress]:
    """Train a student on both sets; yield the progress of `train`.

    During the training the student corrects the learned noise and continues with the corrected noise (S9). Teacher,
    noise model and best student are written to `to` (by default the run's folder) as `model.safetensors`.

    Args:
        known: The teacher's results.
        second: The student and its training; the clean images with the channels and the intensity range of the noisy
            ones.
        context: Folder and device, and the description for the model file.
        to: Existing folder for the model file.

    Raises:
        ValueError: There is no clean image, its channels differ, or the initial student has another network.
    """
    teacher, config, init_from = known.noise.model, second.config, second.init_from
    shape = _student_config(teacher.config, second)
    learned, held = hold_out(second.images)
    run, target = context.run, (to or context.run) / MODEL

    def training(noise: NoiseModel, *, resume: bool, **how: Any) -> Iterator[Progress]:
        """Train a new student each time: training in half precision wraps it for good."""
        student = new_student(shape, config.seed, init_from)
        if config.uncertainty_alone:
            student.freeze_results()
        alike, level_cell = replace(known, noise=shared(noise)), student.multiple if student.guided else None
        images, fill = [image for _, image in learned], teacher.config.offset
        pairs = PairedPatches(alike, images, config, multiple=student.multiple, fill=fill, guided=student.guided)
        held_out = HeldOut(alike, [image for _, image in held], config, level_cell)

        def keep(average: Student, story: dict[str, Any]) -> None:
            recalibrate(average, held_out.synthetic)
            gathered = None if config.baseline else alike.noise  # a baseline has seen one image
            save_model(target, ModelFile(model=teacher, student=average, noise=gathered, about=context.about | story))

        groups, loss = student.parameter_groups(), distillation_loss(config)
        task = Task(
            model=student, groups=groups, loss_of=loss, batches=pairs, validate=held_out, save=keep,
            is_pretrained=init_from is not None and not config.uncertainty_alone,
        )  # fmt: skip
        return train(task, config, replace(context, resume=resume), **how)

    if is_main_process() and not context.resume:
        (run / REFINED).unlink(missing_ok=True)
    wait_for_all()
    is_used = not (config.baseline or config.noise or config.uncertainty_alone)
    if not is_used or finished(run / CHECKPOINT, config) or not any(map(can_tell, known.noise.images)):
        return training(known.noise, resume=context.resume)
    own = second.network.factory if isinstance(second.network, ModuleConfig) else ""
    return _in_two_parts(training, known, config, context, target, own)


def _in_two_parts(
    training: Callable[..., Iterator[Progress]],
    known: TeacherResults,
    config: DistillConfig,
    context: TrainingContext,
    model: Path,
    own: str,
) -> Iterator[Progress]:
    """Train until the noise is corrected, and then with the corrected noise (S9).

    The first part is skipped if the noise is already corrected. `training` runs each part with a noise and further
    arguments of `train`. Other arguments are those of `distil` and `_refine`.
    """
    run = context.run
    corrected = (run / REFINED).exists()
    noise, when = recall_refined(known, run / REFINED) if corrected else (known.noise, TrainingState())
    remark = ""
    if when.share(config) < _REFINED_AT:  # also if the correction was early in a budget extended later
        interrupted = False
        for progress in training(noise, resume=context.resume, until=_REFINED_AT, renewed=when.step):
            interrupted = progress.interrupted
            yield progress
        wait_for_all()
        if interrupted:
            return
        if is_main_process():
            _refine(known, config, run, model, context.device, own)
        wait_for_all()
        noise, when = recall_refined(known, run / REFINED)
        remark = f"corrected by the student: {shared(noise).describe(Unit.of_samples(*known.noisy))}"
    for progress in training(noise, resume=True, renewed=when.step):
        yield replace(progress, remark=remark)
        remark = ""


def _refine(known: TeacherResults, config: DistillConfig, run: Path, model: Path, device: str, trust: str) -> None:
    """Correct the noise by the best student so far, which is in the file `model` (S9)."""
    where, student = pick_device(device), load_model(model, trust=trust).student if model.exists() else None
    keep_refined(
        known,
        student.eval().to(where) if student else None,
        run / REFINED,
        TrainingState.of(run / CHECKPOINT),
        bf16=uses_bf16(config.precision, where, "convolution"),
    )


def _student_config(teacher: ModelConfig, second: StageTwo) -> StudentConfig:
    """Configuration of the student.

    If only the uncertainty is trained, it is that of the initial student, whose results stay unchanged.
    """
    if second.config.uncertainty_alone:
        assert second.init_from is not None
        return replace(second.init_from.config, uncertainty=True)
    return StudentConfig(
        network=second.network,
        channels=teacher.channels,
        offset=teacher.offset,
        scale=teacher.scale,
        uncertainty=second.config.baseline != "n2n",  # n2n never sees the truth
    )


def new_student(config: StudentConfig, seed: int, init_from: Student | None = None) -> Student:
    """Make a student to train.

    Raises:
        ValueError: `init_from`, which gives the initial weights, has another network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(config)
    if init_from:
        student.init_from(init_from)
    return student


def distillation_loss(config: DistillConfig) -> LossOf[Student, Pairs]:
    """Make the loss of stage 2: weighted squared errors of both sets (S3, S6).

    Each patch's error is in its own unit.
    """

    def loss(student: Student, pairs: Pairs, share: float) -> Losses:
        some = slice(pairs.first, None, 1 if config.uncertainty_alone else _SPREAD_OF)
        denoised, std = student(pairs.noisy, pairs.level, with_std=some)
        error = (denoised - pairs.target).square() / pairs.error_unit * pairs.valid
        size = error.shape[1] * pairs.valid.sum((1, 2, 3))
        sets = {"noisy": slice(0, pairs.first), "synthetic": slice(pairs.first, len(error))}
        means = {name: error[part].sum() / size[part].sum().clamp_min(1) for name, part in sets.items()}
        terms = {"noisy": config.noisy_weight * means["noisy"], "synthetic": means["synthetic"]}
        if std is not None:
            missed = (denoised.detach() - pairs.target)[some]
            surprise = spread_nll(missed, std, pairs.error_unit[some], pairs.valid[some])
            terms["spread"] = _SPREAD_WEIGHT * surprise
        shown = {"noise_std": pairs.noise_var.sqrt().mean()}
        if pairs.first < len(error) and config.baseline != "n2n":  # n2n never sees the truth
            miss = ((denoised - pairs.target).square() * pairs.valid)[pairs.first :].sum()
            shown["denoised_std"] = (miss / (pairs.valid[pairs.first :].sum() * error.shape[1]).clamp_min(1)).sqrt()
        return Losses(terms=terms, shown=shown)

    return loss


def recalibrate(student: Student, pairs: Sequence[Pairs]) -> None:
    """Scale a student's uncertainty by the likeliest factor on these pairs (S5).

    Args:
        student: The student. One without uncertainty stays unchanged.
        pairs: Held-out pairs with their truth.
    """
    if student.spread is None or not pairs:
        return
    device, misses = student.spread.factor.device, []
    student.spread.factor.fill_(1)
    with torch.inference_mode():
        for part in (each.to(device) for each in pairs):
            denoised, std = student(part.noisy, part.level, with_std=True)
            assert std is not None
            misses.append(((denoised - part.target) / std).square().mean())
        factor = torch.stack(misses).mean().sqrt()
    student.spread.factor.fill_(float(factor))
