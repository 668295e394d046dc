"""The Python interface: fit, denoise, predict, save, load (tests/e2e/test_python.py; README)."""

import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from torch import nn

from dbsn.config import (
    AUTO,
    BUILTIN,
    MODEL,
    NETWORKS,
    Auto,
    DistillConfig,
    ModelConfig,
    NetworkName,
    NoiseFamily,
    TrainConfig,
    student_network,
)
from dbsn.devices import fast_format, has_fast_bf16, pick_device
from dbsn.inference.blindspot import Extra, Prediction, predict, predict_into
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.student import apply_student_into
from dbsn.inference.tiles import DEFAULT_TILE
from dbsn.intensity import from_pixels, to_pixels
from dbsn.io.axes import as_planes
from dbsn.io.folders import load_folder
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.learned import NoiseModel
from dbsn.store.builtin import find_model
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.types import Canvas, Pixels

if TYPE_CHECKING:
    from dbsn.training.loop import Progress

Method = Literal["auto", "student", "posterior"]
"""Which of a model's denoisers: the student, the blind-spot model's posterior mean, or the student if there is one."""


class Denoiser:
    """A trained denoiser: a blind-spot model with its noise estimate, and perhaps a student distilled from it.

    Images are arrays (h, w) or (h, w, c) of any unsigned-integer or float kind, in the kind the denoiser was trained
    with (gray will do for a student of colours): integers span their whole range, floats are taken as they are.
    """

    def __init__(self, saved: ModelFile, *, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.saved = saved
        self.student = saved.student
        for network in (saved.model, saved.student):
            if network:
                memory_format = fast_format(self.device, "convolution")
                network.eval().to(self.device, memory_format=memory_format)  # type: ignore[call-overload]
        self.bf16 = has_fast_bf16(self.device)

    @property
    def model(self) -> BlindSpotModel:
        """The blind-spot model; ValueError if the file holds a student alone."""
        return self.saved.teacher

    @property
    def channels(self) -> int:
        """Of the images it was trained on."""
        return (self.saved.model or self.saved.student or self.saved.teacher).config.channels

    @property
    def about(self) -> dict[str, Any]:
        """How it was trained."""
        return self.saved.about

    @property
    def noise_model_(self) -> NoiseModel:
        """The noise of the images it was trained on: `.variance(intensity)`, `.sample(clean, generator)`.

        Raises:
            ValueError: It was trained without clean images, so that the noise was learned but not gathered.
        """
        if self.saved.noise is None:
            raise ValueError("no noise model is kept without stage 2; fit(noisy, clean=...) makes one")
        return self.saved.noise

    @staticmethod
    def fit(
        noisy: Sequence[np.ndarray] | np.ndarray | str | Path,
        clean: Sequence[np.ndarray] | str | Path | None = None,
        *,
        steps: int | None = None,
        minutes: float | None = None,
        axes: str | None = None,
        channel_axis: int | None = None,
        noise: NoiseFamily | Auto = "any",
        stride: int | Auto = "auto",
        network: NetworkName = "grid",
        student: str | Callable[[int], nn.Module] = AUTO,
        start: str = BUILTIN,
        distill: DistillConfig | None = None,
        seed: int = 0,
        device: str = "auto",
        on_progress: Callable[["Progress"], None] | None = None,
        **settings: Any,
    ) -> "Denoiser":
        """Learn from noisy images (stage 1 of Wu et al. 2020), and with clean ones a fast student, too (stage 2).

        Args:
            noisy: Images of one kind, a stack of them with `axes`, or a folder of image files.
            clean: Clean images of anything, or a folder of image files; without them there is no student.
            steps: Length of each stage in steps; by default that of `dbsn.config.TrainConfig` and `DistillConfig`.
            minutes: Upper limit of each stage in minutes.
            axes: Of the noisy array, or of each of several, see `denoise`; each plane is an image.
            channel_axis: As of `denoise`.
            noise: Form of the noise, see `dbsn.config.ModelConfig`; "any" makes the fewest assumptions, "auto"
                is what `inspect_noise` finds.
            stride: Distance of pixels at which noise counts as independent; "auto": what `inspect_noise` finds.
            network: A name of `dbsn.config.NETWORKS`.
            student: A name of `dbsn.config.STUDENTS`, "package.module:factory", or the factory itself: a function of a
                module, from the number of channels to a network that maps (b, c, h, w) to (b, c, h, w). "auto": as
                what it starts from, or else a U-Net.
            start: "shipped" (the model that comes with dbsn for such images, where network and noise are its own), a
                model file, or "scratch".
            distill: How the student is trained; by default as long as stage 1.
            seed: Of everything random.
            device: "auto", "cpu", "cuda" or "mps".
            on_progress: Called after each step.
            settings: Further fields of `dbsn.config.TrainConfig`.

        Raises:
            ValueError: No image, mixed kinds, a setting out of range, or a device that is not there.

        Warns:
            UserWarning: A file of the folder cannot be read.
        """
        from dbsn.training.initial_weights import load_initial  # here, so that `load` does without training
        from dbsn.training.loop import Progress, TrainingContext
        from dbsn.training.run import prepare
        from dbsn.training.run_config import RunConfig
        from dbsn.training.stages import StageOne, StageTwo, stages

        images = _images(noisy, axes=axes, channel_axis=channel_axis)
        if not images:
            raise ValueError("fit: got no image")
        if len({image.shape[2] for image in images}) > 1:
            raise ValueError("fit: gray and colour images are mixed; train on one kind")
        model = ModelConfig(network=NETWORKS[network])
        budget: dict[str, Any] = {"minutes": minutes, **({} if steps is None else {"steps": steps})}
        config = TrainConfig(**budget, seed=seed, **settings)
        name = student if isinstance(student, str) else _name_of(student)
        how = distill or DistillConfig(**budget, seed=seed)
        plain = RunConfig(files=(), model=model, train=config, student=name, distill=how)
        asked, _ = prepare(plain, images, noise=noise, stride=stride, init_from=start, distils=clean is not None)
        blind, init_from = load_initial(asked)
        second = None
        if clean is not None:
            shape = student_network(asked.student)
            second = StageTwo(images=_images(clean, mixed=True), network=shape, config=how, init_from=init_from)
        with tempfile.TemporaryDirectory() as folder:
            first = StageOne(model=asked.model, config=config, init_from=blind)
            for stage in stages(images, first, second, TrainingContext(run=Path(folder), device=device)):
                for progress in stage.progress:
                    if on_progress and isinstance(progress, Progress):
                        on_progress(progress)
            return Denoiser.load(Path(folder) / MODEL, device=device)

    def denoise(
        self,
        image: np.ndarray,
        *,
        axes: str | None = None,
        channel_axis: int | None = None,
        method: Method = "auto",
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
    ) -> np.ndarray:
        """The denoised image, in the shape and kind of `image`; integers rounded and clipped.

        Args:
            image: (h, w) or (h, w, c); with `axes` or `channel_axis` any number of planes.
            axes: A letter for each axis, as "TZYX" or "SYX": Y and X are a plane, S the colours of a pixel, and every
                other letter counts planes, which are denoised one by one.
            channel_axis: The axis of colours, as in scikit-image; the last two of the others are then a plane.
            method: "student" (fast), "posterior" (the blind-spot model's), or "auto": the student if there is one.
            tile: Side of a tile; smaller needs less memory, 0 takes the image whole.
            ensemble: Average over the image's eight orientations: better, and eight times as slow.

        Raises:
            ValueError: Another number of channels than the denoiser was trained on (but gray will do for a student of
                colours), there is no student, or the axes are not the image's.
        """
        planes, back = as_planes(image, axes, channel_axis)
        results = np.empty(planes.shape, image.dtype)
        options = InferenceOptions(tile=tile, ensemble=ensemble)
        for plane, result in zip(planes, results, strict=True):
            pixels = _pixels(plane)
            denoised = np.empty(pixels.shape, np.float32)
            self.denoise_into(denoised, pixels, method=method, options=options)
            result[:] = from_pixels(denoised, image.dtype)
        return back(results)

    def picks_student(self, method: Method) -> bool:
        """Whether a method means the student here.

        Raises:
            ValueError: It does, and there is none, or its code is not here.
        """
        if method != "posterior" and self.saved.unmade:
            raise ValueError(f"{self.saved.unmade}; --method posterior does without")
        if method == "student" and self.student is None:
            raise ValueError("this model has no student; --method posterior, or train one with --clean")
        return method != "posterior" and self.student is not None

    @property
    def student_knows_std(self) -> bool:
        """Whether there is a student that says how far its results are from the truth."""
        return self.student is not None and self.student.spread is not None

    @overload
    def predict(
        self,
        image: np.ndarray,
        *,
        return_std: Literal[False] = False,
        axes: str | None = ...,
        channel_axis: int | None = ...,
        method: Method = ...,
        tile: int = ...,
        ensemble: bool = ...,
    ) -> np.ndarray: ...
    @overload
    def predict(
        self,
        image: np.ndarray,
        *,
        return_std: Literal[True],
        axes: str | None = ...,
        channel_axis: int | None = ...,
        method: Method = ...,
        tile: int = ...,
        ensemble: bool = ...,
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self,
        image: np.ndarray,
        *,
        return_std: bool = False,
        axes: str | None = None,
        channel_axis: int | None = None,
        method: Method = "auto",
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The denoised image as float32, and on request the standard deviation of each pixel in the same unit.

        Integers are in [0, 1] (divided by their type's largest value), floats in their own unit. Other arguments and
        errors as of `denoise`; also ValueError for a student from before there was a standard deviation.
        """
        planes, back = as_planes(image, axes, channel_axis)
        denoised = np.empty(planes.shape, np.float32)
        stds = np.empty_like(denoised) if return_std else None
        options = InferenceOptions(tile=tile, ensemble=ensemble)
        for number, plane in enumerate(planes):
            std = None if stds is None else stds[number]
            self.denoise_into(denoised[number], _pixels(plane), std=std, method=method, options=options)
        return back(denoised) if stds is None else (back(denoised), back(stds))

    def estimate(
        self,
        image: np.ndarray,
        *,
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
        extras: Collection[Extra] = (),
    ) -> Prediction:
        """What the model believes of an image (h, w) or (h, w, c), as `Prediction` arrays (h, w, c)."""
        options = InferenceOptions(tile=tile, ensemble=ensemble, bf16=self.bf16)
        return predict(self.model, _pixels(image), options=options, extras=extras)

    def denoise_into(
        self,
        into: Canvas,
        image: Pixels,
        *,
        std: Canvas | None = None,
        method: Method = "auto",
        options: InferenceOptions = USUAL,
    ) -> float | None:
        """`denoise`, tile by tile, of an image that need not be in memory, into a place that need not be either.

        Args:
            into: Where to put intensities (h, w, c).
            image: What gives parts of an image (h, w, c).
            std: Where to put each pixel's standard deviation, too.
            method: As of `denoise`.
            options: Tiles, orientations, and what level a guided student is told; the arithmetic is the denoiser's own.

        Returns:
            The noise level, intensity; None if the student was asked and is not told it.

        Raises:
            ValueError: As of `denoise`; or there is a `level_factor`, and what is asked is not told the level.
        """
        guided = self.picks_student(method) and self.student is not None and self.student.guided
        if options.level_factor != 1 and not guided:
            raise ValueError(
                "level_factor (--strength above 1) needs a student that is told the noise level (unet-guided)"
            )
        places = {"denoised": into} | ({} if std is None else {"std": std})
        if self.picks_student(method):
            assert self.student is not None
            return apply_student_into(places, self.student, image, options=replace(options, bf16=self.bf16))
        return predict_into(places, self.model, image, options=replace(options, bf16=self.bf16))[0]

    def save(self, path: str | Path) -> None:
        """Write one safetensors file that holds weights and configuration."""
        save_model(Path(path), self.saved)

    @staticmethod
    def load(path: str | Path, *, device: str = "auto") -> "Denoiser":
        """Read a model file, or one that comes with dbsn by its name ("photo", "gray").

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged or not a model of this program.
        """
        return Denoiser(load_model(find_model(Path(path))), device=device)


def _name_of(factory: object) -> str:
    """package.module:factory, by which a model file names a network of the user's own."""
    module, name = (getattr(factory, each, "") for each in ("__module__", "__qualname__"))
    if not callable(factory) or not name or "<" in name:
        made_by = "a class, or a function, that a module holds by its name and the model file can name"
        raise ValueError(f"student={factory!r}: expected {made_by}; distill=DistillConfig(...) says how to train it")
    return f"{module}:{name}"


def _with_channels(image: np.ndarray) -> np.ndarray:
    if not np.issubdtype(image.dtype, np.floating) and image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image of {image.dtype}: convert it to uint8, uint16 or a float kind first")
    if image.size == 0 or not np.isfinite(image).all():
        raise ValueError(f"image of shape {image.shape}: empty, or with values that are not finite")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] > 4):
        expected = "(height, width) or (height, width, channels); of a stack, say axes"
        raise ValueError(f"image of shape {image.shape}: expected {expected}")
    return image[..., None] if image.ndim == 2 else image


def _pixels(image: np.ndarray) -> np.ndarray:
    """An image as the numbers the networks see, (h, w, c) float32."""
    image = _with_channels(image)
    return image if image.dtype == np.float32 else to_pixels(image)


def _images(
    given: Sequence[np.ndarray] | np.ndarray | str | Path,
    *,
    mixed: bool = False,
    axes: str | None = None,
    channel_axis: int | None = None,
) -> list[np.ndarray]:
    """Images (h, w, c) from arrays or from a folder; a file that cannot be read is a warning."""
    if not isinstance(given, str | Path):
        if isinstance(given, np.ndarray) and axes is None and channel_axis is None:
            raise ValueError('fit: expected a list of images, got one array: fit([image]), or of a stack, axes="ZYX"')
        arrays: Sequence[np.ndarray] = [given] if isinstance(given, np.ndarray) else given
        return [_with_channels(plane) for image in arrays for plane in as_planes(image, axes, channel_axis)[0]]
    if channel_axis is not None:
        raise ValueError(f"fit: channel_axis={channel_axis} is for arrays; of the files of a folder, say axes")
    _, images, failures = load_folder([Path(given)], mixed=mixed, axes=axes)
    for failure in failures:
        warnings.warn(failure, stacklevel=3)
    return images
