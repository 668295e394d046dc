"""Initial weights of a run: a built-in model, a model file, or random weights.

Tested in tests/unit/test_builtin.py.
"""

from dataclasses import replace
from pathlib import Path

from dbsn.config import AUTO, BUILTIN, DEFAULT_STUDENT, SCRATCH, STUDENTS, UNetConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.store.builtin import find_model, name_for
from dbsn.store.model_file import ModelFile, load_model
from dbsn.training.checkpoint import CHECKPOINT
from dbsn.training.run_config import RunConfig
from dbsn.training.stages import STUDENT


def choose_initial(asked: RunConfig, where: str, *, distils: bool) -> tuple[RunConfig, str]:
    """Choose the initial weights of a run.

    Args:
        asked: The configuration, with the images' channels. Its student may be AUTO: the student of the initial
            weights, otherwise a U-Net.
        where: BUILTIN (the built-in model for such images), a model file, a built-in model's name, or SCRATCH.
        distils: Whether a student will be trained.

    Returns:
        The configuration with `init_from`, `student` and `student_init_from`, and a line about them for the user, which
        may be empty.

    Raises:
        FileNotFoundError: The model does not exist.
        ValueError: The named model is of another kind than the run's, or holds nothing to start from.
    """
    usual = name_for(asked.model.channels, independent=asked.model.stride == 1)
    name = None if where == SCRATCH else name_for(asked.model.channels) if where == BUILTIN else where
    saved = load_model(find_model(Path(name))) if name else ModelFile()
    begun = replace(asked, student=DEFAULT_STUDENT if asked.student == AUTO else asked.student)
    if saved.model and not asked.teacher and asked.model.is_like(saved.model.config):
        begun = replace(begun, init_from=name)
    elif saved.model and not asked.teacher and where != BUILTIN:
        raise ValueError(
            f"--from {where}: the model has another network or number of channels. Choose another, or --from scratch."
        )
    if distils and asked.student_init_from:
        given = load_model(find_model(Path(asked.student_init_from)), trust=asked.student)
        begun = _with_student_of(begun, asked, given, asked.student_init_from)
    elif distils and name and asked.student == AUTO and not asked.distill.baseline:
        origin = name if (saved.student or saved.unmade) and where != BUILTIN else usual
        begun = _with_student_of(begun, asked, load_model(find_model(Path(origin))), origin) if origin else begun
    if name and where != BUILTIN and not asked.teacher and not begun.init_from and begun.student_init_from != name:
        raise ValueError(
            f"--from {where}: holds no blind-spot model, which stage 1 could start from. Use --from scratch."
        )
    return begun, "" if where == SCRATCH else _told_start(begun, asked, distils=distils)


def _told_start(begun: RunConfig, asked: RunConfig, *, distils: bool) -> str:
    """Describe the initial weights of teacher and student in one line."""
    origins = {} if asked.teacher else {"teacher": begun.init_from}
    origins |= {"student": begun.student_init_from} if distils else {}
    lines = [f"{part} from {origin or 'random weights'}" for part, origin in origins.items()]
    missing = "" if all(origins.values()) else " (no built-in or named model has this architecture)"
    scratch = "; --from scratch uses random weights" if any(origins.values()) else ""
    return f"initial weights: {', '.join(lines)}{missing}{scratch}" if lines else ""


def _with_student_of(begun: RunConfig, asked: RunConfig, saved: ModelFile, where: str) -> RunConfig:
    """Use the student of a model file as initial weights, if its network has a name.

    Raises:
        ValueError: It was requested and cannot be used.
    """
    if saved.unmade:
        raise ValueError(saved.unmade)
    network = saved.student.config.network if saved.student else None
    if isinstance(network, UNetConfig) and asked.model.stride > 1 and not asked.distill.uncertainty_alone:
        network = replace(network, guided=False)  # the level of correlated noise cannot be measured
    names = [name for name, known in STUDENTS.items() if known == network]
    if names and asked.student == AUTO:
        return replace(begun, student=names[0], student_init_from=where)
    if asked.student_init_from and asked.student == AUTO:
        kind = "holds no student" if network is None else f"its student {network} has no name"
        raise ValueError(f"--student.start {where}: {kind}. Name the network with --student.network.")
    return begun


def load_initial(asked: RunConfig, folder: Path | None = None) -> tuple[BlindSpotModel | None, Student | None]:
    """Load the initial weights of both stages, except of stages with a checkpoint.

    Raises:
        FileNotFoundError: A model file does not exist.
        ValueError: It cannot be used, or holds no student.
    """
    begun = [folder is not None and (folder / place / CHECKPOINT).exists() for place in ("", STUDENT)]
    begun[1] &= not asked.distill.uncertainty_alone  # this mode always needs the student
    blind = load_model(find_model(Path(asked.init_from))).teacher if asked.init_from and not begun[0] else None
    origin = find_model(Path(asked.student_init_from)) if asked.student_init_from and not begun[1] else None
    saved = load_model(origin, trust=asked.student) if origin else None
    if saved and not saved.student:
        raise ValueError(
            saved.unmade or f"--student.start {asked.student_init_from}: holds no student. Choose another model."
        )
    return blind, saved.student if saved else None
