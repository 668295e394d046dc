"""`dbsn report`: how a training went."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from dbsn.cli.options import Device, Threads, report_failures

if TYPE_CHECKING:
    pass


@dataclass(frozen=True, kw_only=True)
class Report:
    """Tell a training in one HTML file: before and after, its noise, whether its promises are kept, its curves."""

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the training (`train -o`)."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"])] = None
    """The file to write; by default RUN/report.html."""
    images: tuple[Path, ...] = ()
    """Noisy images to show; by default three that were learned from."""
    device: Device = "auto"
    """Where to compute."""
    threads: Threads = None

    def run(self) -> int:
        """Report; 0 if every image could be read."""
        from dbsn.report.report import write_report

        output = self.output or self.run_folder / "report.html"
        failures = write_report(self.run_folder, output, self.images, device=self.device)
        report_failures(failures)
        print(output)
        return 1 if failures else 0
