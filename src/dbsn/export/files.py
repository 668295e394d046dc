"""Write a student for another program, and check that it computes the same there.

The kind of file follows from its suffix, see KINDS. Tested in tests/unit/test_export.py.
"""

import contextlib
import io
import json
import logging
import re
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image

from dbsn.export.graph import DENOISED, LEAST_SIDE, NOISY, StudentGraph
from dbsn.io.atomic import replacing
from dbsn.models.student import Student
from dbsn.version import __version__

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 17
_TRACED = 18  # what PyTorch's exporter writes; the operators in use are the same in 17
_AXES = ("batch", "height", "width")  # as darktable names them
_DOI = "10.1007/978-3-030-58548-8_21"
_HALO = 32  # pixels at the borders of a tile that other tiles show
_TOLERANCE = 1e-4  # intensity
_SAMPLE = (2, 125, 157)  # images, height, width: no multiple of any cell
SIZES = ((1, 64, 64), (1, 67, 101), (2, 128, 160), (1, 250, 333), (1, 96, 700))
"""Images, height and width on which a file is compared with the student."""
_DARKTABLE_TILES = [2048, 1536, 1024, 768, 512, 256]


@dataclass(frozen=True, kw_only=True)
class About:
    """What a file says of its model."""

    name: str
    """Name of the model, without spaces."""
    purpose: str
    """In one sentence."""
    data: str = ""
    """Its training data."""
    terms: str = ""
    """Licences."""


def export(student: Student, path: Path, about: About) -> float:
    """Write a student as a file whose suffix is one of KINDS.

    Args:
        student: Any student of dbsn; it is moved to the CPU.
        path: The file. It is replaced.
        about: For formats that describe their models.

    Returns:
        Largest difference to the student over SIZES, intensity.

    Raises:
        ValueError: The suffix is unknown, an extra is missing, the network cannot be exported, or the file computes
            something else.
    """
    kind = KINDS.get(path.suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: unknown suffix (expected {', '.join(KINDS)}). Name one of these.")
    student = student.float().cpu().eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing(path) as unfinished:
        run = kind(student, unfinished, about)
        difference = max(_differences(student, run))
        if difference > _TOLERANCE:
            raise ValueError(f"{path}: computes something else (by {difference:.1e} of 1). Report this, please.")
    return difference


Run = Callable[[np.ndarray], np.ndarray]
"""Applies a written file to images (b, c, h, w)."""


def _noisy_images(channels: int, sizes: Sequence[tuple[int, int, int]]) -> Iterator[np.ndarray]:
    """Flat images (b, c, h, w) with noise, intensities."""
    generator = np.random.default_rng(0)
    for count, height, width in sizes:
        means = generator.uniform(0.2, 0.7, (count, channels, 1, 1))
        yield (means + generator.normal(0, 0.1, (count, channels, height, width))).clip(0, 1).astype(np.float32)


def _differences(student: Student, run: Run) -> Iterator[float]:
    for noisy in _noisy_images(student.config.channels, SIZES):
        with torch.inference_mode():
            expected = student(torch.from_numpy(noisy)).numpy()
        yield float(np.abs(run(noisy) - expected).max())


def _program(student: Student, channels: int) -> torch.export.ExportedProgram:
    """The student as a program for images of any size."""
    count, height, width = _SAMPLE
    least = (1, LEAST_SIDE, LEAST_SIDE)
    batch, down, across = (torch.export.Dim(name, min=smallest) for name, smallest in zip(_AXES, least, strict=True))
    sizes = {0: batch, 2: down, 3: across}
    graph = StudentGraph(student, channels=channels).eval()
    try:
        with _silent(), torch.no_grad():
            return torch.export.export(
                graph,
                (torch.rand(count, channels, height, width),),
                dynamic_shapes={"noisy": sizes},
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except Exception as error:  # a network of the user's own may do anything
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(f"student: cannot be exported ({reason}). Export a student of dbsn's own networks.") from error


def _to_torchscript(student: Student, path: Path, about: About) -> Run:
    del about
    graph = StudentGraph(student, channels=student.config.channels).eval()
    with _silent(), torch.inference_mode():
        traced = torch.jit.trace(
            graph, torch.rand(_SAMPLE[0], student.config.channels, *_SAMPLE[1:]), check_trace=False
        )
        torch.jit.save(traced, str(path))

    def run(noisy: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return np.asarray(traced(torch.from_numpy(noisy)))

    return run


def _to_onnx(student: Student, path: Path, about: About) -> Run:
    content = _onnx(student, student.config.channels, about)
    path.write_bytes(content)
    return _runtime(content)


def _to_darktable(student: Student, path: Path, about: About) -> Run:
    """A zip with a folder of the model's name, which holds config.json and model.onnx."""
    content = _onnx(student, 3, about)
    name = re.sub(r"[^a-z0-9-]+", "-", f"dbsn-{about.name}".lower()).strip("-")
    config = {
        "id": name,
        "name": f"dbsn {about.name}",
        "description": about.purpose,
        "task": "denoise",
        "backend": "onnx",
        "version": __version__,
        "arch": "dbsn-student",
        "num_inputs": 1,
        "spatial_dims": ["height", "width"],
        "attributes": {"input_sizes": _DARKTABLE_TILES},
        "model_card": {
            "author": "dbsn",
            "paper": "Unpaired Learning of Deep Image Denoising (Wu et al., ECCV 2020)",
            "license": "Apache-2.0",
            "training_data": about.data,
            "training_data_license": about.terms,
        },
    }
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(f"{name}/config.json", json.dumps(config, indent=2))
        archive.writestr(f"{name}/model.onnx", content)
    runtime = _runtime(content)
    channels = student.config.channels
    return runtime if channels == 3 else lambda noisy: runtime(np.repeat(noisy, 3, 1))[:, :1]


def _to_bioimage(student: Student, path: Path, about: About) -> Run:
    """A zip with rdf.yaml (format 0.5), the ONNX file, a pair of test images, a cover and a README."""
    content, channels = _onnx(student, student.config.channels, about), student.config.channels
    run = _runtime(content)
    noisy = next(_noisy_images(channels, [(1, 256, 256)]))
    denoised = run(noisy)
    described: dict[str, Any] = {
        "type": "model",
        "format_version": "0.5.4",
        "name": f"dbsn {about.name}",
        "description": about.purpose,
        "authors": [{"name": "dbsn"}],
        "cite": [{"text": "Unpaired Learning of Deep Image Denoising (Wu et al., ECCV 2020)", "doi": _DOI}],
        "license": "Apache-2.0",
        "documentation": "README.md",
        "covers": ["cover.png"],
        "tags": ["denoising", "dbsn"],
        "version": __version__,
        "inputs": [_tensor(NOISY, "noisy.npy", channels, like=None)],
        "outputs": [_tensor(DENOISED, "denoised.npy", channels, like=NOISY)],
        "weights": {"onnx": {"source": "model.onnx", "opset_version": OPSET}},
    }
    cover = np.concatenate([noisy[0], denoised[0]], 2).clip(0, 1).transpose(1, 2, 0)
    readme = f"# dbsn {about.name}\n\n{about.purpose}\n\nTrained on: {about.data or 'images of its owner'}.\n"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("rdf.yaml", json.dumps(described, indent=2))  # JSON is YAML
        archive.writestr("model.onnx", content)
        archive.writestr("README.md", f"{readme}\n## Validation\n\nCompare results with your own clean images.\n")
        for name, array in (("noisy.npy", noisy), ("denoised.npy", denoised)):
            archive.writestr(name, _bytes_of(partial(np.save, arr=array)))
        picture = Image.fromarray(np.round(cover * 255).astype(np.uint8).squeeze())
        archive.writestr("cover.png", _bytes_of(lambda file: picture.save(file, "PNG")))
    return run


def _tensor(name: str, test: str, channels: int, *, like: str | None) -> dict[str, Any]:
    """The description of one tensor; the output's sides are those of the input `like`."""

    def side(axis: str) -> dict[str, Any]:
        size = {"tensor_id": like, "axis_id": axis} if like else {"min": 96, "step": 1}
        return {"type": "space", "id": axis, "size": size} | ({"halo": _HALO} if like else {})

    names = ["gray"] if channels == 1 else ["red", "green", "blue"][:channels]
    axes = [{"type": "batch"}, {"type": "channel", "channel_names": names}, side("y"), side("x")]
    return {"id": name, "axes": axes, "test_tensor": {"source": test}, "data": {"type": "float32"}}


def _bytes_of(write: Callable[[io.BytesIO], object]) -> bytes:
    file = io.BytesIO()
    write(file)
    return file.getvalue()


def _onnx(student: Student, channels: int, about: About) -> bytes:
    """The bytes of an ONNX file."""
    onnx = _needed("onnx")
    _needed("onnxscript")
    program = _program(student, channels)
    with _silent(), tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "model.onnx"
        torch.onnx.export(
            program, f=place, input_names=[NOISY], output_names=[DENOISED], opset_version=_TRACED,
            external_data=False, dynamo=True,
        )  # fmt: skip
        model = onnx.load(place)
    model = _with_named_axes(_in_opset_17(model))
    model.producer_name, model.producer_version, model.doc_string = "dbsn", __version__, about.purpose
    model.metadata_props.clear()
    onnx.helper.set_model_props(model, {"name": about.name, "training data": about.data, "terms": about.terms})
    return bytes(model.SerializeToString())


def _with_named_axes(model: "ModelProto") -> "ModelProto":
    """The same model, whose input and output name their axes; other shapes are left to the program that runs it."""
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        for axis, name in zip(value.type.tensor_type.shape.dim, (*_AXES[:1], "", *_AXES[1:]), strict=True):
            if name:
                axis.dim_param = name
    return model


def _in_opset_17(model: "ModelProto") -> "ModelProto":
    """The same model in opset 17, with operators that both versions have."""
    onnx = _needed("onnx")
    for node in model.graph.node:
        for attribute in [each for each in node.attribute if each.name == "noop_with_empty_axes" and not each.i]:
            node.attribute.remove(attribute)  # new in 18, and 0 is what 17 does
        del node.metadata_props[:]
    converted = onnx.version_converter.convert_version(model, OPSET)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def _runtime(content: bytes) -> Run:
    runtime = _needed("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    session = runtime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda noisy: np.asarray(session.run([DENOISED], {NOISY: noisy})[0])


def _needed(package: str) -> Any:
    """An optional package.

    Raises:
        ValueError: It is not installed.
    """
    import importlib

    try:
        module = importlib.import_module(package)
        for part in ("version_converter", "checker", "helper") if package == "onnx" else ():
            importlib.import_module(f"onnx.{part}")
    except ImportError:
        raise ValueError(f"{package}: not installed. Install the extra: pip install 'dbsn[export]'.") from None
    return module


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """Without what PyTorch's exporter prints and logs."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    before = [each.level for each in loggers]
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            for each in loggers:
                each.setLevel(logging.ERROR)
            yield
        finally:
            for each, level in zip(loggers, before, strict=True):
                each.setLevel(level)


KINDS: dict[str, Callable[[Student, Path, About], Run]] = {
    ".onnx": _to_onnx,
    ".dtmodel": _to_darktable,
    ".pt": _to_torchscript,
    ".zip": _to_bioimage,
}
"""Writers by suffix: ONNX, darktable, TorchScript, BioImage.IO."""


def kinds() -> Sequence[str]:
    """The suffixes that can be written."""
    return list(KINDS)
