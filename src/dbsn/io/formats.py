"""Reading and writing of image files; nothing is lost without an error.

Promise: if the pixels that were read are written back, the file decodes to the same numbers. Depth and channels are the
same, too. JPEG, AVIF, HEIC and lossy WebP keep the numbers to within their coding. If something cannot be kept, an
error names the file, the fault and the remedy. A damaged file is an error, never a wrong picture.

imagecodecs and tifffile decode PNG, WebP and TIFF, because Pillow reads 16-bit colour PNG as 8 bit without a warning.
Pillow decodes JPEG and BMP. Four things are converted:

- A palette becomes RGB, because denoised colours do not fit a palette.
- A transparent colour becomes an alpha channel.
- Samples of 1, 2 or 4 bits (in TIFF of 1 bit) become 8 bits.
- White-is-zero TIFF becomes black-is-zero.

EXIF orientation is kept, not applied. Other kept metadata: ICC profile, resolution, EXIF, XMP, the PNG colour chunks
and a TIFF's description. EXIF in TIFF loses its preview; in a BigTIFF only its orientation is kept. Tensors and patches
do not belong here. Tested in tests/unit/test_images.py and tests/unit/test_stacks.py. This module must not import
torch.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from dbsn.errors import ImageError
from dbsn.intensity import Array
from dbsn.io.atomic import replacing
from dbsn.io.checks import check_regular
from dbsn.io.format_table import NAMED, Format, WritePlane, format_named, format_of
from dbsn.io.jpeg_segments import without_announcements
from dbsn.io.picture import BEHIND, Picture, damaged, one_line, samples_of


@dataclass(frozen=True)
class Source:
    """An image file, whose format is known (see `open`)."""

    path: Path
    format: Format

    @property
    def is_array(self) -> bool:
        """Whether it is a Zarr: its axes may be named, and its planes are read and written block by block."""
        return self.format.is_array

    def picture(self) -> Picture:
        """Read a file of one plane; see `read_image`."""
        check_regular(self.path)
        if not self.is_array:
            with self.path.open("rb"):
                pass  # a missing file is reported as such
        try:
            return self.format.read(self.path)
        except ImageError:
            raise
        except MemoryError as error:
            raise _too_large(self.path) from error
        except Exception as error:  # decoders raise anything for damage: IndexError, SyntaxError, RuntimeError
            raise damaged(self.path, error) from error

    def planes(self, most: int | None = None, axes: str | None = None) -> Iterator[Picture]:
        """Read the planes one by one.

        Planes are the pages of a TIFF stack, the blocks of a Zarr, or the planes of a RAW mosaic. Another file has one.

        Args:
            most: Read at most this many, evenly chosen.
            axes: One letter for each axis of a Zarr, see `dbsn.io.axes`. By default those that the Zarr names. The
                axes of other files must agree.

        Raises:
            ImageError, OSError: As `read_image`; or the axes do not match the file.
        """
        try:
            check_regular(self.path)
            several = None if self.format.has_one_plane(self.path) else self.format.planes
            for plane in several(self.path, most, axes) if several else [self.picture()]:
                if not self.is_array:
                    _check_axes(self.path, plane, axes)
                yield plane
        except (ImageError, OSError, GeneratorExit):
            raise
        except MemoryError as error:
            raise _too_large(self.path) from error
        except Exception as error:
            raise damaged(self.path, error) from error

    def megapixels(self, axes: str | None = None) -> float:
        """Estimate the size with all planes from the headers; 0 if they do not tell. For `axes` see `planes`."""
        try:
            return self.format.megapixels(self.path, axes)
        except Exception:  # reading the file reports the error
            return 0.0

    def result(self, path: Path) -> Path:
        """The path of a result that was to be written at `path`: with the suffix that this format is written with."""
        suffix = self.format.written
        if self.is_array:
            return path if path.suffix.lower() == suffix else path.with_name(f"{path.name}{suffix}")
        return path.with_suffix(suffix) if suffix else path

    def check_fits(self, path: Path, like: Picture) -> None:
        """Check, before any work, that `path` can hold the planes of this file, of which `like` is one.

        Raises:
            ImageError: As `check_fits`.
        """
        if not self._writes_itself(path):
            check_fits(path, like, self._written_as(path))

    def remarks(self, path: Path, like: Picture) -> tuple[str, ...]:
        """What a result at `path` does not keep of this file, of which `like` is a plane, or what is wrong with it."""
        known = self._written_as(path)
        if known is None or self._writes_itself(path):
            return like.remarks
        lost = [*sorted(like.kept - known.keeps), *([self.format.own] if self.format.own else [])]
        return like.remarks + ((f"{', '.join(lost)} cannot be kept in a {path.suffix} file",) if lost else ())

    @contextmanager
    def writing(self, path: Path) -> Iterator[WritePlane]:
        """Write the planes of a file like this one, one after the other.

        The file appears whole or not at all.

        Args:
            path: File to write or replace, in an existing folder.

        Yields:
            A function that writes the next plane: pixels, and the picture they were made from (see `write_image`).

        Raises:
            ImageError, OSError: As `write_image`; or a stack shall not become a TIFF.
        """
        if self._writes_itself(path):
            assert self.format.writing_like is not None
            with self.format.writing_like(path, self.path) as write_plane:
                yield write_plane
            return
        if self.format.has_one_plane(self.path):
            known = self._written_as(path)
            yield lambda pixels, like: write_image(path, pixels, like, known)
            return
        named = format_named(path)
        if named is None or named.writing_pages is None:
            raise ImageError(f"{path}: a {path.suffix} file cannot hold a stack of pages. Write .tif instead.")
        with named.writing_pages(path, self.megapixels()) as write_plane:
            yield write_plane

    def _writes_itself(self, path: Path) -> bool:
        """Whether the planes become a file of this same format, in the format's own way."""
        is_alike = bool(self.format.written) or self._written_as(path) is self.format
        return self.format.writing_like is not None and is_alike

    def _written_as(self, path: Path) -> Format | None:
        """The format of a result at `path`: this file's own if the suffix is its own, even if it is that of another."""
        keeps_suffix = path.suffix.lower() == self.path.suffix.lower() and self.format.write is not None
        return self.format if keeps_suffix else format_named(path)


def open(path: Path) -> Source:  # noqa: A001 - read as `dbsn.io.open`
    """Decide what kind of file this is; nothing else decides it.

    The content decides, not the name. Only a camera RAW is known by its suffix, because its content is that of other
    formats. No error: reading a file that is missing, damaged or of no known format says so.
    """
    return Source(path, format_of(path))


def read_image(path: Path) -> Picture:
    """Read a PNG, JPEG, TIFF, WebP, BMP, AVIF or HEIC file, or a Zarr of one plane.

    The content decides the format, not the name. A JPEG may hold further pictures (a camera's preview, a gain map); the
    first one is read.

    Args:
        path: The file; from 1 x 1 pixel up, 8 or 16 bit, or float TIFF.

    Returns:
        Its pixels, and everything that `write_image` needs to write the same kind of file.

    Raises:
        ImageError: The file is damaged, or cannot be denoised or written back: several pages or frames, CMYK, an
            unusual depth, or no finite value.
        OSError: The file does not exist or may not be read.
    """
    return open(path).picture()


def _too_large(path: Path) -> ImageError:
    return ImageError(f"{path}: too large for this computer's memory, or damaged. Crop it.")


def _check_axes(path: Path, plane: Picture, axes: str | None) -> None:
    """Check that axes match the pages of a file; only those of a Zarr can be chosen."""
    own = "YXS" if plane.samples.shape[2] == 3 else "YX"
    if axes is not None and set(axes.upper()) & set("YXS") != set(own):
        raise ImageError(
            f"{path}: the axes do not match (got --axes {axes}, but each of its pages is {own}). Omit --axes."
        )


def write_image(path: Path, pixels: Array, like: Picture, known: Format | None = None) -> None:
    """Write pixels with the depth, channels and colour profile of `like`.

    The suffix of the path decides the format. The file appears whole or not at all: after an error the old file is
    still there.

    Args:
        path: File to write or replace, with a suffix of `SUFFIXES`, in an existing folder.
        pixels: Same shape as `like.samples`. Floats are nominally in [0, 1]; for integer types they are clipped and
            rounded. Or samples of the picture's own integer type.
        like: The picture it was made from. Its alpha channel is written unchanged.
        known: The format, if the suffix shall not decide it.

    Raises:
        ImageError: The format cannot hold the picture without loss, the shape differs, or a value is NaN.
        OSError: The folder is missing, or the file cannot be written.
    """
    known = check_fits(path, like, known)
    assert known.write is not None
    if BEHIND in like.kept - known.keeps:
        like = replace(like, xmp=without_announcements(like.xmp))
    samples = samples_of(path, pixels, like)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} in. Create it first.")
    try:
        with replacing(path) as partial, partial.open("w+b") as file:
            known.write(file, samples, like)
    except ValueError as error:
        raise ImageError(f"{path}: cannot be written ({one_line(error)})") from error


def check_fits(path: Path, like: Picture, known: Format | None = None) -> Format:
    """Check that a file format can hold a picture without loss, before any work.

    Returns:
        The format, which has a `Format.write`.

    Raises:
        ImageError: It cannot. The message names the output file, the problem, and a format that can.
    """
    suffix, known = path.suffix.lower(), known or format_named(path)
    if known is None:
        raise ImageError(f"{path}: unknown suffix. Use one of {NAMED}.")
    if known.write is None:
        raise ImageError(f"{path}: {known.refusal}. Use .tif.")
    if found := known.limits.problem(like):
        problem, remedy = found
        raise ImageError(f"{path}: a {suffix} file cannot hold {problem}. Write {remedy} instead.")
    return known
