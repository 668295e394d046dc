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
    report_failures,
)

if TYPE_CHECKING:
    import numpy as np

    from dbsn.evaluation.evaluate import Pair, Score
    from dbsn.evaluation.ranges import ValueRange
    from dbsn.io.picture import Picture

_KINDS = {1: "gray", 3: "colour"}


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
                "--peak",
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
    peak: Annotated[float | None, tyro.conf.arg(metavar="VALUE")] = None
    """White in the files' own numbers, for PSNR and --noise. Default: what the clean images use, such as 4095."""
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
        from dbsn.evaluation.evaluate import Score, evaluate
        from dbsn.evaluation.ranges import ValueRange
        from dbsn.inference.options import InferenceOptions

        if (self.noisy is None) == (self.noise is None):
            got = "neither" if self.noisy is None else "both"
            raise ValueError(
                f"--noisy, --noise: got {got}, expected either --noisy DIR (real pairs) or --noise awgn:25 (synthetic)."
            )
        if self.peak is not None and not 0 < self.peak < float("inf"):
            raise ValueError(f"--peak: got {self.peak:g}, expected a positive number. Omit it for the range in use.")
        check_device(self.device)
        denoiser, failures, scores = load(self.model, self.device, trust=self.trust), list[str](), list[Score]()
        by_student = denoiser.picks_student(self.method)
        network = denoiser.student if by_student and denoiser.student else denoiser.model
        options = InferenceOptions(tile=self.tile, ensemble=self.ensemble, bf16=denoiser.bf16)
        scored = partial(evaluate, network, protocol=self.protocol, options=options)
        used = set[ValueRange]()
        for pair in self._pairs(failures):
            try:
                [score] = scored([pair])
            except ValueError as error:  # gray or in colours, unlike the model: the others go on
                failures.append(str(error))
                continue
            scores.append(score)
            used.add(pair.values)
            if not self.json and not self.quiet:
                mean = "" if score.mean_psnr is None else f"mean {score.mean_psnr:.2f}  "
                figures = f"noisy {score.noisy_psnr:.2f}  {mean}denoised {score.psnr:.2f} dB"
                print(f"{escaped(score.name)}  {figures}  SSIM {score.ssim:.4f}")
        report_failures(failures)
        if not scores:
            raise ValueError(f"--clean {self.clean}: no image could be evaluated. The lines above say why.")
        made: dict[str, Any] = {"model": str(self.model), "noise": self.noise, "seed": self.seed}
        made |= {"method": "student" if by_student else "posterior", "ensemble": self.ensemble}
        made |= {"black": min(each.black for each in used), "peak": max(each.white for each in used)}
        kinds = self._by_kind(scores)
        if self.json:
            print(json.dumps(_rounded((kinds if len(kinds) > 1 else next(iter(kinds.values()))) | made)))
            return 1 if failures else 0
        relative = f"{self.protocol} (PSNR relative to {' and '.join(sorted(map(str, used)))})"
        for kind, summary in kinds.items():
            title = f"{kind} images\n" if len(kinds) > 1 else ""
            print(title + _table(summary | made | {"protocol": relative}))
        return 1 if failures else 0

    def _by_kind(self, scores: "list[Score]") -> dict[str, dict[str, Any]]:
        """The means of gray and of colour images, each alone: their figures cannot be compared."""
        from dbsn.evaluation.evaluate import summarise

        channels = sorted({score.channels for score in scores})
        return {
            _KINDS.get(count, f"{count}-channel"): summarise(
                [score for score in scores if score.channels == count], self.protocol
            )
            for count in channels
        }

    def _ranges(self) -> "dict[np.dtype[Any], ValueRange]":
        """What the clean images of each data type use of it; files that cannot be read do not count."""
        import numpy as np

        from dbsn.errors import ImageError
        from dbsn.evaluation.ranges import ValueRange, used_range
        from dbsn.io.folders import find_images
        from dbsn.io.formats import read_image

        ends: dict[np.dtype[Any], tuple[float, float]] = {}
        for path in find_images([self.clean]):
            try:
                read = read_image(path)
            except ImageError:
                continue
            low, high = ends.get(read.dtype, (np.inf, -np.inf))
            values = read.samples[np.isfinite(read.samples)]
            ends[read.dtype] = min(low, float(values.min())), max(high, float(values.max()))
        found = {dtype: used_range(dtype, *each) for dtype, each in ends.items()}
        if self.peak is None:
            return found
        return {dtype: ValueRange(0.0, self.peak, each.one) for dtype, each in found.items()}

    def _pairs(self, failures: list[str]) -> "Iterator[Pair]":
        """Noisy and clean images.

        A line for each file that cannot be used is added to `failures`.
        """
        from dbsn.errors import ImageError
        from dbsn.evaluation.evaluate import Pair, synthetic_noise
        from dbsn.intensity import to_gray
        from dbsn.io.folders import find_images
        from dbsn.io.formats import read_image
        from dbsn.noise.families import parse_noise

        def pixels(read: "Picture") -> "np.ndarray":
            return to_gray(read.pixels) if self.gray else read.pixels

        noise = parse_noise(self.noise) if self.noise else None
        noisy = {} if self.noisy is None else {_key(path, self.noisy): path for path in find_images([self.noisy])}
        ranges = self._ranges()
        for index, path in enumerate(find_images([self.clean])):
            try:
                read = read_image(path)
                clean, values = pixels(read), ranges[read.dtype]
                if noise:
                    pair = synthetic_noise(clean, noise, seed=self.seed, index=index, values=values)
                    yield replace(pair, name=path.name)
                    continue
                partner = noisy.get(_key(path, self.clean))
                if partner is None:
                    failures.append(f"{path}: no noisy image of this name in {self.noisy}")
                    continue
                pair = Pair(name=path.name, noisy=pixels(read_image(partner)), clean=clean, values=values)
                if pair.noisy.shape != clean.shape:
                    raise ImageError(f"{partner}: shape {pair.noisy.shape} differs from {path}'s {clean.shape}")
                yield pair
            except ImageError as error:
                failures.append(str(error))
            except ValueError as error:  # a noise that images of these channels cannot have
                failures.append(f"{path}: {error}")


def _table(summary: dict[str, Any]) -> str:
    """The means, as a person reads them."""
    printed = {name: value for name, value in summary.items() if name not in ("black", "peak")}
    digits = {"ssim": 4, "seconds": 1}
    lines = {
        name: f"{value:.{digits.get(name, 2)}f}" if isinstance(value, float) else value
        for name, value in printed.items()
    }
    return "\n".join(f"{name}: {value}" for name, value in lines.items() if value is not None)


def _rounded(summary: dict[str, Any]) -> dict[str, Any]:
    """The same with four digits behind the point: more are noise."""
    return {
        name: _rounded(value) if isinstance(value, dict) else round(value, 4) if isinstance(value, float) else value
        for name, value in summary.items()
    }


def _key(path: Path, folder: Path) -> str:
    """What pairs a noisy with a clean file: the path below its folder, without suffix."""
    return (path.relative_to(folder) if folder.is_dir() else Path(path.name)).with_suffix("").as_posix()
