"""The house has few rooms and floors, no circle, and no large function; the plan that says so is right."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks.studies.floor_plan import between_rooms, circles, floors, functions, module_arrows

BY_NAME = {"denoiser.py:fit", "denoiser.py:predict", "denoiser.py:denoise"}
"""People type their arguments by name; all of them are settings of one call."""


def test_there_are_few_rooms_on_few_floors_and_no_circle() -> None:
    modules = module_arrows()
    rooms = between_rooms(modules)
    assert 15 <= len(rooms) <= 30
    assert {"cli", "io", "networks", "denoiser", "config"} <= rooms.keys()
    assert "io" in rooms["batch"]
    assert 5 <= max(floors(rooms).values()) <= 12
    assert circles(rooms) == circles(modules) == []


def test_no_function_is_long_or_has_many_parameters() -> None:
    every = list(functions())
    assert len(every) > 500
    assert [each for each in every if each.lines > 80] == []
    assert {each.name for each in every if each.parameters > 6} == BY_NAME


def test_a_floor_is_the_longest_chain_below_and_a_circle_shares_one() -> None:
    arrows = {"a": {"b", "d"}, "b": {"c"}, "c": {"d"}, "d": set[str]()}
    assert floors(arrows) == {"a": 4, "b": 3, "c": 2, "d": 1}
    assert circles(arrows) == []
    arrows["c"] = {"b", "d"}
    assert circles(arrows) == [{"b", "c"}]
    assert floors(arrows) == {"a": 3, "b": 2, "c": 2, "d": 1}


def test_modules_of_a_package_are_one_room() -> None:
    arrows = {
        "dbsn": {"dbsn.top"},
        "dbsn.top": {"dbsn.io.a", "dbsn.io"},
        "dbsn.io": set[str](),
        "dbsn.io.a": {"dbsn.io"},
    }
    assert between_rooms(arrows) == {"top": {"io"}, "io": set()}


def test_a_function_is_measured_without_its_docstring_and_without_self(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        'class A:\n    def f(self, a, *, b=1, **more):\n        """One.\n\n        Two.\n        """\n        return a'
    )
    [found] = functions(tmp_path)
    assert (found.name, found.lines, found.parameters) == ("a.py:f", 2, 2)
