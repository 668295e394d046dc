"""The configuration of a run, and its file config.json.

Tested in tests/e2e/test_resume.py.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dbsn.config import DistillConfig, ModelConfig, TrainConfig
from dbsn.limits import LARGEST_CONFIG
from dbsn.schema import build, parsed
from dbsn.version import __version__

CONFIG = "config.json"
_IN_FILE = {"init_from": "start", "student_init_from": "student_start"}
"""Fields that the file knows by other names."""
_BOTH_COUNT = "steps and minutes"
"""Whichever ends first. In files without this word steps took the place of minutes, which stand there all the same."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that a run depends on; it is written to the run folder."""

    files: tuple[str, ...]
    """Noisy image files."""
    model: ModelConfig
    """The model of stage 1; the images determine its channels, offset and scale."""
    train: TrainConfig
    """The training of stage 1."""
    clean: tuple[str, ...] = ()
    """Clean image files, or `builtin` for the built-in photographs; empty for stage 1 alone."""
    student: str = "unet"
    """The student: a name of `dbsn.config.STUDENTS` or package.module:factory."""
    distill: DistillConfig = field(default_factory=DistillConfig)
    """The training of stage 2."""
    teacher: str | None = None
    """Model file whose blind-spot model replaces stage 1."""
    student_init_from: str | None = None
    """Model file with the initial weights of stage 2."""
    init_from: str | None = None
    """Model file or name of a built-in model with the initial weights of stage 1."""
    truth: tuple[str, ...] = ()
    """Files of the noisy images without noise, in the same order.

    If there are any, stage 1 learns from them, too (L6).
    """
    axes: str | None = None
    """Axes of the noisy files, in capitals, see `dbsn.io.axes`.

    None uses the axes that the files name.
    """

    def to_json(self) -> str:
        """Convert to the text of config.json."""
        values = {_IN_FILE.get(name, name): value for name, value in asdict(self).items()}
        return json.dumps({**values, "version": __version__, "budget": _BOTH_COUNT}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """The inverse of `to_json`."""
        values = parsed(text)
        del values["version"]
        if values.pop("budget", None) != _BOTH_COUNT:
            for training in (values["train"], values["distill"]):
                training["minutes"] = training["minutes"] if training["steps"] is None else None
        fields = {in_file: name for name, in_file in _IN_FILE.items()}
        return build(RunConfig, {fields.get(name, name): value for name, value in values.items()}, "run")


def saved_config(folder: Path) -> RunConfig:
    """Read the configuration of a run.

    Raises:
        FileNotFoundError: There is no run in `folder`.
        ValueError: Its configuration cannot be read.
    """
    path = folder / CONFIG
    if not path.is_file():
        raise FileNotFoundError(f"{folder}: no training run here (no {CONFIG}). Name the folder of a run.")
    if path.stat().st_size > LARGEST_CONFIG:
        raise ValueError(f"{path}: too large (expected at most {LARGEST_CONFIG} bytes). Start a new run.")
    try:
        return RunConfig.from_json(path.read_text())
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"{path}: cannot be read ({error}). Was it edited, or written by another version? Start a new run."
        ) from None
