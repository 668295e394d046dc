"""Generate pages of the documentation: the command line and the index of the lab notes.

The command line page is made from the parsers. `docs/_build/hooks.py` calls `command_line` when the site is built.
training/pack.py and benchmarks/tables.py generate the pages on models and benchmarks.
Usage: python benchmarks/docs_reference.py (writes docs/lab/index.md).
"""

import re
from pathlib import Path

from dbsn.cli import help as help_pages
from dbsn.cli.app import COMMANDS, Command

LAB = Path(__file__).parent.parent / "docs" / "lab"
SUBJECTS = (
    "noise-split", "correlated-noise", "stage-1-synthetic", "stage-1-real", "stage-2", "paper-networks", "paper-noise",
    "paper-students", "built-in-models", "uncertainty", "initial-weights", "jpeg-photo", "speed", "inspect", "resuming",
    "hostile-files", "layout", "photon-counts", "outliers",
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


def parsers() -> dict[str, help_pages.Parser]:
    """The parser of each command, by its name."""
    return help_pages.parsers(Command)


def command_line() -> str:
    """The page of the command line: a table for each command."""
    lines = [
        "# Command line",
        "",
        "This page is made from the parser. `dbsn COMMAND --help` prints the options that most people use, and",
        "`dbsn COMMAND --help-all` prints all of them. `dbsn --version` prints the versions of dbsn and torch.",
        "",
        "Results go to stdout. Progress, notes and errors go to stderr. `NO_COLOR` turns colours off.",
        "",
        "| exit status | meaning |",
        "|---|---|",
        "| 0 | everything went well |",
        "| 1 | some files failed, others went through |",
        "| 2 | wrong use: one line on stderr says what to do |",
        "| 130 | interrupted by Ctrl-C |",
        "| 141 | the reader of stdout closed the pipe, as `head` does |",
        "",
    ]
    for name, parser in parsers().items():
        layout = COMMANDS[name].layout
        known = list(help_pages.options(parser))
        lines += [f"## dbsn {name}", "", help_pages.plain(parser.description or ""), "", "```"]
        lines += [*layout.examples, "```", ""]
        for title, options in help_pages.sections(known, layout, everything=True).items():
            heading = [f"### dbsn {name}: {title}", ""]
            lines += [*heading, "| argument | what it does | default |", "|---|---|---|"]
            lines += [_row(option) for option in options] + [""]
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


def _row(option: help_pages.Option) -> str:
    default = "required" if option.required else f"`{option.default}`" if option.default else ""
    return f"| {_code(option.shown)} | {_cell(option.text)} | {default} |"


def _text(text: str) -> str:
    return " ".join(re.sub(r"\x1b\[[0-9;]*m", "", text).split())


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _code(text: str) -> str:
    return f"`{text.replace('|', ' or ')}`"


if __name__ == "__main__":
    (LAB / "index.md").write_text(lab_index())
