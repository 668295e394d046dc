"""Mistakes that have a name of their own. Each is one line that says what is wrong and what to do."""


class ImageError(ValueError):
    """A file that cannot be read or written as asked; one line with what is wrong and what to do."""


class TrainingDivergedError(ValueError):
    """The loss or its gradient is no longer a number."""
