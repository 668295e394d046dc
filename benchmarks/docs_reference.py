"""Generate pages of the documentation: the command line and the index of the lab notes.

The command line page is made from the parsers. `docs/_build/hooks.py` calls `command_line` when the site is built.
training/pack.py and benchmarks/tables.py generate the pages on models and benchmarks.
Usage: python benchmarks/docs_reference.py (writes docs/lab/index.md).
"""

import argparse
import importlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

COMMANDS = "dbsn.cli.main:Command"
"""Where the type of all commands stands, as module:name."""
PROGRAM = "dbsn"
LAB = Path(__file__).parent.parent / "docs" / "lab"
SUBJECTS = (
    "noise-split", "correlated-noise", "stage-1-synthetic", "stage-1-real", "stage-2", "paper-networks", "paper-noise",
    "paper-students", "built-in-models", "uncertainty", "initial-weights", "jpeg-photo", "speed", "inspect", "resuming",
)  # fmt: skip
"""The notes in the order of the index; each entry has a date, **Question.**, **Command.**, and **Verdict.**"""
ENTRY = re.compile(
    r"^## (?P<title>.+?)\n\n(?P<date>\d{4}-\d\d-\d\d)\. \*\*Question\.\*\* (?P<question>.+?)\n\n"
    r".*?\*\*Verdict\.\*\* (?P<verdict>.+?)(?:\n\n|\Z)",
    re.MULTILINE | re.DOTALL,
)
NOT_DONE = """## Not done yet

- More hours for the teachers of `photo` and `gray` (on busy parts of the wallpapers, as their students), and for the
  students.
- Sixty minutes of two idle cores from random weights on the real sets.
- A schedule that ends when held-out pixels stop gaining. W2S did not gain after 40 % of its budget, and the falling
  learning rate helped.
- A floor that keeps the prediction variance from being lost.
- The ablation with 15 minutes of two cores a student.
- SIDD's noise match with the newer code.
"""
EXAMPLES = {
    "train": (
        "dbsn train my_noisy_images -o runs/mine",
        "dbsn train my_noisy_images --clean any_clean_photos -o runs/fast",
    ),
    "denoise": ("dbsn denoise photo.jpg", "dbsn denoise my_noisy_images -m runs/mine -o results"),
    "evaluate": ("dbsn evaluate -m runs/mine --noisy noisy --clean clean",),
    "synthesize": ("dbsn synthesize clean_photos -m runs/fast -o pairs",),
    "inspect": ("dbsn inspect my_noisy_images",),
    "report": ("dbsn report runs/mine",),
    "info": ("dbsn info runs/mine",),
    "models": ("dbsn models",),
}  # fmt: skip
"""Commands to copy; tests/unit/test_docs.py parses them."""


def parsers() -> dict[str, argparse.ArgumentParser]:
    """The parser of each command, by its name."""
    import tyro

    module, name = COMMANDS.split(":")
    commands = getattr(importlib.import_module(module), name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        parser = tyro.extras.get_parser(commands, prog=PROGRAM)
    [choices] = [action.choices for action in parser._actions if isinstance(action.choices, dict)]
    return dict(choices)


def options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    """The arguments of a command without --help."""
    return (action for action in parser._actions if action.dest != "help")


def flags(parser: argparse.ArgumentParser) -> set[str]:
    """All flags of a command."""
    return {flag for action in parser._actions for flag in action.option_strings}


def command_line() -> str:
    """The page of the command line: a table for each command."""
    lines = [
        "# Command line",
        "",
        "This page is made from the parser. `dbsn COMMAND --help` prints the same text.",
        "",
        "Exit status: 0 if everything went well. 1 if some files failed and others went through. 2 for a mistake in "
        "the command. 130 after Ctrl-C.",
        "",
    ]
    for name, parser in parsers().items():
        lines += [f"## dbsn {name}", "", _text(parser.description or ""), "", "```"]
        lines += [*EXAMPLES.get(name, ()), "```", ""]
        for title, actions in _groups(parser):
            lines += [
                *([f"### {title}", ""] if title else []),
                "| argument | what it does | default |",
                "|---|---|---|",
            ]
            lines += [_row(action) for action in actions] + [""]
    return "\n".join(lines)


def lab_index() -> str:
    """The text of docs/lab/index.md: a line for each entry of the notes, by subject."""
    lines = [
        "# Lab notes",
        "",
        "Every experiment with its command, its figures and its verdict; the failed ones, too. Made from the notes by "
        "`python",
        "benchmarks/docs_reference.py`.",
        "",
    ]
    for subject in SUBJECTS:
        text = (LAB / f"{subject}.md").read_text()
        lines += [
            f"## [{text.splitlines()[0][2:]}]({subject}.md)",
            "",
            "| date | question | verdict |",
            "|---|---|---|",
        ]
        for entry in ENTRY.finditer(text):
            anchor = slug(entry["title"])
            cells = [
                entry["date"].replace("-", "\N{NON-BREAKING HYPHEN}"),
                f"[{entry['title']}]({subject}.md#{anchor}) {_plain(entry['question'])}",
            ]
            lines.append(f"| {' | '.join([*cells, _plain(entry['verdict'])])} |")
        lines.append("")
    return "\n".join([*lines, NOT_DONE])


def slug(title: str) -> str:
    """The anchor of a heading."""
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip())


def _plain(text: str) -> str:
    """Text for a table cell, without links."""
    return _cell(re.sub(r"\[([^]]+)\]\([^)]+\)", r"\1", _text(text)))


def _groups(parser: argparse.ArgumentParser) -> list[tuple[str, list[argparse.Action]]]:
    """The arguments in groups; those of stage 2 (`--student...`) are a group of their own."""
    plain, student = list[argparse.Action](), list[argparse.Action]()
    for action in options(parser):
        (student if any(flag.startswith("--student.") for flag in action.option_strings) else plain).append(action)
    groups = [("", plain)] if plain else []
    return groups + ([("Options of the student", student)] if student else [])


def _row(action: argparse.Action) -> str:
    help_text = _text(action.help or "")
    found = re.search(
        r"\s*\((?:default: (?P<default>.*?)|(?P<required>required)|(?P<other>repeatable|optional))\)$", help_text
    )
    default = ""
    if found:
        help_text = help_text[: found.start()]
        default = found["default"] or ("required" if found["required"] else "")
    shown = [flag for flag in action.option_strings if not flag.startswith("--no-")]
    name = ", ".join(shown) or str(action.metavar or action.dest)
    values = str(action.metavar or "").replace("{None}|", "").replace(",", ", ")
    takes = "" if not shown or not values or action.nargs == 0 else f" {values}"
    code = "False" if default == "False" else default
    cell = {"None": "", "": "", "False": "off", "True": "on"}.get(code, f"`{code}`" if code != "required" else code)
    return f"| {_code(name + takes)} | {_cell(help_text)} | {cell} |"


def _text(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text.replace('|', ' or ')}`"


if __name__ == "__main__":
    (LAB / "index.md").write_text(lab_index())
