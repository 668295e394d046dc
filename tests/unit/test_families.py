"""Noise families against numbers written out by hand, and their samples against their variances."""

import numpy as np
import pytest
import torch

from dbsn.likelihood import channel_variance
from dbsn.noise.families import AWGN, HeteroscedasticGaussian, MultivariateGaussian, PoissonGaussian, parse_noise


def constant(value: float, channels: int = 1) -> torch.Tensor:
    return torch.full((1, channels, 2, 2), value)


def test_awgn_25_has_the_variance_of_25_gray_levels() -> None:
    assert parse_noise("awgn:25") == AWGN(25 / 255)
    torch.testing.assert_close(parse_noise("awgn:25").variance(constant(0.7)), constant(0.009611688))


def test_hg_40_10_follows_the_papers_first_form_with_standard_deviation_proportional_to_intensity() -> None:
    noise = parse_noise("hg:40,10")
    assert noise == HeteroscedasticGaussian(40 / 255, 10 / 255)
    # (40/255 * 0.5)^2 + (10/255)^2 = 0.006151480 + 0.001537870
    torch.testing.assert_close(noise.variance(constant(0.5)), constant(0.00768935))
    torch.testing.assert_close(noise.variance(constant(0.0)), constant(0.00153787))


def test_pg_variance_is_linear_in_intensity_and_constant_below_black() -> None:
    noise = parse_noise("pg:2.55,10")
    assert noise == PoissonGaussian(2.55 / 255, 10 / 255)
    torch.testing.assert_close(noise.variance(constant(0.5)), constant(0.005 + 0.00153787))
    torch.testing.assert_close(noise.variance(constant(-0.5)), constant(0.00153787))


def test_mg_has_the_given_covariance_at_every_pixel() -> None:
    covariance = ((0.04, 0.01, 0.0), (0.01, 0.03, 0.005), (0.0, 0.005, 0.02))
    variance = MultivariateGaussian(covariance).variance(constant(0.3, 3))
    assert variance.shape == (1, 3, 3, 2, 2)
    torch.testing.assert_close(variance[0, :, :, 1, 0], torch.tensor(covariance))


def test_mg_75_is_symmetric_with_eigenvalues_below_75_squared() -> None:
    noise = parse_noise("mg:75")
    assert isinstance(noise, MultivariateGaussian)
    eigenvalues = np.linalg.eigvalsh(np.array(noise.covariance)) * 255**2
    assert (eigenvalues > 0).all()
    assert (eigenvalues < 75**2).all()
    # numpy.random.RandomState(0).rand(3): the eigenvalues are 75^2 times these
    np.testing.assert_allclose(sorted(eigenvalues / 75**2), sorted([0.5488135, 0.71518937, 0.60276338]), rtol=1e-5)
    assert parse_noise("mg:75,3") != noise


@pytest.mark.parametrize("text", ["awgn:25", "hg:40,10", "pg:2,10", "mg:75"])
def test_samples_have_the_stated_mean_and_covariance(text: str, generator: torch.Generator) -> None:
    noise = parse_noise(text)
    clean = torch.full((1, 3, 400, 400), 0.6)
    added = noise.sample(clean, generator) - clean
    expected = noise.variance(clean)
    matrix = expected[0, ..., 0, 0] if expected.ndim == 5 else torch.diag(expected[0, :, 0, 0])
    measured = torch.cov(added[0].flatten(1))
    scale = float(channel_variance(expected).max())
    torch.testing.assert_close(measured, matrix, rtol=0, atol=0.015 * scale)
    assert added.mean().abs() < 0.005 * scale**0.5 * 3


def test_the_same_seed_gives_the_same_noise_and_another_seed_another() -> None:
    clean = torch.full((1, 1, 8, 8), 0.5)
    first, again, other = (AWGN(0.1).sample(clean, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "text", ["", "awgn", "awgn:", "awgn:-1", "awgn:nan", "hg:40", "mg:1,2,3", "gauss:25", "awgn:a"]
)
def test_an_unknown_noise_is_refused_with_the_forms_that_exist(text: str) -> None:
    with pytest.raises(ValueError, match="expected awgn:25, hg:40,10, pg:2,10 or mg:75"):
        parse_noise(text)


def test_mg_refuses_an_image_with_other_channels() -> None:
    with pytest.raises(ValueError, match=r"got an image with 1, expected 3"):
        parse_noise("mg:75").variance(constant(0.5))
