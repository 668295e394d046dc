"""Settings check themselves and say what was expected."""

from typing import Any

import pytest

from dbsn.config import NETWORKS, DBSNConfig, GridConfig, ModelConfig, TrainConfig


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (TrainConfig, {"steps": None, "minutes": None}, "budget.*--minutes or --steps"),
        (TrainConfig, {"minutes": -1.0}, "--minutes: got -1.0"),
        (TrainConfig, {"steps": 0}, "--steps: got 0"),
        (TrainConfig, {"quantile": 0.7}, "--quantile: got 0.7"),
        (TrainConfig, {"patch": 4}, "--patch: got 4"),
        (TrainConfig, {"learning_rate": 0.0}, "--learning-rate"),
        (ModelConfig, {"scale": 0.0}, "scale: got 0.0"),
        (ModelConfig, {"channels": 0}, "channels"),
        (GridConfig, {"spacing": 1}, "grid spacing: got 1, expected 2 to 16"),
        (GridConfig, {"widths": (8,), "blocks": (1, 1)}, "grid blocks"),
        (DBSNConfig, {"modules": 0}, "D-BSN modules"),
    ],
)
def test_a_setting_out_of_range_is_refused_by_name(kind: Any, values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**values)


@pytest.mark.parametrize("name", NETWORKS)
def test_a_model_configuration_survives_the_way_through_a_header(name: str) -> None:
    config = ModelConfig(network=NETWORKS[name], channels=3, noise="mg", offset=0.1, scale=3.0)
    assert ModelConfig.from_dict(config.to_dict()) == config


FORMER = {"prediction_covariance": "full", "estimator_width": 32, "head_width": 32}


def test_a_model_file_that_names_what_are_constants_now_is_understood() -> None:
    config = ModelConfig(channels=3)
    assert not FORMER.keys() & config.to_dict().keys()
    assert ModelConfig.from_dict({**config.to_dict(), **FORMER}) == config


@pytest.mark.parametrize(("name", "value"), [("prediction_covariance", "diagonal"), ("estimator_width", 16)])
def test_a_model_file_of_other_constants_is_refused(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=f"{name.replace('_', ' ')}: got {value!r}, expected"):
        ModelConfig.from_dict({**ModelConfig().to_dict(), name: value})
