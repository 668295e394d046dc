"""The promise that everything rests on: a pixel's own prediction does not depend on that pixel, bit for bit."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dbsn.config import DBSNConfig, GridConfig, ModelConfig, NetworkConfig
from dbsn.inference.blindspot import predict
from dbsn.inference.options import InferenceOptions
from dbsn.models.blindspot import BlindSpotModel

NETWORKS: list[NetworkConfig] = [
    DBSNConfig(width=8, modules=2),
    GridConfig(spacing=2, widths=(8,), blocks=(2,)),
    GridConfig(spacing=3, widths=(8, 8), blocks=(1, 1)),
    GridConfig(spacing=4, widths=(8, 8, 8), blocks=(1, 1, 1)),
]


def random_model(network: NetworkConfig, channels: int) -> BlindSpotModel:
    """A model in which every output depends on everything that it may depend on."""
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=network, channels=channels)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return model


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.kind}-{getattr(n, 'spacing', '')}")
@pytest.mark.parametrize("channels", [1, 3])
@given(data=st.data(), height=st.integers(1, 40), width=st.integers(1, 40))
@settings(max_examples=15, deadline=None)
def test_changing_a_pixel_leaves_its_own_prediction_unchanged_bit_for_bit(
    network: NetworkConfig, channels: int, data: st.DataObject, height: int, width: int
) -> None:
    model = random_model(network, channels)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    noisy = torch.rand(1, channels, height, width, generator=torch.Generator().manual_seed(height * 41 + width))
    changed = noisy.clone()
    changed[..., row, column] = data.draw(st.sampled_from([-5.0, 0.0, 3.0, 1e4]))
    measurement = model.measure(noisy)
    with torch.inference_mode():
        before, after = model(noisy, measurement), model(changed, measurement)
    for name in ("mean", "mean_var", "total_var"):
        first, second = getattr(before, name), getattr(after, name)
        assert torch.equal(first[..., row, column], second[..., row, column]), name
    if height * width > 50:
        assert not torch.equal(before.mean, after.mean), "the change must be seen somewhere, or the test sees nothing"


@pytest.mark.parametrize("network", NETWORKS, ids=lambda n: f"{n.kind}-{getattr(n, 'spacing', '')}")
@given(data=st.data(), height=st.integers(20, 90), width=st.integers(20, 90))
@settings(max_examples=8, deadline=None)
def test_the_blind_spot_holds_with_the_tiler_in_between(
    network: NetworkConfig, data: st.DataObject, height: int, width: int
) -> None:
    model = random_model(network, 1)
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    noisy = np.random.default_rng(height * 91 + width).random((height, width, 1), np.float32)
    changed = noisy.copy()
    changed[row, column] = 1 - np.round(noisy[row, column])  # far away, and no outlier: outliers stay as they are
    before, after = (
        predict(model, image, options=InferenceOptions(tile=24), extras=("mean",)).mean for image in (noisy, changed)
    )
    assert before is not None
    assert after is not None
    assert before[row, column] == after[row, column]
    assert not np.array_equal(before, after)


def test_a_grid_phase_alone_is_the_same_as_in_the_whole_image() -> None:
    model = random_model(GridConfig(spacing=3, widths=(8, 8), blocks=(1, 1)), 3)
    noisy = torch.rand(2, 3, 24, 36)
    with torch.inference_mode():
        whole = model(noisy)
        for row in range(3):
            for column in range(3):
                part = model(noisy, phase=(row, column))
                torch.testing.assert_close(part.mean, whole.mean[..., row::3, column::3], rtol=1e-5, atol=1e-5)
                assert torch.equal(part.noisy, noisy[..., row::3, column::3])
