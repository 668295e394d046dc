"""`dbsn denoise`."""

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dbsn.cli.allocator import keep_freed_memory
from dbsn.cli.options import Axes, Device, Method, Output, Threads

if TYPE_CHECKING:
    from dbsn.batch.denoise import DenoiseOptions
    from dbsn.denoiser import Denoiser


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Denoise image files; each result has its input's format, depth and size."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """Image files, folders (searched with their sub-folders) or patterns."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["-m"])] = None
    """Model file (a run's model.safetensors), or the name of one that comes with dbsn (`dbsn models`); without it, the
    latter that is for such images."""
    output: Output = Path("denoised")
    """A folder; or, for a single input file, a file name."""
    tile: int | None = None
    """Side of a tile in pixels, by default 1536 for a U-Net, 768 for other networks; smaller needs less memory, 0
    takes each image whole."""
    method: Method = "auto"
    """student (fast), posterior (the blind-spot model's result, with its uncertainty), or auto: the student if the
    model has one."""
    ensemble: bool = False
    """Average over each image's eight flips and rotations: better (by 0.1 to 1 dB), and eight times as slow."""
    save_std: bool = False
    """Also write each pixel's standard deviation from the truth, as NAME_std.tif, of a Zarr as NAME_std.zarr (float32,
    in the numbers of the picture that is written: of 255 for 8 bits)."""
    strength: float = 1.0
    """How much of the noise to take out: 0 none, 1 all; 1.3, if too much is left, takes the noise to be 1.3 times as
    large as measured (models that are told the level, as `gray` and `photo` are)."""
    dtype: Literal["input", "uint8", "uint16", "float32"] = "input"
    """Kind of the samples that are written: the input's or another; float32 are its own numbers, not rounded (TIFF,
    Zarr)."""
    axes: Axes = None
    overwrite: bool = False
    """Replace results that exist. Without it, files whose results `denoise.csv` in the output folder knows are skipped,
    so that what was interrupted goes on."""
    device: Device = "auto"
    """Where to compute."""
    threads: Threads = None

    def run(self) -> int:
        """Denoise all; 0 if every file went through."""
        from dbsn.batch.denoise import DenoiseOptions, denoise_files
        from dbsn.batch.journal import Journal
        from dbsn.batch.model_choice import ModelPicker
        from dbsn.batch.plan import goes_to_file, left, plan
        from dbsn.cli.display import show_files

        if not self.inputs:
            raise ValueError("INPUT: name the image files or folders to denoise")
        keep_freed_memory()
        jobs = plan(self.inputs, self.output, save_std=self.save_std)
        how = DenoiseOptions(
            method=self.method, ensemble=self.ensemble, strength=self.strength, dtype=self.dtype, tile=self.tile,
            axes=self.axes,
        )  # fmt: skip
        choice = ModelPicker(self.model, device=self.device, check=partial(_check_can, how=how, save_std=self.save_std))
        if choice.given:
            choice.load(choice.given)  # now, so that what cannot be done is told before all files
        journal = None if goes_to_file(self.output) else Journal(self.output)
        settings = how.settings(choice)
        missing = jobs if self.overwrite else left(jobs, journal, settings)
        if len(missing) < len(jobs):
            print(f"{len(jobs) - len(missing)} of {len(jobs)} results are there already; --overwrite makes them again")
        work = denoise_files(choice, missing, how, journal, settings)
        return show_files(work, [job.source for job in missing], self.axes)


def _check_can(denoiser: "Denoiser", path: Path, *, how: "DenoiseOptions", save_std: bool) -> None:
    """Refuse what a model cannot do; ValueError names the flag, the file and the remedy."""
    if how.method == "posterior" and denoiser.saved.model is None:
        advice = "leave --method out, or name a model that `dbsn train` made: -m"
        raise ValueError(f"--method posterior: {path} holds a student alone; {advice}")
    by_student = denoiser.picks_student(how.method)
    if save_std and by_student and not denoiser.student_knows_std:
        raise ValueError("--save-std: this student does not know its uncertainty; add --method posterior")
    if how.strength > 1 and not (by_student and denoiser.student and denoiser.student.guided):
        told = "only models that are told the noise level (gray, photo, unet-guided) take out more than all"
        raise ValueError(f"--strength {how.strength:g}: {told}; not {path}, for which 1 is the most")
