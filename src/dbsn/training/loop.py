"""The training loop of both stages.

A stage gives `train` a loss function and a source of batches. `train` yields progress. Promises, tested in
tests/e2e/test_resume.py:

- Killed at any moment and resumed, a training continues bit for bit. This holds for the same number of threads, one
  process, and a budget in steps.
- Interrupted, it stops after the step and leaves a usable model.
- A loss that is not finite stops it; the last checkpoint stays intact.
"""

import copy
import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dbsn.config import Training
from dbsn.devices import MEMORY_FORMAT, pick_device, uses_bf16
from dbsn.errors import TrainingDivergedError
from dbsn.training.checkpoint import CHECKPOINT, TrainingState, restore, save_checkpoint
from dbsn.training.optimizer import Muon

_CHECKPOINT_SECONDS = 60.0
_TIMED_STEPS = 10  # until it is said how long the training will take
_ENOUGH_STEPS = 300  # from random weights; a tenth of them leaves most of the noise


@dataclass(frozen=True, kw_only=True)
class Losses:
    """The result of a loss function."""

    terms: dict[str, Tensor]
    """Scalars whose sum is minimised."""
    shown: dict[str, Tensor]
    """Scalars that are only reported."""


_Same = TypeVar("_Same")


class Trainable(Protocol):
    """The interface of a batch."""

    @property
    def pixels(self) -> int:
        """Number of predicted pixels."""
        ...

    def to(self: _Same, device: torch.device) -> _Same:
        """Move the batch to a device."""
        ...


_Model = TypeVar("_Model", bound=nn.Module)
_Batch = TypeVar("_Batch", bound=Trainable)
LossOf = Callable[[_Model, _Batch, float], Losses]
Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """The state of a training after a step."""

    step: int
    """Number of steps done."""
    share: float
    """Share of the budget spent, 0 to 1."""
    seconds: float
    """Time spent training, over all resumptions."""
    loss: float
    """Sum of the loss's terms in this step."""
    terms: dict[str, float]
    """The loss's terms in this step, and other reported figures."""
    learning_rate: float
    """Learning rate of this step."""
    pixels_per_second: float
    """Predicted pixels per second since this process began."""
    validation: float | None
    """Held-out figure (lower is better), if a validation followed this step."""
    best: float
    """Best held-out figure so far; infinite before the first."""
    saved: bool
    """Whether the best model was replaced."""
    interrupted: bool = False
    """Whether an interruption made this the last step."""
    is_undertrained: bool = False
    """Whether random weights have had too few steps so far to have learned enough."""
    remark: str = ""
    """News since the previous step for the user; empty if there is none."""


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """The folder and the device of a training."""

    run: Path
    """Existing folder for the checkpoint."""
    about: dict[str, Any] = field(default_factory=dict)
    """Description of the training, kept in the model file."""
    resume: bool = False
    """Continue from the checkpoint in `run`."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "mps"."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[_Model, _Batch]):
    """A model, its batches, its loss and its validation."""

    model: _Model
    """The model, trained in place; afterwards it holds the last weights."""
    groups: Groups
    """The parameters in groups.

    "pace" is the group's learning rate in units of the configured one. "waits", if given, is the share of the budget
    before it learns. After that its rate rises from zero over the same share again.
    """
    loss_of: LossOf[_Model, _Batch]
    """(model, batch, share of the budget spent) to `Losses`."""
    batches: Callable[[int, int], _Batch]
    """(step, process index) to that step's batch, a pure function."""
    validate: Callable[[_Model], float]
    """Figure of the averaged weights on held-out data, lower is better."""
    save: Callable[[_Model, dict[str, Any]], None]
    """Keeps weights that are the best so far; also told the step, their figure, and whether they are halfway."""
    is_pretrained: bool = False
    """Whether the model begins with weights that an earlier training has left. Then these are validated first, and kept
    as the best until the training has better ones."""
    initial_weights: Mapping[str, Tensor] = field(default_factory=dict)
    """Initial weights from an earlier training, by name.

    At the end of the budget the weights halfway between these and the averaged ones are also validated. A checkpoint
    keeps its own initial weights.
    """


def train(
    task: Task[_Model, _Batch], config: Training, context: TrainingContext, *, until: float = 1.0, renewed: int = 0
) -> Iterator[Progress]:
    """Train a model.

    It writes the last state to `checkpoint.safetensors` in the run, and passes the best averaged weights to `save`.

    Args:
        task: The model and its training.
        config: Budget, optimiser, precision, seed.
        context: Folder and device. `save` decides what is kept.
        until: Share of the budget at which to stop, as if interrupted.
        renewed: Step at which the figure of `validate` changes its meaning. Earlier best figures no longer count.

    Yields:
        `Progress` after every step.

    Raises:
        TrainingDivergedError: A loss or gradient is not finite. The previous checkpoint is intact.
        FileNotFoundError: There is no checkpoint to resume from.
    """
    checkpoint = context.run / CHECKPOINT
    bf16 = TrainingState.of(checkpoint).bf16 if context.resume and config.precision == "auto" else None
    accelerator = _accelerator(config, context.device, bf16)
    model = task.model.to(accelerator.device, memory_format=MEMORY_FORMAT)  # type: ignore[call-overload]
    average = AveragedModel(model, multi_avg_fn=_average_fn(config.ema))
    averaged: _Model = average.module  # type: ignore[assignment]
    optimizer = Muon(task.groups, lr=config.learning_rate)
    initial_weights = task.initial_weights
    state = TrainingState(is_pretrained=task.is_pretrained)
    if context.resume:
        state, initial_weights = restore(checkpoint, model, average, optimizer)
        state.best = math.inf if state.step <= renewed else state.best
    state.bf16 = accelerator.mixed_precision == "bf16"
    trained, optimizer = accelerator.prepare(model, optimizer)
    clock = _Clock(state.seconds)
    saved_at, pixels, share = clock.seconds, 0, state.share(config)
    stopping = share >= until
    if task.is_pretrained and not state.step:
        state.best = _keep_initial(accelerator, task, averaged)

    with _interruption() as interrupted:
        while not stopping:
            rate = _set_learning_rate(optimizer, config, share)
            batch = task.batches(state.step, accelerator.process_index).to(accelerator.device)
            with accelerator.autocast():
                losses = task.loss_of(trained, batch, share)
            values = _update(accelerator, trained, optimizer, losses, config.clip, state.step)
            average.update_parameters(model)
            state.step, state.seconds, before = state.step + 1, clock.seconds, share
            pixels += batch.pixels * accelerator.num_processes
            clock.step_done()
            share, stopped = _progress_of_all(accelerator, state.share(config), interrupted())
            stopping = stopped or share >= until
            validation, better = None, False
            if int(share * config.validations) > int(before * config.validations) or stopping:
                averaged.eval()
                with accelerator.autocast():
                    validation, chosen, story = _best_of(averaged, initial_weights if share >= 1 else {}, task.validate)
                better = validation < state.best
                state.best = min(state.best, validation)
                if better and accelerator.is_main_process:
                    task.save(chosen, {"step": state.step, "validation": validation} | story)
            if validation is not None or clock.seconds - saved_at > _CHECKPOINT_SECONDS:
                saved_at = clock.seconds
                if accelerator.is_main_process:
                    save_checkpoint(checkpoint, model, average, optimizer, initial_weights, state)
            timed = clock.steps == _TIMED_STEPS
            yield Progress(
                step=state.step,
                share=share,
                seconds=clock.seconds,
                loss=sum(values[name] for name in losses.terms),
                terms=values,
                learning_rate=rate,
                pixels_per_second=pixels / (clock.seconds - clock.start),
                validation=validation,
                best=state.best,
                saved=better,
                interrupted=stopped,
                is_undertrained=not state.is_pretrained and state.step < _ENOUGH_STEPS,
                remark=config.duration(state.step, clock.seconds, clock.seconds_per_step) if timed else "",
            )


def _keep_initial(accelerator: Accelerator, task: Task[_Model, _Batch], averaged: _Model) -> float:
    """Validate and save the initial weights, which the training has to improve; returns their held-out figure."""
    averaged.eval()
    with accelerator.autocast():
        figure = task.validate(averaged)
    if accelerator.is_main_process:
        task.save(averaged, {"step": 0, "validation": figure})
    return figure


def _best_of(
    averaged: _Model, initial_weights: Mapping[str, Tensor], validate: Callable[[_Model], float]
) -> tuple[float, _Model, dict[str, Any]]:
    """Validate the averaged weights, and those halfway to `initial_weights` (L8).

    Return the lower figure, the model with these weights, and a note on it.
    """
    figure = validate(averaged)
    if not initial_weights:
        return figure, averaged, {}
    middle = copy.deepcopy(averaged)
    for name, weight in initial_weights.items():
        parameter = middle.get_parameter(name).data
        parameter.lerp_(weight.to(parameter), 0.5)
    halfway = validate(middle)
    return (halfway, middle, {"halfway": True}) if halfway < figure else (figure, averaged, {})


def _update(
    accelerator: Accelerator,
    trained: nn.Module,
    optimizer: torch.optim.Optimizer,
    losses: Losses,
    clip: float,
    step: int,
) -> dict[str, float]:
    """Make one optimiser step.

    Return the loss's terms, its reported figures and the gradient's norm. Raise if one of them is not finite.
    """
    accelerator.backward(torch.stack(list(losses.terms.values())).sum())
    values = {name: term.detach() for name, term in (losses.terms | losses.shown).items()}
    values["gradient norm"] = accelerator.clip_grad_norm_(trained.parameters(), clip).detach()
    # the mean over processes, so that all of them continue or stop together
    means = accelerator.reduce(torch.stack([value.float() for value in values.values()]), "mean")
    known = dict(zip(values, means.tolist(), strict=True))
    _check_finite(known, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return known


class _Clock:
    """Seconds of training, including those of earlier processes."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.steps = 0
        self._began = time.monotonic()
        self._after_first = start

    @property
    def seconds(self) -> float:
        return self.start + time.monotonic() - self._began

    def step_done(self) -> None:
        """Count a step of this process."""
        self.steps += 1
        if self.steps == 1:
            self._after_first = self.seconds

    @property
    def seconds_per_step(self) -> float:
        """The mean since the first step, which also prepares; defined after the second."""
        return (self.seconds - self._after_first) / (self.steps - 1)


def is_main_process() -> bool:
    """Whether this process is the one of several that writes files and messages."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Wait for all processes, so that the files of the main one are complete."""
    if "WORLD_SIZE" in os.environ:
        PartialState().wait_for_everyone()


def _accelerator(config: Training, device: str, bf16: bool | None) -> Accelerator:
    """What computes; `bf16` is the arithmetic of the checkpoint, which a resumed training keeps, or None."""
    device = pick_device(device)
    bf16 = uses_bf16(config.precision, device, "training") if bf16 is None else bf16
    AcceleratorState._reset_state(reset_partial_state="WORLD_SIZE" not in os.environ)  # or stages could not differ
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=device == "cpu", kwargs_handlers=[unused])


def _progress_of_all(accelerator: Accelerator, share: float, interrupted: bool) -> tuple[float, bool]:
    """Share of the budget spent, at most 1, and whether the user interrupts.

    All processes get the values of the first.
    """
    if accelerator.num_processes > 1:
        mine = torch.tensor([share, float(interrupted)], dtype=torch.float64, device=accelerator.device)
        share, interrupted = broadcast(mine).tolist()
    return min(share, 1.0), bool(interrupted)


def _risen(share: float, waits: float) -> float:
    """Factor on the learning rate of a group that waits, 0 to 1.

    Without this rise Adam's steps would soon be twice as large while gradients agree, because it has counted the steps
    without gradient.
    """
    return min(max(share / waits - 1, 0.0), 1.0) if waits else 1.0


def _set_learning_rate(optimizer: torch.optim.Optimizer, config: Training, share: float) -> float:
    """Set the learning rate of each parameter group, and return the largest."""
    rate = _learning_rate(config, share)
    for group in optimizer.param_groups:
        group["lr"] = rate * group["pace"] * _risen(share, group.get("waits", 0.0))
    return rate


def _learning_rate(config: Training, share: float) -> float:
    """Learning rate: linear warm-up, then half a cosine down to a hundredth."""
    if share < config.warmup:
        return config.learning_rate * max(share / config.warmup, 1e-3)
    decayed = (share - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * decayed)))


def _average_fn(decay: float) -> Callable[[Any, Any, Any], None]:
    """Running average of the weights; its decay grows with the steps up to `decay`."""

    def update(averages: list[Tensor], currents: list[Tensor], count: Tensor | int) -> None:
        done = int(count)
        torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + done) / (10 + done)))

    return update


def _check_finite(values: dict[str, float], step: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"step {step}: the {name} is not finite (got {value}). Continue from the last checkpoint with --resume"
                " and a lower --learning-rate or --precision fp32."
            )


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C or SIGTERM into a flag, so that the current step is finished.

    A second one stops at once.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def restore() -> None:
        for number, handler in previous.items():
            signal.signal(number, handler)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        restore()

    for number in previous:
        signal.signal(number, ask)
    try:
        yield asked.is_set
    finally:
        restore()
