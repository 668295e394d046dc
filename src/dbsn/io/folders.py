"""The image files below some folders, and what is read of all of them.

Tested in tests/unit/test_images.py. What one file holds does not belong here. This module must not import torch.
"""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dbsn.errors import ImageError
from dbsn.io import zarr
from dbsn.io.formats import NAMED, SUFFIXES, read_planes


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """List the image files a person means by some files, folders and glob patterns.

    Args:
        inputs: Files are taken whatever their suffix; folders are searched to any depth for known suffixes,
            without hidden files and folders, in sorted order; patterns that no shell expanded are expanded.

    Returns:
        Paths in the order of `inputs`, each file once.

    Raises:
        FileNotFoundError: if a path does not exist or a pattern matches nothing.
        ImageError: if a folder holds no image.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(given):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(given: Path) -> Iterable[Path]:
    if zarr.is_zarr(given):
        return [given]
    if given.is_dir():
        images = sorted(path for path in given.rglob("*") if _is_visible_image(path, given))
        if not images:
            raise ImageError(f"{given}: no images in this folder; looked for {NAMED} and camera RAW")
        return images
    if given.exists():
        return [given]
    matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    if not matches:
        raise FileNotFoundError(f"{given}: no such file or folder; check the spelling")
    return [path for match in matches for path in _expand(Path(match))]


def _is_visible_image(path: Path, folder: Path) -> bool:
    below = path.relative_to(folder)
    hidden = any(part.startswith(".") for part in below.parts)
    within = any(parent.suffix.lower() == zarr.SUFFIX for parent in below.parents)
    is_image = zarr.is_zarr(path) if path.suffix.lower() == zarr.SUFFIX else path.is_file()
    return path.suffix.lower() in SUFFIXES and not hidden and not within and is_image


MOST_PLANES = 256  # of a stack, to learn from


def load_folder(
    inputs: Sequence[Path], *, mixed: bool = False, axes: str | None = None
) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """Read every image below `inputs`; of a stack up to 256 pages, evenly chosen. `axes` are as of `read_planes`.

    Returns:
        The files read; their images' pixels (h, w, c) in the file's own kind; a line for each file that cannot be read.

    Raises:
        ValueError: No file can be read, or gray and colour are mixed and may not be.
    """
    files, images, failures, by_channels = [], list[np.ndarray](), [], dict[int, Path]()
    for path in find_images(inputs):
        try:
            planes = [plane.samples for plane in read_planes(path, MOST_PLANES, axes)]
        except ImageError as error:
            failures.append(str(error))
            continue
        files.append(path)
        images += planes
        by_channels[planes[0].shape[2]] = path
    if not images:
        raise ValueError("no image could be read: " + "; ".join(failures))
    if len(by_channels) > 1 and not mixed:
        raise ValueError(f"gray and colour images are mixed ({by_channels[1]}, {by_channels[3]}); train on one kind")
    return files, images, failures


def printable(text: str) -> str:
    """Text with a mark for what is no character: file names may hold any bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
