"""Which model denoises which image: the one that was named, or of those that come with dbsn the one for its kind.

Tested in tests/unit/test_builtin.py. What models do with an image does not belong here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dbsn.denoiser import Denoiser
from dbsn.inference.views import shown_range
from dbsn.intensity import Unit, to_pixels
from dbsn.noise.inspection import inspect_noise
from dbsn.outliers import without_outliers
from dbsn.store import builtin
from dbsn.types import Pixels

_HARDLY_ANY = 1.5 / 255
_HARDLY_TAKEN = 1 / 255  # by a student for noise that neighbours share, from what is flat; rounding to 8 bits is 0.3
_BLOCK, _FLATTEST, _ENDS = 16, 0.1, 0.05  # side in pixels; share of the blocks; what counts as black, and as white
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
        self, given: Path | None, *, device: str = "auto", check: Callable[[Denoiser, Path], None] | None = None
    ) -> None:
        """Choose.

        Args:
            given: A model file or the name of a built-in model; None picks a built-in one for each image.
            device: Where they compute.
            check: Refuses a model that cannot do what is asked, with a ValueError.
        """
        self.given, self.device = builtin.find_model(given) if given else None, device
        self._check = check
        self._loaded: dict[Path, Denoiser] = {}

    def pick(self, image: Pixels, unit: Unit) -> tuple[Denoiser, PickReason | None]:
        """The model for an image (h, w, c), and which it is and why; None if there is nothing to say.

        What is said is said in numbers of the unit.

        Raises:
            FileNotFoundError: The file that was named is not there, or no built-in model is for such images.
            ValueError: The file cannot be used, or not for what is asked.
        """
        if self.given:
            denoiser = self.load(self.given)
            is_gray_alone = image.shape[2] == 1 and denoiser.channels > 1
            return denoiser, PickReason((1,), _GRAY_ALONE, str(self.given)) if is_gray_alone else None
        image, _ = without_outliers(image, {})
        middle = _Middle.of(image)
        verdict, independent = _verdict(middle, unit)
        name = builtin.name_for(image.shape[2], independent=independent, to_apply=True)
        if name is None:
            kind = f"images of {image.shape[2]} channels"
            raise FileNotFoundError(f"no built-in model is for {kind}. Train one (`dbsn train`) and name it with -m.")
        if not builtin.card(name).independent and middle.flat_loses(self._open(builtin.path_of(name))) < _HARDLY_TAKEN:
            # texture looks like noise that neighbours share: a model that measures noise leaves it alone
            name, verdict = builtin.name_for(image.shape[2]) or name, f"{verdict}, but almost none in flat areas"
        kind = "gray" if image.shape[2] == 1 else "colour"
        line = f"built-in model {name}, because this is a {kind} image with {verdict}"
        return self.load(builtin.path_of(name)), PickReason((name, independent, kind), line, name)

    def load(self, path: Path) -> Denoiser:
        """A model; ValueError if it cannot be used, or not for what is asked."""
        denoiser = self._open(path)
        if self._check:
            self._check(denoiser, path)
        return denoiser

    def _open(self, path: Path) -> Denoiser:
        """A model, read once."""
        if path not in self._loaded:
            self._loaded[path] = Denoiser.load(path, device=self.device)
        return self._loaded[path]

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
        starts = [max(0, side - _LOOKED_AT) // 16 * 8 for side in image.shape[:2]]  # on the grid of JPEG's blocks
        rows, columns = (slice(start, start + _LOOKED_AT) for start in starts)
        return _Middle(np.asarray(image[rows, columns]), *shown_range(image))

    def shown(self, pixels: np.ndarray) -> np.ndarray:
        """Intensities, of black and white."""
        return (pixels - np.float32(self.low)) / np.float32(self.width)

    def flat_loses(self, denoiser: Denoiser) -> float:
        """What a student takes out of the flattest tenth of the blocks, root mean square, of black and white.

        Infinite if all is black or white, or the image smaller than a block.
        """
        before, after = (self.shown(image) for image in (to_pixels(self.crop), denoiser.predict(self.crop)))
        rows, columns = (side // _BLOCK for side in before.shape[:2])

        def means(image: np.ndarray) -> np.ndarray:
            blocks = image[: rows * _BLOCK, : columns * _BLOCK].reshape(rows, _BLOCK, columns, _BLOCK, -1)
            return np.asarray(blocks.mean((1, 3, 4)))

        taken, level = means((before - after) ** 2), means(after)
        between = taken[(level > _ENDS) & (level < 1 - _ENDS)]
        return float(np.sqrt(np.quantile(between, _FLATTEST))) if between.size else np.inf


def _verdict(middle: _Middle, unit: Unit) -> tuple[str, bool]:
    """What is said of an image's noise, and whether it may be taken for independent from pixel to pixel."""
    is_plain = (middle.low, middle.width) == (0, 1)
    try:
        found = inspect_noise([middle.crop if is_plain else middle.shown(to_pixels(middle.crop))])
    except ValueError:
        return "too few pixels to measure its noise", True
    level = f"noise of {unit.number(middle.width * found.levels[0])}{unit.of}"
    if found.levels[0] < _HARDLY_ANY:
        return level, True
    if found.suits:
        return f"{level}, independent from pixel to pixel", True
    return (
        f"{level}, {'spread by JPEG' if found.is_compressed else f'correlated over about {found.reach} pixels'}",
        False,
    )
