"""Correlated noise is measured and drawn as it is."""

import pytest
import torch
from torch.nn import functional

from dbsn.noise.correlation import REACH, autocorrelation, filtered, kernel


def box_noise(side: int, box: int, seed: int = 0) -> torch.Tensor:
    """Noise of variance 1 that a box x box mean has smoothed."""
    white = torch.randn(1, 3, side + box - 1, side + box - 1, generator=torch.Generator().manual_seed(seed))
    return box * functional.avg_pool2d(white, box, 1)


@pytest.mark.parametrize("box", [1, 2, 3])
def test_the_correlation_of_smoothed_noise_is_known(box: int) -> None:
    found = autocorrelation(box_noise(320, box))
    assert found is not None
    for down in range(3):
        for across in range(-2, 3):
            expected = max(0, 1 - abs(down) / box) * max(0, 1 - abs(across) / box)
            assert float(found[REACH + down, REACH + across]) == pytest.approx(expected, abs=0.04)


def test_texture_elsewhere_does_not_count() -> None:
    noise = box_noise(320, 2)
    stripes = 5 * torch.sin(torch.arange(320) / 3).expand(320, 320).clone()
    stripes[:, 160:] = 0
    found = autocorrelation(noise + stripes)
    assert found is not None
    assert float(found[REACH, REACH + 3]) == pytest.approx(0, abs=0.05)


@pytest.mark.parametrize("box", [1, 2, 3])
def test_drawn_noise_has_the_measured_correlation_and_variance_1(box: int) -> None:
    measured = autocorrelation(box_noise(320, box))
    assert measured is not None
    white = torch.randn(1, 3, 332, 332, generator=torch.Generator().manual_seed(1))
    drawn = filtered(white, kernel(measured))
    assert drawn.shape == (1, 3, 320, 320)
    assert float(drawn.var()) == pytest.approx(1, abs=0.03)
    again = autocorrelation(drawn)
    assert again is not None
    torch.testing.assert_close(again, measured, atol=0.07, rtol=0)


def test_what_is_cut_off_does_not_count() -> None:
    noise = box_noise(320, 2)
    noise[..., :128, :] = 1e-4
    found = autocorrelation(noise)
    assert found is not None
    assert float(found[REACH, REACH + 1]) == pytest.approx(0.5, abs=0.05)
    assert float(found[REACH, REACH + 3]) == pytest.approx(0, abs=0.05)


def test_an_image_without_noise_or_space_tells_nothing() -> None:
    assert autocorrelation(torch.randn(1, 1, 31, 200)) is None
    assert autocorrelation(torch.zeros(1, 1, 200, 200)) is None
