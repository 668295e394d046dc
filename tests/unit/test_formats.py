"""One table decides what kind a file is: by its content, and a row is all that a new format needs."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

import dbsn.io
from dbsn.batch.plan import plan
from dbsn.errors import ImageError
from dbsn.io import format_table
from dbsn.io.folders import find_images, load_folder
from dbsn.io.format_table import FORMATS, Format
from dbsn.io.picture import picture_of

STACK = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)


@pytest.mark.parametrize(
    ("kind", "name"), [("PNG", "PNG"), ("JPEG", "JPEG"), ("TIFF", "TIFF"), ("WEBP", "WebP"), ("BMP", "BMP")]
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".zarr", ""])
def test_the_content_decides_not_the_name(tmp_path: Path, kind: str, name: str, suffix: str) -> None:
    path = tmp_path / f"image{suffix}"
    Image.new("RGB", (8, 6)).save(path, kind)
    assert dbsn.io.open(path).format.name == name
    assert next(dbsn.io.open(path).planes()).samples.shape == (6, 8, 3)


@pytest.mark.parametrize(
    ("make", "error", "says"),
    [
        (lambda path: path.write_bytes(b""), ImageError, "the file is empty"),
        (lambda path: path.write_bytes(b"text"), ImageError, "damaged, or not PNG"),
        (lambda path: path.mkdir(), IsADirectoryError, "a.png"),
        (lambda path: None, FileNotFoundError, "a.png"),
    ],
)
def test_what_is_no_image_says_so_when_it_is_read(tmp_path: Path, make, error: type[Exception], says: str) -> None:
    make(tmp_path / "a.png")
    source = dbsn.io.open(tmp_path / "a.png")
    assert source.megapixels() == 0
    with pytest.raises(error, match=says):
        source.picture()
    with pytest.raises(error, match=says):
        next(source.planes())


def test_a_result_has_the_suffix_that_its_format_is_written_with(tmp_path: Path) -> None:
    for name in ("a.nef", "b.DNG", "c.png"):
        (tmp_path / name).write_bytes(b"II*\0")
    results = [dbsn.io.open(tmp_path / name).result(Path(name)).name for name in ("a.nef", "b.DNG", "c.png")]
    assert results == ["a.dng", "b.dng", "c.png"]


@pytest.fixture
def _npy(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row more: stacks saved by numpy, which dbsn reads and does not write."""

    def planes(path, most, axes):
        pages = np.load(path)
        for number in range(min(len(pages), most or len(pages))):
            yield picture_of(path, pages[number])

    row = Format(
        name="numpy", suffixes=frozenset({".npy"}), recognises=lambda path, head: head.startswith(b"\x93NUMPY"),
        read=lambda path: picture_of(path, np.load(path)[0]), has_one_plane=lambda path: len(np.load(path)) == 1,
        planes=planes, megapixels=lambda path, axes: np.load(path).size / 1e6,
        refusal="dbsn does not write .npy files", written=".tif",
    )  # fmt: skip
    monkeypatch.setattr(format_table, "FORMATS", (*FORMATS, row))


@pytest.mark.usefixtures("_npy")
def test_one_row_makes_a_format(tmp_path: Path) -> None:
    source = tmp_path / "in" / "a.npy"
    source.parent.mkdir()
    np.save(source, STACK)
    assert find_images([source.parent]) == [source]
    assert [image.shape for image in load_folder([source.parent])[1]] == [(20, 30, 1)] * 3
    assert dbsn.io.open(source).megapixels() == pytest.approx(0.0018)
    [job] = plan([source.parent], tmp_path / "out")
    assert job.output == tmp_path / "out" / "a.tif"
    job.output.parent.mkdir()
    with dbsn.io.open(source).writing(job.output) as write:
        for picture in dbsn.io.open(source).planes():
            dbsn.io.open(source).check_fits(job.output, picture)
            write(picture.samples, picture)
    written = tifffile.imread(job.output)
    assert written.dtype == np.uint16
    np.testing.assert_array_equal(written, STACK)


@pytest.mark.usefixtures("_npy")
def test_a_format_that_is_only_read_is_not_written(tmp_path: Path) -> None:
    Image.new("L", (8, 6)).save(tmp_path / "a.png")
    source = dbsn.io.open(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"b.npy: dbsn does not write .npy files. Use .tif."):
        source.check_fits(tmp_path / "b.npy", source.picture())
    np.save(tmp_path / "c.npy", STACK)
    with (
        pytest.raises(ImageError, match=r"d.png: a .png file cannot hold a stack of pages. Write .tif instead."),
        dbsn.io.open(tmp_path / "c.npy").writing(tmp_path / "d.png"),
    ):
        pass


@pytest.mark.usefixtures("_npy")
def test_a_large_stack_of_another_format_becomes_a_bigtiff(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", STACK)
    source = dbsn.io.open(tmp_path / "a.npy")
    for limit, is_big in ((32 * STACK.size - 1, True), (32 * STACK.size, False)):
        monkeypatch.setattr("dbsn.io.tiff.LARGEST_TIFF", limit)
        with source.writing(tmp_path / "b.tif") as write:
            for picture in source.planes():
                write(picture.samples, picture)
        with tifffile.TiffFile(tmp_path / "b.tif") as written:
            assert written.is_bigtiff == is_big
