"""Which model denoises which image: the one that was named, or of those that come with dbsn the one for its kind.

Tested in tests/unit/test_shipped.py. What models do with an image does not belong here.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dbsn import shipped
from dbsn.denoiser import Denoiser
from dbsn.inspection import inspect_noise
from dbsn.picture import Unit, to_pixels
from dbsn.stretch import shown_range
from dbsn.types import Pixels

_HARDLY_ANY = 1.5 / 255
_ALIKE = "shown to this model of colours as three that are alike; how sure it says it is, it has learned on colours"
_LOOKED_AT = 512  # side of the middle part that tells an image's noise


@dataclass(frozen=True)
class Why:
    """Which model was picked for an image, and why."""

    like: tuple[object, ...]
    """The same for images of which the same is to be said."""
    line: str
    """For a person."""


class Choice:
    """The models of one `denoise`, each loaded when it is first needed."""

    def __init__(
        self, given: Path | None, *, device: str = "auto", check: Callable[[Denoiser, Path], None] | None = None
    ) -> None:
        """Choose.

        Args:
            given: A model file or the name of a shipped model; None picks a shipped one for each image.
            device: Where they compute.
            check: Refuses a model that cannot do what is asked, with a ValueError.
        """
        self.given, self.device = shipped.model_file(given) if given else None, device
        self._check = check
        self._loaded: dict[Path, Denoiser] = {}

    def pick(self, image: Pixels, unit: Unit) -> tuple[Denoiser, Why | None]:
        """The model for an image (h, w, c), and which it is and why; None if there is nothing to say.

        What is said is said in numbers of the unit.

        Raises:
            FileNotFoundError: The file that was named is not there, or no shipped model is for such images.
            ValueError: The file cannot be used, or not for what is asked.
        """
        if self.given:
            denoiser = self.load(self.given)
            is_apart = image.shape[2] == 1 and denoiser.channels > 1
            return denoiser, Why((1,), f"a gray image, {_ALIKE}") if is_apart else None
        verdict, independent = _verdict(image, unit)
        name = shipped.name_for(image.shape[2], independent=independent, to_apply=True)
        if name is None:
            kind = f"images of {image.shape[2]} channels"
            raise FileNotFoundError(f"no model for {kind} comes with dbsn; train one and name it: -m")
        denoiser = self.load(shipped.path_of(name))
        kind = "gray" if image.shape[2] == 1 else "colour"
        line = f"model {name} (comes with dbsn), because this is a {kind} image with {verdict}"
        return denoiser, Why((name, independent, kind), line)

    def load(self, path: Path) -> Denoiser:
        """A model, once; ValueError if it cannot be used, or not for what is asked."""
        if path not in self._loaded:
            denoiser = Denoiser.load(path, device=self.device)
            if self._check:
                self._check(denoiser, path)
            self._loaded[path] = denoiser
        return self._loaded[path]

    @property
    def files(self) -> list[Path]:
        """Everything that may be picked."""
        return [self.given] if self.given else [shipped.path_of(name) for name in shipped.names()]

    @property
    def digest(self) -> str:
        """Of everything that may be picked."""
        return hashlib.sha256(b"".join(file.read_bytes() for file in self.files)).hexdigest()[:12]


def _verdict(image: Pixels, unit: Unit) -> tuple[str, bool]:
    """What is said of an image's noise, and whether it may be taken for independent from pixel to pixel."""
    starts = [max(0, side - _LOOKED_AT) // 16 * 8 for side in image.shape[:2]]  # on the grid of JPEG's blocks
    rows, columns = (slice(start, start + _LOOKED_AT) for start in starts)
    low, width = shown_range(image)
    crop = np.asarray(image[rows, columns])
    try:
        found = inspect_noise([crop if (low, width) == (0, 1) else (to_pixels(crop) - low) / width])
    except ValueError:
        return "too few pixels to tell its noise", True
    level = f"noise of {unit.number(width * found.levels[0])}{unit.of}"
    if found.levels[0] < _HARDLY_ANY:
        return level, True
    if found.suits:
        return f"{level}, independent from pixel to pixel", True
    return (
        f"{level}, {'spread by JPEG' if found.is_compressed else f'correlated over about {found.reach} pixels'}",
        False,
    )
