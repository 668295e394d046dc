"""The training loop's promises: killed and resumed = uninterrupted; interrupted = usable; diverged = intact."""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

from dbsn.config import MODEL, NETWORKS, ModelConfig, TrainConfig
from dbsn.errors import TrainingDivergedError
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import load_tensors
from dbsn.training.checkpoint import CHECKPOINT
from dbsn.training.loop import Losses, Progress, Task, TrainingContext, train
from dbsn.training.patches import Batch
from dbsn.training.selfsupervised import learn, self_supervised_loss

pytestmark = pytest.mark.slow

Command = Callable[..., Any]
SETTINGS = (
    "--clean", "none", "--network", "grid-tiny", "--batch", "2", "--patch", "24", "--validations", "8", "--device",
    "cpu",
)  # fmt: skip


@pytest.fixture(scope="module")
def noisy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    generator = np.random.default_rng(0)
    for index in range(4):
        ramp = np.linspace(0, 1, 60, dtype=np.float32) * np.ones((50, 1), np.float32)
        tifffile.imwrite(folder / f"{index}.tif", ramp + generator.normal(0, 0.1, ramp.shape).astype(np.float32))
    return folder


def training(run: Path, *more: str, output: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "dbsn", "train", *more, "-o", str(run)]
    return subprocess.Popen(command, stdout=output, stderr=output)


def written(path: Path) -> int:
    """When a file was written last; 0: never."""
    return path.stat().st_mtime_ns if path.exists() else 0


def test_a_second_training_in_one_folder_is_refused_in_one_line_that_names_the_owner(
    noisy_folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    run = tmp_path / "run"
    process = training(run, str(noisy_folder), *SETTINGS, "--steps", "100000")
    try:
        while not (run / "checkpoint.safetensors").exists():
            assert process.poll() is None
            time.sleep(0.05)
        for arguments in (("--resume",), (noisy_folder, *SETTINGS)):
            refused = dbsn_command("train", *arguments, "-o", run)
            assert refused.returncode == 2
        resumed = dbsn_command("train", "--resume", "-o", run)
        assert f"{run}: is being trained by process {process.pid} on " in resumed.stderr
        assert len(resumed.stderr.splitlines()) == 1
    finally:
        process.kill()
        process.communicate()
    again = dbsn_command("train", "--resume", "-o", run, "--minutes", "0.01")
    assert again.returncode == 0, again.stderr
    assert not list(run.glob(".owner*"))


def test_killed_at_random_moments_and_resumed_it_ends_with_identical_weights(
    noisy_folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    start = (str(noisy_folder), *SETTINGS, "--steps", "160")
    whole = dbsn_command("train", *start, "-o", tmp_path / "whole")
    assert whole.returncode == 0, whole.stderr
    moments = random.Random(0)
    run, kills = tmp_path / "killed", 0
    for _ in range(40):
        before = written(run / CHECKPOINT)
        process = training(run, *(("--resume",) if (run / "config.json").exists() else start))
        if kills < 2:  # the first process, and one that goes on, each while it learns
            began = time.monotonic()
            while written(run / CHECKPOINT) == before and process.poll() is None and time.monotonic() - began < 60:
                time.sleep(0.01)
            time.sleep(moments.uniform(0, 0.3))
            if process.poll() is None:
                os.kill(process.pid, signal.SIGKILL)
                kills += 1
        if process.wait(300) == 0:
            break
    assert kills >= 1
    for name in (CHECKPOINT, MODEL):
        ours, theirs = (load_tensors(tmp_path / which / name)[0] for which in ("killed", "whole"))
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(ours[key], theirs[key]) for key in ours), name
    steps = [line.split(",")[0] for line in (run / "metrics.csv").read_text().splitlines()[1:]]
    assert steps == sorted(set(steps), key=int), "each step is recorded once"


def test_ctrl_c_stops_after_the_step_and_leaves_a_model_that_resumes(noisy_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    process = training(run, str(noisy_folder), *SETTINGS, "--steps", "100000", output=subprocess.PIPE)
    while not (run / "metrics.csv").exists():
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert b"--resume" in err
    assert b"Traceback" not in err
    assert b"Warning" not in err
    assert out == f"model: {run / MODEL}\n".encode(), "results alone"
    saved = load_model(run / MODEL)
    about = saved.about
    assert about["step"] > 0
    assert saved.model.config.channels == 1
    stopped_at = load_tensors(run / CHECKPOINT)[1]["state"]["step"]
    assert stopped_at >= about["step"]


def test_a_run_that_learns_from_the_truth_goes_on_with_it_and_not_without(
    noisy_folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    run, other, truth = tmp_path / "run", tmp_path / "other", tmp_path / "truth"
    shutil.copytree(noisy_folder, truth)
    start = (str(noisy_folder), "--truth", str(truth), *SETTINGS, "--steps", "4")
    assert dbsn_command("train", *start, "-o", run).returncode == 0
    shutil.copytree(run, other)
    assert dbsn_command("train", "--resume", "--steps", "8", "-o", run).returncode == 0
    assert load_model(run / MODEL).about["train"]["steps"] == 8
    assert load_model(run / MODEL).about["truth images"] == 4
    for path in truth.iterdir():
        tifffile.imwrite(path, tifffile.imread(path) + np.float32(0.05))
    assert dbsn_command("train", "--resume", "--steps", "8", "-o", other).returncode == 0
    with_one, with_another = (load_tensors(folder / CHECKPOINT)[0] for folder in (run, other))
    means = [name for name in with_one if name.startswith("model/network.to_mean")]
    assert not all(torch.equal(with_one[name], with_another[name]) for name in means)
    (truth / "0.tif").unlink()
    refused = dbsn_command("train", "--resume", "--steps", "12", "-o", run)
    assert "0.tif" in refused.stderr
    assert refused.returncode == 2


def test_a_run_goes_on_with_the_axes_it_was_given(tmp_path: Path, dbsn_command: Command) -> None:
    run, source = tmp_path / "run", tmp_path / "depth_last.zarr"
    array = np.random.default_rng(0).random((40, 40, 3), np.float32)  # without axes, a colour image
    zarr.create_array(source, shape=array.shape, dtype=array.dtype)[:] = array
    assert dbsn_command("train", source, "--axes", "YXZ", *SETTINGS, "--steps", "2", "-o", run).returncode == 0
    assert load_model(run / MODEL).teacher.config.channels == 1
    assert load_model(run / MODEL).about["images"] == 3
    assert "axes cannot change" in dbsn_command("train", "--resume", "--axes", "YX", "-o", run).stderr
    assert dbsn_command("train", "--resume", "--steps", "4", "-o", run).returncode == 0
    assert load_model(run / MODEL).about["images"] == 3


def images() -> list[np.ndarray]:
    return [np.random.default_rng(i).random((40, 40, 1), np.float32) for i in range(3)]


def test_a_loss_that_is_not_finite_stops_with_step_cause_and_remedy_and_the_checkpoint_intact(tmp_path: Path) -> None:
    config = TrainConfig(steps=40, batch=2, patch=24, validations=20, precision="fp32")
    model = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
    usual, calls = self_supervised_loss(config), 0

    def breaks_down(network: BlindSpotModel, batch: Batch, share: float) -> Losses:
        nonlocal calls
        calls += 1
        losses = usual(network, batch, share)
        return losses if calls < 11 else Losses(terms=losses.terms | {"prediction": torch.tensor(torch.nan)}, shown={})

    noisy = torch.rand(2, 1, 24, 24)
    batch = Batch(noisy=noisy, measurement=model.measure(noisy), valid=torch.ones_like(noisy), phase=(0, 0), spacing=3)
    task = Task(
        model=model,
        groups=model.parameter_groups(),
        loss_of=breaks_down,
        batches=lambda step, rank: batch,
        validate=lambda average: 0.0,
        save=lambda average, story: save_model(tmp_path / MODEL, ModelFile(model=average)),
    )
    progress = train(task, config, TrainingContext(run=tmp_path, device="cpu"))
    with pytest.raises(
        TrainingDivergedError,
        match=r"step 10: the prediction is not finite \(got nan\)\. .* --resume and a lower --learning-rate",
    ):
        list(progress)
    tensors, header = load_tensors(tmp_path / CHECKPOINT)
    assert header["state"]["step"] == 10
    assert all(tensor.isfinite().all() for tensor in tensors.values())
    assert load_model(tmp_path / MODEL)


def test_the_best_validation_is_what_is_kept_and_the_learning_rate_follows_the_budget(tmp_path: Path) -> None:
    config = TrainConfig(steps=60, batch=2, patch=24, validations=6, warmup=0.1, learning_rate=1e-3)
    model = ModelConfig(network=NETWORKS["grid-tiny"])
    progress = list(learn(images(), model, config, TrainingContext(run=tmp_path, device="cpu")))
    figures = {step.step: step.validation for step in progress if step.validation is not None}
    assert len(figures) == 6
    assert load_model(tmp_path / MODEL).about["step"] == min(figures, key=lambda step: figures[step] or 0.0)
    rates = [step.learning_rate for step in progress]
    assert max(rates) == pytest.approx(1e-3, rel=0.05)
    assert rates.index(max(rates)) == 6
    assert rates[-1] < 3e-5
    assert [step.share for step in progress][-1] == 1.0


def test_a_longer_budget_is_validated_all_along_what_is_left_of_it(tmp_path: Path) -> None:
    config, model = TrainConfig(steps=20, batch=2, patch=24, validations=5), ModelConfig(network=NETWORKS["grid-tiny"])
    list(learn(images(), model, config, TrainingContext(run=tmp_path, device="cpu")))
    resumed = TrainingContext(run=tmp_path, resume=True, device="cpu")
    progress = list(learn(images(), model, replace(config, steps=50), resumed))
    assert [step.step for step in progress if step.validation is not None] == [30, 40, 50]


def test_a_budget_in_minutes_ends_in_time(tmp_path: Path) -> None:
    config = TrainConfig(minutes=0.05, batch=2, patch=24, validations=2)
    began = time.monotonic()
    progress = list(
        learn(images(), ModelConfig(network=NETWORKS["grid-tiny"]), config, TrainingContext(run=tmp_path, device="cpu"))
    )
    assert time.monotonic() - began < 15
    assert progress[-1].share == 1.0
    assert progress[-1].validation is not None
    assert (tmp_path / MODEL).exists()


USUAL: dict[str, Any] = {
    "steps": 12, "batch": 2, "patch": 24, "validations": 1, "staged": 0.2, "precision": "fp32"
}  # fmt: skip


def learned(folder: Path, config: TrainConfig) -> dict[str, torch.Tensor]:
    """What a training in this folder ends with."""
    list(learn(images(), ModelConfig(network=NETWORKS["grid-tiny"]), config, TrainingContext(run=folder, device="cpu")))
    return load_tensors(folder / MODEL)[0]


@pytest.fixture(scope="module")
def usual(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    return learned(tmp_path_factory.mktemp("usual"), TrainConfig(**USUAL))


def test_the_same_settings_learn_the_same(usual: dict[str, torch.Tensor], tmp_path: Path) -> None:
    again = learned(tmp_path, TrainConfig(**USUAL))
    assert all(torch.equal(usual[key], again[key]) for key in usual)


@pytest.mark.parametrize("setting", [
    {"loss": "constrained"}, {"loss": "marginal"}, {"mean": "l2"}, {"mean": "likelihood"}, {"quantile": 0.3},
    {"staged": 1.0}, {"seed": 1}, {"learning_rate": 1e-2}, {"ema": 0.5}, {"patch": 36}, {"batch": 3}, {"clip": 1e-3},
    {"warmup": 0.5},
], ids=str)  # fmt: skip
def test_every_setting_changes_what_is_learned(
    setting: dict[str, Any], usual: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    other = learned(tmp_path, TrainConfig(**(USUAL | setting)))
    assert any(not torch.equal(usual[key], other[key]) for key in usual)


def test_the_run_folder_says_what_was_asked_and_how_it_went(
    noisy_folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    run = tmp_path / "run"
    done = dbsn_command("train", noisy_folder, *SETTINGS, "--steps", "20", "-o", run)
    assert done.returncode == 0, done.stderr
    asked = json.loads((run / "config.json").read_text())
    assert len(asked["files"]) == 4
    assert asked["train"]["steps"] == 20
    assert asked["model"]["network"]["kind"] == "grid"
    header = (run / "metrics.csv").read_text().splitlines()[0].split(",")
    assert header[:3] == ["step", "seconds", "loss"]
    assert {"mean", "noise", "prediction", "noise_std", "learning_rate", "validation"} <= set(header)
    assert (run / "preview.png").stat().st_size > 1000
    assert "held-out" in done.stderr
    assert re.search(r"noise [\d.]+ -> [\d.]+ of 255", done.stderr), "the noise found, and what is left of it"
    assert "\x1b[" not in done.stderr, "no control characters where there is no terminal"
    # a run that an earlier version began, which kept fewer figures
    rows = [line.split(",") for line in (run / "metrics.csv").read_text().splitlines()]
    without = rows[0].index("denoised_std")
    (run / "metrics.csv").write_text("\n".join(",".join(row[:without] + row[without + 1 :]) for row in rows) + "\n")
    assert dbsn_command("train", "--resume", "--steps", "24", "-o", run).returncode == 0
    with open(run / "metrics.csv", newline="") as file:
        figures = [(int(row["step"]), row["denoised_std"]) for row in csv.DictReader(file)]
    assert [bool(figure) for step, figure in figures if step in (20, 24)] == [False, True]


def test_a_run_can_be_resumed_with_a_longer_budget_and_a_lower_rate_but_nothing_else(
    noisy_folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    run = tmp_path / "run"
    assert dbsn_command("train", noisy_folder, *SETTINGS, "--steps", "6", "-o", run).returncode == 0
    again = dbsn_command("train", noisy_folder, *SETTINGS, "--steps", "6", "-o", run)
    assert again.returncode == 2
    assert "Use --resume to continue it" in again.stderr
    longer = dbsn_command("train", "--resume", "-o", run, "--steps", "9", "--learning-rate", "1e-4")
    assert longer.returncode == 0, longer.stderr
    assert load_tensors(run / CHECKPOINT)[1]["state"]["step"] == 9
    asked = json.loads((run / "config.json").read_text())["train"]
    assert (asked["steps"], asked["learning_rate"], asked["batch"]) == (9, 1e-4, 2)
    same = dbsn_command("train", noisy_folder, "--resume", "-o", run)
    assert same.returncode == 0, same.stderr
    other = tmp_path / "other.tif"
    shutil.copy(next(noisy_folder.iterdir()), other)
    for flags in (("--patch", "36"), ("--network", "dbsn-tiny"), (str(other),)):
        refused = dbsn_command("train", "--resume", "-o", run, *flags)
        assert refused.returncode == 2
        assert "cannot change in the middle" in refused.stderr
    finished = dbsn_command("train", "--resume", "-o", run)
    assert finished.returncode == 0
    assert "the training is finished" in finished.stderr


def test_two_processes_train_one_model_together(noisy_folder: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29617"]
    arguments = ["-m", "dbsn", "train", str(noisy_folder), *SETTINGS, "--steps", "6", "-o", str(run)]
    done = subprocess.run([*launcher, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("model:") == 1, "one process speaks"
    assert load_tensors(run / CHECKPOINT)[1]["state"]["step"] == 6
    assert load_model(run / MODEL)


def test_a_device_that_is_not_there_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    absent = "mps" if not torch.backends.mps.is_available() else "cuda"
    config = TrainConfig(steps=1)
    with pytest.raises(ValueError, match=f"--device {absent}: not available here \\(expected one of"):
        list(learn(images(), ModelConfig(), config, TrainingContext(run=tmp_path, device=absent)))


def test_what_begins_to_learn_later_begins_gently(tmp_path: Path) -> None:
    config = TrainConfig(steps=200, batch=2, patch=24, validations=1, warmup=0.0, learning_rate=1e-3)
    model = nn.Linear(1, 1, bias=False)
    start, places = model.weight.detach().clone(), list[float]()

    def falls_from_half(network: nn.Module, batch: Batch, share: float) -> Losses:
        places.append((model.weight - start).item())
        return Losses(terms={"slope": model.weight.sum() * (1.0 if share >= 0.5 else 0.0)}, shown={})

    noisy = torch.zeros(1, 1, 4, 4)
    batch = Batch(noisy=noisy, measurement=noisy, valid=noisy, phase=(0, 0), spacing=1)
    groups = [{"params": list(model.parameters()), "pace": 2.0, "waits": 0.5}]
    task = Task(
        model=model,
        groups=groups,
        loss_of=falls_from_half,
        batches=lambda step, rank: batch,
        validate=lambda average: 0.0,
        save=lambda average, story: None,
    )
    list(train(task, config, TrainingContext(run=tmp_path, device="cpu")))
    assert places[100] == 0
    at_full_rate = 0.5 * 20 * 2e-3  # half a cosine down, twenty steps at their pace
    assert 0.05 * at_full_rate < -places[120] < 0.5 * at_full_rate


def rising(
    run: Path, validate: Callable[[nn.Linear], float], initial_weights: float | None = None, *, resume: bool = False
) -> tuple[Iterator[Progress], list[tuple[float, dict[str, Any]]]]:
    """A training of one weight that begins at 0 and is told to rise, and the weights that it has kept, with stories."""
    model, kept = nn.Linear(1, 1, bias=False), list[tuple[float, dict[str, Any]]]()
    model.weight.data.fill_(0)
    noisy = torch.zeros(1, 1, 4, 4)
    batch = Batch(noisy=noisy, measurement=noisy, valid=noisy, phase=(0, 0), spacing=1)
    task = Task(
        model=model,
        groups=[{"params": list(model.parameters()), "pace": 1.0}],
        loss_of=lambda network, batch, share: Losses(terms={"slope": -model.weight.sum()}, shown={}),
        batches=lambda step, rank: batch,
        validate=validate,
        save=lambda average, story: kept.append((average.weight.item(), story)),
        initial_weights={} if initial_weights is None else {"weight": torch.tensor([[initial_weights]])},
    )
    config = TrainConfig(steps=100, batch=2, patch=24, validations=4, learning_rate=1e-3)
    return train(task, config, TrainingContext(run=run, resume=resume, device="cpu")), kept


@pytest.mark.parametrize("wanted", [-1.0, 1.0])
def test_at_the_end_the_middle_between_begin_and_end_is_kept_if_it_is_better(wanted: float, tmp_path: Path) -> None:
    progress, plain = rising(tmp_path, lambda average: -average.weight.item())
    list(progress)
    assert len(plain) == 4
    progress, kept = rising(tmp_path, lambda average: abs(average.weight.item() - wanted), initial_weights=-1.0)
    list(progress)
    end = plain[-1][0]
    assert kept[-1][0] == pytest.approx((end - 1) / 2 if wanted < 0 else end, rel=1e-4)
    assert kept[-1][1].get("halfway", False) is (wanted < 0)


def test_a_run_that_goes_on_still_knows_what_it_began_with(tmp_path: Path) -> None:
    seen = list[float]()

    def validate(average: nn.Linear) -> float:
        seen.append(average.weight.item())
        return 0.0

    list(islice(rising(tmp_path, validate, initial_weights=-1.0)[0], 60))
    assert len(seen) == 2
    list(rising(tmp_path, validate, resume=True)[0])
    assert len(seen) == 5
    assert seen[-1] == pytest.approx((seen[-2] - 1) / 2, rel=1e-4)


def test_a_run_that_is_interrupted_does_not_try_the_middle(tmp_path: Path) -> None:
    seen = list[float]()

    def validate(average: nn.Linear) -> float:
        seen.append(average.weight.item())
        return 0.0

    for progress in rising(tmp_path, validate, initial_weights=-1.0)[0]:
        if progress.step == 59:
            signal.raise_signal(signal.SIGINT)
    assert progress.step == 60
    assert len(seen) == 3


def test_a_blind_spot_models_checkpoint_knows_the_network_that_it_began_with(tmp_path: Path) -> None:
    config = TrainConfig(steps=4, batch=2, patch=24, validations=1, learning_rate=1e-9)
    begun = BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"]))
    list(learn(images(), begun.config, config, TrainingContext(run=tmp_path, device="cpu"), init_from=begun))
    tensors, _ = load_tensors(tmp_path / CHECKPOINT)
    known = {name.removeprefix("begun with/"): part for name, part in tensors.items() if name.startswith("begun with/")}
    assert known.keys() == {f"network.{name}" for name, _ in begun.network.named_parameters()}
    assert all(torch.equal(weight, begun.get_parameter(name)) for name, weight in known.items())
