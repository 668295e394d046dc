"""Image files from a stranger: limited in memory and time, refused in one line (benchmarks/robustness/fuzz.py)."""

import io
import os
import resource
import socket
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import simplejpeg
import tifffile
from PIL import Image

import dbsn.io
from dbsn.errors import ImageError
from dbsn.io.atomic import write_atomically
from dbsn.io.checks import check_size
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.io.png import SIGNATURE

LIMITED = 2 * 2**30
NOISE = np.random.default_rng(0).integers(90, 160, (40, 32, 3), np.uint8)


def read_limited(path: Path) -> str:
    """The error of reading a file, in a process of its own with limited memory and time."""
    code = "import sys; from pathlib import Path; import dbsn.io\n" + (
        "try:\n    print([each.samples.shape for each in dbsn.io.open(Path(sys.argv[1])).planes()])\n"
        "except ValueError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=60,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (LIMITED, LIMITED)),
    )  # fmt: skip
    assert not done.stderr
    assert done.stdout.count("\n") == 1
    return done.stdout


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def bomb(megabytes: int) -> bytes:
    packer = zlib.compressobj(9)
    zeros = bytes(2**20)
    return b"".join(packer.compress(zeros) for _ in range(megabytes)) + packer.flush()


@pytest.mark.parametrize(("kind", "head"), [(b"iCCP", b"profile\0\0"), (b"iTXt", b"XML:com.adobe.xmp\0\x01\0\0\0")])
def test_metadata_of_a_png_is_decompressed_up_to_a_limit(tmp_path: Path, kind: bytes, head: bytes) -> None:
    png = bytes(imagecodecs.png_encode(NOISE))
    path = tmp_path / "a.png"
    path.write_bytes(png[:33] + chunk(kind, head + bomb(64)) + png[33:])
    said = read_limited(path)
    if kind == b"iCCP":  # as viewers do, without its profile
        assert said == "[(40, 32, 3)]\n"
        assert read_image(path).icc == b""
        assert "its colour profile is damaged and left out" in read_image(path).remarks
    else:
        assert f"{path}: truncated or damaged, cannot be read (compressed metadata of more than" in said


def webp_of(side: int) -> bytes:
    """A lossless WebP of one colour, 34 bytes whatever its side."""
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "WEBP", lossless=True)
    data = bytearray(file.getvalue())
    at = data.index(b"VP8L") + 9
    bits = int.from_bytes(data[at : at + 4], "little") >> 28 << 28
    data[at : at + 4] = (bits | (side - 1) | (side - 1) << 14).to_bytes(4, "little")
    return bytes(data)


def test_a_picture_that_claims_far_more_than_its_file_holds_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.webp").write_bytes(webp_of(16383))
    tifffile.imwrite(tmp_path / "a.tif", NOISE[..., 0], compression="zstd", photometric="minisblack", metadata=None)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    for tag in (256, 257, 278):  # width, height, rows in a strip
        entry = next(at for at in range(10, 200, 12) if struct.unpack_from("<H", data, at)[0] == tag)
        struct.pack_into("<HII", data, entry + 2, 4, 1, 30_000)
    (tmp_path / "a.tif").write_bytes(data)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(SIGNATURE + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b""))
    for name in ("a.webp", "a.tif", "a.png"):
        assert f"{tmp_path / name}: claims more pixels than it can hold" in read_limited(tmp_path / name)


def test_a_file_may_hold_256_mb_of_samples_or_256_times_its_size(tmp_path: Path) -> None:
    for samples, stored in ((2**28, 1), (2**31, 2**23)):
        check_size(tmp_path, samples, stored)
        with pytest.raises(ImageError, match="claims more pixels"):
            check_size(tmp_path, samples + 1, stored)


def test_a_zarr_that_claims_more_than_its_chunks_hold_is_refused(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    for number, shape in enumerate(((10**9, 10**9), (10**9, 40, 40), (10**5, 200, 200))):
        zarr.create_array(
            tmp_path / f"{number}.zarr", shape=shape, dtype="uint8", chunks=(*(1,) * (len(shape) - 2), 40, 40)
        )
        with pytest.raises(ImageError, match=f"{number}.zarr: claims more pixels than it can hold"):
            next(dbsn.io.open(tmp_path / f"{number}.zarr").planes())
    zarr.create_array(tmp_path / "chunk.zarr", shape=(20_000, 20_000), dtype="uint8", chunks=(20_000, 20_000))
    with pytest.raises(ImageError, match="claims more pixels than it can hold"):
        next(dbsn.io.open(tmp_path / "chunk.zarr").planes())
    sparse = zarr.create_array(tmp_path / "sparse.zarr", shape=(5000, 300, 400), dtype="uint8", chunks=(1, 300, 400))
    sparse[7] = np.random.default_rng(0).integers(0, 256, (300, 400))
    planes = list(dbsn.io.open(tmp_path / "sparse.zarr").planes(5000))
    assert len(planes) == 5000, "empty chunks are no fault"
    assert [index for index, plane in enumerate(planes) if plane.samples.any()] == [7]


def jpeg(**options: object) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.tile(NOISE, (3, 3, 1))).save(file, "JPEG", quality=80, **options)
    return file.getvalue()


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_its_decoder_warns_of_is_named(tmp_path: Path, progressive: bool) -> None:
    whole, path = jpeg(progressive=progressive), tmp_path / "a.jpg"
    middle = whole[: len(whole) // 2] + b"\xff\xd9" + whole[len(whole) // 2 :]
    path.write_bytes(middle)
    Image.open(path).load()  # without a word
    [remark] = read_image(path).remarks
    assert remark.startswith("libjpeg warns that it is damaged")


def test_padding_behind_the_last_pixel_of_a_jpeg_and_what_follows_it_are_no_damage(tmp_path: Path) -> None:
    whole, path = jpeg(), tmp_path / "a.jpg"
    for pad in (bytes(30), b"\xff" * 30):
        path.write_bytes(whole[:-2] + pad + whole[-2:] + b"a second picture")
        assert np.array_equal(read_image(path).samples, simplejpeg.decode_jpeg(whole))
        assert not any("libjpeg" in remark for remark in read_image(path).remarks)
    path.write_bytes(whole[:-2] + b"\x12\x34\x56" * 10 + whole[-2:])
    assert any("extraneous bytes before marker" in remark for remark in read_image(path).remarks)


def test_a_pipe_a_socket_and_a_device_are_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.png"))
        for path in (tmp_path / "pipe.png", tmp_path / "socket.png", Path("/dev/zero")):
            for work in (read_image, lambda path: list(dbsn.io.open(path).planes()), lambda path: find_images([path])):
                with pytest.raises(ImageError, match=f"{path}: a pipe, socket or device, expected a file"):
                    work(path)


def test_nothing_but_a_file_is_written_over(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match=r"pipe: cannot be written .it is no regular file"):
        write_atomically(tmp_path / "pipe", b"")
    assert (tmp_path / "pipe").is_fifo()


def test_a_tiff_of_countless_broken_tags_is_refused_in_time(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    broken = struct.pack("<H", 4000) + struct.pack("<HHI4s", 2, 0, 1, b"") * 4000
    offsets = [8 + number * (len(broken) + 4) for number in range(200)]
    directories = [broken + struct.pack("<I", following) for following in (*offsets[1:], 0)]
    path.write_bytes(b"II*\0" + struct.pack("<I", 8) + b"".join(directories))
    assert "truncated or damaged" in read_limited(path)


def test_many_overlapping_entries_of_exif_are_read_up_to_a_limit(tmp_path: Path) -> None:
    from dbsn.io.exif import orientation

    count, size = 3000, 2**20
    entries = b"".join(struct.pack("<HHII", tag, 1, size, 0) for tag in range(1000, 1000 + count))
    exif = b"II*\0\x08\0\0\0" + struct.pack("<H", count) + entries + bytes(size)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert orientation(exif) == 1
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024 < 100, "megabytes"


def test_five_hundred_damaged_files_are_read_or_refused_in_one_line() -> None:
    command = [sys.executable, "-m", "benchmarks.robustness.fuzz", "--count", "500"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2], timeout=200)
    assert done.returncode == 0, done.stdout + done.stderr
