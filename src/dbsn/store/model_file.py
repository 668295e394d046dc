"""Model files: weights and configuration in one safetensors file.

The header holds the configuration of the networks. A checkpoint has the same format, with everything that a training
needs to continue (`dbsn.training.checkpoint`). Tested in tests/unit/test_checkpoint.py.
"""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dbsn.config import ModelConfig, ModuleConfig, StudentConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.networks.symmetry import ORDER, numbers_everywhere, numbers_once
from dbsn.noise.learned import NoiseModel
from dbsn.noise.recording import Recording
from dbsn.schema import build
from dbsn.store.builtin import names
from dbsn.store.tensors import Shape, load_header, load_tensors, save_tensors

_MISFIT = "the weights do not fit the configuration in the file"
_Value = TypeVar("_Value")


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

    This concerns a user's own network, whose code cannot be loaded or is not trusted.
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


def load_model(path: Path, *, trust: bool | str = False) -> ModelFile:
    """Read a model file, its networks ready for inference.

    The file may come from a stranger. Its header and the shapes of its tensors are checked before a network is built.

    Args:
        path: The file.
        trust: Whether the code of a user's own network may be imported. A text allows this factory alone.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: It is damaged or of another kind, or its weights do not fit its configuration.
    """
    if not path.exists() and not path.suffix:
        raise FileNotFoundError(
            f"{path}: no such model file. Check the path, or use a built-in model: {', '.join(names())}."
        )
    shapes, header = load_header(path)
    if not {"model", "student"} & header.keys():
        raise ValueError(f"{path}: holds no model configuration. Use the run's model.safetensors.")
    try:
        return _checked(path, shapes, header, trust)
    except (ValueError, RuntimeError, KeyError) as error:
        raise ValueError(f"{path}: {' '.join(str(error).split())}") from None


def _checked(path: Path, shapes: dict[str, Shape], header: dict[str, Any], trust: bool | str) -> ModelFile:
    """Build the networks of a file after its header and shapes are checked; a ValueError does not name the file."""
    about = header.get("about", {})
    if not isinstance(about, dict):
        raise ValueError("about: wrong value (expected an object)")
    of_model = ModelConfig.from_dict(header["model"]) if "model" in header else None
    of_student = StudentConfig.from_dict(header["student"]) if "student" in header else None
    if of_student and "student/spread.factor" not in shapes:  # before 0.1.0: none, or an old kind
        of_student = replace(of_student, uncertainty=False)
        shapes = {name: shape for name, shape in shapes.items() if not name.startswith("student/spread.")}
    if of_model:
        _check_shapes(BlindSpotModel, of_model, _part(shapes, ""))
    is_own = of_student is not None and isinstance(of_student.network, ModuleConfig)
    if of_student and not is_own:
        _check_shapes(Student, of_student, _part(shapes, "student"))
    tensors = {name: tensor for name, tensor in load_tensors(path)[0].items() if name in shapes}
    if bad := [name for name, tensor in tensors.items() if not tensor.isfinite().all()]:
        raise ValueError(f"the weights are NaN or infinite ({bad[0]}). Use another model.")
    model = BlindSpotModel(of_model) if of_model else None
    if model:
        model.load_state_dict(numbers_everywhere(model, _part(tensors, "")), strict=True)
    student, unmade = _student_of(of_student, _part(tensors, "student"), trust) if of_student else (None, "")
    if unmade and not model:
        raise ValueError(unmade)
    noise = None
    if model and "recording" in header:
        recording = build(Recording, header["recording"], "recording")
        noise = NoiseModel.from_tensors(model, _part(tensors, "noise"), recording)
    return ModelFile(
        model=model.eval() if model else None,
        student=student.eval() if student else None,
        noise=noise,
        about=about,
        unmade=unmade,
    )


def _part(named: dict[str, _Value], part: str) -> dict[str, _Value]:
    """What belongs to a part of the file, by its names within the part."""
    cut = [(*name.rpartition("/")[::2], value) for name, value in named.items()]
    return {name: value for place, name, value in cut if place == part}


def _check_shapes(
    kind: Callable[[Any], nn.Module], config: ModelConfig | StudentConfig, shapes: dict[str, Shape]
) -> None:
    """Check that tensors are those of a network, which is not built for it.

    A symmetric network keeps one of up to eight equal weights, in a row.
    """
    is_symmetric = getattr(config.network, "symmetric", False)
    plain = replace(config, network=replace(config.network, symmetric=False)) if is_symmetric else config  # type: ignore[arg-type]
    with torch.device("meta"):
        expected = {name: tuple(tensor.shape) for name, tensor in kind(plain).state_dict().items()}
    if wrong := sorted(expected.keys() ^ shapes.keys()):
        what = "is missing" if wrong[0] in expected else "is unknown"
        raise ValueError(f"{_MISFIT}: {wrong[0]} {what}")
    for name, shape in expected.items():
        once = len(shapes[name]) == 1 and math.prod(shape) <= ORDER * shapes[name][0] <= ORDER * math.prod(shape)
        if shapes[name] != shape and not (is_symmetric and once):
            raise ValueError(f"{_MISFIT}: {name} has shape {shapes[name]}, expected {shape}")


def _student_of(config: StudentConfig, weights: dict[str, Tensor], trust: bool | str) -> tuple[Student | None, str]:
    """Build a student for inference; or say why the user's own cannot be built."""
    own = config.network.factory if isinstance(config.network, ModuleConfig) else ""
    if own and not _is_trusted(own, trust):
        said = f"Add --trust (in training: --student.network {own}; in Python: trust=True) if it is yours."
        return None, f"student {own}: is code, which a file alone does not import. {said}"
    try:
        student = Student(config)
        student.load_state_dict(numbers_everywhere(student, weights), strict=True)
    except (ValueError, RuntimeError) as error:
        reason = f"{_MISFIT}: {error}" if isinstance(error, RuntimeError) else str(error)
        if not own:
            raise ValueError(reason) from None
        return None, reason
    return student, ""


def _is_trusted(factory: str, trust: bool | str) -> bool:
    if isinstance(trust, bool):
        return trust
    (place, _, name), (named, _, given) = factory.rpartition(":"), trust.rpartition(":")
    is_file = place.endswith(".py") and named.endswith(".py")
    return name == given and (place == named or (is_file and Path(place).resolve() == Path(named).resolve()))
