"""The checkpoint: everything that a training needs to continue exactly.

The training itself does not belong here. Tested in tests/e2e/test_resume.py and tests/unit/test_distill.py.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dbsn.config import Budget
from dbsn.schema import build
from dbsn.store.tensors import load_header, load_tensors, save_tensors

CHECKPOINT = "checkpoint.safetensors"
_INITIAL_WEIGHTS = "begun with"


@dataclass(kw_only=True)
class TrainingState:
    """The progress of a training."""

    step: int = 0
    """Number of steps done."""
    seconds: float = 0.0
    """Time spent up to the end of this step, over all resumptions."""
    best: float = math.inf
    """Best held-out figure so far; infinite before the first."""
    bf16: bool | None = None
    """Whether it computes in bfloat16; None if that is not chosen yet, as in early checkpoints."""
    is_pretrained: bool = False
    """Whether the training began with the weights of an earlier one."""

    def share(self, budget: Budget) -> float:
        """Share of the budget spent; above 1 if it has been cut since."""
        return budget.share(self.step, self.seconds)

    @staticmethod
    def of(checkpoint: Path) -> "TrainingState":
        """Read the progress from a checkpoint; without one it is that of a new training."""
        return state_of(checkpoint, load_header(checkpoint)[1].get("state")) if checkpoint.exists() else TrainingState()


def finished(checkpoint: Path, budget: Budget) -> bool:
    """Whether the training of this checkpoint has spent its budget.

    It is False if there is no checkpoint.
    """
    return TrainingState.of(checkpoint).share(budget) >= 1


def save_checkpoint(
    path: Path,
    model: nn.Module,
    average: AveragedModel,
    optimizer: torch.optim.Optimizer,
    initial_weights: Mapping[str, Tensor],
    state: TrainingState,
) -> None:
    """Write everything that `restore` reads."""
    parts = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer_tensors(optimizer)}
    parts[_INITIAL_WEIGHTS] = dict(initial_weights)
    tensors = {f"{part}/{name}": tensor for part, content in parts.items() for name, tensor in content.items()}
    save_tensors(path, tensors, {"state": asdict(state)})


def restore(
    path: Path, model: nn.Module, average: AveragedModel, optimizer: torch.optim.Optimizer
) -> tuple[TrainingState, dict[str, Tensor]]:
    """Load a checkpoint into a model, its average and its optimiser.

    Returns:
        The progress of the training, and its initial weights.

    Raises:
        FileNotFoundError: There is no checkpoint.
        ValueError: It belongs to other networks.
    """
    tensors, header = load_tensors(path)
    parts: dict[str, dict[str, Tensor]] = {"model": {}, "average": {}, "optimizer": {}, _INITIAL_WEIGHTS: {}}
    try:
        for key, tensor in tensors.items():
            part, name = key.split("/", 1)
            parts[part][name] = tensor
        model.load_state_dict(parts["model"])
        average.load_state_dict(parts["average"])
        restore_optimizer(optimizer, parts["optimizer"])
    except (RuntimeError, KeyError, ValueError):
        raise ValueError(
            f"{path}: the networks differ, another version of dbsn wrote this checkpoint. Start a new run."
        ) from None
    return state_of(path, header.get("state")), parts[_INITIAL_WEIGHTS]


def state_of(path: Path, values: object) -> TrainingState:
    """The progress that the header of a file holds."""
    if isinstance(values, dict):  # early checkpoints hold more, or do not say how the training began
        names = [field.name for field in fields(TrainingState)]
        values = {"is_pretrained": True} | {name: value for name, value in values.items() if name in names}
    try:
        return build(TrainingState, values, "state")
    except ValueError as error:
        raise ValueError(f"{path}: {error}. Start a new run.") from None


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimiser as named tensors."""
    state = optimizer.state_dict()["state"]
    return {f"{index}.{name}": value for index, values in state.items() for name, value in values.items()}


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """The inverse of `optimizer_tensors`."""
    content = optimizer.state_dict()
    parameters = dict(enumerate(each for group in optimizer.param_groups for each in group["params"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        if value.numel() != 1 and value.shape != parameters[int(index)].shape:
            raise ValueError(f"{key}: wrong shape (got {tuple(value.shape)})")
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({**content, "state": state})
