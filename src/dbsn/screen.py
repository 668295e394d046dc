"""What a person sees of a training: a live line on a terminal, plain lines elsewhere (tests/e2e/test_resume.py)."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from dbsn.train import CHECKPOINT, MODEL, Progress

_PLAIN_SECONDS = 10.0


def show_training(progress: Iterator[Progress], folder: Path) -> None:
    """Consume a training's progress, showing it; says at the end what was left where."""
    console = Console()
    last = _live(progress, console) if console.is_terminal else _plain(progress)
    if last is None:
        print(f"nothing left to do in {folder}")
    elif last.share < 1:
        print(f"stopped after step {last.step}; `dbsn train -o {folder} --resume` goes on from here")
    if last is not None:
        print(f"best held-out likelihood {last.best:.4f} (negative log, lower is better)")
        print(f"model: {folder / MODEL} (best); {folder / CHECKPOINT} (last)")


def describe(progress: Progress) -> str:
    """One line about a step: loss, noise level, speed, time left."""
    left = progress.seconds * (1 - progress.share) / progress.share if progress.share > 0 else 0.0
    parts = [
        f"loss {progress.loss:.2f}",
        f"noise {255 * progress.terms.get('noise_std', float('nan')):.1f}/255",
        f"{progress.pixels_per_second / 1e3:.0f} kpx/s",
        f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left",
    ]
    return "  ".join(parts)


def _live(progress: Iterator[Progress], console: Console) -> Progress | None:
    last = None
    columns = (BarColumn(bar_width=16), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        for last in progress:
            bar.update(task, completed=last.share, description=describe(last))
    return last


def _plain(progress: Iterator[Progress]) -> Progress | None:
    last, shown = None, -_PLAIN_SECONDS
    for last in progress:
        if last.validation is not None or time.monotonic() - shown >= _PLAIN_SECONDS:
            shown = time.monotonic()
            held_out = "" if last.validation is None else f"  held-out {last.validation:.4f}"
            print(f"step {last.step}  {describe(last)}{held_out}", flush=True)
    return last
