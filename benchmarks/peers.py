"""Other denoisers for comparison in `quality.py` and `speed.py`; each is given the true noise level.

BM3D (PyPI `bm3d`, non-commercial) and OpenCV are needed for these comparisons only:
pip install bm3d opencv-python-headless.
"""

from collections.abc import Callable

import numpy as np
from skimage.restoration import denoise_nl_means, denoise_tv_chambolle, denoise_wavelet

Denoise = Callable[[np.ndarray, float], np.ndarray]
"""From a noisy image (h, w, c), intensities, and the noise's standard deviation, root mean square."""


def bm3d(noisy: np.ndarray, std: float) -> np.ndarray:
    import bm3d as package

    result = package.bm3d(noisy[..., 0], std) if noisy.shape[2] == 1 else package.bm3d_rgb(noisy, std)
    return np.asarray(result, np.float32).reshape(noisy.shape)


def nl_means(noisy: np.ndarray, std: float) -> np.ndarray:
    image, axis = (noisy, -1) if noisy.shape[2] > 1 else (noisy[..., 0], None)
    result = denoise_nl_means(image, 5, 6, h=0.6 * std, sigma=std, fast_mode=True, channel_axis=axis)
    return np.asarray(result, np.float32).reshape(noisy.shape)


def wavelet(noisy: np.ndarray, std: float) -> np.ndarray:
    image, axis = (noisy, -1) if noisy.shape[2] > 1 else (noisy[..., 0], None)
    result = denoise_wavelet(image, sigma=std, rescale_sigma=False, channel_axis=axis, convert2ycbcr=axis is not None)
    return np.asarray(result, np.float32).reshape(noisy.shape)


def total_variation(noisy: np.ndarray, std: float) -> np.ndarray:
    result = denoise_tv_chambolle(noisy, weight=std, channel_axis=-1)
    return np.asarray(result, np.float32).reshape(noisy.shape)


def opencv(noisy: np.ndarray, std: float) -> np.ndarray:
    import cv2

    image = np.rint(255 * noisy.clip(0, 1)).astype(np.uint8)
    if noisy.shape[2] == 1:
        result = cv2.fastNlMeansDenoising(image[..., 0], None, float(255 * std), 7, 21)
    else:
        level, backwards = float(255 * std), np.ascontiguousarray(image[..., ::-1])  # it takes blue first
        result = cv2.fastNlMeansDenoisingColored(backwards, None, level, level, 7, 21)[..., ::-1]
    return (result / np.float32(255)).reshape(noisy.shape)


PEERS: dict[str, Denoise] = {
    "BM3D": bm3d,
    "non-local means": nl_means,
    "wavelet": wavelet,
    "total variation": total_variation,
    "OpenCV": opencv,
}
