"""`dbsn evaluate`."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from dbsn.cli.options import Device, Method, ModelPath, Threads, load, report_failures

if TYPE_CHECKING:
    import numpy as np

    from dbsn.evaluation.evaluate import Pair


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model against clean images: real pairs, or clean images with synthetic noise."""

    model: ModelPath
    """Model file."""
    clean: Path
    """Folder of clean images."""
    noisy: Path | None = None
    """Folder of noisy images with the same names."""
    noise: str | None = None
    """Synthetic noise instead: awgn:25, hg:40,10, pg:2,10 or mg:75 (numbers of 255)."""
    seed: int = 0
    """Seed of the synthetic noise; each image has one fixed realisation."""
    protocol: Literal["float", "uint8", "affine"] = "float"
    """float: clamped, not rounded; uint8: rounded to 8 bit; affine: gain and offset fitted to the truth first."""
    gray: bool = False
    """Turn colour images to gray first."""
    json: bool = False
    """Print one JSON object instead of a table."""
    method: Method = "auto"
    """student, posterior, or auto: the student if the model has one; as `denoise --method`."""
    ensemble: bool = False
    """Average over each image's eight flips and rotations, as `denoise --ensemble`."""
    tile: int = 768
    """Side of a tile in pixels."""
    device: Device = "auto"
    """Where to compute."""
    threads: Threads = None

    def run(self) -> int:
        """Evaluate; 0 if every clean image had a usable partner."""
        from dbsn.evaluation.evaluate import evaluate, summarise
        from dbsn.inference.options import InferenceOptions

        if (self.noisy is None) == (self.noise is None):
            raise ValueError("name either --noisy DIR (real pairs) or --noise awgn:25 (synthetic)")
        denoiser, failures, scores = load(self.model, self.device), list[str](), []
        by_student = denoiser.picks_student(self.method)
        network = denoiser.student if by_student and denoiser.student else denoiser.model
        options = InferenceOptions(tile=self.tile, ensemble=self.ensemble, bf16=denoiser.bf16)
        scored = partial(evaluate, network, protocol=self.protocol, options=options)
        for pair in self._pairs(failures):
            try:
                [score] = scored([pair])
            except ValueError as error:  # gray or in colours, unlike the model: the others go on
                failures.append(str(error))
                continue
            scores.append(score)
            if not self.json:
                mean = "" if score.mean_psnr is None else f"mean {score.mean_psnr:.2f}  "
                figures = f"noisy {score.noisy_psnr:.2f}  {mean}denoised {score.psnr:.2f} dB"
                print(f"{score.name}  {figures}  SSIM {score.ssim:.4f}")
        report_failures(failures)
        if not scores:
            raise ValueError(f"no image of {self.clean} could be evaluated")
        summary = summarise(scores, self.protocol) | {"model": str(self.model), "noise": self.noise, "seed": self.seed}
        summary |= {"method": "student" if by_student else "posterior", "ensemble": self.ensemble}
        print(json.dumps(summary) if self.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
        return 1 if failures else 0

    def _pairs(self, failures: list[str]) -> "Iterator[Pair]":
        """Noisy and clean images; a line for each file that cannot be used is added to `failures`."""
        from dbsn.errors import ImageError
        from dbsn.evaluation.evaluate import Pair, synthetic_noise
        from dbsn.intensity import to_gray
        from dbsn.io.folders import find_images
        from dbsn.io.formats import read_image
        from dbsn.noise.families import parse_noise

        def pixels(path: Path) -> "np.ndarray":
            read = read_image(path).pixels
            return to_gray(read) if self.gray else read

        noise = parse_noise(self.noise) if self.noise else None
        noisy = {} if self.noisy is None else {_key(path, self.noisy): path for path in find_images([self.noisy])}
        for index, path in enumerate(find_images([self.clean])):
            try:
                clean = pixels(path)
                if noise:
                    yield replace(synthetic_noise(clean, noise, seed=self.seed, index=index), name=path.name)
                    continue
                partner = noisy.get(_key(path, self.clean))
                if partner is None:
                    failures.append(f"{path}: no noisy image of this name in {self.noisy}")
                    continue
                pair = Pair(name=path.name, noisy=pixels(partner), clean=clean)
                if pair.noisy.shape != clean.shape:
                    raise ImageError(f"{partner}: shape {pair.noisy.shape} differs from {path}'s {clean.shape}")
                yield pair
            except ImageError as error:
                failures.append(str(error))
            except ValueError as error:  # a noise that images of these channels cannot have
                failures.append(f"{path}: {error}")


def _key(path: Path, folder: Path) -> str:
    """What pairs a noisy with a clean file: the path below its folder, without suffix."""
    return (path.relative_to(folder) if folder.is_dir() else Path(path.name)).with_suffix("").as_posix()
