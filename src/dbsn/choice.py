"""Which model denoises which image: the one that was named, or of those that come with dbsn the one for its kind.

Tested in tests/unit/test_shipped.py. What models do with an image does not belong here.
"""

import hashlib
from pathlib import Path

import numpy as np

from dbsn import shipped
from dbsn.denoiser import Denoiser
from dbsn.inspection import inspect_noise
from dbsn.types import Pixels

_HARDLY_ANY = 1.5 / 255
_LOOKED_AT = 512  # side of the middle part that tells an image's noise


class Choice:
    """The models of one `denoise`, each loaded when it is first needed."""

    def __init__(self, given: Path | None, *, device: str = "auto") -> None:
        """`given` is a model file or the name of a shipped model; None picks a shipped one for each image."""
        self.given, self.device = shipped.model_file(given) if given else None, device
        self._loaded: dict[Path, Denoiser] = {}
        self._told: set[tuple[str, str]] = set()

    def denoiser(self, channels: int) -> Denoiser:
        """The model for images of so many channels.

        Raises:
            FileNotFoundError: The file that was named is not there, or no shipped model is for such images.
            ValueError: The file cannot be used.
        """
        path = self.given or shipped.path_of(_name(channels))
        if path not in self._loaded:
            self._loaded[path] = Denoiser.load(path, device=self.device)
        return self._loaded[path]

    @property
    def digest(self) -> str:
        """Of everything that may be picked."""
        files = [self.given] if self.given else [shipped.path_of(name) for name in shipped.names()]
        together = hashlib.sha256(b"".join(hashlib.sha256(file.read_bytes()).digest() for file in files))
        return together.hexdigest()[:12]

    def why(self, image: Pixels) -> str:
        """One line on which model was picked for an image (h, w, c) and why; empty if there was nothing to pick.

        Of like images it is said once.
        """
        if self.given:
            return ""
        channels = image.shape[2]
        name = _name(channels)
        verdict, key = _verdict(image)
        if (name, key) in self._told:
            return ""
        self._told.add((name, key))
        kind = "gray" if channels == 1 else "colour"
        return f"model {name} (comes with dbsn), because this is a {kind} image with {verdict}"


def _name(channels: int) -> str:
    """The shipped model for images of so many channels.

    Raises:
        FileNotFoundError: There is none.
    """
    name = shipped.name_for(channels)
    if name is None:
        raise FileNotFoundError(
            f"no model for images of {channels} channels comes with dbsn; train one and name it: -m"
        )
    return name


def _verdict(image: Pixels) -> tuple[str, str]:
    """What is said of an image's noise, and of which sort that is."""
    middle = tuple(slice(max(0, (side - _LOOKED_AT) // 2), (side + _LOOKED_AT) // 2) for side in image.shape[:2])
    try:
        found = inspect_noise([np.asarray(image[middle[0], middle[1]])])
    except ValueError:
        return "too few pixels to tell its noise", "unknown"
    level = f"noise of {255 * found.levels[0]:.1f} of 255"
    if found.levels[0] < _HARDLY_ANY:
        return level, "clean"
    if found.suits:
        return f"{level}, independent from pixel to pixel", "suits"
    spread = "spread by JPEG" if found.is_compressed else f"correlated over about {found.reach} pixels"
    advice = "which no shipped model has learned: a part may stay; `dbsn train` on such images learns it"
    return f"{level}, {spread}, {advice}", "correlated"
