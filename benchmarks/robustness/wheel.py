"""Check that the wheel works alone: in an empty environment, on one photograph, without network.

Usage: python -m benchmarks.robustness.wheel [--folder DIR] [--dist DIR]

It builds the source distribution and from it the wheel, and checks what both declare and hold. Then it installs the
wheel into a new environment and denoises a noisy photograph there. The network is cut off where the system allows it
(unshare). It prints the written files and the PSNR before and after. `--dist` is where wheel and source distribution
stay. Needs the extra `release`.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

import numpy as np
import skimage.data
from PIL import Image

ROOT = Path(__file__).parents[2]
WEIGHTS = PurePosixPath("dbsn/store/weights")
LEAST_GAIN = 7.0
"""dB that the built-in model gains on this photograph at least."""


def run(*command: object, cwd: Path) -> str:
    """What the command prints; it stops everything if it fails."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(list(map(str, command)), cwd=cwd, env=environment, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{' '.join(map(str, command))}: failed with exit status {done.returncode}")
    return done.stdout


def decibels(image: np.ndarray, clean: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / ((image.astype(float) - clean) ** 2).mean()))


def build(dist: Path) -> tuple[Path, Path]:
    """The wheel and the source distribution, in a folder where there is no other."""
    dist.mkdir(parents=True, exist_ok=True)
    for old in dist.glob("dbsn-*"):
        old.unlink()
    run(sys.executable, "-m", "build", "--outdir", dist, ROOT, cwd=dist)
    [wheel], [source] = dist.glob("dbsn-*.whl"), dist.glob("dbsn-*.tar.gz")
    return wheel, source


def check(wheel: Path, source: Path) -> None:
    """Both say of themselves what PyPI asks for, and hold the package with its weights and no tests."""
    print(run(sys.executable, "-m", "twine", "check", "--strict", wheel, source, cwd=wheel.parent), end="")
    with zipfile.ZipFile(wheel) as file:
        in_wheel = [PurePosixPath(name) for name in file.namelist()]
    with tarfile.open(source) as file:
        in_source = [PurePosixPath(*PurePosixPath(name).parts[1:]) for name in file.getnames()]
    package = sorted((ROOT / "src" / "dbsn").rglob("*.py"))
    for built, names, prefix in ((wheel, in_wheel, ""), (source, in_source, "src")):
        weights = {name.name for name in names if name.parent == PurePosixPath(prefix) / WEIGHTS}
        expected = {path.name for path in (ROOT / "src" / WEIGHTS).iterdir() if path.name != "__pycache__"}
        missing = {PurePosixPath(prefix, path.relative_to(ROOT / "src")) for path in package} - {*names}
        strange = {name.parts[0] for name in names if name.parts} & {"tests", "benchmarks", "training", "docs"}
        if weights != expected or missing or strange:
            sys.exit(f"{built.name}: weights {weights} of {expected}; missing {missing}; not for users {strange}")
        print(f"{built.name}: {built.stat().st_size / 1e6:.1f} MB, {len(names)} files, {', '.join(sorted(weights))}")
    others = {name.parts[0] for name in in_wheel if name.parts[0] != "dbsn" and ".dist-info" not in name.parts[0]}
    if others:
        sys.exit(f"{wheel.name}: holds more than the package: {others}")


def install_and_denoise(wheel: Path, folder: Path) -> None:
    """The wheel in an environment of its own, asked for help and for its models, on a photograph with noise."""
    run(sys.executable, "-m", "venv", "--clear", folder / "env", cwd=folder)
    binaries = folder / "env" / ("Scripts" if os.name == "nt" else "bin")
    run(binaries / "pip", "install", "-q", "-c", ROOT / "constraints.txt", wheel, cwd=folder)
    clean = skimage.data.chelsea()
    noisy = (clean + np.random.default_rng(0).normal(0, 25, clean.shape)).clip(0, 255).round().astype(np.uint8)
    Image.fromarray(noisy).save(folder / "photo.png")
    alone = shutil.which("unshare") and subprocess.run(["unshare", "-n", "true"], capture_output=True).returncode == 0
    cut_off = ("unshare", "-n") if alone else ()
    told = run(*cut_off, binaries / "dbsn", "--help", cwd=folder)
    listed = run(*cut_off, binaries / "dbsn", "models", cwd=folder)
    if "denoise" not in told or "photo" not in listed:
        sys.exit(f"unexpected help or models:\n{told}\n{listed}")
    print(run(*cut_off, binaries / "dbsn", "denoise", "photo.png", "--overwrite", cwd=folder), end="")
    denoised = np.asarray(Image.open(folder / "denoised" / "photo.png"))
    before, after = decibels(noisy, clean), decibels(denoised, clean)
    print(f"{before:.2f} dB -> {after:.2f} dB, {'cut off from the network' if alone else 'the network was there'}")
    if after < before + LEAST_GAIN:
        sys.exit(f"gained {after - before:.2f} dB, expected {LEAST_GAIN} at least")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where to work; by default a temporary folder")
    parser.add_argument("--dist", type=Path, help="where the built files stay; by default in the folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = (arguments.folder or Path(temporary)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        wheel, source = build((arguments.dist or folder / "dist").resolve())
        check(wheel, source)
        install_and_denoise(wheel, folder)


if __name__ == "__main__":
    main()
