"""Dataclasses from the JSON of a file: names and types are checked before anything is built.

A model file or a run folder may come from a stranger. Ranges are checked by the dataclasses themselves. Tested in
tests/unit/test_schema.py.
"""

import json
import math
import types
from collections.abc import Callable
from dataclasses import MISSING, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

DEEPEST = 64
"""Levels of lists and objects inside each other."""
_MOST = 10**300
_LONGEST = 80  # characters of a value that is shown
_KINDS: dict[Any, str] = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}
_Built = TypeVar("_Built")


def parsed(text: str | bytes) -> dict[str, Any]:
    """Parse a JSON object.

    Raises:
        ValueError: It is no JSON object, or nested too deep.
    """
    try:
        values = json.loads(text)
    except RecursionError:
        raise ValueError(f"header: nested too deep (expected at most {DEEPEST} levels)") from None
    except ValueError as error:  # including whole numbers of more than 4,300 digits, and wrong UTF-8
        raise ValueError(f"header: no valid JSON ({error})") from None
    if not isinstance(values, dict):
        raise _wrong("header", values, "an object")
    level: list[Any] = [values]
    for _ in range(DEEPEST):
        level = [part for each in level if isinstance(each, dict | list) for part in _parts(each)]
    if any(isinstance(each, dict | list) for each in level):
        raise ValueError(f"header: nested too deep (expected at most {DEEPEST} levels)")
    return values


def build(kind: type[_Built], values: object, name: str) -> _Built:
    """Build a dataclass from the values of a JSON object.

    Args:
        kind: The dataclass; its fields are plain values, tuples, dataclasses, and unions of these.
        values: The object.
        name: Name of the object in a message.

    Raises:
        ValueError: A name is unknown or missing, a value has a wrong type, or the dataclass refuses a value.
    """
    known, hints = {field.name: field for field in fields(kind)}, get_type_hints(kind)  # type: ignore[arg-type]
    if not isinstance(values, dict):
        raise _wrong(name, values, "an object")
    if unknown := sorted(values.keys() - known.keys()):
        raise ValueError(f"{name}: unknown {shown(unknown[0])}; was it written by a newer dbsn?")
    needed = [field.name for field in known.values() if field.default is field.default_factory is MISSING]
    if missing := [each for each in needed if each not in values]:
        raise ValueError(f"{name}: {missing[0]} is missing")
    made = {each: _value(hints[each], value, f"{name}.{each}") for each, value in values.items()}
    try:
        return kind(**made)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None


def _value(hint: Any, value: object, name: str) -> Any:
    """Check one value, and convert lists to tuples and objects to dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_dataclass(hint):
        return build(hint, value, name)  # type: ignore[arg-type]
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, name)
    if origin is tuple:
        if not isinstance(value, list | tuple):
            raise _wrong(name, value, "a list")
        return tuple(_value(arguments[0], each, f"{name}[{number}]") for number, each in enumerate(value))
    if origin is Literal:
        if not isinstance(value, str) or value not in arguments:
            raise _wrong(name, value, f"one of {', '.join(arguments)}")
        return value
    if not _CHECKS[hint](value):
        raise _wrong(name, value, _KINDS[hint])
    return value


_CHECKS: dict[Any, Callable[[Any], bool]] = {
    bool: lambda value: isinstance(value, bool),
    int: lambda value: isinstance(value, int) and not isinstance(value, bool),
    float: lambda value: _is_number(value),
    str: lambda value: isinstance(value, str),
}


def _is_number(value: object) -> bool:
    """Whether a value is a number that a float can hold; infinite, but not NaN."""
    if isinstance(value, float):
        return not math.isnan(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _MOST


def _one_of(kinds: tuple[Any, ...], value: object, name: str) -> Any:
    """A value of one of several kinds; dataclasses are told apart by their `kind`."""
    if value is None and types.NoneType in kinds:
        return None
    tagged: dict[str, Any] = {each.kind: each for each in kinds if hasattr(each, "kind")}
    if not tagged:
        (kind,) = (each for each in kinds if each is not types.NoneType)
        return _value(kind, value, name)
    if not isinstance(value, dict):
        raise _wrong(name, value, "an object")
    tag = value.get("kind")
    if not isinstance(tag, str) or tag not in tagged:
        raise _wrong(f"{name}.kind", tag, f"one of {', '.join(tagged)}")
    return build(tagged[tag], value, name)


def _parts(value: dict[str, Any] | list[Any]) -> list[Any]:
    """What an object or a list holds."""
    return list(value.values() if isinstance(value, dict) else value)


def _wrong(name: str, value: object, expected: str) -> ValueError:
    return ValueError(f"{name}: wrong value (got {shown(value)}, expected {expected})")


def shown(value: object) -> str:
    """A value in one short line; not all of a long one is written."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    if isinstance(value, int) and abs(value) > 10**_LONGEST:
        return "a number of many digits"
    shown = repr(value[: 2 * _LONGEST] if isinstance(value, str) else value)
    return shown if len(shown) <= _LONGEST else f"{shown[:_LONGEST]}..."
