"""The Python interface: fit, denoise, predict, save, load.

Tested in tests/e2e/test_python.py. Its examples are tested in tests/unit/test_examples.py.
"""

import tempfile
import warnings
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

import numpy as np
from torch import nn

from dbsn.arrays import check_dtype, planes_of, planewise
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
)
from dbsn.devices import MEMORY_FORMAT, has_fast_bf16, pick_device
from dbsn.errors import speaks_python
from dbsn.inference.blindspot import Extra, Prediction, predict, predict_into
from dbsn.inference.light import keeping_light
from dbsn.inference.options import USUAL, InferenceOptions
from dbsn.inference.student import apply_student_into
from dbsn.inference.tiles import DEFAULT_TILE
from dbsn.intensity import to_pixels
from dbsn.io.folders import load_folder
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.learned import NoiseModel
from dbsn.store.builtin import CARD, PHOTOS, find_model
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.types import Canvas, Pixels

if TYPE_CHECKING:
    from dbsn.training.loop import Progress

Method = Literal["auto", "student", "posterior"]
"""Which denoiser to use: the student or the blind-spot model's posterior mean.

"auto" is the student if there is one.
"""


class Denoiser:
    """A trained denoiser: a blind-spot model, a student, or both.

    Use `load` to read a model and `fit` to train one. Images are arrays (h, w) or (h, w, c), or whatever else holds
    an image: tensors, PIL images, xarray, dask and masked arrays, lists.

    - Integers of 8 and 16 bits span the whole range of their type. Floats are used as they are.
    - Integers of 32 and 64 bits hold counts. They are used as they are, too, and computed in float32.
    - The number of channels is that of the training images. A student for colour images also takes gray images.

    Parameters
    ----------
    saved : ModelFile
        What a model file holds.
    device : str
        "auto", "cpu", "cuda" or "mps". "auto" picks CUDA, then MPS, then the CPU.

    Raises
    ------
    ValueError
        The device is not available.

    Examples
    --------
    >>> import numpy as np
    >>> from dbsn import Denoiser
    >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32)).astype(np.float32)
    >>> denoised = Denoiser.load("gray").denoise(noisy)
    >>> bool(denoised.std() < 0.2 * noisy.std())
    True
    """

    def __init__(self, saved: ModelFile, *, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.saved = saved
        self.student = saved.student
        for network in (saved.model, saved.student):
            if network:
                network.eval().to(self.device, memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]
        self.bf16 = has_fast_bf16(self.device)

    def __repr__(self) -> str:
        name = self.about.get(CARD, {}).get("name")
        of = {1: "gray images", 3: "colour images"}.get(self.channels, f"images of {self.channels} channels")
        networks = {"student": self.student, "blind-spot model": self.saved.model}
        held = " and ".join(name for name, network in networks.items() if network is not None)
        return f"<Denoiser{f' {name!r}' if name else ''} for {of}: {held}, on {self.device}>"

    @property
    def model(self) -> BlindSpotModel:
        """The blind-spot model.

        Raises
        ------
        ValueError
            The model file holds only a student.

        Examples
        --------
        >>> Denoiser.load("gray").model.config.channels
        1
        """
        return self.saved.teacher

    @property
    def channels(self) -> int:
        """Number of channels of the training images: 1 for gray, 3 for colour.

        Examples
        --------
        >>> Denoiser.load("gray").channels
        1
        """
        return (self.saved.model or self.saved.student or self.saved.teacher).config.channels

    @property
    def about(self) -> dict[str, Any]:
        """How the model was trained; for a built-in model also its card.

        Examples
        --------
        >>> Denoiser.load("gray").about["card"]["name"]
        'gray'
        """
        return self.saved.about

    @property
    def noise_model_(self) -> NoiseModel:
        """The noise of the training images.

        It has the methods `variance(intensity)` and `sample(clean, generator)`. Both work on tensors (b, c, h, w) of
        intensities.

        Raises
        ------
        ValueError
            The model was trained without clean images. Only stage 2 collects the noise of all images.

        Examples
        --------
        >>> Denoiser.load("gray").noise_model_
        Traceback (most recent call last):
        ValueError: noise_model_: this model holds no noise model. Train one with Denoiser.fit(noisy, clean=...).
        """
        if self.saved.noise is None:
            raise ValueError(
                "noise_model_: this model holds no noise model. Train one with Denoiser.fit(noisy, clean=...)."
            )
        return self.saved.noise

    @staticmethod
    @speaks_python
    def fit(  # noqa: PLR0913 - each argument is a setting that people know by its name
        noisy: Any,
        clean: Any = None,
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
        progress: bool = False,
        on_progress: Callable[["Progress"], None] | None = None,
        **settings: Any,
    ) -> "Denoiser":
        """Train a denoiser on noisy images.

        Parameters
        ----------
        noisy : sequence of array-likes, array-like, str or Path
            Noisy images, all gray or all colour. A stack needs `axes`. A path names a folder of image files.
        clean : sequence of array-likes, str or Path, optional
            Clean images of any subject, a folder of image files, or "builtin": the photographs that come with dbsn.
            Without them no student is trained.
        steps : int, optional
            Number of training steps of each stage. Default: 4000 for stage 1, 3000 for stage 2.
        minutes : float, optional
            Upper limit of each stage in minutes.
        axes : str, optional
            Axes of the noisy array, or of each noisy array; see `denoise`. Each plane is one image.
        channel_axis : int, optional
            Axis of the channels; see `denoise`.
        noise : str
            Form of the noise; see `dbsn.config.ModelConfig`. "any" assumes least. "auto" uses what
            `inspect_noise` finds.
        stride : int or "auto"
            Distance in pixels at which noise counts as independent. "auto" uses what `inspect_noise` finds.
        network : str
            Blind-spot network, a key of `dbsn.config.NETWORKS`.
        student : str or callable
            A key of `dbsn.config.STUDENTS`, "package.module:factory", or the factory itself. A factory is a
            function of a module. It takes the number of channels and returns a network that maps (b, c, h, w) to
            (b, c, h, w). "auto" uses the network of the initial weights, otherwise a U-Net.
        start : str
            Initial weights: "builtin", a model file, or "scratch" (random). "builtin" is the built-in model for
            such images, where its network and noise are those asked for.
        distill : DistillConfig, optional
            How the student is trained. By default with the budget above.
        seed : int
            Seed of all random numbers.
        device : str
            "auto", "cpu", "cuda" or "mps".
        progress : bool
            Show a progress bar, in a notebook or on a terminal.
        on_progress : callable, optional
            Function called with a `Progress` after each step.
        **settings
            Further fields of `dbsn.config.TrainConfig`.

        Returns
        -------
        Denoiser
            The trained denoiser.

        Raises
        ------
        ValueError
            There is no image, gray and colour are mixed, a setting is out of range, or the device is not available.

        Warns
        -----
        UserWarning
            A file of the folder cannot be read.

        Examples
        --------
        Two steps show the call. Real training takes minutes.

        >>> noisy = [np.random.default_rng(seed).normal(0.5, 0.1, (64, 64)) for seed in range(2)]
        >>> denoiser = Denoiser.fit(noisy, steps=2, start="scratch")
        >>> denoiser.denoise(noisy[0]).shape
        (64, 64)
        """
        from dbsn.training.bar import with_bar  # here, so that `load` does without training
        from dbsn.training.loop import Progress, TrainingContext
        from dbsn.training.run import inputs_of_stages, prepare
        from dbsn.training.run_config import RunConfig
        from dbsn.training.stages import stages

        _check_among("network", network, NETWORKS)
        _check_among("noise", noise, (AUTO, *get_args(NoiseFamily)))
        images = _images_of_one_kind(noisy, axes=axes, channel_axis=channel_axis)
        budget: dict[str, Any] = {"minutes": minutes, **({} if steps is None else {"steps": steps})}
        plain = RunConfig(
            files=(),
            model=ModelConfig(network=NETWORKS[network]),
            train=TrainConfig(**budget, seed=seed, **settings),
            student=student if isinstance(student, str) else _name_of(student),
            distill=distill or DistillConfig(**budget, seed=seed),
        )
        asked, _ = prepare(plain, images, noise=noise, stride=stride, init_from=start, distils=clean is not None)
        cleans = PHOTOS if isinstance(clean, str) and clean == BUILTIN else clean
        first, second = inputs_of_stages(asked, None if cleans is None else _images(cleans, mixed=True))
        with tempfile.TemporaryDirectory() as folder:
            for stage in stages(images, first, second, TrainingContext(run=Path(folder), device=device)):
                for step in with_bar(stage) if progress else stage.progress:
                    if on_progress and isinstance(step, Progress):
                        on_progress(step)
            return Denoiser.load(Path(folder) / MODEL, device=device, trust=asked.student)

    @speaks_python
    def denoise(  # noqa: PLR0913 - public
        self,
        image: Any,
        *,
        axes: str | None = None,
        channel_axis: int | None = None,
        method: Method = "auto",
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
        repair_outliers: bool = False,
    ) -> Any:
        """Denoise an image or a stack of images.

        Values that are NaN or infinite, and nodata, stay as they are. What lies elsewhere is denoised as if they were
        not there.

        Parameters
        ----------
        image : array-like
            (h, w) or (h, w, c). With `axes` or `channel_axis` it may have any number of planes. A tensor may also be
            (c, h, w) or (b, c, h, w). The dimensions of an xarray.DataArray may say what they are: y, x, channel.
        axes : str, optional
            One letter for each axis, for example "TZYX" or "SYX". Y and X span a plane, S holds the channels. Every
            other letter counts planes, which are denoised one by one.
        channel_axis : int, optional
            Axis of the channels, as in scikit-image. The last two of the other axes span a plane.
        method : str
            "student" is fast. "posterior" is the blind-spot model's posterior mean. "auto" uses the student if
            there is one.
        tile : int
            Side of a tile in pixels; 0 takes the whole image. Smaller tiles need less memory. The result does not
            depend on it.
        ensemble : bool
            Average over the eight orientations of the image. This is better and takes eight times as long.
        repair_outliers : bool
            Replace isolated outliers (hot pixels, salt and pepper). By default they stay as they are.

        Returns
        -------
        array-like
            The denoised image, with the kind, shape and data type of `image`: a tensor for a tensor, on its device,
            a PIL image for a PIL image. Lists become arrays. Integers are rounded and clipped. Masked values stay as
            they are and influence no other. A dask array is denoised when its result is computed.

        Raises
        ------
        ValueError
            The number of channels is not that of the training images. A gray image is accepted by a student for
            colour images. Also raised if there is no such method or no student, or if the axes do not match the image.

        Examples
        --------
        >>> denoiser = Denoiser.load("gray")
        >>> noisy = np.random.default_rng(0).integers(90, 110, (32, 32), dtype=np.uint8)
        >>> denoised = denoiser.denoise(noisy)
        >>> denoised.shape, denoised.dtype
        ((32, 32), dtype('uint8'))
        >>> stack = np.stack([noisy, noisy, noisy])
        >>> denoiser.denoise(stack, axes="ZYX").shape
        (3, 32, 32)
        """
        self.picks_student(method)  # a wrong method is refused before any work
        options = InferenceOptions(tile=tile, ensemble=ensemble, repair_outliers=repair_outliers)

        def denoised(plane: np.ndarray) -> tuple[np.ndarray]:
            result = np.empty(plane.shape, np.float32)
            self.denoise_into(result, _pixels(plane), method=method, options=options)
            return (result,)

        return planewise(image, denoised, axes=axes, channel_axis=channel_axis)[0]

    def picks_student(self, method: Method) -> bool:
        """Whether a method uses the student.

        Parameters
        ----------
        method : str
            See `denoise`.

        Returns
        -------
        bool
            True for the student, False for the blind-spot model.

        Raises
        ------
        ValueError
            There is no such method. Or it needs a student, and there is none or its code cannot be loaded.

        Examples
        --------
        >>> denoiser = Denoiser.load("gray")
        >>> denoiser.picks_student("auto"), denoiser.picks_student("posterior")
        (True, False)
        """
        _check_among("method", method, get_args(Method))
        if method != "posterior" and self.saved.unmade:
            raise ValueError(f'{self.saved.unmade} Or use method="posterior" (--method posterior).')
        if method == "student" and self.student is None:
            raise ValueError(
                'method="student": this model has no student. '
                'Use method="posterior" (--method posterior), or train a student on clean images (--clean).'
            )
        return method != "posterior" and self.student is not None

    @property
    def student_knows_std(self) -> bool:
        """Whether the model has a student with an uncertainty output.

        Examples
        --------
        >>> Denoiser.load("gray").student_knows_std
        True
        """
        return self.student is not None and self.student.spread is not None

    @overload
    def predict(
        self,
        image: Any,
        *,
        return_std: Literal[False] = False,
        axes: str | None = ...,
        channel_axis: int | None = ...,
        method: Method = ...,
        tile: int = ...,
        ensemble: bool = ...,
    ) -> Any: ...
    @overload
    def predict(
        self,
        image: Any,
        *,
        return_std: Literal[True],
        axes: str | None = ...,
        channel_axis: int | None = ...,
        method: Method = ...,
        tile: int = ...,
        ensemble: bool = ...,
    ) -> tuple[Any, Any]: ...

    @speaks_python
    def predict(  # noqa: PLR0913 - those of `denoise`, and return_std
        self,
        image: Any,
        *,
        return_std: bool = False,
        axes: str | None = None,
        channel_axis: int | None = None,
        method: Method = "auto",
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
    ) -> Any:
        """Denoise to float32, and on request return the uncertainty of each pixel.

        Parameters
        ----------
        image : array-like
            See `denoise`.
        return_std : bool
            Also return the uncertainty: one standard deviation of each pixel, in the unit of the result.
        axes : str, optional
            See `denoise`.
        channel_axis : int, optional
            See `denoise`.
        method : str
            See `denoise`.
        tile : int
            See `denoise`.
        ensemble : bool
            See `denoise`.

        Returns
        -------
        array-like or tuple of two of them
            The denoised image, float32, with the kind and shape of `image`; with `return_std` also the uncertainty.
            Integers of 8 and 16 bits become shares of their type's largest value, nominally in [0, 1]. Other numbers
            keep their unit. A PIL image becomes an array.

        Raises
        ------
        ValueError
            As `denoise`. Also raised with `return_std` for an old student that has no uncertainty output.

        Examples
        --------
        >>> noisy = np.random.default_rng(0).integers(90, 110, (32, 32), dtype=np.uint8)
        >>> mean, std = Denoiser.load("gray").predict(noisy, return_std=True)
        >>> mean.dtype, std.shape
        (dtype('float32'), (32, 32))
        >>> bool(0.3 < mean.mean() < 0.5)
        True
        """
        self.picks_student(method)  # a wrong method is refused before any work
        options = InferenceOptions(tile=tile, ensemble=ensemble)

        def predicted(plane: np.ndarray) -> tuple[np.ndarray, ...]:
            results = tuple(np.empty(plane.shape, np.float32) for _ in range(1 + return_std))
            std = results[1] if return_std else None
            self.denoise_into(results[0], _pixels(plane), std=std, method=method, options=options)
            return results

        results = planewise(
            image, predicted, axes=axes, channel_axis=channel_axis, count=1 + return_std, to_floats=True
        )
        return results if return_std else results[0]

    @speaks_python
    def estimate(
        self,
        image: Any,
        *,
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
        extras: Collection[Extra] = (),
    ) -> Prediction:
        """Estimate clean image, noise and uncertainty with the blind-spot model.

        Parameters
        ----------
        image : array-like
            (h, w) or (h, w, c).
        tile : int
            See `denoise`.
        ensemble : bool
            See `denoise`.
        extras : collection of str
            Fields of `Prediction` to fill besides `denoised`: "std", "mean", "noise_std", "blind_std".

        Returns
        -------
        Prediction
            Arrays (h, w, c), float32, in intensities.

        Raises
        ------
        ValueError
            There is no blind-spot model, or the number of channels is not that of the training images.

        Examples
        --------
        >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32)).astype(np.float32)
        >>> estimate = Denoiser.load("gray").estimate(noisy, extras=["noise_std"])
        >>> estimate.noise_std.shape
        (32, 32, 1)
        >>> estimate.noise_level > 0
        True
        """
        options = InferenceOptions(tile=tile, ensemble=ensemble, bf16=self.bf16)
        planes = planes_of(image)
        if len(planes) != 1:
            raise ValueError(f"image: got {len(planes)} planes, expected one. Pass them one after the other.")
        return predict(self.model, _pixels(planes[0]), options=options, extras=extras)

    def denoise_into(
        self,
        into: Canvas,
        image: Pixels,
        *,
        std: Canvas | None = None,
        method: Method = "auto",
        options: InferenceOptions = USUAL,
    ) -> float | None:
        """Denoise one image tile by tile, without holding input or output in memory.

        Parameters
        ----------
        into : Canvas
            Where the result is written, (h, w, c), intensities. An array will do.
        image : Pixels
            Where parts of the image (h, w, c) are read. An array will do.
        std : Canvas, optional
            Where the uncertainty of each pixel is written, too.
        method : str
            See `denoise`.
        options : InferenceOptions
            Tiles, orientations and the noise level given to a guided student. `bf16` is ignored: the denoiser
            chooses its own arithmetic.

        Returns
        -------
        float or None
            The noise level, in intensity. None for a student without a noise-level input.

        Raises
        ------
        ValueError
            As `denoise`. Also raised for a `level_factor` other than 1 if the method has no noise-level input.

        Examples
        --------
        >>> noisy = np.random.default_rng(0).normal(0.5, 0.1, (32, 32, 1)).astype(np.float32)
        >>> denoised = np.empty_like(noisy)
        >>> level = Denoiser.load("gray").denoise_into(denoised, noisy)
        >>> bool(0.08 < level < 0.12)
        True
        """
        guided = self.picks_student(method) and self.student is not None and self.student.guided
        if options.level_factor != 1 and not guided:
            raise ValueError(
                f"level_factor: needs a student with a noise-level input (got {options.level_factor:g}). "
                "Use 1 (--strength 1), or a guided student such as the built-in models."
            )
        ours = replace(options, bf16=self.bf16)

        def run(canvas: Canvas) -> float | None:
            places = {"denoised": canvas} | ({} if std is None else {"std": std})
            if self.picks_student(method):
                assert self.student is not None
                return apply_student_into(places, self.student, image, options=ours)
            return predict_into(places, self.model, image, options=ours)[0]

        return keeping_light(run, into, image)

    def save(self, path: str | Path) -> None:
        """Write weights and configuration to one safetensors file.

        Parameters
        ----------
        path : str or Path
            The model file to write.

        Examples
        --------
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> with TemporaryDirectory() as folder:
        ...     Denoiser.load("gray").save(Path(folder) / "model.safetensors")
        ...     Denoiser.load(Path(folder) / "model.safetensors").channels
        1
        """
        save_model(Path(path), self.saved)

    @staticmethod
    @speaks_python
    def load(path: str | Path, *, device: str = "auto", trust: bool | str = False) -> "Denoiser":
        """Read a model.

        Parameters
        ----------
        path : str or Path
            A model file, a run folder, or the name of a built-in model ("gray", "photo", "jpeg-photo").
        device : str
            "auto", "cpu", "cuda" or "mps".
        trust : bool or str
            Whether the code of your own network, which the file names, may be imported. A text allows this factory
            alone: "package.module:factory" or "path/to/file.py:factory". By default no code is imported.

        Returns
        -------
        Denoiser
            The denoiser, ready to use.

        Raises
        ------
        FileNotFoundError
            The file does not exist.
        ValueError
            The file is damaged or was not written by dbsn, its only network is code that is not trusted, or the
            device is not available.

        Examples
        --------
        >>> Denoiser.load("gray").channels
        1
        """
        return Denoiser(load_model(find_model(Path(path)), trust=trust), device=device)


def _check_among(name: str, given: object, known: Iterable[str]) -> None:
    """Refuse an argument that is not one of the known names."""
    if given not in (names := list(known)):
        raise ValueError(f"{name}: got {given!r}, expected one of {', '.join(map(repr, names))}. Correct it.")


def _name_of(factory: object) -> str:
    """The name "package.module:factory" of a user's network in a model file."""
    module, name = (getattr(factory, each, "") for each in ("__module__", "__qualname__"))
    if not callable(factory) or not name or "<" in name:
        made_by = "a class or a function defined at the top level of a module"
        raise ValueError(
            f"student: got {factory!r}, expected {made_by}. Set its training with distill=DistillConfig()."
        )
    return f"{module}:{name}"


def _with_channels(image: np.ndarray) -> np.ndarray:
    check_dtype(image.dtype)
    if image.size == 0 or not np.isfinite(image).any():
        raise ValueError(
            f"image: empty, or its values are not finite (got shape {image.shape}). Pass an image with finite values."
        )
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] > 4):
        expected = "expected (height, width) or (height, width, channels)"
        raise ValueError(f'image: wrong shape (got {image.shape}, {expected}). For a stack, pass axes="ZYX".')
    return image[..., None] if image.ndim == 2 else image


def _pixels(image: np.ndarray) -> np.ndarray:
    """Convert an image to intensities, (h, w, c) float32."""
    image = _with_channels(image)
    return image if image.dtype == np.float32 else to_pixels(image)


def _images_of_one_kind(noisy: Any, *, axes: str | None, channel_axis: int | None) -> list[np.ndarray]:
    """Collect noisy images; ValueError if there is none, or gray and colour are mixed."""
    images = _images(noisy, axes=axes, channel_axis=channel_axis)
    if not images:
        raise ValueError("noisy: no image (got an empty sequence or folder). Pass at least one noisy image.")
    if len({image.shape[2] for image in images}) > 1:
        raise ValueError("noisy: gray and colour images are mixed. Train on gray or on colour images alone.")
    return images


def _images(
    given: Any,
    *,
    mixed: bool = False,
    axes: str | None = None,
    channel_axis: int | None = None,
) -> list[np.ndarray]:
    """Collect images (h, w, c) from arrays or from a folder.

    A file that cannot be read causes a warning.
    """
    if not isinstance(given, str | Path):
        is_one = hasattr(given, "shape") or hasattr(given, "__array_interface__")
        if is_one and axes is None and channel_axis is None:
            raise ValueError(
                'noisy: got one array, expected a list of images. Pass [image], or for a stack axes="ZYX".'
            )
        arrays = [given] if is_one else given
        return [_with_channels(plane) for image in arrays for plane in planes_of(image, axes, channel_axis)]
    if channel_axis is not None:
        raise ValueError(
            f"channel_axis: works for arrays, not for a folder (got {channel_axis}). Pass axes for image files."
        )
    _, images, failures = load_folder([Path(given)], mixed=mixed, axes=axes)
    for failure in failures:
        warnings.warn(failure, stacklevel=3)
    return images
