"""PSNR and SSIM against numbers worked out by hand."""

import numpy as np
import pytest

from dbsn.evaluation.metrics import prepare, psnr, ssim


def test_psnr_of_a_constant_error_of_a_tenth_is_20_db() -> None:
    truth = np.full((16, 16, 1), 0.5)
    assert psnr(truth + 0.1, truth) == pytest.approx(20.0)
    assert psnr(truth, truth) == float("inf")


def test_the_float_protocol_clamps_and_does_not_round() -> None:
    image = np.array([[[-0.2], [0.5004], [1.3]]])
    np.testing.assert_allclose(prepare(image, image, "float").ravel(), [0, 0.5004, 1])


def test_the_uint8_protocol_rounds_to_gray_levels() -> None:
    image = np.array([[[-0.2], [0.5004], [1.3]]])
    np.testing.assert_allclose(prepare(image, image, "uint8").ravel(), [0, 128 / 255, 1])


def test_the_affine_protocol_undoes_gain_and_offset() -> None:
    truth = np.random.default_rng(0).random((20, 20, 1)) * 0.8 + 0.1
    np.testing.assert_allclose(prepare(3 * truth - 7, truth, "affine"), truth, atol=1e-9)
    flat = prepare(np.full_like(truth, 0.2), truth, "affine")
    np.testing.assert_allclose(flat, truth.mean())


def test_ssim_is_one_for_equal_images_and_undefined_below_its_window() -> None:
    image = np.random.default_rng(0).random((20, 20, 3)).astype(np.float32)
    assert ssim(image, image) == pytest.approx(1.0)
    assert ssim(image, image[::-1]) < 0.5
    assert np.isnan(ssim(image[:10], image[:10]))
