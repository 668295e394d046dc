"""A report is one file that tells what a run was and shows what it does."""

import base64
import io
import os
import re
import sys
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import skimage.data
import tifffile
from PIL import Image

from dbsn import Denoiser
from dbsn.report.report import write_report

pytestmark = pytest.mark.slow
Command = Callable[..., Any]
TINY = ("--network", "grid-tiny", "--batch", "2", "--patch", "24", "--steps", "30", "--device", "cpu")
STUDENT = ("--student.network", "unet-tiny", "--student.batch", "4", "--student.patch", "32", "--student.steps", "4")


class Page(HTMLParser):
    """What a page refers to and shows."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.images: list[np.ndarray] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name in ("src", "href", "xlink:href") and value:
                self.addresses.append(value)
                if tag == "img":
                    self.images.append(np.asarray(Image.open(io.BytesIO(base64.b64decode(value.partition(",")[2])))))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, dbsn_command: Command) -> Path:
    noisy, clean = (tmp_path_factory.mktemp(name) for name in ("noisy", "clean"))
    for index in range(4):
        crop = skimage.data.astronaut()[100 * index : 100 * index + 100, 100:210]
        pixels = crop + np.random.default_rng(index).normal(0, 20, crop.shape)
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(noisy / f"<{index}>.png")
    Image.fromarray(skimage.data.coffee()[:90, :90]).save(clean / "clean.png")
    folder = tmp_path_factory.mktemp("runs") / "run & more"
    done = dbsn_command("train", noisy, "--clean", clean, "-o", folder, *TINY, *STUDENT)
    assert done.returncode == 0, done.stderr
    return folder


def test_a_report_holds_everything_it_shows(run: Path, dbsn_command: Command) -> None:
    done = dbsn_command("report", run)
    assert done.returncode == 0, done.stderr
    text = (run / "report.html").read_text(encoding="utf-8")
    page = Page(text)
    assert [address for address in page.addresses if not address.startswith(("data:", "#"))] == []
    assert "run &amp; more" in text
    assert "&lt;0&gt;.png" in text
    assert "<0>.png" not in text
    assert text.count("<svg") == 3
    assert len(page.images) == 9
    noisy = np.asarray(Image.open(next(run.parent.parent.glob("noisy*/<0>.png"))))
    before, after, residual = (image.astype(float) for image in page.images[:3])
    assert np.corrcoef(before.ravel(), noisy.astype(float).ravel())[0, 1] > 0.99
    denoiser = Denoiser.load(run / "model.safetensors")
    denoised = denoiser.denoise(noisy).astype(float)
    assert np.corrcoef(after.ravel(), denoised.ravel())[0, 1] > 0.99
    noise_std = 255 * denoiser.estimate(noisy, extras=("noise_std",)).noise_std
    white = 3**0.5 * ((noisy - denoised) / noise_std).mean(2)  # a mean of three channels, of variance 1 again
    assert np.abs(residual / 255 * 6 - 3 - white.clip(-3, 3)).mean() < 0.1
    [(one, two)] = [map(float, found) for found in re.findall(r"([\d.]+) %\s+lie within one and ([\d.]+) %", text)]
    assert 40 < one < 100
    assert one < two <= 100


def test_other_images_can_be_shown_and_what_is_wrong_is_one_line(
    run: Path, tmp_path: Path, dbsn_command: Command
) -> None:
    Image.fromarray(skimage.data.coffee()[:80, :80]).save(tmp_path / "other.png")
    done = dbsn_command("report", run, "-o", tmp_path / "other.html", "--images", tmp_path / "other.png")
    assert done.returncode == 0, done.stderr
    assert len(Page((tmp_path / "other.html").read_text(encoding="utf-8")).images) == 3
    missing = dbsn_command("report", run, "--images", tmp_path / "gone.png")
    nothing = dbsn_command("report", tmp_path)
    nowhere = dbsn_command("report", run, "-o", tmp_path / "no" / "where.html")
    for refused, said in (
        (missing, "gone.png: no such file"),
        (nothing, "no training run here"),
        (nowhere, "Create it"),
    ):
        assert refused.returncode == 2
        assert refused.stderr.count("\n") == 1
        assert said in refused.stderr


def test_names_of_any_bytes_stacks_and_tiny_images_are_shown_under_their_own_name(run: Path, tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((5, 40, 41, 3), np.uint8) + 7, photometric="rgb")
    odd = tmp_path / os.fsdecode(b"b\xff.png")
    Image.fromarray(skimage.data.coffee()[:70, :80]).save(odd)
    Image.fromarray(skimage.data.coffee()[:1, :1]).save(tmp_path / "c.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        assert write_report(run, tmp_path / "report.html", [tmp_path / "a.tif", odd, tmp_path / "c.png"]) == []
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert [image.shape[:2] for image in Page(text).images[::3]] == [(40, 41), (70, 80), (1, 1)]
    assert re.findall(r"<figcaption>(.*): noise level", text) == ["a.tif", "b\ufffd.png", "c.png"]


def test_without_matplotlib_it_says_what_to_install(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r"dbsn\[plot\]"):
        write_report(run, run / "never.html")
    assert not (run / "never.html").exists()
