"""What a student takes out of noisy images says how large their noise is (docs/math.md, S9).

It takes as much out of the teacher's results with the learned noise on them, if that is right; if not, the two amounts
say at each intensity by how much. Less detail is in the way than for a blind spot, and what is in the way is in both.
Training and files do not belong here. Tested in tests/unit/test_refinement.py.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from dbsn.calibrate import stacked
from dbsn.infer import apply_student
from dbsn.likelihood import channel_variance
from dbsn.noisemodel import ImageNoise, NoiseModel
from dbsn.patches import as_tensor
from dbsn.picture import to_pixels
from dbsn.student import Student

_SIDE, _MOST_PIXELS = 1024, 6_000_000  # of an image's middle, and of all images together, that are looked at
_MOST_BINS, _PIXELS_A_BIN, _FEWEST = 12, 4000, 500
_ROUNDS = 2  # the amounts are only nearly proportional to the noise
_LEAST = 1e-6  # of the noise variance; who takes less out takes nothing out
_FURTHEST = 4.0  # a factor on the variance in one round, either way


def refined(
    noise: NoiseModel, student: Student, noisy: Sequence[np.ndarray], results: Sequence[np.ndarray], *, bf16: bool
) -> NoiseModel:
    """The same folder's noise, that of each image corrected by what a student takes out of it (S9).

    One that cannot tell (`can_tell`) keeps the noise it has.

    Args:
        noise: Of these images.
        student: Any denoiser of such images, best one for such noise; in evaluation mode.
        noisy: The images, (h, w, c), in the file's own kind.
        results: What the teacher made of them, (h, w, c) intensities.
        bf16: Convolve in bfloat16.
    """
    side = min(_SIDE, int((_MOST_PIXELS / max(1, len(noisy))) ** 0.5))
    for number, (image, result) in enumerate(zip(noisy, results, strict=True)):
        if can_tell(noise.images[number]):
            middles = to_pixels(_middle(image, side)), _middle(result, side)
            noise = _refined(noise, number, student, *middles, bf16=bf16)
    return noise


def can_tell(noise: ImageNoise) -> bool:
    """Whether an image's noise can be corrected: it is large enough to be calibrated, and its neighbours share none."""
    return noise.calibration is not None and noise.kernel is None


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _refined(
    noise: NoiseModel, number: int, student: Student, noisy: np.ndarray, result: np.ndarray, *, bf16: bool
) -> NoiseModel:
    """The noise with that of one image corrected; noisy image and result in intensities."""
    bins = 1 if noise.model.noise_estimator.per_image else max(1, min(_MOST_BINS, noisy[..., 0].size // _PIXELS_A_BIN))
    generator, clean = torch.Generator().manual_seed(number), as_tensor(result)
    least = _LEAST * float(channel_variance(noise.variance(clean, [number])).mean())
    real = _taken_out(student, noisy, bf16=bf16)
    for _ in range(_ROUNDS):
        calibration = noise.images[number].calibration
        assert calibration is not None
        drawn = noise.sample(clean, generator, [number])[0].permute(1, 2, 0).numpy()
        both = zip(real, _taken_out(student, drawn, bf16=bf16), strict=True)
        curves = [_ratio(*channel, bins, least) for channel in both]
        at, ratio = (stacked([curve[kind] for curve in curves]) for kind in (0, 1))
        skewness = calibration.noise_skewness(at[None, :, None])[0, :, 0]
        images = list(noise.images)
        images[number] = noise.calibrated_to(number, at, ratio * noise.at(number, at), skewness)
        noise = NoiseModel(noise.model, images, noise.recording)
    return noise


def _taken_out(student: Student, noisy: np.ndarray, *, bf16: bool) -> list[tuple[Tensor, Tensor]]:
    """For each channel of an image, what is left of its pixels, and the square of what is taken out, (n,) each."""
    left = apply_student(student, noisy, bf16=bf16)
    pairs = zip(np.moveaxis(left, -1, 0), np.moveaxis((noisy - left) ** 2, -1, 0), strict=True)
    return [(torch.from_numpy(result.ravel()), torch.from_numpy(taken.ravel())) for result, taken in pairs]


def _ratio(real: tuple[Tensor, Tensor], drawn: tuple[Tensor, Tensor], bins: int, least: float) -> tuple[Tensor, Tensor]:
    """Intensities, and how much more is taken out of a real channel there than of a drawn one, a factor; (n,) each.

    Args:
        real: Of one channel, as of `_taken_out`.
        drawn: The same, with drawn noise.
        bins: How many groups of like pixels.
        least: Added to both amounts, so that nothing is as much as nothing.
    """
    edges = torch.quantile(real[0], torch.arange(1, bins) / bins)
    here, there = (torch.bucketize(left, edges) for left, _ in (real, drawn))
    both = [(here == number, there == number) for number in range(bins)]
    known = [parts for parts in both if min(int(part.sum()) for part in parts) >= _FEWEST] or [(here >= 0, there >= 0)]
    middles = [real[0][part].mean() for part, _ in known]
    ratios = [(real[1][part].mean() + least) / (drawn[1][other].mean() + least) for part, other in known]
    return torch.stack(middles), torch.stack(ratios).clamp(1 / _FURTHEST, _FURTHEST)
