"""Noisy images in memory, and random patches of them for training.

Promises, tested in tests/unit/test_patches.py: On average every pixel counts the same, whatever the images' sizes. The
batch of step k is a function of (seed, k) alone. So an interrupted training can be resumed bit for bit. Reading files
does not belong here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from dbsn.config import Training
from dbsn.devices import MEMORY_FORMAT
from dbsn.orientations import Orientation
from dbsn.tensors import as_tensor, step_seed
from dbsn.types import Image, Mask

_HELD_OUT_EVERY = 20
_STRIP = 8


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Patches of noisy images."""

    noisy: Image
    """Intensities (b, c, h, w)."""
    measurement: Tensor
    """`BlindSpotModel.measure` of the patches' whole images, (b, m, 1, 1)."""
    valid: Mask
    """1 inside the image, 0 outside of it, (b, 1, h, w)."""
    phase: tuple[int, int] | None = None
    """The grid phase to evaluate; None for all pixels."""
    spacing: int = 1
    """Spacing of the grid that the phase belongs to."""
    seed: int = 0
    """Seed of the step's other random numbers."""
    truth: Image | None = None
    """The clean patches, if they are known."""

    @property
    def predicted(self) -> Mask:
        """`valid` at the predicted pixels: all, or those of the phase."""
        return self.of_phase(self.valid)

    def of_phase(self, patches: Tensor) -> Tensor:
        """The predicted pixels of patches (b, c, h, w)."""
        row, column = self.phase or (0, 0)
        return patches[..., row :: self.spacing, column :: self.spacing]

    @property
    def pixels(self) -> int:
        """Number of predicted pixels."""
        return self.predicted.numel()

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device, in its fastest memory format."""
        noisy = self.noisy.to(device, memory_format=MEMORY_FORMAT)
        measurement, valid = self.measurement.to(device), self.valid.to(device)
        truth = None if self.truth is None else self.truth.to(device)
        return replace(self, noisy=noisy, measurement=measurement, valid=valid, truth=truth)


@dataclass(frozen=True, kw_only=True)
class ImageSet:
    """Noisy images (h, w, c) of any integer or float type, and their measurements."""

    images: Sequence[np.ndarray]
    measurements: Sequence[Tensor]
    truth: Sequence[np.ndarray] = ()
    """The same images without noise, if they are known."""

    @staticmethod
    def of(
        images: Sequence[np.ndarray], measure: Callable[[Image], Tensor], truth: Sequence[np.ndarray] = ()
    ) -> "ImageSet":
        """Measure every whole image."""
        return ImageSet(images=images, measurements=[measure(as_tensor(image)) for image in images], truth=truth)

    def hold_out(self, siblings: int = 1) -> tuple["ImageSet", "ImageSet"]:
        """Hold out noisy pixels for validation, see the function `hold_out`.

        Both parts keep the measurements of the whole images.
        """
        truths = hold_out(self.truth, siblings) if self.truth else ([], [])
        learned, held = (
            ImageSet(
                images=[image for _, image in part],
                measurements=[self.measurements[i] for i, _ in part],
                truth=[image for _, image in truth],
            )
            for part, truth in zip(hold_out(self.images, siblings), truths, strict=True)
        )
        return learned, held


Numbered = list[tuple[int, np.ndarray]]


def hold_out(images: Sequence[np.ndarray], siblings: int = 1) -> tuple[Numbered, Numbered]:
    """Hold out pixels for validation.

    From 20 images on it is every 20th image, otherwise an eighth of each image.

    Args:
        images: (h, w, c) each.
        siblings: Number of consecutive images of one photograph, which stay together.

    Returns:
        Images for training and for validation, each with its number. Their pixels are disjoint, unless an image has
        fewer than 8 rows.
    """
    if len(images) >= _HELD_OUT_EVERY * siblings:
        kinds: tuple[Numbered, Numbered] = [], []
        for i, image in enumerate(images):
            kinds[i // siblings % _HELD_OUT_EVERY == _HELD_OUT_EVERY // 2].append((i, image))
        return kinds
    cuts = [image.shape[0] - image.shape[0] // _STRIP for image in images]
    parts = list(zip(images, cuts, strict=True))
    learned = [(i, image[:cut]) for i, (image, cut) in enumerate(parts)]
    return learned, [(i, image[cut:] if cut < len(image) else image) for i, (image, cut) in enumerate(parts)]


def cut(
    images: Sequence[np.ndarray], size: int, fill: float, generator: torch.Generator
) -> tuple[list[Tensor], Tensor]:
    """Cut a random patch, randomly oriented, of aligned images (h, w, c).

    Returns:
        The same patch (c, size, size) of each image, and a mask that is 1 inside the images, (1, size, size).
    """
    draws = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
    top, left = (_start(side, size, draw) for side, draw in zip(images[0].shape[:2], draws, strict=False))
    crops = [as_tensor(image[top : top + size, left : left + size])[0] for image in images]
    missing = (0, size - crops[0].shape[-1], 0, size - crops[0].shape[-2])
    patches = [functional.pad(crop, missing, value=fill) for crop in crops]
    patches.append(functional.pad(torch.ones_like(crops[0][:1]), missing))
    orientation = Orientation(*(draw < 0.5 for draw in draws[2:]))
    patches = [orientation.turned(patch) for patch in patches]
    return patches[:-1], patches[-1]


def _start(side: int, size: int, draw: float) -> int:
    """First row or column of a patch.

    A patch drawn over the edge is moved back inside, so that pixels at edges count.
    """
    return min(max(int(draw * (side + 1)) - size // 2, 0), max(side - size, 0))


def fitting_size(images: Sequence[np.ndarray], size: int, multiple: int) -> int:
    """The patch size, limited by the largest image, in multiples of `multiple`."""
    largest = max(max(image.shape[:2]) for image in images)
    return max(multiple, min(size, largest) // multiple * multiple)


def areas(images: Sequence[np.ndarray], size: int) -> Tensor:
    """Weights for drawing images, so that all pixels count the same: (n,)."""
    return torch.tensor([max(i.shape[0], size) * max(i.shape[1], size) for i in images], dtype=torch.float64)


class Patches:
    """Random patches: `patches(step)` is the batch of that step.

    Pixels outside of a small image are `fill`.
    """

    def __init__(self, data: ImageSet, config: Training, *, multiple: int, spacing: int, fill: float) -> None:
        self.data, self.batch, self.seed, self.spacing, self.fill = data, config.batch, config.seed, spacing, fill
        self.size = fitting_size(data.images, config.patch, multiple)
        self.weights = areas(data.images, self.size)

    def __call__(self, step: int, rank: int = 0) -> Batch:
        """Draw the batch of one step in one process.

        It is the same for the same seed, step and rank.
        """
        seed = step_seed(self.seed, step, rank)
        generator = torch.Generator().manual_seed(seed)
        chosen = torch.multinomial(self.weights, self.batch, replacement=True, generator=generator).tolist()
        kinds = [self.data.images, self.data.truth] if self.data.truth else [self.data.images]
        cuts = [cut([kind[index] for kind in kinds], self.size, self.fill, generator) for index in chosen]
        noisy, *truth = (torch.stack([patches[kind] for patches, _ in cuts]) for kind in range(len(kinds)))
        row, column = torch.randint(self.spacing, (2,), generator=generator).tolist()
        return Batch(
            noisy=noisy,
            valid=torch.stack([valid for _, valid in cuts]),
            measurement=torch.cat([self.data.measurements[index] for index in chosen]),
            phase=(row, column) if self.spacing > 1 else None,
            spacing=self.spacing,
            seed=seed,
            truth=truth[0] if truth else None,
        )
