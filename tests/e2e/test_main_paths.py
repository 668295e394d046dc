"""The main paths by what they achieve, whatever the processor and the precision: `make test-avx2` runs them on another.

Results are judged by the truth, never by the precision that was taken.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import torch
from PIL import Image

pytestmark = pytest.mark.slow
Command = Callable[..., Any]
LEVEL = 25
CLEAN = {1: skimage.data.camera()[100:228, 100:228], 3: skimage.data.astronaut()[60:188, 150:278]}


def decibels(image: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((image.astype(float) - clean) ** 2).mean()))


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """A folder for gray and one for colour: a photograph of 8 bits with noise of 25, 20.2 dB."""
    folders = {}
    for channels, clean in CLEAN.items():
        folders[channels] = tmp_path_factory.mktemp(f"noisy{channels}")
        drawn = clean + np.random.default_rng(0).normal(0, LEVEL, clean.shape)
        Image.fromarray(drawn.clip(0, 255).round().astype(np.uint8)).save(folders[channels] / "a.png")
    return folders


def gained(folder: Path, channels: int, result: Path) -> float:
    """How many dB closer to the truth than the noisy image a result is."""
    before, after = (np.asarray(Image.open(place / "a.png")) for place in (folder, result))
    return decibels(after, CLEAN[channels]) - decibels(before, CLEAN[channels])


def test_the_processor_is_what_was_asked_for() -> None:
    asked = os.environ.get("ATEN_CPU_CAPABILITY")
    assert asked is None or torch.backends.cpu.get_cpu_capability().lower() == asked


@pytest.mark.parametrize("channels", [1, 3])
def test_a_built_in_model_denoises(
    channels: int, noisy: dict[int, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    done = dbsn_command("denoise", noisy[channels], "-o", tmp_path)
    assert done.returncode == 0, done.stderr
    assert gained(noisy[channels], channels, tmp_path) > 6.5


def test_a_network_learns_from_the_noisy_image_alone(
    noisy: dict[int, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    flags = ("--clean", "none", "--network", "grid-tiny", "--from", "scratch", "--steps", 120, "--batch", 4)
    done = dbsn_command("train", noisy[1], "-o", tmp_path / "run", *flags, "--patch", 48, "--validations", 2)
    assert done.returncode == 0, done.stderr
    done = dbsn_command("denoise", noisy[1], "-m", tmp_path / "run", "-o", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert gained(noisy[1], 1, tmp_path / "out") > 2


def test_both_stages_from_a_built_in_model_leave_a_good_student(
    noisy: dict[int, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    (tmp_path / "clean").mkdir()
    Image.fromarray(skimage.data.coffee()[:100, :100]).save(tmp_path / "clean" / "b.png")
    budget = ("--steps", 2, "--student.steps", 3, "--batch", 2, "--student.batch", 4)
    patches = ("--patch", 36, "--student.patch", 32, "--validations", 1, "--student.validations", 1)
    run = tmp_path / "run"
    done = dbsn_command("train", noisy[3], "--clean", tmp_path / "clean", "-o", run, *budget, *patches)
    assert done.returncode == 0, done.stderr
    for method in ("student", "posterior"):
        done = dbsn_command("denoise", noisy[3], "-m", run, "-o", tmp_path / method, "--method", method)
        assert done.returncode == 0, done.stderr
        assert gained(noisy[3], 3, tmp_path / method) > 4
