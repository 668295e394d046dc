"""Files of microscopes, CZI and ND2: read with pylibCZIrw and nd2 ('dbsn[microscopy]'); a result is an OME-TIFF.

Sizes of pixels and names of channels are kept. Other formats do not belong here. Tested in
tests/unit/test_more_formats.py. This module must not import torch.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from tifffile import DATATYPE, OmeXml

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.picture import Picture, TiffTag, picture_of

CZI_MAGIC, ND2_MAGIC = b"ZISRAWFILE", (b"\xda\xce\xbe\x0a", b"\0\0\0\x0cjP  \r\n\x87\n")
WRITTEN = ".ome.tif"
_DESCRIPTION = 270
_REMARK = "an OME-TIFF keeps its axes, pixel sizes and channel names, and no other metadata"


@dataclass(frozen=True)
class _Series:
    """One image of a file: a scene, or a position of the stage."""

    axes: str
    """Of the pages, outermost first: some of T, C and Z."""
    shape: tuple[int, ...]
    """Lengths of these axes."""


def read_czi_planes(path: Path, most: int | None = None) -> Iterator[Picture]:
    """Read the planes of a CZI one by one, scene after scene; at most this many, evenly chosen."""
    try:
        from pylibCZIrw import czi
    except ImportError as error:
        raise _missing(path, "CZI", "pylibCZIrw") from error
    with czi.open_czi(str(path)) as file:
        box, scenes = file.total_bounding_box, sorted(file.scenes_bounding_rectangle) or [None]
        axes = "".join(axis for axis in "TCZ" if axis in box)
        starts, ends = zip(*(box[axis] for axis in axes), strict=True) if axes else ((), ())
        shape = tuple(end - start for start, end in zip(starts, ends, strict=True))
        information = file.metadata["ImageDocument"]["Metadata"]

        def read(scene: int, place: tuple[int, ...]) -> Array:
            plane = {axis: start + at for axis, start, at in zip(axes, starts, place, strict=True)}
            found = file.read(plane=plane, scene=scenes[scene])
            return np.ascontiguousarray(found[..., ::-1])  # blue comes first

        yield from _planes(path, [_Series(axes, shape)] * len(scenes), read, _of_czi(information), most)


def read_nd2_planes(path: Path, most: int | None = None) -> Iterator[Picture]:
    """Read the planes of an ND2 one by one, position after position; at most this many, evenly chosen."""
    try:
        import nd2
    except ImportError as error:
        raise _missing(path, "ND2", "nd2") from error
    with nd2.ND2File(path) as file:
        loops = {axis: size for axis, size in file.sizes.items() if axis not in "CYXS"}
        inner = {axis: size for axis, size in file.sizes.items() if axis in "TZ"}
        others = {axis: size for axis, size in loops.items() if axis not in inner}
        channels = file.sizes.get("C", 1)
        axes, shape = "".join(inner) + "C", (*inner.values(), channels)
        positions = list(product(*map(range, others.values())))

        def read(position: int, place: tuple[int, ...]) -> Array:
            at = dict(zip(others, positions[position], strict=True)) | dict(zip(inner, place[:-1], strict=True))
            index = np.ravel_multi_index([at[axis] for axis in loops], tuple(loops.values())) if loops else 0
            frame = np.asarray(file.read_frame(int(index)))
            frame = frame[place[-1]] if "C" in file.sizes and frame.ndim > 2 and len(frame) == channels else frame
            return frame if frame.ndim == 3 else frame[..., np.newaxis]

        yield from _planes(path, [_Series(axes, shape)] * len(positions), read, _of_nd2(file), most)


def first_of(planes: Iterator[Picture]) -> Picture:
    """The plane of a file of one plane."""
    first = next(planes)
    if next(planes, None) is not None:
        raise ImageError(f"{first.path}: a file of several planes, expected one. Save one plane as a TIFF.")
    return first


def _planes(path: Path, series: list[_Series], read: Any, known: dict[str, Any], most: int | None) -> Iterator[Picture]:
    """The planes of all series; the first has an OME description of them all."""
    places = [(at, place) for at, one in enumerate(series) for place in np.ndindex(*one.shape)]
    count, tags = min(len(places), most or len(places)), list[TiffTag]()
    if count == len(places):
        samples = {at: read(at, (0,) * len(one.shape)) for at, one in enumerate(series)}
        tags.append(TiffTag(_DESCRIPTION, DATATYPE.ASCII, _ome(path, series, samples, known)))
    for number in (place * len(places) // count for place in range(count)):
        name = path if len(places) == 1 else path.with_name(f"{path.name}, plane {number + 1}")
        yield picture_of(name, read(*places[number]), tags=tuple(tags), remarks=(_REMARK,))
        tags.clear()


def _ome(path: Path, series: list[_Series], samples: dict[int, Array], known: dict[str, Any]) -> bytes:
    """An OME description of all series, as a TIFF's."""
    xml = OmeXml(UUID=str(uuid5(NAMESPACE_URL, path.name)))  # the same for each run
    for at, one in enumerate(series):
        height, width, channels = samples[at].shape
        colour = channels == 3
        stored = (int(np.prod(one.shape, dtype=int)), 1, 1, height, width, channels)
        own = {key: value for key, value in known.items() if key != "Channel" or not colour}
        shape = (*one.shape, height, width, *([channels] if colour else []))
        xml.addimage(
            samples[at].dtype, shape, stored, axes=f"{one.axes}YX{'S' if colour else ''}", Name=path.stem, **own
        )
    return xml.tostring(declaration=True).encode() + b"\0"


def _of_czi(information: dict[str, Any]) -> dict[str, Any]:
    """Pixel sizes and channel names of a CZI's metadata, for `OmeXml.addimage`."""
    distances = ((information.get("Scaling") or {}).get("Items") or {}).get("Distance") or []
    distances = distances if isinstance(distances, list) else [distances]
    microns = {one["@Id"]: 1e6 * float(one["Value"]) for one in distances if one.get("Value")}
    dimensions = ((information.get("Information") or {}).get("Image") or {}).get("Dimensions") or {}
    channels = (dimensions.get("Channels") or {}).get("Channel") or []
    channels = channels if isinstance(channels, list) else [channels]
    return _known(microns, [one.get("@Name") or one.get("@Id") for one in channels])


def _of_nd2(file: Any) -> dict[str, Any]:
    """Pixel sizes and channel names of an ND2, for `OmeXml.addimage`."""
    size = file.voxel_size()
    channels = getattr(file.metadata, "channels", None) or []
    return _known({"X": size.x, "Y": size.y, "Z": size.z}, [one.channel.name for one in channels])


def _known(microns: dict[str, float], names: list[str]) -> dict[str, Any]:
    found: dict[str, Any] = {
        f"PhysicalSize{axis}": float(f"{size:.9g}") for axis, size in microns.items() if axis in "XYZ" and size > 0
    }
    found |= {f"PhysicalSize{axis}Unit": "µm" for axis in microns if f"PhysicalSize{axis}" in found}
    return found | ({"Channel": {"Name": names}} if names and all(names) else {})


def _missing(path: Path, name: str, package: str) -> ImageError:
    return ImageError(f"{path}: {name} needs the package {package}. Install it: pip install 'dbsn[microscopy]'")
