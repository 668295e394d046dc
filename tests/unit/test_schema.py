"""Dataclasses from the JSON of a file."""

import json
import math
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from dbsn.config import ModelConfig, StudentConfig
from dbsn.schema import DEEPEST, build, parsed


@dataclass(frozen=True, kw_only=True)
class _Inner:
    kind: Literal["inner"] = "inner"
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class _Other:
    kind: Literal["other"] = "other"


@dataclass(frozen=True, kw_only=True)
class _Outer:
    count: int
    share: float = 0.5
    is_on: bool = False
    name: str | None = None
    inner: _Inner | _Other = _Inner()

    def __post_init__(self) -> None:
        if self.count > 9:
            raise ValueError("count: too large")


def test_values_of_the_right_types_are_built() -> None:
    values = {"count": 3, "share": 1, "is_on": True, "name": "a", "inner": {"kind": "inner", "sizes": [1, 2]}}
    assert build(_Outer, values, "run") == _Outer(count=3, share=1, is_on=True, name="a", inner=_Inner(sizes=(1, 2)))
    assert build(_Outer, {"count": 3, "inner": {"kind": "other"}, "name": None}, "run") == _Outer(
        count=3, inner=_Other()
    )
    assert build(_Outer, {"count": 3, "share": math.inf}, "run").share == math.inf


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (None, "run: wrong value (got None, expected an object)"),
        ({}, "run: count is missing"),
        ({"count": 3, "x\n": 1}, r"run: unknown 'x\n'; was it written by a newer dbsn?"),
        ({"count": True}, "run.count: wrong value (got True, expected a whole number)"),
        ({"count": 3.0}, "run.count: wrong value (got 3.0, expected a whole number)"),
        ({"count": 10**4000}, "run: count: too large"),
        ({"count": 3, "share": "1"}, "run.share: wrong value (got '1', expected a number)"),
        ({"count": 3, "share": math.nan}, "run.share: wrong value (got nan, expected a number)"),
        ({"count": 3, "share": 10**4000}, "run.share: wrong value (got a number of many digits, expected a number)"),
        ({"count": 3, "is_on": 1}, "run.is_on: wrong value (got 1, expected true or false)"),
        ({"count": 3, "name": ["a"]}, "run.name: wrong value (got a list, expected text)"),
        ({"count": 3, "inner": []}, "run.inner: wrong value (got a list, expected an object)"),
        ({"count": 3, "inner": {}}, "run.inner.kind: wrong value (got None, expected one of inner, other)"),
        ({"count": 3, "inner": {"kind": "inner", "sizes": 1}}, "run.inner.sizes: wrong value (got 1, expected a list)"),
        ({"count": 3, "inner": {"kind": "inner", "sizes": [1, "x"]}}, "run.inner.sizes[1]: wrong value (got 'x'"),
    ],
)  # fmt: skip
def test_a_wrong_value_is_named_in_one_line(values: object, said: str) -> None:
    with pytest.raises(ValueError, match=r"^run") as error:
        build(_Outer, values, "run")
    assert said in str(error.value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize(
    "text", ["", "5", "null", '"a"', "[]", "[" * 100_000, '{"a":' * 70 + "1" + "}" * 70, "9" * 5000, b"\xff"]
)
def test_what_is_no_object_or_nested_too_deep_is_no_header(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r"^header: "):
        parsed(text)


def test_a_header_may_be_nested_to_a_limit() -> None:
    def nested(levels: int) -> str:
        return '{"a":' * levels + "1" + "}" * levels

    assert parsed(nested(DEEPEST))
    with pytest.raises(ValueError, match="nested too deep"):
        parsed(nested(DEEPEST + 1))


@pytest.mark.parametrize("kind", [ModelConfig, StudentConfig])
def test_a_network_has_limits(kind: type) -> None:
    for network, said in (
        ({"kind": "grid", "widths": [4097]}, "grid width: got 4097, expected 1 to 4096"),
        ({"kind": "grid", "spacing": 17}, "grid spacing: got 17, expected 2 to 16"),
        ({"kind": "dbsn", "modules": 65}, "modules: got 65, expected 1 to 64"),
        ({"kind": "unet", "widths": [8] * 9, "blocks": [1] * 9}, "U-Net stages: got 9, expected 1 to 8"),
        ({"kind": "unet", "widths": [8], "blocks": [65]}, "U-Net blocks: got 65, expected 0 to 64"),
        ({"kind": "mwcnn", "depth": 65}, "MWCNN depth: got 65, expected 2 to 64"),
        ({"kind": "dncnn", "depth": 65}, "DnCNN depth: got 65, expected 2 to 64"),
    ):
        if (network["kind"] in ("grid", "dbsn")) == (kind is ModelConfig):
            with pytest.raises(ValueError, match="network") as error:
                kind.from_dict(json.loads(json.dumps({"network": network})))
            assert said in str(error.value)


def test_hostile_models_run_no_code_and_are_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.robustness.hostile_models", "--count", "60"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
