"""The figures of a report and of `dbsn inspect`, drawn with matplotlib.

Tested in tests/e2e/test_report.py.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dbsn.inference.blindspot import Prediction
from dbsn.intensity import Unit
from dbsn.noise.correlation import REACH, autocorrelation
from dbsn.noise.inspection import LAGS, Inspection
from dbsn.tensors import as_tensor
from dbsn.training.run_log import METRICS
from dbsn.training.stages import STUDENT

_BINS = 24
_COLOURS = ("tab:red", "tab:green", "tab:blue")


@dataclass(frozen=True)
class Shown:
    """One noisy picture (h, w, c), intensities, and the model's results for it."""

    name: str
    unit: Unit
    """Unit of its intensities."""
    noisy: np.ndarray
    denoised: np.ndarray
    estimate: Prediction

    @property
    def residual(self) -> np.ndarray:
        """The removed noise, in standard deviations of the noise."""
        assert self.estimate.noise_std is not None
        return np.asarray((self.noisy - self.denoised) / self.estimate.noise_std)

    @property
    def surprise(self) -> np.ndarray:
        """Noisy pixel minus blind mean, in predicted standard deviations."""
        assert self.estimate.blind_std is not None
        return np.asarray((self.noisy - self.estimate.mean) / self.estimate.blind_std)


def _svg(figure: Any) -> str:
    """Convert a matplotlib figure to an SVG element of a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def noise_figure(shown: Sequence[Shown], inspection: Inspection | None) -> str:
    """Noise level at each intensity, and correlation before and after denoising.

    The result is an SVG element of a page.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    levels, before, after = figure.subplots(1, 3, width_ratios=(4, 3, 3))
    for picture in shown:
        assert picture.estimate.mean is not None
        assert picture.estimate.noise_std is not None
        maps = zip(picture.estimate.mean.T, picture.estimate.noise_std.T, _colours(picture.noisy), strict=False)
        for mean, std, colour in maps:
            levels.plot(*(shown[0].unit.one * _curve(mean.ravel(), std.ravel())), color=colour, linewidth=1.2)
    for image in inspection.images if inspection else ():
        for curve, colour in zip(image.curve, _COLOURS if len(image.curve) == 3 else ("black",), strict=False):
            levels.plot(*(shown[0].unit.one * curve.T), ".", color=colour)
    of = shown[0].unit.of
    levels.set(xlabel=f"intensity{of}", ylabel=f"noise level{of}", ylim=(0, None))
    if inspection:
        _heat_map(before, inspection.autocorrelation, "in the noisy pictures")
    found = [
        alike for alike in (autocorrelation(as_tensor(picture.residual)) for picture in shown) if alike is not None
    ]
    if found:
        removed = torch.stack(found).mean(0)[REACH:, 1:-1].numpy()
        figure.colorbar(_heat_map(after, removed[:LAGS], "in the removed noise"), ax=after, shrink=0.8)
    return _svg(figure)


def _heat_map(axes: Any, alike: np.ndarray, title: str) -> Any:
    half = alike.shape[1] / 2
    axes.set(xlabel="pixels across", ylabel="pixels down", title=title)
    return axes.imshow(alike, vmin=-1, vmax=1, cmap="RdBu_r", extent=(-half, half, alike.shape[0] - 0.5, -0.5))


def _colours(image: np.ndarray) -> Sequence[str]:
    return _COLOURS if image.shape[2] == 3 else ("black",)


def _curve(intensity: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Mean intensity and noise level of bins of similar intensity, (2, bins)."""
    bins = np.array_split(intensity.argsort(), _BINS)
    means = [(intensity[part].mean(), np.sqrt((std[part] ** 2).mean())) for part in bins if len(part)]
    return np.array(means).T


def surprise_figure(surprise: np.ndarray) -> str:
    """Histogram of `Shown.surprise` beside a Gaussian."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes, edges = figure.subplots(), np.linspace(-4, 4, 81)
    weights = np.full(surprise.size, 10 / surprise.size)  # a density: bins are a tenth wide
    axes.hist(surprise, edges.tolist(), weights=weights, color="lightsteelblue", label="pixels")
    axes.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1, label="Gaussian")
    axes.set(xlabel="standard deviations", xlim=(-4, 4), yticks=[])
    axes.legend(frameon=False)
    return _svg(figure)


def training_figure(run: Path) -> str:
    """Held-out figure over the steps, for each stage of the run."""
    from matplotlib.figure import Figure

    stages = {"stage 1: blind-spot network": run / METRICS, "stage 2: student": run / STUDENT / METRICS}
    found = {title: _rows(path) for title, path in stages.items() if path.is_file()}
    count = max(len(found), 1)
    figure = Figure(figsize=(5.5 * count, 3), layout="constrained")
    for axes, (title, rows) in zip(figure.subplots(1, count, squeeze=False)[0], found.items(), strict=False):
        held_out = [(int(row["step"]), float(row["validation"])) for row in rows if row.get("validation")]
        if held_out:
            axes.plot(*zip(*held_out, strict=True), ".-", color="tab:blue")
            settled = sorted(value for _, value in held_out)[: -1 if len(held_out) > 2 else None]
            room = 0.3 * (settled[-1] - settled[0]) + 1e-3  # the first figures are far outside
            axes.set_ylim(settled[0] - room, settled[-1] + room)
        axes.set(title=title, xlabel="step", ylabel="held-out figure")
    return _svg(figure)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def draw_noise(inspection: Inspection, path: Path) -> None:
    """Write a picture of the noise.

    It shows the level at each intensity of each image, and the autocorrelation.

    Raises:
        ValueError: matplotlib is not installed, or does not know the format.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("--picture: needs matplotlib. Install it: pip install 'dbsn[plot]'") from error
    figure = Figure(figsize=(9, 4), layout="constrained")
    levels, neighbours = figure.subplots(1, 2, width_ratios=(3, 2))
    colours = ("tab:red", "tab:green", "tab:blue") if len(inspection.channel_correlation) == 3 else ("black",)
    for image in inspection.images:
        for curve, colour in zip(image.curve, colours * len(image.curve), strict=False):
            levels.plot(
                *(inspection.unit.one * curve.T), color=colour, alpha=max(0.15, 1 / len(inspection.images)), linewidth=1
            )
    of = inspection.unit.of
    levels.set(xlabel=f"intensity{of}", ylabel=f"noise level{of}", ylim=(0, None))
    shown = neighbours.imshow(inspection.autocorrelation, vmin=-1, vmax=1, cmap="RdBu_r", extent=(-5.5, 5.5, 5.5, -0.5))
    neighbours.set(xlabel="pixels across", ylabel="pixels down", title="correlation of the noise")
    figure.colorbar(shown, ax=neighbours, shrink=0.8)
    figure.savefig(path, dpi=120)
