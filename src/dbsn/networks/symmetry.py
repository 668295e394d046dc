"""Symmetric networks: they commute with flips and quarter turns (math.md, G2).

The result for a flipped or turned image is the flipped or turned result. Channels come in groups of eight. The other
seven do to a flipped or turned image what the first does to the image. This is the regular representation of the
square's symmetries (Cohen & Welling 2016). Only training differs from that of ordinary convolutions. Kernels start
symmetric and their gradients are made symmetric, so every step keeps the symmetry. Tested in
tests/property/test_symmetry.py.
"""

from collections.abc import Mapping
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dbsn.orientations import ORIENTATIONS, Orientation

ORDER = len(ORIENTATIONS)
"""Order of the group of flips and quarter turns of a square."""
_ROUNDED = 1e-2  # largest relative asymmetry of weights, which comes from updates rounded to bfloat16
Kind = Literal["intensities", "blocks", "eights"]
"""Kind of channels, which says how an orientation moves them.

- "intensities": the image's own channels, which stay in place
- "blocks": pixels in blocks of 2 x 2 (`pixel_unshuffle`), which move within their block
- "eights": features in groups of eight, which move within their group
"""


class Layer(NamedTuple):
    """A convolution, transposed or not, and the kinds of its channels."""

    module: nn.Conv2d | nn.ConvTranspose2d
    inputs: Kind
    outputs: Kind


def between_eights(module: nn.Module) -> list[Layer]:
    """All convolutions below a module, as layers from features to features."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [Layer(each, "eights", "eights") for each in module.modules() if isinstance(each, kinds)]


class CanBeSymmetric(nn.Module):
    """A network that can be made symmetric."""

    is_symmetric = False

    def layers(self) -> list[Layer]:
        """Every convolution between the image and the result."""
        raise NotImplementedError

    def keep_symmetric(self) -> None:
        """Make kernels, biases and their gradients symmetric.

        Kernels and biases keep their root mean square.

        Raises:
            ValueError: The number of features is not a multiple of eight.
        """
        self.is_symmetric = True
        for name, kinds in self.kinds().items():
            parameter = self.get_parameter(name)
            with torch.no_grad():
                means = symmetrised(parameter, kinds)
                size, left = parameter.square().mean(), means.square().mean()
                parameter.copy_(means * (size / left).sqrt() if left > 0 else means)
            parameter.register_hook(partial(symmetrised, kinds=kinds))

    def kinds(self) -> dict[str, tuple[Kind, ...]]:
        """Kinds of each parameter's channels, by its name; empty if not symmetric."""
        if not self.is_symmetric:
            return {}
        kinds = dict[int, tuple[Kind, ...]]()
        for module, inputs, outputs in self.layers():
            is_transposed = isinstance(module, nn.ConvTranspose2d)
            kinds[id(module.weight)] = (inputs, outputs) if is_transposed else (outputs, inputs)
            kinds[id(module.bias)] = (outputs,)
        return {name: kinds[id(parameter)] for name, parameter in self.named_parameters()}


def numbers_once(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Keep one of all weights that are equal by symmetry, for a file.

    A symmetric network then takes an eighth of the space.
    """
    kinds, once = _kinds_below(owner), dict(weights)
    for name in kinds:
        value = weights[name]
        size, off = value.square().mean(), (value - symmetrised(value, kinds[name])).square().mean()
        assert off <= _ROUNDED**2 * size, f"{name} is not symmetric"
        once[name] = value.flatten()[_orbits(tuple(value.shape), kinds[name], value.device).members[0]]
    return once


def numbers_everywhere(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `numbers_once`.

    Tensors that are complete or do not fit stay unchanged.
    """
    kinds, everywhere = _kinds_below(owner), dict(weights)
    for name in kinds.keys() & weights.keys():
        value, shape = weights[name], tuple(owner.get_parameter(name).shape)
        orbits = _orbits(shape, kinds[name], value.device)
        if value.shape == orbits.members.shape[1:]:
            everywhere[name] = value[orbits.orbit].view(shape)
    return everywhere


def _kinds_below(owner: nn.Module) -> dict[str, tuple[Kind, ...]]:
    inside = {name: module for name, module in owner.named_modules() if isinstance(module, CanBeSymmetric)}
    return {
        f"{name}.{part}".removeprefix("."): kinds
        for name, module in inside.items()
        for part, kinds in module.kinds().items()
    }


def symmetrised(tensor: Tensor, kinds: tuple[Kind, ...]) -> Tensor:
    """The nearest symmetric kernel or bias: every entry becomes its orbit's mean."""
    orbits = _orbits(tuple(tensor.shape), kinds, tensor.device)
    means = tensor.flatten()[orbits.members.flatten()].view(ORDER, -1).mean(0)
    return means[orbits.orbit].view(tensor.shape)


class _Orbits(NamedTuple):
    """The entries of a tensor that the group maps onto each other."""

    members: Tensor
    """Indices of the entries of each orbit, (8, n).

    An entry that some symmetries leave in place occurs several times.
    """
    orbit: Tensor
    """Number of each entry's orbit, (entries,)."""


@cache
def _orbits(shape: tuple[int, ...], kinds: tuple[Kind, ...], device: torch.device) -> _Orbits:
    """Orbits of a kernel (a, b, h, w) or a bias (a,) with channels of these kinds.

    Entry [i, j] at a place x must equal entry [gi, gj] at gx.
    """
    index = torch.arange(torch.Size(shape).numel()).view(shape)
    seen = []
    for orientation in ORIENTATIONS:
        moved = index
        for axis, kind in enumerate(kinds):
            moved = moved.index_select(axis, _places(kind, shape[axis], orientation))
        seen.append((orientation.inverse.turned(moved) if len(shape) > len(kinds) else moved).flatten())
    every = torch.stack(seen)
    least, orbit = every.min(0).values.unique(return_inverse=True)
    return _Orbits(every[:, least].contiguous().to(device), orbit.to(device))


def _places(kind: Kind, count: int, orientation: Orientation) -> Tensor:
    """The new place of each channel when the image is flipped and turned."""
    match kind:
        case "intensities":
            return torch.arange(count)
        case "blocks":
            within = orientation.turned(torch.arange(4).view(2, 2)).flatten().argsort()
        case "eights":
            within = torch.tensor([ORIENTATIONS.index(orientation.after(first)) for first in ORIENTATIONS])
    if count % len(within):
        raise ValueError(f"width: wrong value (got {count}, expected a multiple of {len(within)}). Change the width.")
    return (torch.arange(0, count, len(within))[:, None] + within).flatten()
