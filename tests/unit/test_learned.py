"""What recording does to noise is measured; the learned noise is drawn as it was learned."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
import torch

from dbsn.batch.plan import Job
from dbsn.batch.synthesize import synthesize_files
from dbsn.config import ModelConfig
from dbsn.intensity import OF_255, Unit, clean_range, placement
from dbsn.likelihood import as_covariance
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.calibration import Calibration
from dbsn.noise.learned import ImageNoise, NoiseModel
from dbsn.noise.recording import Recording
from dbsn.tensors import as_tensor

GENERATOR = np.random.default_rng(0)


def noise_model(
    channels: int, *, recording: Recording | None = None, factors: tuple[float, ...] = (1.0,), skewness: float = 0.0
) -> NoiseModel:
    """An untrained model's noise for images of two noise levels, 0.05 and 0.1, corrected by a factor each."""
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(channels=channels)).eval()
    one = torch.ones(1)
    images = []
    for level, factor in zip((0.05, 0.1), factors * 2, strict=False):
        noisy = torch.from_numpy(GENERATOR.normal(0.5, level, (1, channels, 256, 256)).astype(np.float32))
        curve = torch.full((channels, 1), factor)
        middle, skewed = torch.full_like(curve, 0.5), torch.full_like(curve, skewness)
        images.append(ImageNoise(model.measure(noisy), Calibration(middle, curve, skewed, 0 * one, one)))
    return NoiseModel(model, images, recording or Recording())


def test_a_cut_off_range_and_its_steps_are_measured() -> None:
    signal = GENERATOR.normal(0.9, 0.1, (64, 64, 1))
    cut = np.rint(signal.clip(0, 1) * 255).astype(np.uint8)
    assert Recording.of([cut]) == Recording(black=None, white=1.0, step=1 / 255)
    assert Recording.of([255 - cut]) == Recording(black=0.0, white=None, step=1 / 255)
    assert Recording.of([signal]) == Recording()
    assert Recording.of([(cut // 4).astype(np.uint16) * 16]).step == pytest.approx(16 / 65535)
    assert Recording.of([cut.astype(np.float32) / 255]).step == pytest.approx(1 / 255)
    assert Recording.of([signal.clip(-1, 0.95)]).white == pytest.approx(0.95)
    assert Recording.of([np.rint(1000 * signal).astype(np.float32)]).step == 1.0
    assert Recording.of([cut, cut.astype(np.float32) / 255]).white == 1.0


def test_what_is_recorded_of_a_signal() -> None:
    signal = torch.tensor([-0.2, 0.12, 0.46, 1.3]).reshape(1, 1, 2, 2)
    recorded = Recording(black=0.0, white=1.0, step=0.25).of_signal(signal)
    assert recorded.flatten().tolist() == [0.0, 0.0, 0.5, 1.0]
    assert torch.equal(Recording().of_signal(signal), signal)
    assert Recording(white=1.0).of_signal(signal).flatten().tolist() == pytest.approx([-0.2, 0.12, 0.46, 1.0])


def test_a_recording_says_what_it_is() -> None:
    said = Recording(black=0.0, step=1 / 255).describe(OF_255)
    assert said == "black cut off at 0 of 255, rounded to steps of 1 of 255"
    assert Recording().describe(OF_255) == "nothing cut off, not rounded"
    of_16_bits = Unit.of_samples(np.zeros(1, np.uint16))
    assert Recording(white=1.0).describe(of_16_bits) == "white cut off at 65535 of 65535, not rounded"
    assert [of_16_bits.number(level / 65535) for level in (0.5, 20, 1966)] == ["0.5", "20.0", "1966"]
    assert Unit.of_samples(np.zeros(1, np.uint8), np.zeros(1, np.uint16)) == OF_255
    counts = Unit.of_samples(np.array([0.0, 4095.0]))
    assert Recording(white=4095.0, step=1.0).describe(counts) == "white cut off at 4095, rounded to steps of 1"


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_has_the_variance_that_is_told_image_by_image(channels: int) -> None:
    noise = noise_model(channels, factors=(1.0, 4.0))
    clean = torch.full((2, channels, 200, 200), 0.5)
    told = as_covariance(noise.variance(clean, [0, 1]))
    drawn = noise.sample(clean, torch.Generator().manual_seed(0), [0, 1]) - clean
    for image in range(2):
        found = torch.from_numpy(np.cov(drawn[image].flatten(1).numpy())).reshape(channels, channels)
        expected = told[image, :, :, 0, 0]
        assert (found - expected).abs().max() < 0.03 * expected.diagonal().max()
    levels = told[:, 0, 0, 0, 0].sqrt().tolist()
    assert levels[0] == pytest.approx(0.05, rel=0.06)
    assert levels[1] == pytest.approx(0.2, rel=0.06), "twice the measured level: its own pixels said so"


def test_without_a_number_the_images_take_turns() -> None:
    noise = noise_model(1)
    clean = torch.full((40, 1, 32, 32), 0.5)
    levels = (noise.sample(clean, torch.Generator().manual_seed(0)) - clean).std((1, 2, 3))
    assert 5 < int((levels > 0.075).sum()) < 35
    average = noise.variance(clean[:1]).mean()
    assert float(average) == pytest.approx((0.05**2 + 0.1**2) / 2, rel=0.1)


def test_jitter_moves_the_level_of_each_patch_within_its_bounds() -> None:
    noise = noise_model(1)
    clean = torch.full((60, 1, 64, 64), 0.5)
    levels = (noise.sample(clean, torch.Generator().manual_seed(0), [0] * 60, jitter=0.5) - clean).std((1, 2, 3))
    usual = (noise.sample(clean, torch.Generator().manual_seed(0), [0] * 60) - clean).std((1, 2, 3))
    assert float(levels.std()) > 5 * float(usual.std())
    assert float((levels / usual.mean() - 1).abs().max()) < 0.55


def test_samples_are_cut_off_and_rounded_and_rounding_is_not_counted_twice() -> None:
    noise = noise_model(1, recording=Recording(black=0.0, white=1.0, step=0.1))
    clean = torch.full((1, 1, 128, 128), 0.5)
    drawn = noise.sample(clean, torch.Generator().manual_seed(0), [0])
    assert drawn.unique().mul(10).sub(drawn.unique().mul(10).round()).abs().max() < 1e-5
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    assert float((drawn - clean).std()) == pytest.approx(0.05, rel=0.06)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("from_white", [0.0, 0.02, 0.05, 0.3])
@pytest.mark.parametrize("skewness", [0.0, -1.0])
def test_what_was_measured_after_a_cut_off_is_not_cut_off_twice(
    channels: int, from_white: float, skewness: float
) -> None:
    for recording, intensity in ((Recording(white=1.0), 1 - from_white), (Recording(black=0.0), from_white)):
        noise = noise_model(channels, recording=recording, skewness=skewness)
        clean = torch.full((1, channels, 256, 256), intensity)
        told = as_covariance(noise.variance(clean, [0])).diagonal(dim1=1, dim2=2).mean().sqrt()
        drawn = noise.sample(clean, torch.Generator().manual_seed(0), [0]) - clean
        assert float(drawn.std((2, 3)).mean()) == pytest.approx(float(told), rel=0.07 if skewness else 0.03)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_noise_model_comes_back_from_its_tensors(channels: int) -> None:
    noise = noise_model(channels, recording=Recording(step=1 / 255), factors=(1.0, 2.0))
    without = NoiseModel(noise.model, [*noise.images, ImageNoise(noise.images[0].measurement)], noise.recording)
    again = NoiseModel.from_tensors(noise.model, without.tensors(), without.recording)
    clean = torch.rand((3, channels, 8, 8), generator=torch.Generator().manual_seed(0))
    assert torch.equal(again.variance(clean, [2, 1, 0]), without.variance(clean, [2, 1, 0]))


def test_noise_is_drawn_as_neighbours_share_it_in_each_image_and_comes_back_from_a_file() -> None:
    noise = noise_model(3)
    box = torch.nn.functional.pad(torch.full((2, 2), 0.5), (6, 5, 6, 5))
    shared = NoiseModel(noise.model, [replace(noise.images[0], kernel=box), noise.images[1]], noise.recording)
    clean = torch.full((2, 3, 200, 210), 0.5)
    for model in (shared, NoiseModel.from_tensors(noise.model, shared.tensors(), shared.recording)):
        drawn = model.sample(clean, torch.Generator().manual_seed(0), [0, 1]) - clean
        beside = (drawn[..., 1:] * drawn[..., :-1]).mean((1, 2, 3)) / drawn.square().mean((1, 2, 3))
        assert beside.tolist() == pytest.approx([0.5, 0.0], abs=0.02)
        assert drawn.std((1, 2, 3)).tolist() == pytest.approx([0.05, 0.1], rel=0.06)


def test_a_noise_model_needs_an_image() -> None:
    with pytest.raises(ValueError, match="at least one"):
        NoiseModel(BlindSpotModel(ModelConfig()), [], Recording())


@pytest.mark.parametrize("skewness", [-0.8, 0.0, 0.4])
def test_noise_is_as_skewed_as_the_images_say(skewness: float) -> None:
    noise = noise_model(1, skewness=skewness)
    clean = torch.full((1, 1, 500, 500), 0.5)
    drawn = (noise.sample(clean, torch.Generator().manual_seed(0), [0]) - clean).flatten()
    white = (drawn - drawn.mean()) / drawn.std()
    assert float(drawn.std()) == pytest.approx(0.05, rel=0.06)
    assert abs(float(drawn.mean())) < 5e-4
    assert float(white.pow(3).mean()) == pytest.approx(skewness, abs=0.04)


def test_a_noise_model_says_what_it_is() -> None:
    noise = noise_model(1, recording=Recording(step=0.1), factors=(1.0, 4.0))
    assert noise.levels() == pytest.approx([0.05, 0.2], rel=0.2)
    assert noise.describe(OF_255).endswith("of 255 over 2 images; nothing cut off, rounded to steps of 25.5 of 255")
    alike = NoiseModel(noise.model, [noise.images[0]] * 2, Recording()).describe(OF_255)
    assert alike.endswith(" of 255 in all 2 images; nothing cut off, not rounded")
    assert " to " not in alike


@pytest.mark.parametrize("channels", [1, 3])
def test_noise_below_the_rounding_step_stays_a_number(channels: int) -> None:
    noise = noise_model(channels, recording=Recording(step=0.5), factors=(0.1,))
    clean = torch.full((2, channels, 32, 32), 0.5)
    assert noise.sample(clean, torch.Generator().manual_seed(0)).isfinite().all()
    assert float(as_covariance(noise.variance(clean)).diagonal(dim1=1, dim2=2).min()) > 0


def test_clean_images_are_stretched_only_to_an_unusual_range() -> None:
    assert clean_range(0.5, 0.5) == (0.0, 1.0)
    assert clean_range(0.5, 0.7) == (0.0, 1.0)
    assert clean_range(2000.0, 1900.0) == (100.0, 3800.0)
    assert clean_range(0.03, 0.03) == (0.0, 0.06)


@pytest.mark.parametrize(
    ("noisy", "clean", "black", "white"),
    [  # where the intensities 0 and 1 of the clean image go
        ((0.5, 0.5), (0.4, 0.35), 0, 1),  # a photograph among photographs
        ((0.5, 0.5), (0.1, 0.1), 0, 1),  # a dark one
        ((2000.0, 1900.0), (0.5, 0.5), 100, 3900),  # a photograph among counts
        ((2000.0, 1900.0), (1500.0, 1400.0), 0, 1),  # counts among counts
        ((0.03, 0.03), (0.5, 0.4), 0, 0.06),  # a photograph among 12 bits in files of 16
        ((0.03, 0.03), (0.02, 0.02), 0, 1),  # 12 bits among 12 bits
        ((0.2, 0.2), (0.5, 0.5), 0, 0.4),  # a photograph among dark ones
        ((2000.0, 1900.0), (300.0, 290.0), 0, 1),  # counts of little light among counts
    ],
)
def test_a_clean_image_in_the_noisy_ones_unit_stays_and_others_are_stretched(
    noisy: tuple[float, float], clean: tuple[float, float], black: float, white: float
) -> None:
    low, width = placement(noisy, clean)
    assert (low, low + width) == pytest.approx((black, white))


def test_clean_images_in_other_counts_are_stretched_from_what_they_hold() -> None:
    for noisy, at in (((0.5, 0.5), (0, 1)), ((2e4, 1.9e4), (1000, 39_000)), ((150.0, 50.0), (100, 200))):
        low, width = placement(noisy, (500.0, 400.0))
        assert [low + width * end for end in (100, 900)] == pytest.approx(at)


@pytest.mark.parametrize(
    ("dtype", "factor", "clean_dtype", "share"),
    [
        (np.uint16, 16, np.uint16, 16),  # 12 bits in files of 16
        (np.float32, 1, np.float32, 1),  # counts
        (np.float32, 1, np.uint8, 255 / 3800),  # a photograph, stretched to counts from 100 to 3900
    ],
)
def test_a_clean_file_gets_the_noise_in_its_own_numbers(
    dtype: type[np.generic], factor: int, clean_dtype: type[np.generic], share: float, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    counts = np.rint(random.normal(2000, 100, (200, 200, 1)) * factor).astype(dtype)
    one = 65535 if dtype == np.uint16 else 1
    config = ModelConfig(offset=2000 * factor / one, scale=1900 * factor / one)
    torch.manual_seed(0)
    model = BlindSpotModel(config).eval()
    noise = NoiseModel(model, [ImageNoise(model.measure(as_tensor(counts)))], Recording())
    clean = np.rint(np.linspace(1500, 2500, 40_000).reshape(200, 200) * share).astype(clean_dtype)
    tifffile.imwrite(tmp_path / "clean.tif", clean)
    job = Job(tmp_path / "clean.tif", tmp_path / "noisy.tif", tmp_path / "beside.tif")
    [done] = synthesize_files(noise, [job], float_tiff=False, seed=0)
    assert not done.error
    noisy, beside = (tifffile.imread(tmp_path / name) for name in ("noisy.tif", "beside.tif"))
    np.testing.assert_allclose(beside, clean, rtol=1e-6, atol=0.5)
    level = (noisy.astype(float) - clean).std()
    assert level == pytest.approx(100 * share, rel=0.2)
    assert float(done.noise[0].split()[0]) == pytest.approx(level, rel=0.02)


def test_one_noise_for_files_of_one_unit_however_bright(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(offset=2000.0, scale=1900.0)).eval()
    measured = model.measure(as_tensor(random.normal(2000, 100, (200, 200, 1)).astype(np.float32)))
    noise = NoiseModel(model, [ImageNoise(measured)], Recording())
    jobs = [Job(tmp_path / f"{most}.tif", tmp_path / f"n{most}.tif", tmp_path / f"c{most}.tif") for most in (60, 3000)]
    for job in jobs:
        ramp = np.linspace(10, int(job.source.stem), 40_000, dtype=np.float32).reshape(200, 200)
        tifffile.imwrite(job.source, ramp)
    told = [float(done.noise[0].split()[0]) for done in synthesize_files(noise, jobs, float_tiff=False, seed=0)]
    assert told == pytest.approx([100, 100], rel=0.2)
