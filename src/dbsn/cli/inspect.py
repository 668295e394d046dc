"""`dbsn inspect`: the noise of images."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import Axes, Json, Threads, report_failures


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Measure the noise in images and check whether dbsn can learn from them."""

    layout: ClassVar[Layout] = Layout(
        examples=("dbsn inspect my_noisy_images", "dbsn inspect photo.jpg --picture noise.png"),
        usual=("--picture", "--axes", "--json"),
        more={"how it is computed": ("--threads",)},
    )

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Noisy image files, folders (searched with their sub-folders) or patterns."""
    threads: Threads = None
    axes: Axes = None
    json: Json = False
    picture: Path | None = None
    """Also draw the noise level at each intensity and the correlation between pixels (.png, .pdf or .svg)."""

    def run(self) -> int:
        """Inspect; 0 if every file could be read."""
        from dbsn.cli.display import describe_images
        from dbsn.io.folders import load_folder
        from dbsn.noise.inspection import inspect_noise
        from dbsn.report.figures import draw_noise

        if not self.inputs:
            raise ValueError("PATH: missing. Name the noisy images (files or folders) to inspect.")
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
