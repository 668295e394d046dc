"""What `dbsn.io` promises, checked with readers and writers other than its own wherever there is one."""

import contextlib
import dataclasses
import io
import os
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, JpegImagePlugin
from tifffile import COMPRESSION

import dbsn.io
from dbsn.errors import ImageError
from dbsn.intensity import from_pixels, to_pixels
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image, write_image
from dbsn.io.picture import Picture

Array = np.ndarray[Any, Any]
SIZES = [(1, 1), (1, 7), (29, 18)]
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
EXIF_ORIENTATION_6 = b"MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
ICC = bytes(range(256)) * 3
PHOTO = np.indices((24, 16)).sum(0).astype(np.uint8)[..., None] * np.array([1, 2, 5], np.uint8)


# Writers and readers of our own, so that no library is asked about itself


def samples(height: int, width: int, channels: int, dtype: str = "uint8", seed: int = 0) -> Array:
    """Random samples over the whole range of the kind; floats also outside [0, 1]. One channel has no axis."""
    chance = np.random.default_rng(seed)
    shape = (height, width) if channels == 1 else (height, width, channels)
    if np.dtype(dtype).kind == "f":
        return chance.normal(0.5, 1, shape).astype(dtype)
    return chance.integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(array: Array, *extra: bytes, bits: int = 0, colour: int | None = None, interlaced: bool = False) -> bytes:
    """A PNG without filters; `bits` below 8 packs, `colour` 3 says palette."""
    bits = bits or 8 * array.dtype.itemsize
    channels = 1 if array.ndim == 2 else array.shape[2]
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if colour is None else colour
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    rows = []
    for x, y, step_x, step_y in passes:
        for row in array[y::step_y, x::step_x]:
            if row.size and bits < 8:
                row = np.packbits(np.unpackbits(row[:, None], axis=1)[:, 8 - bits :].ravel())
            rows.append(b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes() if row.size else b"")
    header = struct.pack(">IIBBBBB", array.shape[1], array.shape[0], bits, colour, 0, 0, int(interlaced))
    body = chunk(b"IHDR", header) + b"".join(extra) + chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def png_chunks(data: bytes) -> dict[bytes, bytes]:
    found: dict[bytes, bytes] = {}
    offset = 8
    while offset < len(data):
        length, kind = struct.unpack_from(">I4s", data, offset)
        found[kind] = found.get(kind, b"") + data[offset + 8 : offset + 8 + length]
        offset += length + 12
    return found


def unpng(data: bytes) -> Array:
    """Decode an 8 or 16-bit PNG by the book: five filters, no interlace."""
    chunks = png_chunks(data)
    width, height, bits, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    assert bits in (8, 16)
    assert not interlaced
    channels = {0: 1, 4: 2, 2: 3, 6: 4}[colour]
    step = channels * bits // 8
    raw = zlib.decompress(chunks[b"IDAT"])
    above = [0] * (width * step)
    rows = []
    for start in range(0, len(raw), width * step + 1):
        kind, row = raw[start], list(raw[start + 1 : start + 1 + width * step])
        for i in range(len(row)):
            a, b, c = (row[i - step], above[i], above[i - step]) if i >= step else (0, above[i], 0)
            paeth = min((abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c))[2]
            row[i] = (row[i] + (0, a, b, (a + b) // 2, paeth)[kind]) % 256
        rows.append(bytes(row))
        above = row
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.frombuffer(b"".join(rows), f">u{bits // 8}").reshape(shape).astype(f"uint{bits}")


def pillow(array: Array, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, kind, **options)
    return file.getvalue()


def tiff(array: Array, **options: Any) -> bytes:
    colours = 3 if array.ndim == 3 and array.shape[2] in (3, 4) else 1
    options.setdefault("photometric", "rgb" if colours == 3 else "minisblack")
    if array.ndim == 3 and "planarconfig" not in options and array.shape[2] <= 4:
        options["planarconfig"] = "contig"
        if array.shape[2] in (2, 4):
            options.setdefault("extrasamples", ["unassalpha"])
    file = io.BytesIO()
    tifffile.imwrite(file, array, metadata=None, **options)
    return file.getvalue()


def encode(suffix: str, array: Array) -> bytes:
    match suffix:
        case ".png":
            return png(array)
        case ".tif":
            return tiff(array)
        case ".webp":
            return pillow(array, "WEBP", lossless=True, exact=True)
        case ".jpg":
            return pillow(array, "JPEG", quality=90)
    return pillow(array, "BMP")


def decode(path: Path) -> Array:
    if path.suffix == ".png":
        return unpng(path.read_bytes())
    if path.suffix == ".tif":
        return tifffile.imread(path)
    with Image.open(path) as image:
        return np.array(image)


def info(path: Path) -> dict[Any, Any]:
    """What Pillow finds beside the pixels."""
    with Image.open(path) as image:
        return image.info


def stored(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def rewritten(path: Path, to: str, change: Callable[[Array], Array] = lambda pixels: pixels) -> Path:
    """Read a file and write it again beside itself under another name."""
    picture = read_image(path)
    out = path.with_name(to)
    write_image(out, change(picture.pixels), picture)
    return out


# Round trips

LOSSLESS = [
    (suffix, dtype, channels)
    for suffix, dtypes, choices in [
        (".png", ["uint8", "uint16"], [1, 2, 3, 4]),
        (".tif", ["uint8", "uint16", "int16", "float16", "float32", "float64"], [1, 2, 3, 4]),
        (".webp", ["uint8"], [3, 4]),
        (".bmp", ["uint8"], [1, 3]),
    ]
    for dtype in dtypes
    for channels in choices
]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize(("suffix", "dtype", "channels"), LOSSLESS)
def test_a_lossless_file_comes_back_bit_for_bit(
    tmp_path: Path, suffix: str, dtype: str, channels: int, size: tuple[int, int]
) -> None:
    array = samples(*size, channels, dtype)
    if dtype == "float64":
        array = array.astype(np.float32).astype(np.float64)  # the denoiser sees float32
    path = stored(tmp_path / f"in{suffix}", encode(suffix, array))
    picture = read_image(path)
    assert picture.path == path
    assert picture.dtype == np.dtype(dtype)
    assert picture.pixels.dtype == np.float32
    assert picture.pixels.shape == (*size, 1 if channels < 3 else 3)
    assert (picture.alpha is None) == (channels in (1, 3))
    result = decode(rewritten(path, f"out{suffix}"))
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, array)


def test_sixteen_bit_colour_png_is_not_read_as_eight_bit(tmp_path: Path) -> None:
    array = np.array([[[0, 1, 256], [257, 32768, 65535]]], np.uint16)
    picture = read_image(stored(tmp_path / "a.png", png(array)))
    np.testing.assert_allclose(picture.pixels, array / 65535, rtol=1e-6)


@pytest.mark.parametrize(("suffix", "channels"), [(".png", 2), (".png", 4), (".tif", 2), (".tif", 4), (".webp", 4)])
def test_alpha_passes_untouched_while_the_colours_change(tmp_path: Path, suffix: str, channels: int) -> None:
    array = samples(9, 11, channels)
    array[:5, :, -1] = 0
    out = rewritten(stored(tmp_path / f"in{suffix}", encode(suffix, array)), f"out{suffix}", lambda pixels: 1 - pixels)
    result = decode(out)
    np.testing.assert_array_equal(result[..., -1], array[..., -1])
    np.testing.assert_array_equal(result[..., :-1], 255 - array[..., :-1])


def test_results_outside_the_range_are_clipped_and_rounded(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", png(np.zeros((1, 4), np.uint8)))
    values = np.array([-0.5, 100.4 / 255, 100.6 / 255, 7], np.float32).reshape(1, 4, 1)
    out = rewritten(path, "b.png", lambda pixels: values)
    assert unpng(out.read_bytes()).tolist() == [[0, 100, 101, 255]]


@pytest.mark.parametrize("channels", [1, 3])
def test_jpeg_comes_back_as_fine_jpeg_without_chroma_subsampling(tmp_path: Path, channels: int) -> None:
    smooth = np.indices((40, 48, channels)).sum(0).astype(np.uint8) * 2
    path = stored(tmp_path / "a.jpg", pillow(smooth.squeeze(), "JPEG", quality=60))
    out = rewritten(path, "b.jpg")
    with Image.open(path) as before, Image.open(out) as after:
        assert (after.format, after.mode) == ("JPEG", "L" if channels == 1 else "RGB")
        assert isinstance(after, JpegImagePlugin.JpegImageFile)
        assert after.quantization[0][0] <= 2  # the tables of quality 95
        assert JpegImagePlugin.get_sampling(after) in (0, -1)  # 4:4:4, or gray
        difference = np.asarray(after, int) - np.asarray(before, int)
    assert np.abs(difference).max() <= 4


def test_a_lossy_webp_stays_lossy_and_a_lossless_one_lossless(tmp_path: Path) -> None:
    array = samples(16, 16, 3)
    lossy = rewritten(stored(tmp_path / "a.webp", pillow(array, "WEBP", quality=80)), "b.webp")
    lossless = rewritten(stored(tmp_path / "c.webp", pillow(array, "WEBP", lossless=True)), "d.webp")
    assert b"VP8 " in lossy.read_bytes()[:40]
    assert b"VP8L" in lossless.read_bytes()[:40]


def test_colours_under_full_transparency_survive_in_webp(tmp_path: Path) -> None:
    array = samples(8, 8, 4)
    array[..., 3] = 0
    out = rewritten(stored(tmp_path / "a.webp", encode(".webp", array)), "b.webp")
    np.testing.assert_array_equal(decode(out), array)


# Kinds that become their nearest equal


@pytest.mark.parametrize("alpha", [False, True])
def test_a_palette_png_becomes_rgb_or_rgba(tmp_path: Path, alpha: bool) -> None:
    colours = samples(1, 5, 4, seed=1)[0]
    index = np.arange(15, dtype=np.uint8).reshape(3, 5) % 5
    extra = [chunk(b"PLTE", colours[:, :3].tobytes()), chunk(b"tRNS", colours[:, 3].tobytes())][: 1 + alpha]
    out = rewritten(stored(tmp_path / "a.png", png(index, *extra, colour=3)), "b.png")
    np.testing.assert_array_equal(unpng(out.read_bytes()), colours[index][..., : 3 + alpha])


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_gray_png_of_few_bits_becomes_eight_bits(tmp_path: Path, bits: int) -> None:
    array = samples(5, 11, 1) >> (8 - bits)
    out = rewritten(stored(tmp_path / "a.png", png(array, bits=bits)), "b.png")
    np.testing.assert_array_equal(unpng(out.read_bytes()), array * (255 // (2**bits - 1)))


def test_a_transparent_colour_becomes_an_alpha_channel(tmp_path: Path) -> None:
    array = np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)
    out = rewritten(stored(tmp_path / "a.png", png(array, chunk(b"tRNS", bytes([0, 4, 0, 5, 0, 6])))), "b.png")
    assert unpng(out.read_bytes()).tolist() == [[[1, 2, 3, 255], [4, 5, 6, 0]]]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_an_interlaced_png_is_read_in_order(tmp_path: Path, dtype: str) -> None:
    array = samples(11, 13, 3, dtype)
    out = rewritten(stored(tmp_path / "a.png", png(array, interlaced=True)), "b.png")
    np.testing.assert_array_equal(unpng(out.read_bytes()), array)


def test_one_bit_and_palette_bmp_become_gray_and_rgb(tmp_path: Path) -> None:
    mask = samples(5, 9, 1) > 127
    one = rewritten(stored(tmp_path / "a.bmp", pillow(mask, "BMP")), "b.bmp")
    np.testing.assert_array_equal(decode(one), mask * np.uint8(255))
    with Image.fromarray(samples(8, 8, 3)).quantize(7) as palette:
        palette.save(tmp_path / "c.bmp")
        expected = np.array(palette.convert("RGB"))
    np.testing.assert_array_equal(decode(rewritten(tmp_path / "c.bmp", "d.bmp")), expected)


def test_one_bit_tiff_becomes_gray_of_eight_bits(tmp_path: Path) -> None:
    mask = samples(5, 9, 1) > 127
    out = rewritten(stored(tmp_path / "a.tif", pillow(mask, "TIFF")), "b.tif")
    np.testing.assert_array_equal(tifffile.imread(out), mask * np.uint8(255))


def test_white_is_zero_tiff_becomes_black_is_zero(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.tif", tiff(np.array([[0, 255, 55]], np.uint8), photometric="miniswhite"))
    np.testing.assert_allclose(read_image(path).pixels.ravel(), [1, 0, 200 / 255], rtol=1e-6)
    out = rewritten(path, "b.tif")
    with tifffile.TiffFile(out) as tif:
        assert tif.pages.first.photometric == tifffile.PHOTOMETRIC.MINISBLACK
        assert tif.asarray().tolist() == [[255, 0, 200]]


# TIFF


@pytest.mark.parametrize(
    "options",
    [
        {"byteorder": ">"},
        {"bigtiff": True},
        {"tile": (16, 16)},
        {"rowsperstrip": 3},
        {"byteorder": ">", "tile": (16, 32)},
    ],
    ids=str,
)
def test_tiff_is_read_in_any_layout(tmp_path: Path, options: dict[str, Any]) -> None:
    array = samples(37, 21, 3, "uint16")
    out = rewritten(stored(tmp_path / "a.tif", tiff(array, **options)), "b.tif")
    np.testing.assert_array_equal(tifffile.imread(out), array)


def test_planes_of_a_tiff_become_channels(tmp_path: Path) -> None:
    array = samples(6, 7, 4, "uint16")
    data = tiff(np.moveaxis(array, 2, 0), photometric="rgb", planarconfig="separate", extrasamples=["unassalpha"])
    picture = read_image(stored(tmp_path / "a.tif", data))
    np.testing.assert_array_equal(from_pixels(picture.pixels, picture.dtype), array[..., :3])
    np.testing.assert_array_equal(picture.alpha, array[..., 3])


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
@pytest.mark.parametrize("kind", ["NONE", "LZW", "ADOBE_DEFLATE", "ZSTD", "PACKBITS", "DEFLATE", "LZMA"])
def test_tiff_keeps_a_common_compression_and_turns_others_to_deflate(tmp_path: Path, kind: str, dtype: str) -> None:
    array = samples(20, 30, 3, dtype)
    out = rewritten(stored(tmp_path / "a.tif", tiff(array, compression=COMPRESSION[kind])), "b.tif")
    expected = COMPRESSION.ADOBE_DEFLATE if kind in ("DEFLATE", "LZMA") else COMPRESSION[kind]
    with tifffile.TiffFile(out) as tif:
        assert tif.pages.first.compression == expected
        assert tif.pages.first.predictor == (1 if dtype == "float32" or kind in ("NONE", "PACKBITS") else 2)
        np.testing.assert_array_equal(tif.asarray(), array)


def test_eight_bit_tiff_is_read_back_alike_by_pillow(tmp_path: Path) -> None:
    array = samples(20, 30, 3)
    out = rewritten(stored(tmp_path / "a.tif", pillow(array, "TIFF", compression="tiff_lzw")), "b.tif")
    with Image.open(out) as image:
        np.testing.assert_array_equal(np.asarray(image), array)


@pytest.mark.parametrize("mode", ["RGB", "YCbCr"])
def test_a_tiff_with_jpeg_inside_is_read_as_rgb(tmp_path: Path, mode: str) -> None:
    smooth = np.indices((40, 48, 3)).sum(0).astype(np.uint8) * 2
    Image.fromarray(smooth).convert(mode).save(tmp_path / "a.tif", compression="jpeg")
    np.testing.assert_allclose(read_image(tmp_path / "a.tif").pixels * 255, smooth, atol=12)


@pytest.mark.parametrize("kind", ["unspecified", "assocalpha", "unassalpha"])
def test_the_kind_of_a_fourth_tiff_channel_is_kept(tmp_path: Path, kind: str) -> None:
    array = samples(5, 6, 4)
    out = rewritten(stored(tmp_path / "a.tif", tiff(array, extrasamples=[kind])), "b.tif")
    with tifffile.TiffFile(out) as tif:
        assert [extra.name.lower() for extra in tif.pages.first.extrasamples] == [kind]
        np.testing.assert_array_equal(tif.asarray(), array)


def test_a_reduced_preview_in_a_tiff_is_not_a_second_page(tmp_path: Path) -> None:
    array = samples(33, 44, 3)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(array, photometric="rgb", metadata=None)
        writer.write(array[::5, ::5], photometric="rgb", subfiletype=1, metadata=None)
    np.testing.assert_array_equal(tifffile.imread(rewritten(tmp_path / "a.tif", "b.tif")), array)


def test_one_file_of_an_ome_set_is_read_by_itself(tmp_path: Path) -> None:
    planes = "".join(
        f'<TiffData FirstT="{t}" IFD="0" PlaneCount="1"><UUID FileName="{name}">urn:uuid:{t}</UUID></TiffData>'
        for t, name in enumerate(["a.tif", "other.tif"])
    )
    pixels = f'<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="5" SizeY="4" SizeZ="1" SizeC="1" SizeT="2">{planes}'
    space = "http://www.openmicroscopy.org/Schemas/OME/2016-06"
    xml = f'<?xml version="1.0"?><OME xmlns="{space}" UUID="urn:uuid:0"><Image>{pixels}</Pixels></Image></OME>'
    array = samples(4, 5, 1)
    picture = read_image(stored(tmp_path / "a.tif", tiff(array, description=xml)))
    np.testing.assert_array_equal(from_pixels(picture.pixels[..., 0], picture.dtype), array)


# Metadata


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG"), (".webp", "WEBP")])
@pytest.mark.parametrize("to", [".jpg", ".png", ".webp"])
def test_exif_and_icc_profile_are_carried_from_each_format_to_each(
    tmp_path: Path, suffix: str, kind: str, to: str
) -> None:
    array = samples(10, 16, 3)
    exif = b"Exif\0\0" + EXIF_ORIENTATION_6
    path = stored(tmp_path / f"a{suffix}", pillow(array, kind, exif=exif, icc_profile=ICC))
    assert read_image(path).exif == EXIF_ORIENTATION_6
    out = rewritten(path, f"b{to}")
    with Image.open(out) as image:
        assert image.size == (16, 10)  # orientation 6 is not applied
        assert image.getexif()[0x112] == 6
        assert image.info["icc_profile"] == ICC


def camera_says() -> Image.Exif:
    """What a camera writes, of every kind that EXIF has."""
    exif = Image.Exif()
    exif[0x112], exif[0x10F], exif[0x132] = 6, "Maker", "2026:11:25 10:00:00"
    exif[0x8769] = {0x829A: 1 / 250, 0x8827: 6400, 0x9003: "2026:11:24 09:00:00", 0x927C: b"\x00\x01own"}
    exif[0x8825] = {1: "N", 2: (47.0, 22.0, 30.5)}
    read = Image.Exif()  # Pillow puts into a TIFF only what it has read
    read.load(exif.tobytes())
    return read


def check_camera_said(path: Path) -> None:
    """What `camera_says` is in the file, as a reader sees that has nothing to do with the writer."""
    with tifffile.TiffFile(path) as file:
        tags = file.pages[0].tags
        settings, place = tags[34665].value, tags[34853].value
        assert tags[274].value == 6
        assert [tags.valueof(code) for code in (271, 306)] == ["Maker", "2026:11:25 10:00:00"]
    assert settings["ExposureTime"] == pytest.approx(1 / 250)
    assert settings["ISOSpeedRatings"] == 6400
    assert settings["DateTimeOriginal"] == "2026:11:24 09:00:00"
    assert settings["MakerNote"] == b"\x00\x01own"
    assert place["GPSLatitudeRef"] == "N"
    assert place["GPSLatitude"] == (47, 1, 22, 1, 61, 2)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".tif"])
def test_settings_and_place_of_the_camera_are_in_the_tiff(tmp_path: Path, suffix: str) -> None:
    kind = {".jpg": "JPEG", ".png": "PNG", ".tif": "TIFF"}[suffix]
    first = stored(tmp_path / f"a{suffix}", pillow(samples(10, 16, 3), kind, exif=camera_says()))
    out = rewritten(first, "b.tif")
    check_camera_said(out)
    check_camera_said(rewritten(out, "c.tif"))
    with Image.open(rewritten(out, "d.jpg")) as image:
        assert image.getexif().get_ifd(0x8769)[0x8827] == 6400


@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_settings_and_place_are_in_a_tiff_of_either_byte_order(tmp_path: Path, byteorder: str) -> None:
    source = stored(tmp_path / "a.tif", tiff(samples(10, 16, 3), photometric="rgb", byteorder=byteorder))
    picture = dataclasses.replace(read_image(source), exif=camera_says().tobytes()[6:])
    with dbsn.io.open(source).writing(tmp_path / "b.tif") as write:
        write(picture.pixels, picture)
    check_camera_said(tmp_path / "b.tif")


def ifd(order: str, entries: dict[int, tuple[int, int, bytes] | dict[int, Any]], start: int) -> bytes:
    """A directory at an offset, what it points to behind it."""
    listed, behind, first = b"", b"", start + 2 + 12 * len(entries) + 4
    for tag, entry in entries.items():
        where = first + len(behind)
        if isinstance(entry, dict):
            listed += struct.pack(f"{order}HHII", tag, 4, 1, where)
            behind += ifd(order, entry, where)
            continue
        kind, count, value = entry
        place = value.ljust(4, b"\0") if len(value) <= 4 else struct.pack(f"{order}I", where)
        listed += struct.pack(f"{order}HHI", tag, kind, count) + place
        behind += value + b"\0" * (len(value) % 2) if len(value) > 4 else b""
    return struct.pack(f"{order}H", len(entries)) + listed + bytes(4) + behind


def read_ifd(data: bytes, order: str, start: int) -> dict[int, Any]:
    """The entries of a directory, those it points to within."""
    sizes = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 7: 1, 10: 8}
    (count,) = struct.unpack_from(f"{order}H", data, start)
    found: dict[int, Any] = {}
    for number in range(count):
        at = start + 2 + 12 * number
        tag, kind, many = struct.unpack_from(f"{order}HHI", data, at)
        size, (offset,) = sizes[kind] * many, struct.unpack_from(f"{order}I", data, at + 8)
        found[tag] = (kind, many, data[offset : offset + size] if size > 4 else data[at + 8 : at + 8 + size])
        if tag in (34665, 34853, 40965):
            found[tag] = read_ifd(data, order, offset)
    return found


def odd_settings(order: str) -> dict[int, Any]:
    """Settings and place with every type, an odd text, an odd place and a directory within."""
    return {
        0x829A: (5, 1, struct.pack(f"{order}II", 1, 250)),
        0x9101: (7, 4, b"\1\2\3\0"),
        0x9204: (10, 1, struct.pack(f"{order}ii", 1, 3)),
        0x927C: (7, 5, b"II\0ow"),
        0xA002: (4, 1, struct.pack(f"{order}I", 16)),
        0xA005: {1: (2, 4, b"R98\0")},
        0xA430: (2, 7, b"J\xfcrgen\0"),
        0xEA1D: (3, 3, struct.pack(f"{order}3H", 1, 2, 3)),
    }


@pytest.mark.parametrize("order", ["<", ">"])
def test_every_type_and_text_of_the_cameras_settings_comes_back_in_a_tiff(tmp_path: Path, order: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    place = {1: (2, 2, b"N\0"), 2: (2, 4, b"abc\0")}  # a latitude that is no number
    turned, rights = (3, 1, struct.pack(f"{order}H", 6)), (2, 7, b"\xa9 2024\0")
    block = head + ifd(order, {274: turned, 33432: rights, 34665: odd_settings(order), 34853: place}, 8)
    out = rewritten(stored(tmp_path / "a.jpg", pillow(samples(10, 16, 3), "JPEG", exif=b"Exif\0\0" + block)), "b.tif")
    again = rewritten(out, "c.tif")
    for path in (out, again):
        data = path.read_bytes()
        written = read_ifd(data, "<", struct.unpack_from("<I", data, 4)[0])
        assert written[34665] == odd_settings("<")
        assert written[34853] == place
        assert written[274] == (3, 1, b"\6\0")
        assert written[33432] == rights


def test_only_the_first_page_of_a_stack_has_the_cameras_settings(tmp_path: Path) -> None:
    block = b"II*\0\x08\0\0\0" + ifd("<", {34665: odd_settings("<")}, 8)
    pages = tiff(np.stack([samples(10, 16, 1)] * 3), photometric="minisblack")
    first = next(dbsn.io.open(source := stored(tmp_path / "a.tif", pages)).planes())
    with dbsn.io.open(source).writing(tmp_path / "b.tif") as write:
        for number in range(3):
            write(first.samples, dataclasses.replace(first, exif=b"" if number else block))
    with dbsn.io.open(tmp_path / "b.tif").writing(tmp_path / "c.tif") as write:
        for page in dbsn.io.open(tmp_path / "b.tif").planes():
            write(page.samples, page)
    with tifffile.TiffFile(tmp_path / "c.tif") as file:
        assert [34665 in page.tags for page in file.pages] == [True, False, False]
        assert not any(34664 in page.tags for page in file.pages)


def test_what_is_damaged_of_the_cameras_settings_is_left_out_and_the_rest_kept(tmp_path: Path) -> None:
    settings = {0x829A: (5, 2**20, b"beyond"), 0x8827: (3, 1, b"\x90\1"), 0x9003: (99, 1, b"what")}
    block = b"II*\0\x08\0\0\0" + ifd("<", {274: (3, 1, b"\6\0"), 34665: settings}, 8)
    for exif in (block, block[:-40], block[:9], b"II*\0\xff\0\0\0", b"II"):
        data = png(samples(10, 16, 3), chunk(b"eXIf", exif))
        with tifffile.TiffFile(rewritten(stored(tmp_path / "a.png", data), "b.tif")) as file:
            tags = file.pages[0].tags
            assert tags.valueof(274, 1) == (6 if len(exif) > 20 else 1)
            assert exif != block or tags[34665].value == {"ISOSpeedRatings": 400}


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("to", [".jpg", ".png", ".webp", ".tif"])
def test_xmp_and_orientation_are_carried_from_each_format_to_each(tmp_path: Path, suffix: str, to: str) -> None:
    packet = b"<?xpacket begin=''?><x:xmpmeta xmlns:x='adobe:ns:meta/'>\xc3\xa9</x:xmpmeta><?xpacket end='w'?>"
    array, exif = samples(10, 16, 3), b"Exif\0\0" + EXIF_ORIENTATION_6
    if suffix == ".png":
        data = png(array, chunk(b"eXIf", EXIF_ORIENTATION_6), chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0en\0\0" + packet))
    elif suffix == ".tif":
        data = tiff(array, photometric="rgb", extratags=[(700, 1, len(packet), packet, True), (274, 3, 1, 6, True)])
    else:
        data = pillow(array, {".jpg": "JPEG", ".webp": "WEBP"}[suffix], exif=exif, xmp=packet)
    out = rewritten(stored(tmp_path / f"a{suffix}", data), f"b{to}")
    if to == ".tif":
        with tifffile.TiffFile(out) as file:
            assert file.pages[0].tags[700].value == packet
            assert file.pages[0].tags[274].value == 6
    with Image.open(out) as image:
        assert image.size == ((10, 16) if to == ".tif" else (16, 10))  # Pillow turns TIFFs when it opens them
        assert to == ".tif" or image.getexif()[0x112] == 6
    assert packet in out.read_bytes()
    assert read_image(out).xmp == packet


def test_the_most_xmp_that_jpeg_holds_is_kept(tmp_path: Path) -> None:
    for length, fits in ((65504, True), (65505, False)):
        text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + b"x" * length)
        path = stored(tmp_path / "a.png", png(samples(3, 3, 3), text))
        with contextlib.nullcontext() if fits else pytest.raises(ImageError, match="bytes of XMP"):
            assert len(info(rewritten(path, "a.jpg"))["xmp"]) == length


def test_compressed_xmp_is_read_and_too_much_for_jpeg_is_refused(tmp_path: Path) -> None:
    packet = bytes(range(1, 256)) * 300
    text = chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + zlib.compress(packet))
    path = stored(tmp_path / "a.png", png(samples(3, 3, 3), text, chunk(b"iTXt", b"Title\0\0\0\0\0hello")))
    assert read_image(path).xmp == packet
    assert packet in rewritten(path, "b.png").read_bytes()
    with pytest.raises(ImageError, match=r"cannot hold 76500 bytes of XMP\. Write \.png instead"):
        rewritten(path, "b.jpg")


def test_icc_profile_is_carried_to_and_from_tiff(tmp_path: Path) -> None:
    there = rewritten(stored(tmp_path / "a.png", pillow(samples(4, 4, 3), "PNG", icc_profile=ICC)), "b.tif")
    assert info(there)["icc_profile"] == ICC
    assert info(rewritten(there, "c.png"))["icc_profile"] == ICC


@pytest.mark.parametrize(("suffix", "kind"), [(".jpg", "JPEG"), (".png", "PNG"), (".tif", "TIFF"), (".bmp", "BMP")])
@pytest.mark.parametrize("to", [".jpg", ".png", ".tif", ".bmp"])
def test_resolution_is_carried_from_each_format_to_each(tmp_path: Path, suffix: str, kind: str, to: str) -> None:
    out = rewritten(stored(tmp_path / f"a{suffix}", pillow(samples(4, 4, 3), kind, dpi=(300, 150))), f"b{to}")
    assert info(out)["dpi"] == pytest.approx((300, 150), abs=0.02)


def test_a_tiff_resolution_without_unit_stays_in_tiff_and_reaches_no_other(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.tif", tiff(samples(4, 4, 1), resolution=(2.5, 5), resolutionunit="none"))
    with tifffile.TiffFile(rewritten(path, "b.tif")) as tif:
        assert tif.pages.first.resolution == (2.5, 5)
        assert tif.pages.first.resolutionunit == tifffile.RESUNIT.NONE
    assert b"pHYs" not in png_chunks(rewritten(path, "b.png").read_bytes())


def test_png_chunks_that_give_the_numbers_their_colour_are_kept(tmp_path: Path) -> None:
    kept = {b"gAMA": struct.pack(">I", 100000), b"cHRM": bytes(range(32)), b"pHYs": struct.pack(">IIB", 11811, 5905, 1)}
    extra = [chunk(kind, body) for kind, body in kept.items()]
    out = rewritten(stored(tmp_path / "a.png", png(samples(3, 3, 3, "uint16"), *extra)), "b.png")
    written = png_chunks(out.read_bytes())
    assert {kind: written[kind] for kind in kept} == kept


# The name and the content


def test_the_content_decides_how_to_read_and_the_name_how_to_write(tmp_path: Path) -> None:
    array = samples(6, 5, 3)
    path = stored(tmp_path / "really_png.jpg", png(array))
    np.testing.assert_array_equal(unpng(rewritten(path, "out.PNG").read_bytes()), array)
    assert rewritten(path, "out.jpg").read_bytes().startswith(b"\xff\xd8\xff")


@pytest.mark.parametrize("to", [".png", ".tif", ".webp", ".bmp"])
def test_a_jpeg_can_be_written_as_any_other_format(tmp_path: Path, to: str) -> None:
    path = stored(tmp_path / "a.jpg", encode(".jpg", PHOTO))
    out = rewritten(path, f"b{to}")
    difference = decode(out).astype(int) - decode(path).astype(int)
    assert np.abs(difference).max() <= (20 if to == ".webp" else 0)


@pytest.mark.parametrize(
    ("suffix", "coding"), [(".jpg", b"VP8 "), (".png", b"VP8L"), (".tif", b"VP8L"), (".bmp", b"VP8L")]
)
def test_a_webp_is_lossless_if_its_source_was(tmp_path: Path, suffix: str, coding: bytes) -> None:
    out = rewritten(stored(tmp_path / f"a{suffix}", encode(suffix, PHOTO)), "b.webp")
    assert out.read_bytes()[12:16] == coding


def test_gray_with_alpha_reaches_webp_as_rgba(tmp_path: Path) -> None:
    array = samples(6, 5, 2)
    result = decode(rewritten(stored(tmp_path / "a.png", png(array)), "b.webp"))
    np.testing.assert_array_equal(result, array[..., [0, 0, 0, 1]])


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".webp", ".png"])
def test_a_picture_beyond_pillows_limit_on_pixels_is_read(
    tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = stored(tmp_path / f"a{suffix}", encode(suffix, samples(30, 30, 3)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    assert read_image(path).pixels.shape == (30, 30, 3)
    assert Image.MAX_IMAGE_PIXELS == 100


# Refusals: one line with the file, what is wrong and what to do


def apng() -> bytes:
    return png(samples(4, 4, 3), chunk(b"acTL", struct.pack(">II", 2, 0)))


def animated_webp() -> bytes:
    frames = [Image.fromarray(samples(8, 8, 3, seed=seed)) for seed in (0, 1)]
    file = io.BytesIO()
    frames[0].save(file, "WEBP", save_all=True, append_images=frames[1:])
    return file.getvalue()


def truncated_stack() -> bytes:
    file = io.BytesIO()
    tifffile.imwrite(file, np.ones((5, 8, 9), np.uint8), truncate=True)  # five planes behind one page
    return file.getvalue()


def cmyk_jpeg() -> bytes:
    file = io.BytesIO()
    Image.new("CMYK", (8, 8)).save(file, "JPEG")
    return file.getvalue()


UNREADABLE = [
    (lambda: b"", "the file is empty. Copy it again"),
    (lambda: b"\0\0\1\0" + bytes(50), "ICO files are not supported. Convert it to PNG or TIFF"),
    (lambda: b"RIFF\x24\0\0\0WAVEfmt " + bytes(50), "damaged, or not PNG"),
    (apng, "an animated PNG. Save the frame"),
    (animated_webp, "an animated WebP. Save the frame"),
    (cmyk_jpeg, "CMYK colours are not supported. Convert it to RGB"),
    (lambda: tiff(np.ones((3, 8, 9), np.uint8)), "a stack of 3 pages, each YX, expected one page. Split it"),
    (truncated_stack, "a stack of 5 pages, each YX, expected one page. Split it"),
    (lambda: tiff(np.ones((2, 16, 16), np.uint8), volumetric=True, tile=(2, 16, 16)), "each ZYX. Convert it"),
    (lambda: tiff(np.ones((3, 4), np.int32)), "int32 samples are not supported. Convert it to uint16 or float32"),
    (lambda: tiff(np.ones((3, 4), np.uint32)), "uint32 samples are not supported. Convert it to uint16 or float32"),
    (lambda: tiff(np.ones((3, 4), np.complex64)), "complex64 samples are not supported. Convert it"),
    (lambda: tiff(np.full((1, 2), np.nan)), "no pixel is finite (got only NaN and infinite values). Check the file"),
    (lambda: tiff(samples(4, 4, 4), photometric="separated", extrasamples=[]), "SEPARATED colours are not supported"),
    (lambda: tiff(np.ones((4, 4), np.float32), photometric="miniswhite"), "MINISWHITE colours are not supported"),
    (lambda: tiff(samples(4, 4, 2), extrasamples=["unspecified"]), "2 channels, expected gray or RGB"),
    (lambda: tiff(np.ones((6, 6, 5), np.uint8), planarconfig="contig"), "5 channels, expected gray or RGB"),
]


@pytest.mark.parametrize(("make", "text"), UNREADABLE, ids=[text for _, text in UNREADABLE])
def test_what_cannot_be_denoised_is_refused_in_one_line(tmp_path: Path, make: Callable[[], bytes], text: str) -> None:
    path = stored(tmp_path / "photo.tif", make())
    with pytest.raises(ImageError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert text in message
    assert "\n" not in message


UNWRITABLE = [
    (".tif", "uint16", 3, ".jpg", "a .jpg file cannot hold 16 bits a sample. Write .png or .tif instead"),
    (".png", "uint16", 1, ".bmp", "a .bmp file cannot hold 16 bits a sample. Write .png or .tif instead"),
    (".png", "uint16", 4, ".webp", "a .webp file cannot hold 16 bits a sample. Write .png or .tif instead"),
    (".tif", "float32", 3, ".png", "a .png file cannot hold float32 samples. Write .tif instead"),
    (".tif", "float16", 1, ".jpg", "a .jpg file cannot hold float16 samples. Write .tif instead"),
    (".png", "uint8", 4, ".jpeg", "a .jpeg file cannot hold transparency. Write .png or .tif instead"),
    (".png", "uint8", 2, ".bmp", "a .bmp file cannot hold transparency. Write .png or .tif instead"),
    (
        ".png",
        "uint8",
        3,
        ".xcf",
        "unknown suffix. Use one of .avif .bmp .czi .fit .fits .fts .gif .heic .heif",
    ),
    (".png", "uint8", 3, "", "unknown suffix. Use one of"),
]


@pytest.mark.parametrize(("suffix", "dtype", "channels", "to", "text"), UNWRITABLE)
def test_what_a_format_cannot_hold_is_refused_with_a_format_that_can(
    tmp_path: Path, suffix: str, dtype: str, channels: int, to: str, text: str
) -> None:
    path = stored(tmp_path / f"a{suffix}", encode(suffix, samples(3, 3, channels, dtype)))
    with pytest.raises(ImageError) as caught:
        rewritten(path, f"b{to}")
    assert str(caught.value).startswith(f"{tmp_path / 'b'}{to}: {text}")
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("kind", ["unspecified", "assocalpha"])
def test_a_fourth_channel_that_is_not_plain_alpha_is_refused_outside_tiff(tmp_path: Path, kind: str) -> None:
    path = stored(tmp_path / "a.tif", tiff(samples(3, 3, 4), extrasamples=[kind]))
    with pytest.raises(ImageError, match=r"premultiplied transparency or an extra channel\. Write \.tif instead"):
        rewritten(path, "b.png")


@pytest.mark.parametrize(("to", "longest"), [(".webp", 16383), (".jpg", 65500)])
def test_a_side_too_long_for_the_format_is_refused_and_the_longest_is_not(
    tmp_path: Path, to: str, longest: int
) -> None:
    with pytest.raises(ImageError, match=f"cannot hold 1 x {longest + 1} pixels. Write .png or .tif instead"):
        rewritten(stored(tmp_path / "a.png", png(np.zeros((longest + 1, 1), np.uint8))), f"a{to}")
    out = rewritten(stored(tmp_path / "b.png", png(np.zeros((longest, 1), np.uint8))), f"b{to}")
    with Image.open(out) as image:
        assert image.size == (1, longest)


@pytest.mark.filterwarnings("error")
def test_damaged_exif_is_kept_without_a_word(tmp_path: Path) -> None:
    damaged = b"II*\0\x08\0\0\0\x05\0\x12\x01\x03\0\x01\0\0\0\x01\0\0\0"  # five entries promised, one is there
    path = stored(tmp_path / "a.jpg", pillow(samples(20, 30, 3), "JPEG", exif=b"Exif\0\0" + damaged))
    assert read_image(path).exif == damaged
    assert rewritten(path, "b.jpg").read_bytes().count(damaged) == 1


def test_more_exif_than_jpeg_can_hold_is_refused_and_the_most_is_not(tmp_path: Path) -> None:
    most = chunk(b"eXIf", EXIF_ORIENTATION_6.ljust(65527, b"\0"))
    out = rewritten(stored(tmp_path / "a.png", png(samples(3, 3, 3), most)), "a.jpg")
    assert info(out)["exif"] == b"Exif\0\0" + most[8:-4]
    too_much = chunk(b"eXIf", EXIF_ORIENTATION_6.ljust(65528, b"\0"))
    with pytest.raises(ImageError, match=r"cannot hold 65528 bytes of EXIF\. Write \.png instead"):
        rewritten(stored(tmp_path / "b.png", png(samples(3, 3, 3), too_much)), "b.jpg")


def test_pixels_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", png(samples(4, 5, 3)))
    with pytest.raises(ImageError, match=r"b\.png: wrong shape of pixels \(got \(4, 5, 1\), expected \(4, 5, 3\)\)"):
        rewritten(path, "b.png", lambda pixels: pixels[..., :1])


@pytest.mark.parametrize("error", [FileNotFoundError, IsADirectoryError])
def test_a_missing_file_or_a_folder_is_not_called_damaged(tmp_path: Path, error: type[OSError]) -> None:
    path = tmp_path / "missing.png" if error is FileNotFoundError else tmp_path
    with pytest.raises(error, match=path.name):
        read_image(path)


# Damage

STACK = tiff(np.stack([PHOTO, PHOTO]), photometric="rgb", planarconfig="contig")
WHOLE = {
    "png": png(PHOTO),
    "filtered png": pillow(PHOTO, "PNG"),
    "sixteen-bit png": png(samples(9, 9, 3, "uint16")),
    "jpeg": pillow(PHOTO, "JPEG", quality=90, exif=b"Exif\0\0" + EXIF_ORIENTATION_6),
    "progressive jpeg": pillow(PHOTO, "JPEG", quality=90, progressive=True),
    "lossless webp": pillow(PHOTO, "WEBP", lossless=True),
    "lossy webp": pillow(PHOTO, "WEBP", exif=EXIF_ORIENTATION_6),
    "bmp": pillow(PHOTO, "BMP"),
    "tiff": tiff(PHOTO),
    "tiff of strips": tiff(PHOTO, rowsperstrip=5),
    "lzw tiff": tiff(PHOTO, compression="lzw"),
    "packbits tiff": tiff(PHOTO, compression="packbits"),
    "deflate tiff": tiff(PHOTO, compression="zlib", predictor=True),
    "tiff with its tags behind": pillow(PHOTO, "TIFF", compression="tiff_lzw"),
    "two-page tiff": STACK,
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_truncated_file_is_never_a_picture(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    data = WHOLE[kind]
    cuts = {*range(1, 40, 3), *range(40, len(data), len(data) // 25), *range(len(data) - 16, len(data))}
    path = tmp_path / "photo.png"
    for cut in sorted(cuts):
        with pytest.raises(ImageError, match=r"photo\.png: .*damaged.*\. (Copy|Convert) it"):
            read_image(stored(path, data[:cut]))
    assert capfd.readouterr() == ("", "")  # nor do the libraries chatter


def test_an_unfinished_stack_is_damaged_and_not_its_first_page(tmp_path: Path) -> None:
    for cut in range(len(STACK) // 2 + 100, len(STACK), 97):
        with pytest.raises(ImageError, match="truncated or damaged, cannot be read"):
            read_image(stored(tmp_path / "a.tif", STACK[:cut]))


MAGIC = [
    *(b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"BM", b"RIFF\x20\1\0\0WEBPVP8 "),
    *(b"II*\0\x08\0\0\0", b"MM\0*", b"II+\0"),
]


@pytest.mark.parametrize("magic", MAGIC, ids=repr)
def test_random_bytes_are_never_a_picture(tmp_path: Path, magic: bytes) -> None:
    chance = np.random.default_rng(1)
    for number, suffix in enumerate([".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp"] * 3):
        path = stored(tmp_path / f"{number}{suffix}", magic + chance.bytes(300))
        with pytest.raises(ImageError, match=f"{number}{suffix}: .*damaged"):
            read_image(path)


@pytest.mark.parametrize("kind", ["png", "filtered png", "sixteen-bit png"])
def test_a_flipped_bit_in_a_png_is_noticed(tmp_path: Path, kind: str) -> None:
    for place in range(8, len(WHOLE[kind]), 7):
        data = bytearray(WHOLE[kind])
        data[place] ^= 16
        with pytest.raises(ImageError, match=r"a\.png: truncated or damaged"):
            read_image(stored(tmp_path / "a.png", bytes(data)))


@pytest.mark.parametrize("kind", WHOLE)
def test_flipped_bits_raise_nothing_but_image_error(tmp_path: Path, kind: str) -> None:
    chance = np.random.default_rng(2)
    for _ in range(40):
        data = bytearray(WHOLE[kind])
        data[int(len(data) * chance.random() ** 2)] ^= 1 << chance.integers(8)  # the head more often
        with contextlib.suppress(ImageError):
            assert np.isfinite(read_image(stored(tmp_path / "a.tif", bytes(data))).pixels).all()


def test_a_tiff_strip_that_was_never_written_is_damage_and_not_zeros(tmp_path: Path) -> None:
    data = bytearray(tiff(PHOTO, rowsperstrip=12))
    counts = data.index(struct.pack("<HH", 576, 576))
    data[counts : counts + 2] = bytes(2)
    with pytest.raises(ImageError, match="only 1 of 2 strips or tiles are whole"):
        read_image(stored(tmp_path / "a.tif", bytes(data)))


@pytest.mark.parametrize("kind", ["jpeg", "bmp"])
def test_a_header_that_promises_too_many_pixels_is_damage_and_fills_no_memory(tmp_path: Path, kind: str) -> None:
    sizes = {"jpeg": (">HH", (24, 16), (60000, 60001)), "bmp": ("<II", (16, 24), (60001, 60000))}
    form, true, claimed = sizes[kind]
    data = WHOLE[kind].replace(struct.pack(form, *true), struct.pack(form, *claimed), 1)
    with pytest.raises(ImageError, match=r"damaged, cannot be read \(too short for 60001 x 60000 pixels\)"):
        read_image(stored(tmp_path / "a.bmp", data))


def test_a_picture_larger_than_its_file_can_hold_is_refused_in_one_line(tmp_path: Path) -> None:
    data = bytearray(tiff(PHOTO, compression="lzw"))
    for tag in (256, 257, 278):  # width, height, rows in a strip
        entry = next(at for at in range(10, 200, 12) if struct.unpack_from("<H", data, at)[0] == tag)
        struct.pack_into("<HII", data, entry + 2, 4, 1, 2**24)
    with pytest.raises(ImageError, match=r"a\.tif: claims more pixels than it can hold, or is damaged"):
        read_image(stored(tmp_path / "a.tif", bytes(data)))


def test_a_damaged_file_read_in_another_thread_disturbs_no_reading_here(tmp_path: Path) -> None:
    good = stored(tmp_path / "good.tif", tiff(PHOTO))
    bad = stored(tmp_path / "bad.tif", WHOLE["tiff with its tags behind"][:-4])
    with ThreadPoolExecutor(2) as pool:
        damaged = [pool.submit(read_image, bad) for _ in range(60)]
        whole = [read_image(good).pixels.shape for _ in range(60)]
    assert set(whole) == {(24, 16, 3)}
    assert all(isinstance(reading.exception(), ImageError) for reading in damaged)


# All or nothing


def a_picture(tmp_path: Path, **changes: Any) -> Picture:
    return dataclasses.replace(read_image(stored(tmp_path / "source.png", png(samples(6, 6, 3)))), **changes)


def test_an_error_while_encoding_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    picture = a_picture(tmp_path, compression=1234)
    out = stored(tmp_path / "old.tif", b"what was there before")
    with pytest.raises(ImageError, match=r"old\.tif: cannot be written \(.*1234"):
        write_image(out, picture.pixels, picture)
    assert out.read_bytes() == b"what was there before"
    assert sorted(os.listdir(tmp_path)) == ["old.tif", "source.png"]


def test_nan_from_the_denoiser_leaves_the_old_file(tmp_path: Path) -> None:
    picture = a_picture(tmp_path)
    out = stored(tmp_path / "old.png", b"what was there before")
    with pytest.raises(ImageError, match=r"old\.png: cannot be written \(108 of 108 values are NaN or infinite"):
        write_image(out, picture.pixels * np.nan, picture)
    assert out.read_bytes() == b"what was there before"


def test_a_folder_in_the_way_leaves_no_temporary_file(tmp_path: Path) -> None:
    picture = a_picture(tmp_path)
    (tmp_path / "out.png").mkdir()
    with pytest.raises(OSError, match=r"out\.png"):
        write_image(tmp_path / "out.png", picture.pixels, picture)
    assert sorted(os.listdir(tmp_path)) == ["out.png", "source.png"]


def test_a_missing_output_folder_is_named(tmp_path: Path) -> None:
    picture = a_picture(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"gone: no such folder to write out\.png in. Create it first"):
        write_image(tmp_path / "gone" / "out.png", picture.pixels, picture)


def test_writing_replaces_the_source_itself_with_the_permissions_of_a_new_file(tmp_path: Path) -> None:
    path = stored(tmp_path / "a.png", png(samples(4, 4, 3)))
    rewritten(path, "a.png", lambda pixels: pixels * 0)
    assert not unpng(path.read_bytes()).any()
    assert path.stat().st_mode == stored(tmp_path / "new", b"").stat().st_mode


# Numbers


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int8", "int16"])
def test_every_value_of_a_small_integer_kind_survives_the_way_there_and_back(dtype: str) -> None:
    limits = np.iinfo(dtype)
    array = np.arange(limits.min, limits.max + 1).astype(dtype)
    pixels = to_pixels(array)
    assert pixels.dtype == np.float32
    assert pixels[-1] == 1
    np.testing.assert_allclose(pixels, array.astype(np.float64) / limits.max, rtol=1e-6)
    np.testing.assert_array_equal(from_pixels(pixels, np.dtype(dtype)), array)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_large_integer_kinds_reach_their_ends_without_wrapping_around(dtype: str) -> None:
    limits = np.iinfo(dtype)
    result = from_pixels(np.array([-9, 0, 0.5, 1, 9]), np.dtype(dtype))
    expected = [limits.min, 0, limits.max // 2, limits.max, limits.max]
    assert result.dtype == np.dtype(dtype)
    assert all(abs(int(got) - want) <= limits.max // 2**52 + 1 for got, want in zip(result, expected, strict=True))
    assert all(low <= high for low, high in pairwise(result.tolist()))
    np.testing.assert_allclose(to_pixels(result[1:]), [0, 0.5, 1, 1], rtol=1e-6)


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_floats_are_neither_scaled_nor_clipped_to_one(dtype: str) -> None:
    array = np.array([-3.5, 0, 0.25, 700], dtype)
    assert to_pixels(array).tolist() == [-3.5, 0, 0.25, 700]
    result = from_pixels(to_pixels(array), np.dtype(dtype))
    assert result.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(result, array)


def test_a_value_too_large_for_half_precision_is_clipped_and_not_infinite() -> None:
    assert from_pixels(np.array([1e6, -1e6], np.float32), np.dtype("float16")).tolist() == [65504, -65504]


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nan_and_infinity_are_errors_and_not_numbers(dtype: str, bad: float) -> None:
    with pytest.raises(ValueError, match="2 of 3 values are NaN or infinite"):
        from_pixels(np.array([0, bad, bad]), np.dtype(dtype))


def test_floats_that_are_nan_or_infinite_stay() -> None:
    values = np.array([0.5, np.nan, np.inf, -np.inf, 1e300])
    for dtype in ("float32", "float64"):
        kept = from_pixels(values, np.dtype(dtype))
        assert np.array_equal(kept[:4], values[:4], equal_nan=True)
        assert np.isfinite(kept[4]), "too large for the type, but finite"


def test_nan_in_a_float_file_is_read_and_written_back(tmp_path: Path) -> None:
    array = samples(5, 5, 3, "float32")
    array[0, 0], array[1, 2, 0], array[4, 4, 1] = np.nan, np.inf, -np.inf
    picture = read_image(stored(tmp_path / "a.tif", tiff(array)))
    write_image(tmp_path / "b.tif", picture.pixels, picture)
    assert np.array_equal(read_image(tmp_path / "b.tif").samples, array, equal_nan=True)


def test_samples_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ImageError, match=r"\(got bool, expected integers or floats\)\. Convert the samples"):
        to_pixels(np.array([True]))


def test_to_pixels_never_shares_memory_with_its_input() -> None:
    array = np.zeros(3, np.float32)
    assert not np.shares_memory(to_pixels(array), array)


# Finding files


def test_folders_are_searched_to_any_depth_in_order_without_hidden_files(tmp_path: Path) -> None:
    names = ["b/z.png", "b/a.JPG", "a.tiff", "c/d/e.webp", ".hidden.png", ".cache/x.png", "notes.txt", "c/._a.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images([tmp_path])]
    assert found == ["a.tiff", "b/a.JPG", "b/z.png", "c/d/e.webp"]


def test_a_folder_below_a_hidden_one_is_searched_when_it_is_named(tmp_path: Path) -> None:
    folder = tmp_path / ".cache" / "photos"
    folder.mkdir(parents=True)
    (folder / "a.png").touch()
    assert find_images([folder]) == [folder / "a.png"]


def test_files_are_taken_as_given_once_and_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.png", ".raw", "c.unknown"):
        Path(name).touch()
    inputs = [Path("c.unknown"), Path("b.png"), Path(".raw"), Path("./b.png"), tmp_path / "b.png", tmp_path]
    assert find_images(inputs) == [Path("c.unknown"), Path("b.png"), Path(".raw"), tmp_path / "a.png"]


def test_a_pattern_the_shell_left_alone_is_expanded_and_a_file_of_that_name_is_not(tmp_path: Path) -> None:
    for name in ("2.png", "1.png", "x.tif", "odd[1].png", "odd1.png"):
        (tmp_path / name).touch()
    assert find_images([tmp_path / "[0-9].png"]) == [tmp_path / "1.png", tmp_path / "2.png"]
    assert find_images([tmp_path / "odd[1].png"]) == [tmp_path / "odd[1].png"]


def test_folders_a_pattern_matches_are_searched(tmp_path: Path) -> None:
    for name in ("run1/a.png", "run2/b.png", "other/c.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    assert find_images([tmp_path / "run*"]) == [tmp_path / "run1/a.png", tmp_path / "run2/b.png"]


@pytest.mark.parametrize("name", ["gone.png", "gone*.png", "gone/"])
def test_a_path_that_does_not_exist_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"gone.*: no such file or folder"):
        find_images([tmp_path / name])


def test_a_folder_without_images_is_named_with_the_known_suffixes(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ImageError, match=r"no images in this folder \(expected \.avif .* \.zarr or camera RAW\)"):
        find_images([tmp_path])


def test_reading_in_a_fresh_process_imports_no_torch_and_prints_nothing(tmp_path: Path) -> None:
    flawed = chunk(b"iCCP", b"x\0\0" + zlib.compress(b"not a profile"))  # libpng's printf shows only at the exit
    path = stored(tmp_path / "a.png", png(samples(3, 3, 3), flawed))
    code = "import sys, pathlib, dbsn.io.formats; dbsn.io.formats.read_image(pathlib.Path(sys.argv[1]))"
    code += "; sys.exit('torch' in sys.modules)"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run([sys.executable, "-c", code, path], capture_output=True, env=environment, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, b"", b"")
