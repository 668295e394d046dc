"""How a whole image goes through a model: one value that travels from the command line to the tiles.

Tested in tests/property/test_tiles.py and tests/property/test_ensemble.py. Which model it is does not belong here.
"""

from dataclasses import dataclass

from dbsn.inference.tiles import DEFAULT_TILE


@dataclass(frozen=True, kw_only=True)
class InferenceOptions:
    """How a whole image goes through a model."""

    tile: int = DEFAULT_TILE
    """Side of a tile; smaller needs less memory, 0 takes the image whole. Results do not depend on it."""
    ensemble: bool = False
    """Average over the image's eight orientations: better, and eight times as slow."""
    bf16: bool = False
    """Convolve in bfloat16."""
    level_factor: float = 1.0
    """A guided student is told so many times the noise level that was measured."""


USUAL = InferenceOptions()
