"""The command line: one dataclass a command, each with `run`; torch is loaded inside it, so that --help is quick.

`main` turns what a person did wrong into one line on stderr and exit status 2; files that failed while others went
through into a line each and status 1 (tests/e2e/test_shell.py).
"""

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from dbsn import shipped
from dbsn.allocator import keep_freed_memory
from dbsn.config import NETWORKS, Auto, DistillConfig, ModelConfig, NetworkName, NoiseFamily, TrainConfig

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

    from dbsn.batch import How
    from dbsn.denoiser import Denoiser
    from dbsn.evaluate import Pair
    from dbsn.runs import RunConfig

Device = Literal["auto", "cpu", "cuda", "mps"]
Inputs = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
Method = Literal["auto", "student", "posterior"]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
ModelFile = Annotated[Path, tyro.conf.arg(aliases=["-m"])]


class TrainFlags(TrainConfig):
    """`TrainConfig` as typed; checked when the command runs, so that a mistake is one line."""

    def __post_init__(self) -> None:
        """Leave the checks to `TrainConfig`."""


@dataclass(frozen=True, kw_only=True)
class StudentFlags(DistillConfig):
    """`DistillConfig` as typed, and which student."""

    network: str = "auto"
    """unet, unet-guided (is told the noise level), mwcnn (the paper's), dncnn; auto: as what it starts from; or
    package.module:factory, a function from the number of channels to a network of your own that maps (b, c, h, w) to
    (b, c, h, w)."""
    start: Path | None = None
    """Model file whose student's weights to start from; by default those of --from, where --student.network is auto."""

    def __post_init__(self) -> None:
        """Leave the checks to `DistillConfig`."""


@dataclass(frozen=True, kw_only=True)
class Train:
    """Learn a denoiser from noisy images; with --clean, a fast one."""

    noisy: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NOISY")] = ()
    """Noisy image files, folders (searched with their sub-folders) or patterns; of a TIFF stack up to 256 pages, evenly
    chosen, are learned from. Not needed with --resume."""
    output: Output
    """Folder of the run: model.safetensors, checkpoint, configuration, metrics, preview."""
    network: NetworkName = "grid"
    """Blind-spot network."""
    noise: NoiseFamily | Auto = "any"
    """Form of the noise: awgn (one level an image), hg (a level for each intensity, Poisson-Gaussian included), mg (a
    channel covariance an image), any (a channel covariance for each intensity), or auto: what `dbsn inspect` finds."""
    stride: int | Auto = "auto"
    """Distance in pixels at which noise counts as independent. Noise that neighbours share, as in camera JPEGs, is
    learned from images of every such pixel, and taken out at half the distance. auto: what `dbsn inspect` finds, 1 if
    noise is independent from pixel to pixel."""
    start: Annotated[str, tyro.conf.arg(name="from")] = "shipped"
    """What to start from: shipped (what comes with dbsn for such images: a student, and a blind-spot model where there
    is one of this --network and --noise), a model file, or scratch."""
    resume: bool = False
    """Go on with the run in --output as it was started; only budget, learning rate and precision may change."""
    device: Device = "auto"
    """Where to compute."""
    settings: tyro.conf.OmitArgPrefixes[TrainFlags] = field(default_factory=TrainFlags)
    clean: tuple[Path, ...] = ()
    """Clean images of anything (files, folders or patterns): a fast student is distilled, too (stage 2)."""
    teacher: Path | None = None
    """Model file whose blind-spot network takes the place of stage 1."""
    truth: tuple[Path, ...] = ()
    """The noisy images without their noise, in the same order, if you do have them: stage 1 learns from them, too. A
    start for noise whose truth is not known, or a comparison."""
    student: StudentFlags = field(default_factory=StudentFlags)

    def run(self) -> int:
        """Train; 0 if every input file could be read."""
        from dbsn import runs
        from dbsn.inspection import A_FEW, inspect_noise, suited
        from dbsn.screen import describe_clean, describe_images, show_training
        from dbsn.train import is_main_process

        failures: list[str] = []
        if self.resume:
            stages = runs.go_on(self.output, *self._changes(), device=self.device)
        else:
            if not self.noisy:
                raise ValueError("NOISY: name the noisy images (files or folders) to learn from")
            runs.check_free(self.output)
            asked = self._asked()
            files, noisy, failures = runs.load_folder(self.noisy)
            cleans, clean, clean_failures = runs.load_folder(self.clean, mixed=True) if self.clean else ([], [], [])
            truths, truth, truth_failures = runs.load_folder(self.truth) if self.truth else ([], [], [])
            if truths and failures + truth_failures:
                raise ValueError("--truth: needs every image of both kinds: " + "; ".join(failures + truth_failures))
            failures += clean_failures
            found = None
            try:
                found = inspect_noise(noisy, A_FEW)
                told = found.verdict
            except ValueError as error:  # images too small to tell can be learned from all the same
                told = str(error)
            model = suited(asked.model, found, noise=self.noise, stride=self.stride)
            asked = replace(asked, model=replace(model, channels=noisy[0].shape[2]))
            where = str(Path(self.start).resolve()) if Path(self.start).is_file() else self.start
            asked, begun = runs.starting(asked, where, distils=bool(clean))
            told += f"\n{begun}" if begun else ""
            if model.stride > 1 and not self.teacher:
                told += f"\nlearning at a stride of {model.stride} pixels, denoising at one of {model.denoising_stride}"
            if is_main_process():
                report_failures(failures)
                print(describe_images(noisy), told, sep="\n", flush=True)
                if clean:
                    print("clean:", describe_clean(clean), flush=True)
            asked = replace(asked, files=_resolved(files), clean=_resolved(cleans), truth=_resolved(truths))
            stages = runs.start(asked, noisy, clean, self.output, truth=truth, device=self.device)
        if is_main_process():
            show_training(stages, self.output)
        else:
            for stage in stages:
                for _ in stage.progress:
                    pass
        return 1 if failures else 0

    def _asked(self) -> "RunConfig":
        """The run's configuration, checked, but for the files."""
        from dbsn.runs import RunConfig

        names = [each.name for each in fields(DistillConfig)]
        usual = Train(output=self.output)
        if not self.clean and (self.student, self.teacher) != (usual.student, usual.teacher):
            raise ValueError("--student... and --teacher are for stage 2: name clean images with --clean")
        place, colon, factory = self.student.network.rpartition(":")
        own = str(Path(place).resolve()) if place.endswith(".py") else place
        return RunConfig(
            files=(),
            model=ModelConfig(network=NETWORKS[self.network]).with_stride(1 if self.stride == "auto" else self.stride),
            train=TrainConfig(**asdict(self.settings)),
            student=f"{own}{colon}{factory}",
            distill=DistillConfig(**{name: getattr(self.student, name) for name in names}),
            teacher=_found(self.teacher),
            student_start=_found(self.student.start),
        )

    def _changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Training settings of both stages given beside --resume; the others are the run's."""
        usual = Train(output=self.output)
        names = ("noisy", "network", "noise", "stride", "start", "clean", "teacher", "truth")
        given = ["from" if name == "start" else name for name in names if getattr(self, name) != getattr(usual, name)]
        given += [
            f"student.{name}"
            for name in ("network", "start")
            if getattr(self.student, name) != getattr(usual.student, name)
        ]
        if given:
            raise ValueError(f"--resume: {', '.join(given)} cannot change in the middle of a run; leave it out")
        return _differing(self.settings, usual.settings), _differing(self.student, usual.student)


def _differing(asked: TrainConfig | DistillConfig, usual: TrainConfig | DistillConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(asked).items() if value != asdict(usual)[name]}


@dataclass(frozen=True, kw_only=True)
class Denoise:
    """Denoise image files; each result has its input's format, depth and size."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT")]
    """Image files, folders (searched with their sub-folders) or patterns."""
    model: Annotated[Path | None, tyro.conf.arg(aliases=["-m"])] = None
    """Model file (a run's model.safetensors), or the name of one that comes with dbsn (`dbsn models`); without it, the
    latter that is for such images."""
    output: Output = Path("denoised")
    """A folder; or, for a single input file, a file name."""
    tile: int | None = None
    """Side of a tile in pixels, by default 1024 for a U-Net, 768 for other networks; smaller needs less memory, 0
    takes each image whole."""
    method: Method = "auto"
    """student (fast), posterior (the blind-spot model's result, with its uncertainty), or auto: the student if the
    model has one."""
    ensemble: bool = False
    """Average over each image's eight flips and rotations: better (by 0.1 to 1 dB), and eight times as slow."""
    save_std: bool = False
    """Also write each pixel's standard deviation from the truth, as NAME_std.tif, of a Zarr as NAME_std.zarr (float32,
    in intensities)."""
    strength: float = 1.0
    """How much of the noise to take out: 0 none, 1 all; 1.3, if too much is left, takes the noise to be 1.3 times as
    large as measured (models that are told the level, as those that come with dbsn are)."""
    dtype: Literal["input", "uint8", "uint16", "float32"] = "input"
    """Kind of the samples that are written: the input's or another; float32 are its own numbers, not rounded (TIFF,
    Zarr)."""
    overwrite: bool = False
    """Replace results that exist. Without it, files whose results `denoise.csv` in the output folder knows are skipped,
    so that what was interrupted goes on."""
    device: Device = "auto"
    """Where to compute."""

    def run(self) -> int:
        """Denoise all; 0 if every file went through."""
        from dbsn.batch import How, denoise_files, goes_to_file, left, plan
        from dbsn.choice import Choice
        from dbsn.ledger import Ledger
        from dbsn.screen import show_files

        keep_freed_memory()
        jobs = plan(self.inputs, self.output, save_std=self.save_std)
        how = How(method=self.method, ensemble=self.ensemble, strength=self.strength, dtype=self.dtype, tile=self.tile)
        choice = Choice(self.model, device=self.device)
        if choice.given or self.method == "posterior" or self.strength > 1:
            for path in choice.files:  # now, so that what cannot be done is told before all files
                _check_can(choice.load(path), path, how, save_std=self.save_std)
        ledger = None if goes_to_file(self.output) else Ledger(self.output)
        settings = how.settings(choice)
        missing = jobs if self.overwrite else left(jobs, ledger, settings)
        if len(missing) < len(jobs):
            print(f"{len(jobs) - len(missing)} of {len(jobs)} results are there already; --overwrite makes them again")
        return show_files(denoise_files(choice, missing, how, ledger, settings), [job.source for job in missing])


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
    method: Method = "auto"
    """student, posterior, or auto: the student if the model has one; as `denoise --method`."""
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
        by_student = denoiser.picks_student(self.method)
        for score in evaluate(
            denoiser.student if by_student and denoiser.student else denoiser.model,
            self._pairs(failures),
            protocol=self.protocol,
            tile=self.tile,
            ensemble=self.ensemble,
            bf16=denoiser.bf16,
        ):
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
        from dbsn.evaluate import Pair, synthetic_noise, to_gray
        from dbsn.images import find_images, read_image
        from dbsn.noise import parse_noise
        from dbsn.picture import ImageError

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
        from dbsn.batch import left, plan_pairs, synthesize_files
        from dbsn.screen import show_files

        jobs = plan_pairs(self.inputs, self.output, float_tiff=self.float_tiff)
        jobs = jobs if self.overwrite else left(jobs, None)
        noise = _load(self.model, "cpu").noise_model_
        done = synthesize_files(noise, jobs, float_tiff=self.float_tiff, seed=self.seed)
        return show_files(done, [job.source for job in jobs])


@dataclass(frozen=True, kw_only=True)
class Inspect:
    """Say what noise images have, from the noisy images alone, and whether this method suits it."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Noisy image files, folders (searched with their sub-folders) or patterns."""
    json: bool = False
    """Print one JSON object."""
    picture: Path | None = None
    """Also draw the noise level at each intensity and the correlation with the neighbours (.png, .pdf, .svg)."""

    def run(self) -> int:
        """Inspect; 0 if every file could be read."""
        from dbsn.inspection import inspect_noise
        from dbsn.runs import load_folder
        from dbsn.screen import describe_images, draw_noise

        _, images, failures = load_folder(self.inputs)
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
class Info:
    """Say what a model file is."""

    model: Annotated[Path, tyro.conf.Positional]
    """Model file."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """Describe; always 0."""
        from dbsn.checkpoint import load_model

        saved = load_model(shipped.model_file(self.model))
        facts: dict[str, Any] = {}
        if saved.model:
            facts |= {"model": saved.model.config.to_dict(), "parameters": _parameters(saved.model)}
        if saved.student:
            facts |= {"student": saved.student.config.to_dict(), "student parameters": _parameters(saved.student)}
        if saved.noise:
            facts |= {"recording": asdict(saved.noise.recording), "noise of images": len(saved.noise.images)}
        if self.json:
            print(json.dumps(facts | {"about": saved.about}))
            return 0
        config = (saved.model or saved.student or saved.teacher).config
        kind = "gray" if config.channels == 1 else f"{config.channels}-channel"
        parts = [name for name, part in (("blind-spot denoiser", saved.model), ("student", saved.student)) if part]
        print(f"{self.model}: {kind} {' and its '.join(parts)}")
        if saved.model:
            print(f"  blind-spot   {asdict(saved.model.config.network)}, {facts['parameters']:,} parameters")
        if saved.student:
            print(f"  student      {asdict(saved.student.config.network)}, {facts['student parameters']:,} parameters")
        if saved.model:
            print(f"  noise        {saved.model.config.noise}{f'; {saved.noise}' if saved.noise else ''}")
        if saved.model and saved.model.config.stride > 1:
            strides = (
                f"learned at {saved.model.config.stride} pixels, denoising at {saved.model.config.denoising_stride}"
            )
            print(f"  stride       {strides}")
        print(f"  intensities  {config.offset - config.scale:.4g} to {config.offset + config.scale:.4g}")
        for name, value in saved.about.items():
            print(f"  {name:<12} {value}")
        return 0


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

    def run(self) -> int:
        """Report; 0 if every image could be read."""
        from dbsn.report import write_report

        output = self.output or self.run_folder / "report.html"
        failures = write_report(self.run_folder, output, self.images, device=self.device)
        report_failures(failures)
        print(output)
        return 1 if failures else 0


@dataclass(frozen=True, kw_only=True)
class Models:
    """List the models that come with dbsn: what for, trained on what, how good."""

    json: bool = False
    """Print one JSON object."""

    def run(self) -> int:
        """List; always 0."""
        every = {name: shipped.card(name) for name in shipped.names()}
        sizes = {name: shipped.path_of(name).stat().st_size for name in every}
        if self.json:
            files = {name: {"bytes": sizes[name], "sha256": shipped.sha256(name)} for name in every}
            print(json.dumps({name: asdict(card) | files[name] for name, card in every.items()}))
            return 0
        for name, card in every.items():
            print(f"{name}: {card.purpose}")
            facts = {"noise": card.noise, "trained on": card.data, "terms": card.terms, "made by": card.made_by}
            facts |= {"file": f"{sizes[name] / 1e6:.1f} MB, sha256 {shipped.sha256(name)}"}
            for what, said in (facts | card.measured).items():
                print(f"  {what:<12} {said}")
        return 0


def _parameters(module: "nn.Module") -> int:
    return sum(parameter.numel() for parameter in module.parameters())


Command = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Denoise, tyro.conf.subcommand("denoise")]
    | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    | Annotated[Synthesize, tyro.conf.subcommand("synthesize")]
    | Annotated[Inspect, tyro.conf.subcommand("inspect")]
    | Annotated[Report, tyro.conf.subcommand("report")]
    | Annotated[Info, tyro.conf.subcommand("info")]
    | Annotated[Models, tyro.conf.subcommand("models")]
)


def _check_can(denoiser: "Denoiser", path: Path, how: "How", *, save_std: bool) -> None:
    """Refuse what a model cannot do; ValueError names the flag, the file and the remedy."""
    if how.method == "posterior" and denoiser.saved.model is None:
        advice = "leave --method out, or name a model that `dbsn train` made: -m"
        raise ValueError(f"--method posterior: {path} holds a student alone; {advice}")
    by_student = denoiser.picks_student(how.method)
    if save_std and by_student and not denoiser.student_knows_std:
        raise ValueError("--save-std: this student does not know its uncertainty; add --method posterior")
    if how.strength > 1 and not (by_student and denoiser.student and denoiser.student.guided):
        told = "only models that are told the noise level (`dbsn models`, unet-guided) take out more than all"
        raise ValueError(f"--strength {how.strength:g}: {told}; not {path}")


def _key(path: Path, folder: Path) -> str:
    """What pairs a noisy with a clean file: the path below its folder, without suffix."""
    return (path.relative_to(folder) if folder.is_dir() else Path(path.name)).with_suffix("").as_posix()


def _found(model: Path | None) -> str | None:
    """Where a model file is, for a run that may go on elsewhere."""
    return str(shipped.model_file(model).resolve()) if model else None


def _resolved(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(file.resolve()) for file in files)


def report_failures(failures: list[str]) -> None:
    """A line on stderr for each file that failed."""
    for failure in failures:
        print(f"dbsn: {failure}", file=sys.stderr)


def _load(path: Path, device: str) -> "Denoiser":
    from dbsn.denoiser import Denoiser

    return Denoiser.load(shipped.model_file(path), device=device)


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
