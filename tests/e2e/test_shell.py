"""What a person does from the shell, right and wrong: train, denoise, evaluate, info."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
import torch
from PIL import Image

from dbsn.denoiser import Denoiser
from dbsn.io.formats import read_image

pytestmark = pytest.mark.slow

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Clean and noisy photographs, gray, and a model trained on the noisy ones for a few seconds."""
    folder = tmp_path_factory.mktemp("shell")
    generator = np.random.default_rng(0)
    for kind in ("clean", "noisy"):
        (folder / kind / "inner").mkdir(parents=True)
    camera = skimage.data.camera()
    crops = {"one.png": camera[:200, :200], "inner/two.png": camera[150:301, 150:340]}
    noisy = []
    for name, clean in crops.items():
        Image.fromarray(clean).save(folder / "clean" / name)
        noisy.append((clean + generator.normal(0, 25, clean.shape)).clip(0, 255).round().astype(np.uint8))
        Image.fromarray(noisy[-1]).save(folder / "noisy" / name)
    settings = {"network": "grid-small", "batch": 6, "patch": 48}
    Denoiser.fit(noisy, steps=150, device="cpu", **settings).save(folder / "model.safetensors")
    return folder


def test_a_folder_is_denoised_with_its_subfolders_and_nothing_is_overwritten(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    out = tmp_path / "out"
    arguments = ("denoise", folder / "noisy", "-m", folder / "model.safetensors", "-o", out)
    result = dbsn_command(*arguments)
    assert result.returncode == 0, result.stderr
    assert {path.relative_to(out).as_posix() for path in out.rglob("*.png")} == {"one.png", "inner/two.png"}
    denoised, clean, noisy = (read_image(path / "one.png").pixels for path in (out, folder / "clean", folder / "noisy"))
    assert ((denoised - clean) ** 2).mean() < 0.5 * ((noisy - clean) ** 2).mean()
    assert denoised.shape == (200, 200, 1)

    (out / "denoise.csv").unlink()
    again = dbsn_command(*arguments)
    assert again.returncode == 1
    assert again.stderr.startswith("dbsn: ")
    assert "two.png: exists already and is not in denoise.csv. Add --overwrite to replace it." in again.stderr
    assert dbsn_command(*arguments, "--overwrite", "--save-std").returncode == 0
    std = tifffile.imread(out / "one_std.tif")
    assert std.shape == (200, 200)
    assert std.dtype == np.float32
    assert 0.5 < std.mean() < 25, "of 255, as the picture's own numbers"


def test_what_was_interrupted_goes_on_and_nothing_is_done_twice(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    for number in range(3):
        Image.fromarray(np.full((20, 20), 40 * number, np.uint8)).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    arguments = ("denoise", tmp_path / "*.png", "-m", folder / "model.safetensors", "-o", out)
    assert dbsn_command(*arguments).returncode == 0
    lines = (out / "denoise.csv").read_text().splitlines()
    assert [line.split(",")[:2] for line in lines[1:]] == [
        [f"{number}.png", status] for number in range(3) for status in ("begun", "done")
    ]

    (out / "1.png").unlink()
    (out / "denoise.csv").write_text("\n".join(lines[:-1]) + "\n")  # killed while at work on the third
    before = (out / "0.png").stat().st_mtime_ns, (out / "2.png").stat().st_mtime_ns
    again = dbsn_command(*arguments)
    assert again.returncode == 0
    assert "1 of 3 results exist already" in again.stderr
    after = (out / "0.png").stat().st_mtime_ns, (out / "2.png").stat().st_mtime_ns
    assert (before[0] == after[0], before[1] == after[1]) == (True, False)

    (tmp_path / "other").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "other" / "0.png")
    elsewhere = dbsn_command("denoise", tmp_path / "other", *arguments[2:])
    assert elsewhere.returncode == 1
    assert "0.png: was made of another file. Add --overwrite" in elsewhere.stderr
    other = dbsn_command(*arguments, "--strength", "0.5")
    assert other.returncode == 0
    assert "exist already" not in other.stderr


def test_results_below_the_input_are_no_input(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    (tmp_path / "in").mkdir()
    Image.fromarray(np.zeros((20, 20), np.uint8)).save(tmp_path / "in" / "a.png")
    arguments = ("denoise", tmp_path / "in", "-m", folder / "model.safetensors", "-o", tmp_path / "in" / "out")
    assert dbsn_command(*arguments).returncode == 0
    assert "1 of 1 results exist already" in dbsn_command(*arguments).stderr
    both = dbsn_command(*arguments, "--save-std")
    assert both.returncode == 0, both.stderr
    (tmp_path / "in" / "out" / "a_std.tif").write_bytes(b"")
    (tmp_path / "in" / "out" / "denoise.csv").unlink()
    assert "is not in denoise.csv" in dbsn_command(*arguments, "--save-std").stderr


def test_strength_is_how_much_of_the_noise_is_taken_out(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    source = folder / "noisy" / "one.png"
    arguments = ("denoise", source, "-m", folder / "model.safetensors", "-o")
    for strength in ("0", "0.5", "1"):
        assert dbsn_command(*arguments, tmp_path / f"{strength}.png", "--strength", strength).returncode == 0
    noisy, *results = (
        read_image(path).pixels for path in (source, *(tmp_path / f"{s}.png" for s in ("0", "0.5", "1")))
    )
    assert np.array_equal(noisy, results[0])
    inside = (results[2] > 0) & (results[2] < 1)
    assert np.abs(results[1] - (noisy + results[2]) / 2)[inside].max() < 1.01 / 255
    more = dbsn_command(*arguments, tmp_path / "x.png", "--strength", "1.5")
    assert "one.png: --strength 1.5 is used as 1, because this model has no noise-level input" in more.stderr
    assert np.array_equal(read_image(tmp_path / "x.png").pixels, results[2])


def test_results_can_be_of_another_kind(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    noisy = np.asarray(Image.open(folder / "noisy" / "one.png"))
    tifffile.imwrite(tmp_path / "a.tif", noisy)
    kinds = {}
    for dtype in ("input", "uint16", "float32"):
        out = tmp_path / f"{dtype}.tif"
        asked = ("denoise", tmp_path / "a.tif", "-m", folder / "model.safetensors", "-o", out, "--dtype", dtype)
        assert dbsn_command(*asked).returncode == 0
        kinds[dtype] = tifffile.imread(out)
    assert [kind.dtype.name for kind in kinds.values()] == ["uint8", "uint16", "float32"]
    assert np.array_equal(np.rint(kinds["float32"]).clip(0, 255), kinds["input"])
    assert np.abs(kinds["uint16"] / 257 - kinds["float32"].clip(0, 255)).max() < 0.003
    tifffile.imwrite(tmp_path / "counts.tif", 1000 * noisy.astype(np.float32))
    asked = ("denoise", tmp_path / "counts.tif", "-m", folder / "model.safetensors", "-o", tmp_path / "x.tif")
    refused = dbsn_command(*asked, "--dtype", "uint8")
    assert refused.returncode == 1
    assert "some values do not fit into uint8 (expected values from 0 to 1)" in refused.stderr


def test_a_stack_is_learned_from_and_denoised_page_by_page(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    noisy = np.asarray(Image.open(folder / "noisy" / "one.png"))
    pages = np.stack([noisy[:100], noisy[100:]])
    tifffile.imwrite(tmp_path / "s.tif", pages, imagej=True, metadata={"axes": "TYX"})
    small = ("--clean", "none", "--network", "grid-tiny", "--steps", "1", "--patch", "16")
    trained = dbsn_command("train", tmp_path / "s.tif", "-o", tmp_path / "run", *small)
    assert "2 gray images" in trained.stderr, trained.stderr
    assert dbsn_command("train", "-o", tmp_path / "run", "--resume", "--steps", "2").returncode == 0
    model = folder / "model.safetensors"
    done = dbsn_command("denoise", tmp_path / "s.tif", "-m", model, "-o", tmp_path / "out", "--save-std")
    assert done.returncode == 0, done.stderr
    denoised = tifffile.imread(tmp_path / "out" / "s.tif")
    denoiser = Denoiser.load(model, device="cpu")
    assert np.array_equal(denoised, np.stack([denoiser.denoise(page) for page in pages]))
    assert tifffile.imread(tmp_path / "out" / "s_std.tif").shape == pages.shape


def test_one_damaged_file_is_named_and_the_rest_is_finished(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    (tmp_path / "in").mkdir()
    whole = (folder / "noisy" / "one.png").read_bytes()
    (tmp_path / "in" / "a_damaged.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "in" / "b_empty.tif").touch()
    (tmp_path / "in" / "c_fine.png").write_bytes(whole)
    Image.new("RGB", (20, 20), "red").save(tmp_path / "in" / "d_colour.png")
    result = dbsn_command("denoise", tmp_path / "in", "-m", folder / "model.safetensors", "-o", tmp_path / "out")
    assert result.returncode == 1
    *lines, summary = result.stderr.strip().splitlines()
    assert len(lines) == 3
    assert summary == "3 of 4 files failed and were left out"
    for line, name in zip(lines, ("a_damaged.png", "b_empty.tif", "d_colour.png"), strict=True):
        assert line.startswith("dbsn: ")
        assert name in line
    assert [path.name for path in (tmp_path / "out").glob("*.*") if path.suffix != ".csv"] == ["c_fine.png"]
    assert (tmp_path / "out" / "denoise.csv").read_text().count(",failed,") == 3


def test_a_format_that_cannot_hold_the_picture_is_refused_with_the_one_that_can(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    tifffile.imwrite(tmp_path / "deep.tif", np.full((20, 20), 0.5, np.float32))
    result = dbsn_command(
        "denoise", tmp_path / "deep.tif", "-m", folder / "model.safetensors", "-o", tmp_path / "o.png"
    )
    assert result.returncode == 1
    assert "cannot hold float32 samples. Write .tif instead" in result.stderr
    assert not (tmp_path / "o.png").exists()


def test_evaluate_prints_one_json_object_with_its_protocol(folder: Path, dbsn_command: Command) -> None:
    model = folder / "model.safetensors"
    real = dbsn_command("evaluate", "-m", model, "--noisy", folder / "noisy", "--clean", folder / "clean", "--json")
    assert real.returncode == 0, real.stderr
    figures = json.loads(real.stdout)
    assert {"psnr", "ssim", "noisy_psnr", "images", "protocol", "seconds"} <= figures.keys()
    assert figures["images"] == 2
    assert figures["protocol"] == "float"
    assert figures["psnr"] > figures["noisy_psnr"] + 3
    assert figures["psnr"] > figures["mean_psnr"], "fusion is better than the blind mean"

    synthetic = ("evaluate", "-m", model, "--clean", folder / "clean", "--noise", "awgn:25", "--json")
    first, again, other = (json.loads(dbsn_command(*synthetic, *more).stdout) for more in ((), (), ("--seed", "1")))
    assert first["psnr"] == again["psnr"]
    assert first["psnr"] != other["psnr"]
    assert first["noisy_psnr"] == pytest.approx(20.17, abs=0.1)
    assert first["true_noise_std_255"] == pytest.approx(25)
    assert "oracle_psnr" not in figures, "the noise of real pairs is not known"
    assert first["oracle_psnr"] >= first["psnr"] - 0.02
    together = json.loads(dbsn_command(*synthetic, "--ensemble").stdout)
    assert first["psnr"] < together["psnr"] < first["psnr"] + 2
    assert first["mean_psnr"] < together["mean_psnr"]
    rounded = json.loads(dbsn_command(*synthetic, "--protocol", "uint8").stdout)
    assert rounded["psnr"] != first["psnr"]
    assert rounded["psnr"] == pytest.approx(first["psnr"], abs=0.05)


def test_info_says_what_a_model_is(folder: Path, dbsn_command: Command) -> None:
    text = dbsn_command("info", folder / "model.safetensors")
    assert text.returncode == 0
    assert "gray blind-spot denoiser" in text.stdout
    facts = json.loads(dbsn_command("info", folder / "model.safetensors", "--json").stdout)
    assert facts["model"]["network"]["kind"] == "grid"
    assert facts["parameters"] > 10_000


def test_a_picture_of_the_noise_needs_matplotlib_and_the_verdict_does_not(
    folder: Path, tmp_path: Path, dbsn_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    said = dbsn_command("inspect", folder / "noisy", "--picture", tmp_path / "noise.png")
    assert said.returncode == 2
    assert "independent from pixel to pixel" in said.stdout
    assert "pip install 'dbsn[plot]'" in said.stderr


def test_inspect_says_whether_the_method_suits(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    said = dbsn_command("inspect", folder / "noisy")
    assert said.returncode == 0, said.stderr
    assert "independent from pixel to pixel" in said.stdout
    facts = json.loads(dbsn_command("inspect", folder / "noisy", "--json").stdout)
    assert facts["suits"]
    assert facts["images"] == 2
    assert facts["levels_255"] == pytest.approx([25, 25], rel=0.15)
    small = (
        "train",
        folder / "noisy",
        "-o",
        tmp_path / "run",
        "--clean",
        "none",
        "--network",
        "grid-tiny",
        "--steps",
        "1",
        "--patch",
        "16",
    )
    trained = dbsn_command(*small, "--noise", "auto")
    assert trained.returncode == 0, trained.stderr
    assert facts["verdict"] in trained.stderr
    assert f"noise        {facts['family']}" in dbsn_command("info", tmp_path / "run" / "model.safetensors").stdout


def test_tiles_change_the_memory_and_not_the_result(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    source = folder / "noisy" / "one.png"
    for tile in ("0", "60"):
        done = dbsn_command(
            "denoise", source, "-m", folder / "model.safetensors", "-o", tmp_path / f"{tile}.png", "--tile", tile
        )
        assert done.returncode == 0, done.stderr
    whole, tiled = (read_image(tmp_path / f"{tile}.png").pixels for tile in ("0", "60"))
    assert np.abs(whole - tiled).max() <= 1.01 / 255


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("denoise", "{f}/noisy", "-m", "{f}/none.safetensors", "-o", "{t}/o"), "none.safetensors: no such model file"),
        (("denoise", "{f}/nothing", "-m", "{f}/model.safetensors", "-o", "{t}/o"), "nothing"),
        (("denoise", "{f}/noisy", "-m", "{f}/noisy/one.png", "-o", "{t}/o"), "not a model file"),
        (("denoise", "{f}/noisy", "-m", "{f}/model.safetensors", "-o", "{t}/o.png"), "one file cannot take 2 images"),
        (("denoise", "{f}/noisy", "-m", "{f}/model.safetensors", "-o", "{f}/noisy"), "is an input and would"),
        (("evaluate", "-m", "{f}/model.safetensors", "--clean", "{f}/clean"), "either --noisy DIR"),
        (("evaluate", "-m", "{f}/model.safetensors", "--clean", "{f}/clean", "--noise", "x"), "expected awgn:25"),
        (("train", "-o", "{t}/run"), "NOISY: missing. Name the noisy images"),
        (("train", "{f}/noisy", "-o", "{t}/run", "--quantile", "3"), "--quantile: got 3.0"),
        (("train", "-o", "{t}/run", "--resume"), "no training run here (no config.json)"),
        (("train", "{f}/noisy", "-o", "{t}/run", "--truth", "{f}/clean/one.png"), "--truth: the images do not fit"),
        (("train", "{f}/noisy", "-o", "{t}/run", "--truth", "{f}/clean", "--loss", "marginal"), "--loss is for"),
        (("denoise", "-o", "{t}/o"), "INPUT: missing. Name the image files"),
        (("inspect",), "PATH: missing. Name the noisy images"),
        (("synthesize", "{f}/clean", "-m", "{f}/model.safetensors", "-o", "{t}/o"), "dbsn train NOISY --clean CLEAN"),
        (("info", "{f}/none"), "no such model file"),
        (("report", "{f}/none"), "none: no training run here (no config.json)"),
        (("denoise", "{f}/noisy", "-m", "{f}/model.safetensors", "-o", "{t}/o", "--device", "mps"), "--device mps"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)  # fmt: skip
def test_a_mistake_is_one_line_with_the_remedy_and_status_two(
    folder: Path, tmp_path: Path, dbsn_command: Command, arguments: tuple[str, ...], message: str
) -> None:
    result = dbsn_command(*(argument.format(f=folder, t=tmp_path) for argument in arguments))
    assert result.returncode == 2
    assert message in result.stderr
    assert result.stderr.startswith("dbsn: ")
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "run").exists(), "nothing has begun"


def test_help_names_every_command(dbsn_command: Command) -> None:
    result = dbsn_command("--help")
    assert result.returncode == 0
    for command in ("train", "denoise", "evaluate", "info"):
        assert command in result.stdout


def test_evaluate_pairs_by_path_and_names_what_has_no_partner(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    (tmp_path / "noisy").mkdir()
    (tmp_path / "noisy" / "one.png").write_bytes((folder / "noisy" / "one.png").read_bytes())
    pair = ("--noisy", tmp_path / "noisy", "--clean", folder / "clean")
    result = dbsn_command("evaluate", "-m", folder / "model.safetensors", *pair, "--json")
    assert result.returncode == 1
    assert json.loads(result.stdout)["images"] == 1
    assert "two.png: no noisy image of this name" in result.stderr


@pytest.mark.parametrize(("network", "kind"), [("dbsn-tiny", "dbsn"), ("grid-tiny", "grid")])
def test_network_and_noise_family_are_what_was_asked_for(
    folder: Path, tmp_path: Path, dbsn_command: Command, network: str, kind: str
) -> None:
    flags = (
        "--clean",
        "none",
        "--network",
        network,
        "--noise",
        "awgn",
        "--steps",
        "2",
        "--batch",
        "2",
        "--patch",
        "24",
        "--seed",
        "3",
    )
    trained = dbsn_command("train", folder / "noisy", *flags, "-o", tmp_path / "run")
    assert trained.returncode == 0, trained.stderr
    facts = json.loads(dbsn_command("info", tmp_path / "run" / "model.safetensors", "--json").stdout)
    assert facts["model"]["network"]["kind"] == kind
    assert facts["model"]["noise"] == "awgn"
    assert facts["about"]["train"]["seed"] == 3


def test_gray_turns_colour_pairs_to_gray_for_a_gray_model(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    Image.fromarray(skimage.data.astronaut()[:64, :64]).save(tmp_path / "clean.png")
    arguments = ("evaluate", "-m", folder / "model.safetensors", "--clean", tmp_path, "--noise", "awgn:25", "--json")
    refused = dbsn_command(*arguments)
    assert refused.returncode == 2
    assert "clean.png: image: wrong number of channels (got shape (64, 64, 3), expected 1)" in refused.stderr
    assert json.loads(dbsn_command(*arguments, "--gray").stdout)["images"] == 1
    Image.fromarray(skimage.data.camera()[:64, :64]).save(tmp_path / "gray.png")
    both = dbsn_command("evaluate", "-m", "photo", "--clean", tmp_path, "--noise", "awgn:25", "--json")
    kinds = json.loads(both.stdout)
    assert "psnr" not in kinds
    assert (kinds["gray"]["images"], kinds["colour"]["images"]) == (1, 1)
    assert kinds["gray"]["psnr"] != kinds["colour"]["psnr"]
    others = dbsn_command(*arguments)
    assert others.returncode == 1
    assert "clean.png: image: wrong number of channels (got shape (64, 64, 3), expected 1)" in others.stderr
    assert json.loads(others.stdout)["images"] == 1, "the gray one went on"
    mixed = dbsn_command(*arguments[:-2], "mg:25", "--gray")
    assert mixed.returncode == 2
    assert f"{tmp_path / 'gray.png'}: " in mixed.stderr


def test_results_go_to_stdout_and_notes_to_stderr(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    asked = ("denoise", folder / "noisy" / "one.png", "-o")
    loud = dbsn_command(*asked, tmp_path / "a.png")
    assert [line.split()[0] for line in loud.stdout.splitlines()] == [str(tmp_path / "a.png")]
    assert loud.stderr.startswith(f"{tmp_path / 'a.png'}: built-in model gray, because this is a gray image")
    quiet = dbsn_command(*asked, tmp_path / "b.png", "-q")
    assert (quiet.stderr, len(quiet.stdout.splitlines())) == ("", 1)


def test_denoise_says_everything_as_one_json_object(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    (tmp_path / "bad.png").write_bytes(b"no image")
    files = (folder / "noisy" / "one.png", tmp_path / "bad.png")
    done = dbsn_command("denoise", *files, "-o", tmp_path / "out", "--json")
    assert done.returncode == 1
    said = json.loads(done.stdout)
    assert (said["failed"], said["dry_run"]) == (1, False)
    good, bad = said["files"]
    assert good["outputs"] == [str(tmp_path / "out" / "one.png")]
    assert (good["model"], good["error"]) == ("gray", None)
    assert "because this is a gray image" in good["reason"]
    assert good["noise_std"] == pytest.approx(25 / 255, rel=0.2)
    assert "bad.png" in bad["error"]
    named = dbsn_command("denoise", files[0], "-m", folder / "model.safetensors", "-o", tmp_path / "x", "--json")
    assert json.loads(named.stdout)["files"][0]["model"] == str(folder / "model.safetensors")


def test_what_a_result_cannot_keep_is_said_once_a_file(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    with Image.open(folder / "noisy" / "one.png") as image:
        image.save(tmp_path / "a.jpg", comment=b"box 4")
    said = dbsn_command("denoise", tmp_path / "a.jpg", "-o", tmp_path / "b.png")
    line = f"{tmp_path / 'a.jpg'}: the comment cannot be kept in a .png file."
    assert said.stderr.splitlines().count(line) == 1
    kept = dbsn_command("denoise", tmp_path / "a.jpg", "-o", tmp_path / "c.jpg", "--json")
    assert json.loads(kept.stdout)["files"][0]["remarks"] == []
    assert "comment" not in kept.stderr


def test_the_model_is_said_where_it_changes_and_noted_for_each_file(tmp_path: Path, dbsn_command: Command) -> None:
    colour, gray = skimage.data.astronaut()[:160, :160], skimage.data.camera()[:160, :160]
    random = np.random.default_rng(0)
    for name, clean in {"a": colour, "b": colour, "c": gray, "d": colour}.items():
        noisy = (clean + random.normal(0, 25, clean.shape)).clip(0, 255).round().astype(np.uint8)
        Image.fromarray(noisy).save(tmp_path / f"{name}.png")
    done = dbsn_command("denoise", tmp_path / "*.png", "-o", tmp_path / "out")
    said = [line.partition(": ")[0][-5:] for line in done.stderr.splitlines()]
    assert said == ["a.png", "c.png", "d.png"], "where it differs from the file before"
    assert dbsn_command("denoise", tmp_path / "*.png", "-o", tmp_path / "v", "-v").stderr.count("built-in model") == 4
    with (tmp_path / "out" / "denoise.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["status"] == "done"]
    models = [row["model"].partition(",")[0] for row in rows]
    assert models == [f"built-in model {name}" for name in ("photo", "photo", "gray", "photo")]


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    folder: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    out, model = tmp_path / "out", folder / "model.safetensors"
    source = folder / "noisy" / "one.png"
    would = dbsn_command("denoise", source, "-o", out, "--save-std", "--method", "posterior", "--dry-run")
    assert would.returncode == 0, would.stderr
    expected = (
        f"{source} -> {out / 'one.png'}, {out / 'one_std.tif'}: built-in model gray, because this is a gray image"
    )
    assert would.stdout.startswith(expected)
    named = dbsn_command("denoise", source, "-m", model, "-o", out, "--dry-run", "--json")
    assert json.loads(named.stdout)["dry_run"]
    refused = dbsn_command("denoise", folder / "noisy", "-o", folder / "noisy", "--dry-run")
    assert refused.returncode == 2
    trained = dbsn_command("train", folder / "noisy", "-o", out, "--network", "grid-tiny", "--dry-run")
    assert trained.returncode == 0, trained.stderr
    configuration = json.loads(trained.stdout)
    assert configuration["model"]["network"]["widths"] == [16, 32]
    assert len(configuration["files"]) == 2
    assert "2 gray images" in trained.stderr
    assert not out.exists()
    assert "--dry-run: not with --resume" in dbsn_command("train", "-o", out, "--resume", "--dry-run").stderr


@pytest.mark.parametrize("command", ["denoise", "train", "evaluate", "report"])
def test_a_device_that_is_not_there_is_refused_once(
    folder: Path, tmp_path: Path, dbsn_command: Command, command: str
) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a card")
    words = {
        "denoise": (folder / "noisy", "-o", tmp_path / "out"),
        "train": (folder / "noisy", "-o", tmp_path / "out"),
        "evaluate": ("-m", "gray", "--clean", folder / "clean", "--noise", "awgn:25"),
        "report": (folder,),
    }[command]
    refused = dbsn_command(command, *words, "--device", "cuda")
    assert refused.returncode == 2
    assert refused.stderr.count("--device cuda: not available here") == len(refused.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_info_is_readable(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    small = ("--clean", "none", "--network", "grid-tiny", "--steps", "1", "--patch", "16", "--batch", "2")
    assert dbsn_command("train", folder / "noisy", "-o", tmp_path / "run", *small).returncode == 0
    lines = dbsn_command("info", tmp_path / "run").stdout.splitlines()
    assert not [line for line in lines if "{" in line or len(line) > 120]
    assert any(line.split() == ["stage", "1", "1", "steps;", "batch", "2,", "patch", "16"] for line in lines), lines
    assert any("grid (spacing 3, widths 16/32, blocks 1/1, symmetric no)" in line for line in lines)


def test_evaluate_says_what_psnr_is_relative_to(folder: Path, tmp_path: Path, dbsn_command: Command) -> None:
    for name in ("clean", "noisy"):
        (tmp_path / name).mkdir()
        samples = np.asarray(Image.open(folder / name / "one.png")).astype(np.uint16) * 16  # 12 bits
        tifffile.imwrite(tmp_path / name / "a.tif", samples)
    pairs = ("--clean", tmp_path / "clean", "--noisy", tmp_path / "noisy")
    told = dbsn_command("evaluate", "-m", "gray", *pairs, "--protocol", "affine")
    assert "protocol: affine (PSNR relative to a peak of 4095)" in told.stdout
    as_json = json.loads(dbsn_command("evaluate", "-m", "gray", *pairs, "--json").stdout)
    of_8 = ("--clean", folder / "clean", "--noisy", tmp_path / "8")
    (tmp_path / "8").mkdir()
    Image.open(folder / "noisy" / "one.png").save(tmp_path / "8" / "one.png")
    plain = json.loads(dbsn_command("evaluate", "-m", "gray", *of_8, "--json").stdout)
    assert as_json["peak"] == 4095
    assert as_json["noisy_psnr"] == pytest.approx(plain["noisy_psnr"], abs=0.05)
    assert as_json["psnr"] == pytest.approx(plain["psnr"], abs=0.3)
    named = json.loads(dbsn_command("evaluate", "-m", "gray", *pairs, "--peak", "65535", "--json").stdout)
    assert named["noisy_psnr"] == pytest.approx(as_json["noisy_psnr"] + 20 * np.log10(65535 / 4095), abs=0.01)
    counts = samples.astype(np.float32) + 100
    counts[0, 0] = np.nan  # a pixel that is missing does not set the range of the others
    tifffile.imwrite(tmp_path / "clean" / "a.tif", counts)
    told = dbsn_command("evaluate", "-m", "gray", *pairs, "--protocol", "affine")
    assert f"a range from {np.nanmin(counts):g} to {np.nanmax(counts):g}" in told.stdout, told.stderr
    refused = dbsn_command("evaluate", "-m", "gray", *pairs, "--peak", "0")
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    bright = dbsn_command("evaluate", "-m", "gray", "--clean", folder / "clean", "--noise", "awgn:25")
    assert (bright.returncode, bright.stderr) == (0, "")
    assert "peak of 255" in bright.stdout
    assert all(len(line.partition(".")[2]) <= 4 for line in bright.stdout.splitlines() if line.startswith("psnr"))
