"""Options of inference, passed as one value from the command line to the tiles.

Tested in tests/property/test_tiles.py and tests/property/test_ensemble.py. The model itself does not belong here.
"""

from collections.abc import Callable
from dataclasses import dataclass

from dbsn.inference.tiles import DEFAULT_TILE


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a model is applied to a whole image."""

    tile: int = DEFAULT_TILE
    """Side of a tile in pixels; 0 takes the whole image.

    Smaller tiles need less memory. Results do not depend on it.
    """
    ensemble: bool = False
    """Average over the eight orientations: better, and eight times as slow."""
    bf16: bool = False
    """Convolve in bfloat16."""
    level_factor: float = 1.0
    """Factor on the measured noise level that is given to a guided student."""
    stride: int | None = None
    """Denoise separately the images made of every `stride`-th pixel. None is a blind-spot model's denoising stride."""
    repair_outliers: bool = False
    """Replace isolated outliers (hot pixels, salt and pepper) before denoising; by default they stay as they are."""
    on_outliers: Callable[[int], None] | None = None
    """Called with the number of pixels that are isolated outliers, part by part."""


USUAL = InferenceOptions()
