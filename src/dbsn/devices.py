"""The device to compute on, and whether it convolves faster in bfloat16."""

import torch


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


def convolves_in_bf16(precision: str, device: str) -> bool:
    """Whether convolutions run in bfloat16 for a given `Training.precision`."""
    return precision == "bf16" or (precision == "auto" and has_fast_bf16(device))


def has_fast_bf16(device: str) -> bool:
    """Whether this device convolves faster in bfloat16 than in float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if device == "cpu":
        tests = (getattr(torch.cpu, name, bool) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
        return any(test() for test in tests)
    return False
