"""The models that come with the package: which there are, what for, and what their files say of them. Loads no torch.

Each is a model file in `dbsn/store/weights` whose header holds its card (training/pack.py writes both); models.md
is made from the cards. Picking weights apart does not belong here. Tested in tests/unit/test_builtin.py.
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open

from dbsn.config import MODEL

WEIGHTS = Path(__file__).parent / "weights"
CARD = "card"
"""Where in what a model file says about itself its card is."""
_INDEPENDENT, _SHARED = {1: "gray", 3: "photo"}, {3: "jpeg-photo"}


@dataclass(frozen=True, kw_only=True)
class Card:
    """What a built-in model says of itself."""

    name: str
    """To be given as -m."""
    channels: int
    """Of the images it is for."""
    purpose: str
    """What it is for, in a sentence."""
    independent: bool
    """Whether it is for noise that is independent from pixel to pixel; else, for noise that neighbours share."""
    noise: str
    """The noise it has learned to take out."""
    data: str
    """What it was trained on."""
    terms: str
    """Those of the training images, and the model's own."""
    made_by: str
    """Commands that make it again."""
    measured: dict[str, Any]
    """Its figures (benchmarks/quality/quality.py): what was measured, and how good it is there."""


def names() -> list[str]:
    """The models there are, by name."""
    return sorted(path.stem for path in WEIGHTS.glob("*.safetensors"))


def path_of(name: str) -> Path:
    """The file of a built-in model.

    Raises:
        FileNotFoundError: There is none of this name.
    """
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        raise FileNotFoundError(f"no model {name!r} comes with dbsn; there are {', '.join(names()) or 'none'}")
    return path


def find_model(given: Path) -> Path:
    """The file that -m means: a file, that of a run's folder, or else the built-in model of this name."""
    if (given / MODEL).is_file():
        return given / MODEL
    return path_of(given.name) if str(given) in names() and not given.is_file() else given


def name_for(channels: int, *, independent: bool = True, to_apply: bool = False) -> str | None:
    """The built-in model for images of so many channels, if there is one.

    Where none has learned noise that neighbours share, the one for independent noise is the nearest. To be applied, not
    to be started from, one for colours will do for gray images.
    """
    there = set(names())
    kinds = (_INDEPENDENT,) if independent else (_SHARED, _INDEPENDENT)
    counts = (1, 3) if to_apply and channels == 1 else (channels,)
    return next((kind[count] for kind in kinds for count in counts if kind.get(count) in there), None)


def card(name: str) -> Card:
    """What a built-in model says of itself."""
    with safe_open(path_of(name), framework="np") as file:
        header = json.loads(file.metadata()["header"])
    return Card(**header["about"][CARD])


def sha256(name: str) -> str:
    """Of a built-in model's file, in hexadecimal."""
    return hashlib.sha256(path_of(name).read_bytes()).hexdigest()
