"""A training run and its folder: what was asked (config.json), what it starts from, and going on with it.

`start` begins a run in a new folder, `go_on` resumes one from its own configuration; both yield the training's
progress and keep the folder up to date (tests/e2e/test_resume.py).
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dbsn import __version__
from dbsn.checkpoint import MODEL, Saved, load_model, write_atomically
from dbsn.config import (
    STUDENTS,
    DistillConfig,
    ModelConfig,
    ModuleConfig,
    TrainConfig,
    Training,
    UNetConfig,
    student_network,
)
from dbsn.images import find_images, read_planes
from dbsn.model import BlindSpotModel
from dbsn.pairs import RESULTS
from dbsn.picture import ImageError
from dbsn.pipeline import STUDENT, Stage, StageTwo, stages
from dbsn.record import PREVIEW_SIDE, recorded
from dbsn.resume import CHECKPOINT
from dbsn.selfsupervised import check_truth
from dbsn.shipped import model_file, name_for
from dbsn.student import Student
from dbsn.train import is_main_process

CONFIG = "config.json"
RESUMABLE = frozenset({"minutes", "steps", "learning_rate", "precision"})
"""Settings that may change when a run is resumed."""
SHIPPED, SCRATCH, AUTO, DEFAULT_STUDENT = "shipped", "scratch", "auto", "unet"
MOST_PLANES = 256  # of a stack, to learn from

_Settings = TypeVar("_Settings", bound=Training)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on; written to its folder."""

    files: tuple[str, ...]
    """Noisy image files."""
    model: ModelConfig
    """What stage 1 trains; channels, offset and scale follow from the images."""
    train: TrainConfig
    """How."""
    clean: tuple[str, ...] = ()
    """Clean image files; none for stage 1 alone."""
    student: str = "unet"
    """What stage 2 trains: a name of `dbsn.config.STUDENTS` or package.module:factory."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """How."""
    teacher: str | None = None
    """Model file whose blind-spot model takes the place of stage 1."""
    student_start: str | None = None
    """Model file whose student's weights stage 2 starts from."""
    start: str | None = None
    """Model file, or name of a shipped model, whose blind-spot weights stage 1 starts from."""
    truth: tuple[str, ...] = ()
    """Files of the noisy images without noise, in their order, where stage 1 learns from them, too (L6)."""
    axes: str | None = None
    """In capitals, of the noisy files, see `dbsn.axes`; None for what they say themselves."""

    def to_json(self) -> str:
        """As text for config.json."""
        return json.dumps({**asdict(self), "version": __version__}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """The inverse of `to_json`."""
        values = json.loads(text)
        del values["version"]
        return RunConfig(
            **{
                **values,
                "files": tuple(values["files"]),
                "clean": tuple(values["clean"]),
                "truth": tuple(values.get("truth", ())),
                "model": ModelConfig.from_dict(values["model"]),
                "train": TrainConfig(**values["train"]),
                "distill": DistillConfig(**values["distill"]),
            }
        )


def load_folder(
    inputs: Sequence[Path], *, mixed: bool = False, axes: str | None = None
) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """Read every image below `inputs`; of a stack up to 256 pages, evenly chosen. `axes` are as of `read_planes`.

    Returns:
        The files read; their images' pixels (h, w, c) in the file's own kind; a line for each file that cannot be read.

    Raises:
        ValueError: No file can be read, or gray and colour are mixed and may not be.
    """
    files, images, failures, by_channels = [], list[np.ndarray](), [], dict[int, Path]()
    for path in find_images(inputs):
        try:
            planes = [plane.samples for plane in read_planes(path, MOST_PLANES, axes)]
        except ImageError as error:
            failures.append(str(error))
            continue
        files.append(path)
        images += planes
        by_channels[planes[0].shape[2]] = path
    if not images:
        raise ValueError("no image could be read: " + "; ".join(failures))
    if len(by_channels) > 1 and not mixed:
        raise ValueError(f"gray and colour images are mixed ({by_channels[1]}, {by_channels[3]}); train on one kind")
    return files, images, failures


def check_free(folder: Path) -> None:
    """Refuse a folder where something has been trained (a run that got nowhere may be started over).

    Raises:
        FileExistsError: `folder` holds a run.
    """
    if any((folder / name).exists() for name in (CHECKPOINT, MODEL, RESULTS)):
        raise FileExistsError(f"{folder} already holds a training run; --resume continues it, or choose another -o")


def starting(asked: RunConfig, where: str, *, distils: bool) -> tuple[RunConfig, str]:
    """Settle what a run starts from.

    Args:
        asked: With the images' channels; its student may be AUTO: that of what it starts from, or else a U-Net.
        where: SHIPPED (the model that comes with dbsn for such images), a model file or a shipped model's name, or
            SCRATCH.
        distils: Whether there is to be a student.

    Returns:
        The same with `start`, `student` and `student_start`, and a line on it for a person, if there is one to say.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The model named is of another kind than the run's, or has nothing to start from.
    """
    usual = name_for(asked.model.channels, independent=asked.model.stride == 1)
    name = None if where == SCRATCH else name_for(asked.model.channels) if where == SHIPPED else where
    saved = load_model(model_file(Path(name))) if name else Saved()
    begun = replace(asked, student=DEFAULT_STUDENT if asked.student == AUTO else asked.student)
    if saved.model and not asked.teacher and asked.model.is_like(saved.model.config):
        begun = replace(begun, start=name)
    elif saved.model and not asked.teacher and where != SHIPPED:
        raise ValueError(f"--from {where}: another network, or for other channels; --from scratch needs none")
    if distils and asked.student_start:
        begun = _with_student_of(begun, asked, load_model(model_file(Path(asked.student_start))), asked.student_start)
    elif distils and name and asked.student == AUTO and not asked.distill.baseline:
        origin = name if (saved.student or saved.unmade) and where != SHIPPED else usual
        begun = _with_student_of(begun, asked, load_model(model_file(Path(origin))), origin) if origin else begun
    if name and where != SHIPPED and not asked.teacher and not begun.start and begun.student_start != name:
        raise ValueError(
            f"--from {where}: holds no blind-spot model, which stage 1 could start from; use --from scratch"
        )
    return begun, "" if where == SCRATCH else _told_start(begun, asked, distils=distils)


def _told_start(begun: RunConfig, asked: RunConfig, *, distils: bool) -> str:
    """One line on what teacher and student begin with."""
    origins = {} if asked.teacher else {"teacher": begun.start}
    origins |= {"student": begun.student_start} if distils else {}
    lines = [f"{part} from {origin or 'scratch'}" for part, origin in origins.items()]
    nothing = "" if all(origins.values()) else " (no model that comes with dbsn, or was named, is of its kind)"
    return f"starting {', '.join(lines)}{nothing}; --from scratch starts from nothing" if lines else ""


def _with_student_of(begun: RunConfig, asked: RunConfig, saved: Saved, where: str) -> RunConfig:
    """The run with the student of a model file, if its network has a name; ValueError where it was asked for."""
    if saved.unmade:
        raise ValueError(saved.unmade)
    network = saved.student.config.network if saved.student else None
    if isinstance(network, UNetConfig) and asked.model.stride > 1 and not asked.distill.uncertainty_alone:
        network = replace(network, guided=False)  # noise that neighbours share cannot be measured for it
    names = [network.factory] if isinstance(network, ModuleConfig) else [k for k, v in STUDENTS.items() if v == network]
    if names and asked.student == AUTO:
        return replace(begun, student=names[0], student_start=where)
    if asked.student_start and asked.student == AUTO:
        kind = "holds no student" if network is None else f"its student {network} cannot be started from here"
        raise ValueError(f"--student.start {where}: {kind}; name the network: --student.network")
    return begun


def origins(asked: RunConfig, folder: Path | None = None) -> tuple[BlindSpotModel | None, Student | None]:
    """What stage 1 and stage 2 begin from, unless they have begun already in the run's folder.

    Raises:
        FileNotFoundError: A model file is not there.
        ValueError: It cannot be used, or holds no student.
    """
    begun = [folder is not None and (folder / place / CHECKPOINT).exists() for place in ("", STUDENT)]
    begun[1] &= not asked.distill.uncertainty_alone  # which keeps what its student is, in any case
    blind = load_model(model_file(Path(asked.start))).teacher if asked.start and not begun[0] else None
    saved = load_model(model_file(Path(asked.student_start))) if asked.student_start and not begun[1] else None
    if saved and not saved.student:
        raise ValueError(saved.unmade or f"--student.start {asked.student_start}: holds no student")
    return blind, saved.student if saved else None


def start(
    asked: RunConfig,
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    folder: Path,
    *,
    truth: Sequence[np.ndarray] = (),
    device: str = "auto",
) -> Iterator[Stage]:
    """Train on images read by `load_folder`; `folder` must not hold a run yet.

    Raises:
        FileExistsError: `folder` holds a run.
        ValueError: A model file it names is of another kind, the student is not known, or the truth is not the images'.
    """
    check_free(folder)
    check_truth(truth, noisy)
    asked = replace(asked, model=replace(asked.model, channels=noisy[0].shape[2]))
    _write_config(folder, asked)
    return _stages(asked, noisy, clean, truth, folder, device)


def _write_config(folder: Path, asked: RunConfig) -> None:
    if is_main_process():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / CONFIG, asked.to_json().encode())


def saved_config(folder: Path) -> RunConfig:
    """What a run was asked.

    Raises:
        FileNotFoundError: There is no run in `folder`.
        ValueError: Its configuration cannot be understood.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no training run here (no {CONFIG})")
    try:
        return RunConfig.from_json(path.read_text())
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not understood ({error}); was it edited, or written by another version?") from None


def go_on(
    folder: Path, changes: dict[str, Any], student_changes: dict[str, Any] | None = None, *, device: str = "auto"
) -> Iterator[Stage]:
    """Resume a run where its checkpoint left it, or from the start if there is none yet.

    Args:
        folder: Of the run.
        changes: Fields of its `TrainConfig` to replace; only RESUMABLE ones.
        student_changes: The same for its `DistillConfig`.
        device: Where to compute.

    Raises:
        ValueError: Another setting is to be changed, or an image of the run can no longer be read.
    """
    asked = saved_config(folder)
    train = _changed(asked.train, changes, "--", folder)
    distill = _changed(asked.distill, student_changes or {}, "--student.", folder)
    asked = replace(asked, train=train, distill=distill)
    images = []
    for files, axes in ((asked.files, asked.axes), (asked.clean, None), (asked.truth, asked.axes)):
        paths = [Path(file) for file in files]
        _, found, failures = load_folder(paths, mixed=True, axes=axes) if files else ([], [], [])
        if failures:
            raise ValueError("cannot resume without the same images: " + "; ".join(failures))
        images.append(found)
    _write_config(folder, asked)
    noisy, clean, truth = images
    return _stages(asked, noisy, clean, truth, folder, device)


def _changed(settings: _Settings, changes: dict[str, Any], prefix: str, folder: Path) -> _Settings:
    """Training settings with some replaced, as far as a resumed run may."""
    fixed = sorted(name for name in changes if name not in RESUMABLE and changes[name] != getattr(settings, name))
    if fixed:
        flags = " ".join(f"{prefix}{name.replace('_', '-')}" for name in fixed)
        raise ValueError(f"--resume: {flags} cannot change in the middle of the run in {folder}")
    if changes.get("minutes") is not None and "steps" not in changes:
        changes = changes | {"steps": None}
    return replace(settings, **changes)


def _earlier_results(asked: RunConfig) -> Path | None:
    """What --teacher has made of these very images in its own run, if it has."""
    if asked.teacher is None or Path(asked.teacher).name != MODEL:
        return None
    results = Path(asked.teacher).parent / RESULTS
    try:
        seen, written = saved_config(results.parent), results.stat().st_mtime
        is_same = (seen.files, seen.axes) == (asked.files, asked.axes)
        return results if is_same and all(Path(file).stat().st_mtime < written for file in asked.files) else None
    except (OSError, ValueError):  # no run, or none that can be understood
        return None


def _stages(
    asked: RunConfig,
    noisy: Sequence[np.ndarray],
    clean: Sequence[np.ndarray],
    truth: Sequence[np.ndarray],
    folder: Path,
    device: str,
) -> Iterator[Stage]:
    """The stages of a run, with metrics and preview kept on the way."""
    taught_by = load_model(Path(asked.teacher)) if asked.teacher else None
    if taught_by and not taught_by.model:
        raise ValueError(f"--teacher {asked.teacher}: holds a student alone, no blind-spot model; leave it out")
    teacher = taught_by.model if taught_by else None
    if teacher and teacher.config.channels != noisy[0].shape[2]:
        raise ValueError(f"--teacher {asked.teacher}: a model of {teacher.config.channels} channels, unlike the images")
    second = None
    begin_from, student = origins(asked, folder)
    if clean:
        network = student_network(asked.student)
        second = StageTwo(images=clean, network=network, config=asked.distill, begin_from=student)
    about: dict[str, Any] = {"version": __version__, "images": len(noisy), "train": asdict(asked.train)}
    if clean:
        about |= {"clean images": len(clean), "distill": asdict(asked.distill)}
    if truth:
        about["truth images"] = len(truth)
    if asked.start:
        about["started from"] = asked.start
    if taught_by:
        about["teacher"] = {"file": asked.teacher, **taught_by.about.get("teacher", taught_by.about)}
    preview = np.ascontiguousarray(noisy[0][:PREVIEW_SIDE, :PREVIEW_SIDE])
    todo = stages(
        noisy, asked.model, asked.train, second, folder, teacher=teacher, results=_earlier_results(asked), truth=truth,
        begin_from=begin_from, about=about, device=device,
    )  # fmt: skip
    return (recorded(stage, folder, preview) for stage in todo)
