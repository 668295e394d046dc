"""The device to compute on, and which arithmetic is fast there.

bfloat16 halves the time of a convolution on some processors and takes a hundred times as long on others. Names of
processors do not tell which: libraries, virtual machines and environment variables decide, too. So each shortcut is
measured once on the device at hand, with the operation that will use it, and the answer is kept for the process.
Tested in tests/unit/test_devices.py.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

Work = Literal["convolution", "training", "product"]
"""What bfloat16 is wanted for: a convolution, a convolution with its gradients, or a matrix product."""

_LEAST_GAIN = 1.2  # bfloat16 keeps three digits: a few per cent of time are not worth the others
_HOPELESS = 4.0  # as slow as this at first, and it is not tried again: emulated, one try can take a second
_TRIES = 5
_WIDTH, _SIDE, _BATCH = 64, 32, 4  # of the convolution that is measured; one image of the batch for bfloat16
_ROWS, _COLUMNS = 128, 1152  # of the matrix: the kernel of 128 to 128 channels, as the optimiser sees it


def pick_device(device: str) -> str:
    """Return the device; for "auto" the best one: CUDA, then MPS, then the CPU.

    Raises:
        ValueError: This machine or this build of torch does not have the device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available.get(device, False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise ValueError(f"--device {device}: not available here (expected one of {there}, auto). Choose one of these.")
    return device


MEMORY_FORMAT = torch.channels_last
"""Memory format of images and kernels: the faster one for convolutions with bfloat16 and, by a little, with float32."""


def uses_bf16(precision: str, device: str, work: Work) -> bool:
    """Whether to compute in bfloat16 under a `Training.precision`."""
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device, work))


def has_fast_bf16(device: str, work: Work = "convolution") -> bool:
    """Whether bfloat16 is at least 1.2 times as fast as float32 for this work on this device, as measured."""
    return bf16_gain(device, work) >= _LEAST_GAIN


@cache
def bf16_gain(device: str, work: Work) -> float:
    """How many times as fast as float32 bfloat16 is, measured once in a process; 0 where it cannot be used.

    Other programs may be running. So the two take turns, the fastest run of each counts, and a processor uses one
    thread, which waits for no other.

    Args:
        device: "cpu", "cuda" or "mps".
        work: What is measured.
    """
    if device == "mps" and not torch.amp.is_autocast_available(device):
        return 0.0
    try:
        with _plain_mode(device):
            full, half = (_work(work, torch.device(device), kind) for kind in (torch.float32, torch.bfloat16))
            return _times_as_fast(half, full)
    except (RuntimeError, TypeError):  # this build of torch has no such operation in bfloat16
        return 0.0


@contextmanager
def _plain_mode(device: str) -> Iterator[None]:
    """Measure with gradients and without autocast, whatever the caller's mode; its random numbers stay the same."""
    with (
        torch.inference_mode(mode=False),
        torch.enable_grad(),
        torch.autocast(device, enabled=False),
        torch.random.fork_rng(devices=[]),
    ):
        yield


def _times_as_fast(one: Callable[[], Tensor], other: Callable[[], Tensor]) -> float:
    """How many times as fast the first is as the second: each one's fastest run, taken in turns on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        least, least_other = _seconds(one), _seconds(other)
        if least > _HOPELESS * least_other and _seconds(one) > _HOPELESS * _seconds(other):  # the first run prepares
            return least_other / least
        for _ in range(_TRIES):
            least, least_other = min(least, _seconds(one)), min(least_other, _seconds(other))
    finally:
        torch.set_num_threads(threads)
    return least_other / least


def _work(
    work: Work,
    device: torch.device,
    kind: torch.dtype,
) -> Callable[[], Tensor]:
    """One piece of the work, in an arithmetic; its inputs are made beforehand."""
    if work == "product":
        matrix = torch.rand(_ROWS, _COLUMNS).to(device, kind)
        return lambda: matrix @ matrix.mT
    shapes = ((1, _WIDTH, _SIDE, _SIDE), (_WIDTH, _WIDTH, 3, 3))
    image, kernel = (torch.rand(s).to(device, kind, memory_format=MEMORY_FORMAT) for s in shapes)
    if work == "convolution":
        return lambda: functional.conv2d(image, kernel, padding=1)
    leaves = (nn.Parameter(image), nn.Parameter(kernel))

    def with_gradients() -> Tensor:
        result = functional.conv2d(leaves[0], leaves[1], padding=1)
        return torch.autograd.grad(result, leaves, torch.ones_like(result))[0]

    return with_gradients


def _seconds(work: Callable[[], Tensor]) -> float:
    """How long it takes to do the work once, until its result is there."""
    waits = {"cuda": torch.cuda.synchronize, "mps": torch.mps.synchronize}
    began = time.perf_counter()
    result = work()
    waits.get(result.device.type, lambda: None)()
    return time.perf_counter() - began
