"""A RAW file's mosaic comes back as a DNG that LibRaw reads, pixel by pixel and in the same colours."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rawpy
import skimage.data
import tifffile
import torch

import dbsn.io
from dbsn.config import GridConfig, ModelConfig
from dbsn.denoiser import Denoiser
from dbsn.errors import ImageError
from dbsn.io import raw
from dbsn.io.folders import find_images
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile

Command = Callable[..., Any]
BLACK, WHITE = (512, 500, 505, 520), 15_000
COLOURS = {"RGGB": (0, 1, 1, 2), "GBRG": (1, 2, 0, 1)}


def camera(path: Path, pattern: str = "RGGB", orientation: int = 1, **changes: Any) -> Path:
    """A DNG as a camera might write it, of a photograph in daylight, with noise below black."""
    photo = (skimage.data.astronaut()[:161, 100:291] / 255) ** 2.2 * (0.5, 1.0, 0.6)
    mosaic = np.empty(photo.shape[:2])
    for number, colour in enumerate(COLOURS[pattern]):
        place = (slice(number // 2, None, 2), slice(number % 2, None, 2))
        mosaic[place] = BLACK[number] + (WHITE - BLACK[number]) * 0.8 * photo[..., colour][place]
    noisy = np.random.default_rng(0).normal(mosaic, 30).clip(0, WHITE).round().astype(np.uint16)
    matrix = [round(1e4 * value) for row in np.linalg.inv(np.diag((0.5, 1, 0.6))) @ raw._XYZ_TO_SRGB for value in row]
    tags = {
        271: (2, 0, "Maker"), 272: (2, 0, "Model X"), 274: (3, 1, orientation), 33421: (3, 2, (2, 2)),
        33422: (1, 4, bytes(COLOURS[pattern])), 50706: (1, 4, bytes((1, 4, 0, 0))), 50708: (2, 0, "Maker Model X"),
        50713: (3, 2, (2, 2)), 50714: (4, 4, BLACK), 50717: (4, 1, WHITE),
        50721: (10, 9, tuple(part for value in matrix for part in (value, 10_000))),
        50728: (5, 3, (50, 100, 100, 100, 60, 100)), 50778: (3, 1, 21),
    } | changes  # fmt: skip
    extratags = [(code, *tag, True) for code, tag in tags.items() if tag]
    tifffile.imwrite(path, noisy, photometric="cfa", metadata=None, software=False, extratags=extratags)
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = BlindSpotModel(ModelConfig(network=GridConfig(widths=(4,), blocks=(1,))))
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Denoiser(ModelFile(model=network, about={}), device="cpu").save(path)
    return path


@pytest.mark.parametrize("pattern", COLOURS)
@pytest.mark.parametrize("orientation", [1, 6, 8, 3])
def test_at_strength_0_the_mosaic_and_its_development_are_the_same(
    tmp_path: Path, model: Path, dbsn_command: Command, pattern: str, orientation: int
) -> None:
    source = camera(tmp_path / "photo.DNG", pattern, orientation)
    done = dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "out", "--strength", 0)
    assert done.returncode == 0, done.stderr
    with rawpy.imread(str(source)) as before, rawpy.imread(str(tmp_path / "out" / "photo.dng")) as after:
        np.testing.assert_array_equal(after.raw_image_visible, before.raw_image_visible)
        np.testing.assert_array_equal(after.raw_pattern, before.raw_pattern)
        assert after.black_level_per_channel == before.black_level_per_channel
        assert after.white_level == before.white_level
        developed = [image.postprocess(use_camera_wb=True).astype(int) for image in (before, after)]
    assert developed[0].shape == developed[1].shape
    assert np.abs(developed[0] - developed[1]).max() <= 2
    with tifffile.TiffFile(tmp_path / "out" / "photo.dng") as file:
        assert file.pages[0].tags[272].value == "Model X"
        matrix = list(file.pages[0].tags["ColorMatrix1"].value)
    with tifffile.TiffFile(source) as file:
        assert matrix == list(file.pages[0].tags["ColorMatrix1"].value)


def test_planes_are_one_colour_each_from_black_to_white_and_not_cut_off(tmp_path: Path) -> None:
    source = camera(tmp_path / "a.dng", "GBRG")
    planes = list(dbsn.io.open(source).planes())
    assert [picture.path.name for picture in planes] == ["a.dng, G", "a.dng, B", "a.dng, R", "a.dng, G"]
    assert [picture.pixels.shape for picture in planes] == [(81, 96, 1), (81, 95, 1), (80, 96, 1), (80, 95, 1)]
    mosaic = tifffile.imread(source)
    np.testing.assert_allclose(planes[2].pixels[..., 0], (mosaic[1::2, ::2] - 505.0) / (WHITE - 505), atol=1e-6)
    assert min(picture.pixels.min() for picture in planes) < 0


def test_each_plane_goes_where_it_came_from(tmp_path: Path) -> None:
    source = camera(tmp_path / "a.dng")
    with dbsn.io.open(source).writing(tmp_path / "b.dng") as write:
        for number, picture in enumerate(dbsn.io.open(source).planes()):
            write(np.full_like(picture.pixels, number / 10), picture)
    with rawpy.imread(str(tmp_path / "b.dng")) as after:
        found = after.raw_image_visible.copy()
    for number, black in enumerate(BLACK):
        part = found[number // 2 :: 2, number % 2 :: 2]
        assert (part == round(black + number / 10 * (WHITE - black))).all()


def test_what_is_wrong_is_one_line(
    tmp_path: Path, model: Path, dbsn_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = camera(tmp_path / "a.dng")
    (tmp_path / "broken.nef").write_bytes(source.read_bytes()[:300])
    (tmp_path / "empty.cr2").write_bytes(b"")
    tifffile.imwrite(tmp_path / "plain.tif", np.zeros((40, 40), np.uint8))
    for name, output, words in (
        ("broken.nef", tmp_path / "out", "not a readable RAW file"),
        ("empty.cr2", tmp_path / "out", "not a readable RAW file"),
        ("a.dng", tmp_path / "a.png", "can only be written as DNG. Use .dng"),
        ("plain.tif", tmp_path / "b.dng", "only a camera RAW can be saved as DNG"),
        ("missing.dng", tmp_path / "out", "no such file"),
    ):
        done = dbsn_command("denoise", tmp_path / name, "-m", model, "-o", output)
        assert done.returncode in (1, 2)
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
    assert not (tmp_path / "a.png").exists()
    assert not (tmp_path / "b.dng").exists()
    assert len(find_images([tmp_path])) == 4
    monkeypatch.setitem(sys.modules, "rawpy", None)
    with pytest.raises(ImageError, match=r"dbsn\[raw\]"):
        list(dbsn.io.open(source).planes())


def test_a_raw_file_whose_second_half_is_empty_is_named(tmp_path: Path) -> None:
    whole = camera(tmp_path / "a.dng")
    assert next(dbsn.io.open(whole).planes()).remarks == ()
    mosaic = tifffile.imread(whole)
    mosaic[len(mosaic) // 2 :] = 0
    data = bytearray(whole.read_bytes())
    with tifffile.TiffFile(whole) as tif:
        start = tif.pages.first.dataoffsets[0]
    data[start : start + mosaic.nbytes] = mosaic.tobytes()
    (tmp_path / "b.dng").write_bytes(data)
    (said,) = next(dbsn.io.open(tmp_path / "b.dng").planes()).remarks
    assert said == "50 % of it is empty, so it may be damaged"
