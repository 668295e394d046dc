"""Images that seem to have the same noise are given the same; those that have another keep it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dbsn.calibrate import Calibration
from dbsn.config import ModelConfig
from dbsn.likelihood import channel_variance
from dbsn.model import BlindSpotModel
from dbsn.noisemodel import ImageNoise, NoiseModel, Recording
from dbsn.sharing import shared

DARK, BRIGHT = 0.1, 0.9
AT = torch.linspace(DARK + 0.05, BRIGHT - 0.05, 9).view(1, 1, 1, -1)


def true_std(intensity: np.ndarray) -> np.ndarray:
    """Of the folder's noise, which rises with intensity as photon noise does."""
    return np.sqrt(0.02**2 + 0.01 * intensity)


def folder(
    times: list[float], *, channels: int = 1, error: float = 0.03, knots: int = 12, wild: int | None = None
) -> NoiseModel:
    """Noise of an untrained model for images of `times` the true level, calibrated with errors; `wild` ones of one knot
    in each image are many times as large.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = BlindSpotModel(ModelConfig(channels=channels)).eval()
    for parameter in model.noise_estimator.parameters():
        parameter.data.add_(0.03 * torch.randn_like(parameter))
    images = []
    for number, factor in enumerate(times):
        noisy = torch.from_numpy(random.normal(0.5, 0.05 + 0.002 * number, (1, channels, 64, 64)).astype(np.float32))
        alone = ImageNoise(model.measure(noisy))
        at = np.sort(random.uniform(DARK, BRIGHT, (channels, knots)), 1)
        told = NoiseModel(model, [alone], Recording()).variance(torch.tensor(at[None, :, None]).float(), [0])
        level = factor * true_std(at) * np.exp(random.normal(0, error, at.shape))
        if wild is not None:
            level[:, wild] *= 3
        correction = torch.tensor(level**2 / channel_variance(told)[0, :, 0].numpy()).float()
        skewness = torch.tensor(random.normal(0.3, error, at.shape)).float()
        calibration = Calibration(torch.tensor(at).float(), correction, skewness, torch.zeros(1), torch.ones(1))
        images.append(replace(alone, calibration=calibration))
    return NoiseModel(model, images, Recording())


def stds(noise: NoiseModel) -> np.ndarray:
    """Of every image at the intensities `AT`: (images, channels, 9)."""
    at = AT.expand(1, noise.model.config.channels, 1, -1)
    variances = [channel_variance(noise.variance(at, [number])) for number in range(len(noise.images))]
    return torch.cat(variances).sqrt()[:, :, 0].numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("wild", [None, 7])
def test_images_of_the_same_noise_get_one_that_is_closer_to_the_truth(channels: int, wild: int | None) -> None:
    own, truth = folder([1.0] * 40, channels=channels, wild=wild), true_std(AT.flatten().numpy())
    common = stds(shared(own))
    before, after = (np.log(found / truth) for found in (stds(own), common))
    assert np.sqrt(np.square(before).mean()) > 0.05
    assert np.sqrt(np.square(after).mean()) < 0.015
    assert np.abs(after).max() < 0.06
    assert common.std(0).max() < 0.01 * common.mean()
    skewness = shared(own)._skewness(AT.expand(1, channels, 1, -1), [0])
    assert torch.allclose(skewness, torch.full_like(skewness, 0.3), atol=0.03)


@pytest.mark.parametrize("stranger", [0.8, 1.5])
def test_an_image_of_another_noise_keeps_it(stranger: float) -> None:
    own = folder([stranger] + [1.0] * 30)
    found = shared(own)
    assert found.images[0] is own.images[0]
    assert all(after is not before for after, before in zip(found.images[1:], own.images[1:], strict=True))
    assert np.abs(np.log(stds(found)[1:] / true_std(AT.flatten().numpy()))).max() < 0.04


def test_one_level_an_image_becomes_one_level() -> None:
    own = folder([1.0] * 10, knots=1)
    common = stds(shared(own)) / stds(replace_calibrations(own, None))
    assert np.allclose(common.std(2), 0, atol=1e-5), "it does not depend on the intensities that images happen to have"


def replace_calibrations(noise: NoiseModel, calibration: Calibration | None) -> NoiseModel:
    """The same with another calibration for every image."""
    return NoiseModel(noise.model, [replace(image, calibration=calibration) for image in noise.images], noise.recording)


def test_a_folder_of_many_levels_is_left_alone_and_so_are_few_images() -> None:
    levels = np.random.default_rng(1).uniform(0.7, 1.4, 30)
    for own in (folder(list(levels)), folder([1.0] * 4), replace_calibrations(folder([1.0] * 10), None)):
        assert shared(own) is own
