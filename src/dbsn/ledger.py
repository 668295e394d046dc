"""`denoise.csv` in the folder of results: what became of each file, so that a second run does only what is missing.

A line is begun before a file is worked on and ended after its result stands, so that one that was killed meanwhile is
known by its torn line and done again (tests/unit/test_ledger.py). What the work is does not belong here.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NAME = "denoise.csv"
_COLUMNS = ("file", "status", "seconds", "noise of 255", "made with", "error")
_DONE, _FAILED, _INTERRUPTED = "done", "failed", "interrupted"


@dataclass(frozen=True)
class Entry:
    """The last thing that is known of a file."""

    status: str
    made_with: str


class Ledger:
    """The ledger of one folder of results, read when made and then appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._entries: dict[str, Entry] = {}
        text = self.path.read_text("utf-8") if self.path.exists() else ""
        self._torn = bool(text) and not text.endswith("\n")
        for row in list(csv.reader(io.StringIO(text)))[1:]:
            whole = len(row) == len(_COLUMNS)
            self._entries[row[0]] = Entry(row[1], row[4]) if whole else Entry(_INTERRUPTED, "")

    def is_made(self, result: Path, made_with: str) -> bool:
        """Whether a result that exists is what would be made again; False for one that failed or was interrupted.

        Raises:
            FileExistsError: It was made another way, or not by us.
        """
        entry = self._entries.get(self._name(result))
        if entry is None:
            raise FileExistsError(f"{result} exists already and is not in {NAME}; --overwrite replaces")
        if entry.status == _DONE and entry.made_with != made_with:
            raise FileExistsError(
                f"{result} was made with {entry.made_with}, not with {made_with}; --overwrite replaces"
            )
        return entry.status == _DONE

    def begin(self, result: Path) -> None:
        """Note that a result is being made."""
        self.folder.mkdir(parents=True, exist_ok=True)
        start = f"{_INTERRUPTED}\n" if self._torn else "" if self.path.exists() else _line(_COLUMNS)
        self._append(start + _line([self._name(result)]).removesuffix("\n") + ",")
        self._torn = True

    def end(self, *, seconds: float, noise_std: float | None, made_with: str, error: str | None) -> None:
        """Note what became of the result that was begun.

        Args:
            seconds: What it took.
            noise_std: Its noise, intensity.
            made_with: The settings.
            error: Why it failed, if it did.
        """
        level = "" if noise_std is None else f"{255 * noise_std:.2f}"
        self._append(_line([_FAILED if error else _DONE, f"{seconds:.2f}", level, made_with, error or ""]))
        self._torn = False

    def _name(self, result: Path) -> str:
        return result.relative_to(self.folder).as_posix()

    def _append(self, text: str) -> None:
        with self.path.open("a", newline="", encoding="utf-8") as file:
            file.write(text)


def _line(values: Sequence[str]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()
