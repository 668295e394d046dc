"""Image files in folders: find them and read them all.

The content of one file does not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

import glob
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from dbsn.errors import ImageError
from dbsn.io import formats
from dbsn.io.checks import check_regular
from dbsn.io.format_table import NAMED, format_named


def find_images(inputs: Sequence[Path]) -> list[Path]:
    """List the image files named by files, folders and glob patterns.

    Args:
        inputs: Files are used whatever their suffix. Folders are searched to any depth for known suffixes, in sorted
            order; hidden files and folders are skipped. Patterns that no shell expanded are expanded.

    Returns:
        Paths in the order of `inputs`, each file once.

    Raises:
        FileNotFoundError: A path does not exist, or a pattern matches nothing.
        ImageError: A folder holds no image.
    """
    found: dict[str, Path] = {}
    for given in inputs:
        for path in _expand(given):
            found.setdefault(os.path.abspath(path), path)
    return list(found.values())


def _expand(given: Path) -> Iterable[Path]:
    if given.is_dir() and not formats.open(given).is_array:
        images = sorted(path for path in given.rglob("*") if _is_visible_image(path, given))
        if not images:
            raise ImageError(
                f"{given}: no images in this folder (expected {NAMED} or camera RAW). Name another folder."
            )
        return images
    if given.exists():
        check_regular(given)
        return [given]
    matches = sorted(glob.glob(str(given), recursive=True)) if glob.has_magic(str(given)) else []
    if not matches:
        raise FileNotFoundError(f"{given}: no such file or folder. Check the spelling.")
    return [path for match in matches for path in _expand(Path(match))]


def _is_seen(path: Path, folder: Path) -> bool:
    """Whether a path below a folder is neither hidden nor a part of a Zarr."""
    below = path.relative_to(folder)
    around = [format_named(parent) for parent in below.parents]
    return not any(part.startswith(".") for part in below.parts) and not any(
        known and known.is_array for known in around
    )


def _is_visible_image(path: Path, folder: Path) -> bool:
    named = format_named(path)
    if named is None or not _is_seen(path, folder):
        return False
    return formats.open(path).is_array if named.is_array else path.is_file()


def find_unread(inputs: Sequence[Path], *, besides: Path) -> list[Path]:
    """List the visible files in input folders that `find_images` does not take for images, sorted.

    Args:
        inputs: See `find_images`.
        besides: Folder of results; what lies in it is not listed.
    """
    place, found = besides.resolve(), list[Path]()
    for given in inputs:
        if given.is_dir() and not formats.open(given).is_array:
            for path in sorted(given.rglob("*")):
                is_within = path.resolve().is_relative_to(place) and place != given.resolve()
                if path.is_file() and not is_within and _is_seen(path, given) and format_named(path) is None:
                    found.append(path)
    return found


MOST_PLANES = 256  # planes of a stack that are used for training


def load_folder(
    inputs: Sequence[Path], *, mixed: bool = False, axes: str | None = None
) -> tuple[list[Path], list[np.ndarray], list[str]]:
    """Read every image below `inputs`; of a stack up to 256 pages, evenly chosen.

    Args:
        inputs: See `find_images`.
        mixed: Whether gray and colour images may be mixed.
        axes: See `dbsn.io.Source.planes`.

    Returns:
        The files read, their images (h, w, c) in the file's data type, and a line for each file that cannot be read.

    Raises:
        ValueError: No file can be read, or gray and colour images are mixed although `mixed` is false.
    """
    files, images, failures, by_channels = [], list[np.ndarray](), [], dict[int, Path]()
    for path in find_images(inputs):
        try:
            planes = [plane.samples for plane in formats.open(path).planes(MOST_PLANES, axes)]
        except ImageError as error:
            failures.append(str(error))
            continue
        files.append(path)
        images += planes
        by_channels[planes[0].shape[2]] = path
    if not images:
        raise ValueError("images: none could be read. " + " ".join(failures))
    if len(by_channels) > 1 and not mixed:
        raise ValueError(
            f"images: gray and colour are mixed (got {by_channels[1]} and {by_channels[3]}). Train on one of the two."
        )
    return files, images, failures


def printable(text: str) -> str:
    """Replace invalid characters by a mark: file names may hold any bytes."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
