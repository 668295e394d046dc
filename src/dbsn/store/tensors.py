"""Named tensors and a JSON header in one safetensors file.

Files are strict, versioned, written atomically and never pickled. The meaning of the tensors does not belong here.
Tested in tests/unit/test_checkpoint.py.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dbsn.io.atomic import write_atomically

FORMAT = "dbsn-1"
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
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file. Check the path.")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a model file, or damaged ({error}). Use a file written by dbsn.") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(
            f"{path}: unknown format (got {metadata.get('format')!r}, expected {FORMAT!r}). Use a file written by dbsn."
        )
    return tensors, json.loads(metadata["header"])
