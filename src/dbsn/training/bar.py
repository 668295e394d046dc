"""A progress bar for Python: a widget in a notebook, a line on a terminal.

`dbsn train` has its own (`dbsn.cli.display`). Tested in tests/e2e/test_python.py.
"""

from collections.abc import Iterator

from tqdm.auto import tqdm

from dbsn.training.loop import Progress
from dbsn.training.stages import Stage

_TITLES = {"blind": "blind-spot model", "teacher": "teacher", "student": "student"}
_FORMAT = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}{postfix}"


def with_bar(stage: Stage) -> Iterator[Progress | float]:
    """Pass on the progress of a stage, and show it: the share of the budget, the steps and the loss."""
    with tqdm(total=1.0, desc=_TITLES[stage.name], bar_format=_FORMAT) as bar:
        for each in stage.progress:
            if isinstance(each, Progress):
                bar.set_postfix_str(f"step {each.step}, loss {each.loss:.2f}", refresh=False)
            bar.update((each.share if isinstance(each, Progress) else each) - bar.n)
            yield each
