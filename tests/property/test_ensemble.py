"""The self-ensemble treats all orientations alike, stays blind, and knows how much averaging gained (M7)."""

import numpy as np
import pytest
import torch

from dbsn.config import DBSNConfig, GridConfig, ModelConfig, NetworkConfig
from dbsn.inference.blindspot import self_ensemble
from dbsn.likelihood import channel_variance
from dbsn.models.blindspot import BlindSpotModel, Estimate

NETWORKS: list[NetworkConfig] = [
    DBSNConfig(width=8, modules=1),
    GridConfig(spacing=3, widths=(8, 8), blocks=(1, 1)),
]


def random_model(network: NetworkConfig, channels: int, std: float = 0.3) -> BlindSpotModel:
    torch.manual_seed(3)
    model = BlindSpotModel(ModelConfig(network=network, channels=channels)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=std)
    return model


def ensemble(model: BlindSpotModel, image: torch.Tensor, measurement: torch.Tensor) -> Estimate:
    with torch.inference_mode():
        return self_ensemble(model, image, measurement)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("network", NETWORKS, ids=["dbsn", "grid"])
def test_a_turned_image_has_a_turned_ensemble(network: NetworkConfig, channels: int) -> None:
    model = random_model(network, channels)
    image = torch.rand(1, channels, 19, 26)
    measurement = model.measure(image)
    upright = ensemble(model, image, measurement)
    for turn in (lambda x: torch.rot90(x, 1, (-2, -1)), lambda x: x.flip(-1), lambda x: x.mT):
        turned = ensemble(model, turn(image).contiguous(), measurement)
        for name in ("mean", "mean_var", "noise_var", "noisy"):
            expected = turn(getattr(upright, name))
            torch.testing.assert_close(getattr(turned, name), expected, rtol=1e-3, atol=1e-5)
    assert upright.mean.std() > 1e-4


@pytest.mark.parametrize("network", NETWORKS, ids=["dbsn", "grid"])
def test_a_pixel_does_not_reach_its_own_ensemble(network: NetworkConfig) -> None:
    model = random_model(network, 1)
    image = torch.rand(1, 1, 17, 22)
    measurement = model.measure(image)
    changed = image.clone()
    changed[0, 0, 5, 9] += 3
    before, after = ensemble(model, image, measurement), ensemble(model, changed, measurement)
    for name in ("mean", "mean_var"):
        assert torch.equal(getattr(before, name)[..., 5, 9], getattr(after, name)[..., 5, 9]), name
    assert not torch.equal(before.mean, after.mean)


@pytest.mark.parametrize("std", [0.15, 0.4])
def test_the_prediction_variance_shrinks_by_what_the_members_disagree(std: float) -> None:
    model = random_model(NETWORKS[1], 3, std)
    image = torch.rand(1, 3, 12, 15)
    measurement = model.measure(image)
    means, variances = [], []
    for turns in range(4):
        for mirrored in (False, True):
            turned = torch.rot90(image.flip(-1) if mirrored else image, turns, (-2, -1))
            with torch.inference_mode():
                member = model(turned.contiguous(), measurement)
            for kept, value in ((means, member.mean), (variances, channel_variance(member.mean_var))):
                back = torch.rot90(value, -turns, (-2, -1))
                kept.append((back.flip(-1) if mirrored else back).double().numpy())
    disagreement = np.var(means, 0).sum(1)
    believed = np.mean(variances, 0).sum(1)
    expected = np.maximum(believed - disagreement, believed / 8)
    result = ensemble(model, image, measurement)
    np.testing.assert_allclose(channel_variance(result.mean_var).sum(1).numpy(), expected, rtol=1e-3)
    np.testing.assert_allclose(result.mean.numpy(), np.mean(means, 0), rtol=1e-4, atol=1e-6)
    matrix = result.mean_var.permute(0, 3, 4, 1, 2)
    assert (torch.linalg.eigvalsh(matrix) > 0).all()
