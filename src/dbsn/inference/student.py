"""From one whole image to what a student makes of it, by overlapping tiles: same result as untiled.

Tested in tests/property/test_tiles.py and tests/unit/test_student.py.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dbsn.devices import fast_format
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.tiles import Tile, TileResult, check_image, put_tiles, strips, tiles
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


def apply_student(student: Student, image: np.ndarray, *, options: InferenceOptions = USUAL) -> np.ndarray:
    """Denoise one image (h, w, c) of any size by an ordinary network; arguments as of `predict`.

    A gray image is shown to a student of colours as three that are alike; the mean of what it makes of them counts.

    Returns:
        (h, w, c) float32 intensities.

    Raises:
        ValueError: The image has another number of channels than the student, and is not gray.
    """
    denoised = np.empty(image.shape, np.float32)
    apply_student_into({"denoised": denoised}, student, image, options=options)
    return denoised


def apply_student_into(
    into: Mapping[str, Canvas],
    student: Student,
    image: Pixels,
    *,
    options: InferenceOptions = USUAL,
) -> float | None:
    """`apply_student` tile by tile, of an image that need not be in memory, into places that need not be either.

    Args:
        into: Where to put "denoised" and, if it is there, "std": the standard deviation from the truth, of the eight
            orientations' the mean.
        student: As of `predict`, and so are the others.
        image: (h, w, c).
        options: Tiles, orientations, arithmetic, and what level a guided student is told.

    Returns:
        The noise level that was measured, root mean square, intensity; None if the student is not told any.

    Raises:
        ValueError: As `apply_student`; or the student does not know its standard deviation.
    """
    image, into = in_colours(image, into, student.config.channels)
    check_image(image, options.tile, student.config.channels)
    if "std" in into and student.spread is None:
        raise ValueError("this student does not know its uncertainty: it was trained before there was one")
    image, into, unit = stretched(image, into, student.config)
    device = next(student.parameters()).device
    radius = student.receptive_radius + (Uncertainty.receptive_radius if "std" in into else 0)
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        measurement = student.measure(as_tensor(image[rows]).to(device) for rows in strips(image.shape[0]))
        parts = tiles(*image.shape[:2], tile=options.tile, margin=radius, multiple=student.multiple)
        of_tile = partial(_result, student, image, measurement=measurement, options=options, with_std="std" in into)
        power = put_tiles(into, map(of_tile, parts), image)
    return unit * power**0.5 if student.guided else None


def _result(
    student: Student,
    image: Pixels,
    part: Tile,
    *,
    measurement: Tensor | None,
    options: InferenceOptions,
    with_std: bool,
) -> TileResult:
    """What a student makes of a tile, averaged over orientations if so many are asked for."""
    turns = ORIENTATIONS if options.ensemble else ORIENTATIONS[:1]
    cell, device = student.multiple, next(student.parameters()).device
    noisy = as_tensor(image[part.read]).to(device, memory_format=fast_format(device.type, "convolution"))
    turned = [turn.turned(noisy) for turn in turns]
    measured = [student.level(each, measurement) for each in turned]
    levels = [None if level is None else options.level_factor * level for level in measured]
    noise_power = 0.0
    if measured[0] is not None:
        rows, columns = (slice(at.start // cell, -(-at.stop // cell)) for at in part.inner)
        noise_power = float(measured[0][..., rows, columns].square().mean())
    results: dict[str, list[Image]]
    margins = [_turned_margin(part.margin, turn) for turn in turns]
    inputs = list(zip(turned, levels, margins, strict=True))
    if with_std:
        both = [student(each, level, margin=margin, with_std=True) for each, level, margin in inputs]
        results = {"denoised": [denoised for denoised, _ in both], "std": [std for _, std in both]}
    else:
        results = {"denoised": [student(each, level, margin=margin) for each, level, margin in inputs]}
    values = {}
    for name, oriented in results.items():
        every = [turn.inverse.turned(result) for result, turn in zip(oriented, turns, strict=True)]
        values[name] = torch.stack(every).mean(0)[0].permute(1, 2, 0)
    return TileResult(part.own, values, noise_power, part.pixels)
