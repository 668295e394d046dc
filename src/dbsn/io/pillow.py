"""Pictures written by Pillow, for the formats that it writes without loss of metadata.

Which formats these are does not belong here. Tested in tests/unit/test_images.py. This module must not import torch.
"""

import io
from typing import Any, BinaryIO

from PIL import Image

from dbsn.intensity import Array
from dbsn.io.picture import Picture


def write_by_pillow(file: BinaryIO | io.BytesIO, samples: Array, like: Picture, kind: str, **options: Any) -> None:
    """Write samples, (h, w) or (h, w, 3..4), in Pillow's format `kind`, with EXIF, XMP, profile and resolution."""
    if like.exif:
        options["exif"] = b"Exif\0\0" + like.exif
    if like.xmp and kind != "BMP":
        options["xmp"] = like.xmp
    if per_metre := like.pixels_per_metre:
        options["dpi"] = (per_metre[0] * 0.0254, per_metre[1] * 0.0254)
    content = io.BytesIO()  # Pillow does not notice if a file takes only a part of what it writes
    Image.fromarray(samples).save(content, kind, icc_profile=like.icc or None, **options)
    file.write(content.getbuffer())
