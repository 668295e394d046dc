"""Arrays as tensors, and the seed of one step.

Tested in tests/unit/test_patches.py. Networks and files do not belong here.
"""

import numpy as np
import torch

from dbsn.intensity import to_pixels
from dbsn.types import Image


def as_tensor(image: np.ndarray) -> Image:
    """Convert an array (h, w, c) of any data type to intensities (1, c, h, w)."""
    pixels = image if image.dtype == np.float32 else to_pixels(image)
    return torch.from_numpy(np.require(pixels.transpose(2, 0, 1), requirements=["C", "W"])).unsqueeze(0)


def step_seed(seed: int, step: int, rank: int) -> int:
    """The random seed of one step of one process."""
    return int(np.random.SeedSequence([seed, step, rank]).generate_state(1, np.uint64)[0]) % 2**63
