"""Netpbm files (PBM, PGM, PPM, PAM): read and written with netpbmfile.

Other formats do not belong here. Tested in tests/unit/test_more_formats.py. This module must not import torch.
"""

from pathlib import Path
from typing import BinaryIO

import netpbmfile
import numpy as np

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.picture import Picture, picture_of


def read_netpbm(path: Path) -> Picture:
    """Read a file of one picture; errors are those of `dbsn.io.formats.read_image`."""
    with netpbmfile.NetpbmFile(path) as file:
        if file.axes not in ("YX", "YXS"):
            raise ImageError(f"{path}: several pictures in one file. Save each as a file of its own.")
        array, white, is_bitmap = file.asarray(), file.maxval, file.magicnumber in ("P1", "P4")
    if is_bitmap:
        return picture_of(path, (array == 0).astype(np.uint8) * 255)  # 1 is black
    full = 255 if white < 256 else 65535
    if white != full:
        array = np.rint(array * (full / white))
    remarks = () if white == full else (f"numbers up to {white} are scaled to {full}",)
    return picture_of(path, array.astype(np.uint8 if full == 255 else np.uint16), remarks=remarks)


def write_netpbm(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 3), as PGM or PPM."""
    netpbmfile.imwrite(file, samples)


def write_pam(file: BinaryIO, samples: Array, like: Picture) -> None:
    """Write samples, (h, w) or (h, w, 2..4), as PAM."""
    netpbmfile.imwrite(file, samples, magicnumber="P7")
