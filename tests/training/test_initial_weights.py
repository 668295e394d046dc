"""Where a training begins."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dbsn import Denoiser
from dbsn.config import MODEL, ModelConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile, save_model

pytestmark = pytest.mark.slow


def test_training_from_a_model_begins_where_that_is(tmp_path: Path, dbsn_command: Callable[..., Any]) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64), np.uint8)).save(tmp_path / "a.png")
    path = tmp_path / "earlier" / MODEL
    path.parent.mkdir()
    save_model(path, ModelFile(model=BlindSpotModel(ModelConfig())))
    flags = ("--clean", "none", "--steps", 1, "--batch", 2, "--patch", 48, "--learning-rate", 1e-9)
    done = dbsn_command("train", tmp_path / "a.png", "-o", tmp_path / "run", "--from", path.parent, *flags)
    assert done.returncode == 0, done.stderr
    assert f"initial weights: teacher from {path}" in done.stderr
    ours, theirs = (Denoiser.load(each, device="cpu").model for each in (tmp_path / "run" / MODEL, path))
    name = "network.backbone.encoder.0.0.first.weight"
    torch.testing.assert_close(ours.state_dict()[name], theirs.state_dict()[name])
