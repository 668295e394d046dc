"""Camera RAW files: the four planes of their mosaic, written back as DNG.

Before demosaicking noise is independent from pixel to pixel, as learning from noisy images alone needs. Each colour of
the mosaic is a gray picture of half the size. It is 0 at the sensor's black and 1 at its white, and not clipped at
either. Developing does not belong here. Tested in tests/unit/test_raw.py, where LibRaw reads the written files. This
module must not import torch.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from tifffile import DATATYPE

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.atomic import replacing
from dbsn.io.picture import Picture, one_line, picture_of

RAW_SUFFIXES = frozenset(
    {".dng", ".cr2", ".cr3", ".nef", ".nrw", ".arw", ".orf", ".rw2", ".pef", ".srw", ".raf", ".raw", ".3fr"}
)
WRITTEN = ".dng"
_ORIENTATIONS = {0: 1, 3: 3, 5: 8, 6: 6}  # LibRaw's flips
_KEPT = frozenset(
    {271, 272, 306, 315, 33432}  # make, model, date, artist, copyright
    | {50708, *range(50721, 50733), 50778, 50779, 50964, 50965}  # of a DNG: model and colour calibration
)
_XYZ_TO_SRGB = ((3.2406, -1.5372, -0.4986), (-0.9689, 1.8758, 0.0415), (0.0557, -0.2040, 1.0570))
_D65 = 21
_BLOCK, _EMPTY_FROM = 16, 0.01  # pixels a side; share of empty blocks that is worth a remark
_PARTS = 1_000_000  # denominator of rationals


@dataclass(frozen=True, kw_only=True)
class Mosaic:
    """The recorded mosaic of a camera, one colour per pixel."""

    path: Path
    samples: Array
    """(h, w) uint16."""
    colours: str
    """Colours of the pixels (0, 0), (0, 1), (1, 0), (1, 1): R, G or B each."""
    black: tuple[int, int, int, int]
    """Sample value without light, for the same pixels."""
    white: int
    """Largest sample value."""
    matrix: tuple[tuple[float, ...], ...]
    """Matrix from CIE XYZ to the camera's red, green and blue."""
    neutral: tuple[float, float, float]
    """White balance of the camera, with green 1."""
    orientation: int
    """Orientation, as in EXIF."""
    kept: dict[int, tuple[Any, ...]] = field(default_factory=dict)
    """Further tags for `tifffile.TiffWriter.write`, by number.

    They hold camera, date and author, and the colour calibration of a DNG.
    """

    def places(self) -> list[tuple[slice, slice]]:
        """The places of the four planes in the mosaic."""
        return [(slice(row, None, 2), slice(column, None, 2)) for row, column in product((0, 1), repeat=2)]


def is_raw(path: Path) -> bool:
    """Whether a file is a camera RAW, by its name.

    Its content does not tell, because RAW files carry the signatures of other formats.
    """
    return path.suffix.lower() in RAW_SUFFIXES


def read_mosaic(path: Path) -> Mosaic:
    """Read a RAW file with a Bayer mosaic.

    Raises:
        ImageError: It is damaged or of another kind, or rawpy is not installed.
        OSError: The file does not exist.
    """
    try:
        import rawpy
    except ImportError as error:
        raise ImageError(f"{path}: RAW files need the package rawpy. Install it: pip install 'dbsn[raw]'") from error
    with path.open("rb"):
        pass  # report a missing file as such
    try:
        with rawpy.imread(str(path)) as raw:
            if raw.raw_type != rawpy.RawType.Flat or raw.raw_pattern is None or raw.raw_pattern.shape != (2, 2):
                raise ImageError(f"{path}: not a Bayer mosaic of 2 x 2. Develop it to a TIFF of 16 bits first.")
            samples = raw.raw_image_visible.copy()
            which = raw.raw_colors_visible[:2, :2].ravel().tolist()
            black = [int(raw.black_level_per_channel[colour]) for colour in which]
            balance, matrix = raw.camera_whitebalance, np.asarray(raw.rgb_xyz_matrix)[:3]
            return Mosaic(
                path=path,
                samples=samples,
                colours="".join(chr(raw.color_desc[colour]) for colour in which),
                black=(black[0], black[1], black[2], black[3]),
                white=int(raw.white_level),
                matrix=tuple(map(tuple, matrix.tolist())) if matrix.any() else _XYZ_TO_SRGB,
                neutral=(balance[1] / balance[0], 1.0, balance[1] / balance[2]) if min(balance[:3]) > 0 else (1.0,) * 3,
                orientation=_ORIENTATIONS.get(raw.sizes.flip, 1),
                kept=_kept(path),
            )
    except ImageError:
        raise
    except rawpy.LibRawError as error:
        raise ImageError(f"{path}: not a readable RAW file ({one_line(error)}). Copy it again.") from error


def read_planes_of(path: Path) -> Iterator[Picture]:
    """Read the four planes of a RAW mosaic, row by row, as gray float32 pictures.

    Errors are those of `read_mosaic`.
    """
    mosaic = read_mosaic(path)
    empty = _empty_share(mosaic.samples)
    remarks = (f"{100 * empty:.0f} % of it is empty, so it may be damaged",) if empty > _EMPTY_FROM else ()
    for place, black, colour in zip(mosaic.places(), mosaic.black, mosaic.colours, strict=True):
        plane = (mosaic.samples[place].astype(np.float32) - black) / (mosaic.white - black)
        if plane.size:
            yield picture_of(path.with_name(f"{path.name}, {colour}"), plane, remarks=remarks)


def _empty_share(samples: Array) -> float:
    """Share of the blocks of a mosaic that are 0 throughout: a sensor's black has noise."""
    height, width = (size // _BLOCK * _BLOCK for size in samples.shape)
    blocks = samples[:height, :width].reshape(height // _BLOCK, _BLOCK, width // _BLOCK, _BLOCK)
    return float(np.mean(~blocks.any(axis=(1, 3)))) if blocks.size else 0.0


@contextmanager
def writing_dng(path: Path, source: Path) -> Iterator[Callable[[Array, Picture], None]]:
    """Write the mosaic of a RAW file with new planes, as DNG.

    The file appears whole or not at all.

    Args:
        path: A .dng to write or replace.
        source: The RAW file.

    Yields:
        A function that takes the next plane, (h, w, 1), and the picture it was made from.

    Raises:
        ImageError: As `read_mosaic`; or `path` is not a .dng.
    """
    if path.suffix.lower() != WRITTEN:
        raise ImageError(f"{path}: a RAW photograph can only be written as DNG. Use {WRITTEN}.")
    mosaic = read_mosaic(source)
    samples, left = mosaic.samples.copy(), list(zip(mosaic.places(), mosaic.black, strict=True))

    def write(pixels: Array, like: Picture) -> None:
        place, black = left.pop(0)
        scaled = np.rint(pixels[..., 0].astype(np.float64) * (mosaic.white - black) + black)
        samples[place] = scaled.clip(0, np.iinfo(np.uint16).max)

    yield write
    with replacing(path) as partial:
        tifffile.imwrite(partial, samples, photometric="cfa", metadata=None, software=False, extratags=_tags(mosaic))


def _tags(mosaic: Mosaic) -> list[tuple[Any, ...]]:
    """Tags that make a TIFF a DNG (Adobe, Digital Negative Specification 1.4)."""
    model = " ".join(mosaic.kept[code][3] for code in (271, 272) if code in mosaic.kept) or "unknown"
    matrix = [part for row in mosaic.matrix for value in row for part in (round(value * _PARTS), _PARTS)]
    neutral = [part for value in mosaic.neutral for part in (round(value * _PARTS), _PARTS)]
    tags = [
        (274, DATATYPE.SHORT, 1, mosaic.orientation, True),
        (33421, DATATYPE.SHORT, 2, (2, 2), True),  # CFARepeatPatternDim
        (33422, DATATYPE.BYTE, 4, bytes("RGB".index(colour) for colour in mosaic.colours), True),  # CFAPattern
        (50706, DATATYPE.BYTE, 4, bytes((1, 4, 0, 0)), True),  # DNGVersion
        (50707, DATATYPE.BYTE, 4, bytes((1, 1, 0, 0)), True),  # DNGBackwardVersion
        (50708, DATATYPE.ASCII, 0, model, True),  # UniqueCameraModel
        (50713, DATATYPE.SHORT, 2, (2, 2), True),  # BlackLevelRepeatDim
        (50714, DATATYPE.LONG, 4, mosaic.black, True),  # BlackLevel
        (50717, DATATYPE.LONG, 1, mosaic.white, True),  # WhiteLevel
        (50721, DATATYPE.SRATIONAL, 9, tuple(matrix), True),  # ColorMatrix1
        (50728, DATATYPE.RATIONAL, 3, tuple(neutral), True),  # AsShotNeutral
        (50778, DATATYPE.SHORT, 1, _D65, True),  # CalibrationIlluminant1
    ]
    return list(({tag[0]: tag for tag in tags} | mosaic.kept).values())


def _kept(path: Path) -> dict[int, tuple[Any, ...]]:
    """Tags of a RAW file that are kept, if it is a kind of TIFF, as most are."""
    try:
        with tifffile.TiffFile(path) as tif:
            tags = [tag for tag in tif.pages.first.tags if tag.code in _KEPT]
            return {tag.code: (tag.code, tag.dtype, tag.count, tag.value, True) for tag in tags}
    except Exception:  # another container, or one without tags
        return {}
