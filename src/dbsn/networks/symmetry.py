"""Networks that answer a flipped or turned image with the flipped or turned answer, exactly (docs/math.md, G2).

Their channels come in eights: what one of them does to an image, the other seven do to it flipped and turned (regular
representation of the square's symmetries; Cohen & Welling 2016). Only training differs: kernels begin symmetric, and
their gradients are made symmetric, so that every step keeps them so. For all else they are ordinary convolutions.
Tested in tests/property/test_symmetry.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

ORDER = 8
"""Of the group: flips and quarter turns of a square."""
Element = tuple[bool, bool, bool]
"""Whether an image is transposed, then flipped upside down, then left to right."""
_ELEMENTS = tuple[Element, ...](product((False, True), (False, True), (False, True)))
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


class Symmetric(nn.Module):
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
        parameters = dict(self.named_parameters())
        for name, each in self.orbits().items():
            parameter = parameters[name]
            with torch.no_grad():
                mean = each.means(parameter)
                size, left = parameter.square().mean(), mean.square().mean()
                parameter.copy_(mean * (size / left).sqrt() if left > 0 else mean)
            parameter.register_hook(each.means)

    def orbits(self) -> dict[str, "Orbits"]:
        """Those of each parameter, by its name; none unless it is kept symmetric."""
        if not self.is_symmetric:
            return {}
        kinds = dict[int, tuple[Kind, ...]]()
        for module, inputs, outputs in self.layers():
            is_transposed = isinstance(module, nn.ConvTranspose2d)
            kinds[id(module.weight)] = (inputs, outputs) if is_transposed else (outputs, inputs)
            kinds[id(module.bias)] = (outputs,)
        return {name: _orbits(tuple(each.shape), kinds[id(each)]) for name, each in self.named_parameters()}


def numbers_once(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of a module for a file: of those that are one number, one. A symmetric network takes an eighth."""
    orbits = _orbits_below(owner)
    return {name: orbits[name].once(value) if name in orbits else value for name, value in weights.items()}


def numbers_everywhere(owner: nn.Module, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `numbers_once`; what is whole stays as it is."""
    orbits = _orbits_below(owner)
    return {name: orbits[name].everywhere(value) if name in orbits else value for name, value in weights.items()}


def _orbits_below(owner: nn.Module) -> dict[str, "Orbits"]:
    inside = {name: module for name, module in owner.named_modules() if isinstance(module, Symmetric)}
    return {f"{name}.{part}": orbits for name, module in inside.items() for part, orbits in module.orbits().items()}


@dataclass(frozen=True)
class Orbits:
    """Which entries of a tensor the group maps onto each other."""

    members: Tensor
    """Indices of the entries of each orbit, (8, n); an entry that the group leaves alone stands there several times."""
    orbit: Tensor
    """Of each entry, (entries,)."""

    shape: tuple[int, ...]
    """The tensor's."""

    def means(self, tensor: Tensor) -> Tensor:
        """The nearest symmetric tensor: the mean over each orbit in the place of its entries."""
        return self.everywhere(self.once(tensor))

    def once(self, tensor: Tensor) -> Tensor:
        """The mean over each orbit, (n,)."""
        members = self.members.to(tensor.device)
        return tensor.flatten().index_select(0, members.flatten()).view(ORDER, -1).mean(0)

    def everywhere(self, numbers: Tensor) -> Tensor:
        """The tensor that has these numbers in its orbits."""
        if numbers.shape != self.members.shape[1:]:
            return numbers
        return numbers.index_select(0, self.orbit.to(numbers.device)).view(self.shape)


@cache
def _orbits(shape: tuple[int, ...], kinds: tuple[Kind, ...]) -> Orbits:
    """Those of a kernel (a, b, h, w) whose channels a and b are of these kinds, or of a bias (a,).

    Entry [i, j] at a place x is to be what [gi, gj] is at gx.
    """
    index = torch.arange(torch.Size(shape).numel()).view(shape)
    seen = []
    for number, element in enumerate(_ELEMENTS):
        moved = index
        for axis, kind in enumerate(kinds):
            moved = moved.index_select(axis, _places(kind, shape[axis], element))
        if len(shape) > len(kinds):
            moved = _turned(moved, _ELEMENTS[_INVERSES[number]])
        seen.append(moved.flatten())
    every = torch.stack(seen)
    least, orbit = every.min(0).values.unique(return_inverse=True)
    return Orbits(every[:, least].contiguous(), orbit, shape)


def _places(kind: Kind, count: int, element: Element) -> Tensor:
    """Where each of so many channels goes when the image is flipped and turned."""
    match kind:
        case "intensities":
            return torch.arange(count)
        case "blocks":
            within = _turned(torch.arange(4).view(2, 2), element).flatten().argsort()
        case "eights":
            within = _PRODUCTS[_ELEMENTS.index(element)]
    if count % len(within):
        raise ValueError(f"{count} channels do not come in {kind} of {len(within)}")
    return (torch.arange(0, count, len(within))[:, None] + within).flatten()


def _turned(image: Tensor, element: Element) -> Tensor:
    """An image (..., h, w) under an element of the group."""
    transposed, down, across = element
    flips = [axis for axis, flipped in ((-2, down), (-1, across)) if flipped]
    return (image.mT if transposed else image).flip(flips)


def _products() -> Tensor:
    """The group's table: which element is `row` after `column`."""
    image = torch.arange(9).view(3, 3)
    images = [_turned(image, element).tolist() for element in _ELEMENTS]
    return torch.tensor(
        [[images.index(_turned(_turned(image, first), then).tolist()) for first in _ELEMENTS] for then in _ELEMENTS]
    )


_PRODUCTS = _products()
_INVERSES = _PRODUCTS.eq(_ELEMENTS.index((False, False, False))).nonzero()[:, 1].tolist()
