"""An image's own pixels put right what a model has wrong about its noise and its predictions (M8)."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from dbsn.config import GridConfig, ModelConfig
from dbsn.inference.blindspot import predict
from dbsn.inference.options import InferenceOptions
from dbsn.likelihood import as_covariance, channel_variance
from dbsn.models.blindspot import BlindSpotModel, Estimate
from dbsn.models.calibration import Calibration, Sample, calibrate, leaked

SIDE = 400


def scene(
    channels: int, *, noise_off: float = 1.0, share_off: float = 1.0, full: bool = False
) -> tuple[Sample, Tensor, Tensor]:
    """A sample drawn from a known model, told wrongly by the factors; with true noise and prediction variance.

    Noise rises with the intensity; half of the image predicts perfectly, half ever worse.
    """
    generator = torch.Generator().manual_seed(0)
    shape = (1, channels, SIDE, SIDE)
    mean = torch.rand(shape, generator=generator)
    noise_var = 0.01 * (0.2 + mean)
    rough = torch.linspace(-1, 1, SIDE).clamp_min(0).expand(shape)
    prediction = noise_var * (0.02 + rough)
    residual = (noise_var + prediction).sqrt() * torch.randn(shape, generator=generator)
    variances = [prediction * share_off, noise_var * noise_off * (0.5 + mean), noise_var + prediction]
    mean_var, told, total = (as_covariance(variance) if full else variance for variance in variances)
    estimate = Estimate(
        noisy=mean + residual, mean=mean, mean_var=mean_var, noise_var=told, total_var=total, flat_below=mean[:, 0]
    )
    return Sample(estimate, torch.full(shape, 0.02)), noise_var, prediction


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("noise_off", [0.7, 3.0])
@pytest.mark.parametrize("share_off", [0.3, 4.0])
def test_wrong_variances_come_right(channels: int, noise_off: float, share_off: float, full: bool) -> None:
    sample, noise_var, prediction = scene(channels, noise_off=noise_off, share_off=share_off, full=full)
    calibration = calibrate([sample], one_level=False)
    assert calibration is not None
    right = calibration.apply(sample.estimate)
    within = (sample.estimate.mean > 0.1) & (sample.estimate.mean < 0.95)
    assert (channel_variance(right.noise_var) / noise_var)[within].log().abs().mean() < 0.06
    promised, true = channel_variance(right.mean_var), prediction
    rough = true > 0.2 * noise_var
    assert (promised / true)[within & rough].log().abs().mean() < 0.12
    flat = within & (true < 0.03 * noise_var)
    assert promised[flat].mean() < 0.05 * noise_var[flat].mean()


def test_a_right_model_is_left_as_it_is() -> None:
    sample, *_ = scene(1)
    told = Estimate(**(vars(sample.estimate) | {"noise_var": 0.01 * (0.2 + sample.estimate.mean)}))
    calibration = calibrate([Sample(told, sample.leak)], one_level=False)
    assert calibration is not None
    assert (calibration.noise_factors - 1).abs().max() < 0.1
    promises = calibration.shares > np.log(0.1)
    assert (calibration.prediction_factors[promises] - 1).abs().mean() < 0.1


def test_a_prediction_is_no_better_than_what_leaks_there() -> None:
    sample, *_ = scene(1, share_off=1e-3)
    rough = torch.linspace(-1, 1, SIDE).clamp_min(0).expand_as(sample.leak)
    estimate = replace(sample.estimate, noisy=sample.estimate.mean)  # residuals of nothing: only the leak tells
    calibration = calibrate([Sample(estimate, 0.02 + rough)], one_level=False)
    assert calibration is not None
    right = calibration.apply(estimate)
    promised = channel_variance(right.mean_var) / channel_variance(right.noise_var)
    assert promised[..., : SIDE // 2 - 20].mean() == pytest.approx(0.02, rel=0.2)
    assert promised[..., -40:].mean() == pytest.approx(0.95, rel=0.2)


@pytest.mark.parametrize("share_off", [1e-5, 1e-9, 1e-14])
def test_a_prediction_variance_that_has_gone_to_nothing_is_counted_anew(share_off: float) -> None:
    sample, _, prediction = scene(1, share_off=share_off)
    calibration = calibrate([sample], one_level=False)
    assert calibration is not None
    right = calibration.apply(sample.estimate)
    assert float(right.mean_var.mean()) == pytest.approx(float(prediction.mean()), rel=0.15)
    if share_off < 1e-6:  # no promise can be told from another, so all are the same share of the noise
        assert float((right.mean_var / right.noise_var).std()) < 1e-3


def test_one_level_stays_one_level() -> None:
    sample, *_ = scene(3)
    calibration = calibrate([sample], one_level=True)
    assert calibration is not None
    assert calibration.noise_factors.shape == (3, 1)


def test_a_covariance_keeps_its_correlations() -> None:
    covariance = torch.tensor([[4.0, 1.0], [1.0, 2.0]])[None, :, :, None, None].expand(1, 2, 2, 3, 3)
    mean = torch.zeros(1, 2, 3, 3)
    estimate = Estimate(
        noisy=mean, mean=mean, mean_var=covariance, noise_var=covariance, total_var=covariance, flat_below=mean[:, 0]
    )
    zero, one = torch.zeros(1), torch.ones(1)
    twice_and_thrice = Calibration(torch.zeros(2, 1), torch.tensor([[4.0], [9.0]]), torch.zeros(2, 1), zero, one)
    expected = torch.tensor([[16.0, 6.0], [6.0, 18.0]])
    torch.testing.assert_close(twice_and_thrice.apply(estimate).noise_var[0, :, :, 1, 1], expected)
    five = Calibration(torch.zeros(2, 1), torch.ones(2, 1), torch.zeros(2, 1), zero, 5 * one)
    torch.testing.assert_close(five.apply(estimate).mean_var[0, :, :, 1, 1], 5 * covariance[0, :, :, 0, 0])


def test_what_leaks_is_the_noise_gain_of_the_mean() -> None:
    torch.manual_seed(0)
    noisy = torch.rand(1, 1, 300, 300)

    def box(image: Tensor) -> Estimate:
        mean = torch.nn.functional.avg_pool2d(image, 3, 1, 1)
        some = torch.full_like(mean, 0.01)
        return Estimate(noisy=image, mean=mean, mean_var=some, noise_var=some, total_var=some, flat_below=some[:, 0])

    assert leaked(box, box(noisy), noisy, seed=0).mean() == pytest.approx(1 / 9, rel=0.03)


def test_too_few_pixels_tell_nothing() -> None:
    sample, *_ = scene(1)
    few = Estimate(**{name: value[..., :40, :40] for name, value in vars(sample.estimate).items()})
    assert calibrate([Sample(few, sample.leak[..., :40, :40])], one_level=False) is None


def test_a_small_image_goes_through_the_network_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    model = BlindSpotModel(ModelConfig(network=GridConfig(widths=(4,), blocks=(1,)))).eval()
    seen, forward = [], model.forward
    monkeypatch.setattr(model, "forward", lambda *given: seen.append(given[0].shape) or forward(*given))
    predict(model, np.random.default_rng(0).random((90, 80, 1), np.float32))
    assert seen == [(1, 1, 90, 80)] * 2  # itself, and disturbed to see what leaks


@pytest.mark.parametrize("noise", ["any", "mg", "hg"])
def test_a_large_image_is_calibrated_alike_however_it_is_tiled(noise: str) -> None:
    torch.manual_seed(1)
    network = GridConfig(widths=(4,), blocks=(1,))
    model = BlindSpotModel(ModelConfig(network=network, channels=3, noise=noise)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    image = np.random.default_rng(0).random((530, 545, 3), np.float32)
    extras = ("std", "mean", "noise_std")
    whole = predict(model, image, options=InferenceOptions(tile=0), extras=extras)
    tiled = predict(model, image, options=InferenceOptions(tile=200), extras=extras)
    for name in ("denoised", *extras):
        expected = getattr(whole, name)
        assert np.abs(expected - getattr(tiled, name)).max() < 1e-5 * max(1, np.abs(expected).max()), name
    assert whole.noise_level != predict(model, image, calibrated=False).noise_level


@pytest.mark.parametrize("value", [0.0, 0.5, 1.0])
def test_a_constant_image_survives(value: float) -> None:
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=GridConfig(widths=(4,), blocks=(1,)))).eval()
    estimate = predict(model, np.full((70, 80, 1), value, np.float32), extras=("std", "mean", "noise_std"))
    for name in ("denoised", "std", "mean", "noise_std"):
        assert np.isfinite(getattr(estimate, name)).all(), name


@pytest.mark.parametrize("skewness", [-0.5, 0.0, 0.8])
def test_the_skewness_of_the_noise_is_found(skewness: float) -> None:
    sample, *_ = scene(1)
    shape = 4 / max(skewness**2, 1e-3)
    drawn = np.random.default_rng(0).gamma(shape, size=(1, 1, SIDE, SIDE))
    white = torch.from_numpy((drawn - shape) / shape**0.5).float() * (1 if skewness >= 0 else -1)
    noisy = sample.estimate.mean + sample.estimate.total_var.sqrt() * white
    calibration = calibrate([Sample(replace(sample.estimate, noisy=noisy), sample.leak)], one_level=False)
    assert calibration is not None
    assert float(calibration.skewness.mean()) == pytest.approx(skewness, abs=0.08)
