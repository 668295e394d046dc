"""The blind-spot model: the one forward pass from a noisy image to an estimate of everything.

Training, validation, inference and evaluation all call `BlindSpotModel.forward`. What it promises: mean and
prediction variance at a pixel do not depend on that pixel (tests/property/test_blind_spot.py). Files, tiles and
losses do not belong here. Wu et al. 2020, sec. 3; math.md.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import DBSNConfig, GridConfig, ModelConfig
from dbsn.likelihood import channel_variance, fuse
from dbsn.networks.dbsn import DBSN
from dbsn.networks.grid import Grid
from dbsn.networks.layers import PixelMLP, initialise, lower_triangular, outer_square
from dbsn.networks.measurement import MEASURES, measure, measured_variance
from dbsn.networks.noise_estimator import NoiseEstimator
from dbsn.networks.unet import zero_residuals
from dbsn.types import Image, PixelMap, Variance

_ROUNDING_VAR = (2 / 255) ** 2 / 12  # of 256 steps over the network's [-1, 1]: no noise is smaller
_ESTIMATOR = "noise_estimator.mlp."
SETTLED = 0.1
"""Share of the budget before the split of the variance is learned, at a rate that rises over as much again: the first
residuals are many times too large, and what follows them learns so violently that its ReLUs die."""
_SPLIT_PACE = 5.0  # learning rate of what splits the variance, in learning rates of the network


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the model believes about the pixels `noisy`; all in intensities, variances in intensities squared."""

    noisy: Image
    """The observed pixels that the rest speaks of: the whole image, or one grid phase of it."""
    mean: Image
    """Blind prediction mu."""
    mean_var: Variance
    """Its variance Sigma_mu."""
    noise_var: Variance
    """Noise variance Sigma_n."""
    total_var: Variance
    """Variance of noisy - mean, learned without asking how it splits."""
    flat_below: PixelMap
    """1/2 log |Sigma| of the total variance below which a pixel of this intensity is among its image's flattest."""

    def fused(self) -> tuple[Image, Image]:
        """Posterior mean and posterior variance of each channel, both (b, c, h, w)."""
        return fuse(self.noisy, self.mean, self.mean_var, self.noise_var)

    def noise_std(self) -> Image:
        """Noise standard deviation of each channel, (b, c, h, w)."""
        return channel_variance(self.noise_var).sqrt()


class BlindSpotModel(nn.Module):
    """D-BSN or a grid network, its variance heads, and CNN_est."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        network = config.network
        self.network = DBSN(network, channels) if isinstance(network, DBSNConfig) else Grid(network, channels)
        self.full = config.prediction_covariance == "full" and channels > 1
        entries = channels * (channels + 1) // 2 if self.full else channels
        self.prediction_head = PixelMLP(self.network.out_features, config.head_width, entries, 3)
        self.total_head = PixelMLP(self.network.out_features, config.head_width, entries, 3)
        self.flatness = PixelMLP((1 + MEASURES) * channels, config.head_width, 1, 3)
        self.noise_estimator = NoiseEstimator(channels, config.noise, config.estimator_width)
        initialise(self)
        zero_residuals(self)
        for stack in (self.prediction_head, self.total_head, self.flatness, self.noise_estimator.mlp):
            nn.init.zeros_(stack.last.weight)
        if isinstance(network, GridConfig) and network.symmetric:
            assert isinstance(self.network, Grid)
            self.network.keep_symmetric()

    @property
    def multiple(self) -> int:
        """Height and width of an image given with a `phase` are multiples of this."""
        return self.network.multiple

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups: what splits the variance is small, has far to go, and learns faster."""
        splits = (self.noise_estimator, self.flatness, self.prediction_head)
        quick = [parameter for module in splits for parameter in module.parameters()]
        chosen = {id(parameter) for parameter in quick}
        others = [parameter for parameter in self.parameters() if id(parameter) not in chosen]
        return [{"params": others, "pace": 1.0}, {"params": quick, "pace": _SPLIT_PACE, "waits": SETTLED}]

    def init_from(self, other: "BlindSpotModel") -> None:
        """Begin with another model's weights, which give the same estimates here, in network units.

        What sets an image apart stays in the units of the images that are to be learned from (`NoiseEstimator.expect`).
        For noise of another form the noise estimate begins at what is measured, as that of a new model.

        Raises:
            ValueError: It is another network, or for other channels.
        """
        if not self.config.is_like(other.config):
            raise ValueError(f"cannot start from a model of {other.config}; --from scratch needs none")
        estimator, weights = self.noise_estimator, other.state_dict()
        wanted = {name: buffer.clone() for name, buffer in estimator.named_buffers()}
        stacks = [self.flatness]
        if self.config.noise == other.config.noise:
            stacks.append(estimator.mlp)
        else:
            weights |= {name: part for name, part in self.state_dict().items() if name.startswith(_ESTIMATOR)}
        self.load_state_dict(weights)
        for stack in stacks:
            estimator.show_in(wanted["usual"], wanted["spread"], stack)
        for name, buffer in self.noise_estimator.named_buffers():
            buffer.copy_(wanted[name])

    def normalise(self, image: Image) -> Image:
        """Intensities to network units."""
        return (image - self.config.offset) / self.config.scale

    def measure(self, noisy: Image) -> Tensor:
        """What the noise estimator is told about a whole image: (b, m, 1, 1)."""
        return measure([self.normalise(noisy)])

    def measure_strips(self, strips: Iterable[Image]) -> Tensor:
        """`measure` of an image that comes in strips of rows, each but the last a multiple of 8 rows."""
        return measure(self.normalise(strip) for strip in strips)

    def forward(
        self, noisy: Image, measurement: Tensor | None = None, phase: tuple[int, int] | None = None
    ) -> Estimate:
        """Estimate clean image, its uncertainty and the noise.

        Args:
            noisy: (b, c, h, w) intensities; any size, or multiples of `multiple` with `phase`.
            measurement: `measure` of the whole images that these are parts of; by default of these.
            phase: Estimate one grid phase alone (grid networks).

        Returns:
            An `Estimate` of every pixel, or of the pixels noisy[..., row::s, column::s].
        """
        if measurement is None:
            measurement = self.measure(noisy)
        spacing = self.network.spacing
        mean, prediction, total = self.network.read_out(self.normalise(noisy), self._heads, phase)
        mean = mean * self.config.scale + self.config.offset
        return Estimate(
            noisy=noisy[..., phase[0] :: spacing, phase[1] :: spacing] if phase else noisy,
            mean=mean,
            mean_var=self._variance(prediction),
            noise_var=self.noise_variance(mean.detach(), measurement),  # the mean must not make the noise look likely
            total_var=self.at_least_rounding(self._variance(total)),
            flat_below=self._flat_below(mean.detach(), measurement),
        )

    def _heads(self, features: Tensor) -> list[Tensor]:
        return [self.network.mean(features), self.prediction_head(features), self.total_head(features)]

    def noise_variance(self, image: Image, measurement: Tensor) -> Variance:
        """CNN_est: noise variance, intensities squared, at each intensity of `image` (blind mean, or clean)."""
        variance = self.noise_estimator(self.normalise(image), measurement) * self.config.scale**2
        return self.at_least_rounding(variance)

    def _flat_below(self, mean: Image, measurement: Tensor) -> PixelMap:
        """Where L3 puts the limit of flatness; it starts at the measured noise."""
        image = self.normalise(mean)
        started = 0.5 * measured_variance(image, measurement).log().sum(1)
        raw = self.flatness(self.noise_estimator.context(image, measurement))[:, 0]
        return raw + started + self.config.channels * math.log(self.config.scale)

    def _variance(self, raw: Tensor) -> Variance:
        """Raw head output to a variance (b, c, h, w) or a covariance (b, c, c, h, w), intensities squared (H1)."""
        channels, scale = self.config.channels, self.config.scale
        std = functional.softplus(raw[:, :channels] - 2) * scale
        if not self.full:
            return std.square()
        return outer_square(lower_triangular(std, raw[:, channels:] * (0.1 * scale)))

    def at_least_rounding(self, variance: Variance) -> Variance:
        """The variance with that of rounding added, which also keeps a covariance from being singular."""
        least = _ROUNDING_VAR * self.config.scale**2
        if variance.ndim == 4:
            return variance + least
        return variance + least * torch.eye(self.config.channels, device=variance.device)[:, :, None, None]
