"""Learn to denoise from noisy images alone.

The method is that of Wu et al., "Unpaired Learning of Deep Image Denoising", ECCV 2020.
`denoise` denoises an image with a built-in model, `inspect` measures its noise. `Denoiser` is everything else. All are
imported on first use, so `import dbsn` does not load torch.
"""

from typing import TYPE_CHECKING, Any

from dbsn.version import __version__

if TYPE_CHECKING:
    from dbsn.api import denoise, inspect
    from dbsn.denoiser import Denoiser

__all__ = ["Denoiser", "__version__", "denoise", "inspect"]


def __getattr__(name: str) -> Any:
    if name == "Denoiser":
        from dbsn.denoiser import Denoiser

        return Denoiser
    if name in ("denoise", "inspect"):
        from dbsn import api

        return getattr(api, name)
    raise AttributeError(f"module 'dbsn' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
