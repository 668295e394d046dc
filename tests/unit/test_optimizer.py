"""The optimiser: wide kernels move along orthogonalised momentum, everything else as Adam moves it."""

import pytest
import torch
from torch import nn

from dbsn.training import optimizer
from dbsn.training.checkpoint import optimizer_tensors, restore_optimizer
from dbsn.training.optimizer import Muon, is_wide_kernel, orthogonalised


@pytest.mark.parametrize("shape", [(48, 64, 3, 3), (128, 48, 1, 1), (96, 48, 2, 2)])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_singular_values_become_equal_and_vectors_stay(
    shape: tuple[int, int, int, int], memory_format: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    kernel = torch.randn(shape, generator=generator).contiguous(memory_format=memory_format)
    result = orthogonalised(kernel)
    assert result.shape == kernel.shape
    assert 0.7 < float(result.square().mean().sqrt()) < 1.2
    left, _, right = torch.linalg.svd(kernel.reshape(shape[0], -1), full_matrices=False)
    turned = left.mT @ result.reshape(shape[0], -1) @ right.mT  # diagonal if the vectors are the same
    diagonal = turned.diagonal() / max(result.reshape(shape[0], -1).shape) ** 0.5
    assert (turned - turned.diagonal().diag()).abs().max() < 0.1 * turned.diagonal().mean()
    assert float(diagonal.min()) > 0.6
    assert float(diagonal.max()) < 1.3


def test_the_size_of_a_gradient_does_not_matter() -> None:
    kernel = torch.randn((64, 64, 3, 3), generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(orthogonalised(kernel), orthogonalised(1024 * kernel), rtol=0, atol=0.05)


def test_a_kernel_without_gradient_stays_where_it_is() -> None:
    assert not orthogonalised(torch.zeros(64, 64, 3, 3)).any()


def test_it_multiplies_in_bfloat16_only_where_that_is_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    kernel = torch.randn((64, 64, 3, 3), generator=torch.Generator().manual_seed(4))
    results = []
    for is_fast in (True, False):
        monkeypatch.setattr(optimizer, "has_fast_bf16", lambda device, work, is_fast=is_fast: is_fast)
        results.append(orthogonalised(kernel))
    rounded = [(result / 576**0.5).bfloat16().float() * 576**0.5 for result in results]
    assert torch.allclose(results[0], rounded[0], rtol=1e-6), "all digits of bfloat16, and no more"
    assert not torch.allclose(results[1], rounded[1], rtol=1e-6)


def layers() -> nn.Sequential:
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(1, 48, 3), nn.Conv2d(48, 48, 3), nn.Conv2d(48, 1, 1))


def descend(model: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        image = torch.randn((2, 1, 9, 9), generator=torch.Generator().manual_seed(step))
        model(image).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def test_narrow_layers_and_biases_move_as_under_adam() -> None:
    ours, theirs = layers(), layers()
    descend(ours, Muon([{"params": list(ours.parameters())}], lr=1e-3), range(1))
    descend(theirs, torch.optim.Adam(theirs.parameters(), lr=1e-3, betas=(0.9, 0.99)), range(1))
    for mine, its in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(mine, its) == (not is_wide_kernel(mine))


def test_a_wide_kernel_moves_against_its_gradient_by_a_set_step() -> None:
    kernel = nn.Parameter(torch.zeros(48, 48, 3, 3))
    kernel.grad = torch.randn(kernel.shape, generator=torch.Generator().manual_seed(3))
    gradient = kernel.grad.clone()
    Muon([{"params": [kernel]}], lr=1e-2).step()
    moved = kernel.detach()
    assert 0.7 * 4e-3 < float(moved.square().mean().sqrt()) < 1.2 * 4e-3
    assert float((moved * gradient).sum()) < 0


def test_restored_it_goes_on_as_if_never_stopped() -> None:
    whole, halves = layers(), layers()
    descend(whole, Muon([{"params": list(whole.parameters())}], lr=1e-3), range(4))
    first = Muon([{"params": list(halves.parameters())}], lr=1e-3)
    descend(halves, first, range(2))
    second = Muon([{"params": list(halves.parameters())}], lr=1e-3)
    restore_optimizer(second, {name: tensor.clone() for name, tensor in optimizer_tensors(first).items()})
    descend(halves, second, range(2, 4))
    for mine, its in zip(whole.parameters(), halves.parameters(), strict=True):
        assert torch.equal(mine, its)
