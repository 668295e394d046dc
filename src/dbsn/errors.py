"""Exceptions of this package.

Each message is one line: what is wrong and what to do.
"""


class ImageError(ValueError):
    """A file that cannot be read or written as requested."""


class TrainingDivergedError(ValueError):
    """The loss or its gradient is not finite."""
