"""`dbsn synthesize`: noise for images."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import ModelPath, Output, Quiet, Threads, load


@dataclass(frozen=True, kw_only=True)
class Synthesize:
    """Add learned noise to clean images, to train other tools on the pairs."""

    layout: ClassVar[Layout] = Layout(
        examples=(
            "dbsn synthesize clean_photos -m runs/fast -o pairs",
            "dbsn synthesize clean_photos -m runs/fast -o pairs --float-tiff --seed 1",
        ),
        usual=("--model", "--output", "--float-tiff", "--seed", "--overwrite", "--quiet"),
        more={"how it is computed": ("--threads",)},
    )

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="CLEAN")]
    """Clean image files, folders or patterns."""
    model: ModelPath
    """Model file or run folder with learned noise (trained with --clean)."""
    output: Output
    """Folder for the pairs: OUTPUT/noisy and OUTPUT/clean."""
    float_tiff: bool = False
    """Write 32-bit float TIFF instead of the input's format. Values are rounded only as the noisy images were."""
    threads: Threads = None
    seed: int = 0
    """Seed of the noise. Each image gets one fixed realisation."""
    overwrite: bool = False
    """Overwrite existing results."""
    quiet: Quiet = False

    def run(self) -> int:
        """Write all pairs; 0 if every file went through."""
        from dbsn.batch.plan import left, plan_pairs
        from dbsn.batch.synthesize import synthesize_files
        from dbsn.cli.display import Verbosity, show_files

        if not self.inputs:
            raise ValueError("CLEAN: missing. Name the clean images (files or folders) to add noise to.")
        jobs = plan_pairs(self.inputs, self.output, float_tiff=self.float_tiff)
        jobs = jobs if self.overwrite else left(jobs, None)
        noise = load(self.model, "cpu").saved.noise
        if noise is None:
            raise ValueError(
                f"--model {self.model}: holds no learned noise. To learn it: dbsn train NOISY --clean CLEAN -o RUN"
            )
        done = synthesize_files(noise, jobs, float_tiff=self.float_tiff, seed=self.seed)
        return show_files(done, jobs, Verbosity(quiet=self.quiet))
