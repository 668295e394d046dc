"""Image files: what kind a file is, read and written. `dbsn.io.open` is the door."""

from dbsn.io.formats import Source, open  # noqa: A004

__all__ = ["Source", "open"]
