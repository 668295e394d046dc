"""One call that denoises an image with the model that fits it, and one that measures its noise.

The first picks the model as `dbsn denoise` does, the second finds what `dbsn inspect` finds. Tested in
tests/unit/test_arrays.py; their examples in tests/unit/test_examples.py.
"""

from functools import cache
from pathlib import Path
from typing import Any

from dbsn.arrays import first_plane, planes_of
from dbsn.batch.model_choice import ModelPicker
from dbsn.config import AUTO
from dbsn.denoiser import Denoiser
from dbsn.errors import speaks_python
from dbsn.intensity import Unit
from dbsn.noise.inspection import Inspection, inspect_noise


@speaks_python
def denoise(
    image: Any,
    *,
    model: str | Path = AUTO,
    axes: str | None = None,
    channel_axis: int | None = None,
    ensemble: bool = False,
    device: str = AUTO,
) -> Any:
    """Denoise an image or a stack of images.

    Parameters
    ----------
    image : array-like
        Noisy image, (h, w) or (h, w, 3), or a stack with `axes` or `channel_axis`. NumPy array, tensor, PIL image,
        xarray, dask or masked array, or list; see `Denoiser.denoise`.
    model : str or Path
        "auto" picks the built-in model that fits the first plane, as `dbsn denoise` does. Otherwise the name of a
        built-in model, a model file or a run folder.
    axes : str, optional
        One letter for each axis, for example "TZYX" or "YXS". Y and X span a plane, S holds the channels.
    channel_axis : int, optional
        Axis of the channels, as in scikit-image.
    ensemble : bool
        Average over the eight orientations of the image. This is better and takes eight times as long.
    device : str
        "auto", "cpu", "cuda" or "mps". "auto" picks CUDA, then MPS, then the CPU.

    Returns
    -------
    array-like
        The denoised image, with the kind, shape and data type of `image`.

    Raises
    ------
    FileNotFoundError
        There is no such model.
    ValueError
        The image cannot be used, or it is neither gray nor in colour and no model is named. Also raised if the
        device is not available.

    Examples
    --------
    >>> import numpy as np
    >>> import dbsn
    >>> noisy = np.random.default_rng(0).normal(100, 10, (64, 64)).clip(0, 255).astype(np.uint8)
    >>> denoised = dbsn.denoise(noisy)
    >>> denoised.shape, denoised.dtype
    ((64, 64), dtype('uint8'))
    >>> bool(denoised.std() < 0.2 * noisy.std())
    True
    """
    if str(model) == AUTO:
        plane = first_plane(image, axes, channel_axis)
        if plane.shape[2] not in (1, 3):
            got = f"got {plane.shape[2]} channels, expected 1 (gray) or 3 (colour)"
            raise ValueError(f"image: {got}. Pass the colours alone, such as image[..., :3], or name a model.")
        denoiser, _ = _picker(device).pick(plane, Unit.of_samples(plane))
    else:
        denoiser = Denoiser.load(model, device=device)
    return denoiser.denoise(image, axes=axes, channel_axis=channel_axis, ensemble=ensemble)


@speaks_python
def inspect(image: Any, *, axes: str | None = None, channel_axis: int | None = None) -> Inspection:
    """Measure the noise of an image or of a stack of images.

    Parameters
    ----------
    image : array-like
        Noisy image, (h, w) or (h, w, 3), or a stack with `axes` or `channel_axis`; see `denoise`. It has at least
        64 x 64 pixels.
    axes : str, optional
        One letter for each axis; see `denoise`. Each plane is one image.
    channel_axis : int, optional
        Axis of the channels; see `denoise`.

    Returns
    -------
    Inspection
        What was found. `levels` holds the noise level of each plane, as a share of white (0.1 is 25.5 of 255), or in
        counts. `verdict` says it in words. `suits` tells whether the noise is independent from pixel to pixel. There
        are also `family`, `stride` and `autocorrelation`.

    Raises
    ------
    ValueError
        The image cannot be used, is too small, or has no part whose noise can be measured.

    Examples
    --------
    >>> import numpy as np
    >>> import dbsn
    >>> noisy = np.random.default_rng(0).normal(120, 10, (128, 128)).astype(np.uint8)
    >>> found = dbsn.inspect(noisy)
    >>> print(f"{255 * found.levels[0]:.0f} of 255", found.suits)
    10 of 255 True
    """
    return inspect_noise(list(planes_of(image, axes, channel_axis)))


@cache
def _picker(device: str) -> ModelPicker:
    """The built-in models, each loaded once in a process."""
    return ModelPicker(None, device=device)
