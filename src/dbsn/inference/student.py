"""From one whole image to what a student makes of it, by overlapping tiles: same result as untiled.

Tested in tests/property/test_tiles.py and tests/unit/test_student.py.
"""

import math
from collections.abc import Mapping

import numpy as np
import torch

from dbsn.inference.tiles import DEFAULT_TILE, check_image, strips, tiles
from dbsn.inference.views import in_colours, stretched
from dbsn.models.student import Student
from dbsn.networks.uncertainty import Uncertainty
from dbsn.orientations import ORIENTATIONS, Orientation
from dbsn.tensors import as_tensor
from dbsn.types import Canvas, Image, Margin, Pixels


def _turned_margin(margin: Margin, orientation: Orientation) -> Margin:
    """That of the image so turned."""
    top, bottom, left, right = margin
    rows, columns = ((left, right), (top, bottom)) if orientation.transposed else ((top, bottom), (left, right))
    return Margin(*(rows[::-1] if orientation.down else rows), *(columns[::-1] if orientation.across else columns))


def apply_student(
    student: Student, image: np.ndarray, *, tile: int = DEFAULT_TILE, ensemble: bool = False, bf16: bool = False
) -> np.ndarray:
    """Denoise one image (h, w, c) of any size by an ordinary network; arguments as of `predict`.

    A gray image is shown to a student of colours as three that are alike; the mean of what it makes of them counts.

    Returns:
        (h, w, c) float32 intensities.

    Raises:
        ValueError: The image has another number of channels than the student, and is not gray.
    """
    denoised = np.empty(image.shape, np.float32)
    apply_student_into({"denoised": denoised}, student, image, tile=tile, ensemble=ensemble, bf16=bf16)
    return denoised


def apply_student_into(
    into: Mapping[str, Canvas],
    student: Student,
    image: Pixels,
    *,
    tile: int = DEFAULT_TILE,
    ensemble: bool = False,
    bf16: bool = False,
    level_factor: float = 1.0,
) -> float | None:
    """`apply_student` tile by tile, of an image that need not be in memory, into places that need not be either.

    Args:
        into: Where to put "denoised" and, if it is there, "std": the standard deviation from the truth, of the eight
            orientations' the mean.
        student: As of `predict`, and so are the others.
        image: (h, w, c).
        tile: Side of a tile.
        ensemble: Average over eight orientations.
        bf16: Convolve in bfloat16.
        level_factor: What a guided student is told is the level that was measured times this.

    Returns:
        The noise level that was measured, root mean square, intensity; None if the student is not told any.

    Raises:
        ValueError: As `apply_student`; or the student does not know its standard deviation.
    """
    image, into = in_colours(image, into, student.config.channels)
    check_image(image, tile, student.config.channels)
    if "std" in into and student.spread is None:
        raise ValueError("this student does not know its uncertainty: it was trained before there was one")
    image, into, unit = stretched(image, into, student.config)
    device = next(student.parameters()).device
    turns = ORIENTATIONS if ensemble else ORIENTATIONS[:1]
    cell, radius = student.multiple, student.receptive_radius + (Uncertainty.receptive_radius if "std" in into else 0)
    power = 0.0
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
        measurement = student.measure(as_tensor(image[rows]).to(device) for rows in strips(image.shape[0]))
        for part in tiles(*image.shape[:2], tile=tile, margin=radius, multiple=student.multiple):
            noisy = as_tensor(image[part.read]).to(device, memory_format=torch.channels_last)
            turned = [turn.turned(noisy) for turn in turns]
            measured = [student.level(each, measurement) for each in turned]
            levels = [None if level is None else level_factor * level for level in measured]
            if measured[0] is not None:
                rows, columns = (slice(at.start // cell, -(-at.stop // cell)) for at in part.inner)
                own = float(measured[0][..., rows, columns].square().mean())
                power += own * part.pixels / math.prod(image.shape[:2])
            results: dict[str, list[Image]]
            margins = [_turned_margin(part.margin, turn) for turn in turns]
            inputs = list(zip(turned, levels, margins, strict=True))
            if "std" in into:
                both = [student(each, level, margin=margin, with_std=True) for each, level, margin in inputs]
                results = {"denoised": [denoised for denoised, _ in both], "std": [std for _, std in both]}
            else:
                results = {"denoised": [student(each, level, margin=margin) for each, level, margin in inputs]}
            for name, canvas in into.items():
                every = [turn.inverse.turned(result) for result, turn in zip(results[name], turns, strict=True)]
                canvas[part.own] = torch.stack(every).mean(0)[0].permute(1, 2, 0).cpu().numpy()
    return unit * power**0.5 if student.guided else None
