"""`dbsn denoise`."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tyro

from dbsn.cli.allocator import keep_freed_memory
from dbsn.cli.help import Layout
from dbsn.cli.options import Axes, Device, Json, Method, Output, Quiet, Threads, Trust, check_device, find_model, note
from dbsn.store import builtin
from dbsn.store.builtin import better_model

_NAMED = 5  # files at most

if TYPE_CHECKING:
    from dbsn.batch.denoise import DenoiseOptions
    from dbsn.denoiser import Denoiser


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Denoise image files. Each result keeps its input's format, bit depth and size."""

    layout: ClassVar[Layout] = Layout(
        examples=("dbsn denoise photo.jpg", "dbsn denoise my_noisy_images -m runs/mine -o results"),
        usual=(
            "--model",
            "--output",
            "--strength",
            "--save-std",
            "--ensemble",
            "--repair-outliers",
            "--dtype",
            "--overwrite",
            "--dry-run",
        ),
        more={
            "what is printed": ("--quiet", "--verbose", "--json"),
            "how it is computed": ("--method", "--tile", "--device", "--threads", "--shard", "--trust"),
            "input": ("--axes",),
        },
    )
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """Image files, folders (searched with their sub-folders) or patterns."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["-m"], metavar="MODEL")] = None
    """Model file, run folder or built-in model (see `dbsn models`). Default: the built-in model that fits each
    image."""
    output: Output = Path("denoised")
    """Folder for the results. For a single input, it can be a file name."""
    tile: Annotated[int | None, tyro.conf.arg(metavar="PIXELS")] = None
    """Side of a tile. Smaller tiles need less memory; 0 takes the whole image. Default: 1536 for a U-Net, else 768."""
    method: Method = "auto"
    """student (fast), posterior (the blind-spot model's result) or auto: the student if the model has one."""
    ensemble: bool = False
    """Average over eight flips and rotations: 0.1 to 1 dB better, 8 times as slow."""
    save_std: bool = False
    """Also write the uncertainty of each pixel (one standard deviation, in the result's units), as NAME_std.tif."""
    strength: float = 1.0
    """Denoising strength: 0 keeps the image, 1 removes the measured noise, up to 2 assumes more noise."""
    dtype: Literal["input", "uint8", "uint16", "float32"] = "input"
    """Data type of the results: the input's or another. float32 (TIFF, Zarr) is not rounded."""
    axes: Axes = None
    repair_outliers: bool = False
    """Replace isolated outliers (hot pixels, salt and pepper) and say how many. By default they stay as they are."""
    overwrite: bool = False
    """Overwrite existing results. By default finished files are skipped, so an interrupted run continues."""
    dry_run: bool = False
    """Print which file is read, with which model and why, and where the result goes. Write nothing."""
    device: Device = "auto"
    threads: Threads = None
    shard: Annotated[str | None, tyro.conf.arg(metavar="K/N")] = None
    """Denoise only the K-th of N parts of the files, for N machines or array jobs on one folder. Example: 2/8."""
    quiet: Quiet = False
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Print for every file which model was used and why, not only where it changes."""
    json: Json = False
    trust: Trust = False

    def run(self) -> int:
        """Denoise all; 0 if every file went through."""
        from dbsn.batch.denoise import Batch, DenoiseOptions, choose_models, denoise_files
        from dbsn.batch.journal import Journal
        from dbsn.batch.model_choice import ModelPicker
        from dbsn.batch.plan import goes_to_file, is_first, left, plan, shard_of
        from dbsn.cli.display import Verbosity, show_files
        from dbsn.io.folders import find_unread

        if not self.inputs:
            raise ValueError("INPUT: missing. Name the image files or folders to denoise.")
        check_device(self.device)
        keep_freed_memory()
        jobs = shard_of(plan(self.inputs, self.output, save_std=self.save_std), self.shard)
        how = DenoiseOptions(
            method=self.method, ensemble=self.ensemble, strength=self.strength, dtype=self.dtype, tile=self.tile,
            axes=self.axes, repair_outliers=self.repair_outliers,
        )  # fmt: skip
        given = self._model_file() if self.model else None
        choice = ModelPicker(
            given, device=self.device, trust=self.trust, check=partial(_check_can, how=how, save_std=self.save_std)
        )
        if choice.given:
            choice.load(choice.given)  # now, so that what cannot be done is shown before all files
        journal = None if goes_to_file(self.output) else Journal(self.output)
        settings = how.settings(choice)
        missing = jobs if self.overwrite else left(jobs, journal, settings)
        unread = find_unread(self.inputs, besides=self.output) if is_first(self.shard) else []
        if len(missing) < len(jobs):
            done = f"{len(jobs) - len(missing)} of {len(jobs)} results exist already. --overwrite makes them again."
            note(done, quiet=self.quiet)
        if self.dry_run:
            work = choose_models(choice, missing, how)
        else:
            work = denoise_files(choice, missing, how, journal, Batch(settings=settings, overwrites=self.overwrite))
        named = str(given or "")
        shown = Verbosity(
            quiet=self.quiet, verbose=self.verbose, json=self.json, dry_run=self.dry_run, model=named,
            repairs=self.repair_outliers,
        )  # fmt: skip
        status = show_files(work, missing, shown, self.axes)
        if unread:
            note(f"not read: {_named(unread)}", quiet=self.quiet)
        return status

    def _model_file(self) -> Path:
        """The file of --model; of a run folder the better model, which may be a built-in one."""
        assert self.model
        find_model(self.model)
        given, why = better_model(self.model)
        if why:
            note(why, quiet=self.quiet)
        return given


def _named(files: Sequence[Path]) -> str:
    """Count files and name the first of them, in one line."""
    from dbsn.io.folders import printable

    first = ", ".join(printable(str(file)) for file in files[:_NAMED])
    more = f" and {len(files) - _NAMED} more" if len(files) > _NAMED else ""
    return f"{len(files)} {'file' if len(files) == 1 else 'files'} of other kinds ({first}{more})"


def _check_can(denoiser: "Denoiser", path: Path, *, how: "DenoiseOptions", save_std: bool) -> None:
    """Refuse what a model cannot do; ValueError names the flag, the file and the remedy."""
    if how.method == "posterior" and denoiser.saved.model is None:
        advice = "Leave --method out, or name a model of `dbsn train` with -m."
        name = path.stem if path.parent == builtin.WEIGHTS else path
        raise ValueError(f"--method posterior: {name} holds only a student, no blind-spot model. {advice}")
    by_student = denoiser.picks_student(how.method)
    if save_std and by_student and not denoiser.student_knows_std:
        raise ValueError(f"--save-std: the student in {path} has no uncertainty. Add --method posterior.")
