"""Inference of a student on one whole image, by overlapping tiles.

The result is the same as without tiles. Tested in tests/property/test_tiles.py and tests/unit/test_student.py.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from dbsn.devices import MEMORY_FORMAT
from dbsn.inference.levels import (
    FLAT_REACH,
    Levels,
    LevelWatch,
    kept_where_clean,
    unchanged,
    white_where_cut_off,
    with_noise_where_flat,
)
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.tiles import Tile, TileResult, check_image, put_tiles, strips, tiles
from dbsn.inference.views import in_colours, stretched
from dbsn.models.student import Student
from dbsn.networks.measurement import measure
from dbsn.networks.uncertainty import Uncertainty
from dbsn.orientations import ORIENTATIONS, Orientation
from dbsn.outliers import without_outliers
from dbsn.tensors import as_tensor
from dbsn.types import Canvas, Image, Margin, Pixels


def _turned_margin(margin: Margin, orientation: Orientation) -> Margin:
    """The margin of the image in this orientation."""
    top, bottom, left, right = margin
    rows, columns = ((left, right), (top, bottom)) if orientation.transposed else ((top, bottom), (left, right))
    return Margin(*(rows[::-1] if orientation.down else rows), *(columns[::-1] if orientation.across else columns))


def apply_student(student: Student, image: np.ndarray, *, options: InferenceOptions = USUAL) -> np.ndarray:
    """Denoise one image (h, w, c) of any size with a student.

    Arguments are those of `predict`. A student for colour images gets a gray image as three equal channels. The result
    is then the mean over channels.

    Returns:
        (h, w, c) float32 intensities.

    Raises:
        ValueError: The image's number of channels differs from the student's, and the image is not gray.
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
    """Run `apply_student` tile by tile, without holding input or output in memory.

    Args:
        into: Where "denoised" is written and, if present, "std": the uncertainty. With the self-ensemble it is the mean
            over the eight orientations.
        student: In evaluation mode, on the device to use.
        image: (h, w, c).
        options: Tiles, orientations, arithmetic, and the noise level for a guided student.

    Returns:
        The measured noise level, root mean square, intensity; None for a student without a noise-level input.

    Raises:
        ValueError: As `apply_student`; or the student has no uncertainty.
    """
    image, into = in_colours(image, into, student.config.channels)
    check_image(image, options.tile, student.config.channels)
    if "std" in into and student.spread is None:
        raise ValueError(
            "uncertainty: this student has none, an older version of dbsn trained it. Train it again, or omit it."
        )
    image, into = without_outliers(
        image, into, repair=options.repair_outliers, differences=("std",), on_outliers=options.on_outliers
    )
    image, into, unit = stretched(image, into, student.config)
    device = next(student.parameters()).device
    radius = student.receptive_radius + (Uncertainty.receptive_radius if "std" in into else 0)
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        watch = LevelWatch()
        passing = watch.passing(as_tensor(image[rows]).to(device) for rows in strips(image.shape[0]))
        measurement = measure(student.seen(strip) for strip in passing)
        levels = watch.levels(partial(student.variance, measurement=measurement), by_texture=student.guided)
        radius += FLAT_REACH if levels.factors is not None else 0
        parts = tiles(*image.shape[:2], tile=options.tile, margin=radius, multiple=student.multiple)
        if levels.none:
            put_tiles(into, (unchanged(image, part, into) for part in parts), image)
            return 0.0 if student.guided else None
        of_tile = partial(_result, student, image, noise=(measurement, levels), options=options, with_std="std" in into)
        power = put_tiles(into, map(of_tile, parts), image)
    return unit * power**0.5 if student.guided else None


def _result(
    student: Student,
    image: Pixels,
    part: Tile,
    *,
    noise: tuple[Tensor, Levels],
    options: InferenceOptions,
    with_std: bool,
) -> TileResult:
    """A student's result for one tile; with the self-ensemble the average."""
    measurement, levels = noise
    turns = ORIENTATIONS if options.ensemble else ORIENTATIONS[:1]
    cell, device = student.multiple, next(student.parameters()).device
    noisy = as_tensor(image[part.read]).to(device, memory_format=MEMORY_FORMAT)
    own = [student.level(turn.turned(noisy), measurement) for turn in turns]
    factors, seen = levels.given(part.read, cell), noisy
    if factors is not None and own[0] is not None:
        own = [None if level is None else level * turn.turned(factors) for level, turn in zip(own, turns, strict=True)]
        seen = with_noise_where_flat(noisy, own[0], cell, part)
    turned = [turn.turned(seen) for turn in turns]
    given = [None if level is None else options.level_factor * level for level in own]
    noise_power = 0.0
    if own[0] is not None:
        rows, columns = (slice(at.start // cell, -(-at.stop // cell)) for at in part.inner)
        noise_power = float(own[0][..., rows, columns].square().mean())
    results: dict[str, list[Image]]
    margins = [_turned_margin(part.margin, turn) for turn in turns]
    inputs = list(zip(turned, given, margins, strict=True))
    if with_std:
        both = [student(each, level, margin=margin, with_std=True) for each, level, margin in inputs]
        results = {"denoised": [denoised for denoised, _ in both], "std": [std for _, std in both]}
    else:
        results = {"denoised": [student(each, level, margin=margin) for each, level, margin in inputs]}
    values = {}
    for name, oriented in results.items():
        every = [turn.inverse.turned(result) for result, turn in zip(oriented, turns, strict=True)]
        average = torch.stack(every).mean(0)
        if name == "denoised":
            average = white_where_cut_off(average, noisy, own[0], cell, part)
        values[name] = average[0].permute(1, 2, 0)
    values["denoised"] = kept_where_clean(values["denoised"], image, part, levels, guided=student.guided)
    return TileResult(part.own, values, noise_power, part.pixels)
