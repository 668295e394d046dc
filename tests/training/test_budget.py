"""A budget means the same on every machine, and a training says what it takes and when it was too short."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dbsn.config import MODEL, TrainConfig
from dbsn.store.builtin import path_of
from dbsn.store.model_file import load_model
from dbsn.training import loop
from dbsn.training.checkpoint import TrainingState
from dbsn.training.run_config import RunConfig

TINY = (
    "--clean", "none", "--network", "grid-tiny", "--batch", 2, "--patch", 24, "--validations", 1, "--device", "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def noisy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small gray images with noise."""
    folder, random = tmp_path_factory.mktemp("noisy"), np.random.default_rng(0)
    for number in range(2):
        pixels = 128 + 50 * np.sin(np.arange(64) / 7 + number)[None] + 20 * random.standard_normal((64, 64))
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize(
    ("steps", "minutes", "share"),
    [(100, None, 0.5), (None, 2.0, 0.25), (100, 2.0, 0.5), (100, 0.625, 0.8), (1000, 2.0, 0.25)],
)
def test_whichever_of_steps_and_minutes_is_nearer_to_its_end_counts(
    steps: int | None, minutes: float | None, share: float
) -> None:
    assert TrainingState(step=50, seconds=30.0).share(TrainConfig(steps=steps, minutes=minutes)) == pytest.approx(share)


def test_a_run_from_before_minutes_were_a_limit_still_has_its_steps() -> None:
    asked = RunConfig(files=("a.png",), model=load_model(path_of("gray")).teacher.config, train=TrainConfig(steps=9))
    text = asked.to_json()
    assert RunConfig.from_json(text) == asked
    earlier = text.replace('"budget": "steps and minutes"', '"clean": []').replace('"minutes": null', '"minutes": 30.0')
    assert earlier.count('"minutes": 30.0') == 2
    assert RunConfig.from_json(earlier).train.minutes is None, "steps took the place of minutes"


@pytest.mark.slow
def test_the_screen_says_how_long_it_takes_and_that_it_was_too_short(
    noisy: Path, tmp_path: Path, dbsn_command: Callable[..., Any]
) -> None:
    done = dbsn_command("train", noisy, "-o", tmp_path / "run", "--from", "scratch", "--steps", 12, *TINY)
    assert done.returncode == 0, done.stderr
    assert "12 steps take about 0." in done.stderr
    assert "12 steps are too few to learn from random weights" in done.stderr
    assert f"`dbsn train -o {tmp_path / 'run'} --resume --steps N`" in done.stderr
    done = dbsn_command("train", noisy, "-o", tmp_path / "timed", "--from", "scratch", "--minutes", 0.05, *TINY)
    assert done.returncode == 0, done.stderr
    assert "of 4000 steps fit into 0.05 minutes" in done.stderr


def test_the_first_step_and_what_comes_before_it_are_not_counted_as_usual_steps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 100.0
    monkeypatch.setattr(loop.time, "monotonic", lambda: now)
    clock = loop._Clock(0.0)
    for seconds in (50.0, 2.0, 2.0, 2.0):
        now += seconds
        clock.step_done()
    assert clock.seconds_per_step == 2
    assert clock.seconds == 56
    said = TrainConfig(steps=300).duration(4, clock.seconds, clock.seconds_per_step)
    assert said == "300 steps take about 10.0 minutes on this machine."


@pytest.mark.slow
def test_a_resumed_training_remembers_what_it_began_with(
    noisy: Path, tmp_path: Path, dbsn_command: Callable[..., Any]
) -> None:
    """For stage 2, whose flags are others, and whose initial weights are not read again."""
    (tmp_path / "clean").mkdir()
    ramp = np.add.outer(np.arange(64), 2 * np.arange(64)).astype(np.uint8)
    Image.fromarray(ramp).save(tmp_path / "clean" / "ramp.png")
    flags = ("--clean", tmp_path / "clean", "--teacher", "gray", "--student.batch", 2, "--student.patch", 32)
    for start, too_few in (((), False), (("--student.network", "unet-tiny"), True)):
        run = tmp_path / ("random" if too_few else "builtin")
        budget = ("--student.steps", 2, "--device", "cpu")
        done = dbsn_command("train", noisy, "-o", run, *flags, *budget, *start)
        assert done.returncode == 0, done.stderr
        again = dbsn_command("train", "-o", run, "--resume", "--student.steps", 4, "--device", "cpu")
        assert again.returncode == 0, again.stderr
        for said in (done.stderr, again.stderr):
            assert ("too few to learn from random weights" in said) == too_few
            assert (f"`dbsn train -o {run} --resume --student.steps N`" in said) == too_few


@pytest.mark.slow
def test_a_training_that_spoils_its_initial_weights_keeps_them(
    noisy: Path, tmp_path: Path, dbsn_command: Callable[..., Any]
) -> None:
    flags = (
        "--clean", "none", "--steps", 1, "--batch", 1, "--patch", 24, "--learning-rate", 0.5, "--ema", 0, "--warmup", 0,
    )  # fmt: skip
    done = dbsn_command("train", noisy, "-o", tmp_path / "run", "--noise", "any", *flags, "--device", "cpu")
    assert done.returncode == 0, done.stderr
    assert "too few" not in done.stderr, "the weights are not random"
    name = "network.backbone.encoder.0.0.first.weight"
    ours, theirs = (load_model(file) for file in (tmp_path / "run" / MODEL, path_of("gray")))
    assert ours.about["step"] == 0
    assert (ours.teacher.state_dict()[name] == theirs.teacher.state_dict()[name]).all()
