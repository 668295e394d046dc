"""AVIF and HEIC files come back as they were, as nearly as their coding allows, or are refused."""

import io
import sys
from pathlib import Path

import imagecodecs
import numpy as np
import pillow_heif
import pytest
import skimage.data
from PIL import Image

from dbsn.errors import ImageError
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image, write_image

pillow_heif.register_heif_opener()
PHOTO = skimage.data.astronaut()[100:160, 200:291]
ICC = b"a profile"
XMP = b"<?xpacket?><x:xmpmeta/>"
EXIF_ORIENTATION_6 = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0"
FORMATS = {
    ".avif": ("AVIF", {"quality": 100, "subsampling": "4:4:4"}),
    ".heic": ("HEIF", {"quality": 100, "chroma": 444}),
}


def stored(path: Path, array: np.ndarray, **options: object) -> Path:
    kind, usual = FORMATS[path.suffix]
    Image.fromarray(array).save(path, kind, **usual, **options)
    return path


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_a_picture_comes_back_nearly_as_it_was(tmp_path: Path, suffix: str, channels: int) -> None:
    alpha = np.full_like(PHOTO[..., :1], 77)
    array = {1: PHOTO[..., 1], 3: PHOTO, 4: np.dstack([PHOTO, alpha])}[channels]
    picture = read_image(stored(tmp_path / f"a{suffix}", array))
    write_image(tmp_path / f"b{suffix}", picture.pixels, picture)
    again = read_image(tmp_path / f"b{suffix}")
    assert again.pixels.shape == picture.pixels.shape
    assert again.dtype == np.uint8
    colour = array[..., None] if channels == 1 else array[..., :3]
    assert np.abs(255 * again.pixels - colour).mean() < 2.5
    if channels == 4:
        assert again.alpha is not None
        assert np.abs(again.alpha.astype(int) - 77).max() <= 1


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("to", [*FORMATS, ".jpg", ".png"])
def test_profile_xmp_and_the_way_up_are_kept(tmp_path: Path, suffix: str, to: str) -> None:
    upright = np.rot90(PHOTO, -1)  # what orientation 6 asks for
    stored(tmp_path / f"a{suffix}", PHOTO, exif=b"Exif\0\0" + EXIF_ORIENTATION_6, icc_profile=ICC, xmp=XMP)
    picture = read_image(tmp_path / f"a{suffix}")
    assert (picture.icc, picture.xmp) == (ICC, XMP)
    write_image(tmp_path / f"b{to}", picture.pixels, picture)
    with Image.open(tmp_path / f"b{to}") as image:
        assert image.info["icc_profile"] == ICC
        assert to == ".png" or XMP in image.info["xmp"]
        turns = {1: 0, 6: -1}[image.getexif().get(0x112, 1)]
        shown = np.rot90(np.asarray(image), turns)
        assert shown.shape == upright.shape
        assert np.abs(shown.astype(int) - upright).mean() < 4


def test_more_than_8_bits_are_refused(tmp_path: Path) -> None:
    deep = imagecodecs.avif_encode(PHOTO.astype(np.uint16) * 4, level=90, bitspersample=10)
    (tmp_path / "deep.avif").write_bytes(deep)
    pillow_heif.encode(
        "RGB;16", (91, 60), (PHOTO.astype(np.uint16) * 257).tobytes(), tmp_path / "deep.heic", quality=90
    )
    for name in ("deep.avif", "deep.heic"):
        with pytest.raises(ImageError, match="more than 8 bits a sample"):
            read_image(tmp_path / name)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_truncated_file_is_never_a_picture(tmp_path: Path, suffix: str) -> None:
    whole = stored(tmp_path / f"a{suffix}", PHOTO).read_bytes()
    for cut in (9, 20, 40, 100, len(whole) // 2, len(whole) - 200, len(whole) - 1):
        (tmp_path / "cut.avif").write_bytes(whole[:cut])
        with pytest.raises(ImageError, match=r"cut\.avif: .*damaged"):
            read_image(tmp_path / "cut.avif")


def test_an_animation_is_refused(tmp_path: Path) -> None:
    frames = [Image.fromarray(PHOTO), Image.fromarray(PHOTO[::-1])]
    frames[0].save(tmp_path / "a.avif", save_all=True, append_images=frames[1:])
    with pytest.raises(ImageError, match="an animated AVIF"):
        read_image(tmp_path / "a.avif")


def test_heic_names_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = stored(tmp_path / "a.heic", PHOTO)
    picture = read_image(path)
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(ImageError, match=r"pip install 'dbsn\[heic\]'"):
        read_image(path)
    with pytest.raises(ImageError, match=r"pip install 'dbsn\[heic\]'"):
        write_image(tmp_path / "b.heic", picture.pixels, picture)
    assert find_images([tmp_path]) == [path]
    assert io.BytesIO(path.read_bytes()).read(12)[4:8] == b"ftyp"
