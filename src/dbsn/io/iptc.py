"""IPTC captions, keywords and authors: in Photoshop's image resources, and out of them.

JPEG and PNG hold the resources, TIFF both. Adobe, Photoshop File Formats, "Image resources". Tested in
tests/unit/test_metadata.py. This module must not import torch.
"""

import struct
from collections.abc import Iterator

_IPTC = 0x0404


def iptc_of(resources: bytes) -> bytes:
    """The IPTC block within image resources; empty if there is none."""
    return next((body for number, body in _resources(resources) if number == _IPTC), b"")


def with_iptc(resources: bytes, iptc: bytes) -> bytes:
    """Image resources that hold an IPTC block, unless they have one."""
    if not iptc or iptc_of(resources):
        return resources
    return b"8BIM" + struct.pack(">HHI", _IPTC, 0, len(iptc)) + iptc + b"\0" * (len(iptc) % 2) + resources


def _resources(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and body of each resource; a damaged one ends them."""
    at = 0
    while at + 12 <= len(data):
        (number,) = struct.unpack_from(">H", data, at + 4)
        name = data[at + 6] + 1
        start = at + 6 + name + name % 2
        if start + 4 > len(data):
            return
        (length,) = struct.unpack_from(">I", data, start)
        yield number, data[start + 4 : start + 4 + length]
        at = start + 4 + length + length % 2
