"""Every choice that can be made, as frozen dataclasses that check themselves. Imports no torch.

A field's docstring is its documentation, its `--help` text and its unit. `NETWORKS` and `STUDENTS` hold the named
networks side by side. What is trained is described by `ModelConfig` and `StudentConfig`, which travel inside the model
file; how it is trained by `TrainConfig` and `DistillConfig`, which are kept in the run folder.
"""

import dataclasses
import math
import operator
from dataclasses import dataclass, field
from typing import Any, Literal

from dbsn import limits, schema

NoiseFamily = Literal["awgn", "hg", "mg", "any"]
Loss = Literal["envelope", "constrained", "marginal"]
MeanLoss = Literal["fusion", "l2", "likelihood"]
Baseline = Literal["n2c", "n2n"]
Auto = Literal["auto"]


_MOST_SHRUNK = 8
_MOST_BLUR = 8.0  # pixels
_MOST_DRAWN = 64
MODEL = "model.safetensors"
"""Name of the model file in a run's folder."""
BUILTIN, SCRATCH, NONE = "builtin", "scratch", "none"
"""What a network begins with, where that is no model file: the built-in model for such images, or random weights."""
AUTO: Auto = "auto"
DEFAULT_STUDENT = "unet"


def _require(holds: bool, what: str, got: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{what}: got {schema.shown(got)}, expected {expected}")


def _require_count(count: int, what: str, most: int, least: int = 1) -> None:
    _require(least <= count <= most, what, count, f"{least} to {most}")


def _require_stages(name: str, widths: tuple[int, ...], blocks: tuple[int, ...]) -> None:
    """Check the stages of a network: channels and blocks of each."""
    _require_count(len(widths), f"{name} stages", limits.MOST_STAGES)
    for width, count in zip(widths, blocks, strict=False):
        _require_count(width, f"{name} width", limits.WIDEST)
        _require_count(count, f"{name} blocks", limits.MOST_BLOCKS, 0)
    _require(len(blocks) == len(widths), f"{name} blocks", blocks, f"{len(widths)} numbers")


def _in_eights(widths: tuple[int, ...]) -> bool:
    return not any(width % 8 for width in widths)


_FORMER_SETTINGS = {"prediction_covariance": "full", "estimator_width": 32, "head_width": 32}
"""Constants of every blind-spot model, which earlier model files name."""
_EIGHTS = "multiples of 8, since it is symmetric"


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """A residual U-Net on the phases of an s x s grid (math.md, G1)."""

    kind: Literal["grid"] = "grid"
    """Distinguishes the network families in a model file."""
    spacing: int = 3
    """Grid spacing s in pixels; one pixel in s^2 is never looked at."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels at each resolution of the U-Net, finest first."""
    blocks: tuple[int, ...] = (1, 1, 2)
    """Residual blocks at each resolution (in the encoder, and again in the decoder, but for the last)."""
    symmetric: bool = False
    """Whether its mean of a flipped or turned image is its mean flipped or turned (G2)."""

    def __post_init__(self) -> None:
        _require_count(self.spacing, "grid spacing", limits.LARGEST_SPACING, 2)
        _require_stages("grid", self.widths, self.blocks)
        _require(not self.symmetric or _in_eights(self.widths), "grid widths", self.widths, _EIGHTS)


@dataclass(frozen=True, kw_only=True)
class DBSNConfig:
    """The paper's dilated blind-spot network (math.md, D1)."""

    kind: Literal["dbsn"] = "dbsn"
    """Distinguishes the network families in a model file."""
    width: int = 96
    """Channels of every layer."""
    modules: int = 8
    """Multi-dilated-convolution (MDC) modules in each of the two branches."""

    def __post_init__(self) -> None:
        _require_count(self.width, "D-BSN width", limits.WIDEST)
        _require_count(self.modules, "D-BSN modules", limits.MOST_BLOCKS)


NetworkConfig = GridConfig | DBSNConfig
NetworkName = Literal["grid", "grid-flat", "grid-small", "grid-tiny", "dbsn", "dbsn-small", "dbsn-tiny"]

NETWORKS: dict[str, NetworkConfig] = {
    "grid": GridConfig(),
    "grid-flat": GridConfig(widths=(128,), blocks=(4,), symmetric=True),
    "grid-small": GridConfig(widths=(48, 96), blocks=(2, 3)),
    "grid-tiny": GridConfig(widths=(16, 32), blocks=(1, 1)),
    "dbsn": DBSNConfig(),
    "dbsn-small": DBSNConfig(width=64, modules=3),
    "dbsn-tiny": DBSNConfig(width=16, modules=1),
}


@dataclass(frozen=True, kw_only=True)
class UNetConfig:
    """A plain residual U-Net at half resolution; `unet` sees 63 pixels in every direction, `unet-large` 135."""

    kind: Literal["unet"] = "unet"
    """Distinguishes the students in a model file."""
    widths: tuple[int, ...] = (64, 128)
    """Channels at each resolution, finest (two pixels) first."""
    blocks: tuple[int, ...] = (3, 4)
    """Residual blocks at each resolution (in the encoder, and again in the decoder, but for the last)."""
    guided: bool = False
    """Whether it is told the noise level beside the image (S6), for noise of any level."""
    symmetric: bool = False
    """Whether it answers a flipped or turned image with the flipped or turned answer (G2)."""

    def extends(self, other: "StudentNetwork") -> bool:
        """Whether it is another network with more residual blocks, or with coarser stages, or just the same."""
        if not isinstance(other, UNetConfig) or self.widths[: len(other.widths)] != other.widths:
            return False
        alike = dataclasses.replace(self, widths=other.widths, blocks=other.blocks) == other
        told_alike = not self.guided or self.widths == other.widths  # the level of larger cells is another
        return alike and told_alike and all(map(operator.ge, self.blocks, other.blocks))

    def __post_init__(self) -> None:
        _require_stages("U-Net", self.widths, self.blocks)
        _require(not self.symmetric or _in_eights(self.widths), "U-Net widths", self.widths, _EIGHTS)


@dataclass(frozen=True, kw_only=True)
class MWCNNConfig:
    """The paper's student: a multi-level wavelet network (Liu et al. 2018)."""

    kind: Literal["mwcnn"] = "mwcnn"
    """Distinguishes the students in a model file."""
    widths: tuple[int, ...] = (160, 256, 256)
    """Channels at each wavelet level, finest first."""
    depth: int = 4
    """Convolutions at each level, downwards and again upwards."""

    def __post_init__(self) -> None:
        _require_count(self.depth, "MWCNN depth", limits.MOST_BLOCKS, 2)
        _require_stages("MWCNN", self.widths, (self.depth,) * len(self.widths))


@dataclass(frozen=True, kw_only=True)
class DnCNNConfig:
    """A plain stack of 3x3 convolutions that predicts the noise (Zhang et al. 2017), without normalisation."""

    kind: Literal["dncnn"] = "dncnn"
    """Distinguishes the students in a model file."""
    width: int = 64
    """Channels of every layer."""
    depth: int = 17
    """Convolutions."""

    def __post_init__(self) -> None:
        _require_count(self.width, "DnCNN width", limits.WIDEST)
        _require_count(self.depth, "DnCNN depth", limits.MOST_BLOCKS, 2)


@dataclass(frozen=True, kw_only=True)
class ModuleConfig:
    """A network of the user's own: whatever a factory returns that maps (b, c, h, w) to (b, c, h, w)."""

    kind: Literal["module"] = "module"
    """Distinguishes the students in a model file."""
    factory: str
    """package.module:factory, or path/to/file.py:factory; called with the number of channels. What it returns may have
    attributes `multiple` (sides must be multiples of this; by default 1) and `receptive_radius` (how many pixels away
    it sees, which is what tiles overlap by; by default 64)."""

    def __post_init__(self) -> None:
        place, _, name = self.factory.rpartition(":")
        _require(bool(place and name), "student", self.factory, "package.module:factory")


StudentNetwork = UNetConfig | MWCNNConfig | DnCNNConfig | ModuleConfig

STUDENTS: dict[str, StudentNetwork] = {
    "unet": UNetConfig(),
    "unet-guided": UNetConfig(guided=True),
    "unet-symmetric": UNetConfig(symmetric=True),
    "unet-large": UNetConfig(widths=(64, 128, 256), blocks=(3, 4, 2), symmetric=True),
    "unet-fast": UNetConfig(widths=(64, 128, 256), blocks=(2, 3, 2), guided=True, symmetric=True),
    "unet-fast-unguided": UNetConfig(widths=(64, 128, 256), blocks=(2, 3, 2), symmetric=True),
    "unet-tiny": UNetConfig(widths=(16, 32), blocks=(1, 1)),
    "mwcnn": MWCNNConfig(),
    "dncnn": DnCNNConfig(),
}


def student_network(name: str) -> StudentNetwork:
    """The student of this name, or the user's own for `package.module:factory`.

    Raises:
        ValueError: There is none of this name.
    """
    if ":" in name:
        return ModuleConfig(factory=name)
    _require(name in STUDENTS, "student", name, f"one of {', '.join(STUDENTS)}, or package.module:factory")
    return STUDENTS[name]


@dataclass(frozen=True, kw_only=True)
class _OfImages:
    """The images that a network is for."""

    channels: int = 1
    """Colour channels of the images: 1 (gray) or 3."""
    offset: float = 0.5
    """Intensity that the network sees as 0."""
    scale: float = 0.5
    """Intensity range that the network sees as 1: network units = (intensity - offset) / scale."""
    stretches: bool = False
    """Whether an image in counts, dark, or of little contrast is shown to the network stretched from black to white, as
    it knows photographs; intensities come back as they were."""

    def __post_init__(self) -> None:
        _require_count(self.channels, "channels", limits.MOST_CHANNELS)
        _require(0 < self.scale < math.inf, "scale", self.scale, "a positive number")
        _require(math.isfinite(self.offset), "offset", self.offset, "a number")

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings and lists, for a file's header."""
        return dataclasses.asdict(self)


@dataclass(frozen=True, kw_only=True)
class ModelConfig(_OfImages):
    """What a model is: everything that inference needs besides the weights."""

    network: NetworkConfig = field(default_factory=GridConfig)
    """The blind-spot network."""
    noise: NoiseFamily = "any"
    """Form of the noise: awgn (one level an image), hg (a level for each intensity, channels independent),
    mg (one channel covariance an image), any (a channel covariance for each intensity)."""
    stride: int = 1
    """Distance in pixels at which noise counts as independent: the model is learned from images of every such pixel."""
    denoising_stride: int = 1
    """The same for images to be denoised; smaller keeps more detail and more of the noise that is correlated."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require_count(self.stride, "--stride", limits.LARGEST_STRIDE)
        possible = 1 <= self.denoising_stride <= self.stride
        _require(possible, "denoising stride", self.denoising_stride, f"1 to the stride of {self.stride}")

    def is_like(self, other: "ModelConfig") -> bool:
        """Whether its blind-spot network is that of another, for whichever intensities, stride and form of noise."""
        names = ("offset", "scale", "stretches", "stride", "denoising_stride", "noise")
        elsewhere = {name: getattr(self, name) for name in names}
        return dataclasses.replace(other, **elsewhere) == self

    def with_stride(self, stride: int) -> "ModelConfig":
        """The same, learned at a stride and denoising at half of it."""
        return dataclasses.replace(self, stride=stride, denoising_stride=max(1, stride // 2))

    @staticmethod
    def from_dict(values: object) -> "ModelConfig":
        """The inverse of `to_dict`; ValueError names what is unknown, missing or wrong."""
        if isinstance(values, dict):
            for name, constant in _FORMER_SETTINGS.items():
                got = values.get(name, constant)
                _require(got == constant, name.replace("_", " "), got, f"{constant!r}, as in every model of dbsn")
            values = {name: value for name, value in values.items() if name not in _FORMER_SETTINGS}
        return schema.build(ModelConfig, values, "model")


@dataclass(frozen=True, kw_only=True)
class StudentConfig(_OfImages):
    """What a student is: everything that inference needs besides the weights."""

    network: StudentNetwork = field(default_factory=UNetConfig)
    """The network."""
    uncertainty: bool = True
    """Whether a small network beside it says how far its result is from the truth."""

    @staticmethod
    def from_dict(values: object) -> "StudentConfig":
        """The inverse of `to_dict`; ValueError names what is unknown, missing or wrong."""
        if isinstance(values, dict):
            values = {"uncertainty": False, **values}  # files from before there was one
        return schema.build(StudentConfig, values, "student")


@dataclass(frozen=True, kw_only=True)
class Budget:
    """The length of a training; whichever of steps and minutes is nearer to its end counts."""

    steps: int | None = 4000
    """Length of the training in steps."""
    minutes: float | None = None
    """Upper limit of the training in minutes (wall clock). Default: none."""

    def __post_init__(self) -> None:
        _require(self.steps is not None or self.minutes is not None, "budget", None, "--minutes or --steps")
        _require(self.steps is None or self.steps > 0, "--steps", self.steps, "a positive number")
        _require(self.minutes is None or self.minutes > 0, "--minutes", self.minutes, "a positive number")

    def share(self, steps: int, seconds: float) -> float:
        """Share of it that is spent; above 1 if it has been cut since."""
        of_steps = steps / self.steps if self.steps is not None else 0.0
        of_minutes = seconds / (60 * self.minutes) if self.minutes is not None else 0.0
        return max(of_steps, of_minutes)

    def duration(self, steps: int, seconds: float, seconds_per_step: float) -> str:
        """Say how long the whole training takes, or how many steps fit, after these steps and seconds."""
        each = seconds_per_step / 60
        if self.steps is not None and (self.minutes is None or each * self.steps <= self.minutes):
            return f"{self.steps} steps take about {each * self.steps:.1f} minutes on this machine."
        assert self.minutes is not None
        fitting = steps + (self.minutes - seconds / 60) / each
        of_all = "" if self.steps is None else f" of {self.steps}"
        return f"About {max(fitting, steps):.0f}{of_all} steps fit into {self.minutes:g} minutes on this machine."


@dataclass(frozen=True, kw_only=True)
class Training(Budget):
    """What every training has. The learning rate follows the share of the budget that is spent."""

    batch: int = 24
    """Patches per step."""
    patch: int = 96
    """Side of a patch in pixels."""
    learning_rate: float = 1e-3
    """Highest learning rate, reached after the warm-up."""
    warmup: float = 0.02
    """Share of the training in which the learning rate rises from 0."""
    ema: float = 0.999
    """Decay of the running average of the weights. This average is validated and saved."""
    clip: float = 1.0
    """Largest gradient norm. Longer gradients are shortened to it."""
    validations: int = 20
    """How many times the training is checked on held-out images."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the convolutions. auto: bf16 where the device is faster with it, else fp32."""
    seed: int = 0
    """Seed of all random numbers."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(self.batch > 0, "--batch", self.batch, "a positive number")
        _require(self.patch >= 8, "--patch", self.patch, "8 or more")
        pixels, most = self.batch * self.patch**2, limits.LARGEST_STEP
        _require(pixels <= most, "--batch, --patch", pixels, f"at most {most} pixels a step")
        _require(self.learning_rate > 0, "--learning-rate", self.learning_rate, "a positive number")
        _require(0 <= self.warmup < 1, "--warmup", self.warmup, "a share from 0 to below 1")
        _require(0 <= self.ema < 1, "--ema", self.ema, "0 to below 1")
        _require(self.clip > 0, "--clip", self.clip, "a positive number")
        _require(self.seed >= 0, "--seed", self.seed, "0 or more")
        _require(self.validations > 0, "--validations", self.validations, "a positive number")


@dataclass(frozen=True, kw_only=True)
class TrainConfig(Training):
    """How a blind-spot model is trained (stage 1)."""

    loss: Loss = "envelope"
    """How noise is told from prediction error: envelope (lower envelope of the total variance), constrained (the
    paper's likelihood) or marginal."""
    mean: MeanLoss = "fusion"
    """What the blind mean minimises: l2 (squared error), fusion (that error, weighted by what fusion leaves) or
    likelihood."""
    quantile: float = 0.1
    """Share of an image's pixels, the flattest, whose residual counts as pure noise."""
    staged: float = 0.3
    """Share of the training (at least 0.1) in which the blind mean minimises squared error, whatever --mean is."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 < self.quantile < 0.5, "--quantile", self.quantile, "a share between 0 and 0.5")
        _require(0 <= self.staged <= 1, "--staged", self.staged, "a share from 0 to 1")


@dataclass(frozen=True, kw_only=True)
class DistillConfig(Training):
    """How a student is trained (stage 2)."""

    steps: int | None = 3000
    """Length of the training in steps."""
    batch: int = 16
    """Patches per step."""
    noisy_share: float = 0.125
    """Share of a batch from set 1 (noisy images with the teacher's results). The rest is set 2 (clean images with
    learned noise)."""
    noisy_weight: float = 0.1
    """Weight of set 1 in the loss. The weight of set 2 is 1."""
    jitter: float = 0.1
    """Largest random change of a patch's noise level, as a share of the learned level."""
    shrink: float = 1.0
    """Shrink each clean patch by a random factor from 1 to this. Raise it for large, soft photographs."""
    enlarge: float = 1.0
    """Enlarge clean patches by up to this factor. Raise it if your images are softer than the clean ones."""
    blur: float = 0.0
    """Blur half of the clean patches by up to so many pixels (standard deviation)."""
    busiest_of: int = 1
    """Draw this many random clean patches and keep the most detailed one. Noise in a clean image counts as detail."""
    noise: str | None = None
    """Noise on the clean images instead of the learned one: awgn:25, hg:40,10, pg:2,10, mg:75. Another for each patch:
    any:60, jpeg:25, file:60, camera."""
    baseline: Baseline | None = None
    """Learn from synthetic pairs alone, for comparison: n2c (target clean) or n2n (target another noisy copy). Needs
    --student.noise."""
    uncertainty_alone: bool = False
    """Train only the uncertainty of the student in --student.start. Its results stay the same. A few minutes do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _require(0 <= self.noisy_share <= 1, "--student.noisy-share", self.noisy_share, "a share from 0 to 1")
        _require(self.noisy_weight >= 0, "--student.noisy-weight", self.noisy_weight, "0 or more")
        _require(0 <= self.jitter < 1, "--student.jitter", self.jitter, "a share from 0 to below 1")
        _require(1 <= self.shrink <= _MOST_SHRUNK, "--student.shrink", self.shrink, f"1 to {_MOST_SHRUNK}")
        _require(1 <= self.enlarge <= _MOST_SHRUNK, "--student.enlarge", self.enlarge, f"1 to {_MOST_SHRUNK}")
        _require(0 <= self.blur <= _MOST_BLUR, "--student.blur", self.blur, f"0 to {_MOST_BLUR}")
        _require(1 <= self.busiest_of <= _MOST_DRAWN, "--student.busiest-of", self.busiest_of, f"1 to {_MOST_DRAWN}")
        noise_given = self.baseline is None or self.noise is not None
        _require(noise_given, "--student.baseline", self.baseline, "--student.noise beside it")
        if self.uncertainty_alone and self.baseline == "n2n":
            raise ValueError("--student.uncertainty-alone: needs the truth, which --student.baseline n2n never sees")
