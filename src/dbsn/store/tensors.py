"""Named tensors and a JSON header in one safetensors file: strict, versioned, atomic, never pickled.

Tested in tests/unit/test_checkpoint.py. What the tensors are does not belong here.
"""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dbsn.io.atomic import write_atomically

FORMAT = "dbsn-1"
_KEPT_WHOLE = 5_000  # numbers of a tensor: all of the networks that say how large noise and errors are


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically."""
    contiguous, written = {}, set[int]()
    for name, tensor in tensors.items():
        part = tensor.detach().to("cpu").contiguous()
        place = part.untyped_storage().data_ptr()
        contiguous[name] = part.clone() if place in written else part  # a user's layers may share weights
        written.add(place)
    write_atomically(path, save(contiguous, {"format": FORMAT, "header": json.dumps(header)}))


def in_half_precision(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Weights as they are given away: float16, but for small tensors, of which variances are made."""
    return {name: part.half() if part.numel() > _KEPT_WHOLE else part for name, part in tensors.items()}


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is damaged, not a safetensors file, or not one of ours.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path}: not a model file, or damaged ({error})") from None
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path}: format {metadata.get('format')!r} is not {FORMAT!r}; was it written by dbsn?")
    return tensors, json.loads(metadata["header"])
