"""The built-in models: names, purposes and cards. Loads no torch.

Each is a model file in `dbsn/store/weights` whose header holds its card. training/pack.py writes both. models.md is
generated from the cards. Reading the weights does not belong here. Tested in tests/unit/test_builtin.py.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dbsn.config import BUILTIN, MODEL, NONE
from dbsn.io.atomic import write_atomically

WEIGHTS = Path(__file__).parent / "weights"
CARD = "card"
"""Key of the card in the `about` of a model file."""
COMPARISON = "comparison.json"
"""Name of a file in a run's folder: the trained model against the built-in ones."""
PHOTOS = Path(__file__).parent / "photos"
"""Folder of the built-in clean photographs, with their credits."""
_INDEPENDENT, _SHARED = {1: "gray", 3: "photo"}, {3: "jpeg-photo"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """The description of a built-in model."""

    name: str
    """Name for -m."""
    channels: int
    """Number of channels of the images it is for."""
    purpose: str
    """Its purpose, in one sentence."""
    independent: bool
    """True for independent noise, False for correlated noise."""
    noise: str
    """The noise it has learned to remove."""
    data: str
    """Its training data."""
    terms: str
    """Licences of the training images and of the model."""
    made_by: str
    """Commands that reproduce it."""
    measured: dict[str, Any]
    """Measured quality by data set and noise (benchmarks/quality/quality.py)."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """How much better a trained model is than the best built-in one."""

    builtin: str
    """Name of the best built-in model for the images of the run."""
    gain_db: float
    """PSNR of the trained model minus that of the built-in one; negative if the built-in model is better."""

    @staticmethod
    def of(folder: Path) -> "Comparison | None":
        """Read the comparison of a run's folder; None if there is none."""
        try:
            return Comparison(**json.loads((folder / COMPARISON).read_text()))
        except (OSError, ValueError, TypeError):
            return None

    def write(self, folder: Path) -> None:
        """Write it to a run's folder."""
        write_atomically(folder / COMPARISON, json.dumps(asdict(self)).encode())

    def describe(self, folder: Path) -> str:
        """Say in one line which model is better, and which one `dbsn denoise` uses."""
        size, on = f"{abs(self.gain_db):.2f} dB", "on held-out noisy pixels (Stein's estimate)"
        if self.gain_db >= 0:
            return f"The trained model is {size} better than the built-in model {self.builtin} {on}."
        return (
            f"The built-in model {self.builtin} is {size} better than the trained one {on}. `dbsn denoise -m {folder}` "
            f"uses {self.builtin}. For the trained one name {folder / MODEL}."
        )


def better_model(given: Path) -> tuple[Path, str]:
    """Find the model file for `dbsn denoise -m`: as `find_model`, but of a run folder the better model.

    Returns:
        The file, and a line for the user if it is a built-in model instead of the run's; else an empty text.
    """
    found = find_model(given)
    compared = Comparison.of(given) if found == given / MODEL else None
    if compared and compared.gain_db < 0 and compared.builtin in names():
        return path_of(compared.builtin), compared.describe(given)
    return found, ""


def names() -> list[str]:
    """The names of the built-in models, sorted."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def path_of(name: str) -> Path:
    """The file of a built-in model.

    Raises:
        FileNotFoundError: There is no built-in model with this name.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(
            f"{name}: no such built-in model (expected one of {', '.join(names()) or 'none'}). Choose one of these."
        )
    return path


def find_model(given: Path) -> Path:
    """Find the model file for -m: a file, a run folder, or a built-in model's name."""
    if (given / MODEL).is_file():
        return given / MODEL
    return path_of(given.name) if str(given) in names() and not given.is_file() else given


def name_for(channels: int, *, independent: bool = True, to_apply: bool = False) -> str | None:
    """The name of the built-in model for images with these channels, or None.

    Args:
        channels: Number of channels of the images.
        independent: Whether the noise is independent. If no model knows correlated noise, the model for independent
            noise is used.
        to_apply: The model is to be applied, not used as initial weights. Then a model for colour images also serves
            for gray ones.
    """
    there = set(names())
    kinds = (_INDEPENDENT,) if independent else (_SHARED, _INDEPENDENT)
    counts = (1, 3) if to_apply and channels == 1 else (channels,)
    return next((kind[count] for kind in kinds for count in counts if kind.get(count) in there), None)


def card(name: str) -> Card:
    """Read the card of a built-in model."""
    with safe_open(path_of(name), framework="np") as file:
        header = json.loads(file.metadata()["header"])
    return Card(**header["about"][CARD])


def sha256(name: str) -> str:
    """SHA-256 of a built-in model's file, in hexadecimal."""
    return hashlib.sha256(path_of(name).read_bytes()).hexdigest()


def clean_paths(named: Sequence[str | Path]) -> list[Path]:
    """Clean images by their paths: `builtin` means the built-in photographs, `none` alone means nothing.

    A folder of such a name is written `./builtin`.
    """
    if [str(each) for each in named] == [NONE]:
        return []
    return [PHOTOS if str(each) == BUILTIN else Path(each) for each in named]
