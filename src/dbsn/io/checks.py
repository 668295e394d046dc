"""Checks of a file before it is decoded, since it may come from a stranger: its kind, and what it would take in memory.

The limits themselves are in `dbsn.limits`. Tested in tests/unit/test_hostile_images.py. This module must not import
torch.
"""

import zlib
from pathlib import Path

from dbsn.errors import ImageError
from dbsn.limits import FREE_SAMPLES, LARGEST_METADATA, MOST_EXPANSION


def check_regular(path: Path) -> None:
    """Check that a path that exists is a file or a folder; a pipe or a device may never end.

    Raises:
        ImageError: It is a pipe, a socket or a device.
    """
    if path.exists() and not path.is_file() and not path.is_dir():
        raise ImageError(f"{path}: a pipe, socket or device, expected a file. Write its content to a file first.")


def check_size(path: Path, samples: int, stored: int, most: int = MOST_EXPANSION) -> None:
    """Check that samples do not take far more memory than their file.

    Args:
        path: The file.
        samples: Bytes of the decoded samples.
        stored: Bytes of the file.
        most: Largest ratio of the two, where the samples take more than FREE_SAMPLES.

    Raises:
        ImageError: They do.
    """
    if samples > max(FREE_SAMPLES, most * stored):
        sizes = f"got {samples / 1e6:.0f} MB of samples in {stored} bytes, expected at most {most} times the file"
        raise ImageError(f"{path}: claims more pixels than it can hold, or is damaged ({sizes}). Crop it.")


def inflated(data: bytes) -> bytes:
    """Decompress metadata of a PNG.

    Raises:
        ValueError: It is damaged, or larger than LARGEST_METADATA.
    """
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, LARGEST_METADATA + 1)
    if len(content) > LARGEST_METADATA:
        raise ValueError(f"compressed metadata of more than {LARGEST_METADATA} bytes")
    if not decompressor.eof:
        raise ValueError("compressed metadata is truncated")
    return content
