"""The student: an ordinary, fast denoiser of intensities, for images of any size.

Wu et al. 2020, sec. 3.3; math.md, S1. It holds one of the networks of `dbsn.config.STUDENTS` or the user's own
network. Training data and files do not belong here. Tested in tests/unit/test_student.py.
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
_USUAL_LEVEL = 10 / 255  # noise level, intensity
_UNKNOWN_RADIUS = 64  # assumed for a network without the attribute `receptive_radius`


class Student(nn.Module):
    """An ordinary denoiser: no blind spot, one pass."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.config = config
        self.network = _build(config.network, config.channels)
        self.multiple = int(getattr(self.network, "multiple", 1))
        self.receptive_radius = int(getattr(self.network, "receptive_radius", _UNKNOWN_RADIUS))
        self.guided = isinstance(config.network, UNetConfig) and config.network.guided
        self.spread = Uncertainty(config.channels) if config.uncertainty else None

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Parameter groups of the optimiser: all parameters that are not frozen."""
        return [{"params": [each for each in self.parameters() if each.requires_grad], "pace": 1.0}]

    def init_from(self, other: "Student") -> None:
        """Start with the weights of another student.

        The other network may be the same, or a smaller one that this one extends (`begin_smaller`). It may also be a
        guided one, while this one has no noise-level input. This student then starts as if the level were always a
        usual one.

        Raises:
            ValueError: The networks do not fit.
        """
        mine, theirs = self.config.network, other.config.network
        if self.config.channels != other.config.channels:
            raise ValueError(
                f"--student.start: wrong number of channels (got {other.config.channels}, "
                f"expected {self.config.channels}). Choose a student with as many channels."
            )
        if mine == theirs:
            self.network.load_state_dict(other.network.state_dict())
        elif isinstance(mine, UNetConfig) and mine.extends(theirs):
            begin_smaller(self.network, other.network.state_dict())
        elif isinstance(mine, UNetConfig) and replace(mine, guided=True) == theirs:
            assert isinstance(self.network, DenseUNet)
            assert isinstance(other.network, DenseUNet)
            self.network.init_from_guided(other.network, _USUAL_LEVEL / self.config.scale)
        else:
            raise ValueError(
                f"--student.start: the network does not fit (got {theirs}, expected {mine}). "
                "Choose a student with this network."
            )
        if self.spread and other.spread:
            self.spread.load_state_dict(other.spread.state_dict())
            self.spread.factor.fill_(1)  # during training

    def freeze_results(self) -> None:
        """Freeze all parameters but those of the uncertainty."""
        self.network.requires_grad_(requires_grad=False).eval()

    def measure(self, strips: Iterable[Image]) -> Tensor | None:
        """Measure the noise of a whole image for a guided student; None if not guided.

        The image comes in strips of rows, as for `BlindSpotModel.measure_strips`.
        """
        return measure(self.seen(strip) for strip in strips) if self.guided else None

    def variance(self, intensity: Cells, measurement: Tensor) -> Cells:
        """Noise variance at intensities (b, c, h, w) by the `measure`ment of a whole image, intensities squared."""
        return measured_variance(self.seen(intensity), measurement) * self.config.scale**2

    def level(self, noisy: Image, measurement: Tensor | None = None) -> Cells | None:
        """Noise level as a guided student gets it, one for each cell of pixels.

        Args:
            noisy: (b, c, h, w) intensities.
            measurement: `measure` of the whole images that `noisy` is cut from; by default of `noisy` itself.

        Returns:
            Standard deviations, intensities, for cells of `multiple` x `multiple` pixels. The shape is
            (b, c, h / multiple, w / multiple), rounded up. None if the student is not guided.
        """
        if not self.guided:
            return None
        if measurement is None:
            measurement = measure([self.seen(noisy)])
        return measured_variance(self.seen(cells(noisy, self.multiple)), measurement).sqrt() * self.config.scale

    def seen(self, noisy: Image) -> Image:
        """Convert intensities to network units."""
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
            level: Noise level for a guided student, see the method `level`; by default that of `noisy`.
            margin: Margin to leave out of the result. In a U-Net it costs less than the rest.
            with_std: Also return the uncertainty, of all images or of a slice of the batch.

        Returns:
            The denoised image: the same shape without the margin, float32, intensities. On request also its
            uncertainty (S5), through which no gradient reaches the results. It is None for an old student without one.
        """
        height, width = noisy.shape[-2:]
        seen = self.seen(noisy)
        padded = mirrored(seen, self.multiple)
        level_input = []
        if self.guided:
            given = self.level(noisy) if level is None else level
            assert given is not None
            level_input = [functional.interpolate(given / self.config.scale, scale_factor=float(self.multiple))]
        left_out = self._left_out(margin, with_std=bool(with_std))
        out: Part = self.network(padded, *level_input, **({"margin": left_out} if any(left_out) else {}))
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
        """The part of a margin that the network itself can leave out.

        The uncertainty still reads the rest.
        """
        if not isinstance(self.config.network, UNetConfig):
            return NO_MARGIN
        seen = Uncertainty.receptive_radius if with_std else 0
        return Margin(*(max(side - seen, 0) // self.multiple * self.multiple for side in margin))


def mirrored(image: Image, multiple: int) -> Part:
    """Extend an image (b, c, h, w) below and on the right to multiples of a number.

    The new pixels mirror the image with its noise. A repeated border would form lines, which look like structure. If a
    side is too short to be mirrored, its border is repeated. Do not use this for a blind-spot network: a mirrored pixel
    would reveal itself.
    """
    larger: Part = image
    for side, *ends in ((image.shape[-1], 0, 1, 0, 0), (image.shape[-2], 0, 0, 0, 1)):
        missing = -side % multiple
        mode = "reflect" if missing < side else "replicate"
        larger = functional.pad(larger, [missing * end for end in ends], mode=mode) if missing else larger
    return larger


def cells(image: Image, side: int) -> Cells:
    """Means of cells of side x side pixels: (b, c, h / side, w / side), rounded up."""
    return functional.avg_pool2d(image, side, ceil_mode=True, count_include_pad=False)


def _build(network: StudentNetwork, channels: int) -> nn.Module:
    """Make a new network.

    Our own networks start at He's initialisation, with residual blocks as the identity.
    """
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
    nn.init.zeros_(built.last.get_parameter("weight"))  # the untrained student returns its input
    if isinstance(network, UNetConfig) and network.symmetric:
        assert isinstance(built, DenseUNet)
        built.keep_symmetric()
    return built


def _users_own(factory: str, channels: int) -> nn.Module:
    """Make the user's network for a number of channels.

    Raises:
        ValueError: The factory cannot be loaded, or its network does not keep an image's shape.
    """
    place, name = factory.rsplit(":", 1)
    try:
        module = getattr(_module(place), name)(channels)
    except Exception as error:  # it is the user's code, which may raise anything
        advice = "Check that it is on the Python path, or name it by its file: path/to/file.py:factory."
        raise ValueError(f"student {factory}: cannot be loaded ({_reason(error)}). {advice}") from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"student {factory}: wrong return type (got {type(module).__name__}, expected torch.nn.Module). "
            "Return a network."
        )
    multiple = int(getattr(module, "multiple", 1))
    side = -(-_ODD_SIDE // multiple) * multiple
    image = torch.zeros(1, channels, side, side)
    try:
        with torch.inference_mode():
            shape = tuple(module.eval()(image).shape)
    except Exception as error:
        advice = "If it needs sides that are multiples of a number, give it an attribute `multiple`."
        raise ValueError(f"student {factory}: fails on {side} x {side} pixels ({_reason(error)}). {advice}") from error
    if shape != tuple(image.shape):
        raise ValueError(
            f"student {factory}: wrong output shape (got {shape}, expected {tuple(image.shape)}). Keep the shape."
        )
    return module.train()


def _reason(error: Exception) -> str:
    """The message of an error in one line."""
    return " ".join(str(error).split()) or type(error).__name__


def _module(place: str) -> ModuleType:
    """Import a module by its name or by the path of its file."""
    if not place.endswith(".py"):
        return importlib.import_module(place)
    spec = importlib.util.spec_from_file_location(Path(place).stem, place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
