"""What evaluation compares with what."""

import numpy as np
import pytest
import torch

from dbsn.config import GridConfig, ModelConfig
from dbsn.evaluation.evaluate import evaluate, synthetic_noise
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
