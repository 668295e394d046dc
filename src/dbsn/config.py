"""Every choice that can be made, as frozen dataclasses that check themselves. Imports no torch.

A field's docstring is its documentation, its `--help` text and its unit. `NETWORKS` holds the named networks side by
side. What is trained is described by `ModelConfig`, which travels inside the model file; how it is trained by
`TrainConfig`, which is kept in the run folder.
"""

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

NoiseFamily = Literal["awgn", "hg", "mg", "any"]
Loss = Literal["envelope", "constrained", "marginal"]
MeanLoss = Literal["fusion", "l2", "likelihood"]


def _require(holds: bool, what: str, got: object, expected: str) -> None:
    if not holds:
        raise ValueError(f"{what}: got {got!r}, expected {expected}")


@dataclass(frozen=True, kw_only=True)
class GridConfig:
    """A residual U-Net on the phases of an s x s grid (docs/math.md, G1)."""

    kind: Literal["grid"] = "grid"
    """Distinguishes the network families in a model file."""
    spacing: int = 3
    """Grid spacing s in pixels; one pixel in s^2 is never looked at."""
    widths: tuple[int, ...] = (64, 128, 256)
    """Channels at each resolution of the U-Net, finest first."""
    blocks: tuple[int, ...] = (1, 1, 2)
    """Residual blocks at each resolution (in the encoder, and again in the decoder, but for the last)."""

    def __post_init__(self) -> None:
        _require(self.spacing >= 2, "grid spacing", self.spacing, "2 or more")
        _require(len(self.widths) >= 1 and min(self.widths) >= 1, "grid widths", self.widths, "positive numbers")
        _require(len(self.blocks) == len(self.widths), "grid blocks", self.blocks, f"{len(self.widths)} numbers")


@dataclass(frozen=True, kw_only=True)
class DBSNConfig:
    """The paper's dilated blind-spot network (docs/math.md, D1)."""

    kind: Literal["dbsn"] = "dbsn"
    """Distinguishes the network families in a model file."""
    width: int = 96
    """Channels of every layer."""
    modules: int = 8
    """Multi-dilated-convolution (MDC) modules in each of the two branches."""

    def __post_init__(self) -> None:
        _require(self.width >= 1, "D-BSN width", self.width, "1 or more")
        _require(self.modules >= 1, "D-BSN modules", self.modules, "1 or more")


NetworkConfig = GridConfig | DBSNConfig
NetworkName = Literal["grid", "grid-small", "grid-tiny", "dbsn", "dbsn-small", "dbsn-tiny"]

NETWORKS: dict[str, NetworkConfig] = {
    "grid": GridConfig(),
    "grid-small": GridConfig(widths=(48, 96), blocks=(2, 3)),
    "grid-tiny": GridConfig(widths=(16, 32), blocks=(1, 1)),
    "dbsn": DBSNConfig(),
    "dbsn-small": DBSNConfig(width=64, modules=3),
    "dbsn-tiny": DBSNConfig(width=16, modules=1),
}


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """What a model is: everything that inference needs besides the weights."""

    network: NetworkConfig = field(default_factory=GridConfig)
    """The blind-spot network."""
    channels: int = 1
    """Colour channels of the images: 1 (gray) or 3."""
    noise: NoiseFamily = "any"
    """Form of the noise: awgn (one level an image), hg (a level for each intensity, channels independent),
    mg (one channel covariance an image), any (a channel covariance for each intensity)."""
    prediction_covariance: Literal["full", "diagonal"] = "full"
    """Whether the prediction's channels may err together (no difference in gray)."""
    estimator_width: int = 32
    """Channels of the noise estimator's 1x1 convolutions."""
    head_width: int = 32
    """Channels of the variance heads' 1x1 convolutions."""
    offset: float = 0.5
    """Intensity that the network sees as 0."""
    scale: float = 0.5
    """Intensity range that the network sees as 1: network units = (intensity - offset) / scale."""

    def __post_init__(self) -> None:
        _require(self.channels >= 1, "channels", self.channels, "1 or more")
        _require(self.scale > 0, "scale", self.scale, "a positive number")

    def to_dict(self) -> dict[str, Any]:
        """As plain numbers, strings and lists, for a file's header."""
        return dataclasses.asdict(self)

    @staticmethod
    def from_dict(values: dict[str, Any]) -> "ModelConfig":
        """The inverse of `to_dict`; ValueError names what is unknown or missing."""
        try:
            network = dict(values["network"])
            kind = {"grid": GridConfig, "dbsn": DBSNConfig}[network["kind"]]
            as_tuples = {k: tuple(v) if isinstance(v, list) else v for k, v in network.items()}
            return ModelConfig(**{**values, "network": kind(**as_tuples)})
        except (KeyError, TypeError) as error:
            raise ValueError(f"model configuration not understood ({error}); was it written by a newer dbsn?") from None


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained. A budget in steps or in minutes; the learning rate follows whichever is given."""

    minutes: float | None = 30.0
    """Length of the training in minutes (wall clock)."""
    steps: int | None = None
    """Length of the training in steps; takes the place of --minutes."""
    batch: int = 24
    """Patches a step."""
    patch: int = 96
    """Side of a patch in pixels."""
    learning_rate: float = 1e-3
    """Largest learning rate, reached after the warm-up."""
    warmup: float = 0.02
    """Share of the budget over which the learning rate rises from zero."""
    ema: float = 0.999
    """Decay of the running average of the weights, which is what is validated and saved."""
    clip: float = 1.0
    """Largest gradient norm; longer gradients are shortened to it."""
    loss: Loss = "envelope"
    """How residual variance is split between prediction and noise: lower envelope of the total variance (ours), the
    paper's constrained log-likelihood, or the plain marginal one."""
    mean: MeanLoss = "fusion"
    """What the blind mean minimises: squared error, squared error weighted by what fusion leaves of it, or the
    likelihood itself."""
    quantile: float = 0.1
    """Share of an image's pixels, the flattest, whose residual is taken for pure noise."""
    staged: float = 0.3
    """Share of the budget (a tenth at least) in which the mean minimises plain squared error, whatever --mean says."""
    validations: int = 20
    """How often the held-out images are looked at."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Arithmetic of the convolutions; auto is bf16 where the processor has it."""
    seed: int = 0
    """Seed of everything random."""

    def __post_init__(self) -> None:
        _require(self.steps is not None or self.minutes is not None, "budget", None, "--minutes or --steps")
        _require(self.steps is None or self.steps > 0, "--steps", self.steps, "a positive number")
        _require(self.minutes is None or self.minutes > 0, "--minutes", self.minutes, "a positive number")
        _require(self.batch > 0, "--batch", self.batch, "a positive number")
        _require(self.patch >= 8, "--patch", self.patch, "8 or more")
        _require(self.learning_rate > 0, "--learning-rate", self.learning_rate, "a positive number")
        _require(0 <= self.warmup < 1, "--warmup", self.warmup, "a share from 0 to below 1")
        _require(0 < self.quantile < 0.5, "--quantile", self.quantile, "a share between 0 and 0.5")
        _require(0 <= self.staged <= 1, "--staged", self.staged, "a share from 0 to 1")
        _require(0 <= self.ema < 1, "--ema", self.ema, "0 to below 1")
        _require(self.clip > 0, "--clip", self.clip, "a positive number")
        _require(self.seed >= 0, "--seed", self.seed, "0 or more")
        _require(self.validations > 0, "--validations", self.validations, "a positive number")
