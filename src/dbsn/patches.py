"""Noisy images in memory, and the random patches a training step sees.

Promise: every image and (on average) every pixel counts the same, whatever the images' sizes; step k's batch is a
function of (seed, k) alone, which is what makes an interrupted training resumable bit for bit
(tests/unit/test_patches.py). Reading files does not belong here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from dbsn.images import to_pixels
from dbsn.types import Image, Mask

_HELD_OUT_EVERY = 20
_STRIP = 8
_RANGE_SAMPLES = 4_000_000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of noisy images."""

    noisy: Image
    """Intensities (b, c, h, w)."""
    measurement: Tensor
    """`BlindSpotModel.measure` of the whole images that the patches are from, (b, m, 1, 1)."""
    valid: Mask
    """1 inside the image, 0 where a patch is larger than it, (b, 1, h, w)."""
    phase: tuple[int, int] | None = None
    """The grid phase to evaluate; None for all pixels."""
    spacing: int = 1
    """Of the grid that the phase belongs to."""
    seed: int = 0
    """Of whatever else the step draws."""

    @property
    def predicted(self) -> Mask:
        """`valid` at the pixels that are predicted: all, or those of the phase."""
        row, column = self.phase or (0, 0)
        return self.valid[..., row :: self.spacing, column :: self.spacing]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device, images channels-last."""
        noisy = self.noisy.to(device, memory_format=torch.channels_last)
        return replace(self, noisy=noisy, measurement=self.measurement.to(device), valid=self.valid.to(device))


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Noisy images (h, w, c) in any integer or float kind, and what has been measured of each."""

    images: Sequence[np.ndarray]
    measurements: Sequence[Tensor]

    @staticmethod
    def of(images: Sequence[np.ndarray], measure: Callable[[Image], Tensor]) -> "ImageSet":
        """Measure every whole image."""
        return ImageSet(images=images, measurements=[measure(as_tensor(image)) for image in images])

    def hold_out(self) -> tuple["ImageSet", "ImageSet"]:
        """Set noisy pixels aside for validation: every 20th image, or an eighth of each image where there are few.

        Returns:
            What to learn from and what to validate on; their pixels are disjoint unless an image has fewer than 8
            rows. Both keep the measurements of the whole images.
        """
        count = len(self.images)
        if count >= _HELD_OUT_EVERY:
            held = [i for i in range(count) if i % _HELD_OUT_EVERY == _HELD_OUT_EVERY // 2]
            return self._some(sorted(set(range(count)) - set(held))), self._some(held)
        cuts = [image.shape[0] - image.shape[0] // _STRIP for image in self.images]
        learned = [image[:cut] for image, cut in zip(self.images, cuts, strict=True)]
        strips = [image[cut:] if cut < len(image) else image for image, cut in zip(self.images, cuts, strict=True)]
        return replace(self, images=learned), replace(self, images=strips)

    def _some(self, which: Sequence[int]) -> "ImageSet":
        return ImageSet(images=[self.images[i] for i in which], measurements=[self.measurements[i] for i in which])


def as_tensor(image: np.ndarray) -> Image:
    """An array (h, w, c) of any kind as intensities (1, c, h, w)."""
    pixels = image if image.dtype == np.float32 else to_pixels(image)
    return torch.from_numpy(np.require(pixels.transpose(2, 0, 1), requirements=["C", "W"])).unsqueeze(0)


def intensity_range(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Middle and half-width of the intensities that occur, but for the outermost thousandth: what a network sees as
    0 and 1.
    """
    stride = max(1, round((sum(image.size for image in images) / _RANGE_SAMPLES) ** 0.5))
    pixels = np.concatenate([to_pixels(image[::stride, ::stride]).ravel() for image in images])
    low, high = np.quantile(pixels, [1e-3, 1 - 1e-3]).tolist()
    middle, half = (low + high) / 2, (high - low) / 2
    return middle, max(half, 1e-6 * abs(middle)) or 1.0


class Patches:
    """Random patches: `patches(step)` is the batch of that step. What lies beyond a small image is `fill`."""

    def __init__(
        self, data: ImageSet, *, size: int, batch: int, multiple: int, spacing: int, seed: int, fill: float
    ) -> None:
        self.data, self.batch, self.seed, self.spacing, self.fill = data, batch, seed, spacing, fill
        largest = max(max(image.shape[:2]) for image in data.images)
        fitting = min(size, largest)
        self.size = max(multiple, fitting // multiple * multiple)
        areas = [max(image.shape[0], self.size) * max(image.shape[1], self.size) for image in data.images]
        self.weights = torch.tensor(areas, dtype=torch.float64)

    def __call__(self, step: int, rank: int = 0) -> Batch:
        """The batch of one step (of one process of several); the same for the same seed, step and rank."""
        seed = int(np.random.SeedSequence([self.seed, step, rank]).generate_state(1, np.uint64)[0])
        generator = torch.Generator().manual_seed(seed % 2**63)
        chosen = torch.multinomial(self.weights, self.batch, replacement=True, generator=generator).tolist()
        pairs = [self._patch(self.data.images[index], generator) for index in chosen]
        row, column = torch.randint(self.spacing, (2,), generator=generator).tolist()
        return Batch(
            noisy=torch.stack([noisy for noisy, _ in pairs]),
            valid=torch.stack([valid for _, valid in pairs]),
            measurement=torch.cat([self.data.measurements[index] for index in chosen]),
            phase=(row, column) if self.spacing > 1 else None,
            spacing=self.spacing,
            seed=seed % 2**63,
        )

    def _patch(self, image: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One patch (c, size, size), flipped and transposed at random, and where it lies in the image."""
        draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        top, left = (self._start(side, draw) for side, draw in zip(image.shape[:2], draws, strict=False))
        crop = as_tensor(image[top : top + self.size, left : left + self.size])[0]
        missing = (0, self.size - crop.shape[-1], 0, self.size - crop.shape[-2])
        valid = torch.nn.functional.pad(torch.ones_like(crop[:1]), missing)
        crop = torch.nn.functional.pad(crop, missing, value=self.fill)
        for flip, dim in ((draws[2], -1), (draws[3], -2)):
            if flip < 0.5:
                crop, valid = crop.flip(dim), valid.flip(dim)
        return (crop.mT, valid.mT) if draws[4] < 0.5 else (crop, valid)

    def _start(self, side: int, draw: float) -> int:
        """First row or column of a patch; patches may be drawn over the edge and pushed back, so that edges count."""
        half = self.size // 2
        return min(max(int(draw * (side + 1)) - half, 0), max(side - self.size, 0))
