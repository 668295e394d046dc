"""The pages of `--help`: short, in plain words, made without torch; and what happens to words that are misspelt."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from dbsn.cli import help as pages
from dbsn.cli.app import COMMANDS, Command
from dbsn.version import __version__

LONGEST_TEXT = 160
MOST_LINES = 40
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def parsers() -> dict[str, pages.Parser]:
    return pages.parsers(Command)


@pytest.mark.parametrize("name", COMMANDS)
def test_no_help_text_is_longer_than_a_person_reads(name: str, parsers: dict[str, pages.Parser]) -> None:
    texts = {option.name: option.text for option in pages.options(parsers[name])}
    assert not {flag: len(text) for flag, text in texts.items() if len(text) > LONGEST_TEXT}
    assert all(text.endswith(".") for text in texts.values()), texts
    description = pages.plain(parsers[name].description)
    assert 0 < len(description) <= LONGEST_TEXT


@pytest.mark.parametrize("width", [80, 90, 100])
@pytest.mark.parametrize("name", ["", *COMMANDS])
def test_a_page_of_help_fits_on_a_screen(
    name: str, width: int, dbsn_command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    words = [name] if name else []
    for flag, most in (("--help", MOST_LINES), ("-h", MOST_LINES), ("--help-all", 1000)):
        shown = dbsn_command(*words, flag)
        assert (shown.returncode, shown.stderr) == (0, "")
        lines = shown.stdout.splitlines()
        assert len(lines) <= most
        assert max(map(len, lines)) <= width
        assert not re.search(r"None|\(default: ?\)|docstring|`[A-Z]\w+Config`", shown.stdout)
        assert shown.stdout.count("  dbsn ") >= 2, "two examples"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_is_on_the_long_page_once(name: str, parsers: dict[str, pages.Parser]) -> None:
    known = list(pages.options(parsers[name]))
    shown = pages.sections(known, COMMANDS[name].layout, everything=True)
    assert sorted(option.name for those in shown.values() for option in those) == sorted(o.name for o in known)
    assert {flag for flag in COMMANDS[name].layout.usual if flag not in {option.name for option in known}} == set()


def test_an_option_without_a_place_is_still_on_the_long_page() -> None:
    new = pages.Option(("--new",), "N", "Something new.", "", required=False)
    layout = pages.Layout(examples=("dbsn x",))
    assert pages.sections([new], layout, everything=True) == {"other options": [new]}
    assert pages.sections([new], layout, everything=False) == {}


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from dbsn.cli import main\n"
        "sys.argv = ['dbsn', 'train', '--help']\n"
        "try:\n    main()\nfinally:\n    assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_the_versions_are_told(dbsn_command: Run) -> None:
    first, second = dbsn_command("--version").stdout.splitlines()
    assert first == f"dbsn {__version__}"
    assert re.fullmatch(r"torch \S+, device (cpu|cuda|mps), bf16 (yes|no)", second)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["denois", "x"], "denois: no such command. Did you mean denoise?"),
        (["denoise", "x", "--modle", "y"], "--modle: no such option of `dbsn denoise`. Did you mean --model?"),
        (
            ["train", "x", "-o", "y", "--student.jiter=1"],
            "--student.jiter: no such option of `dbsn train`. Did you mean",
        ),
        (["xyz"], "xyz: no such command. Choose one of train, denoise,"),
        ([], "COMMAND: missing. Choose one of train, denoise,"),
        (["info", "phto"], "MODEL phto: no such model file, run folder or built-in model. Did you mean photo?"),
        (["--tyro-print-completion", "tcsh"], "(got tcsh, expected bash, zsh, fish)"),
        (["--tyro-print-completion"], "(got nothing, expected bash, zsh, fish)"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_misspelt_word_is_one_line_with_what_was_meant(words: list[str], told: str, dbsn_command: Run) -> None:
    refused = dbsn_command(*words)
    assert refused.returncode == 2
    assert told in refused.stderr
    assert len(refused.stderr.splitlines()) == 1


def test_what_else_is_mistyped_is_explained(dbsn_command: Run) -> None:
    refused = dbsn_command("denoise", "x", "--dtype", "int8")
    assert refused.returncode == 2
    assert "uint8" in refused.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals there")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_an_error_is_a_plain_line_on_a_terminal_too(no_color: str) -> None:
    import pty

    screen, terminal = pty.openpty()
    command = [sys.executable, "-m", "dbsn", "denoise", "x", "--dtype", "int8"]
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    done = subprocess.run(command, stdout=terminal, stderr=terminal, env=environment)
    os.close(terminal)
    shown = os.read(screen, 100_000).decode()
    os.close(screen)
    assert done.returncode == 2
    assert "uint8" in shown
    assert "\x1b[" not in shown
    assert len(shown.splitlines()) == 1


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end in another way there")
@pytest.mark.parametrize("words", [["models"], ["--help"], ["--tyro-print-completion", "bash"]], ids=" ".join)
def test_a_closed_pipe_ends_in_silence(words: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "dbsn", *words], stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert done.stderr == ""
    assert done.returncode in (0, 141)
