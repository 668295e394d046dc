"""`dbsn train`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from dbsn.cli.options import Axes, Device, Output, Threads, report_failures
from dbsn.config import NETWORKS, Auto, DistillConfig, ModelConfig, NetworkName, NoiseFamily, TrainConfig
from dbsn.store import builtin

if TYPE_CHECKING:
    from dbsn.training.run_config import RunConfig


class TrainFlags(TrainConfig):
    """`TrainConfig` as typed; checked when the command runs, so that a mistake is one line."""

    def __post_init__(self) -> None:
        """Leave the checks to `TrainConfig`."""


@dataclass(frozen=True, kw_only=True)
class StudentFlags(DistillConfig):
    """`DistillConfig` as typed, and which student."""

    network: str = "auto"
    """unet, unet-guided (is told the noise level), unet-symmetric (answers turned images with turned answers: learns
    faster from nothing), unet-large (the same and a coarser stage: for trainings of an hour), mwcnn (the paper's),
    dncnn; auto: as what it starts from; or package.module:factory or path/to/file.py:factory, a function from the
    number of channels to a network of your own that maps (b, c, h, w) to (b, c, h, w)."""
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
    """Blind-spot network. grid-flat learns twice as fast from nothing and is slower to apply; nothing that comes with
    dbsn is of its kind to start from."""
    noise: NoiseFamily | Auto = "any"
    """Form of the noise: awgn (one level an image), hg (a level for each intensity, Poisson-Gaussian included), mg (a
    channel covariance an image), any (a channel covariance for each intensity), or auto: what `dbsn inspect` finds."""
    stride: int | Auto = "auto"
    """Distance in pixels at which noise counts as independent. Noise that neighbours share, as in camera JPEGs, is
    learned from images of every such pixel, and taken out at half the distance. auto: what `dbsn inspect` finds, 1 if
    noise is independent from pixel to pixel."""
    start: Annotated[str, tyro.conf.arg(name="from")] = "shipped"
    """What to start from: shipped (what comes with dbsn for such images: a student, and a blind-spot model where there
    is one of this --network), a model file, or scratch."""
    axes: Axes = None
    resume: bool = False
    """Go on with the run in --output as it was started; only budget, learning rate and precision may change. NOISY and
    --clean need not be named again."""
    device: Device = "auto"
    """Where to compute."""
    threads: Threads = None
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
        from dbsn.cli.display import describe_clean, describe_images, show_training
        from dbsn.io.folders import load_folder
        from dbsn.training.loop import is_main_process
        from dbsn.training.run import check_free, go_on, prepare, start

        failures: list[str] = []
        if self.resume:
            stages = go_on(self.output, *self._changes(), device=self.device)
        else:
            if not self.noisy:
                raise ValueError("NOISY: name the noisy images (files or folders) to learn from")
            check_free(self.output)
            asked = self._asked()
            files, noisy, failures = load_folder(self.noisy, axes=self.axes)
            cleans, clean, clean_failures = load_folder(self.clean, mixed=True) if self.clean else ([], [], [])
            truths, truth, truth_failures = load_folder(self.truth, axes=self.axes) if self.truth else ([], [], [])
            if truths and failures + truth_failures:
                raise ValueError("--truth: needs every image of both kinds: " + "; ".join(failures + truth_failures))
            failures += clean_failures
            origin = builtin.find_model(Path(self.start))
            is_named = origin.parent == builtin.WEIGHTS or not origin.is_file()
            where = self.start if is_named else str(origin.resolve())
            asked, told = prepare(
                asked, noisy, noise=self.noise, stride=self.stride, init_from=where, distils=bool(clean)
            )
            model = asked.model
            if model.stride > 1 and not self.teacher:
                told += f"\nlearning at a stride of {model.stride} pixels, denoising at one of {model.denoising_stride}"
            if is_main_process():
                report_failures(failures)
                print(describe_images(noisy), told, sep="\n", flush=True)
                if clean:
                    print("clean:", describe_clean(clean, cleans, noisy[0].shape[2]), flush=True)
            asked = replace(asked, files=_resolved(files), clean=_resolved(cleans), truth=_resolved(truths))
            stages = start(asked, noisy, clean, self.output, truth=truth, device=self.device)
        if is_main_process():
            show_training(stages, self.output)
        else:
            for stage in stages:
                for _ in stage.progress:
                    pass
        if failures and is_main_process():
            report_failures([f"{len(failures)} files could not be read and were left out; they are named above"])
        return 1 if failures else 0

    def _asked(self) -> "RunConfig":
        """The run's configuration, checked, but for the files."""
        from dbsn.training.run_config import RunConfig

        names = [each.name for each in fields(DistillConfig)]
        usual = Train(output=self.output)
        if not self.clean and (self.student, self.teacher) != (usual.student, usual.teacher):
            raise ValueError("--student... and --teacher are for stage 2: name clean images with --clean")
        if self.truth and (self.teacher or self.settings.loss != usual.settings.loss):
            other = "--teacher takes the place of stage 1" if self.teacher else "--loss is for learning without it"
            raise ValueError(f"--truth: {other}; leave one of them out")
        place, colon, factory = self.student.network.rpartition(":")
        own = str(Path(place).resolve()) if place.endswith(".py") else place
        return RunConfig(
            files=(),
            model=ModelConfig(network=NETWORKS[self.network]).with_stride(1 if self.stride == "auto" else self.stride),
            train=TrainConfig(**asdict(self.settings)),
            student=f"{own}{colon}{factory}",
            distill=DistillConfig(**{name: getattr(self.student, name) for name in names}),
            teacher=_found(self.teacher),
            student_init_from=_found(self.student.start),
            axes=self.axes.upper() if self.axes else None,
        )

    def _changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Training settings of both stages given beside --resume; the others are the run's."""
        usual = Train(output=self.output)
        names = ("noisy", "network", "noise", "stride", "start", "axes", "clean", "teacher", "truth")
        given = ["from" if name == "start" else name for name in names if getattr(self, name) != getattr(usual, name)]
        given = [name for name in given if not (name in ("noisy", "clean", "axes") and self._is_the_runs(name))]
        given += [
            f"student.{name}"
            for name in ("network", "start")
            if getattr(self.student, name) != getattr(usual.student, name)
        ]
        if given:
            told = f"--resume: {', '.join(given)} cannot change in the middle of a run; leave it out"
            if "clean" in given:
                told += f". A student of this run: dbsn train NOISY --clean CLEAN --teacher {self.output} -o ANOTHER"
            raise ValueError(told)
        return _differing(self.settings, usual.settings), _differing(self.student, usual.student)

    def _is_the_runs(self, name: str) -> bool:
        """Whether what is given beside --resume, files or axes, is what the run has begun with."""
        from dbsn.io.folders import find_images, load_folder
        from dbsn.training.run_config import saved_config

        run = saved_config(self.output)
        if name == "axes":
            return self.axes is not None and self.axes.upper() == run.axes
        begun = set({"noisy": run.files, "clean": run.clean}[name])
        given = set(_resolved(find_images(getattr(self, name))))
        try:  # what could not be read then was left out
            return begun <= given and (given == begun or not load_folder([Path(file) for file in given - begun])[0])
        except ValueError:
            return True


def _differing(asked: TrainConfig | DistillConfig, usual: TrainConfig | DistillConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(asked).items() if value != asdict(usual)[name]}


def _found(model: Path | None) -> str | None:
    """Where a model file is, for a run that may go on elsewhere."""
    return str(builtin.find_model(model).resolve()) if model else None


def _resolved(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(file.absolute()) for file in files)  # links stay: several may lead to one file
