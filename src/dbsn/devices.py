"""The device to compute on, and whether it convolves faster in bfloat16."""

import torch


def pick_device(device: str) -> str:
    """The device itself; for "auto" the best one there is.

    Raises:
        ValueError: This machine, or this build of torch, does not have it.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if device == "auto":
        return next(name for name, there in available.items() if there)
    if not available.get(device, False):
        there = ", ".join(name for name, is_there in available.items() if is_there)
        raise ValueError(f"--device {device}: not available here; choose among {there}")
    return device


def convolves_in_bf16(precision: str, device: str) -> bool:
    """Whether convolutions run in bfloat16 under a `Training.precision`."""
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def has_fast_bf16(device: str) -> bool:
    """Whether bfloat16 convolutions are faster than float32 ones on this device of this machine."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(test() for test in tests)
    return False
