"""`dbsn inspect` and `dbsn synthesize`: the noise of images, and noise for images."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dbsn.commands.common import Axes, ModelFile, Output, load, report_failures


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what noise images have, from the noisy images alone, and whether this method suits it."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Noisy image files, folders (searched with their sub-folders) or patterns."""
    axes: Axes = None
    json: bool = False
    """Print one JSON object."""
    picture: Path | None = None
    """Also draw the noise level at each intensity and the correlation with the neighbours (.png, .pdf, .svg)."""

    def run(self) -> int:
        """Inspect; 0 if every file could be read."""
        from dbsn.inspection import inspect_noise
        from dbsn.runs import load_folder
        from dbsn.screen import describe_images, draw_noise

        if not self.inputs:
            raise ValueError("PATH: name the noisy images (files or folders) to inspect")
        _, images, failures = load_folder(self.inputs, axes=self.axes)
        report_failures(failures)
        found = inspect_noise(images)
        if self.json:
            facts = {
                "images": len(images), "verdict": found.verdict, "suits": found.suits, "family": found.family,
                "levels_255": [255 * level for level in found.levels], "jpeg": found.is_compressed,
                "reach": found.reach, "stride": found.stride, "autocorrelation": found.autocorrelation.tolist(),
                "channel_correlation": found.channel_correlation.tolist(), "recording": asdict(found.recording),
                "curves_255": [(255 * image.curve).tolist() for image in found.images],
            }  # fmt: skip
            print(json.dumps(facts))
        else:
            print(describe_images(images), found.verdict, sep="\n")
        if self.picture:
            draw_noise(found, self.picture)
        return 1 if failures else 0


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Put the learned noise on clean images: pairs for other tools, in OUT/noisy and OUT/clean."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLEAN")]
    """Clean image files, folders or patterns."""
    model: ModelFile
    """Model file with a noise model (one trained with --clean)."""
    output: Output
    """Folder for the pairs."""
    float_tiff: bool = False
    """Write 32-bit float TIFF, cut off and rounded only as the noisy images were, instead of the input's format."""
    seed: int = 0
    """Seed of the noise; each image has one fixed realisation."""
    overwrite: bool = False
    """Replace results that exist."""

    def run(self) -> int:
        """Write all pairs; 0 if every file went through."""
        from dbsn.batch import synthesize_files
        from dbsn.plan import left, plan_pairs
        from dbsn.screen import show_files

        if not self.inputs:
            raise ValueError("CLEAN: name the clean images (files or folders) to put noise on")
        jobs = plan_pairs(self.inputs, self.output, float_tiff=self.float_tiff)
        jobs = jobs if self.overwrite else left(jobs, None)
        noise = load(self.model, "cpu").saved.noise
        if noise is None:
            raise ValueError(
                f"--model {self.model}: keeps no noise of images; `dbsn train NOISY --clean CLEAN` makes one"
            )
        done = synthesize_files(noise, jobs, float_tiff=self.float_tiff, seed=self.seed)
        return show_files(done, [job.source for job in jobs])
