"""A run told in one HTML file that needs neither server nor network: pictures, noise, promises, training.

Everything in it is found from noisy images and the run's folder; no clean image is asked for. Tested in
tests/e2e/test_report.py.
"""

import base64
import csv
import io
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

from dbsn import __version__
from dbsn.atomic import replacing
from dbsn.checkpoint import MODEL
from dbsn.correlation import REACH, autocorrelation
from dbsn.denoiser import Denoiser
from dbsn.images import find_images, read_planes
from dbsn.infer import Prediction, predict
from dbsn.inspection import LAGS, Inspection, inspect_noise
from dbsn.patches import as_tensor
from dbsn.picture import ImageError, Unit, from_pixels, to_pixels
from dbsn.pipeline import STUDENT
from dbsn.record import METRICS
from dbsn.runs import saved_config
from dbsn.screen import printable
from dbsn.zarrs import is_zarr

_PICTURES, _SIDE = 3, 512
_BINS = 24
_COLOURS = ("tab:red", "tab:green", "tab:blue")


@dataclass(frozen=True)
class _Shown:
    """One noisy picture (h, w, c), intensities, and what the model makes of it."""

    name: str
    unit: Unit
    """The numbers that its intensities are known by."""
    noisy: np.ndarray
    denoised: np.ndarray
    estimate: Prediction

    @property
    def residual(self) -> np.ndarray:
        """What was taken out, in standard deviations of the noise."""
        assert self.estimate.noise_std is not None
        return np.asarray((self.noisy - self.denoised) / self.estimate.noise_std)

    @property
    def surprise(self) -> np.ndarray:
        """Distance of each pixel from its blind prediction, in promised standard deviations."""
        assert self.estimate.blind_std is not None
        return np.asarray((self.noisy - self.estimate.mean) / self.estimate.blind_std)


def write_report(run: Path, output: Path, images: Sequence[Path] = (), *, device: str = "auto") -> list[str]:
    """Write a run's report.

    Args:
        run: Folder of a training.
        output: The HTML file.
        images: Noisy images to show; by default three that were learned from.
        device: Where to compute.

    Returns:
        A line for each image that cannot be read.

    Raises:
        FileNotFoundError: `run` holds no training, none of its images is where it was, or `output` is in no folder.
        ValueError: matplotlib or Jinja is not installed, or no image can be read or is of the model's kind.
    """
    asked = saved_config(run)
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder to write {output.name} in; create it first")
    try:
        import jinja2
        import matplotlib  # noqa: F401 - figures are drawn with it
    except ImportError as error:
        raise ValueError("a report needs matplotlib and Jinja: pip install 'dbsn[plot]'") from error
    denoiser = Denoiser.load(run / MODEL, device=device)
    there = find_images(images) if images else [Path(file) for file in asked.files if Path(file).exists()]
    if not there:
        raise FileNotFoundError(f"{asked.files[0]}: gone since the training; name noisy images with --images")
    count = min(_PICTURES, len(there))
    shown, failures = list[_Shown](), list[str]()
    for path in (there[i * len(there) // count] for i in range(count)):
        try:
            axes = asked.axes if is_zarr(path) else None
            shown.append(_show(denoiser, path.name, next(read_planes(path, 1, axes)).samples))
        except ImageError as error:
            failures.append(str(error))
    if not shown:
        raise ImageError("; ".join(failures))
    try:
        inspection = replace(inspect_noise([picture.noisy for picture in shown]), unit=shown[0].unit)
        verdict = inspection.verdict
    except ValueError as error:
        inspection, verdict = None, str(error)
    surprise = np.concatenate([picture.surprise.ravel() for picture in shown])
    plain = np.concatenate([_uncalibrated(denoiser, picture.noisy).ravel() for picture in shown])
    template = jinja2.Environment(loader=jinja2.PackageLoader("dbsn"), autoescape=True).get_template("report.html")
    page = template.render(
        run=run.resolve().name,
        images=f"{len(asked.files)} noisy files; of the pictures below",
        verdict=verdict,
        facts=_facts(denoiser, shown[0].unit),
        method="the student" if denoiser.student else "posterior mean",
        pictures=[_pictures(picture) for picture in shown],
        noise=_noise_figure(shown, inspection),
        calibration=_surprise_figure(surprise),
        within=[100 * float((abs(found) < limit).mean()) for found in (surprise, plain) for limit in (1, 2)],
        training=_training_figure(run),
        files=asked.files,
        clean=asked.clean,
        settings=asked.to_json(),
    )
    with replacing(output) as part:
        part.write_bytes(printable(page).encode())
    return failures


def _show(denoiser: Denoiser, name: str, image: np.ndarray) -> _Shown:
    """The middle of an image, samples of its own kind, and what becomes of it."""
    top, left = (max(side - _SIDE, 0) // 2 for side in image.shape[:2])
    crop = to_pixels(image[top : top + _SIDE, left : left + _SIDE])
    estimate = denoiser.estimate(crop, extras=("mean", "noise_std", "blind_std"))
    denoised = denoiser.denoise(crop, method="posterior" if denoiser.saved.unmade else "auto")
    return _Shown(name, Unit.of_samples(image), crop, denoised, estimate)


def _uncalibrated(denoiser: Denoiser, noisy: np.ndarray) -> np.ndarray:
    """`_Shown.surprise` as it was before the image's own pixels corrected it."""
    told = predict(denoiser.model, noisy, bf16=denoiser.bf16, calibrated=False, extras=("mean", "blind_std"))
    assert told.mean is not None
    assert told.blind_std is not None
    return np.asarray((noisy - told.mean) / told.blind_std)


def _facts(denoiser: Denoiser, unit: Unit) -> dict[str, Any]:
    about, config = denoiser.about, denoiser.model.config
    facts = {
        "blind-spot network": f"{config.network.kind}, noise {config.noise}",
        "stride": f"learned at {config.stride} pixels, denoising at {config.denoising_stride}"
        if config.stride > 1
        else "",
        "student": denoiser.student.config.network.kind if denoiser.student else "none",
        "noise model": denoiser.saved.noise.told(unit) if denoiser.saved.noise else "",
        "trained with": f"dbsn {about.get('version', '?')}",
        "reported with": f"dbsn {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    return {name: value for name, value in facts.items() if value}


def _pictures(shown: _Shown) -> dict[str, Any]:
    low, high = np.quantile(shown.noisy, [0.002, 0.998])
    panels = {"before": shown.noisy, "after": shown.denoised}
    framed = {name: (image - low) / max(high - low, 1e-12) for name, image in panels.items()}
    framed["residual"] = (shown.residual.mean(2, keepdims=True) * shown.residual.shape[2] ** 0.5 + 3) / 6
    level = shown.unit.number(shown.estimate.noise_level) + shown.unit.of
    return {"name": shown.name, "level": level} | {name: _png(image) for name, image in framed.items()}


def _png(image: np.ndarray) -> str:
    """An image (h, w, c), 0 to 1, as an address that holds it."""
    file, pixels = io.BytesIO(), from_pixels(image.clip(0, 1), np.dtype(np.uint8))
    PillowImage.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


def _svg(figure: Any) -> str:
    """A matplotlib figure as an element of a page."""
    text = io.StringIO()
    figure.savefig(text, format="svg")
    return text.getvalue()[text.getvalue().index("<svg") :]


def _noise_figure(shown: Sequence[_Shown], inspection: Inspection | None) -> str:
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
        figure.colorbar(_heat_map(after, removed[:LAGS], "in what was taken out"), ax=after, shrink=0.8)
    return _svg(figure)


def _heat_map(axes: Any, alike: np.ndarray, title: str) -> Any:
    half = alike.shape[1] / 2
    axes.set(xlabel="pixels across", ylabel="pixels down", title=title)
    return axes.imshow(alike, vmin=-1, vmax=1, cmap="RdBu_r", extent=(-half, half, alike.shape[0] - 0.5, -0.5))


def _colours(image: np.ndarray) -> Sequence[str]:
    return _COLOURS if image.shape[2] == 3 else ("black",)


def _curve(intensity: np.ndarray, std: np.ndarray) -> np.ndarray:
    """Mean intensity and noise level of bins of like intensity, (2, bins)."""
    bins = np.array_split(intensity.argsort(), _BINS)
    means = [(intensity[part].mean(), np.sqrt((std[part] ** 2).mean())) for part in bins if len(part)]
    return np.array(means).T


def _surprise_figure(surprise: np.ndarray) -> str:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 3), layout="constrained")
    axes, edges = figure.subplots(), np.linspace(-4, 4, 81)
    weights = np.full(surprise.size, 10 / surprise.size)  # a density: bins are a tenth wide
    axes.hist(surprise, edges.tolist(), weights=weights, color="lightsteelblue", label="pixels")
    axes.plot(edges, np.exp(-(edges**2) / 2) / np.sqrt(2 * np.pi), color="black", linewidth=1, label="Gaussian")
    axes.set(xlabel="standard deviations", xlim=(-4, 4), yticks=[])
    axes.legend(frameon=False)
    return _svg(figure)


def _training_figure(run: Path) -> str:
    """Held-out figure against the step, of each stage that there is."""
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
            room = 0.3 * (settled[-1] - settled[0]) + 1e-3  # the first steps are off every scale
            axes.set_ylim(settled[0] - room, settled[-1] + room)
        axes.set(title=title, xlabel="step", ylabel="held-out figure")
    return _svg(figure)


def _rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))
