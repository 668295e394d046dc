"""What a denoiser takes out of noisy images corrects what was believed of their noise."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from dbsn.config import STUDENTS, ModelConfig, ModuleConfig, NoiseFamily, StudentConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.noise.learned import ImageNoise, NoiseModel
from dbsn.noise.recording import Recording
from dbsn.tensors import as_tensor
from dbsn.training.noise_correction import refined

SIDE, DARK, BRIGHT, STD = 320, 0.1, 0.9, 0.06
AT = torch.linspace(DARK + 0.05, BRIGHT - 0.05, 9)


class Fixed(nn.Module):
    """A denoiser that does not learn."""

    receptive_radius = 1

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(channels))


class Blur(Fixed):
    """The mean of 3 x 3 pixels, which keeps noise and loses detail."""

    def forward(self, image: Tensor) -> Tensor:
        return nn.functional.avg_pool2d(nn.functional.pad(image, [1] * 4, mode="replicate"), 3, stride=1)


class FlatOrNot(Fixed):
    """The posterior mean of dark pixels, which are 0.2, and bright ones, 0.6 or 0.8, as often, under white noise."""

    def forward(self, image: Tensor) -> Tensor:
        """Of intensities as a student sees them, -1 to 1."""
        seen = 0.5 + image / 2
        found = torch.where(seen < 0.4, 0.2, 0.7 + 0.1 * torch.tanh(0.1 * (seen - 0.7) / STD**2))
        return 2 * found - 1


def denoiser(channels: int, network: str = "Blur") -> Student:
    return Student(StudentConfig(network=ModuleConfig(factory=f"{__file__}:{network}"), channels=channels)).eval()


def scene(channels: int, seed: int = 0, detail: float = 0.02) -> np.ndarray:
    """Intensities DARK to BRIGHT with a fine texture, (h, w, c)."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(DARK, BRIGHT, SIDE)
    texture = detail * np.sin(np.arange(SIDE) * 1.7)[:, None] * np.sin(np.arange(SIDE) * 1.3)
    planes = [np.roll(ramp[:, None] + texture, random.integers(SIDE), axis=1) for _ in range(channels)]
    return np.stack(planes, -1).astype(np.float32)


def true_std(intensity: Tensor, form: NoiseFamily = "any") -> Tensor:
    """Of the noise, which rises with intensity as photon noise does, unless each image has one level."""
    return (0.03**2 + 0.01 * intensity).sqrt() if form == "any" else torch.full_like(intensity, STD)


def believed(clean: list[np.ndarray], wrong: float, recording: Recording, form: NoiseFamily = "any") -> NoiseModel:
    """Noise of an untrained model, calibrated to be as much too large in the dark as it is too small where bright."""
    torch.manual_seed(0)
    channels = clean[0].shape[2]
    model = BlindSpotModel(ModelConfig(channels=channels, noise=form)).eval()
    alone = NoiseModel(model, [ImageNoise(model.measure(as_tensor(image))) for image in clean], recording)
    at = torch.linspace(DARK, BRIGHT, 12 if form == "any" else 1).expand(channels, -1).contiguous()
    error = 1 + wrong * torch.linspace(1, -1, 12)[: at.shape[1]]
    variance = (true_std(at, form) * error).square()
    images = [alone.calibrated_to(number, at, variance, 0 * at) for number in range(len(clean))]
    return NoiseModel(model, images, recording)


def noisy(clean: np.ndarray, form: NoiseFamily = "any", seed: int = 1) -> np.ndarray:
    random = np.random.default_rng(seed)
    std = true_std(torch.from_numpy(clean), form).numpy()
    return (clean + std * random.normal(size=clean.shape)).astype(np.float32)


def errors(noise: NoiseModel, form: NoiseFamily = "any") -> np.ndarray:
    """Relative errors of the standard deviations of all images and channels at the intensities AT."""
    at = AT.expand(noise.model.config.channels, -1).contiguous()
    stds = torch.stack([noise.at(number, at).sqrt() for number in range(len(noise.images))])
    return (stds / true_std(AT, form) - 1).numpy()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("form", ["any", "awgn"])
@pytest.mark.parametrize("wrong", [0.2, 0.0])
def test_what_is_taken_out_of_an_image_corrects_its_noise(channels: int, form: NoiseFamily, wrong: float) -> None:
    clean = [scene(channels, seed) for seed in range(2)]
    told = believed(clean, wrong, Recording(), form)
    again = refined(told, denoiser(channels), [noisy(image, form) for image in clean], clean, bf16=False)
    before, after = (np.abs(errors(noise, form)) for noise in (told, again))
    assert (before.max() > 0.1) == (wrong > 0)
    assert after.max() < 0.035
    assert after.mean() < 0.015


@pytest.mark.parametrize(("kept", "smooth", "bias"), [(0.2, 0, -0.03), (0.0, 1, 0.045), (0.2, 1, 0.025)])
def test_the_teachers_results_need_not_be_the_truth(kept: float, smooth: float, bias: float) -> None:
    """Noise that they have kept is missing in it, detail that they have lost is added to it."""
    clean = [scene(1, detail=0.05)]
    image = noisy(clean[0])
    results = [gaussian_filter(clean[0], (smooth, smooth, 0)) + kept * (image - clean[0])]
    told = believed(clean, 0.2, Recording())
    found = errors(refined(told, denoiser(1), [image], results, bf16=False))
    assert float(found.mean()) == pytest.approx(bias, abs=0.015)
    assert np.abs(found).max() < 0.12


def test_of_the_best_student_results_may_have_less_detail_than_their_images() -> None:
    """It takes less out of the images, but what it lets pass makes up for that."""
    random = np.random.default_rng(0)
    clean = np.where(np.arange(SIDE)[:, None] < SIDE / 4, 0.2, random.choice([0.6, 0.8], (SIDE, SIDE)))
    result = np.where(np.arange(SIDE)[:, None] < SIDE / 2, 0.2, clean)
    image = clean + STD * random.normal(size=clean.shape)
    told = believed([scene(1)], 0.0, Recording(), "awgn")  # of STD
    seen, made = (each[..., None].astype(np.float32) for each in (image, result))
    again = refined(told, denoiser(1, "FlatOrNot"), [seen], [made], bf16=False)
    assert errors(again, "awgn") == pytest.approx(0.0, abs=0.01)


def test_a_student_that_takes_nothing_out_changes_nothing() -> None:
    clean = [scene(1)]
    told = believed(clean, 0.0, Recording())
    untrained = Student(StudentConfig(network=STUDENTS["unet-tiny"])).eval()
    again = refined(told, untrained, [noisy(clean[0])], clean, bf16=False)
    assert np.allclose(errors(again), errors(told), atol=0.01)


def test_no_round_goes_further_than_four_times() -> None:
    clean = [scene(1)]
    told = believed(clean, 0.0, Recording())
    at = AT[None]
    far = NoiseModel(told.model, [told.calibrated_to(0, at, 100 * true_std(at).square(), 0 * at)], Recording())
    found = refined(far, denoiser(1), [noisy(clean[0])], clean, bf16=False).at(0, at) / true_std(at).square()
    assert found.sqrt().numpy() == pytest.approx(10 / 4, rel=0.05)


def test_a_strip_has_fewer_pixels_in_its_middle_than_told_its_calibration() -> None:
    strip = np.tile(scene(1)[:3], (1, 20, 1))
    told = believed([strip], 0.2, Recording())
    again = refined(told, denoiser(1), [noisy(strip)], [strip], bf16=False)
    assert again.images[0].calibration is not told.images[0].calibration


def test_rounded_images_in_their_own_kind() -> None:
    clean = [0.15 + scene(1) / 2]  # so that nothing is cut off
    rounded = np.rint(noisy(clean[0]).clip(0, 1) * 255).astype(np.uint8)
    told = believed(clean, 0.2, Recording(step=1 / 255))
    assert np.abs(errors(refined(told, denoiser(1), [rounded], clean, bf16=False)))[..., 1:5].max() < 0.04


def test_images_with_one_intensity_almost_everywhere() -> None:
    """Most bins of intensity are empty there; black is cut off."""
    clean = scene(1)
    clean[: SIDE * 3 // 4] = 0
    image = noisy(clean).clip(0, None) * (clean > 0)
    told = believed([clean], 0.2, Recording(black=0.0))
    again = refined(told, denoiser(1), [image], [clean], bf16=False)
    found = again.images[0].calibration
    assert found is not None
    assert torch.isfinite(found.noise_factors).all()
    assert (found.noise_factors > 0).all()
    assert np.abs(errors(again))[..., 6:].max() < 0.06


def test_images_that_cannot_tell_keep_their_noise() -> None:
    clean = [scene(1, seed) for seed in range(3)]
    told = believed(clean, 0.2, Recording())
    shares = replace(told.images[0], kernel=torch.ones(13, 13) / 13)
    tiny = replace(told.images[1], calibration=None)
    known = NoiseModel(told.model, [shares, tiny, told.images[2]], told.recording)
    again = refined(known, denoiser(1), [noisy(image) for image in clean], clean, bf16=False)
    assert again.images[0] is shares
    assert again.images[1] is tiny
    assert again.images[2] is not told.images[2]


def test_the_same_noise_is_found_again() -> None:
    clean = [scene(1)]
    told = believed(clean, 0.2, Recording())
    both = [refined(told, denoiser(1), [noisy(clean[0])], clean, bf16=False) for _ in range(2)]
    assert torch.equal(both[0].at(0, AT[None]), both[1].at(0, AT[None]))
