"""benchmarks/paper/paper.py: a setting of the paper's tables from noisy halves to figures, on a few small images."""

import io
import json
import shutil
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as PillowImage

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("paper")
    for name, count in (("clean_bsds", 4), ("bsd68", 2)):
        (folder / name).mkdir()
        for number in range(count):
            pixels = np.random.default_rng(number).integers(0, 256, (48, 48, 3), np.uint8)
            PillowImage.fromarray(pixels if name != "bsd68" else pixels[..., 0]).save(folder / name / f"{number}.png")
    run(folder, "gray-start", "gray25", "--blind-steps", "1", "--student-steps", "1")
    return folder


def run(folder: Path, *flags: str, refused: bool = False) -> str:
    """What the benchmark prints, or says when it stops; in this process, while `dbsn train` has its own."""
    places = {"--data": "", "--runs": "runs", "--results": "results.json", "--models": "models"}
    where = [str(part) for flag, place in places.items() for part in (flag, folder / place)]
    said, status = io.StringIO(), None
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.syspath_prepend(ROOT)
        patch.chdir(ROOT)
        patch.setattr(sys, "argv", ["paper", *flags, *where, "--threads", "1"])
        from benchmarks.paper.paper import main

        try:
            main()
        except SystemExit as exit_:
            status = exit_.code
    assert bool(status) == refused, status
    return f"{said.getvalue()}{status or ''}"


def test_every_part_is_measured_on_every_image(measured: Path) -> None:
    rows = json.loads((measured / "results.json").read_text())
    begins = [(row["setting"], row["method"], row["begins"]) for row in rows]
    methods = ("stage 1", "full", "N2C")
    starts = {"gray-start": "", "gray25": "gray-start"}
    assert begins == [(name, method, start) for name, start in starts.items() for method in methods]
    assert all(sorted(row["decibels"]) == ["0", "1"] and row["steps"] == 1 and row["cores"] > 0 for row in rows)
    assert all(row["psnr"] == pytest.approx(np.mean(list(row["decibels"].values())), abs=1e-3) for row in rows)


def test_no_image_is_on_both_sides(measured: Path) -> None:
    parts = ("blind", "full", "n2c")
    asked = {part: json.loads((measured / "runs" / "gray25" / part / "config.json").read_text()) for part in parts}
    assert [Path(file).stem for file in asked["blind"]["files"]] == ["0", "2"]
    assert [[Path(file).stem for file in asked[part]["clean"]] for part in parts] == [[], ["1", "3"], ["1", "3"]]
    assert {Path(file).stem for part in parts for file in asked[part]["files"]} == {"0", "2"}
    begins = [asked["blind"]["start"], *(asked[part]["student_start"] for part in parts[1:])]
    assert begins == [str(measured / "runs" / "gray-start" / part / "model.safetensors") for part in parts]
    assert all("bsd68" not in file for part in asked.values() for file in part["files"] + part["clean"])


def test_a_run_that_was_begun_in_another_way_is_not_gone_on_with(measured: Path) -> None:
    shutil.copytree(measured, measured.parent / "other")
    made = measured.parent / "other" / "runs" / "gray25" / "full" / "made.json"
    made.write_text(made.read_text().replace("unet-large", "unet-tiny"))
    said = run(measured.parent / "other", "gray25", "--parts", "full", "--student-steps", "2", refused=True)
    assert f"{made.parent}: was begun in another way" in said


def test_figures_that_are_not_those_of_the_models_that_are_kept_are_found(measured: Path) -> None:
    told = run(measured, "gray25", "--check")
    assert told.count(", as noted") == 3
    assert "NOT" not in told
    assert "gray50: no figures are noted" in run(measured, "gray25", "gray50", "--check", refused=True)
    shutil.copytree(measured, measured.parent / "wrong")
    results = measured.parent / "wrong" / "results.json"
    rows = json.loads(results.read_text())
    next(row for row in rows if row["setting"] == "gray25")["decibels"]["0"] += 0.1
    results.write_text(json.dumps(rows))
    told = run(measured.parent / "wrong", "gray25", "--check", refused=True)
    assert "gray25, stage 1" in told
    assert told.count("NOT as noted") == 1
