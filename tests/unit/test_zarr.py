"""Zarr arrays come back as they were but for the pixels' noise, and are never whole in memory."""

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import torch
import zarr

import dbsn.io
from dbsn.config import GridConfig, ModelConfig
from dbsn.denoiser import Denoiser
from dbsn.errors import ImageError
from dbsn.io import zarr as zarrs
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.models.blindspot import BlindSpotModel
from dbsn.store.model_file import ModelFile

Command = Callable[..., Any]
RANDOM = np.random.default_rng(0)
OME = [{"name": "t", "type": "time"}, {"name": "c", "type": "channel"}, {"name": "y", "type": "space"},
       {"name": "x", "type": "space"}]  # fmt: skip


def samples(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    values = RANDOM.random(shape)
    return values.astype(dtype) if dtype.startswith("float") else (values * np.iinfo(dtype).max).astype(dtype)


def plain(path: Path, array: np.ndarray, version: int = 3, names: tuple[str, ...] | None = None) -> Path:
    kept = {
        "attributes": {"objective": "60x"},
        "compressors": zarr.codecs.ZstdCodec(level=3) if version == 3 else "auto",
    }
    if version == 3:
        kept["dimension_names"] = names
    elif names:
        kept["attributes"] = {"objective": "60x", "_ARRAY_DIMENSIONS": list(names)}
    made = zarr.create_array(path, shape=array.shape, dtype=array.dtype, chunks=tuple(min(n, 32) for n in array.shape),
                             zarr_format=version, **kept)  # fmt: skip
    made[:] = array
    return path


def ome(path: Path, array: np.ndarray, version: int) -> Path:
    scales = [{"type": "scale", "coordinateTransformations": [], "scale": [1, 1, 0.1 * 2**level, 0.1 * 2**level]}
              for level in (0, 1)]  # fmt: skip
    datasets = [{"path": str(level), "coordinateTransformations": [scales[level]]} for level in (0, 1)]
    told = {"multiscales": [{"name": "cells", "axes": OME, "datasets": datasets}], "omero": {"channels": []}}
    group = zarr.create_group(path, zarr_format=version, attributes={"ome": told} if version == 3 else told)
    for level, pixels in enumerate((array, array[..., ::2, ::2])):
        group.create_array(str(level), shape=pixels.shape, dtype=pixels.dtype, chunks=(1, 1, 32, 32))[:] = pixels
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = BlindSpotModel(ModelConfig(network=GridConfig(widths=(4,), blocks=(1,))))
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    path = tmp_path_factory.mktemp("model") / "model.safetensors"
    Denoiser(ModelFile(model=network, about={}), device="cpu").save(path)
    return path


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("shape", [(70, 45), (2, 3, 40, 33)])
def test_at_strength_0_an_array_comes_back_bit_for_bit_with_its_chunks_and_names(
    tmp_path: Path, model: Path, dbsn_command: Command, version: int, dtype: str, shape: tuple[int, ...]
) -> None:
    array = samples(shape, dtype)
    plain(tmp_path / "a.zarr", array, version, ("time", "channel", "y", "x")[-len(shape) :])
    done = dbsn_command("denoise", tmp_path / "a.zarr", "-m", model, "-o", tmp_path / "out", "--strength", 0)
    assert done.returncode == 0, done.stderr
    before, after = zarr.open(tmp_path / "a.zarr"), zarr.open(tmp_path / "out" / "a.zarr")
    np.testing.assert_array_equal(after[:], array)
    assert after.metadata == before.metadata
    assert not list((tmp_path / "out").glob(".*"))


@pytest.mark.parametrize("version", [2, 3])
def test_an_ome_zarr_is_denoised_plane_by_plane_at_full_resolution(
    tmp_path: Path, model: Path, dbsn_command: Command, version: int
) -> None:
    array = samples((2, 2, 50, 61), "uint16")
    ome(tmp_path / "in" / "b.ome.zarr", array, version)
    flags = ("--tile", 24, "--save-std")
    done = dbsn_command("denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out", *flags)
    assert done.returncode == 0, done.stderr
    result = zarr.open(tmp_path / "out" / "b.ome.zarr")
    assert sorted(result.array_keys()) == ["0"]
    before, after = (zarr.open(tmp_path / where / "b.ome.zarr").attrs.asdict() for where in ("in", "out"))
    told, kept = (each.get("ome", each)["multiscales"][0] for each in (before, after))
    assert kept == {**told, "datasets": told["datasets"][:1]}
    denoiser = Denoiser.load(model, device="cpu")
    for time in range(2):
        for channel in range(2):
            expected = denoiser.denoise(array[time, channel]).astype(int)
            assert np.abs(result["0"][time, channel].astype(int) - expected).max() <= 1
    std = zarr.open(tmp_path / "out" / "b.ome_std.zarr")["0"]
    assert std.dtype == np.float32
    _, promised = denoiser.predict(array[1, 0], return_std=True)
    np.testing.assert_allclose(std[1, 0], 65535 * promised, rtol=1e-3)
    assert "4 of 4" not in done.stderr
    again = dbsn_command("denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out", *flags)
    assert "1 of 1 results exist already" in again.stderr


def test_the_last_axis_of_three_is_colour_unless_the_axes_say_otherwise(tmp_path: Path) -> None:
    array = samples((30, 20, 3), "uint8")
    [colour] = zarrs.ZarrImage(plain(tmp_path / "c.zarr", array)).planes()
    np.testing.assert_allclose(colour[5:9, 2:4], array[5:9, 2:4] / np.float32(255))
    planes = zarrs.ZarrImage(plain(tmp_path / "z.zarr", array, names=("y", "x", "z"))).planes()
    assert [plane.shape for plane in planes] == [(30, 20, 1)] * 3
    np.testing.assert_allclose(planes[2][3:5][..., 0], array[3:5, :, 2] / np.float32(255))


def test_axes_that_only_begin_like_colour_count_planes(tmp_path: Path) -> None:
    array = samples((3, 30, 20), "uint8")
    planes = zarrs.ZarrImage(plain(tmp_path / "a.zarr", array, names=("slice", "y", "x"))).planes()
    assert [plane.shape for plane in planes] == [(30, 20, 1)] * 3
    [colour] = zarrs.ZarrImage(plain(tmp_path / "b.zarr", array, names=("sample", "y", "x"))).planes()
    np.testing.assert_allclose(colour[5:9, 2:4], array[:, 5:9, 2:4].transpose(1, 2, 0) / np.float32(255))


def test_axes_that_a_zarr_does_not_name_are_given(tmp_path: Path, model: Path, dbsn_command: Command) -> None:
    array = samples((40, 33, 5), "uint16")
    source = plain(tmp_path / "depth_last.zarr", array)
    done = dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "out", "--axes", "yxz")
    assert done.returncode == 0, done.stderr
    result = zarr.open(tmp_path / "out" / "depth_last.zarr")
    assert (result.shape, result.dtype) == (array.shape, array.dtype)
    expected = Denoiser.load(model, device="cpu").denoise(array, axes="YXZ")
    assert np.abs(result[:].astype(int) - expected).max() <= 1
    assert [block.samples.shape for block in dbsn.io.open(source).planes(axes="YXZ")] == [(40, 33, 1)] * 5
    again = dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "out", "--axes", "yzx")
    assert again.returncode == 0
    assert "exist already" not in again.stderr, "other planes, so another result"


def test_colours_that_lie_first_are_given(tmp_path: Path) -> None:
    array = samples((3, 40, 33), "uint8")
    path = plain(tmp_path / "c.zarr", array)
    assert [block.samples.shape for block in dbsn.io.open(path).planes()] == [(40, 33, 1)] * 3
    [block] = dbsn.io.open(path).planes(axes="SYX")
    np.testing.assert_array_equal(block.samples, array.transpose(1, 2, 0))


@pytest.mark.parametrize(
    ("axes", "told"),
    [
        ("YX", "each of 3 axes"),
        ("ZZX", "each of 3 axes"),
        ("TZX", "with Y and X"),
        ("SYX", "colours S (got 5, expected 3)"),
    ],
)
def test_axes_that_are_not_the_arrays_are_refused(tmp_path: Path, axes: str, told: str) -> None:
    path = plain(tmp_path / "a.zarr", samples((5, 40, 33), "uint16"))
    with pytest.raises(ImageError, match=re.escape(told)) as refused:
        next(dbsn.io.open(path).planes(axes=axes))
    assert str(path) in str(refused.value)


def test_the_axes_of_other_files_can_be_said_but_not_chosen(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", samples((3, 40, 33), "uint16"), photometric="minisblack")
    assert len(list(dbsn.io.open(tmp_path / "a.tif").planes(axes="CYX"))) == 3
    with pytest.raises(ImageError, match=r"a\.tif: .*got --axes SYX, but each of its pages is YX"):
        next(dbsn.io.open(tmp_path / "a.tif").planes(axes="SYX"))


def test_the_other_byte_order_is_read_and_kept(tmp_path: Path, model: Path, dbsn_command: Command) -> None:
    array = samples((40, 41), "uint16").astype(">u2")
    source = plain(tmp_path / "a.zarr", array, 2)
    assert dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "b.zarr", "--strength", 0).returncode == 0
    result = zarr.open(tmp_path / "b.zarr")
    assert result.dtype == np.dtype(">u2")
    np.testing.assert_array_equal(result[:], array)


def test_results_are_made_once_and_again_when_their_source_has_changed(
    tmp_path: Path, model: Path, dbsn_command: Command
) -> None:
    source = ome(tmp_path / "in" / "a.zarr", samples((1, 1, 40, 40), "uint16"), 3)
    into_folder = ("denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert dbsn_command(*into_folder).returncode == 0
    first = zarr.open(tmp_path / "out" / "a.zarr")["0"][:]
    assert "1 of 1 results exist already" in dbsn_command(*into_folder).stderr
    zarr.open(source, mode="r+")["0"][:] = samples((1, 1, 40, 40), "uint16")
    assert "exist already" not in dbsn_command(*into_folder).stderr
    assert (zarr.open(tmp_path / "out" / "a.zarr")["0"][:] != first).any()
    into_file = ("denoise", source, "-m", model, "-o", tmp_path / "b.zarr")
    assert dbsn_command(*into_file).returncode == 0
    again = dbsn_command(*into_file)
    assert again.returncode == 2
    assert "b.zarr: exists already. Add --overwrite to replace it." in again.stderr
    assert dbsn_command(*into_file, "--overwrite").returncode == 0
    assert not list(tmp_path.glob(".*"))
    named = dbsn_command("denoise", source / "0", "-m", model, "-o", tmp_path / "part")
    assert named.returncode == 0, named.stderr
    assert zarr.open(tmp_path / "part" / "0.zarr").shape == (1, 1, 40, 40)


def test_a_damaged_chunk_is_told_and_the_next_file_is_done(tmp_path: Path, model: Path, dbsn_command: Command) -> None:
    for name in "ab":
        array = zarr.create_array(
            tmp_path / "in" / f"{name}.zarr", shape=(40, 41), chunks=(40, 41), dtype="uint8",
            compressors=zarr.codecs.GzipCodec(),
        )  # fmt: skip
        array[:] = samples((40, 41), "uint8")
    chunk = tmp_path / "in" / "a.zarr" / "c" / "0" / "0"
    chunk.write_bytes(chunk.read_bytes()[:100])
    done = dbsn_command("denoise", tmp_path / "in", "-m", model, "-o", tmp_path / "out")
    assert done.returncode == 1
    assert "a.zarr: truncated or damaged" in done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b.zarr", "denoise.csv"]


def test_blocks_of_all_planes_are_learned_from(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarrs, "BLOCK", 20)
    array = samples((3, 50, 30), "uint16")
    path = plain(tmp_path / "d.zarr", array)
    every = [picture.pixels for picture in dbsn.io.open(path).planes()]
    assert len(every) == 3 * 2 * 2
    assert sum(block.size for block in every) == array.size
    np.testing.assert_allclose(every[1][..., 0], array[0, :25, 15:] / np.float32(65535))
    assert len(list(dbsn.io.open(path).planes(7))) == 7
    barely_more = plain(tmp_path / "e.zarr", array[0, :21, :23])
    assert [picture.pixels.shape for picture in dbsn.io.open(barely_more).planes()] == [(21, 23, 1)]
    assert dbsn.io.open(path).megapixels() == pytest.approx(3 * 50 * 30 / 1e6)
    assert dbsn.io.open(path).megapixels("SYX") == pytest.approx(50 * 30 / 1e6)
    assert read_image(plain(tmp_path / "one.zarr", array[0])).pixels.shape == (50, 30, 1)


def test_a_folder_holds_zarrs_as_images_and_nothing_inside_them(tmp_path: Path) -> None:
    inner = ome(tmp_path / "deep" / "e.zarr", samples((1, 1, 40, 40), "uint8"), 3)
    (inner / "thumbnail.png").write_bytes(b"")
    (tmp_path / "empty.zarr").mkdir()
    assert find_images([tmp_path]) == [inner]
    assert find_images([inner / "0"]) == [inner / "0"]


def test_what_is_wrong_is_one_line_and_nothing_is_left(
    tmp_path: Path, model: Path, dbsn_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = zarr.create_group(tmp_path / "many.zarr")
    for name in "ab":
        group.create_array(name, shape=(9, 9), dtype="uint8")
    plain(tmp_path / "text.zarr", np.zeros((4, 4), "complex64"))
    plain(tmp_path / "row.zarr", samples((40,), "uint8"))
    nan = np.full((40, 40), np.nan, "float32")
    plain(tmp_path / "nan.zarr", nan)
    broken = plain(tmp_path / "broken.zarr", samples((40, 40), "uint8"))
    (broken / "zarr.json").write_text("{")
    said = {
        "many": "Name one of them",
        "text": "complex64",
        "row": "is no image",
        "nan": "no pixel is finite",
        "broken": "not a readable Zarr",
    }
    for name, words in said.items():
        done = dbsn_command("denoise", tmp_path / f"{name}.zarr", "-m", model, "-o", tmp_path / name)
        assert done.returncode == 1
        assert done.stderr.count("\n") == 1, done.stderr
        assert words in done.stderr
        assert [path.name for path in (tmp_path / name).iterdir()] == ["denoise.csv"]
    good = plain(tmp_path / "good.zarr", samples((40, 40), "uint8"))
    done = dbsn_command("denoise", good, "-m", model, "-o", tmp_path / "good.tif")
    assert done.returncode == 1
    assert (
        "good.zarr: a Zarr can only be saved as Zarr (got good.tif, expected a name that ends in .zarr)" in done.stderr
    )
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(ImageError, match=r"dbsn\[zarr\]"):
        zarrs.ZarrImage(good)


def test_kinds_can_be_changed(tmp_path: Path, model: Path, dbsn_command: Command) -> None:
    array = samples((40, 41), "uint16")
    source = tmp_path / "f.zarr"
    kept: dict[str, Any] = {"compressors": zarr.codecs.GzipCodec(level=2), "shards": (32, 32)}
    zarr.create_array(source, shape=array.shape, chunks=(8, 8), dtype="uint16", **kept)[:] = array
    flags = ("--strength", 0, "--dtype", "float32")
    assert dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "g.zarr", *flags).returncode == 0
    result = zarr.open(tmp_path / "g.zarr")
    assert result.dtype == np.float32
    np.testing.assert_allclose(result[:], array, rtol=1e-6)
    before = zarr.open(source)
    assert (result.chunks, result.shards, result.compressors) == (before.chunks, before.shards, before.compressors)
    (tmp_path / "h.zarr").write_text("a file")
    done = dbsn_command("denoise", source, "-m", model, "-o", tmp_path / "h.zarr", "--overwrite")
    assert done.returncode == 1
    assert "h.zarr: exists and is no Zarr" in done.stderr
