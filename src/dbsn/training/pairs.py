"""The two sets of pairs of stage 2 (Wu et al. 2020, sec. 3.3; math.md, S2).

Set 1: noisy images with the teacher's results, which `teach` computes once. Set 2: unrelated clean images with the
learned noise, drawn afresh in every step. The loss does not belong here. Tested in tests/unit/test_distill.py.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dbsn.config import DistillConfig
from dbsn.devices import MEMORY_FORMAT
from dbsn.likelihood import channel_variance
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import cells
from dbsn.networks.measurement import measured_variance
from dbsn.noise.camera import Developed, blurred
from dbsn.noise.learned import NoiseModel
from dbsn.noise.mixtures import Noises, Several, one_noise, parse_noises
from dbsn.tensors import step_seed
from dbsn.training.patches import areas, cut, fitting_size
from dbsn.training.teacher import TeacherResults
from dbsn.types import Cells, Image, Mask, Variance

_LEAST_VAR = 1e-12
_WHOLE = 0.999  # smallest share of a shrunk pixel inside the image, 1 up to rounding
_LEAST_STD, _MIDDLE_STD = 2 / 255, 10 / 255
_SOFT = 0.5  # share of patches that are blurred
_NO_NOISE = 2e-8  # variance of what has no noise
_SMALL = 0.5  # share of patches treated as whole images, in which texture is mistaken for much more noise
_LEVEL_ERROR, _TEXTURE = 0.08, 0.01  # measured (docs/lab): spread of E1's level, and its excess on photographs


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Noisy patches and their targets, those of set 1 first."""

    noisy: Image
    """Intensities (b, c, h, w)."""
    target: Image
    """The desired results of the student."""
    noise_var: Tensor
    """Mean noise variance of each patch, (b, 1, 1, 1)."""
    error_unit: Tensor
    """Unit of each patch's squared error, (b, 1, 1, 1).

    It is the patch's noise variance. Where levels differ widely it is the unit of S6.
    """
    level: Cells | None = None
    """Noise level for a guided student, (b, c, h / multiple, w / multiple)."""
    valid: Mask
    """1 inside the image, 0 outside of it."""
    first: int
    """Number of patches of set 1."""

    @property
    def pixels(self) -> int:
        """Number of predicted pixels."""
        return self.valid.numel()

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs on a device, in `MEMORY_FORMAT`."""
        noisy, target = (image.to(device, memory_format=MEMORY_FORMAT) for image in (self.noisy, self.target))
        noise_var, error_unit, valid = (part.to(device) for part in (self.noise_var, self.error_unit, self.valid))
        level = None if self.level is None else self.level.to(device)
        return replace(
            self, noisy=noisy, target=target, noise_var=noise_var, error_unit=error_unit, level=level, valid=valid
        )


@dataclass(frozen=True, kw_only=True)
class NoiseSource:
    """The noise that is put on clean patches, and what a student is told of it."""

    learned: NoiseModel
    """The noise of the noisy images."""
    config: DistillConfig
    """Names another noise, if there is one, and the range of levels."""
    level_cell: int | None
    """Side in pixels of the cells in which a guided student gets the noise level; None for another student."""

    @cached_property
    def known(self) -> Noises | None:
        """The noise that takes the place of the learned one."""
        return parse_noises(self.config.noise) if self.config.noise else None


class PairedPatches:
    """Random pairs of both sets: `pairs(step)` is the batch of that step.

    It is a function of (seed, step) alone.
    """

    def __init__(
        self,
        known: TeacherResults,
        clean: Sequence[np.ndarray],
        config: DistillConfig,
        *,
        multiple: int,
        fill: float,
        guided: bool = False,
    ) -> None:
        self.known, self.clean, self.config, self.fill = known, clean, config, fill
        self.source = NoiseSource(learned=known.noise, config=config, level_cell=multiple if guided else None)
        self.first = 0 if config.baseline or config.uncertainty_alone else _first(config)
        self.noisy = known.hold_out()[0]
        noisy = [image for _, image, _ in self.noisy]
        used = [*(noisy if self.first else ()), *(clean if self.first < config.batch else ())]
        self.size = fitting_size(used, config.patch, multiple)

    def __call__(self, step: int, rank: int = 0) -> Pairs:
        """Draw the batch of one step in one process.

        It is the same for the same seed, step and rank.
        """
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, step, rank))
        parts = []
        if self.first:
            parts.append(self._noisy(self.first, generator))
        if self.first < self.config.batch:
            parts.append(self._clean(self.config.batch - self.first, generator))
        names = ["noisy", "target", "noise_var", "error_unit", "valid", *(["level"] if self.source.level_cell else [])]
        joined = {name: torch.cat([getattr(part, name) for part in parts]) for name in names}
        return Pairs(**joined, first=self.first)

    def _noisy(self, count: int, generator: torch.Generator) -> Pairs:
        """Draw pairs of set 1: noisy patches with the teacher's results."""
        chosen = [self.noisy[i] for i in _draw([image for _, image, _ in self.noisy], self.size, count, generator)]
        patches = [cut([noisy, result], self.size, self.fill, generator) for _, noisy, result in chosen]
        noisy, target = (torch.stack([pair[kind] for pair, _ in patches]) for kind in (0, 1))
        valid = torch.stack([inside for _, inside in patches])
        noise, which = self.known.noise, [number for number, _, _ in chosen]
        cell = self.source.level_cell

        def variance(image: Image) -> Variance:
            return noise.variance(image, which)

        power = _power(variance(target), valid)
        return Pairs(
            noisy=noisy,
            target=target,
            noise_var=power,
            error_unit=_unit(power, self.source.known),
            level=simulated_level(variance, noisy, noise.model, cell, generator) if cell else None,
            valid=valid,
            first=count,
        )

    def _clean(self, count: int, generator: torch.Generator) -> Pairs:
        """Draw pairs of set 2: clean patches with noise."""
        among = self.config.busiest_of
        chosen = _draw(self.clean, self.size, count * among, generator)
        candidates = [self._shrunk(self.clean[i], generator) for i in chosen]
        patches = [max(candidates[i : i + among], key=_detail) for i in range(0, len(candidates), among)]
        clean, valid = (torch.stack(kind) for kind in zip(*patches, strict=True))
        return synthetic_pairs(clean, valid, self.source, generator)

    def _shrunk(self, image: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cut a patch (c, h, w) of a clean image, shrunk or enlarged by a random factor, and perhaps blurred.

        Return it with a mask that is 1 inside the image.
        """
        drawn = self.size
        if self.config.shrink > 1 or self.config.enlarge > 1:
            drawn = round(self.size * scale_at(self.config, float(torch.rand((), generator=generator))))
        cut_size = min(drawn, max(self.size, *image.shape[:2]))  # do not shrink small images
        [patch], inside = cut([image], cut_size, self.fill, generator)
        if cut_size != self.size:
            size = (self.size, self.size)
            inside = (functional.interpolate(inside[None], size, mode="area")[0] > _WHOLE).float()
            patch = resized_to(patch[None], size)[0]
        if self.config.blur > 0:
            soft, width = torch.rand(2, generator=generator).tolist()
            patch = blurred(patch[None], self.config.blur * width)[0] if soft < _SOFT else patch
        return patch, inside


def _detail(patch: tuple[Tensor, Tensor]) -> float:
    """Mean absolute step between neighbouring pixels of a patch (c, h, w).

    Only pixels inside the image count.
    """
    image, inside = patch
    steps = torch.zeros(())
    for down, across in ((1, 0), (0, 1)):
        height, width = image.shape[-2] - down, image.shape[-1] - across
        both = inside[:, down:, across:] * inside[:, :height, :width]
        step = (image[:, down:, across:] - image[:, :height, :width]).abs().mean(0, keepdim=True)
        steps = steps + (step * both).sum() / both.sum().clamp_min(1)
    return float(steps)


def scale_at(config: DistillConfig, share: float) -> float:
    """The factor by which clean patches shrink (above 1) or grow (below 1), from a share in [0, 1] of its range."""
    least, most = -math.log(config.enlarge), math.log(config.shrink)
    return math.exp(least + share * (most - least))


def resized_to(image: Image, size: tuple[int, int]) -> Cells:
    """Shrink or enlarge an image (b, c, h, w) to a height and width.

    Intensities stay within their previous range.
    """
    least, most = image.aminmax()
    return functional.interpolate(image, size, mode="bicubic", antialias=True).clamp(least, most)


def synthetic_pairs(clean: Image, valid: Mask, source: NoiseSource, generator: torch.Generator) -> Pairs:
    """Make pairs of clean patches with drawn noise, learned or known (S2)."""
    learned, known = source.learned, source.known
    which = torch.randint(len(learned.images), (len(clean),), generator=generator).tolist()
    noises = [one_noise(known, clean.shape[1], generator) for _ in clean] if known else []

    scenes = clean
    if noises:
        both = zip(noises, scenes.split(1), strict=True)
        clean = torch.cat([noise.developed(x) if isinstance(noise, Developed) else x for noise, x in both])

    def sample() -> Image:
        if known:
            drawn = torch.cat([noise.sample(x, generator) for noise, x in zip(noises, scenes.split(1), strict=True)])
        else:
            drawn = learned.sample(clean, generator, which, jitter=source.config.jitter)
        return torch.where(valid > 0, drawn, clean)

    def variance(image: Image) -> Variance:
        if not known:
            return learned.variance(image, which)
        parts = zip(noises, image.split(1), strict=True)
        return torch.cat([channel_variance(noise.variance(part)) for noise, part in parts])

    noisy = sample()
    power = _power(variance(clean), valid)
    target = sample() if source.config.baseline == "n2n" else clean.where(power > _NO_NOISE, noisy)
    return Pairs(
        noisy=noisy,
        target=target,
        noise_var=power,
        error_unit=_unit(power, known),
        level=simulated_level(variance, noisy, learned.model, source.level_cell, generator)
        if source.level_cell
        else None,
        valid=valid,
        first=0,
    )


def _unit(power: Tensor, known: Noises | None) -> Tensor:
    """Unit of the squared errors of patches with noise of this variance (S3, S6).

    It is the variance, unless noise differs from image to image. Then levels differ so widely that the variance is
    unsuitable. The squared error of a good denoiser rises like the noise's standard deviation. In units of it no level
    outweighs another, and clean images have a limited weight.
    """
    if not isinstance(known, Several):
        return power
    return power.clamp_min(_LEAST_STD**2).sqrt() * _MIDDLE_STD


def simulated_level(
    variance: Callable[[Image], Variance],
    noisy: Image,
    model: BlindSpotModel,
    multiple: int,
    generator: torch.Generator,
) -> Cells:
    """Simulate the measured noise level of patches (S6).

    The measurement is inexact, and it mistakes texture for noise.

    Args:
        variance: Noise variance at each intensity. It is taken in cells of the noisy image, because clean cells would
            reveal the result.
        noisy: The patches. For half of them the level is measured on the patch alone, as if it were a whole image.
        model: Model whose network units the measurement uses.
        multiple: Side of a cell.
        generator: Source of the random errors.
    """
    mean, scale = cells(noisy, multiple), model.config.scale
    std = channel_variance(variance(mean)).sqrt()
    shape = (*std.shape[:2], 1, 1)
    error = (_LEVEL_ERROR * torch.randn(shape, generator=generator)).exp()
    texture = _TEXTURE * scale * torch.empty(shape).exponential_(generator=generator)
    large = ((std * error).square() + texture.square()).sqrt()
    small = measured_variance(model.normalise(mean), model.measure(noisy)).sqrt() * scale
    return small.where(torch.rand(len(noisy), 1, 1, 1, generator=generator) < _SMALL, large)


def _first(config: DistillConfig) -> int:
    """Number of patches of set 1 in a batch.

    There is at least one of each set, unless a set is omitted.
    """
    if config.noisy_share in (0, 1):
        return int(config.batch * config.noisy_share)
    return min(max(round(config.batch * config.noisy_share), 1), max(config.batch - 1, 1))


def _draw(images: Sequence[np.ndarray], size: int, count: int, generator: torch.Generator) -> list[int]:
    chosen: list[int] = torch.multinomial(areas(images, size), count, replacement=True, generator=generator).tolist()
    return chosen


def _power(variance: Variance, valid: Mask) -> Tensor:
    """Mean noise variance of each patch inside the image."""
    inside = (channel_variance(variance) * valid).mean((1, 2, 3), keepdim=True)
    return (inside / valid.mean((1, 2, 3), keepdim=True)).clamp_min(_LEAST_VAR)
