"""Stage 2: an ordinary denoiser learns from two paired sets (Wu et al. 2020, sec. 3.3; math.md, S1-S6).

`distil` hands the pairs of `dbsn.training.pairs` to the one training loop, with what is minimised and what picks the
best student. Reading files does not belong here. Tested in tests/unit/test_distill.py and tests/e2e/test_stages.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dbsn.config import MODEL, DistillConfig, ModelConfig, StudentConfig, StudentNetwork
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
_SPREAD_WEIGHT = 0.01  # so small that, after some 60 steps, the shared limit of the gradient's norm does not feel it
_SPREAD_OF = 3  # one clean patch in so many: a small network sees enough of them, and a step takes a sixth less


def distil(
    known: TeacherResults,
    clean: Sequence[np.ndarray],
    network: StudentNetwork,
    config: DistillConfig,
    context: TrainingContext,
    *,
    init_from: Student | None = None,
    to: Path | None = None,
) -> Iterator[Progress]:
    """Train a student on both sets; `train` says what is yielded.

    On the way the student corrects the learned noise, and goes on with what is then known (S9). Teacher, noise model
    and best student are left in `to` (by default the run's folder) as `model.safetensors`.

    Args:
        known: What `teach` left.
        clean: Clean images (h, w, c), as many channels as the noisy ones, intensities of their range.
        network: The student's.
        config: How it is trained.
        context: Where it is trained, and what is kept in the model file.
        init_from: A student whose weights to start from; needed, when resuming, too, if its uncertainty alone is to
            be learned.
        to: Existing folder for the model file.

    Raises:
        ValueError: There is no clean image, its channels differ, or `init_from` is another kind of network.
    """
    teacher = known.noise.model
    shape = _student_config(teacher.config, network, config, init_from)
    learned, held = hold_out(clean)
    run, target = context.run, (to or context.run) / MODEL

    def training(noise: NoiseModel, *, resume: bool, **how: Any) -> Iterator[Progress]:
        """A new student each time: what trains one in half precision wraps it for good."""
        student = new_student(shape, config.seed, init_from)
        if config.uncertainty_alone:
            student.freeze_results()
        alike, told_multiple = replace(known, noise=shared(noise)), student.multiple if student.guided else None
        images, fill = [image for _, image in learned], teacher.config.offset
        pairs = PairedPatches(alike, images, config, multiple=student.multiple, fill=fill, guided=student.guided)
        held_out = HeldOut(alike, [image for _, image in held], config, told_multiple)

        def keep(average: Student, story: dict[str, Any]) -> None:
            recalibrate(average, held_out.synthetic)
            gathered = None if config.baseline else alike.noise  # a baseline's has hardly been
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
    return _in_two_parts(training, known, config, context, target)


def _in_two_parts(
    training: Callable[..., Iterator[Progress]],
    known: TeacherResults,
    config: DistillConfig,
    context: TrainingContext,
    model: Path,
) -> Iterator[Progress]:
    """The training until the noise is corrected, if it is not yet, and from there, under what is then known (S9).

    `training` makes each part, from the noise and what `train` is to be told; all else as of `distil` and `_refine`.
    """
    run = context.run
    corrected = (run / REFINED).exists()
    noise, when = recall_refined(known, run / REFINED) if corrected else (known.noise, TrainingState())
    remark = ""
    if when.share(config) < _REFINED_AT:  # also what was done early in a budget that has been extended
        interrupted = False
        for progress in training(noise, resume=context.resume, until=_REFINED_AT, renewed=when.step):
            interrupted = progress.interrupted
            yield progress
        wait_for_all()
        if interrupted:
            return
        if is_main_process():
            _refine(known, config, run, model, context.device)
        wait_for_all()
        noise, when = recall_refined(known, run / REFINED)
        remark = f"as the student corrects it: {shared(noise).told(Unit.of_samples(*known.noisy))}"
    for progress in training(noise, resume=True, renewed=when.step):
        yield replace(progress, remark=remark)
        remark = ""


def _refine(known: TeacherResults, config: DistillConfig, run: Path, model: Path, device: str) -> None:
    """Let the best student so far, which is in the file `model`, correct the noise (S9)."""
    where, student = pick_device(device), load_model(model).student if model.exists() else None
    keep_refined(
        known,
        student.eval().to(where) if student else None,
        run / REFINED,
        TrainingState.of(run / CHECKPOINT),
        bf16=uses_bf16(config.precision, where, "convolution"),
    )


def _student_config(
    teacher: ModelConfig, network: StudentNetwork, config: DistillConfig, init_from: Student | None
) -> StudentConfig:
    """What the student is; the one it begins with, where that one's results are to stay what they are."""
    if config.uncertainty_alone:
        assert init_from is not None
        return replace(init_from.config, uncertainty=True)
    return StudentConfig(
        network=network,
        channels=teacher.channels,
        offset=teacher.offset,
        scale=teacher.scale,
        uncertainty=config.baseline != "n2n",  # which never sees the truth
    )


def new_student(config: StudentConfig, seed: int, init_from: Student | None = None) -> Student:
    """A student to be trained.

    Raises:
        ValueError: `init_from`, whose weights to start from, is another kind of network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(config)
    if init_from:
        student.init_from(init_from)
    return student


def distillation_loss(config: DistillConfig) -> LossOf[Student, Pairs]:
    """The loss of stage 2: weighted squared errors of both sets, in each patch's own unit (S3, S6)."""

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
        if pairs.first < len(error) and config.baseline != "n2n":  # which never sees the truth
            miss = ((denoised - pairs.target).square() * pairs.valid)[pairs.first :].sum()
            shown["denoised_std"] = (miss / (pairs.valid[pairs.first :].sum() * error.shape[1]).clamp_min(1)).sqrt()
        return Losses(terms=terms, shown=shown)

    return loss


def recalibrate(student: Student, pairs: Sequence[Pairs]) -> None:
    """Multiply a student's standard deviations by what makes the errors of these pairs likeliest (S5).

    Args:
        student: Nothing is done to one that does not know its uncertainty.
        pairs: With their truth; none that it has learned from.
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
