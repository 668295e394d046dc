"""`denoise.csv` in the folder of results: what became of each, so that a second run does only what is missing.

A line is written before a result is made and another after it stands, so that one that was interrupted is known and
made again; the last line on a result counts. Lines of several processes may mix (tests/unit/test_journal.py). What the
work is does not belong here.
"""

import csv
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from dbsn.io.atomic import naming

NAME = "denoise.csv"
_COLUMNS = ("file", "status", "seconds", "noise", "noise unit", "made with", "made from", "of", "error", "model", "is")
_FEWEST = 9  # columns of the first journals
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


class State(Enum):
    """What a result is."""

    MISSING = "not there, or of an interrupted or failed work"
    MADE = "what would be made again"
    OUTDATED = "of dbsn, unchanged since, but made by other settings or of an earlier source"
    FOREIGN = "not of dbsn"
    EDITED = "changed since dbsn made it"
    OF_ANOTHER = "made of another file"
    UNKNOWN = "made with other settings by an earlier dbsn, which kept no digest of its results"


_REFUSED = {
    State.FOREIGN: f"exists already and is not in {NAME}",
    State.EDITED: "was changed since dbsn made it",
    State.OF_ANOTHER: "was made of another file",
    State.UNKNOWN: "was made with other settings, and may have been changed since",
}


class Journal:
    """The journal of one folder of results, read when made and on request, and appended to."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.path = folder, folder / NAME
        self._last: dict[str, dict[str, str]] = {}
        self._columns, self._read_to = len(_COLUMNS), 0
        self.read()
        self._at_first = dict(self._last)

    def read(self) -> None:
        """Read what this and other processes have written since the last time."""
        if not self.path.exists():
            return
        if not self.path.is_file():
            raise ValueError(f"{self.path}: not a regular file. Remove it, or name another --output.")
        with self.path.open("rb") as file:
            file.seek(self._read_to)
            new = file.read()
        text = new.decode("utf-8", "surrogateescape")
        try:
            for number, row in enumerate(csv.reader(io.StringIO(text, newline=""))):
                known = dict(zip(_COLUMNS, row, strict=False))
                if len(known) >= _FEWEST:
                    self._last[known["file"]] = known
                    self._columns = len(known) if number == 0 and self._read_to == 0 else self._columns
        except csv.Error as error:
            raise ValueError(f"{self.path}: not a journal of dbsn ({error}). Name another --output.") from None
        self._read_to += new.rfind(b"\n") + 1  # a line that is still being written is read again

    def state(self, result: Path, made: Provenance) -> State:
        """Tell what a result is, before it is made from `made`.

        A result whose source is another one, or that was edited, is never taken for dbsn's own.
        """
        if not result.exists():
            return State.MISSING
        known = self._last.get(self._name(result))
        if known is None:
            return State.FOREIGN
        if known["status"] != _DONE:
            return State.MISSING
        if known["made from"] != str(made.source.resolve()):
            return State.OF_ANOTHER
        if (known["made with"], known["of"]) == (made.settings, made.modified):
            return State.MADE
        if "is" not in known:
            return State.OUTDATED if known["made with"] == made.settings else State.UNKNOWN
        return State.OUTDATED if known["is"] == fingerprint(result) else State.EDITED

    def check(self, result: Path, made: Provenance) -> None:
        """Check that a result may be replaced.

        Raises:
            FileExistsError: It is not dbsn's, was edited, or was made of another file.
        """
        if reason := _REFUSED.get(self.state(result, made)):
            raise FileExistsError(f"{result}: {reason}. Add --overwrite to replace it.")

    def made_meanwhile(self, result: Path) -> bool:
        """Whether another process has finished a result since this journal was first read."""
        name = self._name(result)
        known = self._last.get(name)
        return known is not None and known["status"] == _DONE and known != self._at_first.get(name)

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
        now = "" if error else fingerprint(result)
        self._append([*did, made.settings, source, made.modified, error or "", model, now])

    def _name(self, result: Path) -> str:
        return result.relative_to(self.folder).as_posix()

    def _ends_a_line(self) -> bool:
        with self.path.open("rb") as file:
            file.seek(-1, 2)
            return file.read(1) == b"\n"

    def _append(self, row: Sequence[str]) -> None:
        """One write a line, so that those of other processes are not torn."""
        self.folder.mkdir(parents=True, exist_ok=True)
        opened = self.path.open("a+", newline="", encoding="utf-8", errors="surrogateescape")
        with naming(self.path), opened as file:
            text, end = io.StringIO(), file.seek(0, 2)
            if end and not self._ends_a_line():
                text.write("\n")
            writer = csv.writer(text, lineterminator="\n")
            if end == 0:
                writer.writerow(_COLUMNS)
            writer.writerow(row[: self._columns])
            file.write(text.getvalue())


def fingerprint(result: Path) -> str:
    """Digest of a result's content, by which an edit is known; of a folder that of names, sizes and times."""
    if not result.is_dir():
        with result.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=12)).hexdigest()
    found = [(path.relative_to(result), path.stat()) for path in sorted(result.rglob("*"))]
    listing = "\n".join(f"{name} {known.st_size} {known.st_mtime_ns}" for name, known in found)
    return hashlib.blake2b(listing.encode("utf-8", "surrogateescape"), digest_size=12).hexdigest()
