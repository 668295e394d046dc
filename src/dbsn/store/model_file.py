"""Weights and training state in safetensors files: strict, versioned, atomic, never pickled.

A model file is one safetensors file whose header holds the networks' configuration (tests/unit/test_checkpoint.py). A
checkpoint is the same kind of file with everything a training needs to go on as if nothing had happened.
"""

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from dbsn.config import ModelConfig, ModuleConfig, StudentConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.networks.symmetry import numbers_everywhere, numbers_once
from dbsn.noise.learned import NoiseModel
from dbsn.noise.recording import Recording
from dbsn.store.builtin import names
from dbsn.store.tensors import load_tensors, save_tensors

_MISFIT = "weights do not fit the configuration in the file"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """What a model file holds."""

    model: BlindSpotModel | None = None
    """The blind-spot model of stage 1, the student's teacher; None where a student is given away without it."""
    student: Student | None = None
    """The ordinary denoiser of stage 2."""
    noise: NoiseModel | None = None
    """The noise that the student learned to remove."""
    about: dict[str, Any] = field(default_factory=dict)
    """How it was trained."""
    unmade: str = ""
    """Why the student in the file could not be made: it is a network of the user's own, whose code is not here."""

    @property
    def teacher(self) -> BlindSpotModel:
        """The blind-spot model.

        Raises:
            ValueError: There is none.
        """
        if self.model is None:
            raise ValueError("this model file holds a student alone, no blind-spot model (no posterior, no noise map)")
        return self.model


def save_model(path: Path, saved: ModelFile) -> None:
    """Write a model file. The blind-spot model's tensors have their plain names, the others a prefix.

    Raises:
        ValueError: The student of the file that it was read from could not be made, and would be lost.
    """
    if saved.unmade:
        raise ValueError(saved.unmade)
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {"about": saved.about}
    if saved.model:
        tensors |= numbers_once(saved.model, saved.model.state_dict())
        header["model"] = saved.model.config.to_dict()
    if saved.student:
        weights = numbers_once(saved.student, saved.student.state_dict())
        tensors |= {f"student/{name}": tensor for name, tensor in weights.items()}
        header["student"] = saved.student.config.to_dict()
    if saved.noise:
        tensors |= {f"noise/{name}": tensor for name, tensor in saved.noise.tensors().items()}
        header["recording"] = asdict(saved.noise.recording)
    save_tensors(path, tensors, header)


def load_model(path: Path) -> ModelFile:
    """Read a model file, its networks ready for inference.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another kind, or its weights do not fit its configuration.
    """
    if not path.exists() and not path.suffix:
        raise FileNotFoundError(f"{path}: no such model file; those that come with dbsn are {', '.join(names())}")
    tensors, header = load_tensors(path)
    if not {"model", "student"} & header.keys():
        raise ValueError(f"{path}: holds no model configuration; use the run's model.safetensors")
    parts: dict[str, dict[str, Tensor]] = {"": {}, "student": {}, "noise": {}}
    for key, tensor in tensors.items():
        part, _, name = key.rpartition("/")
        parts.setdefault(part, {})[name] = tensor
    if "student" in header and "spread.factor" not in parts["student"]:  # none yet, or another kind, from before 0.1.0
        header["student"]["uncertainty"] = False
        parts["student"] = {name: part for name, part in parts["student"].items() if not name.startswith("spread.")}
    model = BlindSpotModel(ModelConfig.from_dict(header["model"])) if "model" in header else None
    try:
        if model:
            model.load_state_dict(numbers_everywhere(model, parts[""]), strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: {_MISFIT}: {error}") from None
    student, unmade = _student_of(header["student"], parts["student"]) if "student" in header else (None, "")
    if unmade and not (model and isinstance(StudentConfig.from_dict(header["student"]).network, ModuleConfig)):
        raise ValueError(f"{path}: {unmade}")
    noise = None
    if model and "recording" in header:
        noise = NoiseModel.from_tensors(model, parts["noise"], Recording(**header["recording"]))
    return ModelFile(
        model=model.eval() if model else None,
        student=student.eval() if student else None,
        noise=noise,
        about=header.get("about", {}),
        unmade=unmade,
    )


def _student_of(config: dict[str, Any], weights: dict[str, Tensor]) -> tuple[Student | None, str]:
    """A student for inference, or why it cannot be made."""
    try:
        student = Student(StudentConfig.from_dict(config))
        student.load_state_dict(numbers_everywhere(student, weights), strict=True)
    except ValueError as error:
        return None, str(error)
    except RuntimeError as error:
        return None, f"{_MISFIT}: {error}"
    return student, ""
