"""Exported files, run by the programs they are for, against the student itself.

They are made in a process of its own: PyTorch's exporter passes sizes that the type checks of the tests refuse.
"""

import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from dbsn.config import STUDENTS, StudentConfig, UNetConfig
from dbsn.export import files
from dbsn.export.files import About, export
from dbsn.models.student import Student
from dbsn.store.model_file import ModelFile, save_model

ABOUT = About(name="My Model 2", purpose="For tests.", data="nothing", terms="CC0")
SMALL = UNetConfig(widths=(8, 16), blocks=(1, 1), guided=True)
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


def student(channels: int = 1, network: UNetConfig = SMALL) -> Student:
    torch.manual_seed(0)
    made = Student(StudentConfig(channels=channels, network=network)).eval()
    for parameter in made.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return made


def noisy(channels: int, height: int, width: int, count: int = 1) -> np.ndarray:
    generator = np.random.default_rng(height)
    return generator.normal(0.5, 0.1, (count, channels, height, width)).clip(0, 1).astype(np.float32)


NETWORKS = {
    "gray": (1, UNetConfig(widths=(8, 16, 16), blocks=(1, 1, 1), guided=True)),
    "colour": (3, UNetConfig(widths=(8, 16, 16), blocks=(1, 1, 1), guided=True)),
    "unguided": (3, UNetConfig(widths=(8, 16, 16), blocks=(1, 1, 1))),
    "small": (1, SMALL),
}
WANTED = ("gray.onnx", "colour.onnx", "unguided.onnx", "small.onnx", "small.dtmodel", "colour.pt", "gray.zip")
CODE = """
import sys
from pathlib import Path
from dbsn.export.files import About, export
from dbsn.store.model_file import load_model
about = About(name="My Model 2", purpose="For tests.", data="nothing", terms="CC0")
for name in sys.argv[2:]:
    path = Path(sys.argv[1]) / name
    export(load_model(path.with_suffix(".safetensors")).student, path, about)
"""


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    for name, (channels, network) in NETWORKS.items():
        save_model(folder / f"{name}.safetensors", ModelFile(student=student(channels, network)))
    subprocess.run([sys.executable, "-c", CODE, str(folder), *WANTED], check=True, timeout=300)
    return folder


@pytest.mark.parametrize("name", ["gray", "colour", "unguided"])
def test_onnx_computes_the_same_at_any_size_in_opset_17(exported: Path, name: str) -> None:
    channels, network = NETWORKS[name]
    model, path = student(channels, network), exported / f"{name}.onnx"
    loaded = onnx.load(path)
    assert [(each.domain, each.version) for each in loaded.opset_import] == [("", 17)]
    assert loaded.producer_name == "dbsn"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for size in ((16, 16), (31, 95), (64, 200), (257, 66), (300, 300)):
        image = noisy(channels, *size, count=2)
        with torch.inference_mode():
            expected = model(torch.from_numpy(image)).numpy()
        [result] = session.run(["output"], {"input": image})
        np.testing.assert_allclose(result, expected, atol=1e-4)
        assert abs(expected - image).max() > 0.01, "a network that does nothing shows nothing"


def test_the_level_is_measured_in_the_graph(exported: Path) -> None:
    model, path = student(), exported / "small.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    image = noisy(1, 96, 96)
    louder = (0.5 + 2 * (image - 0.5)).astype(np.float32)
    for each in (image, louder):
        level = model.level(torch.from_numpy(each))
        with torch.inference_mode():
            assert level is not None
            expected, other = model(torch.from_numpy(each), level).numpy(), model(torch.from_numpy(each), 2 * level)
        [result] = session.run(["output"], {"input": each})
        np.testing.assert_allclose(result, expected, atol=1e-4)
        assert abs(other.numpy() - expected).max() > 1e-3


def test_a_darktable_package_is_read_as_darktable_reads_it(exported: Path) -> None:
    """First entry's folder, config.json, names and dynamic axes; a tile of each size, clamped and mirrored."""
    model, path = student(), exported / "small.dtmodel"
    with zipfile.ZipFile(path) as archive:
        folder = archive.namelist()[0].split("/")[0]
        config = json.loads(archive.read(f"{folder}/config.json"))
        content = archive.read(f"{folder}/model.onnx")
    assert (config["id"], config["task"], config["backend"]) == (folder, "denoise", "onnx")
    assert folder == "dbsn-my-model-2"
    assert {"name", "description", "version"} <= config.keys()
    [given], [made] = onnx.load_from_string(content).graph.input, onnx.load_from_string(content).graph.output
    assert (given.name, made.name) == ("input", "output")
    axes = [axis.dim_param or axis.dim_value for axis in given.type.tensor_type.shape.dim]
    assert axes == ["batch", 3, "height", "width"]
    for side in (tile for tile in config["attributes"]["input_sizes"] if tile <= 512):
        bound = onnxruntime.SessionOptions()
        for axis in ("height", "width"):
            bound.add_free_dimension_override_by_name(axis, side)
        bound.add_free_dimension_override_by_name("batch", 1)
        session = onnxruntime.InferenceSession(content, bound, providers=["CPUExecutionProvider"])
        core = noisy(3, side - 128, side - 128)
        tile = np.pad(core, ((0, 0), (0, 0), (64, 64), (64, 64)), "reflect").clip(0, 1)
        [result] = session.run(["output"], {"input": tile})
        assert result.shape == tile.shape
        assert np.isfinite(result).all()
        with torch.inference_mode():
            expected = model(torch.from_numpy(tile[:, 1:2])).numpy()
        np.testing.assert_allclose(result[:, 1:2], expected, atol=1e-4)


def test_torchscript_runs_without_dbsn(exported: Path) -> None:
    model = student(*NETWORKS["colour"])
    loaded = torch.jit.load(str(exported / "colour.pt"))
    image = torch.from_numpy(noisy(3, 45, 77))
    with torch.inference_mode():
        torch.testing.assert_close(loaded(image), model(image), atol=1e-4, rtol=0)


def test_a_bioimage_package_reproduces_its_own_test_images(exported: Path) -> None:
    with zipfile.ZipFile(exported / "gray.zip") as archive:
        described = json.loads(archive.read("rdf.yaml"))
        files = {name: archive.read(name) for name in archive.namelist()}
    assert (described["type"], described["format_version"]) == ("model", "0.5.4")
    named = [described["documentation"], *described["covers"], described["weights"]["onnx"]["source"]]
    tensors = [described[kind][0]["test_tensor"]["source"] for kind in ("inputs", "outputs")]
    assert {*named, *tensors, "rdf.yaml"} == files.keys()
    noisy_image, denoised = (np.load(io.BytesIO(files[name])) for name in tensors)
    session = onnxruntime.InferenceSession(files["model.onnx"], providers=["CPUExecutionProvider"])
    [result] = session.run([described["outputs"][0]["id"]], {described["inputs"][0]["id"]: noisy_image})
    np.testing.assert_allclose(result, denoised, atol=1e-5)
    with torch.inference_mode():
        expected = student(*NETWORKS["gray"])(torch.from_numpy(noisy_image)).numpy()
    np.testing.assert_allclose(denoised, expected, atol=1e-4)


def test_another_computation_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(student: Student, path: Path, about: About) -> files.Run:
        path.touch()
        return lambda noisy: noisy + 1

    monkeypatch.setitem(files.KINDS, ".pt", wrong)
    with pytest.raises(ValueError, match=r"a\.pt: computes something else"):
        export(student(), tmp_path / "a.pt", ABOUT)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("m.safetensors", "-o", "{t}/a.foo"), "unknown suffix (expected .onnx, .dtmodel, .pt"),
        (("gray", "-o", "{t}/there.onnx"), "exists already. Add --overwrite"),
        (("blind.safetensors", "-o", "{t}/a.onnx"), "holds no student"),
    ],
)
def test_what_cannot_be_exported_is_said(
    tmp_path: Path, dbsn_command, arguments: tuple[str, ...], message: str
) -> None:
    from dbsn.config import NETWORKS, ModelConfig
    from dbsn.models.blindspot import BlindSpotModel

    (tmp_path / "there.onnx").touch()
    save_model(tmp_path / "m.safetensors", ModelFile(student=student()))
    save_model(
        tmp_path / "blind.safetensors", ModelFile(model=BlindSpotModel(ModelConfig(network=NETWORKS["grid-tiny"])))
    )
    name, *rest = arguments
    model = tmp_path / name if name.endswith(".safetensors") else name
    done = dbsn_command("export", model, *(each.format(t=tmp_path) for each in rest))
    assert done.returncode == 2
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_the_command_says_what_the_file_cannot_do(tmp_path: Path) -> None:
    save_model(tmp_path / "m.safetensors", ModelFile(student=student(network=STUDENTS["unet-tiny"])))
    command = [sys.executable, "-m", "dbsn", "export", tmp_path / "m.safetensors", "-o", tmp_path / "new" / "a.pt"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'new' / 'a.pt'}\n"
    assert "has no --strength and no uncertainty" in done.stderr
