"""The Python interface: fit, denoise, predict, save, load."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch

from dbsn import Denoiser

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def noisy() -> np.ndarray:
    crop = skimage.data.astronaut()[:96, 150:246] / 255
    return crop + np.random.default_rng(0).normal(0, 0.1, crop.shape)


@pytest.fixture(scope="module")
def denoiser(noisy: np.ndarray) -> Denoiser:
    seen: list[int] = []
    settings = {"network": "grid-tiny", "batch": 4, "patch": 48}
    made = Denoiser.fit(
        [noisy, noisy[:50, :40]], steps=20, device="cpu", on_progress=lambda p: seen.append(p.step), **settings
    )
    assert seen == list(range(1, 21))
    return made


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_denoise_gives_back_the_same_kind_and_shape(denoiser: Denoiser, noisy: np.ndarray, dtype: type) -> None:
    integer = np.issubdtype(dtype, np.integer)
    image = (noisy.clip(0, 1) * np.iinfo(dtype).max).round().astype(dtype) if integer else noisy.astype(dtype)
    before = image.copy()
    result = denoiser.denoise(image)
    assert result.dtype == dtype
    assert result.shape == image.shape
    assert np.array_equal(image, before), "the input is left alone"
    scale = np.iinfo(dtype).max if integer else 1
    assert np.abs(result / scale - noisy).mean() < 0.2


def test_predict_gives_floats_and_on_request_a_standard_deviation(denoiser: Denoiser, noisy: np.ndarray) -> None:
    alone = denoiser.predict(noisy)
    both, std = denoiser.predict(noisy, return_std=True)
    assert np.array_equal(alone, both)
    assert std.shape == noisy.shape
    assert (std >= 0).all()
    assert 0 < std.mean() < 0.5


def test_a_stack_is_denoised_plane_by_plane_wherever_its_axes_are(denoiser: Denoiser, noisy: np.ndarray) -> None:
    stack = np.stack([noisy[:40, :50], noisy[30:70, 20:70]])
    apart = np.stack([denoiser.predict(plane) for plane in stack])
    turned = stack.transpose(1, 3, 0, 2)
    np.testing.assert_array_equal(denoiser.predict(turned, axes="YSTX"), apart.transpose(1, 3, 0, 2))
    _, std = denoiser.predict(stack.transpose(3, 0, 1, 2), channel_axis=0, return_std=True)
    np.testing.assert_array_equal(std[:, 1], denoiser.predict(stack[1], return_std=True)[1].transpose(2, 0, 1))
    whole = denoiser.denoise(turned.astype(np.float32), axes="YSTX")
    assert whole.dtype == np.float32
    assert whole.shape == turned.shape
    np.testing.assert_allclose(whole, apart.transpose(1, 3, 0, 2), atol=1e-6)


def test_a_saved_denoiser_denoises_the_same_after_loading(
    denoiser: Denoiser, noisy: np.ndarray, tmp_path: Path
) -> None:
    denoiser.save(tmp_path / "d.safetensors")
    again = Denoiser.load(tmp_path / "d.safetensors", device="cpu")
    assert np.array_equal(again.predict(noisy), denoiser.predict(noisy))


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 2), (13, 11)])
def test_the_smallest_images_are_denoised_too(denoiser: Denoiser, size: tuple[int, int]) -> None:
    result = denoiser.denoise(np.full((*size, 3), 0.5))
    assert result.shape == (*size, 3)
    assert np.isfinite(result).all()


def test_wrong_shapes_are_refused_in_words(denoiser: Denoiser) -> None:
    with pytest.raises(ValueError, match="for colour images"):
        denoiser.denoise(np.zeros((8, 8)))
    with pytest.raises(ValueError, match="expected \\(height, width\\)"):
        denoiser.denoise(np.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match="gray and colour"):
        Denoiser.fit([np.zeros((8, 8)), np.zeros((8, 8, 3))], steps=1)
    with pytest.raises(ValueError, match="got bool, expected integers or floats"):
        denoiser.denoise(np.zeros((8, 8, 3), bool))
    with pytest.raises(ValueError, match="not finite"):
        denoiser.denoise(np.full((8, 8, 3), np.nan))
    with pytest.raises(ValueError, match="tile=-1"):
        denoiser.denoise(np.zeros((8, 8, 3)), tile=-1)
    with pytest.raises(ValueError, match="no image"):
        Denoiser.fit([], steps=1)


MISTAKES = {
    "fit(np.zeros((64, 64)))": "Pass [image]",
    'fit([np.zeros((64, 64))], student={"steps": 2})': "distill=DistillConfig",
    'load("gray").denoise("photo.png")': "got str, expected an array",
    'load("gray").denoise(np.zeros((8, 8)), method="studnet")': "method: got 'studnet', expected one of 'auto'",
    'load("gray").predict(np.zeros((8, 8)), method="Posterior")': "method: got 'Posterior', expected one of 'auto'",
    'fit([np.zeros((64, 64))], network="grit")': "network: got 'grit', expected one of 'grid'",
    'fit([np.zeros((64, 64))], noise="pink")': "noise: got 'pink', expected one of 'auto'",
}


@pytest.fixture(scope="module")
def said() -> list[str]:
    """What each of the mistakes raises, in a process where nothing else checks types."""
    code = "import numpy as np; from dbsn import Denoiser\n"
    for call in MISTAKES:
        code += f"try: Denoiser.{call}; print()\nexcept Exception as error: print(str(error).replace('\\n', ' '))\n"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize("call", MISTAKES)
def test_a_mistake_says_what_was_expected(call: str, said: list[str]) -> None:
    assert MISTAKES[call] in said[list(MISTAKES).index(call)]


def test_fit_takes_a_stack_whose_axes_are_named(noisy: np.ndarray) -> None:
    stack = np.stack([noisy[:64, :64, 0], noisy[30:94, 30:94, 0]])
    made = Denoiser.fit(stack, axes="ZYX", steps=1, device="cpu", network="grid-tiny", batch=2, patch=24)
    assert made.model.config.channels == 1


def test_fit_takes_tensors_and_shows_its_progress(noisy: np.ndarray, capsys: pytest.CaptureFixture[str]) -> None:
    images = [torch.from_numpy(noisy[:64, :64, 0]), torch.from_numpy(noisy[30:94, 30:94, 0])]
    settings = {"device": "cpu", "network": "grid-tiny", "batch": 2, "patch": 24}
    Denoiser.fit(images, steps=2, progress=True, **settings)
    shown = capsys.readouterr().err
    assert "blind-spot model: 100%" in shown
    assert "step 2, loss" in shown
    Denoiser.fit(images, steps=1, **settings)
    assert not capsys.readouterr().err


def test_a_model_is_loaded_without_training() -> None:
    code = (
        "import sys; from dbsn import Denoiser; Denoiser.load('gray', device='cpu');"
        "print(*(name for name in sys.modules if name.startswith(('dbsn.training', 'dbsn.evaluation', 'accelerate'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "\n"
