"""Noise of a simulated camera, against what such a camera must do."""

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image as PillowImage

from dbsn.config import DistillConfig
from dbsn.noise.camera import AnyCamera, Developed, blurred, through_jpeg
from dbsn.noise.mixtures import one_noise, parse_noises
from dbsn.training.pairs import scale_at

USUAL = {
    "photons": 2e-3, "read": 1e-5, "gains": (2.0, 1.0, 1.6), "colours": torch.eye(3), "exposure": 0.8,
    "contrast": False, "phase": (0, 0), "edge_aware": False, "brightness": (0.0, 1.0), "colour": 0.0,
    "sharpening": (0.0, 1.0), "keeps_edges": False, "quality": None, "subsampled": False,
}  # fmt: skip


def camera(**settings: object) -> Developed:
    return Developed(**USUAL | settings)  # type: ignore[arg-type]


def flat(value: float, side: int = 200) -> torch.Tensor:
    return torch.full((1, 3, side, side), value)


def correlation(noise: torch.Tensor) -> float:
    """Of neighbours in a row."""
    noise = noise - noise.mean((-2, -1), keepdim=True)
    return float((noise[..., 1:] * noise[..., :-1]).mean() / noise.square().mean())


def test_noise_has_the_level_of_photons_through_gamma_and_white_balance(generator: torch.Generator) -> None:
    # A green sample of the picture's 0.5: s = 0.5^2.2 * 0.8. Its variance is photons * s + read. The picture is
    # (s / 0.8)^(1 / 2.2), so the slope there is 0.5 / (2.2 s).
    noisy = camera().sample(flat(0.5), generator)
    sample = 0.5**2.2 * 0.8
    expected = (2e-3 * sample + 1e-5) ** 0.5 * 0.5 / (2.2 * sample)
    # Green pixels keep their sample, the others are the mean of four.
    green = (noisy - 0.5)[0, 1, 1::2, 0::2].std()  # row 1, column 0: green, where red is at (0, 0)
    assert float(green) == pytest.approx(expected, rel=0.05)
    assert float((noisy - 0.5)[0, 1, 0::2, 0::2].std()) == pytest.approx(expected / 2, rel=0.05)
    assert float((noisy - 0.5)[0, 0, 0::2, 0::2].std()) > 1.3 * expected, "a gain of 2 lets red hold fewer photons"


@pytest.mark.parametrize("contrast", [False, True])
def test_without_noise_a_flat_picture_comes_back(contrast: bool, generator: torch.Generator) -> None:
    for value in (0.1, 0.5, 0.9):
        shown = camera(photons=1e-12, read=1e-12, contrast=contrast).sample(flat(value), generator)
        torch.testing.assert_close(shown, flat(value), atol=0.51 / 255, rtol=0)


def test_noise_reduction_spreads_noise_and_sharpening_raises_it(generator: torch.Generator) -> None:
    plain, reduced, sharp = (
        camera(**settings).sample(flat(0.5), generator) - 0.5
        for settings in ({}, {"brightness": (1.0, 1.5), "colour": 3.0}, {"sharpening": (0.6, 1.5)})
    )
    assert correlation(reduced) > 0.7 > correlation(plain)
    weights = torch.tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    assert float((sharp * weights).sum(1).std()) > 1.3 * float((plain * weights).sum(1).std())


def test_the_truth_is_as_soft_as_the_noise_unless_edges_are_kept() -> None:
    picture = torch.zeros(1, 3, 64, 64)
    picture[..., 32:] = 0.8
    picture += 0.1
    soft, sharp = (
        camera(brightness=(1.0, 2.0), colour=2.0, keeps_edges=keeps).developed(picture)[0, 1, 32]
        for keeps in (False, True)
    )
    assert float(soft.diff().abs().max()) < 0.25
    assert float(sharp.diff().abs().max()) > 0.35
    for line in (soft, sharp):
        assert float(line[5]) == pytest.approx(0.1, abs=0.02)
        assert float(line[60]) == pytest.approx(0.9, abs=0.02)


def test_the_file_of_a_quiet_scene_is_the_truth(generator: torch.Generator) -> None:
    scene = torch.from_numpy(skimage.data.astronaut()[:64, :64]).permute(2, 0, 1)[None] / 255
    quiet = camera(photons=1e-12, read=1e-12, brightness=(0.8, 1.0), sharpening=(0.5, 1.0))
    torch.testing.assert_close(
        quiet.sample(scene, generator), quiet.developed(scene).clamp(0, 1), atol=0.6 / 255, rtol=0
    )


def test_a_photograph_without_noise_is_saved_and_no_more(generator: torch.Generator) -> None:
    picture = torch.from_numpy(skimage.data.astronaut()[:64, :64]).permute(2, 0, 1)
    clean = picture[None] / 255
    saved = camera(photons=0.0, quality=80).sample(clean, generator)
    assert torch.equal((saved[0] * 255).round().to(torch.uint8), through_jpeg(picture, 80))
    assert not camera(photons=0.0).variance(clean).any()


def test_the_variance_is_what_diagonal_differences_see(generator: torch.Generator) -> None:
    noise = camera(brightness=(0.7, 0.8))
    added = noise.sample(flat(0.4, 400), generator) - 0.4
    detail = added[..., ::2, ::2] - added[..., ::2, 1::2] - added[..., 1::2, ::2] + added[..., 1::2, 1::2]
    expected = (detail / 2).square().mean((0, 2, 3))
    torch.testing.assert_close(noise.variance(flat(0.4, 4))[0, :, 0, 0], expected, rtol=0.25, atol=0)


def test_a_gray_image_gets_the_brightness_of_the_noise(generator: torch.Generator) -> None:
    noisy = camera().sample(torch.full((1, 1, 100, 100), 0.5), generator)
    assert noisy.shape == (1, 1, 100, 100)
    assert 0.005 < float(noisy.std()) < 0.05


def test_any_camera_is_another_one_each_time() -> None:
    noises = parse_noises("camera")
    assert noises == AnyCamera()
    generator = torch.Generator().manual_seed(0)
    drawn = [one_noise(noises, 3, generator) for _ in range(300)]
    assert all(isinstance(each, Developed) for each in drawn)
    assert 0.05 < np.mean([each.photons == 0 for each in drawn]) < 0.17
    assert {each.phase for each in drawn} == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert {each.subsampled for each in drawn} == {True, False}
    for each in drawn:
        torch.testing.assert_close(each.colours.sum(1), torch.ones(3))
    qualities = [each.quality for each in drawn if each.quality is not None]
    assert 60 <= min(qualities) < max(qualities) <= 99
    again = torch.Generator().manual_seed(0)
    assert one_noise(noises, 3, again).gains == drawn[0].gains


def test_jpeg_of_half_size_colours_is_pillows(tmp_path: object) -> None:
    picture = skimage.data.astronaut()[:48, :48]
    file = f"{tmp_path}/a.jpg"
    PillowImage.fromarray(picture).save(file, quality=75, subsampling="4:2:0")
    expected = np.array(PillowImage.open(file))
    shown = through_jpeg(torch.from_numpy(picture).permute(2, 0, 1), 75, subsampled=True)
    assert np.array_equal(shown.permute(1, 2, 0).numpy(), expected)


def test_blurring_keeps_the_mean_and_spreads_a_point() -> None:
    point = torch.zeros(1, 1, 41, 41)
    point[..., 20, 20] = 1
    spread = blurred(point, 2.0)[0, 0]
    assert float(spread.sum()) == pytest.approx(1, abs=1e-4)
    place = torch.arange(41) - 20.0
    assert float((spread.sum(0) * place.square()).sum()) == pytest.approx(4, rel=0.03)
    assert blurred(point, 0.0) is point


def test_patches_shrink_and_grow_over_the_whole_range() -> None:
    config = DistillConfig(shrink=2.0, enlarge=3.0)
    assert scale_at(config, 0.0) == pytest.approx(1 / 3)
    assert scale_at(config, 1.0) == pytest.approx(2)
    assert scale_at(DistillConfig(shrink=4.0), 0.5) == pytest.approx(2)
    assert scale_at(DistillConfig(), 0.7) == 1


def test_a_gray_picture_of_a_camera_has_the_same_noise_in_all_channels(generator: torch.Generator) -> None:
    noisy = camera(is_gray=True).sample(flat(0.5), generator)
    assert torch.equal(noisy[:, 0], noisy[:, 1])
    assert torch.equal(noisy[:, 0], noisy[:, 2])
    assert 0.005 < float(noisy.std()) < 0.05
