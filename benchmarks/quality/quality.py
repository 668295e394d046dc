"""Measure the quality of the built-in models (blind) beside denoisers that are given the true noise level.

Usage: python -m benchmarks.quality.quality [--data DIR] [--every N] [--models gray photo ...] [--peers BM3D ...]
           [--sets set12 ...] [--noises awgn:25 ...] [--only-peers] [--out FILE]
Clean images of set12 and bsd68 (gray) and cbsd68 (colour) with one fixed realisation each of AWGN 15 / 25 / 50, HG
40,10, MG 75 (colour), and without noise; and real_w2s, real_sidd_small and real_cc15 with the noise they have ("own").
--every 4 measures every 4th image. Results are added to FILE as JSON (benchmarks/results/quality.json), from which
benchmarks/tables.py makes that of benchmarks.md.
"""

import argparse
import json
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.peers import PEERS, Denoise
from benchmarks.quality.noise_match import fitted
from benchmarks.results import here, kept
from dbsn import Denoiser
from dbsn.evaluation.evaluate import Pair, synthetic_noise, true_noise_std
from dbsn.evaluation.metrics import Protocol, prepare, psnr, ssim
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.noise.families import parse_noise
from dbsn.store.builtin import card, names

SETS = {
    "gray": ("bsd68", "set12", "real_w2s"),
    "photo": ("cbsd68", "real_sidd_small"),
    "jpeg-photo": ("real_cc15",),
}  # fmt: skip
OWN = "own"
NOISES = ("awgn:15", "awgn:25", "awgn:50", "hg:40,10", "mg:75", "awgn:0", OWN)
RESULTS = Path(__file__).parents[1] / "results" / "quality.json"


def pairs(folder: Path, spec: str, every: int) -> Iterator[Pair]:
    """Pairs of a folder: clean images with synthetic noise, or its `noisy` and `clean` images."""
    if spec == OWN:
        noisy_files = {path.stem: path for path in find_images([folder / "noisy"])}
        for clean in find_images([folder / "clean"])[::every]:
            noisy = noisy_files[clean.stem]
            yield Pair(name=noisy.name, noisy=read_image(noisy).pixels, clean=read_image(clean).pixels)
    else:
        for index, path in list(enumerate(find_images([folder])))[::every]:
            yield synthetic_noise(read_image(path).pixels, parse_noise(spec), seed=0, index=index)


def protocol_of(folder: str) -> Protocol:
    """The protocol of a set: noisy and clean micrographs were stretched separately."""
    return "affine" if folder == "real_w2s" else "float"


def scores(denoise: Denoise, folder: Path, spec: str, every: int) -> dict[str, float | int]:
    """Mean figures over the images of a folder under one noise."""
    protocol = protocol_of(folder.name)
    began, found = time.perf_counter(), []
    for pair in pairs(folder, spec, every):
        std = true_noise_std(pair)
        std = _own_level(pair, protocol) if std is None else std
        result = prepare(denoise(pair.noisy, std), pair.clean, protocol)
        found.append((min(psnr(result, pair.clean), 99.0), ssim(result, pair.clean)))
    decibels, similarity = np.mean(found, 0).tolist()
    seconds, least = time.perf_counter() - began, min(psnr for psnr, _ in found)
    return {"psnr": decibels, "ssim": similarity, "least_psnr": least, "images": len(found), "seconds": seconds}


def _own_level(pair: Pair, protocol: Protocol) -> float:
    """Noise level of a real image: noisy minus clean, with gain and offset fitted if necessary."""
    clean = fitted(pair.clean, pair.noisy) if protocol == "affine" else pair.clean
    return float((pair.noisy - clean).std())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--models", nargs="*", default=[name for name in SETS if name in names()], choices=SETS)
    parser.add_argument("--peers", nargs="*", default=["BM3D"], choices=PEERS)
    parser.add_argument("--noises", nargs="*", default=NOISES)
    parser.add_argument("--sets", nargs="*", default=[name for every in SETS.values() for name in every])
    parser.add_argument("--only-peers", action="store_true", help="keep the old figures of our models")
    parser.add_argument("--out", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    for model in arguments.models:
        denoiser = Denoiser.load(model)
        ours: dict[str, Denoise] = {model: lambda noisy, _, denoiser=denoiser: denoiser.predict(noisy)}
        methods = ({} if arguments.only_peers else ours) | {name: PEERS[name] for name in arguments.peers}
        for folder in (name for name in SETS[model] if name in arguments.sets):
            for spec in arguments.noises:
                if (spec == OWN) != folder.startswith("real_") or (spec.startswith("mg") and card(model).channels == 1):
                    continue
                for name, denoise in methods.items():
                    if spec == "awgn:0" and name in PEERS:
                        continue  # they would be told that there is none
                    row = {"set": folder, "noise": spec, "method": name, "protocol": protocol_of(folder)}
                    row |= scores(denoise, arguments.data / folder, spec, arguments.every)
                    print(json.dumps(row), flush=True)
                    kept(arguments.out, row, same=("set", "noise", "method", "images"), about=here())


if __name__ == "__main__":
    main()
