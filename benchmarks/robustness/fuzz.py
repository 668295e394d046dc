"""Read mutated image files, each in a process with limited memory and time.

Usage: python -m benchmarks.robustness.fuzz [--count 10000] [--seed 0]
Fifty small files of all formats are damaged: bits, bytes, numbers and blocks change, parts are cut off, repeated or
exchanged. It reports how many are read or refused in one line that names the file, and how many crash, take more than
10 seconds or 2 GB, raise anything else, or are read in silence although libjpeg warns.
"""

import argparse
import io
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import simplejpeg
import tifffile
from PIL import Image

import dbsn.io
from dbsn.errors import ImageError

SECONDS, MEMORY = 10, 2 * 2**30
TOGETHER = 100  # files that one process reads, until one of them ends it
NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0xFFFFFFFF)


def seeds() -> dict[str, bytes]:
    """Fifty small files, by name."""
    chance = np.random.default_rng(0)
    gray = chance.integers(90, 160, (24, 20), np.uint8)
    colour = chance.integers(90, 160, (24, 20, 3), np.uint8)
    alpha = np.dstack([colour, gray])
    kinds: dict[str, Any] = {"gray": gray, "colour": colour, "alpha": alpha}
    extras = {
        "exif": b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0",
        "icc_profile": b"i" * 60,
    }
    files = dict[str, bytes]()

    def pillow(name: str, array: np.ndarray, kind: str, **options: Any) -> None:
        file = io.BytesIO()
        Image.fromarray(array).save(file, kind, **options)
        files[name] = file.getvalue()

    def tiff(name: str, array: np.ndarray, **options: Any) -> None:
        file = io.BytesIO()
        tifffile.imwrite(file, array, **options)
        files[name] = file.getvalue()

    for kind, array in kinds.items():
        pillow(f"{kind}.png", array, "PNG", dpi=(300, 300), **extras)
        files[f"{kind}16.png"] = bytes(imagecodecs.png_encode(array.astype(np.uint16) * 257))
        pillow(f"{kind}-lossless.webp", array, "WEBP", lossless=True, **extras)
        pillow(f"{kind}.webp", array, "WEBP", quality=80)
        pillow(f"{kind}.avif", array, "AVIF", quality=80)
    for kind in ("gray", "colour"):
        pillow(f"{kind}.bmp", kinds[kind], "BMP")
        for quality, progressive in ((60, False), (95, False), (90, True)):
            pillow(
                f"{kind}{quality}{progressive}.jpg", kinds[kind], "JPEG", quality=quality, progressive=progressive,
                comment=b"a comment", **extras,
            )  # fmt: skip
    for codec in ("none", "lzw", "zlib", "zstd", "packbits"):
        tiff(f"{codec}.tif", gray, compression=codec)
        tiff(f"{codec}-colour.tif", colour, compression=codec, photometric="rgb", rowsperstrip=7)
    tiff("float.tif", gray.astype(np.float32) / 255)
    tiff("big.tif", gray, bigtiff=True)
    tiff("alpha.tif", alpha, photometric="rgb", extrasamples=["unassalpha"])
    tiff("tiled.tif", colour, photometric="rgb", tile=(16, 16), compression="zlib", predictor=True)
    tiff("planar.tif", np.moveaxis(colour, 2, 0), photometric="rgb", planarconfig="separate")
    tiff("imagej.tif", np.stack([gray] * 3).astype(np.uint16), imagej=True)
    tiff("stack.tif", np.stack([gray] * 3), description="a stack", compression="lzw")
    tiff("jpeg.tif", np.tile(colour, (2, 2, 1)), photometric="rgb", compression="jpeg", tile=(32, 32))
    tiff("signed.tif", gray.astype(np.int16) - 100, byteorder=">")
    pillow("palette.png", colour, "PNG")
    pillow("one.png", gray > 120, "PNG")
    pillow("one.bmp", gray > 120, "BMP")
    pillow("alpha.bmp", alpha, "BMP")
    pillow("one.tif", gray > 120, "TIFF")
    pillow("described.png", gray, "PNG", exif=extras["exif"])
    pillow("large.jpg", np.tile(colour, (4, 4, 1)), "JPEG", quality=80)
    pillow("sampled.jpg", colour, "JPEG", quality=80, subsampling=2)
    return dict(sorted(files.items())[:50])


def mutated(data: bytes, others: list[bytes], chance: random.Random) -> bytes:
    """The bytes with one to eight changes; in half of the cases near the beginning, where the headers are."""
    changed = bytearray(data)
    for _ in range(chance.choice((1, 1, 2, 3, 8))):
        at = chance.randrange(min(len(changed), 256) if chance.random() < 0.5 else len(changed))
        match chance.randrange(8):
            case 0:
                changed[at] ^= 1 << chance.randrange(8)
            case 1:
                changed[at] = chance.randrange(256)
            case 2 | 3:
                size, order = chance.choice((2, 4)), chance.choice(("little", "big"))
                changed[at : at + size] = (chance.choice(NUMBERS) % 256**size).to_bytes(size, order)  # type: ignore[arg-type]
            case 4:
                del changed[at : at + chance.choice((1, 4, 100))]
            case 5:
                changed[at:at] = changed[at : at + chance.choice((1, 12, 100))]
            case 6:
                other = chance.choice(others)
                begin = chance.randrange(len(other))
                changed[at:at] = other[begin : begin + chance.choice((4, 64))]
            case _:
                changed = changed[: max(at, 8)] if chance.random() < 0.3 else changed
        changed = changed or bytearray(b"\0")
    return bytes(changed)


def _warns(path: Path) -> bool:
    """Whether libjpeg warns of a JPEG that it can decode; unlike dbsn, from the first bytes on."""
    data = path.read_bytes()
    if not data.startswith(b"\xff\xd8\xff"):
        return False
    try:
        simplejpeg.decode_jpeg(data, strict=False)
    except ValueError:
        return False
    try:
        simplejpeg.decode_jpeg(data, strict=True)
    except ValueError:
        return True
    return False


def read(path: Path) -> str:
    """What becomes of reading a file."""
    try:
        pictures = list(dbsn.io.open(path).planes())
    except ImageError as error:
        is_line = str(path) in str(error) and "\n" not in str(error)
        return "refused" if is_line else f"not one line: {str(error)[:200]!r}"
    except Exception as error:
        return f"raised {type(error).__name__}: {str(error)[:100]!r}"
    is_named = any(picture.remarks for picture in pictures)
    return "silent where libjpeg warns" if _warns(path) and not is_named else "read" if pictures else "nothing"


def in_a_process(paths: list[Path], work: Callable[[Path], str]) -> list[str]:
    """What becomes of each file; one that ends the process is named, and the others go on in another."""
    found = list[str]()
    while len(found) < len(paths):
        reading, writing = os.pipe()
        process = os.fork()
        if process == 0:
            os.close(reading)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
            for path in paths[len(found) :]:
                signal.alarm(SECONDS)
                os.write(writing, f"{work(path)}\n".encode(errors="replace"))
            os._exit(0)
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as pipe:
            found += pipe.read().splitlines()
        status = os.waitpid(process, 0)[1]
        if status:
            found.append(f"{'hang' if os.WTERMSIG(status) == signal.SIGALRM else 'crash'}: status {status}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="Folder for the files that were neither read nor refused.")
    arguments = parser.parse_args()
    chance, files, found = random.Random(arguments.seed), seeds(), Counter[str]()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as name:
        for begin in range(0, arguments.count, TOGETHER):
            paths = list[Path]()
            for number in range(begin, min(begin + TOGETHER, arguments.count)):
                origin, data = list(files.items())[number % len(files)]
                paths.append(Path(name) / f"{number}-{origin}")
                paths[-1].write_bytes(mutated(data, list(files.values()), chance))
            for path, said in zip(paths, in_a_process(paths, read), strict=True):
                found[said] += 1
                if arguments.keep and said not in ("read", "refused"):
                    shutil.copy(path, arguments.keep)
                    print(path.name, said, file=sys.stderr)
                path.unlink()
    print(json.dumps({"seeds": len(files), **found}, indent=2))
    sys.exit(0 if not set(found) - {"read", "refused"} else 1)


if __name__ == "__main__":
    main()
