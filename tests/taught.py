"""What a teacher knows of a few small noisy images, written out, and pairs to learn from: for several test files."""

from dataclasses import replace

import numpy as np
import torch

from dbsn.config import DistillConfig, ModelConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.learned import ImageNoise, NoiseModel
from dbsn.noise.recording import Recording
from dbsn.training.pairs import Pairs
from dbsn.training.teacher import TeacherResults

torch.manual_seed(0)
MODEL = BlindSpotModel(ModelConfig()).eval()
CONFIG = DistillConfig(batch=8, patch=32)


def known(count: int = 3) -> TeacherResults:
    """Noisy images with constant intensity i / 10 and noise 0.05; results i / 10 + 0.01."""
    random = np.random.default_rng(0)
    noisy = [random.normal(i / 10, 0.05, (80, 64, 1)).astype(np.float32) for i in range(count)]
    results = [np.full(image.shape, i / 10 + 0.01, np.float32) for i, image in enumerate(noisy)]
    images = [ImageNoise(MODEL.measure(torch.from_numpy(image).permute(2, 0, 1)[None])) for image in noisy]
    return TeacherResults(noisy=noisy, results=results, noise=NoiseModel(MODEL, images, Recording()))


def calibrated(noise: NoiseModel, std: float) -> NoiseModel:
    """The same images' noise, said to have a standard deviation by their own pixels."""
    flat = torch.full((1, 1), 0.5)
    images = [noise.calibrated_to(number, flat, std**2 + 0 * flat, 0 * flat) for number in range(len(noise.images))]
    return NoiseModel(noise.model, images, noise.recording)


def known_exactly() -> TeacherResults:
    """The same with calibrations, as larger images have."""
    return replace(known(), noise=calibrated(known().noise, 0.05))


CLEAN = [np.full((50, 60, 1), 200, np.uint8), np.full((40, 40, 1), 100, np.uint8)]


def pairs_of(levels: list[float], seed: int = 0) -> Pairs:
    """Flat images with noise of these levels, the first two of set 1, whose truth is not known."""
    generator = torch.Generator().manual_seed(seed)
    each = torch.tensor(levels).view(-1, 1, 1, 1)
    clean = torch.rand(len(levels), 1, 1, 1, generator=generator).expand(-1, 1, 32, 32).contiguous()
    noisy = clean + each * torch.randn(clean.shape, generator=generator)
    target = clean.clone()
    target[:2] += 5
    valid = torch.ones_like(clean)
    return Pairs(noisy=noisy, target=target, noise_var=each**2, error_unit=each**2, valid=valid, first=2)
