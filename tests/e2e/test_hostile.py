"""What a person sees of files from a stranger, of signals and of full disks: one line, and what was done is kept."""

import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import save_file

from dbsn.config import STUDENTS, ModuleConfig, StudentConfig
from dbsn.models.student import Student
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import load_tensors, save_tensors

pytestmark = pytest.mark.slow
Command = Callable[..., Any]
DBSN = [sys.executable, "-m", "dbsn"]
NOISE = np.random.default_rng(0).integers(90, 160, (200, 240), np.uint8)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    save_model(tmp_path / "m.safetensors", ModelFile(student=Student(StudentConfig(network=STUDENTS["unet-tiny"]))))
    return tmp_path / "m.safetensors"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_a_model_file_runs_no_code_in_any_command(tmp_path: Path, image: Path, dbsn_command: Command) -> None:
    (tmp_path / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w').close()\n")
    path = tmp_path / "m.safetensors"
    config = StudentConfig(network=ModuleConfig(factory=f"{tmp_path / 'evil.py'}:make"))
    save_tensors(path, {}, {"student": config.to_dict()})
    for typed in (
        ("info", path),
        ("denoise", image, "-m", path, "-o", tmp_path / "out"),
        ("evaluate", "-m", path, "--clean", image, "--noise", "awgn:25"),
        ("train", image, "--from", path, "-o", tmp_path / "run"),
        ("train", image, "--clean", image, "--student.start", path, "-o", tmp_path / "run"),
    ):
        refused = dbsn_command(*typed)
        assert refused.returncode == 2, typed
        assert str(path) in refused.stderr.splitlines()[-1]
        assert "evil.py:make: is code, which a file alone does not import. Add --trust" in refused.stderr
        assert not (tmp_path / "ran").exists()
    assert dbsn_command("info", path, "--trust").returncode == 2
    assert (tmp_path / "ran").exists(), "with --trust it is imported"


def test_control_characters_of_a_file_are_escaped(model: Path, tmp_path: Path, dbsn_command: Command) -> None:
    evil = "\x1b]0;title\x07\x1b[2J\u202etxt\n\rdbsn: fine"
    tensors, header = load_tensors(model)
    copy = {name: tensor.clone() for name, tensor in tensors.items()}
    save_tensors(tmp_path / "b.safetensors", copy, header | {"about": {evil: evil}})
    shown = dbsn_command("info", tmp_path / "b.safetensors")
    assert shown.returncode == 0
    assert r"\x1b]0;title\x07\x1b[2J\u202etxt\n\rdbsn: fine" in shown.stdout
    save_file({"a": tensors["student/spread.factor"]}, tmp_path / "c.safetensors", {"format": evil})
    (tmp_path / "x\x1b[31m").mkdir()
    refused = [dbsn_command("info", tmp_path / "c.safetensors"), dbsn_command("denoise", tmp_path / "x\x1b[31m")]
    for done in (shown, *refused):
        assert not set(done.stdout + done.stderr) & set("\x1b\x07\r\u202e")
    assert [done.stderr.count("\n") for done in refused] == [1, 1]


def test_a_run_folder_of_a_stranger_is_refused_in_one_line(tmp_path: Path, image: Path, dbsn_command: Command) -> None:
    run = (
        "train", image, "-o", tmp_path / "run", "--clean", "none", "--network", "grid-tiny", "--steps", 1, "--batch", 1,
        "--patch", 24,
    )  # fmt: skip
    assert dbsn_command(*run, "--from", "scratch").returncode == 0
    config = tmp_path / "run" / "config.json"
    sound = json.loads(config.read_text())
    for wrong, said in (
        ({"train": sound["train"] | {"batch": 10**6, "patch": 10**4}}, "at most 67108864 pixels a step"),
        ({"train": sound["train"] | {"steps": "many"}}, "run.train.steps: wrong value"),
        ({"files": 5}, "run.files: wrong value"),
        ({"model": sound["model"] | {"channels": 10**9}}, "channels: got 1000000000, expected 1 to 4"),
        ({"student": "os:_exit"}, "--student.network os:_exit if it is yours"),
        ({"evil": 1}, "unknown 'evil'"),
    ):
        config.write_text(json.dumps(sound | wrong))
        refused = dbsn_command("train", "--resume", "-o", tmp_path / "run")
        assert refused.returncode == 2
        assert said in refused.stderr
        assert refused.stderr.count("\n") == 1
    for text in ("[" * 100_000, "null", "\x00", "[" * 900 + "]" * 900):
        config.write_text(text)
        refused = dbsn_command("train", "--resume", "-o", tmp_path / "run")
        assert f"{config}: cannot be read" in refused.stderr
        assert refused.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_at_any_moment_ends_in_one_line(tmp_path: Path, model: Path, image: Path, number: int) -> None:
    began = time.monotonic()
    whole = subprocess.run([*DBSN, "info", model], capture_output=True)
    seconds = time.monotonic() - began
    assert whole.returncode == 0
    ends = set()
    for share in (0.3, 0.6, 0.9):
        typed = [*DBSN, "denoise", image, "-m", model, "-o", tmp_path / "out", "--overwrite", "--ensemble"]
        process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(share * seconds)
        process.send_signal(number)
        _, said = process.communicate(timeout=60)
        is_early = process.returncode == -number and not said  # before Python runs any code of dbsn
        is_early |= number == signal.SIGINT and "KeyboardInterrupt" in said and "dbsn/cli" not in said
        is_stopped = process.returncode in (128 + number, -signal.SIGINT)  # the latter from within a library's exec
        assert is_early or process.returncode == 0 or (is_stopped and said == "dbsn: stopped\n"), said
        ends.add(said)
    assert "dbsn: stopped\n" in ends
    assert not list((tmp_path / "out").glob(".*")) or not (tmp_path / "out").exists()


def test_a_terminated_training_keeps_what_it_has_done(tmp_path: Path, image: Path) -> None:
    typed = [*DBSN, "train", image, "-o", tmp_path / "run", "--network", "grid-tiny", "--from", "scratch"]
    typed += ["--clean", "none", "--steps", "100000", "--batch", "1", "--patch", "24", "--validations", "1000"]
    process = subprocess.Popen(typed, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    for _ in range(600):
        if (tmp_path / "run" / "checkpoint.safetensors").exists():
            break
        time.sleep(0.1)
    process.terminate()
    _, said = process.communicate(timeout=60)
    assert "continues from here" in said
    assert "Traceback" not in said
    assert load_model(tmp_path / "run" / "model.safetensors").model


def test_a_limit_on_the_size_of_files_is_one_line_that_names_the_file(tmp_path: Path, model: Path) -> None:
    names = ["a.bmp", "a.jpg", "a.png", "a.tif"]
    (tmp_path / "in").mkdir()
    for name in names:
        Image.fromarray(NOISE).save(tmp_path / "in" / name)
    results, most = tmp_path / "out", 11_000
    whole = subprocess.run([*DBSN, "denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "whole"])
    assert whole.returncode == 0
    assert min((tmp_path / "whole" / name).stat().st_size for name in names) > most
    typed = [*DBSN, "denoise", tmp_path / "in", "-m", model, "-o", results]
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # noqa: E731
    done = subprocess.run(typed, capture_output=True, text=True, preexec_fn=limit)
    assert done.returncode == 1
    lines = [line for line in done.stderr.splitlines() if line.startswith("dbsn: ")]
    assert len(lines) == len(names)
    for line, name in zip(lines, names, strict=True):
        assert f"{results / name}: cannot be written (" in line
        assert line.endswith("Free space, or write elsewhere.")
    assert [path.name for path in results.iterdir()] == ["denoise.csv"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_behind_standard_output_is_one_line(model: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*DBSN, "info", model], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.stderr == "dbsn: standard output: cannot be written (No space left on device). Free space.\n"
    assert done.returncode == 2


def test_a_journal_that_is_no_file_or_no_table_is_refused(
    tmp_path: Path, model: Path, image: Path, dbsn_command: Command
) -> None:
    (tmp_path / "out").mkdir()
    typed = ("denoise", image, "-m", model, "-o", tmp_path / "out")
    os.mkfifo(tmp_path / "out" / "denoise.csv")
    assert "denoise.csv: not a regular file" in dbsn_command(*typed).stderr
    (tmp_path / "out" / "denoise.csv").unlink()
    (tmp_path / "out" / "denoise.csv").write_text('"' + "a" * 10**6)
    refused = dbsn_command(*typed)
    assert "denoise.csv: not a journal of dbsn" in refused.stderr
    assert refused.stderr.count("\n") == 1
