"""`dbsn report`: how a training went."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import Device, Threads, Trust, check_device, escaped, report_failures


@dataclass(frozen=True, kw_only=True)
class Report:
    """Write an HTML report of a training run: images, noise, uncertainty check, curves."""

    layout: ClassVar[Layout] = Layout(
        examples=("dbsn report runs/mine", "dbsn report runs/mine --images test.png -o mine.html"),
        usual=("--output", "--images", "--device"),
        more={"how it is computed": ("--threads", "--trust")},
    )

    run_folder: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run (`dbsn train -o RUN`)."""
    output: Annotated[Path | None, tyro.conf.arg(aliases=["-o"], metavar="PATH")] = None
    """HTML file to write. Default: RUN/report.html."""
    images: tuple[Path, ...] = ()
    """Noisy images to show. Default: three images of the training."""
    device: Device = "auto"
    threads: Threads = None
    trust: Trust = False

    def run(self) -> int:
        """Report; 0 if every image could be read."""
        from dbsn.report.report import write_report

        check_device(self.device)
        output = self.output or self.run_folder / "report.html"
        failures = write_report(self.run_folder, output, self.images, device=self.device, trust=self.trust)
        report_failures(failures)
        print(escaped(str(output)))
        return 1 if failures else 0
