"""`dbsn train`."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, NamedTuple

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import Axes, Device, Output, Quiet, Threads, check_device, find_model, note, report_failures
from dbsn.config import (
    BUILTIN,
    NETWORKS,
    NONE,
    SCRATCH,
    Auto,
    DistillConfig,
    ModelConfig,
    NetworkName,
    NoiseFamily,
    TrainConfig,
)
from dbsn.store import builtin

if TYPE_CHECKING:
    import numpy as np

    from dbsn.training.run_config import RunConfig


class TrainFlags(TrainConfig):
    """`TrainConfig` as typed; checked when the command runs, so that a mistake is one line."""

    def __post_init__(self) -> None:
        """Leave the checks to `TrainConfig`."""


@dataclass(frozen=True, kw_only=True)
class StudentFlags(DistillConfig):
    """`DistillConfig` as typed, and which student."""

    network: str = "auto"
    """unet, unet-guided, unet-symmetric, unet-large, mwcnn, dncnn, your own (package.module:factory or file.py:factory)
    or auto: that of --from."""
    start: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """Initial weights of the student: a model file or built-in model. Default: those of --from, if the network is
    auto."""

    def __post_init__(self) -> None:
        """Leave the checks to `DistillConfig`."""


class _Images(NamedTuple):
    """What a run learns from, (h, w, c) each."""

    noisy: "list[np.ndarray]"
    clean: "list[np.ndarray]"
    truth: "list[np.ndarray]"


@dataclass(frozen=True, kw_only=True)
class Train:
    """Train a denoiser on noisy images, then a fast student of it. At the end compare it with the built-in models."""

    layout: ClassVar[Layout] = Layout(
        examples=(
            "dbsn train my_noisy_images -o runs/mine",
            "dbsn train my_noisy_images --clean my_clean_photos -o runs/mine",
        ),
        usual=("--output", "--clean", "--steps", "--minutes", "--from", "--resume", "--noise", "--dry-run", "--device"),
        more={
            "what is printed": ("--quiet", "--verbose"),
            "how it is computed": ("--threads",),
            "images": ("--axes", "--truth"),
            "stage 1, the blind-spot model": (
                "--network", "--stride", "--batch", "--patch", "--learning-rate", "--validations",
                "--precision", "--seed", "--loss", "--mean", "--quantile", "--staged", "--warmup", "--ema", "--clip",
            ),
            "stage 2, the student": ("--teacher", "--student.*"),
        },
    )  # fmt: skip
    noisy: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="NOISY")] = ()
    """Noisy image files, folders (searched with their sub-folders) or patterns. Not needed with --resume."""
    output: Output
    """Folder of the run: model.safetensors, checkpoint, configuration, metrics, preview."""
    network: NetworkName = "grid"
    """Blind-spot network. grid-flat learns faster from random weights, but denoises slower. Only grid has built-in
    weights."""
    noise: NoiseFamily | Auto = "any"
    """Form of the noise: awgn (one level), hg (level by intensity), mg (covariance of channels), any (mg by intensity),
    auto (measured)."""
    stride: int | Auto = "auto"
    """Distance in pixels at which noise counts as independent. Raise it for correlated noise. auto: as measured."""
    start: Annotated[str, tyro.conf.arg(name="from", metavar="MODEL")] = BUILTIN
    """Initial weights: the name of a built-in model, a model file, `scratch` (random), or `builtin`: the built-in
    model that fits."""
    axes: Axes = None
    resume: bool = False
    """Continue the run in --output. Only budget, learning rate and precision may change."""
    dry_run: bool = False
    """Print what was found in the images and the configuration of the run (as JSON). Write nothing."""
    device: Device = "auto"
    threads: Threads = None
    quiet: Quiet = False
    verbose: Annotated[bool, tyro.conf.arg(aliases=["-v"])] = False
    """Also print the configuration of the run before it starts."""
    settings: tyro.conf.OmitArgPrefixes[TrainFlags] = field(default_factory=TrainFlags)
    clean: tuple[Path, ...] = (Path(BUILTIN),)
    """Clean images of anything for the student (files, folders or patterns). `builtin`: photographs that come with
    dbsn. `none`: no student."""
    teacher: Annotated[Path | None, tyro.conf.arg(metavar="MODEL")] = None
    """Model file, run folder or built-in model whose blind-spot model replaces stage 1."""
    truth: tuple[Path, ...] = ()
    """The noisy images without their noise, in the same order. Stage 1 then learns from them, too."""
    student: StudentFlags = field(default_factory=StudentFlags)

    def run(self) -> int:
        """Train; 0 if every input file could be read."""
        from dbsn.cli.display import show_training
        from dbsn.training.loop import is_main_process
        from dbsn.training.run import go_on, start

        check_device(self.device)
        failures: list[str] = []
        if self.resume:
            if self.dry_run:
                raise ValueError(
                    f"--dry-run: not with --resume. The run's configuration is in {self.output}/config.json."
                )
            stages = go_on(self.output, *self._changes(), device=self.device, trust=self._student_name())
        else:
            asked, images, failures = self._prepared()
            if self.dry_run or self.verbose:
                print(asked.to_json(), end="", file=sys.stdout if self.dry_run else sys.stderr)
            if self.dry_run:
                return 1 if failures else 0
            stages = start(asked, images.noisy, images.clean, self.output, truth=images.truth, device=self.device)
        if is_main_process():
            show_training(stages, self.output, quiet=self.quiet)
        else:
            for stage in stages:
                for _ in stage.progress:
                    pass
        if failures and is_main_process():
            report_failures([f"{len(failures)} files could not be read and were left out. They are named above."])
        return 1 if failures else 0

    def _prepared(self) -> "tuple[RunConfig, _Images, list[str]]":
        """The resolved configuration, the images, and a line for each file that cannot be read."""
        from dbsn.cli.display import describe_clean, describe_images
        from dbsn.io.folders import load_folder
        from dbsn.training.loop import is_main_process
        from dbsn.training.run import check_free, prepare
        from dbsn.training.selfsupervised import check_truth

        if not self.noisy:
            raise ValueError("NOISY: missing. Name the noisy images (files or folders) to learn from.")
        check_free(self.output)
        asked = self._asked()
        files, noisy, failures = load_folder(self.noisy, axes=self.axes)
        self._check_teacher(noisy[0].shape[2])
        paths = self._clean_paths(noisy[0].shape[2])
        cleans, clean, clean_failures = load_folder(paths, mixed=True) if paths else ([], [], [])
        truths, truth, truth_failures = load_folder(self.truth, axes=self.axes) if self.truth else ([], [], [])
        if truths and failures + truth_failures:
            raise ValueError("--truth: needs every image of both kinds: " + "; ".join(failures + truth_failures))
        check_truth(truth, noisy)
        failures += clean_failures
        asked, said = prepare(
            asked, noisy, noise=self.noise, stride=self.stride, init_from=self._init_from(), distils=bool(clean)
        )
        model = asked.model
        if model.stride > 1 and not self.teacher:
            said += f"\nlearning at a stride of {model.stride} pixels, denoising at one of {model.denoising_stride}"
        if is_main_process():
            report_failures(failures)
            note(f"{describe_images(noisy)}\n{said}", quiet=self.quiet)
            if clean:
                note(f"clean: {describe_clean(clean, cleans, noisy[0].shape[2])}", quiet=self.quiet)
        known = (BUILTIN,) if clean and self.clean == (Path(BUILTIN),) else _resolved(cleans)
        asked = replace(asked, files=_resolved(files), clean=known, truth=_resolved(truths))
        return asked, _Images(noisy, clean, truth), failures

    def _clean_paths(self, channels: int) -> list[Path]:
        """Where the clean images are; none for images of channels that no photograph has, unless they were named."""
        if self.clean == (Path(BUILTIN),) and channels not in (1, 3):
            note(
                f"images of {channels} channels: no built-in photograph has them, so there is no student. Name --clean."
            )
            return []
        return builtin.clean_paths(self.clean)

    def _init_from(self) -> str:
        """What to start from, as the run's configuration keeps it."""
        origin = builtin.find_model(Path(self.start))
        is_named = origin.parent == builtin.WEIGHTS or not origin.is_file()
        if self.start not in (BUILTIN, SCRATCH):
            find_model(Path(self.start), "--from")
        return self.start if is_named else str(origin.resolve())

    def _check_teacher(self, channels: int) -> None:
        """Refuse a teacher for other images, before they are inspected."""
        from dbsn.store.model_file import load_model

        model = load_model(find_model(self.teacher, "--teacher")).model if self.teacher else None
        if self.teacher and not model:
            raise ValueError(f"--teacher {self.teacher}: holds only a student, no blind-spot model. Leave it out.")
        if model and model.config.channels != channels:
            kinds = {1: "gray", 3: "colour"}
            for_, are = (kinds.get(count, f"{count}-channel") for count in (model.config.channels, channels))
            raise ValueError(
                f"--teacher {self.teacher}: is for {for_} images, and these are {are} images. Leave it out."
            )

    def _asked(self) -> "RunConfig":
        """The run's configuration, checked, but for the files."""
        from dbsn.training.run_config import RunConfig

        names = [each.name for each in fields(DistillConfig)]
        usual = Train(output=self.output)
        if not builtin.clean_paths(self.clean) and (self.student, self.teacher) != (usual.student, usual.teacher):
            raise ValueError("--student.*, --teacher: only for stage 2, which needs clean images. Omit --clean none.")
        if self.truth and (self.teacher or self.settings.loss != usual.settings.loss):
            other = "--teacher replaces stage 1" if self.teacher else "--loss is for training without truth"
            raise ValueError(f"--truth: {other}. Leave one of them out.")
        return RunConfig(
            files=(),
            model=ModelConfig(network=NETWORKS[self.network]).with_stride(1 if self.stride == "auto" else self.stride),
            train=TrainConfig(**asdict(self.settings)),
            student=self._student_name(),
            distill=DistillConfig(**{name: getattr(self.student, name) for name in names} | self._budget()),
            teacher=_found(self.teacher, "--teacher"),
            student_init_from=_found(self.student.start, "--student.start"),
            axes=self.axes.upper() if self.axes else None,
        )

    def _budget(self) -> dict[str, Any]:
        """The student's length: that of stage 1, where only that is given."""
        usual, own = Train(output=self.output), self.student
        if (own.steps, own.minutes) != (usual.student.steps, usual.student.minutes):
            return {}
        given = {name: getattr(self.settings, name) for name in ("steps", "minutes")}
        return {name: value for name, value in given.items() if value != getattr(usual.settings, name)}

    def _student_name(self) -> str:
        """The student that was named; code by the whole path of its file."""
        place, colon, factory = self.student.network.rpartition(":")
        return f"{Path(place).resolve() if place.endswith('.py') else place}{colon}{factory}"

    def _changes(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Training settings of both stages given beside --resume; the others are the run's."""
        from dbsn.training.run_config import saved_config

        usual = Train(output=self.output)
        names = ("noisy", "network", "noise", "stride", "start", "axes", "clean", "teacher", "truth")
        given = ["from" if name == "start" else name for name in names if getattr(self, name) != getattr(usual, name)]
        given = [name for name in given if not (name in ("noisy", "clean", "axes") and self._is_the_runs(name))]
        given += [
            f"student.{name}"
            for name in ("network", "start")
            if getattr(self.student, name) != getattr(usual.student, name)
            and not (name == "network" and self._student_name() == saved_config(self.output).student)
        ]
        if given:
            flags = ", ".join("NOISY" if name == "noisy" else f"--{name}" for name in given)
            said = f"--resume: {flags} cannot change in the middle of a run. Leave it out."
            if "clean" in given:
                said += (
                    f" To train a student of this run: dbsn train NOISY --clean CLEAN --teacher {self.output} -o NEW"
                )
            raise ValueError(said)
        student = replace(self.student, network=usual.student.network)
        return _differing(self.settings, usual.settings), _differing(student, usual.student)

    def _is_the_runs(self, name: str) -> bool:
        """Whether what is given beside --resume, files or axes, is what the run has begun with."""
        from dbsn.io.folders import find_images, load_folder
        from dbsn.training.run_config import saved_config

        run = saved_config(self.output)
        if name == "axes":
            return self.axes is not None and self.axes.upper() == run.axes
        if name == "clean" and run.clean in ((), (BUILTIN,)):
            return tuple(map(str, self.clean)) == (run.clean or (NONE,))
        begun = set({"noisy": run.files, "clean": run.clean}[name])
        given = set(_resolved(find_images(getattr(self, name))))
        try:  # what could not be read then was left out
            return begun <= given and (given == begun or not load_folder([Path(file) for file in given - begun])[0])
        except ValueError:
            return True


def _differing(asked: TrainConfig | DistillConfig, usual: TrainConfig | DistillConfig) -> dict[str, Any]:
    return {name: value for name, value in asdict(asked).items() if value != asdict(usual)[name]}


def _found(model: Path | None, flag: str) -> str | None:
    """Where a model file is, for a run that may go on elsewhere."""
    return str(find_model(model, flag).resolve()) if model else None


def _resolved(files: Sequence[Path]) -> tuple[str, ...]:
    return tuple(str(file.absolute()) for file in files)  # links stay: several may lead to one file
