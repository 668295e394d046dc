"""The comparison with built-in models at the end of a run, against the truth that it does not see."""

import shutil
from collections import deque
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import tifffile
import torch

from dbsn.config import MODEL
from dbsn.denoiser import Denoiser
from dbsn.networks.unet import DenseUNet
from dbsn.store.builtin import Comparison, better_model, path_of
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.training.comparison import compared, gain_db


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return (skimage.data.camera()[..., None] / 255).astype(np.float32)


@pytest.fixture(scope="module")
def noisy(clean: np.ndarray) -> np.ndarray:
    return clean + np.random.default_rng(0).normal(0, 25 / 255, clean.shape).astype(np.float32)


def error(denoised: np.ndarray, clean: np.ndarray) -> float:
    return float(np.square(denoised - clean).mean())


@pytest.mark.parametrize("method", ["posterior", "untrained"])
def test_the_gain_is_that_of_the_truth(tmp_path: Path, noisy: np.ndarray, clean: np.ndarray, method: str) -> None:
    saved = load_model(path_of("gray"))
    if method == "untrained":
        assert saved.student
        generator = torch.Generator().manual_seed(0)
        for weight in saved.student.parameters():
            weight.data *= 0.9 + 0.2 * torch.rand(weight.shape, generator=generator)
        assert isinstance(saved.student.network, DenseUNet)
        saved.student.network.keep_symmetric()
    student = saved.student if method == "untrained" else None
    save_model(tmp_path / MODEL, ModelFile(model=saved.model, student=student))
    deque(compared(tmp_path, [noisy]), maxlen=0)
    found = Comparison.of(tmp_path)
    assert found is not None
    assert found.builtin == "gray"
    strip = slice(512 - 512 // 8, None)  # the rows that are held out
    own, built_in = (Denoiser.load(path) for path in (tmp_path / MODEL, path_of("gray")))
    errors = [error(denoiser.predict(noisy[strip]), clean[strip]) for denoiser in (built_in, own)]
    truth = 10 * np.log10(errors[0] / errors[1])
    assert truth < -0.05
    assert found.gain_db == pytest.approx(truth, abs=0.1 + 0.3 * abs(truth))
    assert "The built-in model gray is" in found.describe(tmp_path)


@pytest.mark.parametrize("gain", [-0.3, 0.2])
def test_of_a_run_folder_the_better_model_denoises(
    tmp_path: Path, noisy: np.ndarray, dbsn_command, gain: float
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    saved = load_model(path_of("gray"))
    save_model(run / MODEL, ModelFile(model=saved.model))
    Comparison(builtin="gray", gain_db=gain).write(run)
    tifffile.imwrite(tmp_path / "a.tif", noisy[:64, :64, 0])
    results = {}
    for name, model in (("folder", run), ("file", run / MODEL), ("gray", "gray")):
        done = dbsn_command("denoise", tmp_path / "a.tif", "-o", tmp_path / f"{name}.tif", "-m", model)
        assert done.returncode == 0
        assert ("is 0.30 dB better than the trained one" in done.stderr) == (name == "folder" and gain < 0)
        results[name] = tifffile.imread(tmp_path / f"{name}.tif")
    assert np.array_equal(results["folder"], results["gray" if gain < 0 else "file"])
    assert not np.array_equal(results["file"], results["gray"])


def test_a_folder_without_a_comparison_or_with_a_broken_one_uses_its_own_model(tmp_path: Path) -> None:
    shutil.copy(path_of("gray"), tmp_path / MODEL)
    assert better_model(tmp_path) == (tmp_path / MODEL, "")
    for text in ("", "[]", '{"builtin": "gray"}', '{"builtin": "no such", "gain_db": -3}'):
        (tmp_path / "comparison.json").write_text(text)
        assert better_model(tmp_path) == (tmp_path / MODEL, "")


def test_where_noise_is_correlated_a_decibel_more_must_be_gained() -> None:
    assert gain_db(2.0, 1.0, 1) == pytest.approx(3.0103, abs=1e-3)
    assert gain_db(2.0, 1.0, 5) == pytest.approx(2.0103, abs=1e-3)
    assert gain_db(1.1, 1.0, 3) < 0
