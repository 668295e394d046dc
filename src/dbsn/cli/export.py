"""`dbsn export`."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro

from dbsn.cli.help import Layout
from dbsn.cli.options import Quiet, Trust, find_model, note
from dbsn.store import builtin

_WITHOUT = (
    "The file has no --strength and no uncertainty. It expects intensities from 0 to 1, and measures one noise level, "
    "not a map."
)


@dataclass(frozen=True, kw_only=True)
class Export:
    """Write a model's student for other programs: ONNX, darktable, TorchScript, BioImage.IO."""

    layout: ClassVar[Layout] = Layout(
        examples=("dbsn export photo -o photo.onnx", "dbsn export runs/mine -o mine.dtmodel"),
        usual=("--output", "--overwrite", "--quiet", "--trust"),
    )
    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model file, run folder or built-in model."""
    output: Annotated[Path, tyro.conf.arg(aliases=["-o"], metavar="FILE")]
    """The file to write: .onnx (ONNX, opset 17), .dtmodel (darktable 5.6 and later) .pt (TorchScript) or .zip
    (BioImage.IO)."""
    overwrite: bool = False
    """Replace the file if it exists."""
    quiet: Quiet = False
    trust: Trust = False

    def run(self) -> int:
        """Export; always 0."""
        from dbsn.export.files import About, export
        from dbsn.store.model_file import load_model

        path = find_model(self.model, "MODEL")
        if self.output.exists() and not self.overwrite:
            raise FileExistsError(f"{self.output}: exists already. Add --overwrite to replace it.")
        student = load_model(path, trust=self.trust).student
        if student is None:
            raise ValueError(
                f"MODEL {self.model}: holds no student, and a blind-spot model cannot be exported. "
                "Train one: dbsn train NOISY --teacher MODEL -o NEW."
            )
        card = builtin.card(path.stem) if path.parent == builtin.WEIGHTS else None
        name = path.parent.name if path.stem == "model" else path.stem
        about = About(name=name, purpose="For the noise of the images that it was trained on.")
        if card:
            about = About(name=card.name, purpose=f"For {card.purpose}.", data=card.data, terms=card.terms)
        difference = export(student, self.output, about)
        note(f"compared with PyTorch: they differ by {difference:.0e} of 1 at most. {_WITHOUT}", quiet=self.quiet)
        print(self.output)
        return 0
