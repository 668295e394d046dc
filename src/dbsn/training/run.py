"""A training run and its folder: start it and resume it.

`start` begins a run in a new folder. `go_on` resumes a run from its own configuration. Both yield stages and keep the
folder up to date (tests/e2e/test_resume.py).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dbsn.config import MODEL, Auto, NoiseFamily, Training, student_network
from dbsn.io.atomic import write_atomically
from dbsn.io.folders import load_folder
from dbsn.io.locks import owned
from dbsn.noise.inspection import A_FEW, inspect_noise, suited
from dbsn.store.builtin import clean_paths
from dbsn.store.model_file import load_model
from dbsn.training.checkpoint import CHECKPOINT, finished
from dbsn.training.comparison import compared
from dbsn.training.distill import StageTwo
from dbsn.training.initial_weights import choose_initial, load_initial
from dbsn.training.loop import TrainingContext, is_main_process
from dbsn.training.run_config import CONFIG, RunConfig, saved_config
from dbsn.training.run_log import PREVIEW_SIDE, recorded
from dbsn.training.selfsupervised import check_truth
from dbsn.training.stages import STUDENT, Stage, StageOne, stages
from dbsn.training.teacher import RESULTS
from dbsn.version import __version__

RESUMABLE = frozenset({"minutes", "steps", "learning_rate", "precision"})
"""Settings that may change when a run is resumed."""

_Settings = TypeVar("_Settings", bound=Training)


def check_free(folder: Path) -> None:
    """Check that a folder holds no trained run.

    A run without any checkpoint or result may be started again.

    Raises:
        FileExistsError: `folder` holds a run.
    """
    if any((folder / name).exists() for name in (CHECKPOINT, MODEL, RESULTS)):
        raise FileExistsError(f"{folder}: already holds a training run. Use --resume to continue it, or another -o.")


def prepare(
    asked: RunConfig,
    noisy: Sequence[np.ndarray],
    *,
    noise: NoiseFamily | Auto,
    stride: int | Auto,
    init_from: str,
    distils: bool,
) -> tuple[RunConfig, str]:
    """Complete a run's configuration from its noisy images.

    This concerns the model's channels, noise and stride, and the initial weights.

    Args:
        asked: The configuration.
        noisy: Noisy images (h, w, c) of one data type.
        noise: Form of the noise; "auto" is what the images show.
        stride: Distance in pixels at which noise counts as independent; "auto" is what the images show.
        init_from: See `where` of `choose_initial`.
        distils: Whether a student will be trained.

    Returns:
        The configuration, and a text for the user: the noise of the images and the initial weights.

    Raises:
        FileNotFoundError, ValueError: See `choose_initial`.
    """
    found = None
    try:
        found = inspect_noise(noisy, A_FEW)
        verdict = found.verdict
    except ValueError as error:  # images too small to inspect can still be learned from
        verdict = str(error)
    model = suited(asked.model, found, noise=noise, stride=stride)
    asked = replace(asked, model=replace(model, channels=noisy[0].shape[2]))
    asked, begun = choose_initial(asked, init_from, distils=distils)
    return asked, verdict + (f"\n{begun}" if begun else "")


def inputs_of_stages(
    asked: RunConfig,
    clean: Sequence[np.ndarray] | None,
    truth: Sequence[np.ndarray] = (),
    folder: Path | None = None,
) -> tuple[StageOne, StageTwo | None]:
    """The inputs of both stages, with their initial weights.

    Args:
        asked: The configuration, completed by `prepare`.
        clean: Clean images (h, w, c); None for stage 1 alone.
        truth: See `StageOne`.
        folder: Folder of a run that may have checkpoints, whose stages need no initial weights.

    Raises:
        FileNotFoundError, ValueError: See `load_initial`; or the student is unknown.
    """
    blind, student = load_initial(asked, folder)
    first = StageOne(model=asked.model, config=asked.train, truth=truth, init_from=blind)
    if clean is None:
        return first, None
    network = student_network(asked.student)
    return first, StageTwo(images=clean, network=network, config=asked.distill, init_from=student)


def start(
    asked: RunConfig,
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    folder: Path,
    *,
    truth: Sequence[np.ndarray] = (),
    device: str = "auto",
) -> Iterator[Stage]:
    """Start a run on images read by `load_folder`; `folder` must not hold a run yet.

    Raises:
        FileExistsError: `folder` holds a run, or another process trains it.
        ValueError: A named model file is of another kind, the student is unknown, or the truth does not fit the images.
    """
    check_free(folder)
    check_truth(truth, noisy)
    asked = replace(asked, model=replace(asked.model, channels=noisy[0].shape[2]))

    def begun() -> Iterator[Stage]:
        _write_config(folder, asked)
        return _stages(asked, noisy, clean, truth, folder, device)

    return _while_owned(folder, begun)


def _write_config(folder: Path, asked: RunConfig) -> None:
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, asked.to_json().encode())


def go_on(
    folder: Path,
    changes: dict[str, Any],
    student_changes: dict[str, Any] | None = None,
    *,
    device: str = "auto",
    trust: str = "",
) -> Iterator[Stage]:
    """Resume a run from its checkpoint; without one, start it again.

    Args:
        folder: Folder of the run.
        changes: Fields of its `TrainConfig` to replace; only RESUMABLE ones.
        student_changes: The same for its `DistillConfig`.
        device: Device to compute on.
        trust: The run's student, if it is code that may be imported.

    Raises:
        FileExistsError: Another process trains it.
        ValueError: The student is other code, another setting shall be changed, or an image of the run cannot be read.
    """
    asked = saved_config(folder)
    if ":" in asked.student and asked.student != trust:
        advice = f"Add --student.network {asked.student} if it is yours."
        raise ValueError(f"--resume: the student of {folder} is code, which a file alone does not import. {advice}")
    train = _changed(asked.train, changes, "--", folder)
    distill = _changed(asked.distill, student_changes or {}, "--student.", folder)
    asked = replace(asked, train=train, distill=distill)
    images = []
    for files, axes in ((asked.files, asked.axes), (asked.clean, None), (asked.truth, asked.axes)):
        paths = clean_paths(files)
        _, found, failures = load_folder(paths, mixed=True, axes=axes) if files else ([], [], [])
        if failures:
            raise ValueError("--resume: needs the same images. " + "; ".join(failures))
        images.append(found)
    noisy, clean, truth = images

    def resumed() -> Iterator[Stage]:
        _write_config(folder, asked)
        return _stages(asked, noisy, clean, truth, folder, device)

    return _while_owned(folder, resumed)


def _while_owned(folder: Path, begin: Callable[[], Iterator[Stage]]) -> Iterator[Stage]:
    """The stages of a run whose folder this process owns until their end.

    Of the processes of one training the first owns it.

    Raises:
        FileExistsError: Another process owns it.
    """
    owner = ExitStack()
    if is_main_process():
        owner.enter_context(owned(folder, "is being trained"))
    with ExitStack() as until_begun:
        until_begun.push(owner)
        todo = begin()
        until_begun.pop_all()

    def until_the_end() -> Iterator[Stage]:
        with owner:
            yield from todo

    return until_the_end()


def _changed(settings: _Settings, changes: dict[str, Any], prefix: str, folder: Path) -> _Settings:
    """Replace those training settings that may change when a run is resumed."""
    fixed = sorted(name for name in changes if name not in RESUMABLE and changes[name] != getattr(settings, name))
    if fixed:
        flags = " ".join(f"{prefix}{name.replace('_', '-')}" for name in fixed)
        raise ValueError(f"--resume: {flags} cannot change in the middle of the run in {folder}")
    return replace(settings, **changes)


def _earlier_results(asked: RunConfig) -> Path | None:
    """The file with the results of --teacher for the same images, if its run has one."""
    if asked.teacher is None or Path(asked.teacher).name != MODEL:
        return None
    results = Path(asked.teacher).parent / RESULTS
    try:
        seen, written = saved_config(results.parent), results.stat().st_mtime
        is_same = (seen.files, seen.axes) == (asked.files, asked.axes)
        return results if is_same and all(Path(file).stat().st_mtime < written for file in asked.files) else None
    except (OSError, ValueError):  # no run, or one that cannot be read
        return None


def _is_finished(folder: Path, asked: RunConfig) -> bool:
    """Whether the last stage of a run has used its budget."""
    last = (folder / STUDENT / CHECKPOINT, asked.distill) if asked.clean else (folder / CHECKPOINT, asked.train)
    return finished(*last)


def _stages(
    asked: RunConfig,
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    folder: Path,
    device: str,
) -> Iterator[Stage]:
    """The stages of a run, which also write metrics and the preview."""
    taught_by = load_model(Path(asked.teacher)) if asked.teacher else None
    if taught_by and not taught_by.model:
        raise ValueError(f"--teacher {asked.teacher}: holds a student alone, no blind-spot model. Omit --teacher.")
    teacher = taught_by.model if taught_by else None
    if teacher and teacher.config.channels != noisy[0].shape[2]:
        raise ValueError(
            f"--teacher {asked.teacher}: wrong number of channels (got {teacher.config.channels}, "
            f"expected {noisy[0].shape[2]} as in the images). Choose another model."
        )
    first, second = inputs_of_stages(asked, clean or None, truth, folder)
    about: dict[str, Any] = {"version": __version__, "images": len(noisy), "train": asdict(asked.train)}
    if clean:
        about |= {"clean images": len(clean), "distill": asdict(asked.distill)}
    if truth:
        about["truth images"] = len(truth)
    if asked.init_from:
        about["started from"] = asked.init_from
    if taught_by:
        about["teacher"] = {"file": asked.teacher, **taught_by.about.get("teacher", taught_by.about)}
    preview = np.ascontiguousarray(noisy[0][:PREVIEW_SIDE, :PREVIEW_SIDE])
    context = TrainingContext(run=folder, about=about, device=device)
    todo = stages(noisy, first, second, context, teacher=teacher, results=_earlier_results(asked))

    def compared_at_the_end() -> Iterator[Stage]:
        yield from (recorded(stage, folder, preview, asked.student) for stage in todo)
        is_comparable = (folder / MODEL).exists() and not asked.distill.baseline
        if _is_finished(folder, asked) and is_comparable and is_main_process():
            yield Stage("comparison", compared(folder, noisy, trust=asked.student, device=device))

    return compared_at_the_end()
