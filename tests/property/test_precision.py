"""What leaves the model is float32 and finite, also when convolutions run in bfloat16."""

import pytest
import torch

from dbsn.config import NETWORKS, ModelConfig
from dbsn.likelihood import constrained_nll, marginal_nll
from dbsn.models.blindspot import BlindSpotModel


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", ["grid-tiny", "dbsn-tiny"])
def test_every_estimate_is_float32_under_bfloat16_autocast(channels: int, network: str) -> None:
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=NETWORKS[network], channels=channels))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = model(torch.rand(2, channels, 24, 24))
        values = vars(estimate) | {"fused": estimate.fused()[0], "std": estimate.fused()[1]}
    for name, value in values.items():
        assert value.dtype == torch.float32, name
        assert value.isfinite().all(), name


def test_likelihoods_of_nearly_identical_channels_stay_finite_under_bfloat16_autocast() -> None:
    """A gray photograph saved in colour: every channel has the same noise."""
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"], channels=3))
    for stack in (model.noise_estimator.mlp, model.total_head, model.prediction_head):
        assert stack.last.bias is not None
        with torch.no_grad():
            stack.last.bias[3:] = 200.0  # what correlates channels
    noisy = torch.rand(1, 1, 24, 24).expand(-1, 3, -1, -1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        estimate = model(noisy)
        residual = estimate.noisy - estimate.mean
        for nll in (marginal_nll, constrained_nll):
            loss = nll(residual, estimate.mean_var, estimate.noise_var).mean()
            loss.backward(retain_graph=True)
            assert loss.isfinite()
    for name, parameter in model.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
