"""Weights and training state in safetensors files: strict, versioned, atomic, never pickled.

A model file is one safetensors file whose header holds the model's configuration (tests/unit/test_checkpoint.py). A
checkpoint is the same kind of file with everything a training needs to go on as if nothing had happened.
"""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from dbsn.config import ModelConfig
from dbsn.model import BlindSpotModel

FORMAT = "dbsn-1"


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the new one, whole, whatever happens meanwhile."""
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def save_tensors(path: Path, tensors: dict[str, Tensor], header: dict[str, Any]) -> None:
    """Write tensors and a JSON header to one safetensors file, atomically."""
    contiguous = {name: tensor.detach().to("cpu").contiguous() for name, tensor in tensors.items()}
    write_atomically(path, save(contiguous, {"format": FORMAT, "header": json.dumps(header)}))


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


def save_model(path: Path, model: BlindSpotModel, about: dict[str, Any]) -> None:
    """Write a model file; `about` (how it was trained) is kept in its header."""
    save_tensors(path, model.state_dict(), {"model": model.config.to_dict(), "about": about})


def load_model(path: Path) -> tuple[BlindSpotModel, dict[str, Any]]:
    """Read a model file: the model, ready for inference, and what `save_model` was told about it.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is damaged, of another kind, or its weights do not fit its configuration.
    """
    tensors, header = load_tensors(path)
    if "model" not in header:
        raise ValueError(f"{path}: holds no model configuration; use the run's model.safetensors")
    model = BlindSpotModel(ModelConfig.from_dict(header["model"]))
    try:
        model.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise ValueError(f"{path}: weights do not fit the configuration in the file: {error}") from None
    return model.eval(), header.get("about", {})


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """An optimizer's state as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    content = optimizer.state_dict()
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**content, "state": state})
