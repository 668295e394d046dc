"""`denoise.csv` in the folder of results: what became of each, so that a second run does only what is missing.

A line is written before a result is made and another after it stands, so that one that was interrupted is known and
made again; the last line on a result counts. Lines of several processes may mix (tests/unit/test_journal.py). What the
work is does not belong here.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dbsn.io.atomic import naming

NAME = "denoise.csv"
_COLUMNS = ("file", "status", "seconds", "noise", "noise unit", "made with", "made from", "of", "error", "model")
_FEWEST = 9  # columns of a file of dbsn before there was "model"
_BEGUN, _DONE, _FAILED = "begun", "done", "failed"


@dataclass(frozen=True)
class Provenance:
    """What a result depends on."""

    settings: str
    """Model and settings, in words."""
    source: Path
    """The file it is made from."""

    @property
    def modified(self) -> str:
        """When the source, or anything in it if it is a folder, was last changed, nanoseconds; empty if it is gone."""
        if not self.source.exists():
            return ""
        inside = self.source.rglob("*") if self.source.is_dir() else ()
        return str(max(path.stat().st_mtime_ns for path in (self.source, *inside)))


class Journal:
    """The journal of one folder of results, read when made and then appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._last: dict[str, dict[str, str]] = {}
        self._columns = len(_COLUMNS)
        if self.path.exists():
            self._read()

    def _read(self) -> None:
        if not self.path.is_file():
            raise ValueError(f"{self.path}: not a regular file. Remove it, or name another --output.")
        try:
            with self.path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                for number, row in enumerate(csv.reader(file)):
                    known = dict(zip(_COLUMNS, row, strict=False))
                    if len(known) >= _FEWEST:
                        self._last[known["file"]] = known
                        self._columns = len(known) if number == 0 else self._columns
        except csv.Error as error:
            raise ValueError(f"{self.path}: not a journal of dbsn ({error}). Name another --output.") from None

    def is_made(self, result: Path, made: Provenance) -> bool:
        """Whether a result that exists is what would be made again.

        Returns:
            False for one that failed, was interrupted, or whose source has changed since.

        Raises:
            FileExistsError: It was made in another way, from another file, or not by us.
        """
        known = self._last.get(self._name(result))
        if known is None:
            raise FileExistsError(f"{result}: exists already and is not in {NAME}. Add --overwrite to replace it.")
        if known["status"] != _DONE:
            return False
        for what, then, now in (
            ("from", known["made from"], str(made.source.resolve())),
            ("with", known["made with"], made.settings),
        ):
            if then != now:
                raise FileExistsError(f"{result}: made {what} {then}, not {now}. Add --overwrite to replace it.")
        return known["of"] == made.modified

    def begin(self, result: Path) -> None:
        """Note that a result is being made."""
        self._append([self._name(result), _BEGUN, *[""] * (self._columns - 2)])

    def end(
        self,
        result: Path,
        made: Provenance,
        *,
        seconds: float,
        noise: tuple[str, str],
        error: str | None,
        model: str = "",
    ) -> None:
        """Note what became of a result.

        Args:
            result: The file that was begun.
            made: What it depends on.
            seconds: What it took.
            noise: Its noise level and what the number is in, for a person.
            error: Why it failed, if it did.
            model: Which model was used and why, for a person; left out where the file has no such column.
        """
        status = _FAILED if error else _DONE
        source = str(made.source.resolve())
        did = [self._name(result), status, f"{seconds:.2f}", *noise]
        self._append([*did, made.settings, source, made.modified, error or "", model])

    def _name(self, result: Path) -> str:
        return result.relative_to(self.folder).as_posix()

    def _append(self, row: Sequence[str]) -> None:
        """One write a line, so that those of other processes are not torn."""
        self.folder.mkdir(parents=True, exist_ok=True)
        opened = self.path.open("a+", newline="", encoding="utf-8", errors="surrogateescape")
        with naming(self.path), opened as file:
            text, end = io.StringIO(), file.seek(0, 2)
            writer = csv.writer(text, lineterminator="\n")
            if end == 0:
                writer.writerow(_COLUMNS)
            writer.writerow(row[: self._columns])
            file.write(text.getvalue())
