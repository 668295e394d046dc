"""The student: an ordinary, fast denoiser in intensities, any size (Wu et al. 2020, sec. 3.3; math.md, S1).

It holds one of the networks of `dbsn.config.STUDENTS` or the user's own. What it learns from and files do not belong
here. Tested in tests/unit/test_student.py.
"""

import importlib
import importlib.util
import sys
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.nn import functional

from dbsn.config import DnCNNConfig, ModuleConfig, MWCNNConfig, StudentConfig, StudentNetwork, UNetConfig
from dbsn.networks.dncnn import DnCNN
from dbsn.networks.layers import initialise, without
from dbsn.networks.measurement import measure, measured_variance
from dbsn.networks.mwcnn import MWCNN
from dbsn.networks.uncertainty import Uncertainty
from dbsn.networks.unet import DenseUNet, begin_smaller, zero_residuals
from dbsn.types import NO_MARGIN, Cells, Image, Margin, Part, PartOfSome

_ODD_SIDE = 37
_USUAL_LEVEL = 10 / 255  # of noise, intensity
_UNKNOWN_RADIUS = 64  # taken for a network that does not say how far it sees


class Student(nn.Module):
    """A denoiser of noisy pixels: no blind spot, one pass."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _build(config.network, config.channels)
        self.multiple = int(getattr(self.network, "multiple", 1))
        self.receptive_radius = int(getattr(self.network, "receptive_radius", _UNKNOWN_RADIUS))
        self.guided = isinstance(config.network, UNetConfig) and config.network.guided
        self.spread = Uncertainty(config.channels) if config.uncertainty else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """The optimiser's groups: what is not frozen."""
        return [{"params": [each for each in self.parameters() if each.requires_grad], "pace": 1.0}]

    def init_from(self, other: "Student") -> None:
        """Begin with another student's weights, or with those of one that its network extends (`begin_smaller`).

        With those of one told the noise level it begins untold, as though it were always told a usual one.

        Raises:
            ValueError: It is another kind of network.
        """
        mine, theirs = self.config.network, other.config.network
        if self.config.channels != other.config.channels:
            raise ValueError(
                f"cannot start a student of {self.config.channels} channels from one of {other.config.channels}"
            )
        if mine == theirs:
            self.network.load_state_dict(other.network.state_dict())
        elif isinstance(mine, UNetConfig) and mine.extends(theirs):
            begin_smaller(self.network, other.network.state_dict())
        elif isinstance(mine, UNetConfig) and replace(mine, guided=True) == theirs:
            assert isinstance(self.network, DenseUNet)
            assert isinstance(other.network, DenseUNet)
            self.network.begin_untold(other.network, _USUAL_LEVEL / self.config.scale)
        else:
            raise ValueError(f"--student.start: a student {mine} cannot start from one that is {theirs}")
        if self.spread and other.spread:
            self.spread.load_state_dict(other.spread.state_dict())
            self.spread.factor.fill_(1)  # for as long as it learns

    def freeze_results(self) -> None:
        """Hold still everything but the uncertainty."""
        self.network.requires_grad_(requires_grad=False).eval()

    def measure(self, strips: Iterable[Image]) -> Tensor | None:
        """What a guided student is told about a whole image, which comes in strips of rows as for `measure`."""
        return measure(self._seen(strip) for strip in strips) if self.guided else None

    def level(self, noisy: Image, measurement: Tensor | None = None) -> Cells | None:
        """Noise level of an image as a guided student is told it, one for each cell of `multiple` x `multiple` pixels.

        Args:
            noisy: (b, c, h, w) intensities.
            measurement: `measure` of the whole images that these are parts of; by default of these.

        Returns:
            Standard deviations (b, c, h / multiple, w / multiple), rounded up, intensities; None if it is not guided.
        """
        if not self.guided:
            return None
        if measurement is None:
            measurement = measure([self._seen(noisy)])
        return measured_variance(self._seen(cells(noisy, self.multiple)), measurement).sqrt() * self.config.scale

    def _seen(self, noisy: Image) -> Image:
        """Intensities as the network sees them."""
        return (noisy - self.config.offset) / self.config.scale

    @overload
    def forward(self, noisy: Image, level: Cells | None = ..., *, margin: Margin = ...) -> Part: ...
    @overload
    def forward(
        self, noisy: Image, level: Cells | None = ..., *, margin: Margin = ..., with_std: Literal[True] | slice
    ) -> tuple[Part, PartOfSome | None]: ...

    def forward(
        self,
        noisy: Image,
        level: Cells | None = None,
        *,
        margin: Margin = NO_MARGIN,
        with_std: bool | slice = False,
    ) -> Part | tuple[Part, PartOfSome | None]:
        """Denoise.

        Args:
            noisy: (b, c, h, w) intensities, any size.
            level: What a guided student is told, as `level` says; by default that of these images.
            margin: Left out of the result; costs less than the rest where the network is a U-Net.
            with_std: Also say how far each result is from the truth; or those of some images, a slice of the batch.

        Returns:
            The same shape without the margin, float32, intensities; and on request the standard deviation from the
            truth (S5) of those asked for, through which no gradient reaches the results, or None for a student from
            before there was one.
        """
        height, width = noisy.shape[-2:]
        seen = self._seen(noisy)
        padded = mirrored(seen, self.multiple)
        told = []
        if self.guided:
            given = self.level(noisy) if level is None else level
            assert given is not None
            told = [functional.interpolate(given / self.config.scale, scale_factor=float(self.multiple))]
        left_out = self._left_out(margin, with_std=bool(with_std))
        out: Part = self.network(padded, *told, **({"margin": left_out} if any(left_out) else {}))
        still = Margin(*(side - part for side, part in zip(margin, left_out, strict=True)))
        result = out[..., : height - left_out.top - left_out.bottom, : width - left_out.left - left_out.right].float()
        denoised = without(result * self.config.scale + self.config.offset, still)
        if not with_std:
            return denoised
        if self.spread is None:
            return denoised, None
        those = slice(None) if with_std is True else with_std
        std = self.spread(without(seen, left_out)[those], result.detach()[those]) * self.config.scale
        return denoised, without(std, still)

    def _left_out(self, margin: Margin, *, with_std: bool) -> Margin:
        """How much of a margin the network itself can leave out: not what the uncertainty still sees."""
        if not isinstance(self.config.network, UNetConfig):
            return NO_MARGIN
        seen = Uncertainty.receptive_radius if with_std else 0
        return Margin(*(max(side - seen, 0) // self.multiple * self.multiple for side in margin))


def mirrored(image: Image, multiple: int) -> Part:
    """An image (b, c, h, w) made larger, downwards and to the right, until its sides are multiples of a number.

    What is added mirrors the image, noise and all: its border repeated would be lines, which look like structure. Not
    for a blind spot, which a pixel's mirror would give away. Of sides too short to be mirrored the border is repeated.
    """
    larger: Part = image
    for side, *ends in ((image.shape[-1], 0, 1, 0, 0), (image.shape[-2], 0, 0, 0, 1)):
        missing = -side % multiple
        mode = "reflect" if missing < side else "replicate"
        larger = functional.pad(larger, [missing * end for end in ends], mode=mode) if missing else larger
    return larger


def cells(image: Image, side: int) -> Cells:
    """Means of cells of side x side pixels, (b, c, h / side, w / side), rounded up."""
    return functional.avg_pool2d(image, side, ceil_mode=True, count_include_pad=False)


def _build(network: StudentNetwork, channels: int) -> nn.Module:
    """A new network; ours start at He's initialisation, residual blocks as the identity."""
    if isinstance(network, ModuleConfig):
        return _users_own(network.factory, channels)
    built: DenseUNet | MWCNN | DnCNN
    match network:
        case UNetConfig():
            built = DenseUNet(network, channels)
        case MWCNNConfig():
            built = MWCNN(network, channels)
        case DnCNNConfig():
            built = DnCNN(network, channels)
    initialise(built)
    zero_residuals(built)
    nn.init.zeros_(built.last.get_parameter("weight"))  # the untrained student hands its input through
    if isinstance(network, UNetConfig) and network.symmetric:
        assert isinstance(built, DenseUNet)
        built.keep_symmetric()
    return built


def _users_own(factory: str, channels: int) -> nn.Module:
    """What the user's factory makes for so many channels.

    Raises:
        ValueError: The factory cannot be found, or what it makes does not keep an image's shape.
    """
    place, name = factory.rsplit(":", 1)
    try:
        module = getattr(_module(place), name)(channels)
    except Exception as error:  # it is the user's code, which may raise anything
        advice = "is it on the Python path, or where it was? path/to/file.py:factory will do, too"
        raise ValueError(f"student {factory}: cannot be loaded ({_told(error)}); {advice}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(f"student {factory}: gave a {type(module).__name__}, expected a torch.nn.Module")
    multiple = int(getattr(module, "multiple", 1))
    side = -(-_ODD_SIDE // multiple) * multiple
    image = torch.zeros(1, channels, side, side)
    try:
        with torch.inference_mode():
            shape = tuple(module.eval()(image).shape)
    except Exception as error:
        advice = "if it needs sizes that are multiples of something, give it an attribute `multiple`"
        raise ValueError(f"student {factory}: fails on {side} x {side} pixels ({_told(error)}); {advice}") from error
    if shape != tuple(image.shape):
        raise ValueError(f"student {factory}: maps {tuple(image.shape)} to {shape}, expected the same shape")
    return module.train()


def _told(error: Exception) -> str:
    """What an error says, in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _module(place: str) -> ModuleType:
    """A module by its name, or by the path of its file."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
