"""Atomic writing: a file is always the complete old one or the complete new one."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Write a file under another name; it replaces `path` if nothing goes wrong.

    The next process that writes the same file overwrites what a killed one left.

    Raises:
        OSError: It cannot be written; the message names it.
    """
    partial = path.with_name(f".{path.name[-200:]}.partial")
    with naming(path):
        if path.exists() and not path.is_file():
            raise OSError("it is no regular file")
        try:
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Name the file in an error of writing: a full disk, a limit on the size of files, a missing right."""
    try:
        yield
    except OSError as error:
        of_another = error.filename and path.name[-200:] not in str(error.filename)
        if of_another or (str(path) in str(error) and not error.errno):
            raise  # it names its file
        reason = error.strerror or " ".join(str(error).split()) or type(error).__name__
        raise type(error)(f"{path}: cannot be written ({reason}). Free space, or write elsewhere.") from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file atomically, even if the power fails."""
    with replacing(path) as partial, partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
