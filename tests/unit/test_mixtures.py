"""Noise that is another one for each image, against its stated moments."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from dbsn.noise.camera import Developed
from dbsn.noise.families import AWGN
from dbsn.noise.mixtures import (
    AnyFile,
    AnyJPEGNoise,
    AnyNoise,
    CameraNoise,
    Compressed,
    JPEGNoise,
    one_noise,
    parse_noises,
)


def constant(value: float, channels: int = 1) -> torch.Tensor:
    return torch.full((1, channels, 2, 2), value)


CORRELATION = torch.tensor([[1.0, 0.6, 0.0], [0.6, 1.0, -0.3], [0.0, -0.3, 1.0]])


@pytest.mark.parametrize("power", [1, 2])
def test_camera_noise_has_its_level_at_the_middle_and_its_form_elsewhere(power: int) -> None:
    noise = CameraNoise(
        photon=torch.tensor([0.0, 0.5, 1.0]), std=torch.tensor([0.1, 0.2, 0.3]), power=power, correlation=CORRELATION,
        in_8_bits=False,
    )  # fmt: skip
    at_middle, at_white, at_black = (noise.variance(constant(x, 3))[0, ..., 0, 0] for x in (0.5, 1.0, 0.0))
    std = torch.tensor([0.1, 0.2, 0.3])
    torch.testing.assert_close(at_middle, CORRELATION * std[:, None] * std)
    torch.testing.assert_close(at_middle.diagonal(), torch.tensor([0.01, 0.04, 0.09]))
    # twice the middle intensity: the dependent half of 0.04 doubles (photons), or is four times as large (HG)
    torch.testing.assert_close(at_white.diagonal(), torch.tensor([0.01, 0.02 + 0.02 * 2**power, 0.09 * 2**power]))
    torch.testing.assert_close(at_black.diagonal(), torch.tensor([0.01, 0.02, 0.0]))


def test_camera_noise_is_drawn_as_it_says(generator: torch.Generator) -> None:
    noise = CameraNoise(
        photon=torch.full((3,), 0.5), std=torch.tensor([0.02, 0.04, 0.03]), power=1, correlation=CORRELATION,
        in_8_bits=False,
    )  # fmt: skip
    clean = torch.full((1, 3, 400, 400), 0.3)
    added = noise.sample(clean, generator) - clean
    torch.testing.assert_close(
        torch.cov(added[0].flatten(1)), noise.variance(clean)[0, ..., 0, 0], rtol=0.03, atol=2e-5
    )


def test_any_noise_is_another_one_each_time_up_to_its_level_and_sometimes_none() -> None:
    noises = parse_noises("any:60")
    assert noises == AnyNoise(60 / 255)
    generator = torch.Generator().manual_seed(0)
    drawn = [one_noise(noises, 3, generator) for _ in range(400)]
    assert all(isinstance(noise, CameraNoise) for noise in drawn)
    levels = np.array([float(noise.std.square().mean().sqrt()) for noise in drawn]) * 255
    assert 0.02 < (levels < 0.1).mean() < 0.12
    assert np.quantile(levels, 0.95) > 45
    assert {noise.power for noise in drawn} == {1, 2}
    assert {noise.in_8_bits for noise in drawn} == {True, False}
    shares = [float(noise.photon.max()) for noise in drawn]
    assert 0.6 < np.mean(np.equal(shares, 0)) < 0.8
    correlated = [float((noise.correlation - torch.eye(3)).abs().max()) for noise in drawn]
    assert 0.6 < np.mean(np.equal(correlated, 0)) < 0.8
    assert np.quantile(correlated, 0.9) > 0.4
    unequal = [float(noise.std.std()) for noise in drawn]
    plain = [
        s + c + u == 0 and not noise.in_8_bits
        for s, c, u, noise in zip(shares, correlated, unequal, drawn, strict=True)
    ]
    assert np.mean(plain) == pytest.approx(0.4 + 0.6 / 16, abs=0.06)
    assert one_noise(AWGN(0.1), 3, generator) == AWGN(0.1)


def test_noise_in_8_bits_is_cut_off_and_rounded(generator: torch.Generator) -> None:
    noise = CameraNoise(
        photon=torch.zeros(1), std=torch.tensor([0.2]), power=1, correlation=torch.eye(1), in_8_bits=True
    )
    noisy = noise.sample(torch.full((1, 1, 50, 50), 0.9), generator) * 255
    assert float(noisy.max()) == pytest.approx(255)
    torch.testing.assert_close(noisy, noisy.round(), atol=1e-3, rtol=0)


@pytest.mark.parametrize("text", ["any", "any:0", "any:x", "any:-3", "any:inf"])
def test_a_level_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="any:60"):
        parse_noises(text)


def correlation(noise: torch.Tensor, down: int, across: int) -> float:
    """Between pixels so far apart, (1, 1, h, w)."""
    height, width = noise.shape[-2:]
    one, other = noise[..., down:, across:], noise[..., : height - down, : width - across]
    return float((one * other).mean() / noise.square().mean())


@pytest.mark.parametrize("channels", [1, 3])
def test_camera_jpegs_have_noise_of_the_stated_level_that_neighbours_share(
    channels: int, generator: torch.Generator
) -> None:
    noise = JPEGNoise(photon=0.5, std=0.05, luma_blur=0.7, chroma_blur=1.5, chroma=0.8, quality=None)
    clean = torch.full((1, channels, 300, 300), 0.4)
    added = noise.sample(clean, generator) - clean
    # variance at 0.4: 0.05^2 (1 - 0.5 + 0.5 * 2 * 0.4)
    assert float(noise.variance(clean).mean()) == pytest.approx(0.00225)
    assert float(added.var()) == pytest.approx(0.00225, rel=0.06)
    luma = added.mean(1, keepdim=True)
    assert correlation(luma, 0, 1) == pytest.approx(np.exp(-1 / (4 * 0.7**2)), abs=0.03)  # a Gaussian with itself
    assert abs(correlation(luma, 6, 6)) < 0.03
    if channels == 3:
        colour = added[:, :1] - luma
        assert correlation(colour, 1, 0) > correlation(luma, 1, 0) + 0.1
        assert correlation(colour, 1, 0) == pytest.approx(np.exp(-1 / (4 * 1.5**2)), abs=0.03)


def test_compression_changes_pixels_in_blocks_and_keeps_their_shape(generator: torch.Generator) -> None:
    clean = torch.rand((2, 3, 40, 56), generator=generator)
    files = [
        JPEGNoise(photon=0.0, std=1e-4, luma_blur=0.5, chroma_blur=0.5, chroma=0.0, quality=quality).sample(
            clean, torch.Generator().manual_seed(0)
        )
        for quality in (None, 95, 60)
    ]
    errors = [float((file - clean).square().mean().sqrt()) for file in files]
    assert errors[0] < 0.002 < errors[1] < errors[2]
    assert all(file.shape == clean.shape for file in files)


def test_any_camera_jpeg_is_another_one_each_time() -> None:
    noises = parse_noises("jpeg:40")
    assert noises == AnyJPEGNoise(40 / 255)
    generator = torch.Generator().manual_seed(0)
    drawn = [one_noise(noises, 3, generator) for _ in range(300)]
    assert all(isinstance(noise, JPEGNoise) for noise in drawn)
    levels = [255 * noise.std for noise in drawn]
    assert 30 < max(levels) < 40
    assert 0.02 < np.mean(np.less(levels, 0.1)) < 0.12
    assert all(0.3 <= noise.luma_blur <= noise.chroma_blur <= 2.4 for noise in drawn)
    qualities = [noise.quality for noise in drawn]
    assert 0.03 < np.mean([quality is None for quality in qualities]) < 0.2
    assert all(60 <= quality <= 98 for quality in qualities if quality is not None)


def test_noise_of_any_file_is_of_each_kind_in_its_share() -> None:
    noises = parse_noises("file:60")
    assert noises == AnyFile(60 / 255)
    generator = torch.Generator().manual_seed(0)
    drawn = [one_noise(noises, 3, generator) for _ in range(300)]
    shares = [np.mean([isinstance(each, kind) for each in drawn]) for kind in (CameraNoise, Compressed, Developed)]
    np.testing.assert_allclose(shares, [0.45, 0.25, 0.3], atol=0.08)


def test_compressed_noise_is_that_of_the_file(generator: torch.Generator) -> None:
    noise = CameraNoise(
        photon=torch.zeros(3), std=torch.full((3,), 0.1), power=1, correlation=torch.eye(3), in_8_bits=False
    )
    clean = torch.full((1, 3, 64, 64), 0.5)
    compressed = Compressed(noise=noise, quality=70, subsampled=True)
    seen = compressed.sample(clean, torch.Generator().manual_seed(1))
    before = noise.sample(clean, torch.Generator().manual_seed(1))
    file = io.BytesIO()
    pixels = (before[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=70, subsampling="4:2:0")
    expected = np.asarray(Image.open(file)).astype(np.float32) / 255
    np.testing.assert_allclose(seen[0].permute(1, 2, 0).numpy(), expected, atol=1e-6)
    torch.testing.assert_close(compressed.variance(clean), noise.variance(clean))
