"""Learn to denoise from noisy images alone.

The method is that of Wu et al., "Unpaired Learning of Deep Image Denoising", ECCV 2020.
`Denoiser` is the whole Python interface. It is imported on first use, so `import dbsn` does not load torch.
"""

from typing import TYPE_CHECKING, Any

from dbsn.version import __version__

if TYPE_CHECKING:
    from dbsn.denoiser import Denoiser

__all__ = ["Denoiser", "__version__"]


def __getattr__(name: str) -> Any:
    if name == "Denoiser":
        from dbsn.denoiser import Denoiser

        return Denoiser
    raise AttributeError(f"module 'dbsn' has no attribute {name!r}")
