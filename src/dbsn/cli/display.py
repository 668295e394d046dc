"""What a person sees of a training, its images and work on many files: live on a terminal, plain lines elsewhere.

Tested in tests/e2e/test_resume.py and tests/e2e/test_stages.py.
"""

import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from dbsn.batch.jobs import JobResult
from dbsn.config import MODEL
from dbsn.intensity import Unit, by_unit, clean_range, intensity_range, to_pixels
from dbsn.io.folders import printable
from dbsn.io.formats import megapixels
from dbsn.noise.inspection import flaws
from dbsn.training.loop import Progress
from dbsn.training.stages import ERROR, LIKELIHOOD, SYNTHETIC_ERROR, Stage

_PLAIN_SECONDS = 10.0


_HARDLY_LEARNED = 0.8  # squared error of a student, in noise variances; a good one's is below 0.2
_NOISY_FROM = 2.5 / 255  # noise level of a clean image that is worth a word
_BLOCKY_FROM = 0.5 / 255  # what steps across the borders of JPEG's blocks have more than other steps
_NAMED = 3  # files at most
_Flaw = tuple[float, str, str]  # how much, as a number, of which file

TITLES = {
    "blind": "stage 1: learning from the noisy images",
    "teacher": "the teacher denoises the noisy images, once",
    "student": "stage 2: distilling the student; the best one has ",
}
PICKED_BY = {
    SYNTHETIC_ERROR: "the least squared error on held-out synthetic pairs",
    ERROR: "the least squared error on held-out synthetic pairs and, by Stein's estimate, on held-out noisy images",
    LIKELIHOOD: "the likeliest uncertainty on held-out synthetic pairs",
}


def show_training(stages: Iterator[Stage], folder: Path) -> None:
    """Consume a run's stages, showing their progress; says at the end what was left where."""
    console, last = Console(), None
    show = _live if console.is_terminal else _plain
    for stage in stages:
        title = TITLES[stage.name] + (PICKED_BY[stage.figure] if stage.name == "student" else "")
        print(*filter(None, (stage.note, title)), sep="\n", flush=True)
        try:
            step = show(stage, console)
        except KeyboardInterrupt:
            print(f"stopped; `dbsn train -o {folder} --resume` goes on from the last checkpoint")
            raise
        if step and step.share < 1:
            print(f"stopped after step {step.step}; `dbsn train -o {folder} --resume` goes on from here")
        elif step:
            print(f"best held-out figure {step.best:.4f} ({stage.figure}; lower is better)")
            if stage.figure in (ERROR, SYNTHETIC_ERROR) and step.best > _HARDLY_LEARNED:
                remedy = (
                    f"`dbsn train -o {folder} --resume` with a larger --student.minutes; until then, --method posterior"
                )
                print(f"the student takes out hardly any noise yet (1 is the noisy image's own error): {remedy}")
        last = step or last
    if last is None:
        print(f"nothing left to do in {folder}; a larger --minutes or --steps, in all, goes on")
    else:
        print(f"model: {folder / MODEL}")


def show_files(work: Iterator[JobResult], files: Sequence[Path], axes: str | None = None) -> int:
    """Consume the work on many files: a line each, on a terminal with a bar over their megapixels.

    Args:
        work: What becomes of each file, in their order.
        files: The files.
        axes: As of `dbsn.io.formats.megapixels`.

    Returns:
        Exit status: 0 if every file went through, else 1.
    """
    console, failed = Console(soft_wrap=True, highlight=False), 0
    columns = (BarColumn(bar_width=16), TextColumn("{task.completed:.1f} of {task.total:.1f} megapixels"))
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not console.is_terminal) as bar:
        sizes = [megapixels(file, axes) for file in files] if console.is_terminal else [0.0] * len(files)
        task = bar.add_task("", total=sum(sizes))
        for done, size in zip(work, sizes, strict=True):
            bar.advance(task, size)
            if done.error:
                failed += 1
                print(f"dbsn: {printable(done.error)}", file=sys.stderr, flush=True)
                continue
            if done.why:
                print(f"{printable(str(done.output))}: {done.why}", flush=True)
            noise = " ".join(filter(None, ("noise" if done.noise[0] else "", *done.noise)))
            print("  ".join(filter(None, (printable(str(done.output)), noise, f"{done.seconds:.1f} s"))), flush=True)
    if failed and len(files) > 1:
        print(f"{failed} of {len(files)} files failed")
    return 1 if failed else 0


def describe_images(images: Sequence[np.ndarray]) -> str:
    """One line: how many, of which kind, how large."""
    megapixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
    kind = "gray" if images[0].shape[2] == 1 else "colour"
    return f"{len(images)} {kind} images, {megapixels:.1f} megapixels"


def describe_clean(images: Sequence[np.ndarray], files: Sequence[Path], channels: int) -> str:
    """One line: how many clean images, and what is wrong with some, because it caps what a student can learn.

    Args:
        images: (h, w, c) of any kinds.
        files: Where they are from, to name some; of stacks there are fewer, and none is named.
        channels: The noisy images'; gray ones can do nothing for colour.
    """
    names = [file.name for file in files] if len(files) == len(images) else [""] * len(images)
    usable = [(image, name) for image, name in zip(images, names, strict=True) if image.shape[2] in (channels, 3)]
    if not usable:
        return _count(images)
    alike = by_unit(image for image, _ in usable)
    ranges = {unit: clean_range(*intensity_range(images)) for unit, images in alike.items()}
    noisy, blocky = list[_Flaw](), list[_Flaw]()
    for image, name in usable:
        unit = Unit.of_samples(image)
        black, white = ranges[unit]
        level, blocks = flaws(image if (black, white) == (0, 1) else (to_pixels(image) - black) / white)
        if level > _NOISY_FROM:
            noisy.append((level, f"{unit.number(level * white)}{unit.of}", name))
        if blocks > _BLOCKY_FROM:
            blocky.append((blocks, "", name))
    remarks = []
    if noisy:
        most = max(noisy)[1]
        remarks.append(f"noisy or texture throughout: {len(noisy)} (up to {most}{_first_of(noisy)})")
    if blocky:
        remarks.append(f"with JPEG blocks: {len(blocky)}{_first_of(blocky)}")
    if remarks:
        remarks.append("a student cannot become cleaner than these: shrink them or leave them out")
    if len(usable) < len(images):
        remarks.insert(0, f"gray and left out, as the noisy ones have colours: {len(images) - len(usable)}")
    return "; ".join([_count(images), *remarks])


def _count(images: Sequence[object]) -> str:
    return f"{len(images)} image{'s' if len(images) != 1 else ''}"


def _first_of(flawed: Sequence[_Flaw]) -> str:
    """The names of the worst three, if they are known."""
    names = [printable(name) for _, _, name in sorted(flawed, reverse=True)[:_NAMED] if name]
    return "".join([", " * bool(names), ", ".join(names), ", ..." * (bool(names) and len(flawed) > _NAMED)])


def describe(progress: Progress, unit: Unit) -> str:
    """One line about a step: loss, noise level and what is left of it, speed, time left.

    What is left is what a blind-spot model promises, and what a student misses on clean images with noise.
    """
    noise, after = (unit.number(progress.terms.get(name, float("nan"))) for name in ("noise_std", "denoised_std"))
    left = progress.seconds * (1 - progress.share) / progress.share if progress.share > 0 else 0.0
    parts = [
        f"loss {progress.loss:.2f}",
        f"noise {noise}{f' -> {after}' if 'denoised_std' in progress.terms else ''}{unit.of}",
        f"{progress.pixels_per_second / 1e3:.0f} kpx/s",
        f"{left / 60:.1f} min left" if left >= 60 else f"{left:.0f} s left",
    ]
    return "  ".join(parts)


def _live(stage: Stage, console: Console) -> Progress | None:
    last = None
    columns = (BarColumn(bar_width=16), TextColumn("{task.percentage:>3.0f}%"), TextColumn("{task.description}"))
    with Bar(*columns, console=console) as bar:
        task = bar.add_task("starting", total=1.0)
        for each in stage.progress:
            if isinstance(each, Progress):
                last = each
                if each.remark:
                    console.print(each.remark, highlight=False, markup=False, soft_wrap=True)
                bar.update(task, completed=each.share, description=describe(each, stage.unit))
            else:
                bar.update(task, completed=each, description="")
    return last


def _plain(stage: Stage, console: Console) -> Progress | None:
    last, shown = None, -_PLAIN_SECONDS
    for each in stage.progress:
        due = time.monotonic() - shown >= _PLAIN_SECONDS
        if isinstance(each, Progress):
            last, due = each, due or each.validation is not None
            if each.remark:
                print(each.remark, flush=True)
        if not due:
            continue
        shown = time.monotonic()
        if isinstance(each, Progress):
            held_out = "" if each.validation is None else f"  held-out {each.validation:.4f}"
            print(f"step {each.step}  {describe(each, stage.unit)}{held_out}", flush=True)
        else:
            print(f"{each:.0%}", flush=True)
    return last
