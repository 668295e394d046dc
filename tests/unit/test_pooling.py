"""Images that seem to have the same noise are given the same; those that have another keep it."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from dbsn.config import ModelConfig, NoiseFamily
from dbsn.likelihood import channel_variance
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.calibration import Calibration
from dbsn.noise.learned import ImageNoise, NoiseModel
from dbsn.noise.pooling import shared
from dbsn.noise.recording import Recording

DARK, BRIGHT = 0.1, 0.9
AT = torch.linspace(DARK + 0.05, BRIGHT - 0.05, 9).view(1, 1, 1, -1)


def true_std(intensity: np.ndarray) -> np.ndarray:
    """Of the folder's noise, which rises with intensity as photon noise does."""
    return np.sqrt(0.02**2 + 0.01 * intensity)


def folder(
    times: list[float],
    *,
    channels: int = 1,
    error: float = 0.03,
    knots: int = 12,
    wild: bool = False,
    spans: list[tuple[float, float]] | None = None,
    form: NoiseFamily = "any",
) -> NoiseModel:
    """Noise of an untrained model for images of `times` the true level, calibrated with errors at intensities in their
    `spans`; `wild`: at one of these three times as large.
    """
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = BlindSpotModel(ModelConfig(channels=channels, noise=form)).eval()
    for parameter in model.noise_estimator.parameters():
        parameter.data.add_(0.01 * torch.randn_like(parameter))
    images = []
    for number, factor in enumerate(times):
        noisy = torch.from_numpy(random.normal(0.5, 0.05 + 0.002 * number, (1, channels, 64, 64)).astype(np.float32))
        alone = ImageNoise(model.measure(noisy))
        least, most = (spans or [(DARK, BRIGHT)] * len(times))[number]
        at = np.sort(least + (most - least) * (np.arange(knots) + random.uniform(0, 1, (channels, knots))) / knots, 1)
        told = NoiseModel(model, [alone], Recording()).variance(torch.tensor(at[None, :, None]).float(), [0])
        level = factor * (true_std(at) if form == "any" else 0.05) * np.exp(random.normal(0, error, at.shape))
        if wild:
            level[:, random.integers(knots)] *= 3
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
@pytest.mark.parametrize("wild", [False, True])
def test_images_of_the_same_noise_get_one_that_is_closer_to_the_truth(channels: int, wild: bool) -> None:
    own, truth = folder([1.0] * 40, channels=channels, wild=wild), true_std(AT.flatten().numpy())
    common = stds(shared(own))
    before, after = (np.log(found / truth) for found in (stds(own), common))
    assert np.sqrt(np.square(before).mean()) > 0.025
    assert np.sqrt(np.square(after).mean()) < 0.015
    assert np.abs(after).max() < 0.1
    assert common.std(0).max() < 0.02 * common.mean()
    skewness = shared(own)._skewness(AT.expand(1, channels, 1, -1), [0])
    assert torch.allclose(skewness, torch.full_like(skewness, 0.3), atol=0.03)


def left(own: NoiseModel) -> list[int]:
    """The numbers of the images that keep their own noise."""
    return [number for number, image in enumerate(shared(own).images) if image is own.images[number]]


@pytest.mark.parametrize("strangers", [[0.8], [1.5], [1.12] * 18, [2.0, 2.0]], ids=str)
def test_images_of_another_noise_keep_it_and_do_not_change_the_others(strangers: list[float]) -> None:
    dark = [(DARK, 0.2)] * len(strangers) if strangers[0] == 2 else [(DARK, BRIGHT)] * len(strangers)
    own = folder(strangers + [1.0] * 30, error=0.02, spans=dark + [(0.2, BRIGHT)] * 30)
    assert left(own) == list(range(len(strangers)))
    misses = np.abs(np.log(stds(shared(own))[len(strangers) :] / true_std(AT.flatten().numpy())))
    assert misses[..., 1:].max() < 0.04
    assert misses[..., 0].max() < 0.3, "where the others have hardly a pixel"


def test_more_than_a_tenth_is_another_noise_however_badly_levels_are_known() -> None:
    assert left(folder([1.1] + [1.0] * 40, error=0.11)) == [0], "which measures 1.16"


def test_dark_images_of_much_noise_and_bright_ones_of_little_are_not_one_curve() -> None:
    own = folder([2.0] * 12 + [1.0] * 12, spans=[(DARK, 0.4)] * 12 + [(0.3, BRIGHT)] * 12)
    found, before = stds(shared(own)), stds(own)
    assert np.abs(np.log(found[:12] / before[:12]))[..., :3].max() < 0.2
    assert np.abs(np.log(found[12:] / before[12:]))[..., 4:].max() < 0.2
    assert not np.allclose(found[0], found[12], rtol=0.3)


def test_channels_know_different_numbers_of_intensities() -> None:
    own = folder([1.0] * 20, channels=3)
    for image in own.images:
        assert image.calibration is not None
        for curve in (image.calibration.intensities, image.calibration.noise_factors):
            curve[0, 5:] = curve[0, 5]  # as a file repeats the end of a short one
    assert not left(own)


def test_one_level_an_image_becomes_one_level() -> None:
    own = folder([1.0] * 45, knots=1, form="awgn")
    assert not left(own)
    common = stds(shared(own))
    assert np.allclose(common, common[0, 0, 0], rtol=1e-4), "whatever intensities the images happen to have"


def replace_calibrations(noise: NoiseModel, calibration: Calibration | None) -> NoiseModel:
    """The same with another calibration for every image."""
    return NoiseModel(noise.model, [replace(image, calibration=calibration) for image in noise.images], noise.recording)


def test_a_folder_of_many_levels_is_left_alone_and_so_are_few_images() -> None:
    levels = np.random.default_rng(1).uniform(0.7, 1.4, 30)
    for own in (folder(list(levels)), folder([1.0] * 7), replace_calibrations(folder([1.0] * 10), None)):
        assert shared(own) is own
