"""What evaluation compares with what."""

import numpy as np
import pytest
import torch

from dbsn.config import GridConfig, ModelConfig
from dbsn.evaluation.evaluate import Pair, evaluate, synthetic_noise
from dbsn.evaluation.ranges import ValueRange, used_range
from dbsn.inference.blindspot import predict
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.families import parse_noise


def test_the_oracle_fuses_the_models_mean_under_the_true_noise() -> None:
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=GridConfig(widths=(8, 8), blocks=(1, 1)))).eval()
    clean = np.random.default_rng(0).random((24, 30, 1), np.float32)
    pair = synthetic_noise(clean, parse_noise("awgn:50"), seed=0, index=0)
    [score] = evaluate(model, [pair])
    estimate = predict(model, pair.noisy, extras=("mean", "std", "noise_std"))
    assert estimate.mean is not None
    assert estimate.std is not None
    assert estimate.noise_std is not None
    posterior, noise = estimate.std.astype(float) ** 2, estimate.noise_std.astype(float) ** 2
    prediction = 1 / (1 / posterior - 1 / noise)  # the posterior's precision is the sum of both
    true = (50 / 255) ** 2
    fused = (pair.noisy * prediction + estimate.mean * true) / (prediction + true)
    expected = -10 * np.log10(np.mean((fused.clip(0, 1) - clean) ** 2))
    assert score.oracle_psnr == pytest.approx(expected, abs=1e-3)
    assert abs(score.oracle_psnr - score.psnr) > 0.01
    assert score.true_noise_std == pytest.approx(50 / 255)


@pytest.mark.parametrize(
    ("kind", "lowest", "highest", "black", "white"),
    [
        ("uint8", 3, 90, 0, 255),
        ("uint16", 0, 4095, 0, 4095),
        ("uint16", 0, 4096, 0, 16383),
        ("uint16", 0, 65535, 0, 65535),
        ("int16", 0, 1800, 0, 4095),
        ("int16", 0, 20000, 0, 32767),
        ("int16", -1024, 1800, -1024, 1800),
        ("float32", 0, 0.9, 0, 1),
        ("float64", -0.01, 1.02, 0, 1),
        ("float32", 0, 4e-3, 0, 4e-3),
        ("float32", -2, 2, -2, 2),
        ("float32", 90, 3000, 90, 3000),
        ("float32", 7, 7, 0, 1),
    ],
)
def test_the_range_is_the_one_that_the_images_use(
    kind: str, lowest: float, highest: float, black: float, white: float
) -> None:
    found = used_range(np.dtype(kind), float(lowest), float(highest))
    assert (found.black, found.white) == (black, white)


def test_figures_do_not_depend_on_the_unit_of_the_pair() -> None:
    torch.manual_seed(0)
    config = ModelConfig(network=GridConfig(widths=(8, 8), blocks=(1, 1)), stretches=True)
    model = BlindSpotModel(config).eval()
    clean = np.linspace(0, 1, 40 * 40, dtype=np.float32).reshape(40, 40, 1)
    noisy = (clean + np.random.default_rng(0).normal(0, 0.1, clean.shape)).astype(np.float32)
    counts = ValueRange(100.0, 4100.0)
    pairs = [
        Pair(name="counts", noisy=counts.back(noisy), clean=counts.back(clean), values=counts),
        synthetic_noise(counts.back(clean), parse_noise("awgn:25.5"), seed=0, index=0, values=counts),
    ]
    real, synthetic = evaluate(model, pairs)
    assert real.noisy_psnr == pytest.approx(-10 * np.log10(np.mean((noisy - clean) ** 2)), abs=1e-3)
    assert synthetic.noisy_psnr == pytest.approx(20, abs=0.3)
    for score in (real, synthetic):
        assert score.psnr < 60
        assert score.noise_std is not None
        assert score.noise_std < 1
