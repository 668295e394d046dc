"""Bayes' rule and the likelihoods against textbook formulas in float64 with numpy's general inverses."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dbsn.likelihood import constrained_nll, fuse, fusion_share, gaussian_nll, marginal_nll, profile_nll


def random_covariances(random: np.random.Generator, channels: int, size: float) -> np.ndarray:
    factor = random.normal(size=(2, 3, 4, channels, channels)) * size
    return factor @ factor.swapaxes(-1, -2) + size**2 * 0.05 * np.eye(channels)


def planes(matrices: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.moveaxis(matrices, (-2, -1), (1, 2))).float()


def vectors(image: torch.Tensor) -> np.ndarray:
    return np.moveaxis(image.double().numpy(), 1, -1)[..., None]


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 4), size=st.sampled_from([0.01, 0.1, 1.0]))
@settings(max_examples=30, deadline=None)
def test_fusion_is_the_product_of_two_gaussians(seed: int, channels: int, size: float) -> None:
    random = np.random.default_rng(seed)
    prediction, noise = random_covariances(random, channels, size), random_covariances(random, channels, 0.1)
    noisy, mean = (torch.from_numpy(random.normal(size=(2, channels, 3, 4))).float() for _ in range(2))
    precision = np.linalg.inv(prediction) + np.linalg.inv(noise)
    posterior = np.linalg.inv(precision)
    expected = posterior @ (np.linalg.inv(prediction) @ vectors(mean) + np.linalg.inv(noise) @ vectors(noisy))
    fused, variance = fuse(noisy, mean, planes(prediction), planes(noise))
    np.testing.assert_allclose(vectors(fused), expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        np.moveaxis(variance.numpy(), 1, -1), np.diagonal(posterior, axis1=-2, axis2=-1), rtol=1e-2, atol=1e-4 * size**2
    )
    share = noise @ np.linalg.inv(noise + prediction) @ vectors(noisy - mean)
    ours = fusion_share(noisy - mean, planes(prediction), planes(noise))
    np.testing.assert_allclose(vectors(ours), share, rtol=1e-3, atol=1e-4)


@given(seed=st.integers(0, 10_000), channels=st.integers(1, 4))
@settings(max_examples=30, deadline=None)
def test_likelihoods_of_full_covariances_are_the_textbook_formulas(seed: int, channels: int) -> None:
    random = np.random.default_rng(seed)
    prediction, noise = random_covariances(random, channels, 0.2), random_covariances(random, channels, 0.1)
    residual = torch.from_numpy(random.normal(size=(2, channels, 3, 4)) * 0.2).float()
    total = prediction + noise
    distance = (vectors(residual).swapaxes(-1, -2) @ np.linalg.inv(total) @ vectors(residual))[..., 0, 0]
    marginal = 0.5 * (distance + np.linalg.slogdet(total)[1])
    trace = np.trace(np.linalg.inv(noise) @ prediction, axis1=-2, axis2=-1)
    constrained = 0.5 * (distance + np.linalg.slogdet(noise)[1] + trace)
    np.testing.assert_allclose(
        marginal_nll(residual, planes(prediction), planes(noise)), marginal, rtol=1e-3, atol=1e-3
    )
    np.testing.assert_allclose(gaussian_nll(residual, planes(total)), marginal, rtol=1e-3, atol=1e-3)
    ours = constrained_nll(residual, planes(prediction), planes(noise))
    np.testing.assert_allclose(ours, constrained, rtol=1e-3, atol=1e-3)
    assert (constrained >= marginal - 1e-6).all(), "the constrained form is an upper bound"


def test_a_diagonal_covariance_and_per_channel_variances_are_the_same_thing() -> None:
    random = torch.Generator().manual_seed(3)
    noisy, mean = torch.rand(2, 2, 3, 5, 5, generator=random)
    mean_var, noise_var = torch.rand(2, 2, 3, 5, 5, generator=random) * 0.1 + 0.01
    full = torch.diag_embed(mean_var.movedim(1, -1)).movedim((-2, -1), (1, 2))
    for either in (marginal_nll, constrained_nll):
        torch.testing.assert_close(
            either(noisy - mean, mean_var, noise_var), either(noisy - mean, full, noise_var), rtol=1e-4, atol=1e-4
        )
    for ours, theirs in zip(fuse(noisy, mean, mean_var, noise_var), fuse(noisy, mean, full, noise_var), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_a_certain_prediction_is_kept_exactly_and_an_unknown_one_gives_the_pixel_back() -> None:
    noisy, mean = torch.rand(2, 1, 3, 4, 4)
    noise_var = torch.full((1, 3, 4, 4), 0.01)
    kept, variance = fuse(noisy, mean, torch.zeros_like(noise_var), noise_var)
    assert torch.equal(kept, mean)
    assert torch.equal(variance, torch.zeros_like(mean))
    given_back, variance = fuse(noisy, mean, torch.full_like(noise_var, 1e6), noise_var)
    torch.testing.assert_close(given_back, noisy, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(variance, noise_var, rtol=1e-4, atol=0)


@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_the_likelihood_has_a_gradient_however_small_the_determinant(scale: float) -> None:
    """The release clamps the determinant at (25.5/255)^6 and stops learning below it."""
    variance = torch.full((1, 3, 1, 1), scale**2, requires_grad=True)
    marginal_nll(torch.zeros(1, 3, 1, 1), torch.zeros(1, 3, 3, 1, 1), variance).sum().backward()
    assert variance.grad is not None
    torch.testing.assert_close(variance.grad, torch.full_like(variance, 0.5 / scale**2), rtol=1e-4, atol=0)


@pytest.mark.parametrize("full", [False, True])
def test_the_profile_is_the_least_likelihood_over_one_factor(full: bool) -> None:
    random = np.random.default_rng(0)
    variance = planes(random_covariances(random, 3, 0.3)).double()
    variance = variance if full else variance.diagonal(dim1=1, dim2=2).movedim(-1, 1)
    residual = torch.from_numpy(random.normal(size=(2, 3, 3, 4)))
    by_search = min(
        float(gaussian_nll(residual, factor * variance).mean()) for factor in np.geomspace(0.1, 1000, 20_000)
    )
    for factor in (1.0, 7.0):
        assert float(profile_nll(residual, factor * variance)) == pytest.approx(by_search, rel=1e-5)
