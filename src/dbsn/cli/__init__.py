"""The command line: `main` is the `dbsn` command; each command is a dataclass with `run` in a module of its own.

torch is imported inside `run`, so that `--help` is quick. A mistake is a ValueError or OSError of one line, with its
remedy. Files that fail while others go through are a line each and status 1 (tests/e2e/test_shell.py).
"""

from dbsn.cli.signals import stops


def main() -> None:
    """The `dbsn` command."""
    with stops() as handler:
        from dbsn.cli import app  # here, so that Ctrl-C during the import is one line, too

        app.main(handler)


__all__ = ["main"]
