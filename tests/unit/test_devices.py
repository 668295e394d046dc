"""Shortcuts are taken where a measurement says so, and the measurement leaves everything else as it was."""

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor

from dbsn import devices


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Nothing measured before, nor kept for other tests."""
    devices.bf16_gain.cache_clear()
    yield
    devices.bf16_gain.cache_clear()


def taking(monkeypatch: pytest.MonkeyPatch, seconds: Callable[[torch.dtype], float]) -> None:
    """Pretend that a piece of work takes so long in this arithmetic."""

    def work(work: str, device: torch.device, kind: torch.dtype) -> Callable[[], Tensor]:
        return lambda: torch.tensor(seconds(kind))

    monkeypatch.setattr(devices, "_work", work)
    monkeypatch.setattr(devices, "_seconds", lambda work: float(work()))


@pytest.mark.parametrize(("half", "expected"), [(0.5, True), (0.8, True), (0.9, False), (1.1, False), (100.0, False)])
def test_bfloat16_is_used_where_it_is_a_fifth_faster(
    monkeypatch: pytest.MonkeyPatch, half: float, expected: bool
) -> None:
    taking(monkeypatch, lambda kind: half if kind == torch.bfloat16 else 1.0)
    for work in ("convolution", "training", "product"):
        assert devices.has_fast_bf16("cpu", work) == expected
        assert devices.uses_bf16("auto", "cpu", work) == expected
        assert devices.uses_bf16("bf16", "cpu", work)
        assert not devices.uses_bf16("fp32", "cpu", work)


def test_a_build_without_the_operation_has_no_fast_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*_: object, **__: object) -> Callable[[], Tensor]:
        raise RuntimeError("not implemented for 'BFloat16'")

    monkeypatch.setattr(devices, "_work", work)
    assert devices.bf16_gain("cpu", "training") == 0


def test_it_is_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[torch.dtype]()

    def seconds(kind: torch.dtype) -> float:
        asked.append(kind)
        return 1.0

    taking(monkeypatch, seconds)
    devices.has_fast_bf16("cpu", "product")
    once = len(asked)
    devices.has_fast_bf16("cpu", "product")
    assert len(asked) == once > 0


def test_a_measurement_leaves_threads_random_numbers_and_modes_alone() -> None:
    before = torch.get_num_threads()
    threads = before + 1
    torch.set_num_threads(threads)
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        gain = devices.bf16_gain("cpu", "training")
        assert torch.is_inference_mode_enabled()
        assert torch.is_autocast_enabled("cpu")
    assert gain > 0, "measured, although gradients were off around it"
    assert torch.equal(torch.rand(3), expected)
    left = torch.get_num_threads()
    torch.set_num_threads(before)
    assert left == threads
