"""What several commands share: flags, opening models, telling of files that failed."""

import sys
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from dbsn.cli.help import suggestion
from dbsn.io.folders import printable
from dbsn.store import builtin

if TYPE_CHECKING:
    from dbsn.denoiser import Denoiser

DEVICE_HELP = "Where to compute. auto: the graphics card if there is one, else the processor."
Device = Annotated[Literal["auto", "cpu", "cuda", "mps"], tyro.conf.arg(help=DEVICE_HELP)]
Method = Literal["auto", "student", "posterior"]
Output = Annotated[Path, tyro.conf.arg(aliases=["-o"])]
AXES_HELP = (
    "A letter for each axis of a Zarr that does not name its axes, such as TZYX or SYX: Y and X span a plane, S holds "
    "the colours."
)
Axes = Annotated[str | None, tyro.conf.arg(help=AXES_HELP, metavar="LETTERS")]
Threads = Annotated[int | None, tyro.conf.arg(metavar="N", help="Threads to compute with. Default: one for each core.")]
ModelPath = Annotated[Path, tyro.conf.arg(aliases=["-m"])]
Quiet = Annotated[bool, tyro.conf.arg(aliases=["-q"], help="Print only results and errors.")]
Json = Annotated[bool, tyro.conf.arg(help="Print one JSON object on stdout, and nothing else there.")]


TRUST_HELP = "Import the code of your own network that the model file names. Never do so for a stranger's file."
Trust = Annotated[bool, tyro.conf.arg(help=TRUST_HELP)]
_ESCAPED = frozenset({"Cc", "Cf", "Zl", "Zp"})  # control characters, invisible ones, separators of lines


def escaped(text: str) -> str:
    """Make a text one line that a terminal shows as it is: control characters are escaped as in Python."""

    def shown(each: str) -> str:
        return each.encode("unicode_escape").decode() if unicodedata.category(each) in _ESCAPED else each

    return printable("".join(map(shown, text)))


def note(text: str, *, quiet: bool = False) -> None:
    """Say something on stderr that is no result."""
    if not quiet:
        print("\n".join(map(escaped, text.split("\n"))), file=sys.stderr, flush=True)


def report_failures(failures: list[str]) -> None:
    """A line on stderr for each file that failed."""
    for failure in failures:
        print(f"dbsn: {escaped(failure)}", file=sys.stderr)


def check_device(device: str) -> None:
    """Refuse a device that this machine does not have, before any file is read."""
    from dbsn.devices import pick_device

    pick_device(device)


def find_model(given: Path, flag: str = "--model") -> Path:
    """The model file that was named: a file, a run folder's, or a built-in model's.

    Raises:
        FileNotFoundError: There is none; says which was meant.
    """
    found = builtin.find_model(given)
    if not found.exists():
        names = builtin.names()
        near = suggestion(str(given), names)
        raise FileNotFoundError(
            f"{flag} {given}: no such model file, run folder or built-in model.{near} "
            f"Built-in models are {', '.join(names)}."
        )
    return found


def load(path: Path, device: str, *, trust: bool = False) -> "Denoiser":
    """A model file, or a built-in model by its name."""
    from dbsn.denoiser import Denoiser
    from dbsn.store.model_file import load_model

    return Denoiser(load_model(find_model(path), trust=trust), device=device)
