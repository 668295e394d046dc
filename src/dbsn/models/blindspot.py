"""The blind-spot model: one forward pass from a noisy image to a full estimate.

Training, validation, inference and evaluation all call `BlindSpotModel.forward`. Promise: the blind mean and the
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
from dbsn.types import Cells, Image, PixelMap, Variance

_ROUNDING_VAR = (2 / 255) ** 2 / 12  # variance of 256 steps over the network's [-1, 1]: no noise is smaller
_HEAD_WIDTH, _ESTIMATOR_WIDTH = 32, 32  # channels of the 1x1 convolutions
_ESTIMATOR = "noise_estimator.mlp."
SETTLED = 0.1
"""Share of the budget before training of the variance split begins.

Its learning rate then rises from zero over the same share again. The first residuals are many times too large. Layers
trained on them would make such large steps that their ReLUs die.
"""
_SPLIT_PACE = 5.0  # learning rate of the layers that split the variance, in learning rates of the network


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """The model's estimate for the pixels `noisy`.

    Values are intensities, variances are intensities squared.
    """

    noisy: Image
    """The noisy pixels of this estimate: the whole image, or one grid phase of it."""
    mean: Image
    """Blind mean mu."""
    mean_var: Variance
    """Prediction variance Sigma_mu."""
    noise_var: Variance
    """Noise variance Sigma_n."""
    total_var: Variance
    """Variance of noisy - mean, learned independently of its split."""
    flat_below: PixelMap
    """Limit of flatness: 1/2 log |Sigma| of the total variance.

    A pixel of this intensity below the limit is among the flattest of its image.
    """

    def fused(self) -> tuple[Image, Image]:
        """Posterior mean and variance of each channel, both (b, c, h, w)."""
        return fuse(self.noisy, self.mean, self.mean_var, self.noise_var)

    def noise_std(self) -> Image:
        """Noise standard deviation of each channel, (b, c, h, w)."""
        return channel_variance(self.noise_var).sqrt()


class BlindSpotModel(nn.Module):
    """A blind-spot network (D-BSN or grid), its variance heads, and CNN_est."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.channels
        network = config.network
        self.network = DBSN(network, channels) if isinstance(network, DBSNConfig) else Grid(network, channels)
        self.full = channels > 1
        entries = channels * (channels + 1) // 2 if self.full else channels
        self.prediction_head = PixelMLP(self.network.out_features, _HEAD_WIDTH, entries, 3)
        self.total_head = PixelMLP(self.network.out_features, _HEAD_WIDTH, entries, 3)
        self.flatness = PixelMLP((1 + MEASURES) * channels, _HEAD_WIDTH, 1, 3)
        self.noise_estimator = NoiseEstimator(channels, config.noise, _ESTIMATOR_WIDTH)
        initialise(self)
        zero_residuals(self)
        for stack in (self.prediction_head, self.total_head, self.flatness, self.noise_estimator.mlp):
            nn.init.zeros_(stack.last.weight)
        if isinstance(network, GridConfig) and network.symmetric:
            assert isinstance(self.network, Grid)
            self.network.keep_symmetric()

    @property
    def multiple(self) -> int:
        """With a `phase`, height and width of an image must be multiples of this."""
        return self.network.multiple

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser.

        The layers that split the variance are small and start far from their optimum, so they learn faster.
        """
        splits = (self.noise_estimator, self.flatness, self.prediction_head)
        quick = [parameter for module in splits for parameter in module.parameters()]
        chosen = {id(parameter) for parameter in quick}
        others = [parameter for parameter in self.parameters() if id(parameter) not in chosen]
        return [{"params": others, "pace": 1.0}, {"params": quick, "pace": _SPLIT_PACE, "waits": SETTLED}]

    def init_from(self, other: "BlindSpotModel") -> None:
        """Start with the weights of another model.

        In network units they give the same estimates. The measurements of an image stay normalised by the training
        images (`NoiseEstimator.expect`). If the form of the noise differs, the noise estimate starts at the measured
        noise, as in a new model.

        Raises:
            ValueError: The other model has another network or another number of channels.
        """
        if not self.config.is_like(other.config):
            raise ValueError(
                f"--from: the model does not fit (got {other.config}, expected {self.config}). "
                "Use a model like it, or --from scratch."
            )
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
        """Convert intensities to network units."""
        return (image - self.config.offset) / self.config.scale

    def measure(self, noisy: Image) -> Tensor:
        """Measure the noise of a whole image for the noise estimator: (b, m, 1, 1)."""
        return measure([self.normalise(noisy)])

    def measure_strips(self, strips: Iterable[Image]) -> Tensor:
        """`measure` of an image given as strips of rows.

        Each strip but the last has a multiple of 8 rows.
        """
        return measure(self.normalise(strip) for strip in strips)

    def measured_variance(self, intensity: Cells, measurement: Tensor) -> Cells:
        """Noise variance at intensities (b, c, h, w) by `measure` alone, without the network; intensities squared."""
        return measured_variance(self.normalise(intensity), measurement) * self.config.scale**2

    def forward(
        self, noisy: Image, measurement: Tensor | None = None, phase: tuple[int, int] | None = None
    ) -> Estimate:
        """Estimate the clean image, its uncertainty and the noise.

        Args:
            noisy: (b, c, h, w) intensities; any size, or multiples of `multiple` with `phase`.
            measurement: `measure` of the whole images that `noisy` is cut from; by default of `noisy` itself.
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
            noise_var=self.noise_variance(mean.detach(), measurement),  # the noise must not train the mean
            total_var=self.at_least_rounding(self._variance(total)),
            flat_below=self._flat_below(mean.detach(), measurement),
        )

    def _heads(self, features: Tensor) -> list[Tensor]:
        return [self.network.mean(features), self.prediction_head(features), self.total_head(features)]

    def noise_variance(self, image: Image, measurement: Tensor) -> Variance:
        """Noise variance by CNN_est at each intensity of `image`, intensities squared.

        `image` is the blind mean or a clean image.
        """
        variance = self.noise_estimator(self.normalise(image), measurement) * self.config.scale**2
        return self.at_least_rounding(variance)

    def _flat_below(self, mean: Image, measurement: Tensor) -> PixelMap:
        """The limit of flatness, learned by L3; it starts at the measured noise."""
        image = self.normalise(mean)
        started = 0.5 * measured_variance(image, measurement).log().sum(1)
        raw = self.flatness(self.noise_estimator.context(image, measurement))[:, 0]
        return raw + started + self.config.channels * math.log(self.config.scale)

    def _variance(self, raw: Tensor) -> Variance:
        """Convert raw head output to a variance, intensities squared (H1).

        It is (b, c, h, w), or a covariance (b, c, c, h, w).
        """
        channels, scale = self.config.channels, self.config.scale
        std = functional.softplus(raw[:, :channels] - 2) * scale
        if not self.full:
            return std.square()
        return outer_square(lower_triangular(std, raw[:, channels:] * (0.1 * scale)))

    def at_least_rounding(self, variance: Variance) -> Variance:
        """Add the variance of rounding, so that no covariance is singular."""
        least = _ROUNDING_VAR * self.config.scale**2
        if variance.ndim == 4:
            return variance + least
        return variance + least * torch.eye(self.config.channels, device=variance.device)[:, :, None, None]
