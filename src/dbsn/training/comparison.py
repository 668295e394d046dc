"""A trained model against the built-in ones, on held-out noisy pixels (Stein's estimate, math.md S4).

A run ends with it. The run's folder keeps the result, and `dbsn denoise` uses the better model. Tested in
tests/training/test_comparison.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from dbsn.config import MODEL
from dbsn.devices import pick_device
from dbsn.inference.blindspot import learned_noise, predict
from dbsn.inference.student import apply_student
from dbsn.intensity import to_pixels
from dbsn.likelihood import coloured
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.learned import NoiseModel
from dbsn.noise.recording import Recording
from dbsn.store.builtin import Comparison, card, names, path_of
from dbsn.store.model_file import ModelFile, load_model
from dbsn.tensors import as_tensor
from dbsn.training.held_out import evenly, stein_risk
from dbsn.training.patches import hold_out
from dbsn.types import Image

_SIDE, _NOISE_SIDE = 384, 1024  # largest side of a held-out part, and of the image that tells its noise, in pixels
_PROBES = 2  # disturbances for Stein's estimate
_UNSURE_DB = 1.0
_LEAST_RISK = 0.02  # of the noise variance: the estimate for a very good result may be negative


def compared(
    folder: Path, noisy: Sequence[np.ndarray], *, trust: bool | str = False, device: str = "auto"
) -> Iterator[float]:
    """Compare the model of a run with the built-in models, and write the result to the run's folder.

    The noise is that which the run's blind-spot model finds in the images. Nothing is written if no built-in model is
    for images with these channels.

    Args:
        folder: Folder of a finished run.
        noisy: Its noisy images (h, w, c).
        trust: See `load_model`; the run's own student is one that may be imported.
        device: Where the models compute.

    Yields:
        Share of the work done.
    """
    where = pick_device(device)
    trained = _on(load_model(folder / MODEL, trust=trust), where)
    channels = trained.teacher.config.channels
    others = {name: _on(load_model(path_of(name)), where) for name in names() if card(name).channels == channels}
    models = {"": trained, **others}
    errors, total = dict.fromkeys(models, 0.0), 0.0
    parts = list(evenly(hold_out(noisy)[1])) if others else []
    for done, (part, noise) in enumerate(_with_noise(trained.teacher, noisy, parts)):
        power = float(noise.square().mean())
        total += power
        for name, saved in models.items():
            errors[name] += power * float(stein_risk(_denoiser(saved), part, noise))
        yield (done + 1) / (_PROBES * len(parts))
    if others:
        errors = {name: max(error / total, _LEAST_RISK) for name, error in errors.items()}
        best = min(others, key=lambda name: errors[name])
        gain = gain_db(errors[best], errors[""], trained.teacher.config.stride)
        Comparison(builtin=best, gain_db=gain).write(folder)


def gain_db(builtin: float, trained: float, stride: int) -> float:
    """By how much a trained model is better at least, in dB.

    For correlated noise the estimate is too good for the model that learned this noise: on CC15 it said +0.44 dB, and
    the truth said -0.60 (docs/lab). Then a dB more must be gained.

    Args:
        builtin: Estimated risk of the built-in model.
        trained: Estimated risk of the trained one.
        stride: Stride of the trained one; above 1 for correlated noise.
    """
    return 10 * math.log10(builtin / trained) - (_UNSURE_DB if stride > 1 else 0)


def _on(saved: ModelFile, device: str) -> ModelFile:
    for network in (saved.model, saved.student):
        if network:
            network.to(device)
    return saved


def _denoiser(saved: ModelFile) -> Callable[[Image], Image]:
    """What `dbsn denoise` does with a model, in full precision."""

    def denoised(image: Image) -> Image:
        pixels = image[0].permute(1, 2, 0).numpy()
        student = saved.student
        return as_tensor(apply_student(student, pixels) if student else predict(saved.teacher, pixels).denoised)

    return denoised


def _middle(image: np.ndarray, side: int) -> np.ndarray:
    """The middle of an image (h, w, c), at most `side` pixels high and wide, as float32 intensities."""
    rows, columns = (slice(start := max(0, length - side) // 2, start + side) for length in image.shape[:2])
    return to_pixels(image[rows, columns]).astype(np.float32, copy=False)


def _with_noise(
    model: BlindSpotModel, noisy: Sequence[np.ndarray], parts: Sequence[tuple[int, np.ndarray]]
) -> Iterator[tuple[Image, Image]]:
    """Each held-out part (1, c, h, w) with a fresh draw of its image's noise.

    The noise is learned from the whole image, because a few rows tell its level inexactly.
    """
    generator, recording = torch.Generator().manual_seed(0), Recording.of(noisy)
    for number, held in parts:
        part, whole = _middle(held, _SIDE), _middle(noisy[number], _NOISE_SIDE)
        found = predict(model, whole).noise if model.config.stride == 1 else learned_noise(model, whole)
        noise = NoiseModel(model, [found], recording)
        image, clean = as_tensor(part), as_tensor(predict(model, part).denoised)
        drawn = [coloured(noise.variance(clean, [0]), noise.white(image, generator, [0])) for _ in range(_PROBES)]
        yield from ((image, one) for one in drawn)
