"""Stage 2: an ordinary denoiser learns from two paired sets (Wu et al. 2020, sec. 3.3; docs/math.md, S1-S4).

Set 1 are the noisy images with the teacher's results, set 2 unrelated clean images with the learned noise on them.
`teach` computes what the teacher knows, once; `distil` hands both sets to the one training loop. Reading files does
not belong here. Tested in tests/unit/test_distill.py and tests/e2e/test_student.py.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from dbsn.checkpoint import MODEL, Saved, load_tensors, save_model, save_tensors
from dbsn.config import DistillConfig, StudentConfig, StudentNetwork
from dbsn.images import to_pixels
from dbsn.infer import predict
from dbsn.likelihood import channel_variance, coloured
from dbsn.model import BlindSpotModel
from dbsn.networks.estimator import MEASURES, measure
from dbsn.noise import Noise, parse_noise
from dbsn.noisemodel import NoiseModel, Recording
from dbsn.patches import areas, as_tensor, cut, fitting_size, hold_out, step_seed
from dbsn.student import Student
from dbsn.train import Losses, LossOf, Progress, train
from dbsn.types import Image, Mask, Scalar, Variance

RESULTS = "teacher.safetensors"
_MOST_PIXELS = 24_000_000  # of the noisy images that the teacher goes through
_HELD_OUT, _HELD_OUT_SIDE = 8, 192
_LEAST_VAR = 1e-12
_PROBE = 0.1  # disturbance for Stein's estimate, in standard deviations of the noise


Known = tuple[int, np.ndarray, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """Patches to denoise and what is wanted of them, those of set 1 first."""

    noisy: Image
    """Intensities (b, c, h, w)."""
    target: Image
    """What the student is to give."""
    noise_var: Tensor
    """Mean noise variance of each patch, (b, 1, 1, 1): the unit of its squared error."""
    valid: Mask
    """1 inside the image, 0 where a patch is larger than it."""
    first: int
    """How many patches are of set 1."""

    @property
    def pixels(self) -> int:
        """How many are predicted."""
        return self.valid.numel()

    def to(self, device: torch.device) -> "Pairs":
        """The same pairs on a device, images channels-last."""
        noisy, target = (image.to(device, memory_format=torch.channels_last) for image in (self.noisy, self.target))
        noise_var, valid = self.noise_var.to(device), self.valid.to(device)
        return replace(self, noisy=noisy, target=target, noise_var=noise_var, valid=valid)


@dataclass(frozen=True, kw_only=True)
class Taught:
    """What the teacher knows of noisy images."""

    noisy: Sequence[np.ndarray]
    """The images it has gone through, (h, w, c), as they were."""
    results: Sequence[np.ndarray]
    """Its posterior means, (h, w, c) float16."""
    noise: NoiseModel
    """The images' noise, in the same order."""

    def hold_out(self) -> tuple[list[Known], list[Known]]:
        """What to learn from and what to validate on: (number, noisy, result) each."""
        noisy, results = hold_out(self.noisy), hold_out(self.results)
        learned, held = (
            [(number, image, result) for (number, image), (_, result) in zip(*part, strict=True)]
            for part in zip(noisy, results, strict=True)
        )
        return learned, held


def some_of(images: Sequence[np.ndarray]) -> list[np.ndarray]:
    """As many of the images, evenly chosen, as the teacher has time for; all of them up to 24 megapixels."""
    pixels = sum(image.shape[0] * image.shape[1] for image in images)
    count = max(1, min(len(images), int(len(images) * _MOST_PIXELS / pixels)))
    return [images[i * len(images) // count] for i in range(count)]


def teach(model: BlindSpotModel, images: Sequence[np.ndarray], cache: Path, *, bf16: bool = False) -> Iterator[float]:
    """Let the teacher denoise noisy images (h, w, c) and keep its results in the file `cache`, unless it is there.

    Yields:
        Share of the images done.
    """
    if cache.exists():
        return
    results, noises = [], []
    for number, image in enumerate(images):
        estimate = predict(model, image, bf16=bf16)
        results.append(torch.from_numpy(estimate.denoised.astype(np.float16)))
        noises.append(estimate.noise)
        yield (number + 1) / len(images)
    recording = Recording.of(images)
    tensors = {f"result/{number}": result for number, result in enumerate(results)}
    tensors |= {f"noise/{name}": tensor for name, tensor in NoiseModel(model, noises, recording).tensors().items()}
    save_tensors(cache, tensors, {"recording": asdict(recording)})


def taught(model: BlindSpotModel, images: Sequence[np.ndarray], cache: Path) -> Taught:
    """What `teach` has left about these images."""
    tensors, header = load_tensors(cache)
    noise = {name.removeprefix("noise/"): tensor for name, tensor in tensors.items() if name.startswith("noise/")}
    return Taught(
        noisy=images,
        results=[tensors[f"result/{number}"].numpy() for number in range(len(images))],
        noise=NoiseModel.from_tensors(model, noise, Recording(**header["recording"])),
    )


class PairedPatches:
    """Random pairs of both sets: `pairs(step)` is the batch of that step, a function of (seed, step) alone."""

    def __init__(
        self, known: Taught, clean: Sequence[np.ndarray], config: DistillConfig, *, multiple: int, fill: float
    ) -> None:
        self.known, self.clean, self.config, self.fill = known, clean, config, fill
        self.known_noise = parse_noise(config.noise) if config.noise else None
        self.first = 0 if config.baseline else round(config.batch * config.noisy_share)
        self.noisy = known.hold_out()[0]
        noisy = [image for _, image, _ in self.noisy]
        used = [*(noisy if self.first else ()), *(clean if self.first < config.batch else ())]
        self.size = fitting_size(used, config.patch, multiple)

    def __call__(self, step: int, rank: int = 0) -> Pairs:
        """The batch of one step (of one process of several); the same for the same seed, step and rank."""
        generator = torch.Generator().manual_seed(step_seed(self.config.seed, step, rank))
        parts = []
        if self.first:
            parts.append(self._noisy(self.first, generator))
        if self.first < self.config.batch:
            parts.append(self._clean(self.config.batch - self.first, generator))
        joined = {
            name: torch.cat([getattr(part, name) for part in parts])
            for name in ("noisy", "target", "noise_var", "valid")
        }
        return Pairs(**joined, first=self.first)

    def _noisy(self, count: int, generator: torch.Generator) -> Pairs:
        """Set 1: noisy patches with the teacher's result."""
        chosen = [self.noisy[i] for i in _draw([image for _, image, _ in self.noisy], self.size, count, generator)]
        patches = [cut([noisy, result], self.size, self.fill, generator) for _, noisy, result in chosen]
        noisy, target = (torch.stack([pair[kind] for pair, _ in patches]) for kind in (0, 1))
        valid = torch.stack([inside for _, inside in patches])
        variance = self.known.noise.variance(target, [number for number, _, _ in chosen])
        return Pairs(noisy=noisy, target=target, noise_var=_power(variance), valid=valid, first=count)

    def _clean(self, count: int, generator: torch.Generator) -> Pairs:
        """Set 2: clean patches with noise."""
        chosen = _draw(self.clean, self.size, count, generator)
        patches = [cut([self.clean[i]], self.size, self.fill, generator) for i in chosen]
        clean = torch.stack([patch for [patch], _ in patches])
        valid = torch.stack([inside for _, inside in patches])
        return synthetic_pairs(clean, valid, self.known.noise, self.config, self.known_noise, generator)


def synthetic_pairs(
    clean: Image,
    valid: Mask,
    learned: NoiseModel,
    config: DistillConfig,
    known: Noise | None,
    generator: torch.Generator,
) -> Pairs:
    """Clean patches with noise drawn for them: the learned one, or a known one in its place (S2)."""
    which = torch.randint(len(learned.images), (len(clean),), generator=generator).tolist()

    def noisy() -> Image:
        if known:
            return known.sample(clean, generator)
        return learned.sample(clean, generator, which, jitter=config.jitter)

    variance = known.variance(clean) if known else learned.variance(clean, which)
    return Pairs(
        noisy=noisy(),
        target=noisy() if config.baseline == "n2n" else clean,
        noise_var=_power(variance),
        valid=valid,
        first=0,
    )


def _draw(images: Sequence[np.ndarray], size: int, count: int, generator: torch.Generator) -> list[int]:
    chosen: list[int] = torch.multinomial(areas(images, size), count, replacement=True, generator=generator).tolist()
    return chosen


def _power(variance: Variance) -> Tensor:
    return channel_variance(variance).mean((1, 2, 3), keepdim=True).clamp_min(_LEAST_VAR)


def distil(
    known: Taught,
    clean: Sequence[np.ndarray],
    network: StudentNetwork,
    config: DistillConfig,
    *,
    run: Path,
    about: dict[str, Any],
    begin_from: Student | None = None,
    resume: bool = False,
    device: str = "auto",
    to: Path | None = None,
) -> Iterator[Progress]:
    """Train a student on both sets; `train` says what is yielded.

    Teacher, noise model and best student are left in `to` (by default `run`) as `model.safetensors`.

    Args:
        known: What `teach` left.
        clean: Clean images (h, w, c), as many channels as the noisy ones, intensities of their range.
        network: The student's.
        config: How it is trained.
        run: Existing folder for the checkpoint.
        about: Kept in the model file.
        begin_from: A student whose weights to start from.
        resume: Go on from the checkpoint in `run`.
        device: "auto", "cpu", "cuda" or "mps".
        to: Existing folder for the model file.

    Raises:
        ValueError: There is no clean image, its channels differ, or `begin_from` is another kind of network.
    """
    teacher = known.noise.model
    student = _new_student(teacher, network, config.seed, begin_from)
    learned, held = hold_out(clean)
    pairs = PairedPatches(
        known, [image for _, image in learned], config, multiple=student.multiple, fill=teacher.config.offset
    )
    target = (to or run) / MODEL

    def keep(average: Student, story: dict[str, Any]) -> None:
        saved = Saved(model=teacher, student=average, noise=known.noise, about={**about, **story})
        save_model(target, saved)

    return train(
        student,
        student.parameter_groups(),
        distillation_loss(config),
        pairs,
        HeldOut(known, [image for _, image in held], config),
        keep,
        config,
        run=run,
        resume=resume,
        device=device,
    )


def _new_student(teacher: BlindSpotModel, network: StudentNetwork, seed: int, begin_from: Student | None) -> Student:
    config = StudentConfig(
        network=network, channels=teacher.config.channels, offset=teacher.config.offset, scale=teacher.config.scale
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Student(config)
    if begin_from:
        if replace(begin_from.config, offset=config.offset, scale=config.scale) != config:
            raise ValueError(f"cannot start a {config.network.kind} student from {begin_from.config.network}")
        student.load_state_dict(begin_from.state_dict())
    return student


def distillation_loss(config: DistillConfig) -> LossOf[Student, Pairs]:
    """The loss of stage 2: weighted squared errors of both sets, in units of each patch's noise variance (S3)."""

    def loss(student: Student, pairs: Pairs, share: float) -> Losses:
        error = (student(pairs.noisy) - pairs.target).square() / pairs.noise_var * pairs.valid
        size = pairs.valid.sum() * error.shape[1]
        zero = error.sum() * 0
        terms = {
            "noisy": error[: pairs.first].sum() / size * config.noisy_weight if pairs.first else zero,
            "synthetic": error[pairs.first :].sum() / size if pairs.first < len(error) else zero,
        }
        return Losses(terms=terms, shown={"noise_std": pairs.noise_var.sqrt().mean()})

    return loss


class HeldOut:
    """The figure that picks the best student, without any truth (S4): the mean of two relative squared errors.

    One is measured on clean images held out from learning, under learned noise; the other is Stein's unbiased estimate
    on noisy images, under their own noise. Both are in units of the noise variance: 1 is what the noisy image has.
    """

    def __init__(self, known: Taught, clean: Sequence[np.ndarray], config: DistillConfig) -> None:
        generator = torch.Generator().manual_seed(config.seed)
        source = replace(config, baseline=None)
        oracle = parse_noise(config.noise) if config.noise else None
        self.synthetic = [
            synthetic_pairs(crop, torch.ones_like(crop[:, :1]), known.noise, source, oracle, generator)
            for crop in (as_tensor(_middle(image)) for image in _evenly(clean))
        ]
        self.noisy: list[tuple[Image, Image]] = []
        for number, image, result in _evenly(known.hold_out()[1]):
            noisy = as_tensor(_middle(image))
            variance = known.noise.variance(as_tensor(_middle(result)), [number])
            self.noisy.append((noisy, coloured(variance, torch.randn(noisy.shape, generator=generator))))

    def __call__(self, student: Student) -> float:
        """The figure of one student; lower is better."""
        device = next(student.parameters()).device
        with torch.inference_mode():
            errors = [_relative_error(student, pairs.to(device)) for pairs in self.synthetic]
            risks = [stein_risk(student, noisy.to(device), noise.to(device)) for noisy, noise in self.noisy]
        return float(torch.stack(errors).mean() + torch.stack(risks).mean()) / 2


def _relative_error(student: Student, pairs: Pairs) -> Scalar:
    return ((student(pairs.noisy) - pairs.target).square() / pairs.noise_var).mean()


def stein_risk(student: nn.Module, noisy: Image, noise: Image) -> Scalar:
    """Squared error of a denoiser over the noise variance, estimated from a noisy image alone (Stein 1981, S4).

    Args:
        student: Any denoiser.
        noisy: (b, c, h, w) intensities.
        noise: A fresh draw of the noise that is in `noisy`; the answer is disturbed by a tenth of it.
    """
    denoised = student(noisy)
    moved = (student(noisy + _PROBE * noise) - denoised) / _PROBE
    power = noise.square().mean()
    return (denoised - noisy).square().mean() / power - 1 + 2 * (noise * moved).mean() / power


def _evenly(items: Sequence[Any]) -> Iterator[Any]:
    """Eight of the items, evenly chosen, or all."""
    count = min(len(items), _HELD_OUT)
    return (items[i * len(items) // count] for i in range(count))


def _middle(image: np.ndarray) -> np.ndarray:
    """The middle 192 x 192 pixels of an image (h, w, c)."""
    top, left = (max(side - _HELD_OUT_SIDE, 0) // 2 for side in image.shape[:2])
    return image[top : top + _HELD_OUT_SIDE, left : left + _HELD_OUT_SIDE]


def flaws(image: np.ndarray) -> tuple[float, float]:
    """How unclean an image (h, w, c) is, for clean images with noise or JPEG blocks cap what a student can learn.

    Returns:
        Noise level of its flat areas, and how much larger the mean step across the borders of 8 x 8 blocks is than that
        between other neighbours; both intensities, near 0 in a clean image.
    """
    levels = measure([as_tensor(image)]).unflatten(1, (-1, MEASURES))[:, :, 0].exp()
    pixels, excess = to_pixels(image).mean(2), list[float]()
    for axis in (0, 1):
        steps = np.abs(np.diff(pixels, axis=axis)).mean(1 - axis)
        border = np.arange(len(steps)) % 8 == 7
        if border.any():
            excess.append(float(steps[border].mean() - steps[~border].mean()))
    return float(levels.max()), min(excess, default=0.0)  # blocks stand out both ways, buildings one way
