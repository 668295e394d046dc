"""Noise families, written `awgn:25`, `hg:40,10`, `pg:2,10` or `mg:75`.

Each family gives its variance (or channel covariance) at a clean intensity, and draws noise. Numbers on the command
line are of 255; inside they are intensities in [0, 1]. Equations N1-N4 of math.md. Tested against numbers written out
by hand in tests/unit/test_families.py, and by moments in tests/property. Files, networks and estimates do not belong
here. Noise that differs from image to image is in `dbsn.noise.mixtures`.
"""

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from dbsn.types import Image, Variance


@dataclass(frozen=True)
class AWGN:
    """Additive white Gaussian noise of one level (N1)."""

    std: float
    """Standard deviation, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity."""
        return torch.full_like(clean, self.std**2)

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`; the result is neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class HeteroscedasticGaussian:
    """The paper's HG: variance (gain x)^2 + std^2, rising with intensity (N2)."""

    gain: float
    """Standard deviation per intensity, no unit."""
    std: float
    """Standard deviation at black, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity."""
        return (self.gain * clean).square() + self.std**2

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`; the result is neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class PoissonGaussian:
    """Photon noise and read noise: variance gain x + std^2 (N3)."""

    gain: float
    """Variance per intensity, intensity."""
    std: float
    """Standard deviation at black, intensity."""

    def variance(self, clean: Image) -> Image:
        """Noise variance (b, c, h, w) at each clean intensity.

        Below black it is that at black.
        """
        return self.gain * clean.clamp_min(0) + self.std**2

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`; the result is neither clipped nor rounded."""
        return _with_independent_noise(clean, self.variance(clean), generator)


@dataclass(frozen=True)
class MultivariateGaussian:
    """Gaussian noise whose channels are correlated (N4)."""

    covariance: tuple[tuple[float, ...], ...]
    """Channel covariance, intensity squared: symmetric, positive definite."""

    @staticmethod
    def random(std: float, channels: int = 3, seed: int = 0) -> "MultivariateGaussian":
        """Random covariance std^2 U diag(l) U', as in the paper's tables.

        l is uniform in (0, 1) and U a random rotation. The released code takes absolute values, which changes the
        eigenvalues. This code does not.
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
        """Add noise to `clean`; the result is neither clipped nor rounded."""
        factor = torch.linalg.cholesky(self._matrix(clean))
        return clean + torch.einsum("ij,bjhw->bihw", factor, standard_normal(clean, generator))

    def _matrix(self, clean: Image) -> Tensor:
        if clean.shape[1] != len(self.covariance):
            raise ValueError(
                f"noise mg: wrong number of channels (got an image with {clean.shape[1]}, "
                f"expected {len(self.covariance)}). Use awgn, hg or pg."
            )
        return torch.tensor(self.covariance, dtype=clean.dtype, device=clean.device)


@runtime_checkable
class Noise(Protocol):
    """The interface of all noise: the families above and `dbsn.noise.mixtures`."""

    def variance(self, clean: Image) -> Variance:
        """Noise variance at each clean intensity.

        It is (b, c, h, w), or a covariance (b, c, c, h, w).
        """
        ...

    def sample(self, clean: Image, generator: torch.Generator) -> Image:
        """Add noise to `clean`."""
        ...


def parse_noise(text: str) -> Noise:
    """Parse `awgn:STD`, `hg:GAIN,STD`, `pg:GAIN,STD` or `mg:STD[,SEED]`.

    Numbers are of 255.

    Raises:
        ValueError: The text is not one of these. The message lists them.
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
    raise ValueError(
        f"noise {text!r}: not a noise (expected awgn:25, hg:40,10, pg:2,10 or mg:75[,seed], numbers of 255). "
        "Write one of these."
    )


def _with_independent_noise(clean: Image, variance: Image, generator: torch.Generator) -> Image:
    return clean + variance.sqrt() * standard_normal(clean, generator)


def standard_normal(like: Image, generator: torch.Generator) -> Image:
    """Draw white noise of variance 1 in the shape of `like`."""
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)
