"""Exceptions of this package.

Each message is one line: what is wrong and what to do. Messages name the flags of the commands. `speaks_python` turns
these into arguments for callers from Python. Tested in tests/unit/test_errors.py.
"""

import re
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

_Given = ParamSpec("_Given")
_Got = TypeVar("_Got")

_ARGUMENTS = {
    "from": "start",
    "student.start": "start",
    "student.network": "student",
    "strength": "level_factor",
    "model": "path",
}
"""Arguments of `dbsn.Denoiser` that are not called as their flags are."""
_REPEATED = re.compile(r" \(--[a-z.-]+ [^\s()]+\)")  # behind the same in Python
_RESUMING = ("Continue from the last checkpoint with --resume and", "Train again with")  # `fit` cannot be resumed
_WORDS = "scratch|builtin|student|posterior|fp32|bf16"
_FLAG = re.compile(rf"--([a-z][a-z.-]*[a-z])(?: ((?:{_WORDS})\b|-?[\w./+-]*\w(?=[:.,;)](?:\s|$)|$)))?")
_MODEL = re.compile(r"(?<!\S)-m\b")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def in_python(message: str) -> str:
    """A message with arguments in the place of flags: method="posterior", not --method posterior."""

    def argument(found: re.Match[str]) -> str:
        flag, value = found.groups()
        name = _ARGUMENTS.get(flag, flag.replace("student.", "distill.").replace("-", "_"))
        if value is None:
            return name
        return f"{name}={value}" if _NUMBER.fullmatch(value) else f'{name}="{value}"'

    return _MODEL.sub("model", _FLAG.sub(argument, _REPEATED.sub("", message.replace(*_RESUMING))))


def speaks_python(function: Callable[_Given, _Got]) -> Callable[_Given, _Got]:
    """Turn flags in the messages of a function's errors into arguments."""

    @wraps(function)
    def speaking(*args: _Given.args, **settings: _Given.kwargs) -> _Got:
        try:
            return function(*args, **settings)
        except (ValueError, OSError) as error:
            if error.args and isinstance(error.args[0], str):
                error.args = (in_python(error.args[0]), *error.args[1:])
            raise

    return speaking


class ImageError(ValueError):
    """A file that cannot be read or written as requested."""


class TrainingDivergedError(ValueError):
    """The loss or its gradient is not finite."""
