"""Write the page of error messages by making each mistake.

Usage: python benchmarks/docs_messages.py
docs/reference/messages.md holds the commands and what dbsn prints. tests/unit/test_messages.py fails where it differs.
"""

import contextlib
import io
import os
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

PAGE = Path(__file__).parent.parent / "docs" / "reference" / "messages.md"
MISTAKES = {
    "Files": (
        "denoise photo.jpg -o photo.jpg",
        "denoise missing.png",
        "denoise broken.png",
        "denoise notes.txt",
        "denoise empty",
        "denoise photos -o one.png",
        "denoise photo.jpg -o result.gif",
        "denoise stack.tif --axes TCYX",
        "inspect small.png",
        "inspect white.png",
    ),
    "Models": (
        "denoise photo.jpg -m foto",
        "denoise photo.jpg -m photo.jpg",
        "denoise photo.jpg -m runs/none",
        "denoise gray.png -m jpeg-photo --method posterior",
        "info missing.safetensors",
    ),
    "Options": (
        "denois photo.jpg",
        "denoise photo.jpg --strengh 1",
        "denoise photo.jpg --strength 3",
        "denoise photo.jpg --tile 1",
        "denoise photo.jpg --device cuda:99",
        "denoise",
        "evaluate -m photo --clean photos",
        "evaluate -m photo --clean photos --noise 25",
    ),
    "Training": (
        "train -o runs/mine",
        "train photos -o runs/mine --quantile 3",
        "train mixed -o runs/mine",
        "train photos -o runs/mine --clean empty",
        "train -o runs/none --resume",
        "report runs/none",
    ),
}  # fmt: skip
"""Commands by the heading of the page they stand under."""


def make_files(folder: Path) -> None:
    """The files that the commands name."""
    noisy = np.random.default_rng(0).normal(120, 20, (64, 64, 3)).clip(0, 255).astype(np.uint8)
    for name in ("photos", "mixed", "empty", "runs"):
        (folder / name).mkdir()
    Image.fromarray(noisy).save(folder / "photo.jpg")
    Image.fromarray(noisy[..., 0]).save(folder / "gray.png")
    Image.fromarray(noisy[:8, :8]).save(folder / "small.png")
    Image.fromarray(np.full((300, 300), 255, np.uint8)).save(folder / "white.png")
    for name in ("photos/a.png", "photos/b.png", "mixed/a.png"):
        Image.fromarray(noisy).save(folder / name)
    Image.fromarray(noisy[..., 0]).save(folder / "mixed" / "b.png")
    whole = (folder / "photos" / "a.png").read_bytes()
    (folder / "broken.png").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.txt").write_text("no image\n")
    tifffile.imwrite(folder / "stack.tif", np.stack([noisy[..., 0]] * 3), photometric="minisblack")


def printed(command: str) -> tuple[int, str]:
    """Exit status of a command, run in this process, and what it prints on stderr."""
    from dbsn.cli import main

    shown, arguments = io.StringIO(), sys.argv
    sys.argv = ["dbsn", *shlex.split(command)]
    status = 0
    try:
        with contextlib.redirect_stderr(shown), contextlib.redirect_stdout(io.StringIO()):
            main()
    except SystemExit as end:
        status = int(end.code or 0)
    finally:
        sys.argv = arguments
    return status, shown.getvalue().rstrip("\n")


def page() -> str:
    """The text of the page."""
    lines = [
        "# Error messages",
        "",
        "A mistake gives one line on stderr: what is wrong, where, and what to do. The exit status is 2, or 1 if some",
        "files failed and others were done. Made by `python benchmarks/docs_messages.py`.",
    ]
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as name:
        os.chdir(name)
        try:
            make_files(Path(name))
            for heading, commands in MISTAKES.items():
                lines += ["", f"## {heading}", ""]
                for command in commands:
                    status, said = printed(command)
                    lines += ["```", f"$ dbsn {command}", *said.splitlines(), f"[exit status {status}]", "```", ""]
                lines.pop()
        finally:
            os.chdir(before)
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
