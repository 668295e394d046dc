"""Networks that answer a flipped or turned image with the flipped or turned answer, exactly (docs/math.md, G2).

Their channels come in eights: what one of them does to an image, the other seven do to it flipped and turned (regular
representation of the square's symmetries; Cohen & Welling 2016). Only training differs: kernels begin symmetric, and
their gradients are made symmetric, so that every step keeps them so. For all else they are ordinary convolutions.
Tested in tests/property/test_symmetry.py.
"""

from collections.abc import Iterable
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


def keep_symmetric(layers: Iterable[Layer]) -> None:
    """Make kernels and biases symmetric, as large as they were, and every gradient that will reach them.

    Raises:
        ValueError: Features do not come in eights.
    """
    for layer in layers:
        module = layer.module
        rows = "inputs" if isinstance(module, nn.ConvTranspose2d) else "outputs"
        kinds = (layer.inputs, layer.outputs) if rows == "inputs" else (layer.outputs, layer.inputs)
        _keep(module.weight, *kinds)
        if module.bias is not None:
            _keep(module.bias, layer.outputs)


def _keep(parameter: Tensor, *kinds: Kind) -> None:
    orbits = _orbits(tuple(parameter.shape), kinds)
    with torch.no_grad():
        mean = orbits.means(parameter)
        size, left = parameter.square().mean(), mean.square().mean()
        parameter.copy_(mean * (size / left).sqrt() if left > 0 else mean)
    parameter.register_hook(orbits.means)


@dataclass(frozen=True)
class _Orbits:
    """Which entries of a tensor the group maps onto each other."""

    members: Tensor
    """Indices of the entries of each orbit, (8, n); an entry that the group leaves alone stands there several times."""
    orbit: Tensor
    """Of each entry, (entries,)."""

    def means(self, tensor: Tensor) -> Tensor:
        """The nearest symmetric tensor: the mean over each orbit in the place of its entries."""
        members, orbit = self.members.to(tensor.device), self.orbit.to(tensor.device)
        means = tensor.flatten().index_select(0, members.flatten()).view(ORDER, -1).mean(0)
        return means.index_select(0, orbit).view(tensor.shape)


@cache
def _orbits(shape: tuple[int, ...], kinds: tuple[Kind, ...]) -> _Orbits:
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
    return _Orbits(every[:, least].contiguous(), orbit)


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
