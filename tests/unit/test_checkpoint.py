"""Model files: whole or absent, strict, readable only as what they are."""

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from dbsn.config import NETWORKS, ModelConfig
from dbsn.io.atomic import write_atomically
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import load_tensors, save_tensors


def small_model(channels: int = 1, network: str = "grid-tiny") -> BlindSpotModel:
    return BlindSpotModel(ModelConfig(network=NETWORKS[network], channels=channels, offset=0.3, scale=0.2, noise="hg"))


@pytest.mark.parametrize("network", ["grid-tiny", "dbsn-tiny"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_saved_model_comes_back_with_weights_configuration_and_story(
    tmp_path: Path, network: str, channels: int
) -> None:
    model = small_model(channels, network)
    save_model(tmp_path / "m.safetensors", ModelFile(model=model, about={"images": 3}))
    saved = load_model(tmp_path / "m.safetensors")
    loaded, about = saved.model, saved.about
    assert loaded.config == model.config
    assert about == {"images": 3}
    assert not loaded.training
    for name, value in model.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[name])


def test_the_configuration_can_be_read_from_the_header_by_anyone(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", ModelFile(model=small_model()))
    with safe_open(tmp_path / "m.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["header"])
    assert header["model"]["network"]["kind"] == "grid"
    assert header["model"]["scale"] == 0.2


def test_a_missing_damaged_or_foreign_file_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(FileNotFoundError, match=r"m\.safetensors: no such model file"):
        load_model(path)
    save_model(path, ModelFile(model=small_model()))
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[:100], whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"m\.safetensors: not a model file, or damaged"):
            load_model(path)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(ValueError, match=r"unknown format .* Use a file written by dbsn"):
        load_model(path)
    save_tensors(path, {"a": torch.zeros(2)}, {"state": {}})
    with pytest.raises(ValueError, match=r"Use the run's model\.safetensors"):
        load_model(path)


def test_weights_that_do_not_fit_the_configuration_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    tensors = small_model(channels=3).state_dict()
    save_tensors(path, tensors, {"model": small_model(channels=1).config.to_dict()})
    with pytest.raises(ValueError, match="weights do not fit"):
        load_model(path)


def test_a_configuration_from_the_future_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    config = small_model().config.to_dict() | {"colour_of_the_sky": "blue"}
    save_tensors(path, small_model().state_dict(), {"model": config})
    with pytest.raises(ValueError, match=r"colour_of_the_sky.*newer dbsn"):
        load_model(path)


def test_an_interrupted_write_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    write_atomically(path, b"old")

    def fail(descriptor: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_tensors_and_header_come_back(tmp_path: Path) -> None:
    save_tensors(tmp_path / "t", {"a": torch.arange(6).reshape(2, 3).mT}, {"step": 3})
    tensors, header = load_tensors(tmp_path / "t")
    assert torch.equal(tensors["a"], torch.arange(6).reshape(2, 3).mT)
    assert header == {"step": 3}
