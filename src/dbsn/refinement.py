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
from dbsn.noisemodel import NoiseModel
from dbsn.patches import as_tensor
from dbsn.picture import to_pixels
from dbsn.student import Student

_SIDE = 1024  # pixels of an image's middle that are looked at
_MOST_BINS, _PIXELS_A_BIN, _FEWEST = 12, 4000, 500
_ROUNDS = 2  # the amounts are only nearly proportional to the noise
_LEAST = 1e-12  # intensity squared
_FURTHEST = 4.0  # a factor on the variance in one round, either way


def refined(
    noise: NoiseModel, student: Student, noisy: Sequence[np.ndarray], results: Sequence[np.ndarray], *, bf16: bool
) -> NoiseModel:
    """The same folder's noise, that of each image corrected by what a student takes out of it (S9).

    An image that is too small to be calibrated, or whose neighbours share noise, keeps the noise it has.

    Args:
        noise: Of these images.
        student: Any denoiser of such images, best one for such noise; in evaluation mode.
        noisy: The images, (h, w, c), in the file's own kind.
        results: What the teacher made of them, (h, w, c) intensities.
        bf16: Convolve in bfloat16.
    """
    for number, (image, result) in enumerate(zip(noisy, results, strict=True)):
        if noise.images[number].calibration and noise.images[number].kernel is None:
            noise = _refined(noise, number, student, to_pixels(_middle(image)), _middle(result), bf16=bf16)
    return noise


def _middle(image: np.ndarray) -> np.ndarray:
    top, left = (max(0, length - _SIDE) // 2 for length in image.shape[:2])
    return image[top : top + _SIDE, left : left + _SIDE]


def _refined(
    noise: NoiseModel, number: int, student: Student, noisy: np.ndarray, result: np.ndarray, *, bf16: bool
) -> NoiseModel:
    """The noise with that of one image corrected; noisy image and result in intensities."""
    bins = 1 if noise.model.noise_estimator.per_image else min(_MOST_BINS, noisy[..., 0].size // _PIXELS_A_BIN)
    generator, real = torch.Generator().manual_seed(number), _taken_out(student, noisy, bf16=bf16)
    for _ in range(_ROUNDS):
        calibration = noise.images[number].calibration
        assert calibration is not None
        drawn = noise.sample(as_tensor(result), generator, [number])[0].permute(1, 2, 0).numpy()
        curves = [_ratio(*both, bins) for both in zip(real, _taken_out(student, drawn, bf16=bf16), strict=True)]
        at, ratio = (stacked([curve[kind] for curve in curves]) for kind in (0, 1))
        skewness = calibration.noise_skewness(at[None, :, None])[0, :, 0]
        images = list(noise.images)
        images[number] = noise.corrected(number, at, ratio * noise.at(number, at), skewness)
        noise = NoiseModel(noise.model, images, noise.recording)
    return noise


def _taken_out(student: Student, noisy: np.ndarray, *, bf16: bool) -> list[tuple[Tensor, Tensor]]:
    """For each channel of an image, what is left of its pixels, and the square of what is taken out, (n,) each."""
    left = apply_student(student, noisy, bf16=bf16)
    pairs = zip(np.moveaxis(left, -1, 0), np.moveaxis((noisy - left) ** 2, -1, 0), strict=True)
    return [(torch.from_numpy(result.ravel()), torch.from_numpy(taken.ravel())) for result, taken in pairs]


def _ratio(real: tuple[Tensor, Tensor], drawn: tuple[Tensor, Tensor], bins: int) -> tuple[Tensor, Tensor]:
    """Intensities, and how much more is taken out of a real channel there than of a drawn one, a factor; (n,) each."""
    edges = torch.quantile(real[0], torch.arange(1, bins) / bins)
    here, there = (torch.bucketize(left, edges) for left, _ in (real, drawn))
    both = [(here == number, there == number) for number in range(bins)]
    known = [parts for parts in both if min(int(part.sum()) for part in parts) >= _FEWEST] or [(here >= 0, there >= 0)]
    middles = [real[0][part].mean() for part, _ in known]
    ratios = [real[1][part].mean() / drawn[1][other].mean().clamp_min(_LEAST) for part, other in known]
    return torch.stack(middles), torch.stack(ratios).clamp(1 / _FURTHEST, _FURTHEST)
