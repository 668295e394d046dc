"""Measure the speed of the built-in models: in seconds, against convolutions, and against other denoisers.

Usage: python -m benchmarks.speed.speed [--parts student peers sizes files training] [--repeats 5] [--out FILE]
Run nothing else at the same time. Figures are medians; ratios are medians over consecutive runs. Results go to FILE
as JSON (benchmarks/results/speed.json), from which benchmarks/tables.py makes that of benchmarks.md.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.peers import PEERS
from benchmarks.results import here, kept
from dbsn import Denoiser
from dbsn.batch.denoise import UNETS_TILE
from dbsn.cli.allocator import keep_freed_memory
from dbsn.config import DistillConfig, ModelConfig, StudentConfig, TrainConfig, student_network
from dbsn.devices import MEMORY_FORMAT, Work, bf16_gain, has_fast_bf16
from dbsn.models.blindspot import BlindSpotModel
from dbsn.models.student import Student
from dbsn.store.builtin import card, names
from dbsn.training.distill import distillation_loss, new_student
from dbsn.training.optimizer import Muon
from dbsn.training.pairs import Pairs
from dbsn.training.patches import Batch
from dbsn.training.selfsupervised import self_supervised_loss

RESULTS = Path(__file__).parents[1] / "results" / "speed.json"
MODELS = {name: card(name).channels for name in names()}
SIZES = (0.1, 1.0, 10.0, 100.0)
REPEATS = 5
FORMATS = (torch.contiguous_format, torch.channels_last)


def seconds(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def median(work: Callable[[], object]) -> float:
    """The median of all runs but the first."""
    work()
    return float(np.median([seconds(work) for _ in range(REPEATS)]))


def precisions(work: Work = "convolution") -> list[torch.dtype]:
    """The precisions of this work on this machine. dbsn uses the first."""
    return [torch.bfloat16, torch.float32] if has_fast_bf16("cpu", work) else [torch.float32]


SHAPES = ((1, 256), (16, 48), (24, 32))
"""Images and side of the convolutions that the roof is the best of: a tile, and batches of patches at half size."""


def roof(kind: torch.dtype, *, backward: bool = False) -> float:
    """GFLOP/s of the fastest same-size 3 x 3 convolution, of three widths, three shapes and two memory formats."""
    best = 0.0
    for width, (images, side), memory_format in product((64, 96, 128), SHAPES, FORMATS):
        convolution = nn.Conv2d(width, width, 3, padding=1).to(kind).to(memory_format=memory_format)
        image = torch.rand(images, width, side, side).to(kind).to(memory_format=memory_format)
        image.requires_grad_(backward)
        flops = 2 * 9 * width**2 * images * side**2 * (3 if backward else 1)

        def step(convolution: nn.Module = convolution, image: torch.Tensor = image) -> None:
            with torch.set_grad_enabled(backward):
                result = convolution(image)
                if backward:
                    result.backward(torch.ones_like(result))

        best = max(best, flops / median(step) / 1e9)
    return best


def photograph(channels: int, height: int, width: int) -> np.ndarray:
    """Smooth content with noise, in 8 bits."""
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:height, :width].astype(np.float32) / 97
    smooth = 128 + 60 * np.sin(rows)[..., None] * np.cos(columns)[..., None] * np.ones(channels, np.float32)
    noise = random.standard_normal((min(height, 1024), min(width, 1024), channels), np.float32) * 20
    tiled = np.tile(noise, (-(-height // noise.shape[0]), -(-width // noise.shape[1]), 1))[:height, :width]
    return (smooth + tiled).clip(0, 255).astype(np.uint8)


def flops_a_pixel(student: nn.Module, channels: int) -> float:
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        student(torch.rand(1, channels, 256, 256))
    return counter.get_total_flops() / 256**2


def of_students() -> None:
    """A square megapixel in memory: megapixels a second, and the share of the roof."""
    for name, channels in MODELS.items():
        denoiser, image = Denoiser.load(name, device="cpu"), photograph(channels, 1000, 1000)
        assert denoiser.student is not None
        cost = flops_a_pixel(denoiser.student, channels)
        for kind in precisions():
            denoiser.bf16 = kind == torch.bfloat16
            best, taken = (
                roof(kind),
                median(lambda denoiser=denoiser, image=image: denoiser.denoise(image, tile=UNETS_TILE)),
            )
            tell(
                f"{name} {_short(kind)}", megapixels_per_second=1 / taken, gflops=cost / taken / 1e3, roof_gflops=best,
                share_of_roof=cost / taken / 1e3 / best,
            )  # fmt: skip


def of_peers(names: list[str]) -> None:
    """512 x 512 pixels: how much longer others take, one after the other."""
    for name, channels in MODELS.items():
        denoiser, image = Denoiser.load(name, device="cpu"), photograph(channels, 512, 512)
        pixels = image / np.float32(255)
        denoiser.denoise(image, tile=UNETS_TILE)
        for peer in names:
            ours, theirs = partial(denoiser.denoise, image, tile=UNETS_TILE), partial(PEERS[peer], pixels, 20 / 255)
            pairs = [(seconds(ours), seconds(theirs)) for _ in range(max(1, REPEATS // 2))]
            mine, its = np.median(pairs, 0).tolist()
            tell(f"{name}, {peer}", ratio=float(np.median([b / a for a, b in pairs])), seconds=mine, peer_seconds=its)


def of_sizes() -> None:
    """Seconds a megapixel from a tenth to a hundred megapixels, in memory."""
    denoiser = Denoiser.load("photo", device="cpu")
    for size in SIZES:
        side = round((size * 1e6) ** 0.5)
        image = photograph(3, side, side)
        taken = median(lambda image=image: denoiser.denoise(image, tile=UNETS_TILE)) if size <= 1 else seconds(
            lambda image=image: denoiser.denoise(image, tile=UNETS_TILE)
        )  # fmt: skip
        tell(f"{size:g} megapixels", seconds_per_megapixel=taken / size)


def of_files() -> None:
    """From the shell: help, one small image, a JPEG of 24 megapixels with peak memory."""
    with tempfile.TemporaryDirectory() as folder:
        small, large = Path(folder) / "small.png", Path(folder) / "large.jpg"
        Image.fromarray(photograph(3, 256, 256)).save(small)
        # elsewhere, or this process's own memory would be taken for that of the commands it starts
        made = multiprocessing.get_context("spawn").Process(target=_write_large, args=(large,))
        made.start()
        made.join()
        out = Path(folder) / "out"
        for what, arguments, often in (
            ("dbsn --help", ["--help"], REPEATS),
            ("dbsn denoise, 256 x 256", ["denoise", small, "-o", out, "--overwrite"], REPEATS),
            ("dbsn denoise, JPEG of 24 megapixels", ["denoise", large, "-o", out, "--overwrite"], 1),
        ):
            runs = [_from_shell(arguments) for _ in range(often)]
            taken, memory = np.median(runs, 0).tolist()
            tell(what, seconds=taken, peak_gib=memory)


def _write_large(path: Path) -> None:
    Image.fromarray(photograph(3, 4000, 6000)).save(path, quality=95)


def _from_shell(arguments: list[object]) -> tuple[float, float]:
    """Seconds and peak resident memory, GiB, of a command."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "dbsn", *map(str, arguments)], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"dbsn {arguments[0]} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 2**20


def of_training() -> None:
    """A step of the default student and of the default teacher, colour: the share of the roof of forward + backward."""
    for work in get_args(Work):
        tell(f"bfloat16, {work}", times_as_fast_as_float32=bf16_gain("cpu", work))
    kind = precisions("training")[0]
    best = roof(kind, backward=True)
    for what, cost, step in (student_step(), teacher_step()):

        def in_precision(step: Callable[[], None] = step) -> None:
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=kind == torch.bfloat16):
                step()

        taken = median(in_precision)
        tell(f"training step, {what}", seconds=taken, gflops=cost / taken / 1e9, roof_gflops=best,
             share_of_roof=cost / taken / 1e9 / best)  # fmt: skip


Step = tuple[str, float, Callable[[], None]]


def student_step(*, is_plain: bool = False) -> Step:
    """One step of the default student; `is_plain`: channels first, with Adam."""
    config, network = DistillConfig(), student_network("unet-guided")
    student = new_student(StudentConfig(network=network, channels=3), 0).to(memory_format=_order(is_plain))
    image = torch.rand(config.batch, 3, config.patch, config.patch).contiguous(memory_format=_order(is_plain))
    ones, side = torch.ones(config.batch, 1, 1, 1), config.patch // student.multiple
    pairs = Pairs(
        noisy=image, target=image, noise_var=ones, error_unit=ones, level=0.1 * torch.ones(config.batch, 3, side, side),
        valid=torch.ones_like(image[:, :1]), first=0,
    )  # fmt: skip
    loss = distillation_loss(config)
    return _step("student", student, lambda: loss(student, pairs, 0.5).terms, is_plain=is_plain)


def teacher_step(*, is_plain: bool = False) -> Step:
    """One step of the default blind-spot network; `is_plain`: channels first, with Adam."""
    config = TrainConfig()
    model = BlindSpotModel(ModelConfig(channels=3)).to(memory_format=_order(is_plain))
    side = config.patch // model.multiple * model.multiple
    image = torch.rand(config.batch, 3, side, side).contiguous(memory_format=_order(is_plain))
    batch = Batch(
        noisy=image, measurement=model.measure(image), valid=torch.ones_like(image[:, :1]), phase=(1, 1),
        spacing=model.network.spacing,
    )  # fmt: skip
    loss = self_supervised_loss(config)
    return _step("teacher", model, lambda: loss(model, batch, 0.5).terms, is_plain=is_plain)


def _order(is_plain: bool) -> torch.memory_format:
    return torch.contiguous_format if is_plain else MEMORY_FORMAT


def _step(
    what: str, network: BlindSpotModel | Student, terms: Callable[[], dict[str, torch.Tensor]], *, is_plain: bool
) -> Step:
    groups = network.parameter_groups()
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3) if is_plain else Muon(groups, lr=1e-3)

    def step() -> None:
        torch.stack(list(terms().values())).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    with FlopCounterMode(display=False) as counter:
        step()
    return what, counter.get_total_flops(), step


def _short(kind: torch.dtype) -> str:
    return {torch.bfloat16: "bf16", torch.float32: "fp32"}[kind]


OUT: Path = RESULTS


def tell(what: str, **figures: float) -> None:
    """Print figures and keep them."""
    row = {"what": what, **figures, "threads": torch.get_num_threads()}
    print(json.dumps(row), flush=True)
    kept(OUT, row, same=("what",), about=here())


def main() -> None:
    global OUT, REPEATS
    parser = argparse.ArgumentParser(description=__doc__)
    every = ("student", "peers", "sizes", "files", "training")
    parser.add_argument("--parts", nargs="*", default=every, choices=every)
    parser.add_argument("--peers", nargs="*", default=list(PEERS), choices=PEERS)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    if "files" in arguments.parts:
        of_files()
    if "training" in arguments.parts:
        of_training()  # before the rest, for `dbsn train` does not keep its memory as `dbsn denoise` does
    keep_freed_memory()
    OUT, REPEATS = arguments.out, arguments.repeats
    for name, part in (("student", of_students), ("sizes", of_sizes)):
        if name in arguments.parts:
            part()
    if "peers" in arguments.parts:
        of_peers(arguments.peers)


if __name__ == "__main__":
    main()
