"""The Python interface: fit, denoise, predict, save, load (tests/e2e/test_python.py; README)."""

import tempfile
import warnings
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Any, Literal, overload

import numpy as np
import torch

from dbsn.checkpoint import load_model, save_model
from dbsn.config import NETWORKS, ModelConfig, NetworkName, NoiseFamily, TrainConfig
from dbsn.images import from_pixels, to_pixels
from dbsn.infer import DEFAULT_TILE, NO_EXTRAS, STD, Extra, Prediction, predict
from dbsn.model import BlindSpotModel
from dbsn.runs import load_folder
from dbsn.selfsupervised import learn
from dbsn.train import MODEL, Progress, has_fast_bf16, pick_device


class Denoiser:
    """A trained denoiser.

    Images are arrays (h, w) or (h, w, c) of any unsigned-integer or float kind, in the kind the denoiser was trained
    with: integers span their whole range, floats are taken as they are.
    """

    def __init__(self, model: BlindSpotModel, about: dict[str, Any] | None = None, *, device: str = "auto") -> None:
        self.device = pick_device(device)
        self.model = model.eval().to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.about = about or {}
        self.bf16 = has_fast_bf16(self.device)

    @staticmethod
    def fit(
        noisy: Sequence[np.ndarray] | str | Path,
        *,
        minutes: float | None = 30.0,
        steps: int | None = None,
        noise: NoiseFamily = "any",
        network: NetworkName = "grid",
        seed: int = 0,
        device: str = "auto",
        on_progress: Callable[[Progress], None] | None = None,
        **settings: Any,
    ) -> "Denoiser":
        """Learn from noisy images alone (stage 1 of Wu et al. 2020).

        Args:
            noisy: Images of one kind, or a folder of image files.
            minutes: Time to spend.
            steps: Steps to take instead.
            noise: Form of the noise, see `dbsn.config.ModelConfig`; "any" makes the fewest assumptions.
            network: A name of `dbsn.config.NETWORKS`.
            seed: Of everything random.
            device: "auto", "cpu", "cuda" or "mps".
            on_progress: Called after each step.
            settings: Further fields of `dbsn.config.TrainConfig`.

        Raises:
            ValueError: No image, mixed kinds, a setting out of range, or a device that is not there.

        Warns:
            UserWarning: A file of the folder cannot be read.
        """
        if isinstance(noisy, str | Path):
            _, images, failures = load_folder([Path(noisy)])
            for failure in failures:
                warnings.warn(failure, stacklevel=2)
        else:
            images = [_with_channels(image) for image in noisy]
        if not images:
            raise ValueError("fit: got no image")
        if len({image.shape[2] for image in images}) > 1:
            raise ValueError("fit: gray and colour images are mixed; train on one kind")
        model = ModelConfig(network=NETWORKS[network], channels=images[0].shape[2], noise=noise)
        config = TrainConfig(minutes=minutes, steps=steps, seed=seed, **settings)
        with tempfile.TemporaryDirectory() as folder:
            for progress in learn(images, model, config, run=Path(folder), about={}, device=device):
                if on_progress:
                    on_progress(progress)
            return Denoiser.load(Path(folder) / MODEL, device=device)

    def denoise(self, image: np.ndarray, *, tile: int = DEFAULT_TILE, ensemble: bool = False) -> np.ndarray:
        """The denoised image, in the shape and kind of `image`; integers rounded and clipped.

        `ensemble` averages over the image's eight orientations: better, and eight times as slow.

        Raises:
            ValueError: Another number of channels than the denoiser was trained on.
        """
        result = self.estimate(image, tile=tile, ensemble=ensemble).denoised
        return from_pixels(result, image.dtype).reshape(image.shape)

    @overload
    def predict(
        self, image: np.ndarray, *, return_std: Literal[False] = False, tile: int = ..., ensemble: bool = ...
    ) -> np.ndarray: ...
    @overload
    def predict(
        self, image: np.ndarray, *, return_std: Literal[True], tile: int = ..., ensemble: bool = ...
    ) -> tuple[np.ndarray, np.ndarray]: ...

    def predict(
        self, image: np.ndarray, *, return_std: bool = False, tile: int = DEFAULT_TILE, ensemble: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """The denoised image as float32, and on request its posterior standard deviation in the same unit.

        Integers are in [0, 1] (divided by their type's largest value), floats in their own unit.
        """
        estimate = self.estimate(image, tile=tile, ensemble=ensemble, extras=STD if return_std else NO_EXTRAS)
        denoised = estimate.denoised.reshape(image.shape)
        return denoised if estimate.std is None else (denoised, estimate.std.reshape(image.shape))

    def estimate(
        self,
        image: np.ndarray,
        *,
        tile: int = DEFAULT_TILE,
        ensemble: bool = False,
        extras: Collection[Extra] = (),
    ) -> Prediction:
        """What the model believes of an image (h, w) or (h, w, c), as `Prediction` arrays (h, w, c)."""
        image = _with_channels(image)
        pixels = image if image.dtype == np.float32 else to_pixels(image)
        return predict(self.model, pixels, tile=tile, ensemble=ensemble, bf16=self.bf16, extras=extras)

    def save(self, path: str | Path) -> None:
        """Write one safetensors file that holds weights and configuration."""
        save_model(Path(path), self.model, self.about)

    @staticmethod
    def load(path: str | Path, *, device: str = "auto") -> "Denoiser":
        """Read a model file.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: It is damaged or not a model of this program.
        """
        return Denoiser(*load_model(Path(path)), device=device)


def _with_channels(image: np.ndarray) -> np.ndarray:
    if not np.issubdtype(image.dtype, np.floating) and image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image of {image.dtype}: convert it to uint8, uint16 or a float kind first")
    if image.size == 0 or not np.isfinite(image).all():
        raise ValueError(f"image of shape {image.shape}: empty, or with values that are not finite")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] > 4):
        raise ValueError(f"image of shape {image.shape}: expected (height, width) or (height, width, channels)")
    return image[..., None] if image.ndim == 2 else image
