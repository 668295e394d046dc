"""Reading the paper authors' checkpoint files by name (tests/golden). The only place that opens a pickle, safely."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

Part = Literal["state_dict_dbsn", "state_dict_sigma_mu", "state_dict_sigma_n", "state_dict_cnn_denoiser"]


def read_released(path: Path, part: Part) -> dict[str, Tensor]:
    """One network's weights from a released `.pth` file.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file does not hold this part.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    content = torch.load(path, map_location="cpu", weights_only=True)
    if part not in content:
        raise ValueError(f"{path}: holds {sorted(content)}, not {part}")
    weights: dict[str, Tensor] = content[part]
    return weights


def load_released(module: nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Load released weights into `DBSN` or a `PixelMLP` (variance head; a `NoiseEstimator`'s `mlp`), strictly by name.

    Raises:
        ValueError: A name or shape does not fit.
    """
    last = max(
        (int(index) for name in weights for index in re.findall(r"^(?:module\.)?conv\.(\d+)\.", name)), default=0
    )
    renamed = {
        re.sub(r"^conv_final\.", f"conv.{last + 2}.", name.removeprefix("module.")): tensor
        for name, tensor in weights.items()
    }
    try:
        module.load_state_dict(renamed, strict=True)
    except RuntimeError as error:
        raise ValueError(f"released weights do not fit: {error}") from None
