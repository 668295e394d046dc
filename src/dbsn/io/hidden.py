"""Fully transparent pixels: filled like their visible neighbours before denoising, and put back after it.

What a file holds there is arbitrary and must not reach the visible part. Tested in tests/unit/test_hidden.py. This
module must not import torch.
"""

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt
from tifffile import EXTRASAMPLE

from dbsn.intensity import Array
from dbsn.io.picture import Picture


def hidden_of(picture: Picture) -> Array | None:
    """Which pixels (h, w) are fully transparent; None if none is, or all are."""
    if picture.alpha is None or picture.alpha_kind != EXTRASAMPLE.UNASSALPHA:
        return None
    hidden = picture.alpha == 0
    return hidden if hidden.any() and not hidden.all() else None


def filled(picture: Picture, hidden: Array) -> Picture:
    """The picture with hidden pixels as mirror images of visible ones, so that their noise is that of the visible part.

    A pixel is mirrored at the nearest visible pixel. If its mirror image is hidden, too, it is like the nearest one.
    """
    near = distance_transform_edt(hidden, return_distances=False, return_indices=True)
    near = near[:, hidden]
    own = np.stack(np.nonzero(hidden))
    mirror = (2 * near - own).clip(0, np.array(hidden.shape)[:, None] - 1)
    source = np.where(hidden[tuple(mirror)], near, mirror)
    samples = picture.samples.copy()
    samples[hidden] = picture.samples[tuple(source)]
    return replace(picture, samples=samples)
