"""The HTML report of a run: pictures, noise, uncertainty check, training.

It is one file that needs neither server nor network. It is made from noisy images and the run folder; no clean image is
needed. Tested in tests/e2e/test_report.py.
"""

import base64
import io
import platform
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image as PillowImage

import dbsn.io
from dbsn.config import MODEL
from dbsn.denoiser import Denoiser
from dbsn.errors import ImageError
from dbsn.inference.blindspot import predict
from dbsn.inference.options import InferenceOptions
from dbsn.intensity import Unit, from_pixels, to_pixels
from dbsn.io.atomic import replacing
from dbsn.io.folders import find_images, printable
from dbsn.noise.inspection import inspect_noise
from dbsn.report.figures import Shown, noise_figure, surprise_figure, training_figure
from dbsn.store.model_file import load_model
from dbsn.training.run_config import saved_config
from dbsn.version import __version__

_PICTURES, _SIDE = 3, 512


def write_report(
    run: Path, output: Path, images: Sequence[Path] = (), *, device: str = "auto", trust: bool = False
) -> list[str]:
    """Write a run's report.

    Args:
        run: Folder of a run.
        output: The HTML file.
        images: Noisy images to show; by default three of the training images.
        device: Device to compute on.
        trust: See `Denoiser.load`.

    Returns:
        A line for each image that cannot be read.

    Raises:
        FileNotFoundError: `run` holds no training, its images are gone, or the folder of `output` does not exist.
        ValueError: matplotlib or Jinja is not installed, or no image can be read or has the model's channels.
    """
    asked = saved_config(run)
    if not output.parent.is_dir():
        raise FileNotFoundError(f"{output.parent}: no such folder to write {output.name} in. Create it first.")
    try:
        import jinja2
        import matplotlib  # noqa: F401 - figures are drawn with it
    except ImportError as error:
        raise ValueError("report: needs matplotlib and Jinja. Install them: pip install 'dbsn[plot]'") from error
    denoiser = Denoiser(load_model(run / MODEL, trust=trust), device=device)
    there = find_images(images) if images else [Path(file) for file in asked.files if Path(file).exists()]
    if not there:
        raise FileNotFoundError(f"{asked.files[0]}: gone since the training. Name noisy images with --images.")
    count = min(_PICTURES, len(there))
    shown, failures = list[Shown](), list[str]()
    for path in (there[i * len(there) // count] for i in range(count)):
        try:
            source = dbsn.io.open(path)
            picture = next(source.planes(1, asked.axes if source.is_array else None))
            shown.append(_show(denoiser, path.name, picture.samples))
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
    template = jinja2.Environment(loader=jinja2.PackageLoader("dbsn.report"), autoescape=True).get_template(
        "report.html"
    )
    page = template.render(
        run=run.resolve().name,
        images=f"{len(asked.files)} noisy files. The pictures below",
        verdict=verdict,
        facts=_facts(denoiser, shown[0].unit),
        method="the student" if denoiser.student else "posterior mean",
        pictures=[_pictures(picture) for picture in shown],
        noise=noise_figure(shown, inspection),
        calibration=surprise_figure(surprise),
        within=[100 * float((abs(found) < limit).mean()) for found in (surprise, plain) for limit in (1, 2)],
        training=training_figure(run),
        files=asked.files,
        clean=asked.clean,
        settings=asked.to_json(),
    )
    with replacing(output) as part:
        part.write_bytes(printable(page).encode())
    return failures


def _show(denoiser: Denoiser, name: str, image: np.ndarray) -> Shown:
    """Denoise the middle of an image, given as samples of its own data type."""
    top, left = (max(side - _SIDE, 0) // 2 for side in image.shape[:2])
    crop = to_pixels(image[top : top + _SIDE, left : left + _SIDE])
    estimate = denoiser.estimate(crop, extras=("mean", "noise_std", "blind_std"))
    denoised = denoiser.denoise(crop, method="posterior" if denoiser.saved.unmade else "auto")
    return Shown(name, Unit.of_samples(image), crop, denoised, estimate)


def _uncalibrated(denoiser: Denoiser, noisy: np.ndarray) -> np.ndarray:
    """`Shown.surprise` without the calibration on the image itself."""
    estimate = predict(
        denoiser.model,
        noisy,
        options=InferenceOptions(bf16=denoiser.bf16),
        calibrated=False,
        extras=("mean", "blind_std"),
    )
    assert estimate.mean is not None
    assert estimate.blind_std is not None
    return np.asarray((noisy - estimate.mean) / estimate.blind_std)


def _facts(denoiser: Denoiser, unit: Unit) -> dict[str, Any]:
    about, config = denoiser.about, denoiser.model.config
    facts = {
        "blind-spot network": f"{config.network.kind}, noise {config.noise}",
        "stride": f"learned at {config.stride} pixels, denoising at {config.denoising_stride}"
        if config.stride > 1
        else "",
        "student": denoiser.student.config.network.kind if denoiser.student else "none",
        "noise model": denoiser.saved.noise.describe(unit) if denoiser.saved.noise else "",
        "trained with": f"dbsn {about.get('version', '?')}",
        "reported with": f"dbsn {__version__}, torch {torch.__version__}, Python {platform.python_version()}",
    }
    return {name: value for name, value in facts.items() if value}


def _pictures(shown: Shown) -> dict[str, Any]:
    low, high = np.quantile(shown.noisy, [0.002, 0.998])
    panels = {"before": shown.noisy, "after": shown.denoised}
    framed = {name: (image - low) / max(high - low, 1e-12) for name, image in panels.items()}
    framed["residual"] = (shown.residual.mean(2, keepdims=True) * shown.residual.shape[2] ** 0.5 + 3) / 6
    level = shown.unit.number(shown.estimate.noise_level) + shown.unit.of
    return {"name": shown.name, "level": level} | {name: _png(image) for name, image in framed.items()}


def _png(image: np.ndarray) -> str:
    """Convert an image (h, w, c), 0 to 1, to a data URL of a PNG."""
    file, pixels = io.BytesIO(), from_pixels(image.clip(0, 1), np.dtype(np.uint8))
    PillowImage.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0]).save(file, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
