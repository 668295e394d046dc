"""Array-likes in, the same kind out: tensors, PIL images, xarray, dask and masked arrays, lists.

`planewise` applies a function to each plane of whatever holds an image, and returns the results as the same kind.
Libraries that the caller has not imported are not imported here. What is done to a plane does not belong here. Tested
in tests/unit/test_arrays.py.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from scipy import ndimage

from dbsn.intensity import from_pixels, to_pixels
from dbsn.io.axes import as_planes, letters_for

Work = Callable[[np.ndarray], tuple[np.ndarray, ...]]
"""Maps the samples of a plane (h, w, c) to results of the same shape, float32, in intensities."""

_MOST_CHANNELS = 4
_COUNTS_FROM_BYTES = 4  # integers of so many bytes are counts, in their own numbers: no camera fills 32 bits
_PLAIN_MODES = ("L", "RGB", "F", "I", "I;16", "I;16L", "I;16B", "I;16N")
_ROWS, _COLUMNS = {"y", "height", "row", "rows", "lat", "latitude"}, {"x", "width", "column", "columns", "lon"}
_COLOURS = {"s", "rgb", "color", "colour"}
_MAYBE_COLOURS = {"c", "channel", "channels", "band", "bands"}  # the colours of a pixel where they come last


@dataclass(frozen=True, kw_only=True)
class _Opened:
    """An image of any kind as an array."""

    array: Any
    """A NumPy array, masked or not, or a dask array."""
    axes: str | None
    channel_axis: int | None
    back: Callable[[Any], Any]
    """Turns a result of the array's kind and shape into what was given."""


def planewise(
    image: Any,
    work: Work,
    *,
    axes: str | None = None,
    channel_axis: int | None = None,
    count: int = 1,
    to_floats: bool = False,
) -> tuple[Any, ...]:
    """Apply a function to each plane of an image, and return results of the image's kind.

    - A tensor stays on its device. Without `axes` and `channel_axis`, four channels or fewer are searched for where
      PyTorch has them, (c, h, w) and (b, c, h, w), then behind.
    - A PIL image keeps its alpha channel, unchanged, and its `info`.
    - An xarray.DataArray keeps dimensions, coordinates and attributes. Dimensions named y and x span a plane.
    - A dask array is denoised when the result is computed, plane by plane.
    - A masked array keeps its mask. Values under it stay as they are, and influence no other.
    - Anything else that `numpy.asarray` takes becomes a NumPy array.

    Args:
        image: Image or stack of images. Integers of 8 and 16 bits are divided by their type's largest value. Those of
            32 and 64 bits hold counts and are taken as floats are: in their own numbers.
        work: What to do with a plane.
        axes: See `dbsn.io.axes`.
        channel_axis: See `dbsn.io.axes`.
        count: Number of results of `work`.
        to_floats: Results are float32 in intensities. PIL images become arrays. Otherwise results have the data type
            of the image.

    Raises:
        ValueError: The image is of no usable kind, data type or shape.
    """
    opened = _opened(image, axes, channel_axis, to_floats)
    act = _lazily if _is_of(opened.array, "dask") else _at_once
    return tuple(map(opened.back, act(opened, work, count, to_floats)))


def planes_of(image: Any, axes: str | None = None, channel_axis: int | None = None) -> np.ndarray:
    """Samples (n, h, w, c) of all planes of an array-like.

    Raises:
        ValueError: As `planewise`. Also raised if values are masked.
    """
    opened = _opened(image, axes, channel_axis)
    array = opened.array.compute() if _is_of(opened.array, "dask") else opened.array
    if np.ma.is_masked(array):
        raise ValueError(
            "image: some values are masked, which works with denoise and predict alone. Pass a part without a mask."
        )
    return _samples(as_planes(np.ma.getdata(array), opened.axes, opened.channel_axis)[0])


def first_plane(image: Any, axes: str | None = None, channel_axis: int | None = None) -> np.ndarray:
    """Samples (h, w, c) of the first plane that is not masked as a whole; of a dask array of the first one.

    Raises:
        ValueError: As `planewise`.
    """
    opened = _opened(image, axes, channel_axis)
    array = opened.array
    if _is_of(array, "dask"):
        letters = letters_for(array.shape, opened.axes, opened.channel_axis)
        array = array[tuple(slice(None) if letter in "YXS" else slice(1) for letter in letters)].compute()
    planes, masks, _ = _split(array, opened)
    usable = [number for number in range(len(planes)) if masks is None or not masks[number].all()]
    number = usable[0] if usable else 0
    return _hidden(_samples(planes[number]), None if masks is None else masks[number])


def check_dtype(dtype: np.dtype[Any]) -> None:
    """Refuse a data type other than integers and floats."""
    if dtype.kind not in "iuf":
        got = f"got {dtype}, expected integers or floats"
        raise ValueError(f"image: unsupported data type ({got}). Convert it first, for example to float32.")


def _at_once(opened: _Opened, work: Work, count: int, to_floats: bool) -> list[Any]:
    planes, masks, back = _split(opened.array, opened)
    dtype = np.dtype(np.float32) if to_floats else planes.dtype
    results = [np.empty(planes.shape, dtype) for _ in range(count)]
    for number, plane in enumerate(planes):
        mask = None if masks is None else masks[number]
        done = () if mask is not None and mask.all() else work(_hidden(_samples(plane), mask))
        for result, pixels in zip(results, done, strict=bool(done)):
            result[number] = pixels if to_floats else _as_samples(pixels, planes.dtype)
        if mask is not None:
            for result in results:
                kept = plane if not to_floats else to_pixels(_samples(plane))
                result[number][mask] = kept[mask] if result is results[0] else np.nan
    shaped = [back(result) for result in results]
    if not isinstance(opened.array, np.ma.MaskedArray):
        return shaped
    own = opened.array
    kept = {} if to_floats else {"fill_value": own.fill_value}
    return [np.ma.MaskedArray(each, own.mask.copy(), hard_mask=own.hardmask, **kept) for each in shaped]


def _lazily(opened: _Opened, work: Work, count: int, to_floats: bool) -> list[Any]:
    """Results that dask computes plane by plane, each plane whole."""
    from dask.array.utils import meta_from_array
    from dask.utils import SerializableLock

    array, lock = opened.array, SerializableLock()
    if np.isnan(array.shape).any():
        raise ValueError(f"image: the size is not known (got {array.shape}). Call compute_chunk_sizes() first.")
    letters = letters_for(array.shape, opened.axes, opened.channel_axis)
    planes = array.rechunk({axis: -1 if letter in "YXS" else 1 for axis, letter in enumerate(letters)})

    def act(block: np.ndarray) -> np.ndarray:
        with lock:  # one plane at a time: each takes all cores
            results = _at_once(
                _Opened(array=block, axes=letters, channel_axis=None, back=_same), work, count, to_floats
            )
        return (np.ma.stack if isinstance(block, np.ma.MaskedArray) else np.stack)(results)

    dtype = np.dtype(np.float32) if to_floats else array.dtype
    meta = meta_from_array(array, ndim=array.ndim + 1, dtype=dtype)
    results = planes.map_blocks(act, new_axis=0, chunks=((count,), *planes.chunks), dtype=dtype, meta=meta)
    return [results[number].rechunk(array.chunks) for number in range(count)]


def _split(
    array: np.ndarray, opened: _Opened
) -> tuple[np.ndarray, np.ndarray | None, Callable[[np.ndarray], np.ndarray]]:
    """Planes (n, h, w, c), their masks, and what reshapes results to the shape of the array."""
    planes, back = as_planes(np.ma.getdata(array), opened.axes, opened.channel_axis)
    if not np.ma.is_masked(array):
        return planes, None, back
    return planes, as_planes(np.ma.getmaskarray(array), opened.axes, opened.channel_axis)[0], back


def _samples(plane: np.ndarray) -> np.ndarray:
    """Samples in the computer's byte order; counts as floats."""
    if plane.dtype.kind in "iu" and plane.dtype.itemsize >= _COUNTS_FROM_BYTES:
        return plane.astype(np.float32)
    return plane.astype(plane.dtype.newbyteorder("="), copy=False)


def _as_samples(pixels: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """Intensities as samples of the image's data type: the way back from `_samples`."""
    if dtype.kind not in "iu" or dtype.itemsize < _COUNTS_FROM_BYTES:
        return from_pixels(pixels, dtype)
    return from_pixels(pixels / np.float64(np.iinfo(dtype).max), dtype)


def _hidden(plane: np.ndarray, mask: np.ndarray | None) -> np.ndarray:
    """A plane whose masked values are those of the nearest pixels that are not masked; 0 if all are masked."""
    if mask is None or not mask.any():
        return plane
    shown = plane.copy()
    for channel in range(plane.shape[2]):
        hidden = mask[..., channel]
        if hidden.all():
            shown[..., channel] = 0
        elif hidden.any():
            nearest = ndimage.distance_transform_edt(hidden, return_distances=False, return_indices=True)
            shown[..., channel] = plane[..., channel][tuple(nearest)]
    return shown


def _opened(image: Any, axes: str | None, channel_axis: int | None, to_floats: bool = False) -> _Opened:
    """Turn any kind of image into an array of a usable type and shape."""
    opened = _unwrapped(image, axes, channel_axis, to_floats)
    check_dtype(opened.array.dtype)
    shape = opened.array.shape
    if opened.axes is None and opened.channel_axis is None and len(shape) == 3 and shape[2] > _MOST_CHANNELS:
        first = " For channels first, pass channel_axis=0." if shape[0] <= _MOST_CHANNELS else ""
        expected = "expected (height, width) or (height, width, channels)"
        raise ValueError(f'image: wrong shape (got {shape}, {expected}). For a stack, pass axes="ZYX".{first}')
    return opened


def _unwrapped(image: Any, axes: str | None, channel_axis: int | None, to_floats: bool) -> _Opened:
    if _is_of(image, "xarray") and hasattr(image, "dims") and hasattr(image, "data"):
        if axes is None and channel_axis is None:
            axes = _axes_of_dims([str(name) for name in image.dims])
        inner = _unwrapped(image.data, axes, channel_axis, to_floats)
        return _Opened(
            array=inner.array,
            axes=inner.axes,
            channel_axis=inner.channel_axis,
            back=lambda result: image.copy(data=inner.back(result)),
        )
    if _is_of(image, "dask") and hasattr(image, "map_blocks") and hasattr(image, "chunks"):
        return _Opened(array=image, axes=axes, channel_axis=channel_axis, back=_same)
    if "torch" in sys.modules and isinstance(image, sys.modules["torch"].Tensor):
        return _opened_tensor(image, axes, channel_axis, to_floats)
    if isinstance(image, Image.Image):
        return _opened_pil(image, axes, channel_axis, to_floats)
    if isinstance(image, np.ma.MaskedArray):
        return _Opened(array=image, axes=axes, channel_axis=channel_axis, back=_same)
    return _Opened(array=_as_array(image), axes=axes, channel_axis=channel_axis, back=_same)


def _as_array(image: Any) -> np.ndarray:
    """Whatever NumPy takes, but no text and no objects."""
    kind = type(image).__name__
    try:
        array = None if isinstance(image, str | bytes) else np.asarray(image)
    except Exception as error:  # ragged lists, arrays of a graphics card that are not copied unasked
        reason = " ".join(str(error).split())[:120]
        raise ValueError(f"image: NumPy cannot read this {kind} ({reason}). Pass a NumPy array.") from None
    if array is None or array.dtype.kind not in "biufc":
        held = "" if array is None or array.ndim == 0 else f" of {array.dtype}"
        raise ValueError(
            f"image: wrong type (got {kind}{held}, expected an array). Read the file first, with skimage.io."
        )
    return array


def _opened_tensor(tensor: Any, axes: str | None, channel_axis: int | None, to_floats: bool) -> _Opened:
    torch = sys.modules["torch"]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise ValueError("image: the tensor is sparse, quantized or on no device. Convert it to a plain tensor first.")
    if axes is None and channel_axis is None:
        axes = _axes_of_tensor(tuple(tensor.shape))
    plain = tensor.detach().cpu().resolve_conj().resolve_neg()

    def back(result: np.ndarray) -> Any:
        made = torch.from_numpy(np.ascontiguousarray(result))
        return made.to(device=tensor.device, dtype=None if to_floats else tensor.dtype)

    array = (plain.float() if plain.dtype == torch.bfloat16 else plain).numpy()  # NumPy has no bfloat16
    return _Opened(array=array, axes=axes, channel_axis=channel_axis, back=back)


def _axes_of_tensor(shape: tuple[int, ...]) -> str | None:
    """Axes of a tensor: channels where PyTorch has them, else last; None for what NumPy would take it for."""
    if len(shape) == 3 and shape[0] <= _MOST_CHANNELS:
        return "SYX"
    if len(shape) == 4 and shape[1] <= _MOST_CHANNELS:
        return "NSYX"
    return "NYXS" if len(shape) == 4 and shape[3] <= _MOST_CHANNELS else None


def _axes_of_dims(dims: list[str]) -> str | None:
    """Axes of named dimensions; None if none are named as those of a plane."""
    names, letters, others = [name.lower() for name in dims], "", list("TZCQPRBAHIJKLMNOVWDEFGU")
    for place, name in enumerate(names):
        is_colour = name in _COLOURS or (name in _MAYBE_COLOURS and place == len(names) - 1)
        fixed = "Y" if name in _ROWS else "X" if name in _COLUMNS else "S" if is_colour else ""
        letters += fixed or others.pop(0)
    return letters if letters.count("Y") == letters.count("X") == 1 and letters.count("S") <= 1 else None


def _opened_pil(image: Image.Image, axes: str | None, channel_axis: int | None, to_floats: bool) -> _Opened:
    is_clear = image.mode == "PA" or (image.mode in ("P", "L", "RGB") and "transparency" in image.info)
    if is_clear or image.mode == "P":
        image = image.convert(("LA" if image.mode == "L" else "RGBA") if is_clear else "RGB")
    if image.mode not in (*_PLAIN_MODES, "LA", "RGBA"):
        raise ValueError(
            f'image: unsupported mode of a PIL image (got {image.mode}). Convert it first: image.convert("RGB").'
        )
    alpha = image.getchannel("A") if image.mode in ("LA", "RGBA") else None
    colours = image if alpha is None else image.convert(image.mode[:-1])
    info = {name: value for name, value in image.info.items() if name != "transparency"}

    def back(result: np.ndarray) -> Any:
        if to_floats:
            return result
        made = Image.fromarray(np.ascontiguousarray(result))
        if alpha is not None:
            made.putalpha(alpha)
        made.info = info
        return made

    return _Opened(array=np.asarray(colours), axes=axes, channel_axis=channel_axis, back=back)


def _is_of(given: object, package: str) -> bool:
    """Whether an object's class is defined in a package."""
    return any(base.__module__.partition(".")[0] == package for base in type(given).__mro__)


def _same(result: Any) -> Any:
    return result
