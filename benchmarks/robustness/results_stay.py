"""Print the SHA-256 of each result of fixed commands, to check that a refactoring changes no result.

Usage: python -m benchmarks.robustness.results_stay > before.txt, change the code, run it again, compare the two files.
Only the command line is used, with one thread. Images are hashed as decoded pixels, text without folders and times.
Figures depend on the processor and on the versions of the libraries, so both runs must be on one machine.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import rawpy
import skimage.data
import tifffile
import zarr
from PIL import Image
from safetensors import safe_open

COMMANDS = ("train", "denoise", "evaluate", "synthesize", "inspect", "report", "info", "models")
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONPATH": str(Path(__file__).parents[2] / "src"),
}  # fmt: skip
VARIES = (
    (r"\d+(\.\d+)? s\b", "TIME s"),
    (r'"seconds": [0-9.e-]+', '"seconds": TIME'),
    (r"seconds: [0-9.e-]+", "seconds: TIME"),
    (r"<svg.*?</svg>", "SVG"),
    (r"(?m)^(step |\d+%).*\n", ""),  # how many there are depends on the time
)


def digest(*parts: bytes) -> str:
    return hashlib.sha256(b"\0".join(parts)).hexdigest()


def of_array(array: np.ndarray) -> str:
    return digest(str(array.dtype).encode(), str(array.shape).encode(), np.ascontiguousarray(array).tobytes())


def of_text(text: str, folder: Path) -> str:
    text = text.replace(str(folder), "FOLDER")
    for pattern, instead in VARIES:
        text = re.sub(pattern, instead, text, flags=re.DOTALL if "svg" in pattern else 0)
    return digest(text.encode())


def of_model(path: Path, folder: Path) -> str:
    """The digest of header and tensors of a model file, a checkpoint, or the teacher's results."""
    with safe_open(path, framework="np") as file:
        header = json.loads(file.metadata()["header"])
        header.get("state", {}).pop("seconds", None)
        header.get("when", {}).pop("seconds", None)
        tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
    story = json.dumps(header, sort_keys=True).replace(str(folder), "FOLDER")
    return digest(story.encode(), *(f"{name} {of_array(tensor)}".encode() for name, tensor in tensors.items()))


def decoded(path: Path) -> np.ndarray:
    """The samples of an image file, read without dbsn."""
    match path.suffix.lower():
        case ".tif":
            return tifffile.imread(path)
        case ".png" | ".webp":
            return imagecodecs.imread(path)
        case ".zarr":
            return np.asarray(zarr.open(path, mode="r"))
        case ".dng":
            with rawpy.imread(str(path)) as raw:
                return raw.raw_image_visible.copy()
    return np.asarray(Image.open(path))


def dng(path: Path, photo: np.ndarray, random: np.random.Generator) -> None:
    """A camera's mosaic, as a DNG."""
    mosaic = np.empty(photo.shape[:2])
    for number, colour in enumerate((0, 1, 1, 2)):
        place = (slice(number // 2, None, 2), slice(number % 2, None, 2))
        mosaic[place] = 512 + 14_000 * (photo[..., colour][place] / 255) ** 2.2
    noisy = random.normal(mosaic, 60).clip(0, 15_000).round().astype(np.uint16)
    identity = tuple(part for value in np.eye(3).ravel().astype(int).tolist() for part in (value, 1))
    tags = (
        (33421, 3, 2, (2, 2)), (33422, 1, 4, bytes((0, 1, 1, 2))), (50706, 1, 4, bytes((1, 4, 0, 0))),
        (50708, 2, 0, "Maker Model"), (50713, 3, 2, (2, 2)), (50714, 4, 4, (512,) * 4), (50717, 4, 1, 15_000),
        (50721, 10, 9, identity), (50728, 5, 3, (1, 1, 1, 1, 1, 1)), (50778, 3, 1, 21),
    )  # fmt: skip
    extratags = [(*tag, True) for tag in tags]
    tifffile.imwrite(path, noisy, photometric="cfa", metadata=None, software=False, extratags=extratags)


def make_inputs(folder: Path) -> None:
    """Noisy images of every format in `formats`, small gray ones in `noisy`, clean ones in `clean` and `truth`."""
    random = np.random.default_rng(0)
    for name in ("formats", "noisy", "clean", "truth", "colours"):
        (folder / name).mkdir()
    photo, camera = skimage.data.astronaut()[:161, 100:261], skimage.data.camera()
    red = np.clip(random.normal(photo, 20), 0, 255).round().astype(np.uint8)
    gray = red[..., 1]
    alpha = np.tile(np.arange(161, dtype=np.uint8), (161, 1))
    sixteen, gray_sixteen = red.astype(np.uint16) * 257, gray.astype(np.uint16) * 257
    formats = folder / "formats"
    for name, samples in {
        "gray8": gray, "gray16": gray_sixteen, "rgb8": red, "rgb16": sixteen, "rgba8": np.dstack([red, alpha]),
        "rgba16": np.dstack([sixteen, alpha.astype(np.uint16) * 257]), "gray_alpha8": np.dstack([gray, alpha]),
    }.items():  # fmt: skip
        (formats / f"{name}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
    Image.fromarray(red).save(formats / "photo.jpg", quality=92)
    Image.fromarray(gray).save(formats / "gray.jpg", quality=92)
    Image.fromarray(red).save(formats / "lossless.webp", lossless=True)
    Image.fromarray(red).save(formats / "lossy.webp", quality=90)
    Image.fromarray(red).save(formats / "photo.bmp")
    tifffile.imwrite(formats / "eight.tif", gray)
    tifffile.imwrite(formats / "sixteen.tif", sixteen, photometric="rgb")
    counts = np.stack([random.poisson(40 + gray[:96, :96] * 4.0) for _ in range(3)]).astype(np.float32)
    tifffile.imwrite(formats / "counts.tif", counts, photometric="minisblack")
    tifffile.imwrite(formats / "share.tif", (gray / 255).astype(np.float32))
    stored = zarr.create_array(formats / "stack.zarr", shape=(2, 161, 161), dtype="uint16", chunks=(1, 64, 64))
    stored[:] = np.stack([gray_sixteen, gray_sixteen[::-1]])
    dng(formats / "raw.dng", photo[:160, :160], random)
    for number in range(3):
        part = camera[100 * number : 100 * number + 112, 120:248]
        noisy = np.clip(random.normal(part, 15), 0, 255).round().astype(np.uint8)
        for name, samples in (("noisy", noisy), ("truth", part)):
            (folder / name / f"{number}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(samples)))
        clean = skimage.data.coffee()[120 * number : 120 * number + 112, 200:328]
        (folder / "clean" / f"{number}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(clean)))
        noisy = np.clip(random.normal(photo[:96, :96], 15), 0, 255).round().astype(np.uint8)
        (folder / "colours" / f"{number}.png").write_bytes(imagecodecs.png_encode(np.ascontiguousarray(noisy)))


def run(*arguments: object) -> str:
    """The output of a command on both streams, and its exit status."""
    command = [sys.executable, "-m", "dbsn", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, env=ENVIRONMENT, check=False)
    return f"{done.stdout}\n{done.stderr}\n{done.returncode}"


def images_below(folder: Path) -> Iterator[tuple[str, str]]:
    """The name and the digest of every image in a folder of results."""
    for path in sorted(folder.rglob("*")):
        is_inside = any(parent.suffix == ".zarr" for parent in path.relative_to(folder).parents)
        if not is_inside and path.suffix in (".png", ".jpg", ".webp", ".bmp", ".tif", ".zarr", ".dng"):
            yield str(path.relative_to(folder)), of_array(decoded(path))


def denoising(folder: Path) -> Iterator[tuple[str, str]]:
    """The results of denoising: every format, the built-in models, the settings."""
    formats, png = folder / "formats", folder / "formats" / "rgb8.png"
    gray = folder / "formats" / "gray8.png"
    asked = {
        "every format": (formats,),
        "uncertainty": (formats, "--save-std", "--tile", 64),
        "floats": (gray, formats / "sixteen.tif", formats / "stack.zarr", "--dtype", "float32", "--strength", 0.5),
        "gray": (gray, "-m", "gray"),
        "photo": (png, gray, "-m", "photo", "--strength", 1.3),
        "jpeg-photo": (png, "-m", "jpeg-photo", "--ensemble"),
        "posterior": (png, "-m", "photo", "--method", "posterior"),
        "negative tile": (png, "--tile", -1),
        "no file": (folder / "missing.png",),
    }
    for name, arguments in asked.items():
        output = folder / f"denoised {name}"
        yield f"denoise {name}: text", of_text(run("denoise", *arguments, "-o", output), folder)
        for image, told in images_below(output):
            yield f"denoise {name}: {image}", told


def training(folder: Path) -> Iterator[tuple[str, str]]:
    """The results of training: both stages, resumed, and results of the trained models."""
    first, both, strided, truth = (folder / name for name in ("first", "both", "strided", "truth run"))
    colours = folder / "colours run"
    small = ("--network", "grid-tiny", "--batch", 4, "--patch", 48, "--validations", 3)
    student = ("--student.network", "unet-tiny", "--student.batch", 4, "--student.patch", 48)
    asked = {
        "stage 1": ("train", folder / "noisy", "-o", first, "--steps", 12, "--clean", "none", *small),
        "stage 1 resumed": ("train", "-o", first, "--resume", "--steps", 16),
        "stage 2": (
            "train", folder / "noisy", "-o", both, "--teacher", first / "model.safetensors", "--clean",
            folder / "clean", "--student.steps", 12, *student,
        ),
        "stage 2 resumed": ("train", "-o", both, "--resume", "--student.steps", 20),
        "from photo": (
            "train", folder / "colours", "-o", colours, "--steps", 6, *small, "--clean", folder / "clean",
            "--student.steps", 6, "--student.batch", 4, "--student.patch", 48,
        ),
        "stride": (
            "train", folder / "noisy", "-o", strided, "--steps", 6, "--stride", 2, "--noise", "auto", "--clean",
            "none", *small,
        ),
        "truth": (
            "train", folder / "noisy", "-o", truth, "--steps", 6, "--truth", folder / "truth", "--clean",
            "none", *small,
        ),
        "changed": ("train", "-o", first, "--resume", "--batch", 5),
    }  # fmt: skip
    for name, arguments in asked.items():
        yield f"train {name}: text", of_text(run(*arguments), folder)
    for place in (first, both, colours, strided, truth):
        for path in sorted(place.rglob("*.safetensors")):
            yield f"{path.relative_to(folder)}", of_model(path, folder)
        yield f"{place.name}/config.json", of_text((place / "config.json").read_text(), folder)
        yield f"{place.name}/preview.png", of_array(decoded(place / "preview.png"))
    noisy, model = folder / "noisy", both / "model.safetensors"
    for name, arguments in {
        "student": (noisy, "-m", both),
        "posterior": (noisy, "-m", both, "--method", "posterior", "--save-std", "--ensemble"),
        "stride": (noisy, "-m", strided, "--tile", 64),
        "raw": (folder / "formats" / "raw.dng", "-m", first),
        "stack": (folder / "formats" / "stack.zarr", folder / "formats" / "counts.tif", "-m", first, "--save-std"),
    }.items():
        output = folder / f"by {name}"
        yield f"denoise by {name}: text", of_text(run("denoise", *arguments, "-o", output), folder)
        for image, told in images_below(output):
            yield f"denoise by {name}: {image}", told
    said = run("synthesize", folder / "clean", "-m", model, "-o", folder / "pairs")
    yield "synthesize: text", of_text(said, folder)
    for image, told in images_below(folder / "pairs"):
        yield f"synthesize: {image}", told
    for name, arguments in {
        "real": ("--noisy", noisy),
        "synthetic": ("--noise", "hg:40,10", "--method", "posterior"),
    }.items():
        said = run("evaluate", "-m", model, "--clean", folder / "truth", *arguments, "--json")
        yield f"evaluate {name}", of_text(said, folder)
    yield "info", of_text(run("info", model), folder)
    yield "info --json", of_text(run("info", model, "--json"), folder)
    run("report", both)
    page = re.sub(r"<td>dbsn [^<]*</td>", "", (both / "report.html").read_text())
    yield "report", of_text(page, folder)


def telling(folder: Path) -> Iterator[tuple[str, str]]:
    """The output of the other commands."""
    for name in COMMANDS:
        yield f"{name} --help", of_text(run(name, "--help"), folder)
    yield "models --json", of_text(run("models", "--json"), folder)
    yield "inspect", of_text(run("inspect", folder / "noisy"), folder)
    yield "inspect --json", of_text(run("inspect", folder / "formats" / "photo.jpg", "--json"), folder)


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name).resolve()
        make_inputs(folder)
        for part in (telling, denoising, training):
            for result, told in part(folder):
                print(told, result, sep="  ", flush=True)


if __name__ == "__main__":
    main()
