"""Stacks of pages come back as they went in: samples, axes, pixel sizes, names, compression, a page at a time."""

import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

import dbsn.io
import dbsn.io.tiff
from dbsn.errors import ImageError
from dbsn.io.formats import read_image
from dbsn.io.tiff import stack_size

GENERATOR = np.random.default_rng(0)


def samples(shape: tuple[int, ...], dtype: str) -> np.ndarray:
    if dtype == "float32":
        return GENERATOR.normal(0, 1000, shape).astype(np.float32)
    limits = np.iinfo(dtype)
    return GENERATOR.integers(limits.min + (dtype == "int16"), limits.max, shape, dtype, endpoint=True)


def copied(source: Path, output: Path) -> None:
    with dbsn.io.open(source).writing(output) as write:
        for picture in dbsn.io.open(source).planes():
            write(picture.pixels, picture)


def imagej(path: Path, array: np.ndarray) -> None:
    labels = [f"plane {number} in µm" for number in range(array.shape[0] * array.shape[1])]
    metadata = {"axes": "TZYX", "unit": "um", "spacing": 0.5, "finterval": 2.0, "Labels": labels}
    tifffile.imwrite(path, array, imagej=True, resolution=(5.5, 5.5), metadata=metadata)


def ome(path: Path, array: np.ndarray) -> None:
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.1, "PhysicalSizeXUnit": "µm", "Channel": {"Name": ["a", "b", "c"]}}
    tifffile.imwrite(path, array, ome=True, compression="zlib", metadata=metadata)


def page_by_page(path: Path, array: np.ndarray) -> None:
    with tifffile.TiffWriter(path) as writer:
        for page in array:
            writer.write(page, photometric="minisblack")


def appended(path: Path, array: np.ndarray) -> None:
    for page in array:
        tifffile.imwrite(path, page, append=True)


def plain(**options: Any) -> Callable[[Path, np.ndarray], None]:
    return lambda path, array: tifffile.imwrite(path, array, **options)


@pytest.mark.parametrize(
    ("write", "shape", "dtype"),
    [
        (imagej, (4, 3, 20, 31), "uint16"),
        (imagej, (4, 3, 20, 31), "float32"),
        (ome, (2, 3, 20, 31), "uint8"),
        (ome, (2, 3, 20, 31), "uint16"),
        (plain(), (5, 20, 31), "uint8"),
        (plain(metadata=None), (5, 20, 31), "int16"),
        (plain(compression="lzw", predictor=True), (5, 20, 31), "uint16"),
        (plain(compression="zstd"), (5, 20, 31), "float32"),
        (plain(bigtiff=True), (5, 20, 31), "uint16"),
        (plain(byteorder=">"), (5, 20, 31), "uint16"),
        (plain(byteorder=">", metadata=None, compression="zlib"), (5, 20, 31), "float32"),
        (plain(photometric="rgb"), (5, 20, 31, 3), "uint8"),
        (plain(truncate=True), (5, 20, 31), "uint16"),
        (plain(description="my own words", metadata={"axes": "TYX", "who": "me"}), (5, 20, 31), "uint16"),
        (ome, (1, 1, 20, 31), "uint16"),
        (imagej, (1, 1, 20, 31), "uint16"),
        (plain(description="one page"), (20, 31), "uint8"),
        (plain(photometric="rgb", extrasamples=["unassalpha"]), (5, 20, 31, 4), "uint16"),
    ],
)
def test_a_stack_comes_back_as_it_was(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None], shape: tuple[int, ...], dtype: str
) -> None:
    array = samples(shape, dtype)
    write(tmp_path / "in.tif", array)
    copied(tmp_path / "in.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "in.tif") as before, tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert np.array_equal(after.asarray().squeeze(), array.squeeze())
        assert after.series[0].axes == before.series[0].axes
        assert after.series[0].dtype == before.series[0].dtype
        assert (after.is_bigtiff, after.byteorder) == (before.is_bigtiff, before.byteorder)
        first, kept = before.pages.first, after.pages.first
        if "truncated" not in first.description:
            assert [kept.description, kept.description1] == [first.description, first.description1]
        assert kept.compression == first.compression
        assert kept.resolution == first.resolution
        assert kept.resolutionunit == first.resolutionunit
        assert after.imagej_metadata == before.imagej_metadata
        assert after.ome_metadata == before.ome_metadata
    assert not list(tmp_path.glob(".*"))
    assert sum(1 for _ in dbsn.io.open(tmp_path / "out.tif").planes()) == array.size // first.size


@pytest.mark.parametrize("write", [page_by_page, appended, plain(photometric="rgb", planarconfig="separate")])
def test_pages_that_were_written_one_by_one_come_back(
    tmp_path: Path, write: Callable[[Path, np.ndarray], None]
) -> None:
    array = samples((3, 20, 31), "uint16")
    write(tmp_path / "in.tif", array)
    before = [picture.pixels for picture in dbsn.io.open(tmp_path / "in.tif").planes()]
    copied(tmp_path / "in.tif", tmp_path / "out.tif")
    copied(tmp_path / "out.tif", tmp_path / "again.tif")
    after = [picture.pixels for picture in dbsn.io.open(tmp_path / "again.tif").planes()]
    assert len(after) == len(before)
    assert all(np.array_equal(*pair) for pair in zip(before, after, strict=True))


def test_what_32_bit_offsets_cannot_reach_becomes_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tifffile.imwrite(tmp_path / "in.tif", samples((5, 20, 31), "uint8"))
    monkeypatch.setattr(dbsn.io.tiff, "LARGEST_TIFF", 5 * 20 * 31 - 1)
    copied(tmp_path / "in.tif", tmp_path / "out.tif")
    with tifffile.TiffFile(tmp_path / "out.tif") as after:
        assert after.is_bigtiff


def test_so_many_pages_are_evenly_chosen(tmp_path: Path) -> None:
    array = np.arange(10, dtype=np.uint8)[:, None, None] * np.ones((8, 8), np.uint8)
    tifffile.imwrite(tmp_path / "s.tif", array)
    chosen = [round(255 * float(picture.pixels[0, 0, 0])) for picture in dbsn.io.open(tmp_path / "s.tif").planes(5)]
    assert chosen == [0, 2, 4, 6, 8]
    assert stack_size(tmp_path / "s.tif") == 10
    assert len(list(dbsn.io.open(tmp_path / "s.tif").planes(99))) == 10


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_one_page_at_a_time_is_in_memory(tmp_path: Path, compression: str | None) -> None:
    page = 256 * 256 * 2
    for pages in (4, 64):
        array = np.zeros((pages, 256, 256), np.uint16)
        tifffile.imwrite(tmp_path / f"{pages}.tif", array, compression=compression, photometric="minisblack")
        del array
        tracemalloc.start()
        copied(tmp_path / f"{pages}.tif", tmp_path / "out.tif")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 12 * page, "a page as floats, as samples, and packed; not 64 of them"


def test_other_files_are_a_stack_of_one(tmp_path: Path) -> None:
    array = samples((9, 8), "uint8")
    tifffile.imwrite(tmp_path / "a.tif", array)
    copied(tmp_path / "a.tif", tmp_path / "b.png")
    assert np.array_equal(read_image(tmp_path / "b.png").pixels, read_image(tmp_path / "a.tif").pixels)


def test_what_no_stack_can_be_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", np.zeros((3, 8, 8), np.uint8), photometric="minisblack")
    with pytest.raises(ImageError, match=r"cannot hold a stack of pages\. Write \.tif"):
        copied(tmp_path / "s.tif", tmp_path / "out.png")
    with tifffile.TiffWriter(tmp_path / "mixed.tif") as writer:
        for side in (8, 9):
            writer.write(
                np.zeros((8, 8), np.uint8 if side == 8 else np.uint16), photometric="minisblack", metadata=None
            )
    with pytest.raises(ImageError, match=r"2 pages of different kinds\. Split it"):
        list(dbsn.io.open(tmp_path / "mixed.tif").planes())


@pytest.mark.parametrize("compression", [None, "zlib"])
def test_a_stack_cut_short_leaves_no_output(tmp_path: Path, compression: str | None) -> None:
    tifffile.imwrite(tmp_path / "s.tif", samples((6, 64, 64), "uint8"), compression=compression)
    whole = (tmp_path / "s.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(whole[: len(whole) * 3 // 4])
    with pytest.raises(ImageError, match=r"cut\.tif"):
        copied(tmp_path / "cut.tif", tmp_path / "out.tif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cut.tif", "s.tif"]
