"""Tiling covers each pixel once and changes nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dbsn.config import DBSNConfig, GridConfig, ModelConfig, NetworkConfig
from dbsn.inference.blindspot import predict, predict_into
from dbsn.inference.options import InferenceOptions
from dbsn.inference.tiles import tiles
from dbsn.models.blindspot import BlindSpotModel

NETWORKS: list[NetworkConfig] = [
    DBSNConfig(width=8, modules=2),
    GridConfig(spacing=3, widths=(8, 8), blocks=(1, 1)),
    GridConfig(spacing=2, widths=(8,), blocks=(1,)),
]


@given(
    height=st.integers(1, 200), width=st.integers(1, 200), tile=st.integers(0, 100),
    margin=st.integers(0, 50), multiple=st.integers(1, 12),
)  # fmt: skip
@settings(deadline=None)
def test_tiles_cover_each_pixel_once_and_are_read_with_their_margin(
    height: int, width: int, tile: int, margin: int, multiple: int
) -> None:
    covered = np.zeros((height, width), int)
    for part in tiles(height, width, tile=tile, margin=margin, multiple=multiple):
        covered[part.own] += 1
        for own, read, size in zip(part.own, part.read, (height, width), strict=True):
            assert read.start == 0 or (own.start - read.start >= margin and read.start % multiple == 0)
            assert read.stop == size or (read.stop - own.stop >= margin and (size - read.stop) % multiple == 0)
    assert (covered == 1).all()


@pytest.mark.parametrize(("height", "rows"), [(3162, [1584, 1578]), (4000, [1336, 1336, 1328]), (1600, [1600])])
def test_tiles_are_of_one_size_and_fewer_where_a_tenth_more_will_do(height: int, rows: list[int]) -> None:
    parts = [part.own[0] for part in tiles(height, 4, tile=1536, margin=64, multiple=4)]
    assert [part.stop - part.start for part in parts] == rows


@pytest.mark.parametrize("noise", ["any", "mg", "awgn"])
@pytest.mark.parametrize("network", NETWORKS, ids=["dbsn", "grid3", "grid2"])
def test_a_tiled_image_is_denoised_like_the_whole_one(network: NetworkConfig, noise: str) -> None:
    torch.manual_seed(1)
    model = BlindSpotModel(ModelConfig(network=network, channels=3, noise=noise)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    image = np.random.default_rng(0).random((131, 157, 3), np.float32)
    extras = ("std", "mean", "noise_std")
    whole = predict(model, image, options=InferenceOptions(tile=0), extras=extras)
    tiled = predict(model, image, options=InferenceOptions(tile=50), extras=extras)
    for name in ("denoised", *extras):
        expected, got = getattr(whole, name), getattr(tiled, name)
        assert np.abs(expected - got).max() < 1e-5 * max(1, np.abs(expected).max()), name
    assert whole.noise_level == pytest.approx(tiled.noise_level, rel=1e-5)
    assert whole.denoised.std() > 1e-3


@pytest.mark.parametrize("calibrated", [False, True])
def test_at_a_stride_each_lattice_is_denoised_for_itself_tiled_or_not(calibrated: bool) -> None:
    torch.manual_seed(1)
    config = ModelConfig(network=NETWORKS[1], channels=3, stride=4, denoising_stride=2)
    model = BlindSpotModel(config).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    image = np.random.default_rng(0).random((131, 157, 3), np.float32)
    whole = predict(model, image, options=InferenceOptions(tile=0), calibrated=calibrated, extras=("mean", "std"))
    tiled = predict(model, image, options=InferenceOptions(tile=30), calibrated=calibrated, extras=("mean", "std"))
    one = predict(
        model, image[1::2, 0::2], options=InferenceOptions(tile=0, stride=1), calibrated=False, extras=("mean", "std")
    )
    for name in ("denoised", "mean", "std"):
        expected, got = getattr(whole, name), getattr(tiled, name)
        assert np.abs(expected - got).max() < 1e-5 * max(1, np.abs(expected).max()), name
        assert calibrated or np.abs(getattr(whole, name)[1::2, 0::2] - getattr(one, name)).max() < 0.1
    assert one.mean is not None
    assert whole.mean is not None
    np.testing.assert_allclose(whole.mean[1::2, 0::2], one.mean, atol=1e-5)
    assert predict(model, image[:1, :1]).denoised.shape == (1, 1, 3)


@pytest.mark.parametrize("stride", [1, 2, 3])
def test_an_image_that_is_not_in_memory_is_read_and_written_in_parts(stride: int) -> None:
    torch.manual_seed(1)
    model = BlindSpotModel(ModelConfig(network=NETWORKS[1], stride=stride, denoising_stride=stride)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    image = np.random.default_rng(0).random((613, 640, 1), np.float32)
    largest = []

    class Somewhere:
        shape = image.shape

        def __init__(self) -> None:
            self.result = np.full_like(image, np.nan)

        def __getitem__(self, where: Any) -> np.ndarray:
            largest.append(image[where].size)
            return image[where]

        def __setitem__(self, where: Any, part: np.ndarray) -> None:
            largest.append(part.size)
            self.result[where] = part

    place = Somewhere()
    level, _ = predict_into({"denoised": place}, model, place, options=InferenceOptions(tile=64))
    expected = predict(model, image, options=InferenceOptions(tile=64))
    np.testing.assert_allclose(place.result, expected.denoised, atol=1e-5)
    assert level == pytest.approx(expected.noise_level)
    assert max(largest) < (0.95 if stride == 1 else 0.9) * image.size


@pytest.mark.parametrize("calibrated", [False, True])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_pixel_lies_as_far_from_its_blind_prediction_as_is_promised(channels: int, calibrated: bool) -> None:
    torch.manual_seed(1)
    model = BlindSpotModel(ModelConfig(network=NETWORKS[1], channels=channels)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    image = np.random.default_rng(0).random((130, 140, channels), np.float32)
    found = predict(model, image, calibrated=calibrated, extras=("mean", "blind_std", "std", "noise_std"))
    assert found.blind_std is not None
    assert found.noise_std is not None
    assert found.std is not None
    assert (found.blind_std > found.noise_std).all()
    if channels == 1:  # V + N = N^2 / (N - posterior variance)
        noise = found.noise_std.astype(float) ** 2
        np.testing.assert_allclose(found.blind_std**2, noise**2 / (noise - found.std**2), rtol=1e-2)
    if calibrated:
        white = (image - found.mean) / found.blind_std
        assert float(np.sqrt((white**2).mean())) == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize("network", NETWORKS, ids=["dbsn", "grid3", "grid2"])
def test_a_tiled_image_has_the_ensemble_of_the_whole_one(network: NetworkConfig) -> None:
    torch.manual_seed(2)
    model = BlindSpotModel(ModelConfig(network=network, channels=1)).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    image = np.random.default_rng(0).random((103, 131, 1), np.float32)
    whole = predict(model, image, options=InferenceOptions(tile=0, ensemble=True), extras=("std", "mean"))
    tiled = predict(model, image, options=InferenceOptions(tile=40, ensemble=True), extras=("std", "mean"))
    for name in ("denoised", "std", "mean"):
        expected = getattr(whole, name)
        assert np.abs(expected - getattr(tiled, name)).max() < 1e-5 * max(1, np.abs(expected).max()), name
