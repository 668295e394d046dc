"""Claims on results, so that several processes share one folder: each result is made by one of them.

A claim is a lock on a file in the folder of results. Tested in tests/e2e/test_together.py. What the work is does not
belong here.
"""

from contextlib import AbstractContextManager
from pathlib import Path

from dbsn.io.locks import locked

LOCKS = ".dbsn-locks"
"""Hidden folder, in the folder of results, that holds the locks while a command runs."""


def claimed(folder: Path, result: Path, *, waits: bool) -> AbstractContextManager[bool]:
    """Claim a result for this process while the context lasts.

    Args:
        folder: Folder of results.
        result: A file below it.
        waits: Whether to wait for another process that has claimed the result.

    Returns:
        A context that yields whether the result is claimed; False if another process has it.
    """
    return locked(folder / LOCKS / f"{result.relative_to(folder).as_posix().replace('/', '%2F')}.lock", waits=waits)
