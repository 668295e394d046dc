"""Claims on results, so that several processes share one folder: each result is made by one of them.

A claim is a lock on a file in the folder of results. The operating system ends the claim of a process that dies.
Tested in tests/e2e/test_together.py. What the work is does not belong here.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

LOCKS = ".dbsn-locks"
"""Hidden folder, in the folder of results, that holds the locks while a command runs."""


@contextmanager
def claimed(folder: Path, result: Path, *, waits: bool) -> Iterator[bool]:
    """Claim a result for this process while the context lasts.

    Where the file system knows no locks, every claim is granted.

    Args:
        folder: Folder of results.
        result: A file below it.
        waits: Whether to wait for another process that has claimed the result.

    Yields:
        Whether the result is claimed; False if another process has it.
    """
    place = folder / LOCKS
    lock = FileLock(place / f"{result.relative_to(folder).as_posix().replace('/', '%2F')}.lock")
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
        with suppress(OSError):  # others may wait for it or have removed it; a lock that stays harms nobody
            Path(lock.lock_file).unlink()
        lock.release()
        with suppress(OSError):
            place.rmdir()


def _acquired(lock: FileLock, *, waits: bool) -> bool:
    """Acquire a lock; False if its file or folder was removed meanwhile, so that the lock shuts nobody out.

    The file that is open here keeps its number. If the path still leads to it, the lock is on this file, too.

    Raises:
        Timeout: Another process has it, and `waits` is False.
        OSError: There are no locks here.
    """
    path = Path(lock.lock_file)
    path.parent.mkdir(parents=True, exist_ok=True)
    with suppress(FileNotFoundError), path.open("ab") as file:  # the folder goes with its last claim
        lock.acquire(timeout=-1 if waits else 0)
        if os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return True
    lock.release()
    return False
