"""What is measured of an image without a network, and the form of each noise family's estimate."""

import pytest
import torch

from dbsn.networks.measurement import MEASURES, _flat_level, measure, measured_variance
from dbsn.networks.noise_estimator import NoiseEstimator


def measured(image: torch.Tensor) -> torch.Tensor:
    return measure([image])


def level(image: torch.Tensor) -> torch.Tensor:
    return measured(image).unflatten(1, (image.shape[1], MEASURES))[0, :, 0, 0, 0].exp()


@pytest.mark.parametrize("std", [0.02, 0.1, 0.4])
def test_the_level_of_white_noise_on_a_smooth_image_is_found(std: float, generator: torch.Generator) -> None:
    ramp = torch.linspace(-1, 1, 256).expand(1, 2, 256, 256)
    noisy = ramp + std * torch.randn(1, 2, 256, 256, generator=generator)
    torch.testing.assert_close(level(noisy), torch.full((2,), std), rtol=0.08, atol=0)


def test_texture_over_half_of_the_image_does_not_count_as_noise(generator: torch.Generator) -> None:
    noisy = 0.05 * torch.randn(1, 1, 256, 256, generator=generator)
    noisy[..., :128] += torch.randn(1, 1, 256, 128, generator=generator)
    torch.testing.assert_close(level(noisy), torch.full((1,), 0.05), rtol=0.15, atol=0)


def test_areas_without_any_noise_such_as_clipped_ones_do_not_count(generator: torch.Generator) -> None:
    noisy = 0.05 * torch.randn(1, 1, 256, 256, generator=generator)
    noisy[..., :128] = 1.0
    torch.testing.assert_close(level(noisy), torch.full((1,), 0.05), rtol=0.15, atol=0)


@pytest.mark.parametrize("power", [1, 4], ids=["evenly spread", "mostly dark"])
def test_photon_noise_is_found_at_every_intensity(power: int, generator: torch.Generator) -> None:
    clean = torch.linspace(0, 1, 512).pow(power).expand(1, 1, 512, 512)
    variance = 0.0004 + 0.01 * clean
    noisy = clean + variance.sqrt() * torch.randn(1, 1, 512, 512, generator=generator)
    measurement = measured(noisy)
    found = measured_variance(clean, measurement)
    torch.testing.assert_close(found.sqrt(), variance.sqrt(), rtol=0.2, atol=0)
    dark_mean, bright_mean = measurement.flatten().tolist()[-2:]
    assert dark_mean == pytest.approx(float(clean[..., :256].mean()), abs=0.02)
    assert bright_mean == pytest.approx(float(clean[..., 256:].mean()), abs=0.02)


def test_intensities_that_are_clipped_leave_the_noise_of_the_others_alone(generator: torch.Generator) -> None:
    clean = torch.linspace(0, 1, 512).expand(1, 1, 512, 512)
    noisy = (clean + 0.05 * torch.randn(1, 1, 512, 512, generator=generator)).clamp(max=0.8)
    found = measured_variance(clean[..., :330], measured(noisy))
    torch.testing.assert_close(found.sqrt(), torch.full_like(found, 0.05), rtol=0.3, atol=0)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (7, 300), (8, 8)])
def test_any_size_can_be_measured(size: tuple[int, int]) -> None:
    assert measured(torch.rand(2, 3, *size)).isfinite().all()
    assert measured(torch.zeros(2, 3, *size)).isfinite().all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("family", ["awgn", "hg", "mg", "any"])
def test_each_family_has_its_form(family: str, channels: int) -> None:
    torch.manual_seed(0)
    estimator = NoiseEstimator(channels, family, width=8)  # type: ignore[arg-type]
    image = torch.rand(2, channels, 6, 5)
    variance = estimator(image, measured(image)).detach()
    full = family in ("mg", "any") and channels == 3
    assert variance.shape == ((2, 3, 3, 6, 5) if full else (2, channels, 6, 5))
    varies_in_space = bool((variance != variance[..., :1, :1]).any())
    assert varies_in_space == (family in ("hg", "any"))
    if family == "awgn":
        assert torch.equal(variance, variance[:, :1].expand_as(variance))
    if full:
        matrix = variance.permute(0, 3, 4, 1, 2)
        assert torch.equal(matrix, matrix.mT)
        assert (torch.linalg.eigvalsh(matrix) > 0).all()
    assert (variance[0] != variance[1]).any(), "each image has its own"


def untrained(channels: int = 1) -> NoiseEstimator:
    estimator = NoiseEstimator(channels, "hg", width=8)
    torch.nn.init.zeros_(estimator.mlp.last.weight)
    torch.nn.init.zeros_(estimator.mlp.last.bias)
    return estimator


@pytest.mark.parametrize("std", [0.01, 0.3])
def test_untrained_it_gives_back_the_measured_level(std: float, generator: torch.Generator) -> None:
    noisy = std * torch.randn(1, 2, 128, 128, generator=generator)
    variance = untrained(2)(torch.zeros(1, 2, 4, 4), measured(noisy))
    torch.testing.assert_close(variance.sqrt(), torch.full_like(variance, std), rtol=0.1, atol=0)


def test_untrained_it_continues_photon_noise_beyond_the_intensities_that_were_flat(generator: torch.Generator) -> None:
    clean = torch.linspace(0, 0.5, 256).expand(1, 1, 256, 256)
    noisy = clean + (0.001 + 0.02 * clean).sqrt() * torch.randn(1, 1, 256, 256, generator=generator)
    asked = torch.tensor([0.0, 0.25, 1.0]).reshape(1, 1, 1, 3)
    ratio = untrained()(asked, measured(noisy)) / (0.001 + 0.02 * asked)
    torch.testing.assert_close(ratio[..., 1:], torch.ones(1, 1, 1, 2), rtol=0.25, atol=0)
    assert 0.3 < ratio[..., 0].item() < 4


@pytest.mark.parametrize("rows", [8, 24, 96])
def test_an_image_measures_the_same_in_strips(rows: int, generator: torch.Generator) -> None:
    image = torch.randn(1, 3, 90, 70, generator=generator)
    strips = [image[..., top : top + rows, :] for top in range(0, 90, rows)]
    torch.testing.assert_close(measure(strips), measure([image]))


def test_a_channel_without_any_noise_is_measured_as_such() -> None:
    noisy = torch.zeros(1, 2, 64, 64)
    noisy[:, 0] = 0.1 * torch.randn((64, 64), generator=torch.Generator().manual_seed(0))
    variance = measured_variance(noisy, measure([noisy]))
    assert float(variance[:, 0].mean().sqrt()) == pytest.approx(0.1, rel=0.1)
    assert float(variance[:, 1].max().sqrt()) < 0.005


def test_the_quantile_of_a_gigapixel_is_found(generator: torch.Generator) -> None:
    """More blocks than torch's own quantile takes: the same as of a part of them."""
    power = torch.rand(1, 1, 2**24 + 64, generator=generator)
    many, few = _flat_level(power), _flat_level(power[..., : 2**20])
    torch.testing.assert_close(many, few, atol=2e-3, rtol=0)
    expected = 0.5 * torch.log(torch.tensor(0.1) / (9.312 / 16))
    torch.testing.assert_close(many.squeeze(), expected, atol=2e-3, rtol=0)
