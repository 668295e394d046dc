"""What a person sees of a training, its images and work on many files: live on a terminal, plain lines elsewhere.

Tested in tests/e2e/test_resume.py and tests/e2e/test_stages.py.
"""

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

import dbsn.io
from dbsn.batch.jobs import JobResult
from dbsn.batch.plan import Job
from dbsn.cli.options import escaped, note
from dbsn.config import MODEL
from dbsn.intensity import Unit, by_unit, clean_range, intensity_range, to_pixels
from dbsn.noise.inspection import flaws
from dbsn.store.builtin import Comparison
from dbsn.training.loop import Progress
from dbsn.training.stages import ERROR, LIKELIHOOD, SYNTHETIC_ERROR, Stage

_PLAIN_SECONDS = 10.0


_EARLY = "Until it has 300 or more, prefer a built-in model (`dbsn denoise` without -m)."
_LONGER = "Train it longer, and use --method posterior until then."
_HARDLY_LEARNED = 0.8  # squared error of a student, in noise variances; a good one's is below 0.2
_NOISY_FROM = 2.5 / 255  # noise level of a clean image that is worth a word
_BLOCKY_FROM = 0.5 / 255  # what steps across the borders of JPEG's blocks have more than other steps
_NAMED = 3  # files at most
_Flaw = tuple[float, str, str]  # how much, as a number, of which file

TITLES = {
    "blind": "Stage 1: training the blind-spot model on the noisy images.",
    "teacher": "The teacher denoises the noisy images once.",
    "student": "Stage 2: training the student. The kept weights have ",
    "comparison": "Comparing the trained model with the built-in models on held-out noisy pixels.",
}
PICKED_BY = {
    SYNTHETIC_ERROR: "the smallest squared error on held-out synthetic pairs.",
    ERROR: "the smallest squared error on held-out synthetic pairs and (Stein's estimate) held-out noisy images.",
    LIKELIHOOD: "the most likely uncertainty on held-out synthetic pairs.",
}


def show_training(stages: Iterator[Stage], folder: Path, *, quiet: bool = False) -> None:
    """Consume a run's stages, showing their progress on stderr; the path of the model is printed on stdout."""
    console, last = Console(stderr=True, quiet=quiet), None
    show = _live if console.is_terminal else partial(_plain, quiet=quiet)
    say, again = partial(note, quiet=quiet), f"dbsn train -o {folder} --resume"
    for stage in stages:
        longer = f"To continue: `{again} {'--student.' if stage.name == 'student' else '--'}steps N`."
        title = TITLES[stage.name] + (PICKED_BY[stage.figure] if stage.name == "student" else "")
        say("\n".join(filter(None, (stage.note, title))))
        try:
            step = show(stage, console)
        except KeyboardInterrupt:
            note(f"Stopped. `{again}` continues from the last checkpoint.")
            raise
        if step and step.share < 1:
            note(f"Stopped after step {step.step}. `{again}` continues from here.")
        elif step:
            say(f"Best held-out value: {step.best:.4f} ({stage.figure}; lower is better).")
            if stage.figure in (ERROR, SYNTHETIC_ERROR) and step.best > _HARDLY_LEARNED:
                note(
                    f"The student removes hardly any noise yet (a value of 1 is the noisy image's own error). {_LONGER}"
                )
                say(longer)
        if stage.name == "comparison" and (compared := Comparison.of(folder)):
            note(compared.describe(folder))
        if step and step.is_undertrained:
            note(f"{step.step} steps are too few to learn from random weights. {_EARLY} {longer}")
        last = step or last
    if last is None:
        note(f"{folder}: the training is finished. For more, add --resume with a larger --minutes or --steps (in all).")
    else:
        print(f"model: {escaped(str(folder / MODEL))}")


@dataclass(frozen=True, kw_only=True)
class Verbosity:
    """How much is printed of the work on many files."""

    quiet: bool = False
    """Results and errors only."""
    verbose: bool = False
    """The model of each file, not only where it changes."""
    json: bool = False
    """One object at the end, and nothing else on stdout."""
    dry_run: bool = False
    """Nothing was written: what would be."""
    model: str = ""
    """The model that was named, if it is one for all."""
    repairs: bool = False
    """Isolated outliers are replaced."""


def show_files(work: Iterator[JobResult], jobs: Sequence[Job], shown: Verbosity, axes: str | None = None) -> int:
    """Consume the work on many files: a line each, on a terminal with a bar over their megapixels.

    Args:
        work: What becomes of each file; one that another process had claimed comes last.
        jobs: The files and their results.
        shown: What is printed.
        axes: As of `dbsn.io.Source.planes`.

    Returns:
        Exit status: 0 if every file went through, else 1.
    """
    console, results, before = Console(stderr=True, soft_wrap=True, highlight=False), list[JobResult](), None
    is_live = console.is_terminal and not shown.quiet
    columns = (BarColumn(bar_width=16), TextColumn("{task.completed:.1f} of {task.total:.1f} megapixels"))
    redirects = sys.stdout.isatty()
    with Bar(*columns, TimeRemainingColumn(), console=console, disable=not is_live, redirect_stdout=redirects) as bar:
        by_output = {job.output: job for job in jobs}
        sizes = {job.output: dbsn.io.open(job.source).megapixels(axes) if is_live else 0.0 for job in jobs}
        task = bar.add_task("", total=sum(sizes.values()))
        for done in work:
            job = by_output[done.output]
            bar.advance(task, sizes[done.output])
            results.append(done)
            if done.error:
                print(f"dbsn: {escaped(done.error)}", file=sys.stderr, flush=True)
                continue
            like = done.why.like if done.why else None
            if done.why and not shown.dry_run and (shown.verbose or like != before):
                note(f"{escaped(str(done.output))}: {done.why.line}", quiet=shown.quiet)
            before = like
            if done.remarks:
                note(escaped(f"{done.source}: {'; '.join(done.remarks)}."), quiet=shown.quiet)
            if done.outliers:
                note(f"{escaped(str(done.output))}: {_outliers(done.outliers, shown)}", quiet=shown.quiet)
            if not shown.json:
                print(_line_of(done, job, shown), flush=True)
    failed = sum(done.error is not None for done in results)
    if shown.json:
        print(json.dumps(_as_object(results, by_output, shown)))
    if failed and len(jobs) > 1:
        note(f"{failed} of {len(jobs)} files failed and were left out", quiet=shown.quiet)
    return 1 if failed else 0


def _outliers(count: int, shown: Verbosity) -> str:
    """What became of isolated outliers."""
    pixels = f"{count} isolated outlier{'s' if count > 1 else ''} (hot pixels, salt and pepper)"
    return f"{pixels} replaced" if shown.repairs else f"{pixels} kept; --repair-outliers replaces them"


def _line_of(done: JobResult, job: Job, shown: Verbosity) -> str:
    """A result: its file, noise and time; or what would be done."""
    if shown.dry_run:
        targets = ", ".join(map(str, job.targets))
        return escaped(f"{done.source} -> {targets}: {done.why.line if done.why else f'model {shown.model}'}")
    if done.is_by_others:
        return f"{escaped(str(done.output))}  made by another dbsn meanwhile"
    noise = " ".join(filter(None, ("noise" if done.noise[0] else "", *done.noise)))
    return "  ".join(filter(None, (escaped(str(done.output)), noise, f"{done.seconds:.1f} s")))


def _as_object(results: Sequence[JobResult], jobs: Mapping[Path, Job], shown: Verbosity) -> dict[str, object]:
    """Everything about the work, for a program."""
    files = []
    for done in results:
        said = {
            "source": str(done.source), "outputs": [str(target) for target in jobs[done.output].targets],
            "model": (done.why.model if done.why else shown.model) or None,
            "reason": done.why.line if done.why else None,
            "noise": done.noise[0] or None, "noise_unit": done.noise[1] or None, "noise_std": done.noise_std,
            "outliers": done.outliers, "seconds": round(done.seconds, 3), "remarks": list(done.remarks),
            "error": done.error,
        }  # fmt: skip
        files.append({name: escaped(value) if isinstance(value, str) else value for name, value in said.items()})
    return {"files": files, "failed": sum(done.error is not None for done in results), "dry_run": shown.dry_run}


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
        remarks.append(f"noise, or texture everywhere, in {len(noisy)} (up to {most}{_first_of(noisy)})")
    if blocky:
        remarks.append(f"JPEG blocks in {len(blocky)}{_first_of(blocky)}")
    if remarks:
        remarks.append("the student cannot become cleaner than these images: shrink them or leave them out")
    if len(usable) < len(images):
        remarks.insert(0, f"{len(images) - len(usable)} gray ones are left out, because the noisy images are in colour")
    return "; ".join([_count(images), *remarks])


def _count(images: Sequence[object]) -> str:
    return f"{len(images)} image{'s' if len(images) != 1 else ''}"


def _first_of(flawed: Sequence[_Flaw]) -> str:
    """The names of the worst three, if they are known."""
    names = [escaped(name) for _, _, name in sorted(flawed, reverse=True)[:_NAMED] if name]
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


def _plain(stage: Stage, console: Console, *, quiet: bool = False) -> Progress | None:
    last, shown = None, -_PLAIN_SECONDS
    for each in stage.progress:
        due = time.monotonic() - shown >= _PLAIN_SECONDS
        if isinstance(each, Progress):
            last, due = each, due or each.validation is not None
            if each.remark:
                note(each.remark, quiet=quiet)
        if not due:
            continue
        shown = time.monotonic()
        if isinstance(each, Progress):
            held_out = "" if each.validation is None else f"  held-out {each.validation:.4f}"
            note(f"step {each.step}  {describe(each, stage.unit)}{held_out}", quiet=quiet)
        else:
            note(f"{each:.0%}", quiet=quiet)
    return last
