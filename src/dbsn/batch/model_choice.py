"""Which model denoises which image: the one that was named, or of those that come with dbsn the one for its kind.

Tested in tests/unit/test_builtin.py. What models do with an image does not belong here.
"""

import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dbsn.denoiser import Denoiser
from dbsn.inference.views import shown_range
from dbsn.intensity import Unit, to_pixels
from dbsn.noise.inspection import inspect_noise, without_plane
from dbsn.noise.jpeg_grid import JpegGrid
from dbsn.outliers import without_outliers
from dbsn.store import builtin
from dbsn.store.model_file import load_model
from dbsn.types import Pixels

_HARDLY_ANY = 1.5 / 255
_HARDLY_SPREAD = 0.35  # correlation of neighbours
_AS_MUCH = 0.88  # of what the other model takes
_HARDLY_TAKEN, _TAKEN, _LITTLE = (
    0.5 / 255,
    1.3 / 255,
    4 / 255,
)  # root mean square from what is flat; rounding to 8 bits is 0.3
_SOME, _MOST = 0.4, 0.55  # shares of what flat areas hold
_TEXTURE, _OF_TEXTURE = 0.22, 0.45  # share of what busy areas hold; its correlation of neighbours
_OF_FINE_TEXTURE = -0.18  # correlation of neighbours
_LIKE_NOISE, _LIKE_JPEG_NOISE, _EVERYWHERE = 0.45, 0.28, 0.1  # correlation of neighbours in what is taken
_BLOCK, _FLATTEST, _ENDS = 8, 0.1, 0.05  # side in pixels; share of the blocks; what counts as black, and as white
_LEAST_SIDE = 48
_PART = 64  # side of the four parts that a model is asked about
_GRAY_ALONE = "gray image, copied to three channels; the model's uncertainty was calibrated on colour images"
_LOOKED_AT = 512  # side of the middle part that tells an image's noise


@dataclass(frozen=True)
class PickReason:
    """Which model was picked for an image, and why."""

    like: tuple[object, ...]
    """The same for images of which the same is to be said."""
    line: str
    """For a person."""
    model: str = ""
    """The model's name or file."""


class ModelPicker:
    """The models of one `denoise`, each loaded when it is first needed."""

    def __init__(
        self,
        given: Path | None,
        *,
        device: str = "auto",
        trust: bool = False,
        check: Callable[[Denoiser, Path], None] | None = None,
    ) -> None:
        """Choose.

        Args:
            given: A model file or the name of a built-in model; None picks a built-in one for each image.
            device: Where they compute.
            trust: See `Denoiser.load`.
            check: Refuses a model that cannot do what is asked, with a ValueError.
        """
        self.given, self.device = builtin.find_model(given) if given else None, device
        self._trust, self._check = trust, check
        self._loaded: dict[Path, Denoiser] = {}

    def pick(self, image: Pixels, unit: Unit, *, is_mosaic: bool = False) -> tuple[Denoiser, PickReason | None]:
        """The model for an image (h, w, c), and which it is and why; None if there is nothing to say.

        What is said is said in numbers of the unit. The noise of a mosaic's plane is independent.

        Raises:
            FileNotFoundError: The file that was named is not there, or no built-in model is for such images.
            ValueError: The file cannot be used, or not for what is asked.
        """
        if self.given:
            denoiser = self.load(self.given)
            is_gray_alone = image.shape[2] == 1 and denoiser.channels > 1
            return denoiser, PickReason((1,), _GRAY_ALONE, str(self.given)) if is_gray_alone else None
        image, _ = without_outliers(image, {})
        name, verdict, independent = self._choose(_Middle.of(image), unit, is_mosaic=is_mosaic)
        kind = "gray" if image.shape[2] == 1 else "colour"
        line = f"built-in model {name}, because this is a {'mosaic' if is_mosaic else f'{kind} image'} with {verdict}"
        return self.load(builtin.path_of(name)), PickReason((name, independent, kind, is_mosaic), line, name)

    def _choose(self, middle: "_Middle", unit: Unit, *, is_mosaic: bool) -> tuple[str, str, bool]:
        """The built-in model's name, what is said of the noise, and whether it is taken to be independent."""
        found = _Noise.of(middle, unit)
        plain, shared = (builtin.name_for(middle.channels, independent=each, to_apply=True) for each in (True, False))
        if plain is None or shared is None:
            kind = f"images of {middle.channels} channels"
            raise FileNotFoundError(f"no built-in model is for {kind}. Train one (`dbsn train`) and name it with -m.")
        if found.is_independent or is_mosaic or builtin.card(shared).independent:
            return plain, found.verdict, True
        taken = middle.taken_by(self._open(builtin.path_of(shared)))
        if found.is_hardly_spread and taken.is_as_much(middle.taken_by(self._open(builtin.path_of(plain)))):
            return plain, f"{found.verdict}, but still independent from pixel to pixel", False
        # texture looks like noise that neighbours share: a model that measures noise leaves it alone
        if taken.is_of_texture:
            return plain, f"{found.verdict}, but {shared} would take texture out", False
        if not found.is_coarse_jpeg and not taken.is_noise(in_jpeg=found.in_jpeg):
            by_plain = middle.taken_by(self._open(builtin.path_of(plain)))
            if by_plain.is_of_fine_texture and taken.from_flat < by_plain.from_flat < _LITTLE:
                return shared, f"{found.verdict}, but {plain} would take fine texture out", False
            return (
                plain,
                f"{found.verdict}, but {'almost none in flat areas' if found.in_jpeg else 'it is texture'}",
                False,
            )
        return shared, found.verdict, False

    def load(self, path: Path) -> Denoiser:
        """A model; ValueError if it cannot be used, or not for what is asked."""
        denoiser = self._open(path)
        if self._check:
            self._check(denoiser, path)
        return denoiser

    def _open(self, path: Path) -> Denoiser:
        """A model, read once."""
        if path not in self._loaded:
            self._loaded[path] = Denoiser(load_model(path, trust=self._trust), device=self.device)
        return self._loaded[path]

    @property
    def is_builtin(self) -> bool:
        """Whether only built-in models may be picked."""
        return self.given is None or self.given.parent == builtin.WEIGHTS

    @property
    def files(self) -> list[Path]:
        """Everything that may be picked."""
        return [self.given] if self.given else [builtin.path_of(name) for name in builtin.names()]

    @property
    def digest(self) -> str:
        """Of everything that may be picked."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in self.files)).hexdigest()[:12]


@dataclass(frozen=True)
class _Middle:
    """The middle of an image, which tells its noise, and the intensities that are black and white to it."""

    crop: np.ndarray
    """Samples of the image's own kind (h, w, c)."""
    low: float
    width: float

    @staticmethod
    def of(image: Pixels) -> "_Middle":
        starts = [max(0, side - _LOOKED_AT) // 2 for side in image.shape[:2]]
        rows, columns = (slice(start, start + _LOOKED_AT) for start in starts)
        return _Middle(np.asarray(image[rows, columns]), *shown_range(image))

    @property
    def channels(self) -> int:
        return self.crop.shape[2]

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Intensities, of black and white."""
        return (pixels - np.float32(self.low)) / np.float32(self.width)

    def parts(self) -> np.ndarray:
        """Four parts side by side, two flat ones and two of middling texture; a small image as it is."""
        rows, columns = (side // _PART for side in self.crop.shape[:2])
        if rows * columns <= 4:
            return self.crop
        places = [(slice(row, row + _PART), slice(column, column + _PART))
                  for row in range(0, rows * _PART, _PART) for column in range(0, columns * _PART, _PART)]  # fmt: skip
        busy = [_flatness(self.shown(to_pixels(self.crop[place]))) for place in places]
        order = np.argsort(busy)
        one, two, three, four = (self.crop[places[order[at]]] for at in (0, 1, len(order) // 3, len(order) * 2 // 3))
        return np.concatenate([np.concatenate([one, two], 1), np.concatenate([three, four], 1)])

    def taken_by(self, denoiser: Denoiser) -> "_Taken":
        """What a model takes out of the parts."""
        parts = self.parts()
        before, after = (self.shown(image) for image in (to_pixels(parts), denoiser.predict(parts)))
        taken, level = _blocks(before - after), _blocks(before).mean((1, 2, 3))
        between = np.flatnonzero((level > _ENDS) & (level < 1 - _ENDS))
        if not between.size:
            return _Taken()
        power, squares = _busy(_blocks(before)), (taken**2).mean((1, 2, 3))
        order = between[np.argsort(power[between])]
        flat, busy = order[: max(8, int(_FLATTEST * len(order)))], order[-len(order) // 3 :]
        of_texture = max(0.0, float(squares[busy].mean() - squares[flat].mean())) / max(
            float(power[busy].mean()), 1e-12
        )
        return _Taken(
            from_flat=float(np.sqrt(squares[flat].mean())), texture=math.sqrt(of_texture),
            share=math.sqrt(float(squares[flat].mean()) / max(float(power[flat].mean()), 1e-12)),
            correlation=_neighbours(taken[flat]), correlation_in_all=_neighbours(taken),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class _Taken:
    """What a model takes out."""

    from_flat: float = 0.0
    """Root mean square in flat areas, of black and white."""
    share: float = 0.0
    """The same as a share of what flat areas hold."""
    texture: float = 0.0
    """What is taken from busy areas beyond that, as a share of what they hold."""
    correlation: float = 0.0
    """Of neighbours, in flat areas."""
    correlation_in_all: float = 0.0
    """Of neighbours, everywhere: texture is not correlated as noise is."""

    def is_as_much(self, by_other: "_Taken") -> bool:
        """Whether another model, for independent noise, takes as much."""
        return by_other.from_flat > max(_TAKEN, _AS_MUCH * self.from_flat)

    @property
    def is_of_texture(self) -> bool:
        """Whether texture is taken, while there is little noise."""
        return self.texture > _TEXTURE and self.correlation_in_all < _OF_TEXTURE and self.from_flat < _LITTLE

    @property
    def is_of_fine_texture(self) -> bool:
        """Whether a model for independent noise takes texture: neighbours then differ more than by chance."""
        return self.from_flat > _TAKEN and self.correlation_in_all < _OF_FINE_TEXTURE

    def is_noise(self, *, in_jpeg: bool) -> bool:
        """Whether it is noise that neighbours share, not texture."""
        if not in_jpeg:
            return self.from_flat > _TAKEN and self.correlation > _LIKE_NOISE
        is_alike = self.correlation > _LIKE_JPEG_NOISE and self.correlation_in_all > _EVERYWHERE and self.share > _SOME
        is_most = self.from_flat > _TAKEN and self.share > _MOST
        return self.from_flat > _HARDLY_TAKEN and (is_alike or is_most)


def _blocks(image: np.ndarray) -> np.ndarray:
    """Blocks (n, 8, 8, c) of an image (h, w, c)."""
    rows, columns = (side // _BLOCK for side in image.shape[:2])
    tiled = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1).swapaxes(1, 2)
    return tiled.reshape(-1, *tiled.shape[2:])


def _busy(blocks: np.ndarray) -> np.ndarray:
    """Variance of each block about its plane."""
    return np.asarray((without_plane(blocks) ** 2).mean((1, 2, 3)))


def _flatness(part: np.ndarray) -> float:
    """Median variance of the blocks of a part; infinite if most of it is black or white."""
    blocks = _blocks(part)
    level = blocks.mean((1, 2, 3))
    return float(np.median(np.where((level > _ENDS) & (level < 1 - _ENDS), _busy(blocks), np.inf)))


def _neighbours(taken: np.ndarray) -> float:
    """Correlation of neighbours in blocks: beside or below, the larger one."""
    power = max(float((taken**2).sum()), 1e-12)
    return max(float((taken[:, 1:] * taken[:, :-1]).sum()), float((taken[:, :, 1:] * taken[:, :, :-1]).sum())) / power


@dataclass(frozen=True, kw_only=True)
class _Noise:
    """What the middle of an image tells of its noise."""

    verdict: str
    is_independent: bool
    """From pixel to pixel; so is what is too faint to say."""
    in_jpeg: bool = False
    is_hardly_spread: bool = False
    """Whether it may be independent for all that JPEG has done to it."""
    is_coarse_jpeg: bool = False
    """Whether blocks of JPEG spoil the image more than noise may."""

    @staticmethod
    def of(middle: _Middle, unit: Unit) -> "_Noise":
        is_plain = (middle.low, middle.width) == (0, 1)
        crop = middle.crop if is_plain else middle.shown(to_pixels(middle.crop))
        if min(crop.shape[:2]) < _LEAST_SIDE:
            return _Noise(verdict="too few pixels to measure its noise", is_independent=True)
        try:
            found = inspect_noise([crop])
        except ValueError:  # nearly all blocks hold black or white
            grid = JpegGrid.of(to_pixels(crop))
            return _Noise(
                verdict="no noise that can be measured", is_independent=False, in_jpeg=grid.is_there,
                is_hardly_spread=grid.is_there, is_coarse_jpeg=grid.is_coarse,
            )  # fmt: skip
        level = f"noise of {unit.number(middle.width * found.levels[0])}{unit.of}"
        if found.suits:
            return _Noise(verdict=f"{level}, independent from pixel to pixel", is_independent=True)
        if not found.is_compressed and found.levels[0] < _HARDLY_ANY:
            return _Noise(verdict=level, is_independent=True)
        spread = "spread by JPEG" if found.is_compressed else f"correlated over about {found.reach} pixels"
        return _Noise(
            verdict=f"{level}, {spread}", is_independent=False, in_jpeg=found.is_compressed,
            is_hardly_spread=found.is_compressed and abs(found.neighbours) < _HARDLY_SPREAD,
            is_coarse_jpeg=found.is_compressed and found.images[0].jpeg.is_coarse,
        )  # fmt: skip
