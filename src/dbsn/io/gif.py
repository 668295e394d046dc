"""GIF files: the first frame, read with Pillow; a result is a PNG, because denoised colours do not fit a palette.

Other formats do not belong here. Tested in tests/unit/test_more_formats.py. This module must not import torch.
"""

from pathlib import Path

import numpy as np
from PIL import GifImagePlugin

from dbsn.io.picture import Picture, picture_of

WRITTEN = ".png"


def read_gif(path: Path) -> Picture:
    """Read the first frame of a GIF; errors are those of `dbsn.io.formats.read_image`."""
    with path.open("rb") as file:
        image = GifImagePlugin.GifImageFile(file)
        frames, comment = image.n_frames, image.info.get("comment", b"")
        image.seek(0)
        image.load()
    mode = "RGBA" if "transparency" in image.info else "L" if image.mode == "L" else "RGB"
    remarks = ["a GIF comes back as PNG"]
    if frames > 1:
        remarks.append(f"only the first of its {frames} frames is denoised")
    texts = ((b"tEXt", b"Comment\0" + comment),) if comment else ()
    array = np.asarray(image.convert(mode))
    return picture_of(path, array, png_chunks=texts, remarks=tuple(remarks))
