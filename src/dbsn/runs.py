"""A training run's folder: what was asked (config.json), how it went (metrics.csv), what it looks like (preview.png).

`start` begins a run in a new folder, `go_on` resumes one from its own configuration; both yield the training's
progress and keep the folder up to date (tests/e2e/test_resume.py).
"""

import csv
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from dbsn import __version__
from dbsn.checkpoint import load_model, load_tensors, write_atomically
from dbsn.config import ModelConfig, TrainConfig
from dbsn.images import ImageError, find_images, from_pixels, read_image, to_pixels
from dbsn.infer import predict
from dbsn.selfsupervised import learn
from dbsn.train import CHECKPOINT, MODEL, Progress, is_main_process

CONFIG = "config.json"
METRICS = "metrics.csv"
PREVIEW = "preview.png"
RESUMABLE = frozenset({"minutes", "steps", "learning_rate", "precision"})
"""Settings that may change when a run is resumed."""
_PREVIEW_SIDE = 320
_ROW_SECONDS = 10.0


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on; written to its folder."""

    files: tuple[str, ...]
    """Noisy image files."""
    model: ModelConfig
    """What is trained; channels, offset and scale follow from the images."""
    train: TrainConfig
    """How."""

    def to_json(self) -> str:
        """As text for config.json."""
        return json.dumps({**asdict(self), "version": __version__}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """The inverse of `to_json`."""
        values = json.loads(text)
        return RunConfig(
            files=tuple(values["files"]),
            model=ModelConfig.from_dict(values["model"]),
            train=TrainConfig(**values["train"]),
        )


def load_folder(inputs: Sequence[Path]) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """Read every noisy image below `inputs`.

    Returns:
        The files read; their pixels (h, w, c) in the file's own kind; a line for each file that could not be read.

    Raises:
        ValueError: No file can be read, or gray and colour are mixed.
    """
    files, images, failures = [], [], []
    for path in find_images(inputs):
        try:
            picture = read_image(path)
        except ImageError as error:
            failures.append(str(error))
            continue
        files.append(path)
        images.append(from_pixels(picture.pixels, picture.dtype))
    if not images:
        raise ValueError("no image could be read: " + "; ".join(failures))
    by_channels = {image.shape[2]: file for file, image in zip(files, images, strict=True)}
    if len(by_channels) > 1:
        raise ValueError(f"gray and colour images are mixed ({by_channels[1]}, {by_channels[3]}); train on one kind")
    return files, images, failures


def check_free(folder: Path) -> None:
    """Refuse a folder where something has been trained (a run that got nowhere may be started over).

    Raises:
        FileExistsError: `folder` holds a run.
    """
    if any((folder / name).exists() for name in (CHECKPOINT, MODEL)):
        raise FileExistsError(f"{folder} already holds a training run; --resume continues it, or choose another -o")


def start(
    files: Sequence[Path],
    images: Sequence[np.ndarray],
    model: ModelConfig,
    config: TrainConfig,
    folder: Path,
    *,
    device: str = "auto",
) -> Iterator[Progress]:
    """Train on images read by `load_folder`; `folder` must not hold a run yet.

    Raises:
        FileExistsError: `folder` holds a run.
    """
    check_free(folder)
    resolved = replace(model, channels=images[0].shape[2])
    asked = RunConfig(files=tuple(str(file.resolve()) for file in files), model=resolved, train=config)
    _write_config(folder, asked)
    return _record(asked, images, folder, resume=False, device=device)


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
        raise FileNotFoundError(f"{folder}: no training run here to resume (no {CONFIG})")
    try:
        return RunConfig.from_json(path.read_text())
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: not understood ({error}); was it edited, or written by another version?") from None


def go_on(folder: Path, changes: dict[str, Any], *, device: str = "auto") -> Iterator[Progress]:
    """Resume a run where its checkpoint left it, or from the start if there is none yet.

    Args:
        folder: Of the run.
        changes: Fields of its `TrainConfig` to replace; only RESUMABLE ones.
        device: Where to compute.

    Raises:
        ValueError: Another setting is to be changed, or an image of the run can no longer be read.
    """
    asked = saved_config(folder)
    fixed = sorted(name for name in changes if name not in RESUMABLE and changes[name] != getattr(asked.train, name))
    if fixed:
        flags = " ".join(f"--{name.replace('_', '-')}" for name in fixed)
        raise ValueError(f"--resume: {flags} cannot change in the middle of the run in {folder}")
    if changes.get("minutes") is not None and "steps" not in changes:
        changes = changes | {"steps": None}
    asked = replace(asked, train=replace(asked.train, **changes))
    _, images, failures = load_folder([Path(file) for file in asked.files])
    if failures:
        raise ValueError("cannot resume without the same images: " + "; ".join(failures))
    _write_config(folder, asked)
    return _record(asked, images, folder, resume=(folder / CHECKPOINT).exists(), device=device)


def _record(
    asked: RunConfig, images: Sequence[np.ndarray], folder: Path, *, resume: bool, device: str
) -> Iterator[Progress]:
    """Yield the training's progress, keeping metrics and preview."""
    rows = _kept_rows(folder) if resume else []
    written = -_ROW_SECONDS
    preview = np.ascontiguousarray(images[0][:_PREVIEW_SIDE, :_PREVIEW_SIDE])
    about: dict[str, Any] = {"version": __version__, "images": len(images), "train": asdict(asked.train)}
    for progress in learn(images, asked.model, asked.train, run=folder, about=about, resume=resume, device=device):
        if is_main_process():
            if progress.validation is not None or progress.seconds - written >= _ROW_SECONDS:
                written = progress.seconds
                rows.append(_row(progress))
                write_atomically(folder / METRICS, _as_csv(rows))
            if progress.saved:
                _write_preview(folder, preview)
        yield progress


def _row(progress: Progress) -> dict[str, str]:
    values: dict[str, Any] = {
        "step": progress.step,
        "seconds": round(progress.seconds, 1),
        "loss": progress.loss,
        **progress.terms,
        "learning_rate": progress.learning_rate,
        "validation": progress.validation,
    }
    return {
        name: "" if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
    }


def _kept_rows(folder: Path) -> list[dict[str, str]]:
    """Rows of metrics.csv up to the checkpoint; later ones will be made again."""
    path = folder / METRICS
    if not path.exists():
        return []
    last = load_tensors(folder / CHECKPOINT)[1]["state"]["step"]
    with open(path, newline="") as file:
        return [row for row in csv.DictReader(file) if int(row["step"]) <= last]


def _as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _write_preview(folder: Path, noisy: np.ndarray) -> None:
    """Side by side: noisy, blind mean, denoised, and the noise level (white = its largest)."""
    model, _ = load_model(folder / MODEL)
    estimate = predict(model, noisy, extras=("mean", "noise_std"))
    assert estimate.mean is not None
    assert estimate.noise_std is not None
    low, width = model.config.offset - model.config.scale, 2 * model.config.scale
    panels = [(image - low) / width for image in (to_pixels(noisy), estimate.mean, estimate.denoised)]
    panels.append(estimate.noise_std / estimate.noise_std.max())
    strip = from_pixels(np.concatenate(panels, 1), np.dtype(np.uint8))
    PillowImage.fromarray(strip.squeeze()).save(folder / PREVIEW)
