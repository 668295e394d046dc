"""Symmetric networks: a flipped or turned image is answered with the flipped or turned answer, trained or not (G2)."""

import copy
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from dbsn.config import GridConfig, ModelConfig, StudentConfig, UNetConfig
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.networks.symmetry import ORDER
from dbsn.networks.unet import DenseUNet
from dbsn.orientations import ORIENTATIONS
from dbsn.store.model_file import ModelFile, load_model, save_model
from dbsn.store.tensors import load_tensors
from dbsn.training.optimizer import Muon

SIDE = 48
TURNS: list[Callable[[Tensor], Tensor]] = [
    lambda image: image.flip(-1),
    lambda image: image.flip(-2),
    lambda image: image.mT,
    lambda image: image.rot90(1, (-2, -1)),
]


def teacher(channels: int, *, symmetric: bool = True) -> nn.Module:
    network = GridConfig(widths=(48, 56), blocks=(1, 1), symmetric=symmetric)
    return BlindSpotModel(ModelConfig(network=network, channels=channels))


def student(channels: int, *, symmetric: bool = True, guided: bool = False) -> nn.Module:
    network = UNetConfig(widths=(48, 56), blocks=(1, 1), symmetric=symmetric, guided=guided)
    return Student(StudentConfig(network=network, channels=channels, uncertainty=False))


def answer(network: nn.Module, image: Tensor) -> Tensor:
    """What it makes of an image: the blind mean, or the denoised image."""
    out = network(image)
    return out if isinstance(out, Tensor) else out.mean


def trained(network: nn.Module, channels: int) -> nn.Module:
    """The network after some steps towards what is not symmetric."""
    image = torch.rand((2, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(0))
    optimizer = Muon([{"params": list(network.parameters()), "pace": 1.0}], lr=1e-2)
    for _ in range(4):
        (answer(network, image) - image.roll(1, -1)).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return network


def largest_difference(network: nn.Module, channels: int) -> float:
    """Between what a turned image is answered and the turned answer, in units of what the network changes."""
    image = torch.rand((1, channels, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        straight = answer(network, image)
        differences = [(answer(network, turn(image)) - turn(straight)).abs().max() for turn in TURNS]
        return float(max(differences) / (straight - image).std())


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("make", [teacher, student])
def test_a_turned_image_is_answered_with_the_turned_answer(make: Callable[..., nn.Module], channels: int) -> None:
    torch.manual_seed(0)
    assert largest_difference(trained(make(channels), channels), channels) < 1e-3
    assert largest_difference(trained(make(channels, symmetric=False), channels), channels) > 0.05


def test_a_student_that_is_told_the_level_is_symmetric_too() -> None:
    torch.manual_seed(0)
    assert largest_difference(trained(student(1, guided=True), 1), 1) < 1e-3


def test_symmetric_kernels_are_as_large_as_they_were() -> None:
    torch.manual_seed(0)
    network = DenseUNet(UNetConfig(widths=(48, 56), blocks=(1, 1)), 1)
    before = {name: part.detach().clone() for name, part in network.named_parameters()}
    network.keep_symmetric()
    for name, part in network.named_parameters():
        if part.ndim == 4:
            assert_close(part.square().mean(), before[name].square().mean())
            assert len(part.detach().unique()) == part.numel() // ORDER


@pytest.mark.parametrize("make", [teacher, student])
def test_a_file_holds_every_number_once(make: Callable[..., nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = trained(make(1), 1)
    sizes = {}
    for kind, each in (("symmetric", network), ("plain", make(1, symmetric=False))):
        kept = ModelFile(student=each) if isinstance(each, Student) else ModelFile(model=each)  # type: ignore[arg-type]
        save_model(tmp_path / kind, kept)
        sizes[kind] = (tmp_path / kind).stat().st_size
    assert sizes["symmetric"] < 0.25 * sizes["plain"]
    read = load_model(tmp_path / "symmetric")
    again = read.student or read.model
    assert again is not None
    for name, part in again.state_dict().items():
        assert_close(part, network.state_dict()[name], rtol=1e-4, atol=2e-4)
    save_model(tmp_path / "again", read)
    once, twice = (load_tensors(tmp_path / name)[0] for name in ("symmetric", "again"))
    assert all(torch.equal(once[name], twice[name]) for name in once | twice)


def test_weights_that_have_been_trained_without_their_symmetry_are_not_kept(tmp_path: Path) -> None:
    network = copy.deepcopy(student(1))  # which forgets what is to happen to gradients
    with pytest.raises(AssertionError, match="is not symmetric"):
        save_model(tmp_path / "model", ModelFile(student=trained(network, 1)))  # type: ignore[arg-type]


def test_features_that_do_not_come_in_eights_are_refused() -> None:
    with pytest.raises(ValueError, match="got 12, expected a multiple of 8"):
        DenseUNet(UNetConfig(widths=(12,), blocks=(1,)), 1).keep_symmetric()
    with pytest.raises(ValueError, match=r"grid widths: .* multiples of 8"):
        GridConfig(widths=(60, 128), blocks=(1, 1), symmetric=True)
    with pytest.raises(ValueError, match=r"U-Net widths: .* multiples of 8"):
        UNetConfig(widths=(60, 128), blocks=(1, 1), symmetric=True)


def test_orientations_are_the_eight_of_a_square() -> None:
    square = torch.arange(9).view(3, 3)
    wanted = {tuple(turned.rot90(k).flatten().tolist()) for turned in (square, square.flip(-1)) for k in range(4)}
    assert {tuple(each.turned(square).flatten().tolist()) for each in ORIENTATIONS} == wanted
    assert ORIENTATIONS[0].turned(square).equal(square)
    for second in ORIENTATIONS:
        assert second.inverse.turned(second.turned(square)).equal(square)
        for first in ORIENTATIONS:
            assert second.after(first).turned(square).equal(second.turned(first.turned(square)))
