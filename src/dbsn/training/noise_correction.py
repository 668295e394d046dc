"""Correction of the learned noise by a student (math.md, S9).

The residual of an optimal denoiser gives the noise variance at each intensity (Stein). Ours is not optimal. The same
error appears on the teacher's results with the learned noise added, so we use the ratio. Training and files do not
belong here. Tested in tests/unit/test_noise_correction.py.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dbsn.inference.options import InferenceOptions
from dbsn.inference.student import apply_student
from dbsn.intensity import to_pixels
from dbsn.likelihood import channel_variance
from dbsn.models.calibration import stacked
from dbsn.models.student import Student
from dbsn.noise.learned import ImageNoise, NoiseModel
from dbsn.tensors import as_tensor

_SIDE, _MOST_PIXELS = 1024, 6_000_000  # largest side of an image's middle, and most pixels of all images, that are used
_MOST_BINS, _PIXELS_A_BIN, _FEWEST = 12, 4000, 500
_ROUNDS = 2  # the residual is only nearly proportional to the noise
_LEAST = 1e-6  # of the noise variance; a smaller residual counts as none
_PROBE = 0.4  # of the noise, to measure how much passes; the same for both, far above the rounding of bf16
_LEAST_STOPPED = 0.1  # smallest share of the noise that is removed
_FURTHEST = 4.0  # largest factor on the variance in one round, up or down


def refined(
    noise: NoiseModel, student: Student, noisy: Sequence[np.ndarray], results: Sequence[np.ndarray], *, bf16: bool
) -> NoiseModel:
    """Correct the noise of each image by the residual of a student (S9).

    An image that cannot be corrected (`can_tell`) keeps its noise.

    Args:
        noise: The learned noise of these images.
        student: Any denoiser trained for such images and such noise, in evaluation mode.
        noisy: The images, (h, w, c), in the file's data type.
        results: The teacher's results for them, (h, w, c) intensities.
        bf16: Convolve in bfloat16.
    """
    side = min(_SIDE, int((_MOST_PIXELS / max(1, len(noisy))) ** 0.5))
    for number, (image, result) in enumerate(zip(noisy, results, strict=True)):
        if can_tell(noise.images[number]):
            middles = to_pixels(_middle(image, side)), _middle(result, side)
            noise = _refined(noise, number, student, *middles, bf16=bf16)
    return noise


def can_tell(noise: ImageNoise) -> bool:
    """Whether an image's noise can be corrected.

    The image must be large enough for a calibration, and its noise independent.
    """
    return noise.calibration is not None and noise.kernel is None


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return image[top : top + side, left : left + side]


@dataclass(frozen=True)
class _TakenOut:
    """A student's result and residual in one channel of an image, (n,) each."""

    left: Tensor
    """The result."""
    taken: Tensor
    """The residual squared."""
    power: Tensor
    """A draw of the noise, squared."""
    echo: Tensor
    """The draw times the change of the result when the draw is added."""

    def noise_var(self, those: Tensor, least: float) -> Tensor:
        """Noise variance at some of the pixels, for a student that is optimal.

        Its result f(y) is the truth x on average, for every y. For Gaussian noise n = y - x this gives
        E (y - f)^2 = E n^2 - E n f. Here E n f is the noise variance times the share of noise that passes (Stein 1981).
        """
        share = self.echo[those].mean() / (self.power[those].mean() + least)
        return (self.taken[those].mean() + least) / (1 - share).clamp_min(_LEAST_STOPPED)


def _refined(
    noise: NoiseModel, number: int, student: Student, noisy: np.ndarray, result: np.ndarray, *, bf16: bool
) -> NoiseModel:
    """Correct the noise of one image; noisy image and result are intensities."""
    bins = 1 if noise.model.noise_estimator.per_image else max(1, min(_MOST_BINS, noisy[..., 0].size // _PIXELS_A_BIN))
    generator, clean = torch.Generator().manual_seed(number), as_tensor(result)
    least = _LEAST * float(channel_variance(noise.variance(clean, [number])).mean())

    def drawn() -> np.ndarray:
        return noise.sample(clean, generator, [number])[0].permute(1, 2, 0).numpy()

    probe = drawn() - result  # one for all, so that most of its random error cancels
    real = _taken_out(student, noisy, probe, bf16=bf16)
    for _ in range(_ROUNDS):
        calibration = noise.images[number].calibration
        assert calibration is not None
        synthetic = _taken_out(student, drawn(), probe, bf16=bf16)
        curves = [_ratio(*channel, bins, least) for channel in zip(real, synthetic, strict=True)]
        at, ratio = (stacked([curve[kind] for curve in curves]) for kind in (0, 1))
        skewness = calibration.noise_skewness(at[None, :, None])[0, :, 0]
        images = list(noise.images)
        images[number] = noise.calibrated_to(number, at, ratio * noise.at(number, at), skewness)
        noise = NoiseModel(noise.model, images, noise.recording)
    return noise


def _taken_out(student: Student, noisy: np.ndarray, probe: np.ndarray, *, bf16: bool) -> list[_TakenOut]:
    """Result and residual of a student in each channel of an image (h, w, c).

    The probe is a draw of its noise, in the same shape.
    """
    left = apply_student(student, noisy, options=InferenceOptions(bf16=bf16))
    moved = (apply_student(student, noisy + _PROBE * probe, options=InferenceOptions(bf16=bf16)) - left) / _PROBE
    kinds = (left, (noisy - left) ** 2, probe**2, probe * moved)
    channels = zip(*(np.moveaxis(kind, -1, 0) for kind in kinds), strict=True)
    return [_TakenOut(*(torch.from_numpy(kind.ravel()) for kind in channel)) for channel in channels]


def _ratio(real: _TakenOut, drawn: _TakenOut, bins: int, least: float) -> tuple[Tensor, Tensor]:
    """Intensities, and the noise variance of a real channel over that of a drawn one.

    Both are (n,).

    Args:
        real: One channel of the noisy image.
        drawn: The same channel with drawn noise.
        bins: Number of bins of pixels of similar intensity.
        least: Added to both variances, so that 0 over 0 is 1.
    """
    edges = torch.quantile(real.left, torch.arange(1, bins) / bins)
    here, there = (torch.bucketize(each.left, edges) for each in (real, drawn))
    both = [(here == number, there == number) for number in range(bins)]
    known = [parts for parts in both if min(int(part.sum()) for part in parts) >= _FEWEST] or [(here >= 0, there >= 0)]
    middles = [real.left[part].mean() for part, _ in known]
    ratios = [real.noise_var(part, least) / drawn.noise_var(other, least) for part, other in known]
    return torch.stack(middles), torch.stack(ratios).clamp(1 / _FURTHEST, _FURTHEST)
