"""The command line: one dataclass a command, each with `run`; torch is loaded inside it, so that --help is quick.

`main` turns what a person did wrong into one line on stderr and exit status 2; files that failed while others went
through into a line each and status 1 (tests/e2e/test_shell.py).
"""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dbsn.config import NETWORKS, ModelConfig, NetworkName, NoiseFamily, TrainConfig

if TYPE_CHECKING:
    import numpy as np

    from dbsn.denoiser import Denoiser
    from dbsn.evaluate import Pair

Device = Literal["auto", "cpu", "cuda", "mps"]
Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
ModelFile = Annotated[Path, tyro.conf.arg(aliases=["-m"])]


class TrainFlags(TrainConfig):
    """`TrainConfig` as typed; checked when the command runs, so that a mistake is one line."""

    def __post_init__(self) -> None:
        """Leave the checks to `TrainConfig`."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a denoiser from noisy images alone."""

    noisy: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NOISY")] = ()
    """Noisy image files, folders (searched with their sub-folders) or patterns. Not needed with --resume."""
    output: Output
    """Folder of the run: model.safetensors, checkpoint, configuration, metrics, preview."""
    network: NetworkName = "grid"
    """Blind-spot network."""
    noise: NoiseFamily = "any"
    """Form of the noise: awgn (one level an image), hg (a level for each intensity, Poisson-Gaussian included), mg (a
    channel covariance an image), any (a channel covariance for each intensity)."""
    resume: bool = False
    """Go on with the run in --output as it was started; only budget, learning rate and precision may change."""
    device: Device = "auto"
    """Where to compute."""
    settings: tyro.conf.OmitArgPrefixes[TrainFlags] = field(default_factory=TrainFlags)

    def run(self) -> int:
        """Train; 0 if every input file could be read."""
        from dbsn import runs
        from dbsn.screen import show_training
        from dbsn.train import is_main_process

        failures: list[str] = []
        if self.resume:
            progress = runs.go_on(self.output, self._changes(), device=self.device)
        else:
            if not self.noisy:
                raise ValueError("NOISY: name the noisy images (files or folders) to learn from")
            settings = TrainConfig(**asdict(self.settings))
            runs.check_free(self.output)
            files, images, failures = runs.load_folder(self.noisy)
            model = ModelConfig(network=NETWORKS[self.network], noise=self.noise)
            if is_main_process():
                report_failures(failures)
                megapixels = sum(image.shape[0] * image.shape[1] for image in images) / 1e6
                kind = "gray" if images[0].shape[2] == 1 else "colour"
                print(f"{len(images)} {kind} images, {megapixels:.1f} megapixels", flush=True)
            progress = runs.start(files, images, model, settings, self.output, device=self.device)
        if is_main_process():
            show_training(progress, self.output)
        else:
            for _ in progress:
                pass
        return 1 if failures else 0

    def _changes(self) -> dict[str, Any]:
        """Training settings given beside --resume; the others are the run's."""
        usual = Train(output=self.output)
        given = [name for name in ("noisy", "network", "noise") if getattr(self, name) != getattr(usual, name)]
        if given:
            raise ValueError(f"--resume: {', '.join(given)} cannot change in the middle of a run; leave it out")
        asked, defaults = asdict(self.settings), asdict(usual.settings)
        return {name: value for name, value in asked.items() if value != defaults[name]}


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Denoise image files; each result has its input's format, depth and size."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """Image files, folders (searched with their sub-folders) or patterns."""
    model: ModelFile
    """Model file (a run's model.safetensors)."""
    output: Output
    """A folder; or, for a single input file, a file name."""
    tile: int = 768
    """Side of a tile in pixels; smaller needs less memory, 0 takes each image whole."""
    ensemble: bool = False
    """Average over each image's eight flips and rotations: better (by 0.1 to 1 dB), and eight times as slow."""
    save_std: bool = False
    """Also write each pixel's posterior standard deviation, as NAME_std.tif (float32, in intensities)."""
    overwrite: bool = False
    """Replace results that exist."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        """Denoise all; 0 if every file went through."""
        from dbsn.batch import denoise_files, plan

        jobs = plan(self.inputs, self.output, overwrite=self.overwrite, save_std=self.save_std)
        denoiser = _load(self.model, self.device)
        failures = []
        for done in denoise_files(denoiser, jobs, tile=self.tile, ensemble=self.ensemble):
            if done.error:
                failures.append(done.error)
                report_failures([done.error])
            else:
                print(f"{done.output}  noise {255 * done.noise_std:.1f} of 255  {done.seconds:.1f} s")
        return 1 if failures else 0


@dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Measure a model against clean images: real pairs, or clean images with synthetic noise."""

    model: ModelFile
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
    ensemble: bool = False
    """Average over each image's eight flips and rotations, as `denoise --ensemble`."""
    tile: int = 768
    """Side of a tile in pixels."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        """Evaluate; 0 if every clean image had a usable partner."""
        from dbsn.evaluate import evaluate, summarise

        if (self.noisy is None) == (self.noise is None):
            raise ValueError("name either --noisy DIR (real pairs) or --noise awgn:25 (synthetic)")
        denoiser, failures, scores = _load(self.model, self.device), list[str](), []
        for score in evaluate(
            denoiser.model,
            self._pairs(failures),
            protocol=self.protocol,
            tile=self.tile,
            ensemble=self.ensemble,
            bf16=denoiser.bf16,
        ):
            scores.append(score)
            if not self.json:
                figures = f"noisy {score.noisy_psnr:.2f}  mean {score.mean_psnr:.2f}  denoised {score.psnr:.2f} dB"
                print(f"{score.name}  {figures}  SSIM {score.ssim:.4f}")
        report_failures(failures)
        if not scores:
            raise ValueError(f"no image of {self.clean} could be evaluated")
        summary = summarise(scores, self.protocol) | {"model": str(self.model), "noise": self.noise, "seed": self.seed}
        summary |= {"ensemble": self.ensemble}
        print(json.dumps(summary) if self.json else "\n".join(f"{name}: {value}" for name, value in summary.items()))
        return 1 if failures else 0

    def _pairs(self, failures: list[str]) -> "Iterator[Pair]":
        """Noisy and clean images; a line for each file that cannot be used is added to `failures`."""
        from dbsn.evaluate import Pair, synthetic_noise, to_gray
        from dbsn.images import ImageError, find_images, read_image
        from dbsn.noise import parse_noise

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


@dataclass(frozen=True, kw_only=True)
class Info:
    """Say what a model file is."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model file."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Describe; always 0."""
        from dbsn.checkpoint import load_model

        model, about = load_model(self.model)
        parameters = sum(parameter.numel() for parameter in model.parameters())
        facts = {"model": model.config.to_dict(), "parameters": parameters, "about": about}
        if self.json:
            print(json.dumps(facts))
            return 0
        config = model.config
        print(f"{self.model}: {'gray' if config.channels == 1 else f'{config.channels}-channel'} blind-spot denoiser")
        print(f"  network      {asdict(config.network)}")
        print(f"  parameters   {parameters:,}")
        print(f"  noise        {config.noise}")
        print(f"  intensities  {config.offset - config.scale:.4g} to {config.offset + config.scale:.4g}")
        for name, value in about.items():
            print(f"  {name:<12} {value}")
        return 0


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Denoise, tyro.conf.subcommand("denoise")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Info, tyro.conf.subcommand("info")]
)


def _key(path: Path, folder: Path) -> str:
    """What pairs a noisy with a clean file: the path below its folder, without suffix."""
    return (path.relative_to(folder) if folder.is_dir() else Path(path.name)).with_suffix("").as_posix()


def report_failures(failures: list[str]) -> None:
    """A line on stderr for each file that failed."""
    for failure in failures:
        print(f"dbsn: {failure}", file=sys.stderr)


def _load(path: Path, device: str) -> "Denoiser":
    from dbsn.denoiser import Denoiser

    return Denoiser.load(path, device=device)


def main() -> None:
    """The `dbsn` command."""
    command = tyro.cli(Command, prog="dbsn", description="Denoise with what your noisy images teach.")
    try:
        status = command.run()
    except (ValueError, OSError) as error:
        print(f"dbsn: {error}", file=sys.stderr)
        status = 2
    except KeyboardInterrupt:
        print("dbsn: stopped", file=sys.stderr)
        status = 130
    sys.exit(status)
