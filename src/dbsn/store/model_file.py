"""Model files: weights and configuration in one safetensors file.

The header holds the configuration of the networks. A checkpoint has the same format, with everything that a training
needs to continue (`dbsn.training.checkpoint`). Tested in tests/unit/test_checkpoint.py.
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

_MISFIT = "the weights do not fit the configuration in the file"


@dataclass(frozen=True, kw_only=True)
class ModelFile:
    """The content of a model file."""

    model: BlindSpotModel | None = None
    """The blind-spot model of stage 1, the student's teacher.

    It is None in a file that holds only a student.
    """
    student: Student | None = None
    """The student of stage 2."""
    noise: NoiseModel | None = None
    """The noise that the student learned to remove."""
    about: dict[str, Any] = field(default_factory=dict)
    """How the networks were trained."""
    unmade: str = ""
    """Why the student of the file cannot be built; empty if it can.

    This concerns a user's own network whose code cannot be loaded.
    """

    @property
    def teacher(self) -> BlindSpotModel:
        """The blind-spot model.

        Raises:
            ValueError: The file holds no blind-spot model.
        """
        if self.model is None:
            raise ValueError(
                "model: holds a student alone, no blind-spot model (no posterior, no noise map). Choose another model."
            )
        return self.model


def save_model(path: Path, saved: ModelFile) -> None:
    """Write a model file.

    Tensors of the blind-spot model keep their names. All others get a prefix.

    Raises:
        ValueError: The student of the file that was read cannot be built, and would be lost.
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
        FileNotFoundError: The file does not exist.
        ValueError: It is damaged or of another kind, or its weights do not fit its configuration.
    """
    if not path.exists() and not path.suffix:
        raise FileNotFoundError(
            f"{path}: no such model file. Check the path, or use a built-in model: {', '.join(names())}."
        )
    tensors, header = load_tensors(path)
    if not {"model", "student"} & header.keys():
        raise ValueError(f"{path}: holds no model configuration. Use the run's model.safetensors.")
    parts: dict[str, dict[str, Tensor]] = {"": {}, "student": {}, "noise": {}}
    for key, tensor in tensors.items():
        part, _, name = key.rpartition("/")
        parts.setdefault(part, {})[name] = tensor
    if "student" in header and "spread.factor" not in parts["student"]:  # before 0.1.0: none, or an old kind
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
    """Build a student for inference; or say why it cannot be built."""
    try:
        student = Student(StudentConfig.from_dict(config))
        student.load_state_dict(numbers_everywhere(student, weights), strict=True)
    except ValueError as error:
        return None, str(error)
    except RuntimeError as error:
        return None, f"{_MISFIT}: {error}"
    return student, ""
