"""Errors speak of arguments to callers from Python, and of flags to those of the commands."""

import numpy as np
import pytest

from dbsn import Denoiser
from dbsn.errors import in_python, speaks_python

SAID = {
    "--tile -1: expected a side": "tile=-1: expected a side",
    "--steps: got 0, expected 1": "steps: got 0, expected 1",
    "--from runs/a.safetensors: no. Use --from scratch.": 'start="runs/a.safetensors": no. Use start="scratch".',
    'Use method="posterior" (--method posterior), or (--clean).': 'Use method="posterior", or (clean).',
    "--student.noisy-share: got 2": "distill.noisy_share: got 2",
    "got None, expected --minutes or --steps": "got None, expected minutes or steps",
    "Use 1 (--strength 1), or": "Use 1, or",
    "Try --stride 3, or more": "Try stride=3, or more",
    "Use --precision fp32 instead": 'Use precision="fp32" instead',
    "Continue from the last checkpoint with --resume and a lower --learning-rate.": (
        "Train again with a lower learning_rate."
    ),
    "name it with -m.": "name it with model.",
    "a-b -- c, x-m": "a-b -- c, x-m",
}


@pytest.mark.parametrize("flags", SAID)
def test_flags_become_arguments(flags: str) -> None:
    assert in_python(flags) == SAID[flags]


def test_other_errors_and_results_pass() -> None:
    assert speaks_python(lambda: 3)() == 3
    with pytest.raises(OSError, match="no space") as left:
        speaks_python(_open_nothing)()
    assert left.value.errno == 28


def _open_nothing() -> None:
    raise OSError(28, "no space --left")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"steps": 0}, "steps: got 0"),
        ({"steps": 1, "learning_rate": -1.0}, "learning_rate: got -1"),
        ({"steps": 1, "start": "photo"}, 'start="photo": .* start="scratch"'),
        ({"steps": 1, "clean": []}, "clean: got no image"),
    ],
)
def test_fit_speaks_python(settings: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=f"^{said}") as refused:
        Denoiser.fit([np.zeros((32, 32))], device="cpu", **settings)
    assert "--" not in str(refused.value)


def test_load_and_denoise_speak_python() -> None:
    with pytest.raises(ValueError, match=r"^tile=-1: "):
        Denoiser.load("gray", device="cpu").denoise(np.zeros((8, 8)), tile=-1)
    with pytest.raises(ValueError, match=r'^device="abacus": '):
        Denoiser.load("gray", device="abacus")
