"""Formats that dbsn does not read, named by their first bytes, so that a whole file is not called damaged.

Formats that it reads do not belong here. Tested in tests/unit/test_more_formats.py. This module must not import torch.
"""

from pathlib import Path

_MAGIC: dict[bytes, str] = {
    b"\0\0\1\0": "ICO", b"\0\0\2\0": "CUR", b"8BPS": "PSD", b"v/1\1": "OpenEXR", b"#?RADIANCE": "Radiance HDR",
    b"\xff\n": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL", b"DDS ": "DDS", b"%PDF": "PDF", b"%!PS": "PostScript",
    b"icns": "ICNS", b"II\xbc": "JPEG XR", b"\x89HDF\r\n\x1a\n": "HDF5", b"FORM": "IFF", b"gimp xcf": "XCF",
    b"qoif": "QOI", b"farbfeld": "farbfeld", b"PF\n": "PFM", b"Pf\n": "PFM", b"\x01\xda": "SGI",
    b"<svg": "SVG", b"\x93NUMPY": "NumPy", b"\xd0\xcf\x11\xe0": "OLE (OIB, ZVI)", b"\x70\0\0\0": "LIF",
    b"\x1aE\xdf\xa3": "video", b"NRRD": "NRRD", b"MATLAB": "MATLAB", b"BLP2": "BLP",
}  # fmt: skip
_LATER: dict[tuple[int, bytes], str] = {
    (128, b"DICM"): "DICOM", (344, b"n+1\0"): "NIfTI", (8, b"JPEG 2000"): "JPEG 2000",
    (208, b"MAP "): "MRC",
}  # fmt: skip


def named_other(path: Path) -> str:
    """The name of a file's format; empty if it is not known."""
    with path.open("rb") as file:
        head = file.read(512)
    found = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    later = next((name for (at, magic), name in _LATER.items() if head[at : at + len(magic)] == magic), "")
    return found or later or ("SVG" if b"<svg" in head else "")
