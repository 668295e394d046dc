"""Print the floor plan of dbsn: rooms, floors, arrows, circles, and how far a command is from its network.

Usage: python -m benchmarks.studies.floor_plan [--rooms]

- A room is a package or a module at the top. A module is a file.
- An arrow is a pair (importer, imported), also of an import inside a function; not one for types alone.
- A floor is the length of the longest chain of imports below, with rooms in a circle on one floor.
- Lines of a function are counted without its docstring; parameters without self.
- A call is a function of dbsn on the stack when the network's `forward` begins, in `dbsn denoise` of one PNG. The
  function where dbsn is entered is not counted. A hop is a call into another room.
"""

import argparse
import ast
import inspect
import io
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType
from typing import Any

import grimp
import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2] / "src" / "dbsn"
Arrows = dict[str, set[str]]


def module_arrows() -> Arrows:
    """For each module the modules that it imports."""
    graph = grimp.build_graph("dbsn", include_external_packages=False, exclude_type_checking_imports=True)
    return {name: set(graph.find_modules_directly_imported_by(name)) for name in graph.modules}


def room_of(module: str) -> str:
    """The package of a module, or the module itself at the top."""
    return module.split(".")[1] if "." in module else module


def between_rooms(arrows: Arrows) -> Arrows:
    """The same between rooms; the package dbsn, which opens its rooms when they are asked for, is none."""
    rooms: Arrows = {room_of(module): set() for module in arrows if module != "dbsn"}
    for module, imported in arrows.items():
        if module != "dbsn":
            rooms[room_of(module)] |= {room_of(each) for each in imported if each != "dbsn"} - {room_of(module)}
    return rooms


def circles(arrows: Arrows) -> list[set[str]]:
    """Groups of more than one that can reach one another."""
    reach = {name: _reached(arrows, name) for name in arrows}
    groups = {frozenset({name, *(other for other in reach[name] if name in reach[other])}) for name in arrows}
    return sorted((set(group) for group in groups if len(group) > 1), key=sorted)


def _reached(arrows: Arrows, start: str) -> set[str]:
    found, left = set[str](), [start]
    while left:
        new = arrows[left.pop()] - found
        found |= new
        left += new
    return found - {start}


def floors(arrows: Arrows) -> dict[str, int]:
    """The floor of each, from 1 at the bottom."""
    group = {name: min(circle) for circle in circles(arrows) for name in circle}
    plain = {group.get(name, name): set[str]() for name in arrows}
    for name, imported in arrows.items():
        here = group.get(name, name)
        plain[here] |= {group.get(other, other) for other in imported} - {here}
    height: dict[str, int] = {}
    for name in TopologicalSorter(plain).static_order():
        height[name] = 1 + max((height[other] for other in plain[name]), default=0)
    return {name: height[group.get(name, name)] for name in arrows}


@dataclass(frozen=True)
class Function:
    """A function and its size."""

    name: str
    lines: int
    parameters: int


def functions(root: Path = ROOT) -> Iterator[Function]:
    """Every function below a folder, but for overloads."""
    for path in sorted(root.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not _is_overload(node):
                arguments = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                count = sum(each.arg not in ("self", "cls") for each in arguments)
                documented = node.body[0] if ast.get_docstring(node) is not None else None
                text = (documented.end_lineno or 0) - documented.lineno + 1 if documented else 0
                lines = (node.end_lineno or 0) - node.lineno + 1 - text
                yield Function(f"{path.relative_to(root)}:{node.name}", lines, count)


def _is_overload(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    return any(isinstance(each, ast.Name) and each.id == "overload" for each in node.decorator_list)


@dataclass(frozen=True)
class Walk:
    """The way of one image from the command to the network."""

    stack: tuple[str, ...]
    """Functions of dbsn on the stack, outermost first."""
    functions: int
    """Functions of dbsn that were called in all, with comprehensions and generated ones."""
    files: int

    @property
    def rooms(self) -> list[str]:
        """The rooms on the way, one after the other."""
        names = [room_of(name.split(":")[0]) for name in self.stack]
        return [name for name, before in zip(names, [None, *names], strict=False) if name != before]


def walk_of_denoise() -> Walk:
    """Run `dbsn denoise` of one gray PNG and watch it."""
    from dbsn.cli import main

    seen: set[tuple[str, str]] = set()
    stacks: list[tuple[str, ...]] = []

    def watch(frame: FrameType, event: str, _: Any) -> None:
        module = frame.f_globals.get("__name__", "")
        if event == "call" and module.startswith("dbsn.") and frame.f_code.co_flags & inspect.CO_OPTIMIZED:
            seen.add((module, frame.f_code.co_qualname))
            if module.startswith("dbsn.networks") and frame.f_code.co_name == "forward" and not stacks:
                stacks.append(tuple(reversed(list(_names(frame)))))

    with tempfile.TemporaryDirectory() as folder, redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        image = np.random.default_rng(0).integers(90, 110, (64, 64), dtype=np.uint8)
        Image.fromarray(image).save(Path(folder) / "a.png")
        before, sys.argv = sys.argv, ["dbsn", "denoise", f"{folder}/a.png", "-m", "gray", "-o", f"{folder}/out"]
        sys.setprofile(watch)
        try:
            with suppress(SystemExit):
                main()
        finally:
            sys.setprofile(None)
            sys.argv = before
    return Walk(stacks[0], len(seen), len({module for module, _ in seen}))


def _names(frame: FrameType | None) -> Iterator[str]:
    while frame:
        if (module := frame.f_globals.get("__name__", "")).startswith("dbsn."):
            yield f"{module}:{frame.f_code.co_qualname}"
        frame = frame.f_back


def _line(title: str, arrows: Arrows) -> str:
    many = sum(map(len, arrows.values()))
    high = max(floors(arrows).values())
    return f"{title}: {len(arrows)} on {high} floors, {many} arrows, {len(circles(arrows))} circles"


def _plan(arrows: Mapping[str, Iterable[str]], height: Mapping[str, int]) -> Iterator[str]:
    for floor in range(max(height.values()), 0, -1):
        for name in sorted(name for name, own in height.items() if own == floor):
            yield f"{floor:3} {name:14} -> {' '.join(sorted(arrows[name]))}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rooms", action="store_true", help="also print each room with its floor and its arrows")
    shows_rooms = parser.parse_args().rooms
    modules = module_arrows()
    rooms = between_rooms(modules)
    if shows_rooms:
        print(*_plan(rooms, floors(rooms)), sep="\n")
    every = sorted(functions(), key=lambda each: (-each.lines, each.name))
    widest = sorted(every, key=lambda each: (-each.parameters, each.name))[:3]
    print(_line("rooms", rooms))
    print(_line("modules", modules))
    print(f"longest function: {every[0].lines} lines, {every[0].name}")
    print(f"most parameters: {', '.join(f'{each.parameters} {each.name}' for each in widest)}")
    walk = walk_of_denoise()
    print(f"dbsn denoise: {walk.functions} functions in {walk.files} files")
    print(f"command to network: {len(walk.stack) - 1} calls, {len(walk.rooms) - 1} hops: {' > '.join(walk.rooms)}")
    print(*(f"  {name}" for name in walk.stack), sep="\n")


if __name__ == "__main__":
    main()
