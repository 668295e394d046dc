"""The teacher's results for the noisy images and their noise.

They are computed once and kept in a file. The pairs made of them do not belong here. Tested in
tests/unit/test_distill.py.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from dbsn.inference.blindspot import learned_noise, predict
from dbsn.inference.options import InferenceOptions
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.noise.learned import NoiseModel
from dbsn.noise.recording import Recording
from dbsn.schema import build
from dbsn.store.tensors import load_tensors, save_tensors
from dbsn.training.checkpoint import TrainingState, state_of
from dbsn.training.noise_correction import refined
from dbsn.training.patches import hold_out

RESULTS = "teacher.safetensors"
_MOST_PIXELS = 24_000_000  # of all noisy images that the teacher denoises
_SAVED_EVERY = 60.0  # seconds
Known = tuple[int, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class TeacherResults:
    """The teacher's results for noisy images."""

    noisy: Sequence[np.ndarray]
    """The noisy images, (h, w, c), unchanged."""
    results: Sequence[np.ndarray]
    """The teacher's posterior means, (h, w, c) float32 intensities."""
    noise: NoiseModel
    """The noise of the images, in the same order."""

    def hold_out(self) -> tuple[list[Known], list[Known]]:
        """Split into training and validation: (number, noisy, result) each."""
        noisy, results = hold_out(self.noisy), hold_out(self.results)
        learned, held = (
            [(number, image, result) for (number, image), (_, result) in zip(*part, strict=True)]
            for part in zip(noisy, results, strict=True)
        )
        return learned, held


def some_of(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Choose images for the teacher evenly: all, or about 24 megapixels of them."""
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    count = max(1, min(len(images), int(len(images) * _MOST_PIXELS / pixels)))
    return [images[i * len(images) // count] for i in range(count)]


def teach(model: BlindSpotModel, images: Sequence[np.ndarray], cache: Path, *, bf16: bool = False) -> Iterator[float]:
    """Denoise images (h, w, c) with the teacher and keep its results in `cache`.

    Results that are in the file already are not computed again. New results are written every minute and when
    interrupted.

    Yields:
        Share of the images done.
    """
    known = recalled(model, images, cache) if cache.exists() else None
    done = [
        (_in_network_units(result, model), noise)
        for result, noise in (zip(known.results, known.noise.images, strict=True) if known else ())
    ]
    recording, written, saved = Recording.of(images), len(done), time.monotonic()

    def write() -> None:
        noise = NoiseModel(model, [noise for _, noise in done], recording)
        tensors = {f"result/{number}": result for number, (result, _) in enumerate(done)}
        tensors |= {f"noise/{name}": part for name, part in noise.tensors().items()}
        save_tensors(cache, tensors, {"recording": asdict(recording)})

    try:
        for image in images[len(done) :]:
            estimate = predict(model, image, options=InferenceOptions(bf16=bf16))
            noise = estimate.noise if model.config.stride == 1 else learned_noise(model, image, bf16=bf16)
            done.append((_in_network_units(estimate.denoised, model), noise))
            if time.monotonic() - saved > _SAVED_EVERY:
                write()
                written, saved = len(done), time.monotonic()
            yield len(done) / len(images)
    finally:
        if len(done) > written:
            write()


def _in_network_units(result: np.ndarray, model: BlindSpotModel) -> Tensor:
    """Convert a result to float16 in network units.

    This takes half the memory. The intensities themselves may be counts in the thousands.
    """
    return torch.from_numpy((result - model.config.offset) / model.config.scale).half()


def recalled(model: BlindSpotModel, images: Sequence[np.ndarray], cache: Path) -> TeacherResults:
    """Read the results of `teach` for these images, or for the first of them."""
    tensors, header = load_tensors(cache)
    noise = {name.removeprefix("noise/"): tensor for name, tensor in tensors.items() if name.startswith("noise/")}
    count, config = len(tensors.get("noise/measurement", ())), model.config
    names = [f"result/{number}" for number in range(count)]
    shapes = [tuple(tensors[name].shape) if name in tensors else None for name in names]
    if not count or shapes != [image.shape for image in images[:count]]:
        raise ValueError(f"{cache}: holds no results for these images. Start a new run.")
    return TeacherResults(
        noisy=images[: len(names)],
        results=[(tensors[name].float() * config.scale + config.offset).numpy() for name in names],
        noise=NoiseModel.from_tensors(model, noise, build(Recording, header.get("recording"), "recording")),
    )


def keep_refined(
    known: TeacherResults, student: Student | None, path: Path, when: TrainingState, *, bf16: bool
) -> None:
    """Write the noise as corrected by a student to a file (S9).

    `when` is the student's progress. Without a student the noise is written unchanged.
    """
    noise = refined(known.noise, student, known.noisy, known.results, bf16=bf16) if student else known.noise
    save_tensors(path, noise.tensors(), {"when": asdict(when)})


def recall_refined(known: TeacherResults, path: Path) -> tuple[NoiseModel, TrainingState]:
    """Read the noise that `keep_refined` wrote, and the student's progress then.

    Early files do not hold the progress; then it is step 0.
    """
    tensors, header = load_tensors(path)
    noise = NoiseModel.from_tensors(known.noise.model, tensors, known.noise.recording)
    return noise, state_of(path, header.get("when", {}))
