"""The whole paper from the shell and from Python: a noisy folder and unrelated clean images in, a fast denoiser out."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image as PillowImage
from scipy.ndimage import gaussian_filter

from dbsn import Denoiser
from dbsn.config import MODEL, DistillConfig
from dbsn.store.model_file import load_model
from dbsn.store.tensors import load_tensors, save_tensors
from dbsn.training.checkpoint import CHECKPOINT
from dbsn.training.distill import REFINED
from dbsn.training.stages import STUDENT
from dbsn.training.teacher import RESULTS

pytestmark = pytest.mark.slow

TINY = ("--network", "grid-tiny", "--batch", "2", "--patch", "24", "--device", "cpu")
ALONE = ("--clean", "none")
TINY_STUDENT = ("--student.network", "unet-tiny", "--student.batch", "4", "--student.patch", "32")
Command = Callable[..., Any]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Noisy 8-bit crops of one photograph, clean crops of another."""
    noisy, clean = (tmp_path_factory.mktemp(name) for name in ("noisy", "clean"))
    random = np.random.default_rng(0)
    for index in range(3):
        crop = skimage.data.camera()[60 * index : 60 * index + 100, 100:200]
        cut = np.rint((crop + random.normal(0, 20, crop.shape)).clip(0, 255)).astype(np.uint8)
        PillowImage.fromarray(cut).save(noisy / f"{index}.png")
        PillowImage.fromarray(skimage.data.astronaut()[:90, 80 * index : 80 * index + 90]).save(clean / f"{index}.png")
    return noisy, clean


@pytest.fixture(scope="module")
def run(folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, dbsn_command: Command) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    noisy, clean = folders
    arguments = (noisy, "--clean", clean, "-o", folder, *TINY, *TINY_STUDENT, "--steps", 8, "--student.steps", 8)
    done = dbsn_command("train", *arguments)
    assert done.returncode == 0, done.stderr
    told = ("of 255 over 3 images;", "rounded to steps of 1 of 255")
    for line in (
        "clean: 3 images",
        "hardly any noise yet",
        "Stage 1:",
        "The teacher denoises",
        *told,
        "Stage 2:",
        "Stein's",
        "corrected by the student: noise",
    ):
        assert line in done.stderr
    assert done.stdout == f"model: {folder / MODEL}\n", "results alone"
    return folder


def test_one_file_holds_student_teacher_and_noise_model(run: Path, dbsn_command: Command) -> None:
    saved = load_model(run / MODEL)
    assert saved.student is not None
    assert saved.noise is not None
    assert len(saved.noise.images) == 3
    assert saved.noise.recording.step == 1 / 255
    assert saved.about["teacher"]["train"]["steps"] == 8
    assert saved.about["distill"]["steps"] == 8
    said = dbsn_command("info", run / MODEL).stdout
    assert "gray blind-spot denoiser and its student" in said
    assert "rounded to steps of 1 of 255" in said
    facts = json.loads(dbsn_command("info", run / MODEL, "--json").stdout)
    assert facts["student"]["network"]["kind"] == "unet"
    assert (run / "preview.png").exists()
    assert (run / STUDENT / "metrics.csv").read_text().startswith("step,seconds,loss,noisy,synthetic")


def test_denoise_takes_the_student_unless_told_otherwise(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    results = {}
    for method in ("auto", "student", "posterior"):
        out = tmp_path / method
        flags = ("--method", method, "--tile", "64")
        done = dbsn_command("denoise", folders[0], "-m", run / MODEL, "-o", out, *flags)
        assert done.returncode == 0, done.stderr
        results[method] = np.asarray(PillowImage.open(out / "0.png"))
    assert np.array_equal(results["auto"], results["student"])
    assert not np.array_equal(results["posterior"], results["student"])
    stds = {}
    for method in ("student", "posterior"):
        flags = ("--method", method, "--tile", "64", "--save-std")
        done = dbsn_command("denoise", folders[0], "-m", run / MODEL, "-o", tmp_path / f"{method} std", *flags)
        assert done.returncode == 0, done.stderr
        stds[method] = tifffile.imread(tmp_path / f"{method} std" / "0_std.tif")
        assert np.array_equal(np.asarray(PillowImage.open(tmp_path / f"{method} std" / "0.png")), results[method])
    denoiser = Denoiser.load(run / MODEL, device="cpu")
    _, expected = denoiser.predict(np.asarray(PillowImage.open(folders[0] / "0.png")), return_std=True)
    np.testing.assert_allclose(stds["student"], 255 * expected, atol=3e-3)
    assert not np.allclose(stds["posterior"], 255 * expected, rtol=0.1)


@pytest.mark.parametrize("had_another", [False, True])
def test_a_student_from_before_there_was_an_uncertainty_says_so(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command, had_another: bool
) -> None:
    tensors, header = load_tensors(run / MODEL)
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith("student/spread")}
    if had_another:
        kept["student/spread.convolutions.0.weight"] = torch.zeros(16, 2, 3, 3)
    else:
        del header["student"]["uncertainty"]
    assert len(kept) < len(tensors)
    save_tensors(tmp_path / "old", kept, header)
    assert dbsn_command("denoise", folders[0], "-m", tmp_path / "old", "-o", tmp_path / "out").returncode == 0
    result = np.asarray(PillowImage.open(tmp_path / "out" / "0.png"))
    now = Denoiser.load(run / MODEL, device="cpu").denoise(np.asarray(PillowImage.open(folders[0] / "0.png")))
    np.testing.assert_array_equal(result, now)
    refused = dbsn_command("denoise", folders[0], "-m", tmp_path / "old", "-o", tmp_path / "x", "--save-std")
    assert refused.returncode == 2
    assert "--method posterior" in refused.stderr
    with pytest.raises(ValueError, match="uncertainty: this student has none"):
        Denoiser.load(tmp_path / "old", device="cpu").predict(result, return_std=True)


def test_correlated_noise_is_learned_at_a_stride_and_put_on_clean_images_as_it_is(
    folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    noise = 30 * gaussian_filter(np.random.default_rng(0).normal(size=(200, 200)), 1) / 0.28
    tifffile.imwrite(tmp_path / "noisy.tif", (skimage.data.camera()[:200, :200] + noise).astype(np.float32) / 255)
    flags = (*TINY, *TINY_STUDENT, "--steps", 20, "--student.steps", 3)
    done = dbsn_command("train", tmp_path / "noisy.tif", "--clean", folders[1], "-o", tmp_path / "run", *flags)
    assert done.returncode == 0, done.stderr
    assert "learning at a stride of" in done.stderr
    assert "stride       learned at" in dbsn_command("info", tmp_path / "run" / MODEL).stdout
    learned = load_model(tmp_path / "run" / MODEL).noise
    assert learned is not None
    clean = torch.full((1, 1, 300, 300), 0.5)
    drawn = learned.sample(clean, torch.Generator().manual_seed(0)) - clean
    assert float((drawn[..., 1:] * drawn[..., :-1]).mean() / drawn.square().mean()) == pytest.approx(0.78, abs=0.1)
    alone = dbsn_command(
        "train", tmp_path / "noisy.tif", "-o", tmp_path / "alone", *ALONE, *TINY, "--steps", 1, "--stride", 1
    )
    assert "learning at a stride" not in alone.stderr
    assert load_model(tmp_path / "alone" / MODEL).model.config.stride == 1


def test_a_model_without_student_says_so(tmp_path: Path, folders: tuple[Path, Path], dbsn_command: Command) -> None:
    trained = dbsn_command("train", folders[0], "-o", tmp_path / "run", *ALONE, *TINY, "--steps", 2)
    assert trained.returncode == 0, trained.stderr
    model = tmp_path / "run" / MODEL
    refused = dbsn_command("denoise", folders[0], "-m", model, "-o", tmp_path / "x", "--method", "student")
    assert refused.returncode == 2
    assert "has no student" in refused.stderr
    refused = dbsn_command("synthesize", folders[1], "-m", model, "-o", tmp_path / "pairs")
    assert refused.returncode == 2
    assert "holds no learned noise. To learn it: dbsn train NOISY --clean CLEAN" in refused.stderr


def test_evaluate_measures_either(run: Path, folders: tuple[Path, Path], dbsn_command: Command) -> None:
    pairs = ("-m", run / MODEL, "--clean", folders[1], "--gray", "--noise", "awgn:20", "--json")
    student = json.loads(dbsn_command("evaluate", *pairs).stdout)
    teacher = json.loads(dbsn_command("evaluate", *pairs, "--method", "posterior").stdout)
    assert (student["method"], teacher["method"]) == ("student", "posterior")
    assert student["psnr"] != teacher["psnr"]
    assert "mean_psnr" in teacher
    assert "mean_psnr" not in student


def test_synthesize_writes_pairs_in_the_inputs_format_or_as_floats(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    done = dbsn_command("synthesize", folders[1], "-m", run / MODEL, "-o", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    noisy, clean = (np.asarray(PillowImage.open(tmp_path / "a" / kind / "1.png")) for kind in ("noisy", "clean"))
    assert noisy.dtype == clean.dtype == np.uint8
    assert noisy.shape == clean.shape == (90, 90), "gray noise makes gray pairs"
    luma = skimage.data.astronaut()[:90, 80:170] @ [0.299, 0.587, 0.114]
    assert np.abs(clean - luma).max() <= 1
    assert 2 < (noisy.astype(float) - clean).std() < 60
    floats = ("synthesize", folders[1], "-m", run / MODEL, "--float-tiff", "-o")
    assert dbsn_command(*floats, tmp_path / "b").returncode == 0
    drawn = tifffile.imread(tmp_path / "b" / "noisy" / "1.tif")
    assert drawn.dtype == np.float32
    assert dbsn_command(*floats, tmp_path / "c", "--seed", 1).returncode == 0
    assert not np.array_equal(drawn, tifffile.imread(tmp_path / "c" / "noisy" / "1.tif"))


def test_synthesize_never_writes_over_an_input_or_an_earlier_result(
    run: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    (tmp_path / "clean").mkdir()
    PillowImage.fromarray(skimage.data.astronaut()[:40, :40]).save(tmp_path / "clean" / "a.png")
    before = (tmp_path / "clean" / "a.png").read_bytes()
    asked = ("synthesize", tmp_path / "clean", "-m", run / MODEL, "-o")
    refused = dbsn_command(*asked, tmp_path)
    assert refused.returncode == 2
    assert "is an input and would be replaced" in refused.stderr
    assert (tmp_path / "clean" / "a.png").read_bytes() == before
    assert dbsn_command(*asked, tmp_path / "pairs", "--float-tiff").returncode == 0
    again = dbsn_command(*asked, tmp_path / "pairs", "--float-tiff")
    assert again.returncode == 2
    assert "a.tif: exists already (2 files in all). Add --overwrite" in again.stderr
    assert dbsn_command(*asked, tmp_path / "pairs", "--float-tiff", "--overwrite").returncode == 0


def test_a_finished_run_keeps_its_student(run: Path, tmp_path: Path, dbsn_command: Command) -> None:
    run = Path(shutil.copytree(run, tmp_path / "run"))
    refused = dbsn_command("train", "--resume", "-o", run, "--steps", 20)
    assert refused.returncode == 2
    assert "stage 2 has begun" in refused.stderr
    assert load_model(run / MODEL).student is not None
    config = (run / "config.json").read_text()
    (run / "config.json").write_text(config.replace('"steps": 20', '"steps": 8'))
    longer = dbsn_command("train", "--resume", "-o", run, "--student.steps", 10)
    assert longer.returncode == 0, longer.stderr
    assert load_tensors(run / STUDENT / CHECKPOINT)[1]["state"]["step"] == 10


def test_what_is_wrong_with_stage_two_is_said_before_stage_one(
    folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    asked = ("train", folders[0], "--clean", folders[1], "-o", tmp_path / "x", *TINY, "--minutes", 60)
    for flags, message in (
        (("--student.network", "no_such.place:net"), "cannot be loaded"),
        (("--student.noise", "awgn:x"), "expected awgn:25"),
        (("--student.noise", "mg:30"), "got an image with 1, expected 3"),
    ):
        refused = dbsn_command(*asked, *flags)
        assert refused.returncode == 2, flags
        assert message in refused.stderr, flags
    for flags in (("--student.batch", 4), ("--teacher", "m.safetensors")):
        refused = dbsn_command("train", folders[0], "-o", tmp_path / "y", *ALONE, *TINY, *flags)
        assert refused.returncode == 2, flags
        assert "Omit --clean none." in refused.stderr


def stage_two(run: Path, folders: tuple[Path, Path]) -> tuple[object, ...]:
    """Flags for a second stage that is long enough to be killed in."""
    asked = (folders[0], "--clean", folders[1], "--teacher", run / MODEL, *TINY, *TINY_STUDENT)
    return (*asked, "--student.steps", 120, "--student.validations", 6, "--student.precision", "bf16")


@pytest.fixture(scope="module")
def whole(
    run: Path, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, dbsn_command: Command
) -> Path:
    """The run of `stage_two`, never killed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = dbsn_command("train", *stage_two(run, folders), "-o", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.parametrize("after", [CHECKPOINT, REFINED])
def test_killed_in_stage_two_and_resumed_it_ends_with_identical_weights(
    after: str, run: Path, whole: Path, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    def start(folder: Path, *flags: object) -> "subprocess.Popen[bytes]":
        command = [sys.executable, "-m", "dbsn", "train", *map(str, flags), "-o", str(folder)]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    killed = start(tmp_path / "killed", *stage_two(run, folders))
    began = time.monotonic()
    while not (tmp_path / "killed" / STUDENT / after).exists() and time.monotonic() - began < 100:
        time.sleep(0.01)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    assert load_tensors(tmp_path / "killed" / STUDENT / CHECKPOINT)[1]["state"]["step"] < 120
    assert start(tmp_path / "killed", "--resume").wait(300) == 0
    stories = [load_model(folder / MODEL).about for folder in (tmp_path / "killed", whole)]
    assert stories[0] == stories[1]
    assert stories[0]["teacher"]["train"]["steps"] == 8
    for name in (MODEL, f"{STUDENT}/{CHECKPOINT}"):
        ours, theirs = (load_tensors(folder / name)[0] for folder in (tmp_path / "killed", whole))
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs), name


def test_a_student_may_start_from_an_earlier_one(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    def trained(name: str, *flags: object) -> dict[str, torch.Tensor]:
        asked = (folders[0], "--clean", folders[1], "--teacher", run / MODEL, "-o", tmp_path / name, *TINY)
        done = dbsn_command("train", *asked, "--student.batch", 4, "--student.steps", 1, *flags)
        assert done.returncode == 0, done.stderr
        student = load_model(tmp_path / name / MODEL).student
        assert student is not None
        return student.state_dict()

    earlier = load_model(run / MODEL).student
    assert earlier is not None
    later = trained("from", "--student.network", "unet-tiny", "--student.start", run / MODEL)
    scratch = trained("scratch", "--student.network", "unet-tiny")
    name = "network.head.weight"
    distance = {key: float((weights[name] - earlier.state_dict()[name]).norm()) for key, weights in
                (("later", later), ("scratch", scratch))}  # fmt: skip
    assert distance["later"] < 0.1 * distance["scratch"]
    refused = dbsn_command(
        "train", folders[0], "--clean", folders[1], "--teacher", run / MODEL, "-o", tmp_path / "x", *TINY,
        "--student.network", "dncnn", "--student.start", run / MODEL,
    )  # fmt: skip
    assert refused.returncode == 2
    assert "expected DnCNNConfig" in refused.stderr


def test_what_the_teacher_has_said_of_the_same_images_serves_another_student(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    earlier = tmp_path / "earlier"
    shutil.copytree(run, earlier)
    tensors, header = load_tensors(earlier / RESULTS)
    recognisable = {name: part.fill_(0.125) if name.startswith("result/") else part for name, part in tensors.items()}
    save_tensors(earlier / RESULTS, recognisable, header)
    fewer = tmp_path / "fewer"
    fewer.mkdir()
    shutil.copy(folders[0] / "0.png", fewer)
    for noisy, is_same in ((folders[0], True), (fewer, False)):
        again = tmp_path / f"again{is_same}"
        asked = ("train", noisy, "--clean", folders[1], "--teacher", earlier / MODEL, "-o", again, *TINY, *TINY_STUDENT)
        done = dbsn_command(*asked, "--student.steps", 1)
        assert done.returncode == 0, done.stderr
        assert bool((load_tensors(again / RESULTS)[0]["result/0"] == 0.125).all()) == is_same


def test_the_uncertainty_alone_is_learned_for_an_earlier_student(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    asked = ("train", folders[0], "--clean", folders[1], *TINY, "--student.batch", 4, "--student.patch", 32)
    asked += ("--student.network", "unet-tiny", "--student.uncertainty-alone", "--steps", 2)
    refused = dbsn_command(*asked, "-o", tmp_path / "x", "--from", "scratch", "--student.steps", 3)
    assert refused.returncode == 2
    assert "needs a student. Name its model file with --student.start" in refused.stderr
    assert "step 1" not in refused.stderr, "before stage 1 has taken its time"
    dark = tmp_path / "dark"
    dark.mkdir()
    PillowImage.fromarray(np.asarray(PillowImage.open(folders[0] / "0.png")) // 2).save(dark / "0.png")
    asked = (asked[0], dark, *asked[2:])  # so that another teacher would show the student other numbers
    budget = ("--student.steps", 40, "--student.learning-rate", "2e-3", "--student.validations", 4)
    done = dbsn_command(*asked, "-o", tmp_path / "more", "--student.start", run / MODEL, *budget)
    assert done.returncode == 0, done.stderr
    assert "negative log-likelihood" in done.stderr
    assert "the most likely uncertainty" in done.stderr
    before, after = (load_model(folder / MODEL).student for folder in (run, tmp_path / "more"))
    assert before is not None
    assert after is not None
    noisy = torch.rand(1, 1, 40, 40)
    with torch.inference_mode():
        assert torch.equal(before(noisy), after(noisy))
    more = dbsn_command("train", "--resume", "-o", tmp_path / "more", "--student.steps", 44)
    assert more.returncode == 0, more.stderr
    resumed = load_model(tmp_path / "more" / MODEL).student
    assert resumed is not None
    with torch.inference_mode():
        assert torch.equal(before(noisy), resumed(noisy))
    assert before.spread is not None
    assert after.spread is not None
    assert not torch.equal(before.spread.convolutions[0].weight, after.spread.convolutions[0].weight)
    assert {float(each.spread.factor) for each in (before, after) if each.spread}.isdisjoint({1.0})


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_of_the_users_own_is_trained_and_used_by_the_path_of_its_file(
    channels: int,
    folders: tuple[Path, Path],
    tmp_path: Path,
    dbsn_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "own.py").write_text(
        "import torch\n\n\ndef blur(channels):\n"
        "    return torch.nn.Conv2d(channels, channels, 3, padding=1, padding_mode='replicate')\n"
    )
    noisy, clean = tmp_path / "noisy", folders[1]
    noisy.mkdir()
    random = np.random.default_rng(0)
    for index in range(2):
        shape = (37, 53) if channels == 1 else (37, 53, 3)
        PillowImage.fromarray(random.integers(0, 256, shape, np.uint8)).save(noisy / f"{index}.png")

    monkeypatch.chdir(tmp_path)
    own = ("--student.network", "elsewhere/own.py:blur", "--from", "scratch", "--student.batch", 4)
    budget = ("--steps", 2, "--student.steps", 2)
    trained = dbsn_command("train", noisy, "--clean", clean, "-o", "run", *TINY, *own, *budget)
    assert trained.returncode == 0, trained.stderr
    command = [
        sys.executable,
        "-m",
        "dbsn",
        "denoise",
        noisy / "0.png",
        "-m",
        f"run/{MODEL}",
        "-o",
        "out",
        "--method",
        "student",
    ]
    refused = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert refused.returncode == 2
    assert refused.stderr.count("\n") == 1
    assert "own.py:blur: is code, which a file alone does not import. Add --trust" in refused.stderr
    resumed = dbsn_command("train", "--resume", "-o", "run", "--student.steps", 3)
    assert "own.py:blur if it is yours" in resumed.stderr
    resumed = dbsn_command("train", "--resume", "-o", "run", "--student.steps", 3, *own[:2])
    assert resumed.returncode == 0, resumed.stderr
    command.append("--trust")
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)  # which has never seen the network
    assert done.returncode == 0, done.stderr
    before, after = (np.asarray(PillowImage.open(place / "0.png")) for place in (noisy, tmp_path / "out"))
    assert before.shape == after.shape
    student = load_model(tmp_path / "run" / MODEL, trust="elsewhere/own.py:blur").student
    assert student is not None
    with torch.inference_mode():
        image = torch.from_numpy(before.reshape(37, 53, channels) / np.float32(255)).permute(2, 0, 1)[None]
        expected = student(image)[0].permute(1, 2, 0).reshape(before.shape).numpy()
    assert np.abs(after - (255 * expected).clip(0, 255)).max() <= 1.5  # rounded, and perhaps convolved in bf16


def taught(
    command: Command, run: Path, folders: tuple[Path, Path], folder: Path, flags: tuple[str, ...] = ()
) -> torch.Tensor:
    """Weights of a student's head after three steps with these flags."""
    usual = {
        "--student.steps": "3", "--student.validations": "1", "--student.noisy-share": "0.25"
    } | dict(zip(flags[::2], flags[1::2], strict=True))  # fmt: skip
    asked = (folders[0], "--clean", folders[1], "--teacher", run / MODEL, "-o", folder, *TINY, *TINY_STUDENT)
    done = command("train", *asked, *(word for pair in usual.items() for word in pair))
    assert done.returncode == 0, done.stderr
    is_baseline = "--student.baseline" in flags
    assert ("Stein's" in done.stderr) != is_baseline, "what picks the best student is said as it is"
    results = [key for key in load_tensors(folder / RESULTS)[0] if key.startswith("result/")]
    assert len(results) == (1 if is_baseline else 3), "nobody teaches a baseline"
    return load_tensors(folder / MODEL)[0]["student/network.head.weight"]


@pytest.fixture(scope="module")
def usual(
    run: Path, folders: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory, dbsn_command: Command
) -> torch.Tensor:
    return taught(dbsn_command, run, folders, tmp_path_factory.mktemp("usual") / "run")


def test_the_same_settings_of_stage_two_learn_the_same(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command, usual: torch.Tensor
) -> None:
    assert torch.equal(usual, taught(dbsn_command, run, folders, tmp_path / "again"))


@pytest.mark.parametrize("flags", [
    ("--student.noisy-share", "0.5"), ("--student.noisy-weight", "5"), ("--student.jitter", "0.5"),
    ("--student.noise", "awgn:40"), ("--student.noise", "awgn:40", "--student.baseline", "n2c"),
    ("--student.noise", "awgn:40", "--student.baseline", "n2n"), ("--student.seed", "1"),
], ids=" ".join)  # fmt: skip
def test_every_setting_of_stage_two_changes_what_is_learned(
    run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command, usual: torch.Tensor,
    flags: tuple[str, ...],
) -> None:  # fmt: skip
    assert not torch.equal(usual, taught(dbsn_command, run, folders, tmp_path / "other", flags))
    knows = Denoiser.load(tmp_path / "other" / MODEL, device="cpu").student_knows_std
    assert knows == ("n2n" not in flags), "Noise2Noise never sees what its results are far from"


def test_mistakes_are_one_line(run: Path, folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command) -> None:
    asked = ("train", folders[0], "--clean", folders[1], "--teacher", run / MODEL, "-o", tmp_path / "x", *TINY)
    for flags, message in (
        (("--student.network", "resnet"), "one of unet"),
        (("--student.network", "no_such.place:net", "--student.steps", 1), "cannot be loaded"),
        (("--student.baseline", "n2c"), "--student.noise beside it"),
        (("--student.noise", "awgn:x", "--student.steps", 1), "expected awgn:25"),
        (("--student.noisy-share", 2), "--student.noisy-share"),
    ):
        refused = dbsn_command(*asked, *flags)
        assert refused.returncode == 2, flags
        assert message in refused.stderr, flags
        *notes, mistake = refused.stderr.splitlines()
        assert mistake.startswith("dbsn: "), refused.stderr
        assert not [line for line in notes if line.startswith(("dbsn: ", "Traceback"))], refused.stderr


def test_a_teacher_for_other_images_is_refused_as_it_was_named_before_images_are_inspected(
    folders: tuple[Path, Path], tmp_path: Path, dbsn_command: Command
) -> None:
    asked = ("train", folders[1], "--clean", folders[1], "-o", tmp_path / "x", *TINY, "--teacher")
    refused = dbsn_command(*asked, "gray")
    assert refused.returncode == 2
    assert refused.stderr == ("dbsn: --teacher gray: is for gray images, and these are colour images. Leave it out.\n")
    assert "--teacher jpeg-photo: holds only a student" in dbsn_command(*asked, "jpeg-photo").stderr
    assert "--teacher gry: no such model file" in dbsn_command(*asked, "gry").stderr
    assert not (tmp_path / "x").exists()


def test_in_python(folders: tuple[Path, Path]) -> None:
    noisy = [np.asarray(PillowImage.open(folders[0] / f"{i}.png")) for i in range(3)]
    how = DistillConfig(steps=4, batch=4, patch=32)
    denoiser = Denoiser.fit(
        noisy, clean=folders[1], steps=4, network="grid-tiny", student="unet-tiny", distill=how, batch=2, patch=24,
        device="cpu",
    )  # fmt: skip
    assert denoiser.denoise(noisy[0]).dtype == np.uint8
    assert not np.array_equal(denoiser.denoise(noisy[0]), denoiser.denoise(noisy[0], method="posterior"))
    clean = torch.full((1, 1, 16, 16), 0.5)
    variance = denoiser.noise_model_.variance(clean)
    drawn = denoiser.noise_model_.sample(clean, torch.Generator().manual_seed(0))
    assert variance.shape == drawn.shape == clean.shape
    assert float(variance.min()) > 0
    for nameless in (torch.nn.Identity(), partial(torch.nn.Identity, 3), lambda channels: torch.nn.Identity(channels)):
        with pytest.raises(ValueError, match="defined at the top level of a module"):
            Denoiser.fit(noisy, clean=folders[1], steps=1, student=nameless)
    with pytest.raises(ValueError, match="no noise model"):
        _ = Denoiser.fit(noisy, steps=1, network="grid-tiny", batch=2, patch=24, device="cpu").noise_model_


def test_two_processes_go_through_both_stages_together(folders: tuple[Path, Path], tmp_path: Path) -> None:
    asked = [folders[0], "--clean", folders[1], "-o", tmp_path / "run", *TINY, *TINY_STUDENT]
    asked += ["--steps", 4, "--student.steps", 4]
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2", "--master_port", "29618"]
    done = subprocess.run(
        [*launcher, "-m", "dbsn", "train", *map(str, asked)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("Stage 2:") == 1, "one process speaks"
    assert load_tensors(tmp_path / "run" / STUDENT / CHECKPOINT)[1]["state"]["step"] == 4
    assert load_model(tmp_path / "run" / MODEL).student is not None
