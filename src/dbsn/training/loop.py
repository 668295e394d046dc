"""The one training loop, for everything that is ever trained.

A stage is a loss function and a source of batches handed to `train`, which yields progress. Promises, tested in
tests/e2e/test_resume.py: killed at any moment and resumed, it continues bit for bit (same thread count, one process,
a budget in steps); interrupted, it stops after the step and leaves a usable model; a loss that is not finite stops it
with the last checkpoint intact.
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
from dbsn.devices import fast_format, pick_device, uses_bf16
from dbsn.errors import TrainingDivergedError
from dbsn.training.checkpoint import CHECKPOINT, TrainingState, restore, save_checkpoint
from dbsn.training.optimizer import Muon

_CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """What a loss function returns."""

    terms: dict[str, Tensor]
    """Scalars whose sum is minimised."""
    shown: dict[str, Tensor]
    """Scalars that are only reported."""


_Same = TypeVar("_Same")


class Trainable(Protocol):
    """What of a batch the loop knows."""

    @property
    def pixels(self) -> int:
        """How many are predicted."""
        ...

    def to(self: _Same, device: torch.device) -> _Same:
        """The same batch on a device."""
        ...


_Model = TypeVar("_Model", bound=nn.Module)
_Batch = TypeVar("_Batch", bound=Trainable)
LossOf = Callable[[_Model, _Batch, float], Losses]
Groups = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What is known after a step."""

    step: int
    """Steps done."""
    share: float
    """Share of the budget spent, 0 to 1."""
    seconds: float
    """Time spent training, over all resumptions."""
    loss: float
    """Sum of the loss's terms in this step."""
    terms: dict[str, float]
    """The loss's terms in this step, and what else the loss reports."""
    learning_rate: float
    """Of this step."""
    pixels_per_second: float
    """Pixels predicted in steps, a second, since this process began."""
    validation: float | None
    """Held-out figure (lower is better) if this step was followed by a validation."""
    best: float
    """Best held-out figure so far; infinite before the first."""
    saved: bool
    """Whether the best model was replaced."""
    interrupted: bool = False
    """Whether this was the last step because somebody asked for it."""
    remark: str = ""
    """What happened since the step before that a person should know; empty: nothing."""


@dataclass(frozen=True, kw_only=True)
class TrainingContext:
    """Where a training runs, and what it keeps."""

    run: Path
    """Existing folder for the checkpoint."""
    about: dict[str, Any] = field(default_factory=dict)
    """Kept in the model file."""
    resume: bool = False
    """Go on from the checkpoint in `run`."""
    device: str = "auto"
    """"auto", "cpu", "cuda" or "mps"."""


@dataclass(frozen=True, kw_only=True)
class Task(Generic[_Model, _Batch]):
    """What is trained, on what, and towards what."""

    model: _Model
    """Trained in place; afterwards it holds the last weights."""
    groups: Groups
    """Its parameters, each group with its "pace": learning rate in units of the configured one; and perhaps with the
    share of the budget for which it "waits": from there its rate rises, over as much again."""
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
    """Weights by name that an earlier training had left, which the model began with. At the end of the budget the
    averaged weights are also validated halfway between them and these. A checkpoint has its own."""


def train(
    task: Task[_Model, _Batch], config: Training, context: TrainingContext, *, until: float = 1.0, renewed: int = 0
) -> Iterator[Progress]:
    """Train a model; leave `checkpoint.safetensors` (last) in the run, and hand `save` the best average.

    Args:
        task: What is trained.
        config: Budget, optimiser, precision, seed.
        context: Where; what it is to keep is up to `save`.
        until: Share of the budget at which to stop, as though interrupted.
        renewed: Step from which on `validate` measures something else: what was the best by then no longer is.

    Yields:
        `Progress` after every step.

    Raises:
        TrainingDivergedError: A loss or gradient is not finite; the checkpoint from before is intact.
        FileNotFoundError: `resume` without a checkpoint.
    """
    accelerator = _accelerator(config, context.device)
    model = task.model.to(  # type: ignore[call-overload]
        accelerator.device, memory_format=fast_format(accelerator.device.type, "training")
    )
    average = AveragedModel(model, multi_avg_fn=_average_fn(config.ema))
    averaged: _Model = average.module  # type: ignore[assignment]
    optimizer = Muon(task.groups, lr=config.learning_rate)
    initial_weights, checkpoint = task.initial_weights, context.run / CHECKPOINT
    state = TrainingState()
    if context.resume:
        state, initial_weights = restore(checkpoint, model, average, optimizer)
        state.best = math.inf if state.step <= renewed else state.best
    trained, optimizer = accelerator.prepare(model, optimizer)
    clock = _Clock(state.seconds)
    saved_at, pixels, share = clock.seconds, 0, state.share(config)
    stopping = share >= until
    if task.is_pretrained and not state.step:
        averaged.eval()
        with accelerator.autocast():
            state.best = task.validate(averaged)
        if accelerator.is_main_process:
            task.save(averaged, {"step": 0, "validation": state.best})

    with _interruption() as interrupted:
        while not stopping:
            rate = _learning_rate(config, share)
            for group in optimizer.param_groups:
                group["lr"] = rate * group["pace"] * _risen(share, group.get("waits", 0.0))
            batch = task.batches(state.step, accelerator.process_index).to(accelerator.device)
            with accelerator.autocast():
                losses = task.loss_of(trained, batch, share)
            values = _update(accelerator, trained, optimizer, losses, config.clip, state.step)
            average.update_parameters(model)
            state.step, state.seconds, before = state.step + 1, clock.seconds, share
            pixels += batch.pixels * accelerator.num_processes

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
            )


def _best_of(
    averaged: _Model, initial_weights: Mapping[str, Tensor], validate: Callable[[_Model], float]
) -> tuple[float, _Model, dict[str, Any]]:
    """The figure of the averaged weights, or of those halfway between them and `initial_weights` if it is lower (L8).

    Also the model with these weights, and what to say of it.
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
    """One descent; returns the loss's terms, what it shows, and the gradient's norm, and refuses what is not finite."""
    accelerator.backward(torch.stack(list(losses.terms.values())).sum())
    values = {name: term.detach() for name, term in (losses.terms | losses.shown).items()}
    values["gradient norm"] = accelerator.clip_grad_norm_(trained.parameters(), clip).detach()
    # the mean over processes, so that all of them go on, or stop, together
    means = accelerator.reduce(torch.stack([value.float() for value in values.values()]), "mean")
    known = dict(zip(values, means.tolist(), strict=True))
    _check_finite(known, step)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return known


class _Clock:
    """Seconds of training, counted on from an earlier process's."""

    def __init__(self, start: float) -> None:
        self.start = start
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        return self.start + time.monotonic() - self._began


def is_main_process() -> bool:
    """Whether this process is the one of several that writes files and speaks."""
    return int(os.environ.get("RANK", "0")) == 0


def wait_for_all() -> None:
    """Go on when all processes are here, so that what the main one has written is there for the others."""
    if "WORLD_SIZE" in os.environ:
        PartialState().wait_for_everyone()


def _accelerator(config: Training, device: str) -> Accelerator:
    device = pick_device(device)
    bf16 = uses_bf16(config.precision, device, "training")
    AcceleratorState._reset_state(reset_partial_state="WORLD_SIZE" not in os.environ)  # or stages could not differ
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(mixed_precision="bf16" if bf16 else "no", cpu=device == "cpu", kwargs_handlers=[unused])


def _progress_of_all(accelerator: Accelerator, share: float, interrupted: bool) -> tuple[float, bool]:
    """Share of the budget spent, at most 1, and whether somebody interrupts: the first process's, for all."""
    if accelerator.num_processes > 1:
        mine = torch.tensor([share, float(interrupted)], dtype=torch.float64, device=accelerator.device)
        share, interrupted = broadcast(mine).tolist()
    return min(share, 1.0), bool(interrupted)


def _risen(share: float, waits: float) -> float:
    """How far the learning rate of what waits for so large a share of the budget has risen, 0 to 1.

    Adam, having counted the steps without gradient, would soon go twice as far at each one while gradients agree.
    """
    return min(max(share / waits - 1, 0.0), 1.0) if waits else 1.0


def _learning_rate(config: Training, share: float) -> float:
    """Linear warm-up, then half a cosine down to a hundredth."""
    if share < config.warmup:
        return config.learning_rate * max(share / config.warmup, 1e-3)
    decayed = (share - config.warmup) / (1 - config.warmup)
    return config.learning_rate * (0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * decayed)))


def _average_fn(decay: float) -> Callable[[Any, Any, Any], None]:
    """Running average whose memory grows with the number of steps until it is `decay`."""

    def update(averages: list[Tensor], currents: list[Tensor], count: Tensor | int) -> None:
        done = int(count)
        torch._foreach_lerp_(averages, currents, 1 - min(decay, (1 + done) / (10 + done)))

    return update


def _check_finite(values: dict[str, float], step: int) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise TrainingDivergedError(
                f"step {step}: the {name} is {value}; go on from the last checkpoint with --resume and a lower"
                " --learning-rate or --precision fp32"
            )


@contextmanager
def _interruption() -> Iterator[Callable[[], bool]]:
    """Turn the first Ctrl-C into a flag, so that the step in hand is finished; a second one stops at once."""
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked.is_set
        return
    previous = signal.getsignal(signal.SIGINT)

    def ask(number: int, frame: Any) -> None:
        asked.set()
        signal.signal(signal.SIGINT, previous)

    signal.signal(signal.SIGINT, ask)
    try:
        yield asked.is_set
    finally:
        signal.signal(signal.SIGINT, previous)
