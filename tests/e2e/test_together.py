"""Several processes on one folder, and results whose names would clash."""

import csv
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dbsn.batch.claims import LOCKS, claimed

pytestmark = pytest.mark.slow
Command = Callable[..., object]


def save(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noisy = np.random.default_rng(seed).normal(120, 20, (40, 48)).clip(0, 255).astype(np.uint8)
    Image.fromarray(noisy).save(path)


def test_a_result_is_claimed_by_one_process_until_it_is_done_or_dead(tmp_path: Path) -> None:
    result, ready = tmp_path / "a" / "x.png", tmp_path / "ready"
    code = (
        "import sys, time; from pathlib import Path; from dbsn.batch.claims import claimed\n"
        "folder, result, ready = map(Path, sys.argv[1:])\n"
        "with claimed(folder, result, waits=False) as is_ours:\n"
        "    ready.write_text(str(is_ours)); time.sleep(60)\n"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(tmp_path), str(result), str(ready)])
    try:
        while not ready.exists() or not ready.read_text():
            time.sleep(0.01)
        assert ready.read_text() == "True"
        with claimed(tmp_path, result, waits=False) as is_ours:
            assert not is_ours
        with claimed(tmp_path, tmp_path / "a" / "y.png", waits=False) as is_ours:
            assert is_ours, "another result"
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()
    with claimed(tmp_path, result, waits=True) as is_ours:
        assert is_ours
    assert not (tmp_path / LOCKS).exists()


def test_a_lock_whose_file_was_removed_is_no_claim(tmp_path: Path) -> None:
    """The one who waited has the claim, not also the next one, for whom the file is a new one."""
    result, leave, done = tmp_path / "x.png", threading.Event(), threading.Event()
    holds = list[bool]()

    def second() -> None:
        with claimed(tmp_path, result, waits=True) as is_ours:
            holds.append(is_ours)
            leave.wait(30)
        done.set()

    with claimed(tmp_path, result, waits=False) as is_ours:
        assert is_ours
        waiting = threading.Thread(target=second)
        waiting.start()
        time.sleep(0.5)
        assert not holds
    while not holds:
        time.sleep(0.01)
    with claimed(tmp_path, result, waits=False) as is_ours:
        assert not is_ours
    leave.set()
    assert done.wait(30)
    waiting.join()
    assert not (tmp_path / LOCKS).exists()


def test_two_commands_share_a_folder_and_make_each_result_once(tmp_path: Path) -> None:
    for number in range(6):
        save(tmp_path / "in" / f"{number}.png", number)
    command = [sys.executable, "-m", "dbsn", "denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", "gray"]
    quick = os.environ | {"OMP_NUM_THREADS": "1"}
    both = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=quick) for _ in range(2)]
    for process in both:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said
    with (tmp_path / "out" / "denoise.csv").open(newline="") as file:
        done = Counter(row["file"] for row in csv.DictReader(file) if row["status"] == "done")
    assert done == {f"{number}.png": 1 for number in range(6)}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        *(f"{n}.png" for n in range(6)),
        "denoise.csv",
    ]
    for number in range(6):
        assert np.asarray(Image.open(tmp_path / "out" / f"{number}.png")).std() < 15


def test_shards_make_each_result_once_even_if_one_is_killed_and_started_again(tmp_path: Path) -> None:
    for number in range(7):
        save(tmp_path / "in" / f"{number}.png", number)
    (tmp_path / "in" / "notes.txt").touch()
    quick = os.environ | {"OMP_NUM_THREADS": "1"}

    def start(shard: int) -> subprocess.Popen[str]:
        typed = ["denoise", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "-m", "gray", "--shard", f"{shard}/3"]
        return subprocess.Popen([sys.executable, "-m", "dbsn", *typed], stderr=subprocess.PIPE, text=True, env=quick)

    shards = [start(number) for number in (1, 2, 3)]
    time.sleep(1)
    shards[1].kill()
    shards[1].communicate()
    shards[1] = start(2)
    said = [process.communicate(timeout=300)[1] for process in shards]
    assert [process.returncode for process in shards] == [0, 0, 0], said
    assert ["notes.txt" in each for each in said] == [True, False, False]
    with (tmp_path / "out" / "denoise.csv").open(newline="") as file:
        done = Counter(row["file"] for row in csv.DictReader(file) if row["status"] == "done")
    assert done == {f"{number}.png": 1 for number in range(7)}
    left = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert left == [*(f"{n}.png" for n in range(7)), "denoise.csv"]


@pytest.mark.parametrize(
    ("shard", "message"),
    [
        ("0/3", "expected a part from 1/3 to 3/3"), ("4/3", "expected a part from 1/3"), ("2", "expected K/N"),
        ("a/b", "expected K/N"), ("-1/3", "expected K/N"),
    ],
)  # fmt: skip
def test_a_shard_that_cannot_be_is_refused(tmp_path: Path, dbsn_command, shard: str, message: str) -> None:
    save(tmp_path / "a.png")
    done = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / "out", f"--shard={shard}")
    assert done.returncode == 2
    assert f"--shard: got {shard}, {message}" in done.stderr


def test_results_of_one_name_are_told_apart(tmp_path: Path, dbsn_command) -> None:
    for number, name in enumerate(("x/a.png", "y/a.png", "y/b.png")):
        save(tmp_path / name, number)
    done = dbsn_command("denoise", tmp_path / "x", tmp_path / "y", "-o", tmp_path / "out", "-m", "gray", "--save-std")
    assert done.returncode == 0, done.stderr
    made = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*"))
    assert made == ["b.png", "b_std.tif", "denoise.csv", "x/a.png", "x/a_std.tif", "y/a.png", "y/a_std.tif"]
    alone = dbsn_command("denoise", tmp_path / "y" / "a.png", "-o", tmp_path / "alone.png", "-m", "gray")
    assert alone.returncode == 0
    results = [np.asarray(Image.open(tmp_path / name)) for name in ("out/y/a.png", "alone.png")]
    assert np.array_equal(*results)


def test_other_settings_make_own_results_again_and_refuse_what_was_edited(tmp_path: Path, dbsn_command) -> None:
    for name in ("a.png", "b.png", "c.png"):
        save(tmp_path / "in" / name, 1)
    (tmp_path / "out").mkdir()
    save(tmp_path / "out" / "c.png", 5)
    foreign = (tmp_path / "out" / "c.png").read_bytes()

    def denoise(strength: float) -> object:
        flags = ("-m", "gray", "--strength", strength)
        return dbsn_command("denoise", tmp_path / "in", "-o", tmp_path / "out", *flags)

    first = denoise(1.0)
    assert first.returncode == 1
    assert "c.png: exists already and is not in denoise.csv" in first.stderr
    before = (tmp_path / "out" / "a.png").read_bytes()
    save(tmp_path / "out" / "b.png", 7)
    edited = (tmp_path / "out" / "b.png").read_bytes()
    again = denoise(0.5)
    assert again.returncode == 1
    assert "b.png: was changed since dbsn made it. Add --overwrite" in again.stderr
    assert (tmp_path / "out" / "a.png").read_bytes() != before
    assert (tmp_path / "out" / "b.png").read_bytes() == edited
    assert (tmp_path / "out" / "c.png").read_bytes() == foreign


def test_files_that_are_no_images_are_counted_and_named(tmp_path: Path, dbsn_command) -> None:
    save(tmp_path / "in" / "a.png")
    for name in ("notes.txt", "sub/data.csv", ".hidden"):
        (tmp_path / "in" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "in" / name).touch()
    done = dbsn_command("denoise", tmp_path / "in", "-o", tmp_path / "in" / "out", "-m", "gray")
    assert done.returncode == 0
    assert "not read: 2 files of other kinds" in done.stderr
    assert "notes.txt" in done.stderr
    assert "denoise.csv" not in done.stderr
    again = dbsn_command("denoise", tmp_path / "in", "-o", tmp_path / "in" / "out", "-m", "gray", "--quiet")
    assert "not read" not in again.stderr


def test_a_model_without_a_noise_level_input_does_what_it_can(tmp_path: Path, dbsn_command) -> None:
    save(tmp_path / "a.png")
    flags = ("-m", "gray", "--method", "posterior", "--strength")
    for strength in ("1", "1.3"):
        done = dbsn_command("denoise", tmp_path / "a.png", "-o", tmp_path / f"{strength}.png", *flags, strength)
        assert done.returncode == 0, done.stderr
    assert "--strength 1.3 is used as 1, because this model has no noise-level input" in done.stderr
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "1.3.png").read_bytes()
