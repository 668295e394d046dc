"""Named tensors and a JSON header in one safetensors file.

Files are strict, versioned, written atomically and never pickled. The meaning of the tensors does not belong here.
Tested in tests/unit/test_checkpoint.py.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dbsn.io.atomic import write_atomically
from dbsn.limits import LARGEST_HEADER
from dbsn.schema import parsed

FORMAT = "dbsn-1"
Shape = tuple[int, ...]
_SHOWN = 40  # characters
_KEPT_WHOLE = 5_000  # entries; no tensor of the noise estimate and of the uncertainty is larger


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header atomically to one safetensors file."""
    contiguous, written = {}, set[int]()
    for name, tensor in tensors.items():
        part = tensor.detach().to("cpu").contiguous()
        place = part.untyped_storage().data_ptr()
        contiguous[name] = part.clone() if place in written else part  # a user's layers may share weights
        written.add(place)
    write_atomically(path, save(contiguous, {"format": FORMAT, "header": json.dumps(header)}))


def in_half_precision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Convert weights to float16 for distribution.

    Small tensors stay as they are, because variances are computed from them.
    """
    return {name: part.half() if part.numel() > _KEPT_WHOLE else part for name, part in tensors.items()}


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors and the header that `save_tensors` wrote.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is damaged, not a safetensors file, or not written by dbsn.
    """
    with _opened(path) as file:
        header = _header(path, file)
        return {name: file.get_tensor(name) for name in file.keys()}, header  # noqa: SIM118 (not a dict)


def load_header(path: Path) -> tuple[dict[str, Shape], dict[str, Any]]:
    """Read the shapes of the tensors and the header, but no tensor; errors as `load_tensors`."""
    with _opened(path) as file:
        header = _header(path, file)
        return {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}, header  # noqa: SIM118


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Open a safetensors file whose header has a usual length."""
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such model file. Check the path.")
    if not path.is_file():
        raise ValueError(f"{path}: not a regular file. Name a model file.")
    try:
        with path.open("rb") as start:
            length = int.from_bytes(start.read(8), "little")
        if length > LARGEST_HEADER:
            raise SafetensorError(f"header too large: got {length} bytes, expected at most {LARGEST_HEADER}")
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a model file, or damaged ({error}). Use a file written by dbsn.") from None


def _header(path: Path, file: Any) -> dict[str, Any]:
    metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        found = str(metadata.get("format"))[:_SHOWN]
        raise ValueError(f"{path}: unknown format (got {found!r}, expected {FORMAT!r}). Use a file written by dbsn.")
    try:
        return parsed(metadata.get("header", ""))
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Use a file written by dbsn.") from None
