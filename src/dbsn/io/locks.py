"""Locks between processes, on files of their own.

The operating system ends the lock of a process that dies. Where the file system knows no locks, every lock is granted.
Tested in tests/e2e/test_together.py.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCK, OWNER = ".owner.lock", ".owner"
"""Names of files in a folder that a process owns: what is locked, and who it is."""


@contextmanager
def locked(path: Path, *, waits: bool) -> Iterator[bool]:
    """Lock a file while the context lasts; then it is removed, and its folder if that is empty.

    Args:
        path: The file; it and its folder are made.
        waits: Whether to wait for another process that has locked it.

    Yields:
        Whether it is locked for this process; False if another one has it.
    """
    lock = FileLock(path)
    try:
        while not _acquired(lock, waits=waits):
            pass
    except Timeout:
        yield False
        return
    except (OSError, NotImplementedError):  # no locks here, or the folder cannot be written, which writing will report
        yield True
        return
    try:
        yield True
    finally:
        with suppress(OSError):  # others may wait for it or have removed it; a file that stays harms nobody
            path.unlink()
        lock.release()
        with suppress(OSError):
            path.parent.rmdir()


def _acquired(lock: FileLock, *, waits: bool) -> bool:
    """Acquire a lock; False if its file or folder was removed meanwhile, so that the lock shuts nobody out.

    The file that is open here keeps its number. If the path still leads to it, the lock is on this file, too.

    Raises:
        Timeout: Another process has it, and `waits` is False.
        OSError: There are no locks here.
    """
    path = Path(lock.lock_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError), path.open("ab") as file:  # the folder goes with its last lock
        lock.acquire(timeout=-1 if waits else 0)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return True
    lock.release()
    return False


@contextmanager
def owned(folder: Path, doing: str) -> Iterator[None]:
    """Own a folder while the context lasts; a file in it names this process.

    Args:
        folder: The folder; it is made.
        doing: What is done with it, for the message to another process, for example "is being trained".

    Raises:
        FileExistsError: Another process owns it. The message names the process and its machine.
    """
    with locked(folder / LOCK, waits=False) as is_ours:
        if not is_ours:
            raise FileExistsError(f"{folder}: {doing} by {_owner_of(folder)}. Wait for it, or use another -o.")
        with suppress(OSError):
            (folder / OWNER).write_text(f"process {os.getpid()} on {socket.gethostname()}\n")
        try:
            yield
        finally:
            (folder / OWNER).unlink(missing_ok=True)


def _owner_of(folder: Path) -> str:
    try:
        return (folder / OWNER).read_text().strip()[:200] or "another process"
    except (OSError, ValueError):
        return "another process"
