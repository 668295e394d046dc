"""The pages of `--help` and `--help-all`, made from the parser: at most 40 lines for what people use.

Which options those are stands in each command's `layout`. Tested in tests/unit/test_help.py, as is that no page needs
torch. benchmarks/docs_reference.py makes the reference from the same parser.
"""

import difflib
import fnmatch
import functools
import itertools
import re
import textwrap
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

PROGRAM = "dbsn"
Parser = Any
"""As `argparse.ArgumentParser`; tyro's is one of its own."""
_NARROW, _WIDE, _COLUMN = 60, 100, 24
_OFF = re.compile(r"--(\w+\.)?no-")
_HINT = re.compile(r"\s*\((?:default: (?P<default>.*?)|(?P<required>required)|repeatable|optional)\)$")


@dataclass(frozen=True, kw_only=True)
class Layout:
    """What a command's page shows where."""

    examples: tuple[str, ...]
    """Commands to copy."""
    usual: tuple[str, ...] = ()
    """The options of `--help`, in their order."""
    more: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The other options, of `--help-all`, under headings. `--student.*` are all that begin so."""


@dataclass(frozen=True)
class Option:
    """One argument or option, as a person reads it."""

    flags: tuple[str, ...]
    """Its names; none for an argument that is known by its place."""
    takes: str
    """What it takes; empty for a switch."""
    text: str
    default: str
    """As typed; empty for none, off or required."""
    required: bool

    @property
    def name(self) -> str:
        """The long name of an option, or what an argument is called."""
        return self.flags[-1] if self.flags else self.takes

    @property
    def shown(self) -> str:
        """How it is typed."""
        return " ".join(filter(None, (", ".join(self.flags), self.takes)))


def parsers(commands: Any) -> dict[str, Parser]:
    """The parser of each command, by its name."""
    import tyro

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(commands, prog=PROGRAM)
    [choices] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return dict(choices)


def options(parser: Parser) -> Iterator[Option]:
    """The arguments and options of a command, but for `--help`."""
    for action in parser._actions:
        if action.dest != "help":
            yield _option(action)


def _option(action: Any) -> Option:
    text, default, required = plain(action.help or ""), "", False
    if found := _HINT.search(text):
        text, default, required = text[: found.start()], found["default"] or "", bool(found["required"])
    named = sorted((flag for flag in action.option_strings if not _OFF.match(flag)), key=len)
    takes = str(action.metavar or "").replace("{None}|", "").replace("None,", "").replace(",", "|")
    takes = re.sub(r"\[(\w+) \[\1 \.\.\.\]\]", r"\1", takes).replace("{", "").replace("}", "")
    takes += "..." if action.nargs in ("*", "+") else ""
    default = "" if default in ("None", "False", "True") else default.removesuffix(".0")
    return Option(tuple(named), "" if named and action.nargs == 0 else takes, text, default, required)


def plain(text: str) -> str:
    """Text in one line, without the terminal's colours."""
    return " ".join(without_colours(text).split())


def without_colours(text: str) -> str:
    """Text without the terminal's colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


def in_one_line(box: str) -> str:
    """What the parser's box says is wrong, in one line: the option first."""
    lines = [re.sub(r"[\u2500-\u257f]", "", line).strip() for line in without_colours(box).splitlines()]
    inside = lines[1:] if box.startswith(("\x1b", "\u256d", " ")) else lines
    parts = itertools.groupby(inside, lambda line: not set(line) <= {"-"})
    said = " ".join(next(list(part) for is_text, part in parts if is_text))
    for pattern, replaced in _SAID.items():
        if found := re.match(pattern, said):
            return functools.reduce(lambda text, to: re.sub(to[0], to[1], text), _WORDS.items(), found.expand(replaced))
    return said


_SAID = {
    r"Error parsing (\S+): could not convert string to float: (.*)": r"\1: got \2, expected a number.",
    r"Error parsing (\S+): invalid literal for int\(\) with base 10: (.*)": r"\1: got \2, expected a whole number.",
    r"Error parsing (\S+): no type matching (.*) could be instantiated from \[(.*)\]\.": r"\1: got \3, expected \2.",
    r"Error parsing (\S+): (.*)": r"\1: \2.",
    r"invalid choice (.*) for argument '(\S+)'. Expected one of \((.*)\)\.": r"\2: got \1, expected one of \3.",
    r"Missing value for argument '(\S+)'": r"\1: a value is missing.",
    r"Missing from [\w ]+: (-\w \S+, )?(--[\w-]+|\S+)": r"\2: missing.",
    r"Unrecognized options: (.*)": r"\1: not understood; no option takes it.",
}
"""The parser's messages, and ours."""
_WORDS = {
    r"'(\S+?)'": r"\1", r"\{None\}\|": "", r"\{(\w+)\}": r"\1", r"\bINT\b": "a whole number", r"\bFLOAT\b": "a number",
    r"(?<=\w)\|(?=\w)": " or ",
}  # fmt: skip
"""Notations of the parser, and ours."""


def first_page(descriptions: Mapping[str, str], width: int) -> str:
    """`dbsn --help`: what there is."""
    lines = [
        f"usage: {PROGRAM} COMMAND [OPTIONS]", "", "Denoise images with models that learn from noisy images.", "",
        "examples:", "  dbsn denoise photo.jpg", "  dbsn train my_noisy_images -o runs/mine", "", "commands:",
    ]  # fmt: skip
    for name, text in descriptions.items():
        lines += _entry(name, text, width, 14)
    ends = f"`{PROGRAM} COMMAND --help` explains a command. `{PROGRAM} --version` prints the versions."
    return "\n".join([*lines, "", *textwrap.wrap(ends, _fit(width))])


def page(name: str, parser: Parser, layout: Layout, *, everything: bool, width: int) -> str:
    """The help of one command."""
    known = list(options(parser))
    places = " ".join(option.takes for option in known if not option.flags)
    lines = [f"usage: {PROGRAM} {name} [OPTIONS] {places}".rstrip(), ""]
    lines += [*textwrap.wrap(plain(parser.description or ""), _fit(width)), "", "examples:"]
    lines += [f"  {example}" for example in layout.examples]
    for title, those in sections(known, layout, everything=everything).items():
        lines += ["", f"{title}:"]
        for option in those:
            lines += _entry(option.shown, _description(option), width, _COLUMN)
    has_more = layout.more and not everything
    return "\n".join([*lines, *["", f"`{PROGRAM} {name} --help-all` prints all options."] * bool(has_more)])


def sections(known: Sequence[Option], layout: Layout, *, everything: bool) -> dict[str, list[Option]]:
    """The options of a page under their headings; with everything, those that the layout does not name come last."""
    found = {"arguments": [option for option in known if not option.flags], "options": _under(layout.usual, known)}
    if everything:
        found |= {title: _under(names, known) for title, names in layout.more.items()}
        placed = [option for those in found.values() for option in those]
        found["other options"] = [option for option in known if option not in placed]
    return {title: those for title, those in found.items() if those}


def suggestion(typed: str, known: Sequence[str]) -> str:
    """A question, after a space, where something typed is nearly one of the known words; else nothing."""
    close = difflib.get_close_matches(typed, known, n=1)
    return f" Did you mean {close[0]}?" if close else ""


def flags(parser: Parser) -> set[str]:
    """Every flag that a command knows."""
    return {flag for action in parser._actions for flag in action.option_strings}


def _under(names: Sequence[str], known: Sequence[Option]) -> list[Option]:
    """The options of these names, in their order."""
    return [option for name in names for option in known if fnmatch.fnmatchcase(option.name, name)]


def _description(option: Option) -> str:
    ends = " (required)" if option.required else f" (default {option.default})" if option.default else ""
    return option.text + ends


def _fit(width: int) -> int:
    return max(_NARROW, min(width, _WIDE))


def _entry(name: str, text: str, width: int, column: int) -> list[str]:
    """An option and its text beside it, or below where its name is long."""
    lines = textwrap.wrap(text, _fit(width) - column, break_on_hyphens=False)
    head = f"  {name}"
    if len(head) > column - 2:
        return [head, *(" " * column + line for line in lines)]
    return [head.ljust(column) + lines[0], *(" " * column + line for line in lines[1:])]
