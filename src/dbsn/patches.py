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
from dbsn.types import Image

HELD_OUT_SHARE = 0.05
_FEWEST_IMAGES = 8
_STRIP = 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of noisy images."""

    noisy: Image
    """Intensities (b, c, h, w)."""
    measurement: Tensor
    """`BlindSpotModel.measure` of the whole images that the patches are from, (b, m, 1, 1)."""
    valid: Image
    """1 inside the image, 0 where a patch is larger than it, (b, 1, h, w)."""
    phase: tuple[int, int] | None = None
    """The grid phase to evaluate; None for all pixels."""
    pixels: int
    """Pixels that are predicted."""
    seed: int = 0
    """Of whatever else the step draws."""

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


def as_tensor(image: np.ndarray) -> Image:
    """An array (h, w, c) of any kind as intensities (1, c, h, w)."""
    return torch.from_numpy(np.ascontiguousarray(to_pixels(image).transpose(2, 0, 1))).unsqueeze(0)


def intensity_range(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Middle and half-width of the intensities that occur, but for the outermost thousandth: what a network sees as
    0 and 1.
    """
    pixels = np.concatenate([to_pixels(image[::4, ::4]).ravel() for image in images])
    low, high = np.quantile(pixels, [1e-3, 1 - 1e-3]).tolist()
    return (low + high) / 2, max((high - low) / 2, 1e-6)


def hold_out(images: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Set noisy pixels aside for validation: every 20th image, or an eighth of each image where there are few.

    Returns:
        Images to learn from and images to validate on; their pixels are disjoint unless an image is a single row.
    """
    if len(images) >= _FEWEST_IMAGES:
        stride = min(round(1 / HELD_OUT_SHARE), len(images))
        return [image for i, image in enumerate(images) if i % stride != stride // 2], list(
            images[stride // 2 :: stride]
        )
    cuts = [image.shape[0] - image.shape[0] // _STRIP for image in images]
    learned = [image[:cut] for image, cut in zip(images, cuts, strict=True)]
    held = [image[cut:] if cut < len(image) else image for image, cut in zip(images, cuts, strict=True)]
    return learned, held


class Patches:
    """Random patches: `patches(step)` is the batch of that step."""

    def __init__(self, data: ImageSet, *, size: int, batch: int, multiple: int, spacing: int, seed: int) -> None:
        self.data, self.batch, self.seed, self.spacing = data, batch, seed, spacing
        largest = max(max(image.shape[:2]) for image in data.images)
        fitting = min(size, largest)
        self.size = max(multiple, fitting // multiple * multiple)
        self.weights = torch.tensor([float(image.shape[0] * image.shape[1]) for image in data.images]).double()

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
            pixels=self.batch * (self.size // self.spacing) ** 2,
            seed=seed % 2**63,
        )

    def _patch(self, image: np.ndarray, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """One patch (c, size, size), flipped and transposed at random, and where it lies in the image."""
        draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        top, left = (self._start(side, draw) for side, draw in zip(image.shape[:2], draws, strict=False))
        crop = as_tensor(image[top : top + self.size, left : left + self.size])[0]
        missing = (0, self.size - crop.shape[-1], 0, self.size - crop.shape[-2])
        valid = torch.nn.functional.pad(torch.ones_like(crop[:1]), missing)
        crop = torch.nn.functional.pad(crop, missing)
        for flip, dim in ((draws[2], -1), (draws[3], -2)):
            if flip < 0.5:
                crop, valid = crop.flip(dim), valid.flip(dim)
        return (crop.mT, valid.mT) if draws[4] < 0.5 else (crop, valid)

    def _start(self, side: int, draw: float) -> int:
        """First row or column of a patch; patches may be drawn over the edge and pushed back, so that edges count."""
        half = self.size // 2
        return min(max(int(draw * (side + 1)) - half, 0), max(side - self.size, 0))
