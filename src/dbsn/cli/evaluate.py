"""`dbsn evaluate`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import (
    Device,
    Json,
    Method,
    ModelPath,
    Quiet,
    Threads,
    Trust,
    check_device,
    escaped,
    load,
    note,
    report_failures,
)

if TYPE_CHECKING:
    import numpy as np

    from dbsn.evaluation.evaluate import Pair

_EIGHT_BITS = 255
_DIM = 0.25  # share of the data type's range that images of more than 8 bits should reach


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure the quality of a model (PSNR, SSIM) on real pairs or on synthetic noise."""

    layout: ClassVar[Layout] = Layout(
        examples=(
            "dbsn evaluate -m runs/mine --noisy noisy --clean clean",
            "dbsn evaluate -m photo --clean clean --noise awgn:25",
        ),
        usual=("--model", "--clean", "--noisy", "--noise", "--protocol", "--gray", "--json"),
        more={
            "more options": (
                "--seed",
                "--method",
                "--ensemble",
                "--tile",
                "--device",
                "--threads",
                "--quiet",
                "--trust",
            )
        },
    )
    model: ModelPath
    """Model file, run folder or built-in model."""
    clean: Path
    """Folder of clean images."""
    noisy: Path | None = None
    """Folder of noisy images with the same names."""
    noise: Annotated[str | None, tyro.conf.arg(metavar="NOISE")] = None
    """Synthetic noise instead of --noisy: awgn:25, hg:40,10, pg:2,10 or mg:75 (levels out of 255)."""
    seed: int = 0
    """Seed of the synthetic noise. Each image gets one fixed realisation."""
    protocol: Literal["float", "uint8", "affine"] = "float"
    """float: results are clamped; uint8: also rounded to 8 bits; affine: gain and offset are fitted to the clean image
    first."""
    gray: bool = False
    """Convert colour images to gray first."""
    json: Json = False
    method: Method = "auto"
    """student (fast), posterior (the blind-spot model's result) or auto: the student if the model has one."""
    ensemble: bool = False
    """Average over eight flips and rotations, 8 times as slow."""
    tile: int = 768
    """Side of a tile in pixels. Smaller tiles need less memory; 0 takes the whole image."""
    device: Device = "auto"
    threads: Threads = None
    quiet: Quiet = False
    trust: Trust = False

    def run(self) -> int:
        """Evaluate; 0 if every clean image had a usable partner."""
        from dbsn.evaluation.evaluate import evaluate, summarise
        from dbsn.inference.options import InferenceOptions

        if (self.noisy is None) == (self.noise is None):
            got = "neither" if self.noisy is None else "both"
            raise ValueError(
                f"--noisy, --noise: got {got}, expected either --noisy DIR (real pairs) or --noise awgn:25 (synthetic)."
            )
        check_device(self.device)
        denoiser, failures, scores = load(self.model, self.device, trust=self.trust), list[str](), []
        by_student = denoiser.picks_student(self.method)
        network = denoiser.student if by_student and denoiser.student else denoiser.model
        options = InferenceOptions(tile=self.tile, ensemble=self.ensemble, bf16=denoiser.bf16)
        scored = partial(evaluate, network, protocol=self.protocol, options=options)
        peaks, brightest = set[int](), [0.0]
        for pair in self._pairs(failures, peaks):
            try:
                [score] = scored([pair])
            except ValueError as error:  # gray or in colours, unlike the model: the others go on
                failures.append(str(error))
                continue
            scores.append(score)
            brightest.append(float(pair.clean.max()))
            if not self.json and not self.quiet:
                mean = "" if score.mean_psnr is None else f"mean {score.mean_psnr:.2f}  "
                figures = f"noisy {score.noisy_psnr:.2f}  {mean}denoised {score.psnr:.2f} dB"
                print(f"{escaped(score.name)}  {figures}  SSIM {score.ssim:.4f}")
        report_failures(failures)
        if not scores:
            raise ValueError(f"--clean {self.clean}: no image could be evaluated. The lines above say why.")
        summary = summarise(scores, self.protocol) | {"model": str(self.model), "noise": self.noise, "seed": self.seed}
        summary |= {"method": "student" if by_student else "posterior", "ensemble": self.ensemble}
        peak = max(peaks)
        if max(peaks) > _EIGHT_BITS and max(brightest) < _DIM:
            seen = f"the clean images reach only {max(brightest) * peak:.0f}"
            note(f"PSNR is relative to {peak}, the largest value of the data type, but {seen}.", quiet=self.quiet)
        summary["peak"] = peak
        print(json.dumps(summary) if self.json else _table(summary))
        return 1 if failures else 0

    def _pairs(self, failures: list[str], peaks: set[int]) -> "Iterator[Pair]":
        """Noisy and clean images.

        A line for each file that cannot be used is added to `failures`; what intensity 1 is in a clean file's own
        numbers, to `peaks`.
        """
        import numpy as np

        from dbsn.errors import ImageError
        from dbsn.evaluation.evaluate import Pair, synthetic_noise
        from dbsn.intensity import to_gray
        from dbsn.io.folders import find_images
        from dbsn.io.formats import read_image
        from dbsn.noise.families import parse_noise

        def pixels(path: Path) -> "tuple[np.ndarray, int]":
            """Intensities, and what intensity 1 is in the file's own numbers."""
            read = read_image(path)
            peak = int(np.iinfo(read.dtype).max) if read.dtype.kind in "iu" else 1
            return to_gray(read.pixels) if self.gray else read.pixels, peak

        noise = parse_noise(self.noise) if self.noise else None
        noisy = {} if self.noisy is None else {_key(path, self.noisy): path for path in find_images([self.noisy])}
        for index, path in enumerate(find_images([self.clean])):
            try:
                clean, peak = pixels(path)
                if noise:
                    peaks.add(peak)
                    yield replace(synthetic_noise(clean, noise, seed=self.seed, index=index), name=path.name)
                    continue
                partner = noisy.get(_key(path, self.clean))
                if partner is None:
                    failures.append(f"{path}: no noisy image of this name in {self.noisy}")
                    continue
                pair = Pair(name=path.name, noisy=pixels(partner)[0], clean=clean)
                if pair.noisy.shape != clean.shape:
                    raise ImageError(f"{partner}: shape {pair.noisy.shape} differs from {path}'s {clean.shape}")
                peaks.add(peak)
                yield pair
            except ImageError as error:
                failures.append(str(error))
            except ValueError as error:  # a noise that images of these channels cannot have
                failures.append(f"{path}: {error}")


def _table(summary: dict[str, Any]) -> str:
    """The means, as a person reads them."""
    printed = summary | {"protocol": f"{summary['protocol']} (PSNR relative to a peak of {summary['peak']})"}
    del printed["peak"]
    digits = {"ssim": 4, "seconds": 1}
    lines = {
        name: f"{value:.{digits.get(name, 2)}f}" if isinstance(value, float) else value
        for name, value in printed.items()
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value is not None)


def _key(path: Path, folder: Path) -> str:
    """What pairs a noisy with a clean file: the path below its folder, without suffix."""
    return (path.relative_to(folder) if folder.is_dir() else Path(path.name)).with_suffix("").as_posix()
