"""PSNR and SSIM under a named protocol: arrays in, numbers out.

- float: the prediction is clamped to [0, 1] without rounding, as in the paper
- uint8: it is clamped and rounded to 8 bit
- affine: its gain and offset are first fitted to the truth (microscopy, where the two were stretched separately)

Tested in tests/unit/test_metrics.py.
"""

from typing import Literal

import numpy as np

Protocol = Literal["float", "uint8", "affine"]


def prepare(prediction: np.ndarray, truth: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Prepare a prediction (h, w, c) for comparison with the truth, both intensities."""
    if protocol == "affine":
        centred = prediction - prediction.mean()
        power = float((centred**2).mean())
        gain = float((centred * (truth - truth.mean())).mean()) / power if power > 0 else 0.0
        prediction = truth.mean() + gain * centred
    clamped = prediction.clip(0, 1)
    return np.rint(clamped * 255) / 255 if protocol == "uint8" else clamped


def psnr(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB, peak 1; infinite for equal images."""
    from skimage.metrics import peak_signal_noise_ratio  # loading takes longer than denoising most images

    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(truth, prediction, data_range=1.0))


def ssim(prediction: np.ndarray, truth: np.ndarray) -> float:
    """Structural similarity (Wang et al. 2004), mean of the channels.

    The Gaussian window has 1.5 pixels. The result is NaN for images smaller than the window, 11 pixels.
    """
    if min(truth.shape[:2]) < 11:
        return float("nan")
    from skimage.metrics import structural_similarity

    return float(
        structural_similarity(
            truth,
            prediction,
            data_range=1.0,
            channel_axis=-1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
