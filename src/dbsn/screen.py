"""What a person sees of a training: a live line on a terminal, plain lines elsewhere (tests/e2e/test_resume.py)."""

import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

from dbsn.checkpoint import MODEL
from dbsn.pipeline import Stage
from dbsn.train import Progress

_PLAIN_SECONDS = 10.0


TITLES = {
    "blind": "stage 1: learning from the noisy images",
    "teacher": "the teacher denoises the noisy images, once",
    "student": "stage 2: distilling the student; the best one has the least squared error on held-out synthetic pairs"
    " and, by Stein's estimate, on held-out noisy images",
}


def show_training(stages: Iterator[Stage], folder: Path) -> None:
    """Consume a run's stages, showing their progress; says at the end what was left where."""
    console, last = Console(), None
    show = _live if console.is_terminal else _plain
    for stage in stages:
        print(TITLES[stage.name], flush=True)
        last = show(stage.progress, console) or last
        if last and last.share < 1:
            print(f"stopped after step {last.step}; `dbsn train -o {folder} --resume` goes on from here")
        elif last and stage.name != "teacher":
            figure = "error, in noise variances" if stage.name == "student" else "negative log-likelihood"
            print(f"best held-out figure {last.best:.4f} ({figure}; lower is better)")
    if last is None:
        print(f"nothing left to do in {folder}")
    else:
        print(f"model: {folder / MODEL}")


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


def _live(progress: Iterator[Progress] | Iterator[float], console: Console) -> Progress | None:
    last = None
    columns = (BarColumn(bar_width=16), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        for each in progress:
            if isinstance(each, Progress):
                last = each
                bar.update(task, completed=each.share, description=describe(each))
            else:
                bar.update(task, completed=each, description="")
    return last


def _plain(progress: Iterator[Progress] | Iterator[float], console: Console) -> Progress | None:
    last, shown = None, -_PLAIN_SECONDS
    for each in progress:
        due = time.monotonic() - shown >= _PLAIN_SECONDS
        if isinstance(each, Progress):
            last, due = each, due or each.validation is not None
        if not due:
            continue
        shown = time.monotonic()
        if isinstance(each, Progress):
            held_out = "" if each.validation is None else f"  held-out {each.validation:.4f}"
            print(f"step {each.step}  {describe(each)}{held_out}", flush=True)
        else:
            print(f"{each:.0%}", flush=True)
    return last
