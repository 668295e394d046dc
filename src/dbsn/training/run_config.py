"""What a run was asked, and the file in its folder that keeps it (config.json).

Tested in tests/e2e/test_resume.py.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from dbsn.config import DistillConfig, ModelConfig, TrainConfig
from dbsn.version import __version__

CONFIG = "config.json"
_IN_FILE = {"init_from": "start", "student_init_from": "student_start"}
"""Fields that the file knows by other names."""
_BOTH_COUNT = "steps and minutes"
"""Whichever ends first. In files without this word steps took the place of minutes, which stand there all the same."""


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
    student_init_from: str | None = None
    """Model file whose student's weights stage 2 starts from."""
    init_from: str | None = None
    """Model file, or name of a built-in model, whose blind-spot weights stage 1 starts from."""
    truth: tuple[str, ...] = ()
    """Files of the noisy images without noise, in their order, where stage 1 learns from them, too (L6)."""
    axes: str | None = None
    """In capitals, of the noisy files, see `dbsn.io.axes`; None for what they say themselves."""

    def to_json(self) -> str:
        """As text for config.json."""
        values = {_IN_FILE.get(name, name): value for name, value in asdict(self).items()}
        return json.dumps({**values, "version": __version__, "budget": _BOTH_COUNT}, indent=2) + "\n"

    @staticmethod
    def from_json(text: str) -> "RunConfig":
        """The inverse of `to_json`."""
        values = json.loads(text)
        del values["version"]
        if values.pop("budget", None) != _BOTH_COUNT:
            for training in (values["train"], values["distill"]):
                training["minutes"] = training["minutes"] if training["steps"] is None else None
        fields = {in_file: name for name, in_file in _IN_FILE.items()}
        values = {fields.get(name, name): value for name, value in values.items()}
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
