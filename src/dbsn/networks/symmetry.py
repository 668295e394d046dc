"""Networks that answer a flipped or turned image with the flipped or turned answer (math.md, G2).

Their channels come in eights: what one of them does to an image, the other seven do to it flipped and turned (regular
representation of the square's symmetries; Cohen & Welling 2016). Only training differs: kernels begin symmetric, and
their gradients are made symmetric, so that every step keeps them so. For all else they are ordinary convolutions.
Tested in tests/property/test_symmetry.py.
"""

from collections.abc import Mapping
from functools import cache, partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from dbsn.orientations import ORIENTATIONS, Orientation

ORDER = len(ORIENTATIONS)
"""Of the group: flips and quarter turns of a square."""
_ROUNDED = 1e-2  # how far, of their size, weights may be from symmetric because updates are rounded to bfloat16
Kind = Literal["intensities", "blocks", "eights"]
"""What channels are: the image's own, which stay; its pixels in blocks of 2 x 2 (`pixel_unshuffle`), which change
places within their block; or features in eights, which change places in them."""


class Layer(NamedTuple):
    """A convolution, transposed or not, and what its channels are."""

    module: nn.Conv2d | nn.ConvTranspose2d
    inputs: Kind
    outputs: Kind


def between_eights(module: nn.Module) -> list[Layer]:
    """All convolutions below a module, as those from features to features."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    return [Layer(each, "eights", "eights") for each in module.modules() if isinstance(each, kinds)]


class CanBeSymmetric(nn.Module):
    """A network that can be kept symmetric."""

    is_symmetric = False

    def layers(self) -> list[Layer]:
        """Every convolution between the image and the answer."""
        raise NotImplementedError

    def keep_symmetric(self) -> None:
        """Make kernels and biases symmetric, as large as they were, and every gradient that will reach them.

        Raises:
            ValueError: Features do not come in eights.
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
        """What the channels of each parameter are, by its name; empty unless it is kept symmetric."""
        if not self.is_symmetric:
            return {}
        kinds = dict[int, tuple[Kind, ...]]()
        for module, inputs, outputs in self.layers():
            is_transposed = isinstance(module, nn.ConvTranspose2d)
            kinds[id(module.weight)] = (inputs, outputs) if is_transposed else (outputs, inputs)
            kinds[id(module.bias)] = (outputs,)
        return {name: kinds[id(parameter)] for name, parameter in self.named_parameters()}


def numbers_once(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a module for a file: of those that are one number, one. A symmetric network takes an eighth."""
    kinds, once = _kinds_below(owner), dict(weights)
    for name in kinds:
        value = weights[name]
        size, off = value.square().mean(), (value - symmetrised(value, kinds[name])).square().mean()
        assert off <= _ROUNDED**2 * size, f"{name} is not symmetric"
        once[name] = value.flatten()[_orbits(tuple(value.shape), kinds[name], value.device).members[0]]
    return once


def numbers_everywhere(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `numbers_once`; what is whole, or does not fit, stays as it is."""
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
    """The nearest symmetric kernel or bias: the mean over each orbit in the place of its entries."""
    orbits = _orbits(tuple(tensor.shape), kinds, tensor.device)
    means = tensor.flatten()[orbits.members.flatten()].view(ORDER, -1).mean(0)
    return means[orbits.orbit].view(tensor.shape)


class _Orbits(NamedTuple):
    """Which entries of a tensor the group maps onto each other."""

    members: Tensor
    """Indices of the entries of each orbit, (8, n); an entry that the group leaves alone stands there several times."""
    orbit: Tensor
    """Of each entry, (entries,)."""


@cache
def _orbits(shape: tuple[int, ...], kinds: tuple[Kind, ...], device: torch.device) -> _Orbits:
    """Those of a kernel (a, b, h, w) whose channels a and b are of these kinds, or of a bias (a,).

    Entry [i, j] at a place x is to be what [gi, gj] is at gx.
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
    """Where each of so many channels goes when the image is flipped and turned."""
    match kind:
        case "intensities":
            return torch.arange(count)
        case "blocks":
            within = orientation.turned(torch.arange(4).view(2, 2)).flatten().argsort()
        case "eights":
            within = torch.tensor([ORIENTATIONS.index(orientation.after(first)) for first in ORIENTATIONS])
    if count % len(within):
        raise ValueError(f"{count} channels do not come in {kind} of {len(within)}")
    return (torch.arange(0, count, len(within))[:, None] + within).flatten()
