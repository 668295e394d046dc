"""`dbsn synthesize`: noise for images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from dbsn.cli.options import ModelPath, Output, Threads, load


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Put the learned noise on clean images: pairs for other tools, in OUT/noisy and OUT/clean."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLEAN")]
    """Clean image files, folders or patterns."""
    model: ModelPath
    """Model file with a noise model (one trained with --clean)."""
    output: Output
    """Folder for the pairs."""
    float_tiff: bool = False
    """Write 32-bit float TIFF, cut off and rounded only as the noisy images were, instead of the input's format."""
    seed: int = 0
    """Seed of the noise; each image has one fixed realisation."""
    overwrite: bool = False
    """Replace results that exist."""
    threads: Threads = None

    def run(self) -> int:
        """Write all pairs; 0 if every file went through."""
        from dbsn.batch.plan import left, plan_pairs
        from dbsn.batch.synthesize import synthesize_files
        from dbsn.cli.display import show_files

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
