"""Formats beyond the usual ones are read whole, come back as their users expect, or are named."""

import importlib.util
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from PIL import Image

import dbsn.io
from dbsn.errors import ImageError
from dbsn.io.formats import read_image, write_image

RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(0, 256, (12, 18, 3), np.uint8)


def copied(source: Path) -> tuple[Path, tuple[str, ...]]:
    """Write a file's planes again where a result would be; return it and what is said."""
    file, remarks = dbsn.io.open(source), dict[str, None]()
    output = file.result(source.with_name("out") / source.name)
    output.parent.mkdir(exist_ok=True)
    with file.writing(output) as write:
        for picture in file.planes():
            file.check_fits(output, picture)
            remarks |= dict.fromkeys(file.remarks(output, picture))
            write(picture.pixels, picture)
    return output, tuple(remarks)


def needs(package: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")


@pytest.mark.parametrize("frames", [1, 3])
def test_the_first_frame_of_a_gif_becomes_a_png(tmp_path: Path, frames: int) -> None:
    images = [Image.fromarray(np.roll(COLOURS, number, 0)).quantize(64) for number in range(frames)]
    images[0].save(tmp_path / "a.gif", save_all=True, append_images=images[1:], comment=b"hello")
    result, said = copied(tmp_path / "a.gif")
    with Image.open(result) as image:
        assert image.format == "PNG"
        assert image.text["Comment"] == "hello"  # type: ignore[attr-defined]
        np.testing.assert_array_equal(image, images[0].convert("RGB"))
    assert said == ("a GIF comes back as PNG", "only the first of its 3 frames is denoised")[: 1 + (frames > 1)]


def test_no_result_is_a_gif(tmp_path: Path) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"x\.gif: a GIF holds 256 colours, too few for a result\. Use"):
        write_image(tmp_path / "x.gif", COLOURS / np.float32(255), read_image(tmp_path / "a.png"))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("colours", [False, True])
@pytest.mark.parametrize("white", [255, 65535, 1023])
def test_netpbm_comes_back(tmp_path: Path, binary: bool, colours: bool, white: int) -> None:
    array = RANDOM.integers(0, white + 1, (5, 7, 3) if colours else (5, 7), np.uint16)
    head = f"P{2 + colours + 3 * binary}\n# a comment\n7 5\n{white}\n".encode()
    body = array.astype(">u2" if white > 255 else "u1").tobytes()
    (tmp_path / "a.pnm").write_bytes(head + (body if binary else " ".join(map(str, array.ravel())).encode()))
    result, said = copied(tmp_path / "a.pnm")
    full = 255 if white == 255 else 65535
    wanted = np.rint(array * (full / white)).astype(">u2" if full > 255 else "u1")
    assert result.read_bytes() == f"P{6 if colours else 5} 7 5 {full}\n".encode() + wanted.tobytes()
    assert said == (() if white == full else ("numbers up to 1023 are scaled to 65535",))


def test_a_bitmap_is_black_where_it_is_1(tmp_path: Path) -> None:
    (tmp_path / "a.pbm").write_bytes(b"P1\n3 2\n1 0 1\n0 0 1\n")
    assert read_image(tmp_path / "a.pbm").samples[..., 0].tolist() == [[0, 255, 0], [255, 255, 0]]
    (tmp_path / "b.pbm").write_bytes(b"P4\n3 2\n\xa0\x20")
    assert read_image(tmp_path / "b.pbm").samples[..., 0].tolist() == [[0, 255, 0], [255, 255, 0]]


def test_pam_keeps_its_transparency(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 256, (5, 7, 4), np.uint8)
    head = b"P7\nWIDTH 7\nHEIGHT 5\nDEPTH 4\nMAXVAL 255\nTUPLTYPE RGB_ALPHA\nENDHDR\n"
    (tmp_path / "a.pam").write_bytes(head + array.tobytes())
    result, _ = copied(tmp_path / "a.pam")
    assert result.read_bytes().endswith(b"ENDHDR\n" + array.tobytes())
    assert b"RGB_ALPHA" in result.read_bytes()


@pytest.mark.parametrize("suffix", [".jp2", ".j2k"])
@pytest.mark.parametrize(("shape", "dtype"), [((9, 11), "u1"), ((9, 11, 3), "u2"), ((9, 11, 4), "u1"), ((9, 11), "u2")])
def test_jpeg_2000_comes_back_without_loss(tmp_path: Path, suffix: str, shape: tuple[int, ...], dtype: str) -> None:
    array = RANDOM.integers(0, 256 ** np.dtype(dtype).itemsize, shape, dtype)
    coded = imagecodecs.jpeg2k_encode(array, level=0, reversible=True, codecformat=suffix[1:])
    (tmp_path / f"a{suffix}").write_bytes(coded)
    result, said = copied(tmp_path / f"a{suffix}")
    assert result.suffix == suffix
    assert result.read_bytes()[:4] == coded[:4]
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(result.read_bytes()), array)
    assert not said


def test_twelve_bits_of_jpeg_2000_keep_their_numbers(tmp_path: Path) -> None:
    array = RANDOM.integers(0, 4096, (9, 11), np.uint16)
    coded = imagecodecs.jpeg2k_encode(array, level=0, reversible=True, codecformat="jp2", bitspersample=12)
    (tmp_path / "a.jp2").write_bytes(coded)
    result, said = copied(tmp_path / "a.jp2")
    np.testing.assert_array_equal(imagecodecs.jpeg2k_decode(result.read_bytes()), array)
    assert said == ("samples of 12 bits are written as 16 bits, with the same numbers",)


@pytest.mark.parametrize("name", ["a.gif", "a.ppm", "a.pam", "a.jp2", "a.j2k", "a.fits"])
def test_a_truncated_file_is_damaged_and_no_picture(tmp_path: Path, name: str) -> None:
    if name == "a.fits":
        pytest.importorskip("astropy.io.fits").PrimaryHDU(COLOURS[..., 0]).writeto(tmp_path / name)
    elif name in ("a.gif", "a.ppm", "a.jp2"):
        Image.fromarray(COLOURS).save(tmp_path / name)
    elif name == "a.pam":
        head = b"P7\nWIDTH 18\nHEIGHT 12\nDEPTH 3\nMAXVAL 255\nTUPLTYPE RGB\nENDHDR\n"
        (tmp_path / name).write_bytes(head + COLOURS.tobytes())
    else:
        (tmp_path / name).write_bytes(imagecodecs.jpeg2k_encode(COLOURS, level=0, codecformat="j2k"))
    data = (tmp_path / name).read_bytes()
    size = len(data.rstrip(b"\0")) if name == "a.fits" else len(data)
    for share in (0.5, 0.9):
        (tmp_path / name).write_bytes(data[: int(size * share)])
        with pytest.raises(ImageError, match="damaged"):
            list(dbsn.io.open(tmp_path / name).planes())


@pytest.mark.parametrize(("kind", "name"), [("ICO", "ICO"), ("PDF", "PDF"), ("SGI", "SGI"), ("DDS", "DDS")])
def test_a_whole_file_of_another_format_is_named(tmp_path: Path, kind: str, name: str) -> None:
    Image.fromarray(COLOURS).save(tmp_path / "a.png", kind)
    with pytest.raises(ImageError, match=rf"a\.png: {name} files are not supported\. Convert it to PNG or TIFF\."):
        read_image(tmp_path / "a.png")


@needs("astropy")
@pytest.mark.parametrize(
    ("shape", "dtype"), [((9, 11), "i2"), ((9, 11), "u2"), ((2, 3, 9, 11), "f4"), ((2, 9, 11), "u1"), ((9, 11), "f8")]
)
def test_fits_comes_back_with_its_header_and_other_parts(tmp_path: Path, shape: tuple[int, ...], dtype: str) -> None:
    from astropy.io import fits

    array = RANDOM.integers(0, 200, shape).astype(dtype)
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=np.arange(3))], name="CAT")
    header = fits.Header({"OBJECT": "M31", "EXPTIME": 30.0})
    fits.HDUList([fits.PrimaryHDU(array, header), table]).writeto(tmp_path / "a.fits", checksum=True)
    result, said = copied(tmp_path / "a.fits")
    with fits.open(result, checksum=True) as after:  # a wrong sum is a warning, which is an error here
        assert after[0].data.dtype.newbyteorder("=") == np.dtype(dtype)
        np.testing.assert_array_equal(after[0].data, array)
        assert (after[0].header["OBJECT"], after[0].header["EXPTIME"]) == ("M31", 30.0)
        assert after["CAT"].data["x"].tolist() == [0, 1, 2]
    assert not said


@needs("astropy")
def test_counts_of_32_bits_in_fits_become_floats_with_the_same_numbers(tmp_path: Path) -> None:
    from astropy.io import fits

    array = RANDOM.integers(0, 100_000, (9, 11), np.int32)
    fits.PrimaryHDU(array).writeto(tmp_path / "a.fits")
    result, said = copied(tmp_path / "a.fits")
    with fits.open(result) as after:
        np.testing.assert_array_equal(after[0].data, array)
        assert after[0].header["BITPIX"] == -32
    assert said == ("its int32 samples are written as float32, with the same numbers",)
    picture = read_image(tmp_path / "a.fits")
    assert dbsn.io.open(tmp_path / "a.fits").remarks(tmp_path / "a.tif", picture)[1:] == (
        "the FITS header cannot be kept in a .tif file",
    )


@needs("pylibCZIrw")
def test_a_czi_becomes_an_ome_tiff(tmp_path: Path) -> None:
    from pylibCZIrw import czi

    array = RANDOM.integers(0, 60_000, (2, 2, 3, 20, 30), np.uint16)  # T C Z Y X
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for t, c, z in np.ndindex(2, 2, 3):
            file.write(array[t, c, z][..., None], plane={"T": t, "C": c, "Z": z})
        names = {0: "DAPI", 1: "GFP"}
        file.write_metadata("a", channel_names=names, scale_x=1e-7, scale_y=2e-7, scale_z=5e-7)
    result, said = copied(tmp_path / "a.czi")
    assert result.name == "a.ome.tif"
    with tifffile.TiffFile(result) as tif:
        assert tif.is_ome
        assert tif.series[0].axes == "TCZYX"
        np.testing.assert_array_equal(tif.asarray(), array)
        for part in ('PhysicalSizeX="0.1"', 'PhysicalSizeZ="0.5"', 'Name="DAPI"', 'Name="GFP"'):
            assert part in (tif.ome_metadata or "")
    assert len(said) == 1


def test_what_a_microscopes_file_needs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, magic, package in (("a.czi", b"ZISRAWFILE", "pylibCZIrw"), ("a.nd2", b"\xda\xce\xbe\x0a", "nd2")):
        monkeypatch.setitem(__import__("sys").modules, package, None)
        (tmp_path / name).write_bytes(magic + bytes(90))
        with pytest.raises(ImageError, match=rf"needs the package {package}\. Install it: pip install 'dbsn\[microsc"):
            next(dbsn.io.open(tmp_path / name).planes())
