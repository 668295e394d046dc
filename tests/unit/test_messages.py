"""The page of error messages, against what the commands print."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))
from benchmarks import docs_messages


def test_the_page_of_messages_is_what_is_printed() -> None:
    assert docs_messages.page() == docs_messages.PAGE.read_text(), "run python benchmarks/docs_messages.py"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("denoise", "a.png", "--strength", "abc"), "--strength: got abc, expected a number."),
        (("denoise", "a.png", "--tile", "3.5"), "--tile: got 3.5, expected a whole number."),
        (("denoise", "a.png", "--strength"), "--strength: a value is missing."),
        (("denoise", "a.png", "--method", "x"), "--method: got x, expected one of auto, student, posterior."),
        (("train", "a.png"), "--output: missing."),
        (("train", "a.png", "-o", "x", "--stride", "2.5"), "--stride: got 2.5, expected a whole number or auto."),
        (("report",), "RUN: missing."),
        (("report", "a", "b"), "b: not understood; no option takes it."),
    ],
)
def test_what_cannot_be_parsed_is_one_line(dbsn_command, arguments: tuple[str, ...], message: str) -> None:
    done = dbsn_command(*arguments)
    assert done.returncode == 2
    assert done.stderr == f"dbsn: {message} See `dbsn {arguments[0]} --help`.\n"
