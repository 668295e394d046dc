"""The optimiser: Adam, and Muon for wide convolutions (Jordan et al. 2024).

Wide convolutions move along their orthogonalised momentum. This halves the number of steps that a network needs
(docs/lab). `torch.optim.Muon` takes only matrices. Here a kernel (out, in, kh, kw) is the matrix of its output
channels. Losses and schedules do not belong here. Tested in tests/unit/test_optimizer.py.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from dbsn.devices import has_fast_bf16

_LEAST_CHANNELS = 48  # either side; narrower layers, the first and the last stay with Adam
_MOMENTUM = 0.95
_ITERATIONS = 3
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_RMS_STEP = 0.4  # of an entry, in learning rates


class Muon(torch.optim.Adam):
    """Adam for most parameters, orthogonalised momentum for wide convolutions."""

    def __init__(self, groups: Iterable[dict[str, Any]], *, lr: float) -> None:
        super().__init__(groups, lr=lr, betas=(0.9, 0.99))

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Make one step along the gradients; set those of wide convolutions to None."""
        assert closure is None
        for group in self.param_groups:
            for parameter in filter(is_wide_kernel, group["params"]):
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state |= {"step": torch.tensor(0.0), "momentum": torch.zeros_like(parameter)}
                state["step"] += 1  # unused here, but Adam needs it when it is restored
                state["momentum"].lerp_(parameter.grad, 1 - _MOMENTUM)
                direction = parameter.grad.lerp(state["momentum"], _MOMENTUM)
                parameter.sub_(orthogonalised(direction), alpha=_RMS_STEP * group["lr"])
                parameter.grad = None  # so that Adam skips it
        super().step()


def is_wide_kernel(parameter: Tensor) -> bool:
    """Whether a parameter is a kernel with many channels on both sides."""
    return parameter.ndim == 4 and min(parameter.shape[:2]) >= _LEAST_CHANNELS


def orthogonalised(kernel: Tensor) -> Tensor:
    """Approximate the nearest semi-orthogonal matrix of a kernel (out, in, kh, kw).

    Its entries have root mean square 1. Three quintic Newton-Schulz iterations multiply small singular values by forty
    and bring the others near 1. Five iterations make all equal, but do not train better.
    """
    by_place = kernel.movedim(1, -1)  # any order of columns will do; this one avoids a copy of a channels-last kernel
    matrix = by_place.flatten(1)
    tall = matrix.shape[0] > matrix.shape[1]
    precision = torch.bfloat16 if has_fast_bf16(kernel.device.type, "product") else torch.float32
    near = (matrix.mT if tall else matrix).to(precision)
    near = near / near.norm().clamp_min(1e-7)
    first, third, fifth = _COEFFICIENTS
    for _ in range(_ITERATIONS):
        gram = near @ near.mT
        near = torch.addmm(near, torch.addmm(gram, gram, gram, beta=third, alpha=fifth), near, beta=first)
    full = (near.mT if tall else near).to(kernel.dtype) * max(matrix.shape) ** 0.5
    return full.view(by_place.shape).movedim(-1, 1)
