"""Parity with the paper authors' released networks and formulas, on values computed with their code."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from released import load_released, read_released

from dbsn.config import DBSNConfig, MWCNNConfig
from dbsn.likelihood import constrained_nll, fuse, marginal_nll
from dbsn.networks.dbsn import DBSN
from dbsn.networks.layers import PixelMLP
from dbsn.networks.mwcnn import MWCNN
from dbsn.networks.noise_estimator import NoiseEstimator, noise_std_link

Golden = Callable[[str], dict[str, np.ndarray]]


def rebuilt_weights(
    names: list[str], shapes: list[torch.Size], *, gain: float = 2.0, bias: float = 0.05
) -> dict[str, torch.Tensor]:
    """The weights that the golden values were computed with: a fixed function of each parameter's position."""
    weights = {}
    for j, (name, shape) in enumerate(zip(names, shapes, strict=True)):
        values = np.random.RandomState(j).standard_normal(tuple(shape))
        scale = np.sqrt(gain / np.prod(shape[1:])) if len(shape) > 1 else bias
        weights[name] = torch.from_numpy((values * scale).astype(np.float32))
    return weights


def assert_close(ours: torch.Tensor, theirs: np.ndarray, relative: float) -> None:
    assert np.abs(ours.detach().numpy() - theirs).max() <= relative * theirs.std()


@pytest.mark.parametrize(("name", "channels"), [("dbsn_gray", 1), ("dbsn_rgb", 3)])
def test_full_dbsn_with_variance_head_gives_the_published_output(golden: Golden, name: str, channels: int) -> None:
    values = golden(name)
    network = DBSN(DBSNConfig(), channels)
    shapes = dict(zip(values["parameter_names"], values["parameter_shapes"], strict=True))
    own = {key: str(tuple(value.shape)) for key, value in network.named_parameters()}
    assert {str(key): str(value) for key, value in shapes.items()} == own
    assert sum(parameter.numel() for parameter in network.parameters()) == {1: 6_612_289, 3: 6_612_675}[channels]
    names = [str(key) for key in values["parameter_names"]]
    weights = rebuilt_weights(names, [network.get_parameter(key).shape for key in names])
    load_released(network, {f"module.{key}": value for key, value in weights.items()})
    with torch.inference_mode():
        features = network.features(torch.from_numpy(values["y"]))
        mean = network.mean(features)
    assert_close(features, values["features"], 1e-4)
    assert_close(mean, values["mu"], 1e-4)

    raw_channels = values["sigma_mu_raw"].shape[1]
    head = PixelMLP(96, 16 if channels == 1 else 32, raw_channels, 3)
    names = [str(key) for key in values["sigma_mu_parameter_names"]]
    assert names == [key for key, _ in head.named_parameters()]
    load_released(head, rebuilt_weights(names, [head.get_parameter(key).shape for key in names]))
    with torch.inference_mode():
        assert_close(head(torch.from_numpy(values["features"])), values["sigma_mu_raw"], 1e-4)


def test_full_mwcnn_gives_the_published_output(golden: Golden) -> None:
    values = golden("mwcnn_gray")
    network = MWCNN(MWCNNConfig(), 1)
    names = [str(key) for key in values["parameter_names"]]
    assert names == [key for key, _ in network.named_parameters()]
    assert sum(parameter.numel() for parameter in network.parameters()) == 16_145_892
    weights = rebuilt_weights(names, [network.get_parameter(key).shape for key in names], gain=1.0, bias=0.02)
    load_released(network, {f"module.{key}": value for key, value in weights.items()})
    with torch.inference_mode():
        assert_close(network(torch.from_numpy(values["x"])), values["out"], 1e-4)


def test_a_released_file_is_read_by_part_and_name(tmp_path: Path) -> None:
    network = DBSN(DBSNConfig(width=4, modules=1), 1)
    path = tmp_path / "released.pth"
    torch.save({"state_dict_dbsn": {f"module.{k}": v for k, v in network.state_dict().items()}, "epoch": 3}, path)
    other = DBSN(DBSNConfig(width=4, modules=1), 1)
    load_released(other, read_released(path, "state_dict_dbsn"))
    assert all(torch.equal(a, b) for a, b in zip(network.parameters(), other.parameters(), strict=True))
    with pytest.raises(ValueError, match="not state_dict_sigma_n"):
        read_released(path, "state_dict_sigma_n")
    with pytest.raises(ValueError, match="do not fit"):
        load_released(DBSN(DBSNConfig(width=5, modules=1), 1), read_released(path, "state_dict_dbsn"))


def test_released_cnn_est_loads_by_name_and_gives_the_published_noise_level(golden: Golden) -> None:
    values = golden("gray_likelihood")
    estimator = NoiseEstimator(1, "hg", width=16, measured=False)
    names = [str(key) for key in values["cnn_est_parameter_names"]]
    shapes = [parameter.shape for parameter in estimator.parameters()]
    load_released(estimator.mlp, rebuilt_weights(names, shapes))
    assert_close(noise_std_link(torch.from_numpy(values["cnn_est_raw"])), values["noise_std"], 1e-5)
    image = torch.from_numpy(values["y"])
    with torch.inference_mode():
        ours = estimator.raw(image, torch.empty(2, 0, 1, 1))
        # the release starts training from a constant 3e-4 that is not part of the network
        assert_close(ours + 3e-4, values["cnn_est_raw"], 1e-4)
        assert_close(estimator(image, torch.empty(2, 0, 1, 1)).sqrt(), noise_std_link(ours).numpy(), 1e-5)


def test_gray_likelihoods_and_posterior_are_the_published_ones(golden: Golden) -> None:
    values = {key: torch.from_numpy(np.asarray(value)) for key, value in golden("gray_likelihood").items()
              if not key.endswith("names")}  # fmt: skip
    residual, mean_var, noise_var = values["y"] - values["mu"], values["var_mu"], values["noise_std"] ** 2
    # the release leaves out the factor 1/2 in gray
    assert 2 * marginal_nll(residual, mean_var, noise_var).mean() == pytest.approx(
        values["marginal_nll"].item(), rel=1e-5
    )
    ours = 2 * constrained_nll(residual, mean_var, noise_var).mean()
    assert ours == pytest.approx(values["constrained_nll"].item(), rel=1e-5)
    assert_close(fuse(values["y"], values["mu"], mean_var, noise_var)[0], values["posterior_mean"].numpy(), 1e-5)


def test_colour_likelihoods_and_posterior_with_full_covariances_are_the_published_ones(golden: Golden) -> None:
    values = {key: torch.from_numpy(np.asarray(value)) for key, value in golden("rgb_likelihood").items()}
    residual = values["y"] - values["mu"]
    mean_var, noise_var = (values[key].permute(0, 3, 4, 1, 2) for key in ("cov_mu", "cov_n"))
    assert marginal_nll(residual, mean_var, noise_var).mean() == pytest.approx(values["marginal_nll"].item(), rel=1e-5)
    ours = constrained_nll(residual, mean_var, noise_var).mean()
    assert ours == pytest.approx(values["constrained_nll"].item(), rel=1e-5)
    ours = fuse(values["y"], values["mu"], mean_var, noise_var)[0]
    theirs = values["posterior_mean"]
    # the release inverts cov_mu in float32: where that is ill-conditioned its own values are good to 1e-3 only, so
    # there the exact ones, computed in float64, are the judge
    prediction, noise = (values[key].double().numpy() for key in ("cov_mu", "cov_n"))
    gain = prediction @ np.linalg.inv(prediction + noise)
    exact = values["mu"].double() + torch.einsum("nhwij,njhw->nihw", torch.from_numpy(gain), residual.double())
    assert_close(ours, exact.numpy(), 1e-5)
    benign = torch.from_numpy(np.linalg.cond(prediction) < 100).unsqueeze(1).expand_as(theirs)
    assert benign.float().mean() > 0.7
    assert_close(ours[benign], theirs[benign].numpy(), 1e-5)
    assert_close(ours, theirs.numpy(), 1e-3)
