"""Inference of the blind-spot model on one whole image, by overlapping tiles.

The result is the same as without tiles (tests/property/test_tiles.py).
"""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from torch import Tensor

from dbsn.devices import MEMORY_FORMAT
from dbsn.inference.lattices import lattices, placed
from dbsn.inference.levels import LevelWatch, kept_where_clean
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.tiles import Tile, TileResult, check_image, put_tiles, strips, tiles
from dbsn.inference.views import INTENSITIES, stretched
from dbsn.intensity import to_pixels
from dbsn.likelihood import channel_variance, fuse
from dbsn.models.blindspot import BlindSpotModel, Estimate
from dbsn.models.calibration import Sample, calibrate, leaked
from dbsn.noise.correlation import autocorrelation, kernel
from dbsn.noise.families import Noise
from dbsn.noise.learned import ImageNoise
from dbsn.orientations import ORIENTATIONS
from dbsn.outliers import without_outliers
from dbsn.tensors import as_tensor
from dbsn.types import Canvas, Image, Pixels, Place

_SAMPLED_SIDE, _SAMPLED_TILES = 256, 4
_LATTICE_STRIP = 128  # rows; those of a lattice lie a stride apart in the image
_SAMPLED_WHOLE = 512 * 512  # pixels; larger images are sampled in squares

T = TypeVar("T")
Extra = Literal["std", "mean", "noise_std", "blind_std"]
MEAN: tuple[Extra, ...] = ("mean",)
NOISE_STD: tuple[Extra, ...] = ("noise_std",)


@dataclass(frozen=True, kw_only=True)
class Prediction:
    """The estimate of an image as arrays (h, w, c), float32, in intensities.

    A field that was not requested is None.
    """

    denoised: np.ndarray
    """Posterior mean: the fusion of blind mean and noisy pixel."""
    noise_level: float
    """Estimated noise level, root mean square over the image, intensity."""
    std: np.ndarray | None
    """Uncertainty: posterior standard deviation of each pixel and channel."""
    mean: np.ndarray | None
    """The blind mean."""
    blind_std: np.ndarray | None
    """Predicted standard deviation of noisy pixel minus blind mean."""
    noise_std: np.ndarray | None
    """Estimated noise standard deviation of each pixel and channel."""
    under_known_noise: np.ndarray | None
    """Posterior mean under the given true noise instead of the estimated one."""
    noise: ImageNoise
    """The learned noise of this image."""


def self_ensemble(model: BlindSpotModel, noisy: Image, measurement: Tensor) -> Estimate:
    """Average the estimates of an image's eight orientations (M7).

    Arguments are those of the model.
    """
    sums: dict[str, Tensor] = {}
    first, squares = torch.zeros(()), torch.zeros(())
    for orientation in ORIENTATIONS:
        estimate = model(orientation.turned(noisy), measurement)
        back = orientation.inverse
        member = {field.name: back.turned(getattr(estimate, field.name)) for field in fields(estimate)}
        first = first if sums else member["mean"]
        squares = squares + (member["mean"] - first).square()
        sums = {name: sums[name] + value if sums else value for name, value in member.items()}
    average = {name: value / len(ORIENTATIONS) for name, value in sums.items()}
    spread = squares / len(ORIENTATIONS) - (average["mean"] - first).square()
    left = 1 - spread.sum(1, keepdim=True) / channel_variance(average["mean_var"]).sum(1, keepdim=True)
    left = left.clamp(1 / len(ORIENTATIONS), 1)
    average["mean_var"] = average["mean_var"] * (left if average["mean_var"].ndim == 4 else left.unsqueeze(1))
    return Estimate(**average)


class Passes:
    """A model's estimates of parts of one image (h, w, c).

    A small image is estimated whole, once, for both M8 and the result.
    """

    def __init__(self, model: BlindSpotModel, image: Pixels, *, ensemble: bool = False) -> None:
        self.model, self.image, self.ensemble = model, image, ensemble
        self.measurement = model.measure_strips(self._pixels(strip) for strip in strips(image.shape[0], _LATTICE_STRIP))
        self._whole: Estimate | None = None

    def parts(self, tile: int) -> list[Tile]:
        """Tiles with this side that cover the image."""
        margin, multiple = self.model.network.receptive_radius, self.model.multiple
        return list(tiles(*self.image.shape[:2], tile=tile, margin=margin, multiple=multiple))

    def estimate(self, part: Tile, measurement: Tensor) -> Estimate:
        """Estimate the pixels that a tile reads."""
        height, width = self.image.shape[:2]
        if self._whole and part.read == (slice(0, height), slice(0, width)):
            return self._whole
        return self._forward(self._pixels(part.read), measurement)

    def samples(self, measurement: Tensor) -> list[Sample]:
        """Estimates of parts spread over the image, for M8.

        They do not depend on the tiles of the result.
        """
        is_small = math.prod(self.image.shape[:2]) <= _SAMPLED_WHOLE
        samples = []
        for part in _some(self.parts(0 if is_small else _SAMPLED_SIDE)):
            estimate = self.estimate(part, measurement)
            self._whole = estimate if is_small else None
            leak = leaked(lambda noisy: self._forward(noisy, measurement), estimate, self._pixels(part.read), seed=0)
            inner = {field.name: getattr(estimate, field.name)[..., *part.inner] for field in fields(estimate)}
            samples.append(Sample(Estimate(**inner), leak[..., *part.inner]))
        return samples

    def _forward(self, noisy: Image, measurement: Tensor) -> Estimate:
        if self.ensemble:
            return self_ensemble(self.model, noisy, measurement)
        estimate: Estimate = self.model(noisy, measurement)
        return estimate

    def _pixels(self, where: Place) -> Image:
        device = next(self.model.parameters()).device
        return as_tensor(self.image[where]).to(device, memory_format=MEMORY_FORMAT)


def _some(parts: Sequence[T]) -> Sequence[T]:
    """At most four of the parts, evenly chosen."""
    return parts[:: -(-len(parts) // _SAMPLED_TILES)]


def learned_noise(model: BlindSpotModel, image: np.ndarray, *, bf16: bool = False) -> ImageNoise:
    """Learn the noise of an image (h, w, c) at the stride of the training.

    At this stride the residual holds all of the noise. At a smaller stride the prediction keeps a part of it.
    """
    options = InferenceOptions(bf16=bf16, stride=model.config.stride)
    estimate = predict(model, image, options=options, extras=NOISE_STD)
    assert estimate.noise_std is not None
    alike = autocorrelation(as_tensor((to_pixels(image) - estimate.denoised) / estimate.noise_std))
    return replace(estimate.noise, kernel=None if alike is None else kernel(alike))


def predict(
    model: BlindSpotModel,
    image: np.ndarray,
    *,
    options: InferenceOptions = USUAL,
    calibrated: bool = True,
    extras: Collection[Extra] = (),
    known_noise: Noise | None = None,
) -> Prediction:
    """Estimate one image (h, w, c) of any size.

    Args:
        model: In evaluation mode, on the device to use.
        image: (h, w, c) intensities, or integers of the file's range.
        options: Tiles, orientations, arithmetic, stride.
        calibrated: Correct the variances on the image's own pixels (M8).
        extras: Fields of `Prediction` to fill besides `denoised`. Each takes the memory of an image.
        known_noise: The true noise, for `under_known_noise`. Its variance is taken at the blind mean.

    Raises:
        ValueError: The image's number of channels differs from the model's.
    """
    names = ["denoised", *extras, *(["under_known_noise"] if known_noise else [])]
    arrays = {name: np.empty(image.shape, np.float32) for name in names}
    noise_level, noise = predict_into(
        arrays, model, image, options=options, calibrated=calibrated, known_noise=known_noise
    )
    return Prediction(
        denoised=arrays["denoised"],
        noise_level=noise_level,
        std=arrays.get("std"),
        mean=arrays.get("mean"),
        blind_std=arrays.get("blind_std"),
        noise_std=arrays.get("noise_std"),
        under_known_noise=arrays.get("under_known_noise"),
        noise=noise,
    )


def predict_into(
    into: Mapping[str, Canvas],
    model: BlindSpotModel,
    image: Pixels,
    *,
    options: InferenceOptions = USUAL,
    calibrated: bool = True,
    known_noise: Noise | None = None,
) -> tuple[float, ImageNoise]:
    """Run `predict` tile by tile, without holding input or output in memory.

    Args:
        into: Where each requested field of `Prediction` is written, (h, w, c) each.
        model: See `predict`.
        image: (h, w, c), see `predict`.
        options: Tiles, orientations, arithmetic, stride.
        calibrated: Correct the variances (M8).
        known_noise: The true noise, see `predict`.

    Returns:
        Noise level and noise, as in `Prediction`.
    """
    check_image(image, options.tile, model.config.channels)
    image, into = without_outliers(
        image, into, repair=options.repair_outliers, differences=set(into) - set(INTENSITIES),
        on_outliers=options.on_outliers,
    )  # fmt: skip
    image, into, unit = stretched(image, into, model.config)
    if known_noise and unit != 1:
        raise ValueError(
            "known_noise: this model stretches the image, so its intensities change. Use a model that does not."
        )
    device = next(model.parameters()).device
    with torch.inference_mode(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=options.bf16):
        watch = LevelWatch()
        for _ in watch.passing(as_tensor(image[rows]).to(device) for rows in strips(image.shape[0])):
            pass
        every = [
            (where, Passes(model, pixels, ensemble=options.ensemble))
            for where, pixels in lattices(image, options.stride or model.config.denoising_stride)
        ]
        measurement = torch.stack([passes.measurement for _, passes in every]).mean(0)
        levels = watch.levels(partial(model.measured_variance, measurement=measurement), by_texture=False)
        samples = [sample for _, passes in _some(every) for sample in passes.samples(measurement)] if calibrated else []
        calibration = calibrate(samples, one_level=model.noise_estimator.per_image)

        def results() -> Iterator[TileResult]:
            for where, passes in every:
                for part in passes.parts(options.tile):
                    estimate = passes.estimate(part, measurement)
                    values = _values(calibration.apply(estimate) if calibration else estimate, known_noise)
                    own = {name: value[0].permute(1, 2, 0)[part.inner] for name, value in values.items()}
                    if levels.none or len(every) == 1:
                        own["denoised"] = kept_where_clean(own["denoised"], passes.image, part, levels, guided=False)
                    noise_power = 0.0 if levels.none else float(own["noise_std"].square().mean())
                    yield TileResult(placed(where, part.own), own, noise_power, part.pixels)

        noise_power = put_tiles(into, results(), image)
    return unit * noise_power**0.5, ImageNoise(measurement.cpu(), calibration)


def _values(estimate: Estimate, known_noise: Noise | None) -> dict[str, Image]:
    """The fields of `Prediction` from an estimate, by name, (b, c, h, w) each."""
    denoised, variance = estimate.fused()
    noise_std = estimate.noise_std()
    values = {"denoised": denoised, "std": variance.sqrt(), "mean": estimate.mean, "noise_std": noise_std}
    values["blind_std"] = (channel_variance(estimate.mean_var) + noise_std.square()).sqrt()
    if known_noise:
        known_var = known_noise.variance(estimate.mean.clamp_min(0))
        values["under_known_noise"], _ = fuse(estimate.noisy, estimate.mean, estimate.mean_var, known_var)
    return values
