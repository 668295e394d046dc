"""Stage 2 as it goes on: when the noise is corrected, what a longer budget changes, what is learned."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from taught import CLEAN, calibrated, known, known_exactly, pairs_of
from torch import Tensor
from torch.nn import functional

import dbsn.training.distill
import dbsn.training.loop
import dbsn.training.teacher
from dbsn.config import STUDENTS, DistillConfig
from dbsn.likelihood import spread_nll
from dbsn.models.student import Student
from dbsn.networks.uncertainty import Uncertainty
from dbsn.noise.learned import NoiseModel
from dbsn.store.model_file import load_model
from dbsn.training.checkpoint import CHECKPOINT, TrainingState
from dbsn.training.distill import REFINED, StageTwo, distil
from dbsn.training.held_out import HeldOut
from dbsn.training.loop import Progress, TrainingContext
from dbsn.training.teacher import TeacherResults, keep_refined

pytestmark = pytest.mark.slow


def second(config: DistillConfig) -> StageTwo:
    return StageTwo(images=CLEAN, network=STUDENTS["unet-tiny"], config=config)


@pytest.mark.parametrize("interrupted", [False, True])
def test_on_the_way_the_noise_is_corrected_and_the_best_student_sought_anew(
    interrupted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = DistillConfig(steps=20, batch=2, patch=32, validations=10, noisy_share=0.0, jitter=0.0)
    network, corrections = STUDENTS["unet-tiny"], list[Student]()

    def corrected(noise: NoiseModel, student: Student, *_: object, **__: object) -> NoiseModel:
        corrections.append(student)
        return calibrated(noise, 0.3)

    def figure(self: HeldOut, _: Student) -> float:
        levels.append(float(self.synthetic[0].noise_var.sqrt()))
        return float(len(levels))  # the first is the best, and after the correction the first again

    levels: list[float] = []
    monkeypatch.setattr(dbsn.training.teacher, "refined", corrected)
    monkeypatch.setattr(HeldOut, "__call__", figure)

    def trained(*, resume: bool = False) -> Iterator[Progress]:
        clean = [CLEAN[0], CLEAN[0]]
        context = TrainingContext(run=tmp_path, resume=resume, device="cpu")
        return distil(known_exactly(), StageTwo(images=clean, network=network, config=config), context)

    progress = list(islice(trained(), 11)) if interrupted else list(trained())
    if interrupted:
        progress += list(trained(resume=True))
    assert len(corrections) == 1
    remarks = {update.step: update.remark for update in progress if update.remark}
    assert list(remarks) == [7]
    assert remarks[7].startswith("corrected by the student: noise 7")
    assert next(update.step for update in progress if update.saved) == 2
    assert [update.step for update in progress if update.saved][1:] == [8]
    assert len(levels) == 10
    assert np.allclose(levels[:3], 0.05, rtol=0.15)
    assert np.allclose(levels[3:], 0.3, rtol=0.1)
    saved = load_model(tmp_path / "model.safetensors")
    assert saved.noise is not None
    assert saved.noise.levels() == pytest.approx([0.3] * 3, rel=0.1)
    assert saved.about["step"] == 8


def test_who_is_interrupted_where_the_noise_would_be_corrected_does_not_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At that very step, that is; it is corrected when the run is resumed."""

    @contextmanager
    def at_step_six() -> Iterator[Callable[[], bool]]:
        yield lambda: not (tmp_path / REFINED).exists() and len(done) >= 5

    config = DistillConfig(steps=20, batch=2, patch=32)
    done: list[Progress] = []

    def go(*, resume: bool) -> None:
        context = TrainingContext(run=tmp_path, resume=resume, device="cpu")
        for progress in distil(known_exactly(), second(config), context):
            done.append(progress)

    with monkeypatch.context() as patch:
        patch.setattr(dbsn.training.loop, "_interruption", at_step_six)
        go(resume=False)
    assert [progress.interrupted for progress in done] == [False] * 5 + [True]
    assert not (tmp_path / REFINED).exists()
    go(resume=True)
    assert [progress.step for progress in done] == list(range(1, 21))
    assert (tmp_path / REFINED).exists()


def test_a_longer_budget_has_the_noise_corrected_again_unless_that_was_done_late_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until then the earlier correction holds."""
    corrected_after, levels = list[int](), list[float]()

    def keep(known: TeacherResults, student: Student, path: Path, when: TrainingState, **how: Any) -> None:
        corrected_after.append(when.step)
        keep_refined(known, student, path, when, **how)

    def corrected(noise: NoiseModel, *_: object, **__: object) -> NoiseModel:
        return calibrated(noise, 0.1 * (1 + len(corrected_after)))

    def figure(self: HeldOut, _: Student) -> float:
        levels.append(round(float(self.synthetic[0].noise_var.sqrt()), 1))
        return 1.0

    monkeypatch.setattr(dbsn.training.distill, "keep_refined", keep)
    monkeypatch.setattr(dbsn.training.teacher, "refined", corrected)
    monkeypatch.setattr(HeldOut, "__call__", figure)
    for steps, at, used in (
        (10, [3], [0.1, 0.2]),  # before and after
        (10, [3], []),
        (12, [3, 10], [0.3]),
        (30, [3, 10], [0.3]),
        (110, [3, 10, 33], [0.3, 0.4]),
    ):
        config = DistillConfig(steps=steps, batch=2, patch=32, validations=10)
        context = TrainingContext(run=tmp_path, resume=bool(corrected_after), device="cpu")
        levels.clear()
        list(distil(replace(known(), noise=calibrated(known().noise, 0.1)), second(config), context))
        assert corrected_after == at
        assert list(dict.fromkeys(levels)) == used
    assert TrainingState.of(tmp_path / CHECKPOINT).step == 110


@pytest.mark.parametrize(
    ("told", "change"), [(known_exactly(), {"noise": "awgn:25"}), (known(), {})], ids=["another noise", "tiny images"]
)
def test_noise_that_is_not_learned_under_or_cannot_be_corrected_is_not(
    told: TeacherResults, change: dict[str, Any], tmp_path: Path
) -> None:
    config = DistillConfig(steps=2, batch=2, patch=32, **change)
    list(distil(told, second(config), TrainingContext(run=tmp_path, device="cpu")))
    assert not (tmp_path / REFINED).exists()


def test_uncertainty_holds_at_levels_never_seen() -> None:
    torch.manual_seed(0)
    spread = Uncertainty(1)
    optimizer = torch.optim.Adam(spread.parameters(), 0.01)

    def smoothed(noisy: Tensor) -> Tensor:  # a denoiser that leaves a third of the noise
        return functional.avg_pool2d(noisy, 3, 1, 1, count_include_pad=False)

    for step in range(150):
        pairs = pairs_of([0.05, 0.3, 0.02, 0.05, 0.1], step)
        denoised = smoothed(pairs.noisy)
        optimizer.zero_grad()
        std, clean = spread(pairs.noisy, denoised), slice(pairs.first, None)
        missed = (denoised - pairs.target)[clean]
        spread_nll(missed, std[clean], pairs.error_unit[clean], pairs.valid[clean]).backward()
        optimizer.step()
    levels = [0.03, 0.1, 0.3]  # the last is three times as large as what was learned from
    pairs = pairs_of(levels, 1000)
    std = spread(pairs.noisy, smoothed(pairs.noisy))
    inner = std[..., 8:-8, 8:-8].mean((1, 2, 3))
    assert (3 * inner / torch.tensor(levels)).tolist() == pytest.approx([1] * 3, rel=0.25)
