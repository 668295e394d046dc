"""The figure that selects the best student, without the truth (math.md, S4).

Tested in tests/unit/test_distill.py.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from dbsn.config import DistillConfig
from dbsn.likelihood import coloured, spread_nll
from dbsn.models.student import Student
from dbsn.networks.layers import full_precision
from dbsn.tensors import as_tensor
from dbsn.training.pairs import NoiseSource, Pairs, resized_to, scale_at, synthetic_pairs
from dbsn.training.teacher import TeacherResults
from dbsn.types import Image, Scalar

_HELD_OUT, _HELD_OUT_SIDE = 8, 192
_PROBE = 0.1  # disturbance for Stein's estimate, in standard deviations of the noise


class HeldOut:
    """The figure that selects the best student, without the truth (S4).

    It is the mean of two relative squared errors:

    - on held-out clean images with learned noise
    - Stein's unbiased estimate on held-out noisy images with their own noise

    Both are in units of the noise variance: the noisy image has 1. Under `any:` and `jpeg:` noise the first has the
    unit of S6. For a baseline only the first counts. If only the uncertainty is trained, the figure is its negative
    log-likelihood on the clean images.
    """

    def __init__(
        self, known: TeacherResults, clean: Sequence[np.ndarray], config: DistillConfig, level_cell: int | None
    ) -> None:
        self.uncertainty_alone = config.uncertainty_alone
        generator = torch.Generator().manual_seed(config.seed)
        source = NoiseSource(learned=known.noise, config=replace(config, baseline=None), level_cell=level_cell)
        self.synthetic = [
            synthetic_pairs(crop, torch.ones_like(crop[:, :1]), source, generator)
            for crop in (_shrunk_square(image, at, scale_at(config, share)) for image, at, share in _places(clean))
        ]
        self.noisy: list[tuple[Image, Image]] = []
        held = (
            [] if config.baseline or config.uncertainty_alone else known.hold_out()[1]
        )  # a baseline sees no noisy image
        for number, image, result in evenly(held):
            noisy = as_tensor(_square(image))
            variance = known.noise.variance(as_tensor(_square(result)), [number])
            self.noisy.append((noisy, coloured(variance, known.noise.white(noisy, generator, [number]))))

    def __call__(self, student: Student) -> float:
        """The figure of one student; lower is better."""
        device = next(student.parameters()).device
        with torch.inference_mode():
            if self.uncertainty_alone:
                return float(torch.stack([_surprise(student, pairs.to(device)) for pairs in self.synthetic]).mean())
            errors = [_relative_error(student, pairs.to(device)) for pairs in self.synthetic]
            risks = [stein_risk(student, noisy.to(device), noise.to(device)) for noisy, noise in self.noisy]
        return float(torch.stack([torch.stack(part).mean() for part in (errors, risks) if part]).mean())


def _relative_error(student: Student, pairs: Pairs) -> Scalar:
    return ((student(pairs.noisy, pairs.level) - pairs.target).square() / pairs.error_unit).mean()


def _surprise(student: Student, pairs: Pairs) -> Scalar:
    denoised, std = student(pairs.noisy, pairs.level, with_std=True)
    return spread_nll(denoised - pairs.target, std, pairs.error_unit, pairs.valid)


def stein_risk(denoise: Callable[[Image], Image], noisy: Image, noise: Image) -> Scalar:
    """Estimate a denoiser's squared error over the noise variance (Stein 1981, S4).

    It needs a noisy image alone.

    Args:
        denoise: Any denoiser: a network or a function.
        noisy: (b, c, h, w) intensities.
        noise: A fresh draw of the noise in `noisy`. A tenth of it is added to measure the change of the result.
    """
    with full_precision(noisy):  # the rounding of bf16 would count ten times
        denoised = denoise(noisy)
        moved = (denoise(noisy + _PROBE * noise) - denoised) / _PROBE
    power = noise.square().mean()
    return (denoised - noisy).square().mean() / power - 1 + 2 * (noise * moved).mean() / power


def evenly(items: Sequence[Any]) -> Iterator[Any]:
    """Eight items, evenly chosen, or all if there are fewer."""
    count = min(len(items), _HELD_OUT)
    return (items[i * len(items) // count] for i in range(count))


def _places(images: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, float, float]]:
    """Eight places or a few more, in at most eight images.

    A place is an image, a position on its diagonal, and a share that rises from 0 to 1 over the places.
    """
    each = -(-_HELD_OUT // max(1, len(images)))
    places = [(image, (k + 0.5) / each) for k in range(each) for image in evenly(images)]
    return ((*place, (number + 0.5) / len(places)) for number, place in enumerate(places))


def _shrunk_square(image: np.ndarray, at: float, factor: float) -> Image:
    """192 x 192 pixels, as `_square`, of an image shrunk as training patches are."""
    square = as_tensor(_square(image, at, round(_HELD_OUT_SIDE * factor)))
    size = tuple(max(1, round(side / factor)) for side in square.shape[-2:])
    return resized_to(square, (size[0], size[1])) if factor != 1 else square


def _square(image: np.ndarray, at: float = 0.5, side: int = _HELD_OUT_SIDE) -> np.ndarray:
    """A square of an image (h, w, c) on its diagonal, by default in the middle."""
    top, left = (int(max(length - side, 0) * at) for length in image.shape[:2])
    return image[top : top + side, left : left + side]
