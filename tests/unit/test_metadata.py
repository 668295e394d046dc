"""What stands beside the pixels comes back, or is said to be lost; read by Pillow, tifffile and exiftool."""

import io
import json
import shutil
import struct
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, IptcImagePlugin
from PIL.PngImagePlugin import PngInfo

import dbsn.io
from dbsn.io.formats import read_image, write_image
from dbsn.io.picture import Picture

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "formats.md"
PHOTO = (np.indices((48, 64)).sum(0)[..., None] * np.array([1, 2, 1])).clip(0, 255).astype(np.uint8)
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"/></x:xmpmeta>'
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
CAPTION = b"Harbour at night"
IPTC = (
    b"8BIM\x04\x04\0\0"
    + struct.pack(">I", 5 + len(CAPTION))
    + b"\x1c\x02\x78"
    + struct.pack(">H", 16)
    + CAPTION
    + b"\0"
)


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x112], found[0x10F] = 6, "Maker"
    return found


def copied(source: Path, to: Path | None = None) -> tuple[Path, tuple[str, ...]]:
    """Write a file's planes again; return the result and what is said."""
    file, remarks = dbsn.io.open(source), dict[str, None]()
    output = to or file.result(source.with_name("out") / source.name)
    output.parent.mkdir(exist_ok=True)
    with file.writing(output) as write:
        for picture in file.planes():
            file.check_fits(output, picture)
            remarks |= dict.fromkeys(file.remarks(output, picture))
            write(picture.pixels, picture)
    return output, tuple(remarks)


def opened(path: Path) -> Image.Image:
    """As Pillow reads a file, which is closed."""
    return Image.open(io.BytesIO(path.read_bytes()))


def segment(marker: int, body: bytes) -> bytes:
    return struct.pack(">BBH", 0xFF, marker, len(body) + 2) + body


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(path: Path, *chunks: tuple[bytes, bytes], image: Image.Image | None = None) -> Path:
    """A PNG with further chunks behind its header."""
    held = io.BytesIO()
    (image or Image.fromarray(PHOTO)).save(held, "PNG")
    made = held.getvalue()
    path.write_bytes(made[:33] + b"".join(chunk(*one) for one in chunks) + made[33:])
    return path


def chunks_of(path: Path) -> list[tuple[bytes, bytes]]:
    data, at, found = path.read_bytes(), 8, []
    while at < len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        found.append((kind, data[at + 8 : at + 8 + length]))
        at += 12 + length
    return found


def raw_profile(name: str, body: bytes) -> bytes:
    """A text as ImageMagick writes it."""
    digits = body.hex()
    lines = "\n".join(digits[at : at + 72] for at in range(0, len(digits), 72))
    return (
        f"Raw profile type {name}".encode() + b"\0\0" + zlib.compress(f"\n{name}\n{len(body):8d}\n{lines}\n".encode())
    )


# The table in docs/reference/formats.md: what comes back in a file of the same format

KINDS = ["EXIF", "XMP", "colour profile", "IPTC", "resolution", "text"]


def pillow(path: Path, kind: str) -> None:
    """An image with everything that Pillow writes into this format."""
    texts = PngInfo()
    texts.add_text("Title", "Harbour")
    texts.add(b"zTXt", raw_profile("iptc", IPTC))
    options: dict[str, dict[str, Any]] = {
        "PNG": {"pnginfo": texts, "dpi": (300, 300)},
        "JPEG": {"comment": b"Harbour", "dpi": (300, 300), "extra": segment(0xED, b"Photoshop 3.0\0" + IPTC)},
        "TIFF": {"dpi": (300, 300), "tiffinfo": {700: XMP, 270: "Harbour", 34377: IPTC}, "compression": "tiff_lzw"},
        "BMP": {"dpi": (300, 300)},
    }
    if kind == "PNG":
        texts.add_itxt("XML:com.adobe.xmp", XMP.decode())
    more = options.get(kind, {})
    if kind == "TIFF":
        block = exif()
        for tag, value in more.pop("tiffinfo").items():
            block[tag] = value
        Image.fromarray(PHOTO).save(path, kind, exif=block, icc_profile=PROFILE, **more)
    else:
        Image.fromarray(PHOTO).save(path, kind, exif=exif(), xmp=XMP, icc_profile=PROFILE, **more)


def jp2(path: Path) -> None:
    """A JPEG 2000 with EXIF, XMP and profile, which Pillow does not write, in boxes."""
    held = io.BytesIO()
    Image.fromarray(PHOTO).save(held, "JPEG2000")
    data, boxes = held.getvalue(), b""
    block, xmp = exif().tobytes().removeprefix(b"Exif\0\0"), bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
    for name, body in ((b"JpgTiffExif->JP2", block), (xmp, XMP)):
        boxes += struct.pack(">I4s", 8 + 16 + len(body), b"uuid") + name + body
    start, colour, at = (data.index(kind) - 4 for kind in (b"jp2h", b"colr", b"jp2c"))
    old, new = (
        int.from_bytes(data[colour : colour + 4], "big"),
        struct.pack(">I4s3B", 11 + len(PROFILE), b"colr", 2, 0, 0),
    )
    length = int.from_bytes(data[start : start + 4], "big") - old + len(new) + len(PROFILE)
    header = struct.pack(">I", length) + data[start + 4 : colour] + new + PROFILE + data[colour + old : at]
    path.write_bytes(data[:start] + header + boxes + data[at:])


def seen(path: Path) -> set[str]:
    """The kinds of metadata that an independent reader finds."""
    boxes = path.read_bytes() if path.suffix == ".jp2" else b""  # which Pillow does not read
    with Image.open(path) as image:
        image.load()
        info = image.info
        found = {
            "EXIF": image.getexif().get(0x10F) == "Maker" or b"Maker" in boxes,
            "XMP": info.get("xmp") == XMP or XMP in boxes,
            "colour profile": info.get("icc_profile") == PROFILE or PROFILE in boxes,
            "resolution": tuple(round(float(value)) for value in info.get("dpi", ())) == (300, 300),
            "text": "Harbour" in (info.get("Title"), info.get("comment", b"").decode(), image.getexif().get(270)),
        }
        iptc = IptcImagePlugin.getiptcinfo(image) if image.format in ("JPEG", "TIFF") else None
        text = str(info.get("Raw profile type iptc", ""))
    found["IPTC"] = (iptc or {}).get((2, 120)) == CAPTION or CAPTION.hex() in "".join(text.split())
    return {kind for kind, is_there in found.items() if is_there}


FORMATS: dict[str, Callable[[Path], None]] = {
    "PNG": lambda path: pillow(path, "PNG"),
    "JPEG": lambda path: pillow(path, "JPEG"),
    "TIFF": lambda path: pillow(path, "TIFF"),
    "WebP": lambda path: pillow(path, "WEBP"),
    "AVIF": lambda path: pillow(path, "AVIF"),
    "JP2": jp2,
    "BMP": lambda path: pillow(path, "BMP"),
}


def test_the_table_of_metadata_in_the_docs_is_what_comes_back(tmp_path: Path) -> None:
    rows = [f"| | {' | '.join(KINDS)} |", f"|---|{'---|' * len(KINDS)}"]
    for name, make in FORMATS.items():
        source = tmp_path / f"a.{name.lower()}"
        make(source)
        before = seen(source)
        result, said = copied(source)
        after = seen(result)
        assert before <= after, (name, before - after, said)
        rows.append(f"| {name} | {' | '.join('kept' if kind in after else '-' for kind in KINDS)} |")
    table = "\n".join(rows)
    assert table in DOCS.read_text(), table


@pytest.mark.skipif(shutil.which("exiftool") is None, reason="exiftool is not installed")
@pytest.mark.parametrize("name", ["PNG", "JPEG", "TIFF", "WebP"])
def test_exiftool_finds_the_same_in_the_result(tmp_path: Path, name: str) -> None:
    source = tmp_path / f"a.{name.lower()}"
    FORMATS[name](source)

    def read(path: Path) -> dict[str, object]:
        command = ["exiftool", "-json", "-EXIF:all", "-XMP:all", "-IPTC:all", "-ICC_Profile:ProfileDescription", path]
        (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
        return {key: value for key, value in found.items() if key not in ("SourceFile", "XMPToolkit")}

    assert read(source).items() <= read(copied(source)[0]).items()


def test_what_another_format_cannot_keep_is_said_in_one_line(tmp_path: Path) -> None:
    pillow(tmp_path / "a.jpg", "JPEG")
    assert copied(tmp_path / "a.jpg", tmp_path / "b.webp")[1] == ("IPTC, the comment cannot be kept in a .webp file",)
    assert copied(tmp_path / "a.jpg", tmp_path / "b.png")[1] == ("the comment cannot be kept in a .png file",)
    assert "IPTC" not in "".join(copied(tmp_path / "a.jpg", tmp_path / "b.tif")[1])
    assert "IPTC" in seen(tmp_path / "b.tif") & seen(tmp_path / "b.png")


# PNG


@pytest.mark.parametrize("name", ["exif", "APP1"])
def test_exif_in_an_old_text_turns_the_result(tmp_path: Path, name: str) -> None:
    block = b"Exif\0\0" + exif().tobytes().removeprefix(b"Exif\0\0")
    result, _ = copied(png(tmp_path / "a.png", (b"zTXt", raw_profile(name, block))))
    with Image.open(result) as image:
        assert image.getexif().get(0x112) == 6
    assert [kind for kind, _ in chunks_of(result)].count(b"eXIf") == 1


@pytest.mark.parametrize(
    "kept",
    [
        (b"mDCV", bytes(range(24))),
        (b"cLLI", bytes(8)),
        (b"sBIT", b"\5\6\5"),
        (b"tIME", struct.pack(">H5B", 2024, 5, 3, 14, 22, 1)),
        (b"tEXt", b"Title\0Harbour"),
        (b"zTXt", b"Comment\0\0not zlib at all"),
        (b"iTXt", b"Author\0\0\0da\0\0\xc3\x86r\xc3\xb8"),
        (b"pHYs", struct.pack(">IIB", 2, 1, 0)),
        (b"teSt", b"safe to copy"),
    ],
    ids=lambda kept: kept[0].decode(),
)
def test_a_png_chunk_comes_back(tmp_path: Path, kept: tuple[bytes, bytes]) -> None:
    result, said = copied(png(tmp_path / "a.png", kept))
    assert kept in chunks_of(result)
    assert not said


def test_a_png_chunk_that_depends_on_the_pixels_is_left_out_and_said(tmp_path: Path) -> None:
    result, said = copied(png(tmp_path / "a.png", (b"teST", b"unsafe to copy"), (b"bKGD", bytes(6))))
    assert {kind for kind, _ in chunks_of(result)}.isdisjoint({b"teST", b"bKGD"})
    assert said == ("PNG chunks that depend on the pixels are left out (teST)",)


def test_significant_bits_follow_a_transparent_colour_into_its_alpha_channel(tmp_path: Path) -> None:
    result, _ = copied(png(tmp_path / "a.png", (b"sBIT", b"\5\6\5"), (b"tRNS", bytes(6))))
    assert (b"sBIT", b"\5\6\5\x08") in chunks_of(result)


def test_a_broken_profile_is_left_out_and_said(tmp_path: Path) -> None:
    result, said = copied(png(tmp_path / "a.png", (b"iCCP", b"profile\0\0not zlib at all")))
    assert "icc_profile" not in opened(result).info
    assert said == ("its colour profile is damaged and left out",)


# JPEG


def ultra_hdr(path: Path, second: np.ndarray, xmp: bytes = XMP) -> bytes:
    """A JPEG with a second picture behind it, as Pillow writes it; return the second picture."""
    Image.fromarray(PHOTO).save(path, "MPO", save_all=True, append_images=[Image.fromarray(second)], xmp=xmp)
    data = path.read_bytes()
    return data[data.rindex(b"\xff\xd8\xff") :]


def test_a_gain_map_is_found_behind_the_result(tmp_path: Path) -> None:
    gain = ultra_hdr(tmp_path / "a.jpg", PHOTO[::2, ::2, 0])
    result, said = copied(tmp_path / "a.jpg")
    with Image.open(result) as image:
        assert image.n_frames == 2
        image.seek(1)
        assert image.size == (32, 24)
        place = image.mpinfo[0xB002]  # type: ignore[attr-defined]
    assert place[0]["Size"] == len(result.read_bytes()) - len(gain)
    assert result.read_bytes().endswith(gain)
    assert not said


def test_further_views_of_a_camera_are_kept_with_their_noise_and_said(tmp_path: Path) -> None:
    ultra_hdr(tmp_path / "a.mpo", PHOTO)
    result, said = copied(tmp_path / "a.mpo")
    assert result.name == "a.mpo"
    assert said == ("its further views are kept as they are, with their noise",)


def test_a_video_stays_behind_a_motion_photo(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", quality=90)
    video = b"\0\0\0\x18ftypmp42" + bytes(range(256))
    (tmp_path / "a.jpg").write_bytes((tmp_path / "a.jpg").read_bytes() + video)
    result, said = copied(tmp_path / "a.jpg")
    assert result.read_bytes().endswith(b"\xff\xd9" + video)
    assert not said


ANNOUNCING = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" xmlns:xmp="http://ns.adobe.com/xap/1.0/" '
    b'xmlns:C="http://ns.google.com/photos/1.0/container/" xmlns:G="http://ns.google.com/photos/1.0/camera/" '
    b'hdrgm:Version="1.0" xmp:Rating="4" G:MotionPhoto="1"><C:Directory><rdf:Seq><rdf:li/></rdf:Seq></C:Directory>'
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)


def test_where_a_gain_map_is_lost_nothing_announces_it(tmp_path: Path) -> None:
    ultra_hdr(tmp_path / "a.jpg", PHOTO[::2, ::2, 0], ANNOUNCING)
    result, said = copied(tmp_path / "a.jpg", tmp_path / "b.png")
    xmp = opened(result).info["xmp"]
    assert b'xmp:Rating="4"' in xmp
    assert not any(name in xmp for name in (b"hdrgm:Version", b"MotionPhoto", b"Directory", b"Seq"))
    assert "gain map" in said[0]
    assert b"C:Directory" in opened(copied(tmp_path / "a.jpg")[0]).info["xmp"]


def test_extended_xmp_and_makers_segments_come_back(tmp_path: Path) -> None:
    extended = segment(0xE1, b"http://ns.adobe.com/xmp/extension/\0" + b"0" * 32 + struct.pack(">II", 5, 0) + b"<xmp>")
    own = segment(0xE1, b"FLIR\0thermal") + segment(0xE4, b"maker's own")
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", quality=90, extra=extended + own)
    assert extended + own in copied(tmp_path / "a.jpg")[0].read_bytes()


def test_credentials_that_sign_the_pixels_are_left_out_and_said(tmp_path: Path) -> None:
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg", extra=segment(0xEB, b"JP\0\1" + bytes(40)))
    result, said = copied(tmp_path / "a.jpg")
    assert b"\xff\xeb" not in result.read_bytes()[:400]
    assert said == ("its content credentials sign the old pixels and are left out",)


@pytest.mark.parametrize("flaw", ["ended early", "cut"])
def test_a_jpeg_that_libjpeg_warns_about_is_named(tmp_path: Path, flaw: str) -> None:
    noisy = np.random.default_rng(0).integers(0, 255, (96, 80), np.uint8)
    Image.fromarray(noisy).save(tmp_path / "a.jpg", quality=90)
    data = (tmp_path / "a.jpg").read_bytes()
    half = data[: len(data) // 2]
    (tmp_path / "a.jpg").write_bytes(half + b"\xff\xd9" if flaw == "ended early" else half + b"\xff\xd9" + data[-900:])
    (said,) = read_image(tmp_path / "a.jpg").remarks
    assert said.startswith("libjpeg warns that it is damaged (Corrupt JPEG data: premature end of data segment)")


# TIFF

GEO = [
    (33550, 12, 3, (10.0, 10.0, 0.0), True),
    (33922, 12, 6, (0.0, 0.0, 0.0, 440720.0, 3751320.0, 0.0), True),
    (34735, 3, 8, (1, 1, 0, 1, 3072, 0, 1, 32611), True),
    (42112, 2, 0, "<GDALMetadata/>", True),
    (42113, 2, 6, "-9999", True),
]


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("bigtiff", [False, True])
def test_geotiff_tags_come_back(tmp_path: Path, byteorder: str, bigtiff: bool) -> None:
    image = np.arange(96, dtype=np.float32).reshape(8, 12)
    tifffile.imwrite(tmp_path / "a.tif", image, byteorder=byteorder, bigtiff=bigtiff, extratags=GEO, metadata=None)  # type: ignore[arg-type]
    result, _ = copied(tmp_path / "a.tif")
    write_image(tmp_path / "b.tif", read_image(tmp_path / "a.tif").pixels, read_image(tmp_path / "a.tif"))
    for path in (result, tmp_path / "b.tif"):
        with tifffile.TiffFile(path) as tif:
            assert tif.byteorder == byteorder
            assert [tif.pages.first.tags[tag[0]].value for tag in GEO] == [tag[3] for tag in GEO]
    tifffile.imwrite(tmp_path / "c.tif", np.uint8(image), extratags=GEO, metadata=None)
    assert copied(tmp_path / "c.tif", tmp_path / "c.png")[1] == ("GeoTIFF tags cannot be kept in a .png file",)


def test_each_page_keeps_its_own_tags(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for number in range(3):
            tags = [(285, 2, 0, f"page {number}", True), (51123, 2, 0, f'{{"t": {number}}}', True)]
            writer.write(np.full((8, 9), number, np.uint8), extratags=tags, metadata=None, photometric="minisblack")
    result, _ = copied(tmp_path / "a.tif")
    with tifffile.TiffFile(result) as tif:
        assert [page.aspage().tags[285].value for page in tif.pages] == ["page 0", "page 1", "page 2"]
        assert [page.aspage().tags[51123].value for page in tif.pages] == [{"t": 0}, {"t": 1}, {"t": 2}]


def test_layers_of_the_old_pixels_are_left_out_and_said(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", PHOTO, extratags=[(37724, 7, 40, b"8BPS" * 10, True)], metadata=None)
    result, said = copied(tmp_path / "a.tif")
    with tifffile.TiffFile(result) as tif:
        assert 37724 not in tif.pages.first.tags
    assert said == ("Photoshop's layers cannot be kept",)


@pytest.mark.parametrize("kind", ["BYTE", "LONG"])
def test_iptc_of_a_tiff_reaches_a_jpeg(tmp_path: Path, kind: str) -> None:
    block = IPTC[12:-1] + b"\0" * (-len(IPTC[12:-1]) % 4)
    tag = (33723, tifffile.DATATYPE[kind], len(block), block, True)
    tifffile.imwrite(tmp_path / "a.tif", PHOTO, extratags=[tag], metadata=None)
    for to in ("b.tif", "b.jpg"):
        with opened(copied(tmp_path / "a.tif", tmp_path / to)[0]) as image:
            assert (IptcImagePlugin.getiptcinfo(image) or {})[2, 120] == CAPTION


def pyramid(path: Path, image: np.ndarray, *, ome: bool = False, within: bool = True) -> None:
    rgb = image.shape[-1] == 3
    stack = image.ndim == 3 and not rgb
    options: dict[str, Any] = {"tile": (16, 32), "photometric": "rgb" if rgb else "minisblack"}
    with tifffile.TiffWriter(path, ome=ome) as writer:
        meta = (
            {"metadata": {"axes": ("C" if stack else "") + "YX" + ("S" if rgb else "")}} if ome else {"metadata": None}
        )
        writer.write(image, subifds=2 if within else None, **options, **meta)
        for level in (2, 4):
            small = image[:, ::level, ::level] if stack else image[::level, ::level]
            writer.write(small, subfiletype=1, **options, metadata=None)


@pytest.mark.parametrize(("ome", "within", "shape"), [
    (True, True, (66, 90)), (True, True, (3, 66, 90)), (False, True, (66, 90, 3)), (False, False, (66, 90)),
])  # fmt: skip
def test_a_pyramid_is_made_again(tmp_path: Path, ome: bool, within: bool, shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(3).integers(0, 60000, shape, np.uint16)
    pyramid(tmp_path / "a.tif", image, ome=ome, within=within)
    result, said = copied(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as before, tifffile.TiffFile(result) as after:
        old, new = before.series[0], after.series[0]
        assert [level.shape for level in new.levels] == [level.shape for level in old.levels]
        assert (new.axes, new.keyframe.tile) == (old.axes, old.keyframe.tile)
        assert after.is_ome == before.is_ome
        np.testing.assert_array_equal(new.asarray(), image)
        rows, columns = image.ndim - 2 - (shape[-1] == 3), image.ndim - 1 - (shape[-1] == 3)
        whole = np.moveaxis(image.astype(float), (rows, columns), (0, 1))[:66, :90]
        mean = whole.reshape(33, 2, 45, 2, *whole.shape[2:]).mean(axis=(1, 3))
        found = np.moveaxis(new.levels[1].asarray(), (rows, columns), (0, 1))
        assert np.abs(found - mean).max() <= 0.5
    assert not said


def test_a_preview_of_another_shape_is_said(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PHOTO, metadata=None)
        writer.write(np.zeros((16, 16, 3), np.uint8), subfiletype=1, metadata=None)
    result, said = copied(tmp_path / "a.tif")
    with tifffile.TiffFile(result) as tif:
        kept = len(tif.pages) == 2
    assert kept != bool(said), "kept, or said"


def test_a_picture_in_a_subifd_is_read_where_the_page_is_a_preview(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        writer.write(PHOTO[::4, ::4], subfiletype=1, subifds=1, metadata=None)
        writer.write(PHOTO, metadata=None)
    result, _ = copied(tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(result), PHOTO)


def test_planes_of_colour_stay_planes(tmp_path: Path) -> None:
    stack = np.random.default_rng(4).integers(0, 60000, (3, 20, 30), np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="rgb", planarconfig="separate")
    result, _ = copied(tmp_path / "a.tif")
    np.testing.assert_array_equal(tifffile.imread(result), stack)


def test_pages_of_two_sizes_come_back(tmp_path: Path) -> None:
    pages = [PHOTO[..., 0], PHOTO[:20, :31, 1]]
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page, metadata=None)
    result, _ = copied(tmp_path / "a.tif")
    with tifffile.TiffFile(result) as tif:
        assert all(np.array_equal(page.asarray(), was) for page, was in zip(tif.pages, pages, strict=True))


def test_a_palette_tiff_becomes_its_colours(tmp_path: Path) -> None:
    image = Image.fromarray(PHOTO).quantize(32)
    image.save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif").samples, np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("bits", "white_is_zero"), [(2, False), (4, False), (4, True), (12, False)])
def test_packed_samples_are_read(tmp_path: Path, bits: int, white_is_zero: bool) -> None:
    array = np.random.default_rng(5).integers(0, 2**bits, (6, 8), np.uint16)
    digits = "".join(f"{value:0{bits}b}" for value in array.ravel())
    body = int(digits, 2).to_bytes(len(digits) // 8, "big")
    entries = [(256, 8), (257, 6), (258, bits), (259, 1), (262, int(not white_is_zero)), (273, 8), (277, 1), (278, 6)]
    entries.append((279, len(body)))
    data = b"II*\0" + struct.pack("<I", 8 + len(body)) + body + struct.pack("<H", len(entries))
    data += b"".join(struct.pack("<HHII", tag, 4 if tag in (273, 279) else 3, 1, value) for tag, value in entries)
    (tmp_path / "a.tif").write_bytes(data + bytes(4))
    picture = read_image(tmp_path / "a.tif")
    shown = 2**bits - 1 - array if white_is_zero else array
    np.testing.assert_array_equal(picture.samples[..., 0], shown if bits > 8 else shown * (255 // (2**bits - 1)))
    assert bool(picture.remarks) == (bits > 8)


# The name and the content


@pytest.mark.parametrize(("kind", "name"), [("PNG", "a.jpg"), ("JPEG", "a.png"), ("JPEG", "a.tif"), ("TIFF", "a.png")])
def test_a_suffix_that_lies_keeps_the_kind_of_the_content(tmp_path: Path, kind: str, name: str) -> None:
    Image.fromarray(PHOTO).save(tmp_path / name, kind)
    result, said = copied(tmp_path / name)
    assert (result.name, opened(result).format, said) == (name, kind, ())
    other, _ = copied(tmp_path / name, tmp_path / "b.webp")
    assert opened(other).format == "WEBP"


def test_a_picture_has_no_remarks_without_a_reason(tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "a.tif", "a.webp", "a.bmp"):
        Image.fromarray(PHOTO).save(tmp_path / name)
        picture: Picture = read_image(tmp_path / name)
        assert not picture.remarks
        assert not copied(tmp_path / name)[1]
