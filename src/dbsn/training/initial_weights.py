"""What a run's networks begin with: a built-in model, a model file, or random weights.

Tested in tests/unit/test_builtin.py.
"""

from dataclasses import replace
from pathlib import Path

from dbsn.config import AUTO, BUILTIN, DEFAULT_STUDENT, SCRATCH, STUDENTS, ModuleConfig, UNetConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.store.builtin import find_model, name_for
from dbsn.store.model_file import ModelFile, load_model
from dbsn.training.checkpoint import CHECKPOINT
from dbsn.training.run_config import RunConfig
from dbsn.training.stages import STUDENT


def choose_initial(asked: RunConfig, where: str, *, distils: bool) -> tuple[RunConfig, str]:
    """Settle what a run starts from.

    Args:
        asked: With the images' channels; its student may be AUTO: that of what it starts from, or else a U-Net.
        where: BUILTIN (the model that comes with dbsn for such images), a model file or a built-in model's name, or
            SCRATCH.
        distils: Whether there is to be a student.

    Returns:
        The same with `init_from`, `student` and `student_init_from`, and a line on it for a person, if there is
        one to say.

    Raises:
        FileNotFoundError: There is no such model.
        ValueError: The model named is of another kind than the run's, or has nothing to start from.
    """
    usual = name_for(asked.model.channels, independent=asked.model.stride == 1)
    name = None if where == SCRATCH else name_for(asked.model.channels) if where == BUILTIN else where
    saved = load_model(find_model(Path(name))) if name else ModelFile()
    begun = replace(asked, student=DEFAULT_STUDENT if asked.student == AUTO else asked.student)
    if saved.model and not asked.teacher and asked.model.is_like(saved.model.config):
        begun = replace(begun, init_from=name)
    elif saved.model and not asked.teacher and where != BUILTIN:
        raise ValueError(f"--from {where}: another network, or for other channels; --from scratch needs none")
    if distils and asked.student_init_from:
        begun = _with_student_of(
            begun, asked, load_model(find_model(Path(asked.student_init_from))), asked.student_init_from
        )
    elif distils and name and asked.student == AUTO and not asked.distill.baseline:
        origin = name if (saved.student or saved.unmade) and where != BUILTIN else usual
        begun = _with_student_of(begun, asked, load_model(find_model(Path(origin))), origin) if origin else begun
    if name and where != BUILTIN and not asked.teacher and not begun.init_from and begun.student_init_from != name:
        raise ValueError(
            f"--from {where}: holds no blind-spot model, which stage 1 could start from; use --from scratch"
        )
    return begun, "" if where == SCRATCH else _told_start(begun, asked, distils=distils)


def _told_start(begun: RunConfig, asked: RunConfig, *, distils: bool) -> str:
    """One line on what teacher and student begin with."""
    origins = {} if asked.teacher else {"teacher": begun.init_from}
    origins |= {"student": begun.student_init_from} if distils else {}
    lines = [f"{part} from {origin or 'random weights'}" for part, origin in origins.items()]
    missing = "" if all(origins.values()) else " (no built-in or named model has this architecture)"
    scratch = "; --from scratch takes random weights instead" if any(origins.values()) else ""
    return f"starting {', '.join(lines)}{missing}{scratch}" if lines else ""


def _with_student_of(begun: RunConfig, asked: RunConfig, saved: ModelFile, where: str) -> RunConfig:
    """The run with the student of a model file, if its network has a name; ValueError where it was asked for."""
    if saved.unmade:
        raise ValueError(saved.unmade)
    network = saved.student.config.network if saved.student else None
    if isinstance(network, UNetConfig) and asked.model.stride > 1 and not asked.distill.uncertainty_alone:
        network = replace(network, guided=False)  # noise that neighbours share cannot be measured for it
    names = [network.factory] if isinstance(network, ModuleConfig) else [k for k, v in STUDENTS.items() if v == network]
    if names and asked.student == AUTO:
        return replace(begun, student=names[0], student_init_from=where)
    if asked.student_init_from and asked.student == AUTO:
        kind = "holds no student" if network is None else f"its student {network} cannot be started from here"
        raise ValueError(f"--student.start {where}: {kind}; name the network: --student.network")
    return begun


def load_initial(asked: RunConfig, folder: Path | None = None) -> tuple[BlindSpotModel | None, Student | None]:
    """What stage 1 and stage 2 begin from, unless they have begun already in the run's folder.

    Raises:
        FileNotFoundError: A model file is not there.
        ValueError: It cannot be used, or holds no student.
    """
    begun = [folder is not None and (folder / place / CHECKPOINT).exists() for place in ("", STUDENT)]
    begun[1] &= not asked.distill.uncertainty_alone  # which keeps what its student is, in any case
    blind = load_model(find_model(Path(asked.init_from))).teacher if asked.init_from and not begun[0] else None
    saved = load_model(find_model(Path(asked.student_init_from))) if asked.student_init_from and not begun[1] else None
    if saved and not saved.student:
        raise ValueError(saved.unmade or f"--student.start {asked.student_init_from}: holds no student")
    return blind, saved.student if saved else None
