"""Noise families: what noise may look like, written `awgn:25`, `hg:40,10`, `pg:2,10`, `mg:75`; `any:60` is all of it.

Each knows its variance (or channel covariance) at a clean intensity and draws from it; numbers on the command line are
of 255, inside they are intensities in [0, 1]. Equations N1-N5 of docs/math.md; tested against numbers written out by
hand in tests/unit/test_noise.py and by moments in tests/property. No file, no network, no estimate belongs here.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dbsn.types import Image, Variance

_NO_NOISE, _ALMOST_NO_NOISE = 0.06, 1e-4  # share of images that are clean, and a level that no file can show
_SMALL_MORE_OFTEN = 1.5
_UNEQUAL = 0.25
_LEAST_EIGENVALUE = 0.02


@dataclass(frozen=True)
class AWGN:
    """Additive white Gaussian noise of one level (N1)."""

    std: float
    """Standard deviation, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity."""
        return torch.full_like(clean, self.std**2)

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """`clean` with noise added; neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """Standard deviation rising with intensity: the paper's HG, variance (gain x)^2 + std^2 (N2)."""

    gain: float
    """Standard deviation per intensity, no unit."""
    std: float
    """Standard deviation at black, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity."""
        return (self.gain * clean).square() + self.std**2

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """`clean` with noise added; neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class PoissonGaussian:
    """Photon noise and read noise: variance gain x + std^2 (N3)."""

    gain: float
    """Variance per intensity, intensity."""
    std: float
    """Standard deviation at black, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity; below black it is that at black."""
        return self.gain * clean.clamp_min(0) + self.std**2

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """`clean` with noise added; neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class MultivariateGaussian:
    """Gaussian noise whose channels are correlated (N4)."""

    covariance: tuple[tuple[float, ...], ...]
    """Channel covariance, intensity squared: symmetric, positive definite."""

    @staticmethod
    def random(std: float, channels: int = 3, seed: int = 0) -> "MultivariateGaussian":
        """std^2 U diag(l) U' with l uniform in (0, 1) and U a random rotation, as in the paper's tables.

        Unlike the released code no absolute value is taken, which changed the covariance's eigenvalues.
        """
        random = np.random.RandomState(seed)
        share = random.rand(channels)
        rotation, _ = np.linalg.qr(random.randn(channels, channels))
        matrix = std**2 * (rotation * share) @ rotation.T
        return MultivariateGaussian(tuple(tuple(row) for row in matrix.tolist()))

    def variance(self, clean: Image) -> Variance:
        """Noise covariance (b, c, c, h, w), the same at each intensity."""
        matrix = self._matrix(clean)
        return matrix[None, :, :, None, None].expand(clean.shape[0], -1, -1, *clean.shape[-2:])

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """`clean` with noise added; neither clipped nor rounded."""
        factor = torch.linalg.cholesky(self._matrix(clean))
        return clean + torch.einsum("ij,bjhw->bihw", factor, _standard_normal(clean, generator))

    def _matrix(self, clean: Image) -> Tensor:
        if clean.shape[1] != len(self.covariance):
            raise ValueError(f"noise has {len(self.covariance)} channels, the image {clean.shape[1]}")
        return torch.tensor(self.covariance, dtype=clean.dtype, device=clean.device)


@dataclass(frozen=True)
class CameraNoise:
    """Level rising with intensity, another one for each channel, channels correlated, perhaps in a file of 8 bits (N5).

    The families above are special cases of it.
    """

    photon: Tensor
    """Share of each channel, (c,), of the variance below that depends on intensity."""
    std: Tensor
    """Standard deviation of each channel, (c,), at the middle intensity 0.5."""
    power: int
    """The dependent share of the variance is proportional to intensity (1, photons) or to its square (2, HG)."""
    correlation: Tensor
    """Between channels, (c, c)."""
    in_8_bits: bool
    """Whether what is drawn is cut off at black and white and rounded to 255ths."""

    def variance(self, clean: Image) -> Variance:
        """Noise covariance (b, c, c, h, w), in gray variance (b, 1, h, w), at each clean intensity."""
        std = self._std(clean)
        if clean.shape[1] == 1:
            return std.square()
        return std.unsqueeze(1) * std.unsqueeze(2) * self.correlation.to(clean)[:, :, None, None]

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """`clean` with noise added."""
        factor = torch.linalg.cholesky(self.correlation.to(clean))
        white = torch.einsum("ij,bjhw->bihw", factor, _standard_normal(clean, generator))
        noisy = clean + self._std(clean) * white
        return (noisy.clamp(0, 1) * 255).round() / 255 if self.in_8_bits else noisy

    def _std(self, clean: Image) -> Image:
        photon, std = (values.to(clean)[:, None, None] for values in (self.photon, self.std))
        return std * (1 - photon + photon * (2 * clean.clamp_min(0)) ** self.power).sqrt()


@dataclass(frozen=True)
class AnyNoise:
    """Noise that is not known beforehand: another `CameraNoise` for each image (N5)."""

    most: float
    """Largest standard deviation at the middle intensity, intensity."""

    def draw(self, channels: int, generator: torch.Generator) -> CameraNoise:
        """The noise of one image."""
        kind, level, *chances = torch.rand(6, generator=generator, dtype=torch.float64).tolist()
        dependent, unequal, correlated, in_8_bits = (chance < 0.5 for chance in chances)
        std = self.most * level**_SMALL_MORE_OFTEN if kind > _NO_NOISE else _ALMOST_NO_NOISE
        gains = torch.randn(channels, generator=generator) * (_UNEQUAL if unequal and channels > 1 else 0)
        photon = torch.rand((), generator=generator).expand(channels)
        return CameraNoise(
            photon=photon * dependent,
            std=std * gains.exp(),
            power=int(torch.randint(1, 3, (), generator=generator)),
            correlation=_correlation(channels, generator) if correlated else torch.eye(channels),
            in_8_bits=in_8_bits,
        )


def _correlation(channels: int, generator: torch.Generator) -> Tensor:
    """Of a random covariance whose eigenvalues differ more than N4's."""
    rotation, _ = torch.linalg.qr(torch.randn(channels, channels, generator=generator))
    eigenvalues = torch.rand(channels, generator=generator).square().clamp_min(_LEAST_EIGENVALUE)
    covariance = (rotation * eigenvalues) @ rotation.mT
    std = covariance.diagonal().sqrt()
    correlation: Tensor = covariance / (std[:, None] * std)
    return correlation


Noise = AWGN | HeteroscedasticGaussian | PoissonGaussian | MultivariateGaussian | CameraNoise


def one_noise(noise: Noise | AnyNoise, channels: int, generator: torch.Generator) -> Noise:
    """The noise of one image: a fresh draw of `AnyNoise`, else the noise itself."""
    return noise.draw(channels, generator) if isinstance(noise, AnyNoise) else noise


def parse_noises(text: str) -> Noise | AnyNoise:
    """The noise that `parse_noise` knows, or `any:MOST`; raises as that."""
    family, _, most = text.partition(":")
    if family != "any":
        return parse_noise(text)
    try:
        level = float(most) / 255
        if not 0 < level < np.inf:
            raise ValueError
    except ValueError:
        raise ValueError(f"noise {text!r}: expected any:60, the largest level of 255") from None
    return AnyNoise(level)


def parse_noise(text: str) -> Noise:
    """The noise written `awgn:STD`, `hg:GAIN,STD`, `pg:GAIN,STD` or `mg:STD[,SEED]`, numbers of 255.

    Raises:
        ValueError: The text is not one of these; the message lists them.
    """
    family, _, numbers = text.partition(":")
    try:
        values = [float(number) for number in numbers.split(",")]
        if min(values) < 0 or not np.isfinite(values).all() or (family == "mg" and values[0] == 0):
            raise ValueError
        match family, [value / 255 for value in values]:
            case "awgn", [std]:
                return AWGN(std)
            case "hg", [gain, std]:
                return HeteroscedasticGaussian(gain, std)
            case "pg", [gain, std]:
                return PoissonGaussian(gain, std)
            case "mg", [std]:
                return MultivariateGaussian.random(std)
            case "mg", [std, _]:
                return MultivariateGaussian.random(std, seed=int(values[1]))
    except ValueError:
        pass
    raise ValueError(f"noise {text!r}: expected awgn:25, hg:40,10, pg:2,10 or mg:75[,seed] (numbers of 255)")


def _with_independent_noise(clean: Image, variance: Image, generator: torch.Generator) -> Image:
    return clean + variance.sqrt() * _standard_normal(clean, generator)


def _standard_normal(like: Image, generator: torch.Generator) -> Image:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
