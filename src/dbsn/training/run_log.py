"""The log of a run in its folder: metrics.csv and preview.png.

Tested in tests/e2e/test_resume.py.
"""

import csv
import io
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PillowImage

from dbsn.config import MODEL
from dbsn.inference.blindspot import predict
from dbsn.inference.student import apply_student
from dbsn.intensity import from_pixels, to_pixels
from dbsn.io.atomic import replacing, write_atomically
from dbsn.store.model_file import load_model
from dbsn.training.checkpoint import CHECKPOINT, TrainingState
from dbsn.training.loop import Progress, is_main_process
from dbsn.training.stages import STUDENT, Stage

METRICS = "metrics.csv"
PREVIEW = "preview.png"
PREVIEW_SIDE = 320
_ROW_SECONDS = 10.0


def recorded(stage: Stage, folder: Path, preview: np.ndarray, student: str) -> Stage:
    """Wrap a stage so that it writes metrics and the preview while it is consumed.

    `student` is the name of the run's student, whose code may be imported.
    """
    if stage.name == "teacher" or not is_main_process():
        return stage
    where = folder / STUDENT if stage.name == "student" else folder
    return replace(stage, progress=_record(stage.progress, where, partial(_write_preview, folder, preview, student)))


def _record(training: Iterator[Progress | float], where: Path, write_preview: Callable[[], None]) -> Iterator[Progress]:
    rows = _kept_rows(where)
    written = -_ROW_SECONDS
    for progress in training:
        assert isinstance(progress, Progress)
        if progress.validation is not None or progress.seconds - written >= _ROW_SECONDS:
            written = progress.seconds
            rows.append(_row(progress))
            write_atomically(where / METRICS, _as_csv(rows))
        if progress.saved:
            write_preview()
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
    """Rows of metrics.csv up to the checkpoint; later ones will be written again."""
    path = folder / METRICS
    if not path.exists() or not (folder / CHECKPOINT).exists():
        return []
    last = TrainingState.of(folder / CHECKPOINT).step
    try:
        with open(path, newline="") as file:
            return [row for row in csv.DictReader(file) if int(row["step"]) <= last and None not in row]
    except (csv.Error, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not the metrics of a run ({error}). Remove it.") from None


def _as_csv(rows: list[dict[str, str]]) -> bytes:
    text = io.StringIO()
    names = dict.fromkeys(name for row in rows for name in row)  # an earlier version may have written other columns
    writer = csv.DictWriter(text, fieldnames=list(names), restval="")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def _write_preview(folder: Path, noisy: np.ndarray, student: str) -> None:
    """Write the preview: noisy, blind mean, denoised, noise level, side by side.

    If there is a student, its result is shown, too. In the noise level white is the maximum.
    """
    saved = load_model(folder / MODEL, trust=student)
    model = saved.teacher
    estimate = predict(model, noisy, extras=("mean", "noise_std"))
    assert estimate.mean is not None
    assert estimate.noise_std is not None
    images = [to_pixels(noisy), estimate.mean, estimate.denoised]
    if saved.student:
        images.append(apply_student(saved.student, to_pixels(noisy)))
    low, width = model.config.offset - model.config.scale, 2 * model.config.scale
    panels = [(image - low) / width for image in images]
    panels.append(estimate.noise_std / estimate.noise_std.max())
    strip = from_pixels(np.concatenate(panels, 1), np.dtype(np.uint8))
    with replacing(folder / PREVIEW) as part:
        PillowImage.fromarray(strip.squeeze()).save(part, "PNG")
