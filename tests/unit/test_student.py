"""Students: any size in, the same size out, built-in or the user's own."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils.flop_counter import FlopCounterMode

from dbsn.config import (
    AUTO,
    STUDENTS,
    DnCNNConfig,
    ModelConfig,
    ModuleConfig,
    MWCNNConfig,
    StudentConfig,
    StudentNetwork,
    TrainConfig,
    UNetConfig,
    student_network,
)
from dbsn.denoiser import Denoiser
from dbsn.inference.options import InferenceOptions
from dbsn.inference.student import apply_student, apply_student_into
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import _USUAL_LEVEL, Student, mirrored
from dbsn.networks.mwcnn import haar, inverse_haar
from dbsn.networks.uncertainty import Uncertainty
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.training.initial_weights import choose_initial
from dbsn.training.run_config import RunConfig
from dbsn.types import Margin

OWN = """
import torch

class Blur(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.share = torch.nn.Parameter(torch.tensor(0.25))

    def forward(self, image):
        return image + self.share * (image.roll(1, -1) - image)

class Twice(torch.nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first = self.again = torch.nn.Conv2d(channels, channels, 1)

    def forward(self, image):
        return self.again(self.first(image))

def wrong_shape(channels):
    return torch.nn.Conv2d(channels, channels, 3)

def fours_only(channels):
    return torch.nn.Sequential(torch.nn.PixelUnshuffle(4), torch.nn.PixelShuffle(4))

def broken(channels):
    raise TypeError("two lines\\nof trouble")

def no_module(channels):
    return channels
"""
TINY: list[StudentNetwork] = [
    UNetConfig(widths=(8, 16), blocks=(1, 1)),
    MWCNNConfig(widths=(8, 8), depth=2),
    DnCNNConfig(width=8, depth=3),
]
GUIDED = UNetConfig(widths=(8, 16), blocks=(1, 1), guided=True)


def disturbed(network: StudentNetwork, channels: int = 1) -> Student:
    """A student that does something."""
    torch.manual_seed(0)
    student = Student(StudentConfig(network=network, channels=channels, offset=0.4, scale=0.3)).eval()
    for parameter in student.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    return student


@pytest.mark.parametrize("network", [*TINY, GUIDED], ids=str)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (16, 24), (33, 50)])
def test_any_size_goes_in_and_comes_out(network: StudentNetwork, channels: int, size: tuple[int, int]) -> None:
    image = torch.rand((2, channels, *size), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert disturbed(network, channels)(image).shape == image.shape


@pytest.mark.parametrize(("size", "mode"), [((13, 18), "reflect"), ((16, 9), "reflect"), ((2, 1), "edge")])
def test_what_an_image_lacks_of_whole_blocks_is_mirrored_where_it_is_large_enough(
    size: tuple[int, int], mode: Literal["reflect", "edge"]
) -> None:
    image = np.random.default_rng(0).random((1, 2, *size), np.float32)
    expected = np.pad(image, ((0, 0), (0, 0), *((0, -side % 8) for side in size)), mode=mode)
    np.testing.assert_array_equal(mirrored(torch.from_numpy(image), 8).numpy(), expected)


@pytest.mark.parametrize("network", TINY, ids=lambda network: network.kind)
def test_an_untrained_student_hands_its_input_through(network: StudentNetwork) -> None:
    image = torch.rand((1, 1, 20, 20), generator=torch.Generator().manual_seed(0)) * 1000
    student = Student(StudentConfig(network=network, offset=500.0, scale=500.0)).eval()
    with torch.inference_mode():
        torch.testing.assert_close(student(image), image)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("network", [*TINY, GUIDED], ids=str)
def test_in_tiles_the_result_is_the_same(network: StudentNetwork, ensemble: bool) -> None:
    image = np.random.default_rng(0).random((150, 131, 1), np.float32)
    student = disturbed(network)
    whole = apply_student(student, image, options=InferenceOptions(tile=0, ensemble=ensemble))
    assert (
        np.abs(whole - apply_student(student, image, options=InferenceOptions(tile=40, ensemble=ensemble))).max() < 1e-5
    )
    assert np.abs(whole - image).max() > 1e-2


DEEP = UNetConfig(widths=(8, 8, 16), blocks=(1, 1, 2))


@pytest.mark.parametrize("network", [*TINY, GUIDED, DEEP], ids=str)
def test_a_margin_is_left_out_of_the_result_and_changes_nothing_inside(network: StudentNetwork) -> None:
    student = disturbed(network)
    reach = student.receptive_radius + Uncertainty.receptive_radius
    for top, bottom, left, right in ((reach + 3, 0, 0, reach), (0, reach, reach + 5, reach), (9, 24, 1, 40)):
        margin = Margin(top, bottom, left, right)
        height, width = 61 + top + bottom, 50 + left + right
        noisy = torch.rand((1, 1, height, width), generator=torch.Generator().manual_seed(0))
        inside = (..., slice(top, height - bottom), slice(left, width - right))
        with torch.inference_mode():
            whole, whole_std = student(noisy, with_std=True)
            part, part_std = student(noisy, student.level(noisy), margin=margin, with_std=True)
            alone = student(noisy, student.level(noisy), margin=margin)
        torch.testing.assert_close(part, whole[inside])
        torch.testing.assert_close(alone, whole[inside])
        assert part_std is not None
        assert whole_std is not None
        torch.testing.assert_close(part_std, whole_std[inside])


def test_a_margin_costs_less_than_what_it_surrounds() -> None:
    student, edge = Student(StudentConfig()), 64
    with FlopCounterMode(display=False) as whole, torch.inference_mode():
        student(torch.rand(1, 1, 256, 256))
    with FlopCounterMode(display=False) as part, torch.inference_mode():
        student(torch.rand(1, 1, 256, 256), margin=Margin(edge, edge, edge, edge))
    assert part.get_total_flops() < 0.75 * whole.get_total_flops()


@pytest.mark.parametrize("network", TINY, ids=lambda network: network.kind)
def test_no_student_sees_further_than_it_says(network: StudentNetwork) -> None:
    student = disturbed(network)
    radius = student.receptive_radius
    image = torch.rand((1, 1, 2 * radius + 9, 2 * radius + 9), generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., radius + 4, radius + 4] += 1
    with torch.inference_mode():
        moved = (student(changed) - student(image)).abs()[0, 0] > 0
    rows, columns = moved.nonzero(as_tuple=True)
    assert moved.any()
    assert max((rows - radius - 4).abs().max(), (columns - radius - 4).abs().max()) <= radius


def test_a_guided_student_is_told_the_level_that_is_measured_or_given() -> None:
    student = disturbed(GUIDED)
    noise = torch.randn((1, 1, 130, 121), generator=torch.Generator().manual_seed(0))
    noisy = 0.5 + 0.1 * noise
    level = student.level(noisy)
    assert level is not None
    assert level.shape == (1, 1, 33, 31)  # cells of 4 x 4 pixels, the last ones smaller
    assert float(level.mean()) == pytest.approx(0.1, rel=0.1)
    with torch.inference_mode():
        assert torch.equal(student(noisy), student(noisy, level))
        assert (student(noisy) - student(noisy, 3 * level)).abs().mean() > 1e-3
    assert disturbed(TINY[0]).level(noisy) is None


@pytest.mark.parametrize("network", [TINY[0], GUIDED], ids=str)
def test_a_gray_image_is_shown_to_a_student_of_colours_as_three_that_are_alike(network: StudentNetwork) -> None:
    student, gray = disturbed(network, 3), np.random.default_rng(0).uniform(0, 1, (90, 71, 1)).astype(np.float32)
    ours, theirs = ({name: np.empty((90, 71, c), np.float32) for name in ("denoised", "std")} for c in (1, 3))
    levels = [
        apply_student_into(into, student, image, options=InferenceOptions(tile=48, ensemble=True))
        for into, image in ((ours, gray), (theirs, np.repeat(gray, 3, 2)))
    ]
    assert levels[0] == (pytest.approx(levels[1], rel=1e-5) if network == GUIDED else None)
    for name in ours:
        np.testing.assert_allclose(ours[name], theirs[name].mean(2, keepdims=True), atol=1e-5)
    assert np.ptp(theirs["denoised"], 2).max() > 0.01, "the three differ, for its weights are any"
    with pytest.raises(ValueError, match="This model is for gray images"):
        apply_student(disturbed(network, 1), np.repeat(gray, 3, 2))
    with pytest.raises(ValueError, match="This model is for colour images"):
        apply_student(student, np.repeat(gray, 2, 2))


@pytest.mark.parametrize("channels", [1, 3])
def test_a_student_that_is_not_told_the_level_begins_as_one_that_is_told_a_usual_one(channels: int) -> None:
    guided = disturbed(GUIDED, channels)
    untold = disturbed(TINY[0], channels)
    untold.init_from(guided)
    noisy = torch.rand((1, channels, 64, 64), generator=torch.Generator().manual_seed(1))
    usual = torch.full((1, channels, 16, 16), _USUAL_LEVEL)
    inner = (..., slice(24, -24), slice(24, -24))  # the border of what is told is seen near the image's
    assert guided.receptive_radius <= 24
    with torch.inference_mode():
        assert_close(untold(noisy)[inner], guided(noisy, usual)[inner], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(untold(noisy)[inner], guided(noisy, 2 * usual)[inner], rtol=1e-2, atol=1e-3)
    with pytest.raises(ValueError, match=r"--student\.start: the network does not fit"):
        guided.init_from(untold)


@pytest.mark.parametrize(
    ("network", "new"),
    [
        (UNetConfig(widths=(8, 16), blocks=(1, 3)), "backbone.encoder.1.2.second.weight"),
        (UNetConfig(widths=(8, 16), blocks=(2, 1)), "backbone.decoder.0.1.second.weight"),
        (UNetConfig(widths=(8, 16, 8), blocks=(1, 1, 1)), "backbone.up.1.weight"),
        (UNetConfig(widths=(8, 16, 8), blocks=(1, 1, 1)), "backbone.decoder.1.0.second.weight"),
    ],
)
def test_a_larger_student_begins_as_the_one_whose_weights_it_takes_and_what_is_new_learns(
    network: UNetConfig, new: str
) -> None:
    known, larger = disturbed(TINY[0]), disturbed(network)
    noisy = torch.rand((1, 1, 64, 64), generator=torch.Generator().manual_seed(1))
    assert not torch.allclose(larger(noisy), known(noisy), atol=1e-2)
    larger.init_from(known)
    assert_close(larger(noisy), known(noisy))
    larger(noisy).square().sum().backward()
    gradient = larger.network.get_parameter(new).grad
    assert gradient is not None
    assert gradient.any()
    with pytest.raises(ValueError, match=r"--student\.start: the network does not fit"):
        known.init_from(larger)


def test_which_students_can_begin_with_whose_weights() -> None:
    large, small = STUDENTS["unet-large"], STUDENTS["unet-symmetric"]
    assert isinstance(large, UNetConfig)
    assert isinstance(small, UNetConfig)
    assert large.extends(small)
    assert not small.extends(large)
    assert not large.extends(UNetConfig()), "which is not symmetric"
    assert not large.extends(replace(small, widths=(64, 64))), "of other widths"
    assert not replace(large, guided=True).extends(replace(small, guided=True)), "it would be told the level otherwise"


@pytest.mark.parametrize("ensemble", [False, True])
def test_the_noise_level_that_a_guided_student_is_told_is_said(ensemble: bool) -> None:
    noisy = np.random.default_rng(0).normal(0.5, 0.1, (128, 96, 1)).astype(np.float32)
    into = {"denoised": np.empty_like(noisy)}
    assert apply_student_into(
        into, disturbed(GUIDED), noisy, options=InferenceOptions(ensemble=ensemble)
    ) == pytest.approx(0.1, rel=0.1)
    assert apply_student_into(into, disturbed(TINY[0]), noisy) is None


def test_the_default_student_sees_no_further_than_64_pixels() -> None:
    assert Student(StudentConfig()).receptive_radius <= 64


def test_averaging_over_orientations_changes_the_result_and_commutes_with_turning() -> None:
    image = np.random.default_rng(0).random((24, 24, 1), np.float32)
    student = disturbed(TINY[0])
    average = apply_student(student, image, options=InferenceOptions(ensemble=True))
    assert np.abs(average - apply_student(student, image)).max() > 1e-3
    turned = apply_student(student, np.ascontiguousarray(image[::-1]), options=InferenceOptions(ensemble=True))
    assert np.abs(turned[::-1] - average).max() < 1e-5


def test_haar_is_orthonormal_and_its_first_band_is_twice_the_mean() -> None:
    image = torch.rand((1, 2, 6, 8), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    bands = haar(image)
    assert torch.allclose(bands.square().sum(), image.square().sum())
    assert torch.allclose(bands[:, 0, 0, 0], image[:, 0, :2, :2].sum((-2, -1)) / 2)
    assert torch.allclose(bands[:, 4, 0, 0], image[:, 1, :2, :2].sum((-2, -1)) / 2)
    assert torch.allclose(inverse_haar(bands), image)


@pytest.mark.parametrize("network", TINY, ids=lambda network: network.kind)
def test_each_student_comes_back_from_its_file_and_denoises_alike(network: StudentNetwork, tmp_path: Path) -> None:
    teacher = BlindSpotModel(ModelConfig())
    save_model(tmp_path / "m.safetensors", ModelFile(model=teacher, student=disturbed(network)))
    image = np.random.default_rng(1).random((30, 21))
    ours = Denoiser(ModelFile(model=teacher, student=disturbed(network)), device="cpu").denoise(image)
    theirs = Denoiser.load(tmp_path / "m.safetensors", device="cpu").denoise(image)
    assert np.array_equal(ours, theirs)
    assert np.abs(ours - image).max() > 1e-2


def test_a_module_of_the_users_own_from_a_file_outside_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_networks.py").write_text(OWN)
    by_file = Student(StudentConfig(network=student_network(f"{tmp_path}/own_networks.py:Blur")))
    monkeypatch.syspath_prepend(tmp_path)
    by_name = Student(StudentConfig(network=student_network("own_networks:Blur")))
    image = torch.rand((1, 1, 5, 4), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        blurred = 0.75 * image + 0.25 * image.roll(1, -1)
        torch.testing.assert_close(by_file(image), blurred)
        torch.testing.assert_close(by_name(image), blurred)
    save_model(tmp_path / "m.safetensors", ModelFile(model=BlindSpotModel(ModelConfig()), student=by_name))
    path = tmp_path / "m.safetensors"
    for trust in (True, "own_networks:Blur"):
        loaded = load_model(path, trust=trust).student
        assert loaded is not None
        assert loaded.config.network == ModuleConfig(factory="own_networks:Blur")
    for trust in (False, "own_networks:Twice", "unet"):
        assert (
            "own_networks:Blur: is code, which a file alone does not import. Add --trust"
            in load_model(path, trust=trust).unmade
        )
    code = (
        "import numpy as np\nfrom dbsn import Denoiser\n"
        f"denoiser = Denoiser.load({str(path)!r}, device='cpu', trust=True)\n"
        "print(denoiser.denoise(np.zeros((9, 8)), method='posterior').shape)\n"
    )
    for more in ("denoiser.denoise(np.zeros((9, 8)))", f"denoiser.save({str(tmp_path / 'other.safetensors')!r})"):
        elsewhere = subprocess.run([sys.executable, "-c", code + more], capture_output=True, text=True, cwd="/")
        assert elsewhere.stdout == "(9, 8)\n", "its teacher needs no code of the student's"
        assert "student own_networks:Blur: cannot be loaded" in elsewhere.stderr
    assert not (tmp_path / "other.safetensors").exists()
    (tmp_path / "own_networks.py").write_text(OWN.replace("self.share", "self.portion"))
    monkeypatch.delitem(sys.modules, "own_networks")
    changed = load_model(path, trust=True)
    assert changed.model
    assert "weights do not fit" in changed.unmade
    asked = RunConfig(files=(), model=ModelConfig(), train=TrainConfig(), student=AUTO)
    with pytest.raises(
        ValueError, match=r"--student\.network own_networks:Blur"
    ):  # rather than start from another student, silently
        choose_initial(asked, str(tmp_path / "m.safetensors"), distils=True)


def test_layers_that_share_weights_are_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    student = Student(StudentConfig(network=student_network("own_networks:Twice")))
    save_model(tmp_path / "m.safetensors", ModelFile(student=student))
    loaded = load_model(tmp_path / "m.safetensors", trust=True).student
    assert loaded is not None
    image = torch.rand(1, 1, 5, 4)
    with torch.inference_mode():
        assert torch.equal(loaded(image), student(image))


@pytest.mark.parametrize(
    ("factory", "message"),
    [
        ("nowhere.at.all:thing", "cannot be loaded"),
        ("own_networks:missing", "cannot be loaded"),
        ("own_networks:no_module", "got int, expected torch.nn.Module"),
        ("own_networks:wrong_shape", r"wrong output shape \(got \(1, 1, 35, 35\), expected \(1, 1, 37, 37\)\)"),
        ("own_networks:fours_only", "give it an attribute `multiple`"),
        ("own_networks:broken", r"cannot be loaded \(two lines of trouble\)"),
    ],
)
def test_an_unusable_module_is_refused_in_a_sentence(
    factory: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_networks.py").write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ValueError, match=message):
        Student(StudentConfig(network=ModuleConfig(factory=factory)))


def test_an_unknown_student_is_refused_with_the_names_there_are() -> None:
    with pytest.raises(ValueError, match=r"one of unet, .*mwcnn, dncnn, or package\.module:factory"):
        student_network("transformer")


def test_the_uncertainty_sees_as_far_as_it_says_and_no_further() -> None:
    torch.manual_seed(0)
    spread, reach = Uncertainty(1), Uncertainty.receptive_radius
    noisy, denoised = torch.rand(2, 1, 1, 61, 61)
    before = spread(noisy, denoised)
    changed = noisy.clone()
    changed[..., 30, 30] += 3
    moved = (spread(changed, denoised) != before)[0, 0].nonzero()
    assert int((moved - 30).abs().max()) == reach
    for size in ((1, 1), (1, 5), (7, 9)):
        small = spread(torch.rand(1, 1, *size), torch.rand(1, 1, *size))
        assert small.shape == (1, 1, *size)
        assert torch.isfinite(small).all()
    assert torch.isfinite(spread(denoised, denoised)).all(), "nothing was taken out"
