"""Full-size D-BSN on one 321x481 image: our inference against a plain eager float32 NCHW run, in one process.

The calibration on the image itself (M8), which takes two more passes, is off. Weights are random. The loss of quality
by bfloat16 is given as rms difference over the output's spread, and as its effect on a 28.8 dB result. With --model the
PSNR of a trained model is measured both ways, too.
Usage: python -m benchmarks.speed.dbsn_speed [--repeats 3] [--model FILE --clean DIR]
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import torch

from dbsn.config import NETWORKS, ModelConfig
from dbsn.evaluation.evaluate import evaluate, summarise, synthetic_noise
from dbsn.inference.blindspot import predict
from dbsn.inference.options import InferenceOptions
from dbsn.io.folders import find_images
from dbsn.io.formats import read_image
from dbsn.models.blindspot import BlindSpotModel
from dbsn.noise.families import AWGN
from dbsn.store.model_file import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--clean", type=Path)
    arguments = parser.parse_args()
    torch.manual_seed(0)
    model = BlindSpotModel(ModelConfig(network=NETWORKS["dbsn"])).eval()
    plain = BlindSpotModel(ModelConfig(network=NETWORKS["dbsn"])).eval()
    plain.load_state_dict(model.state_dict())
    model.to(memory_format=torch.channels_last)
    image = np.random.default_rng(0).random((321, 481, 1), np.float32)
    tensor = torch.from_numpy(image).permute(2, 0, 1)[None]
    with torch.inference_mode():
        reference = plain.network.mean(plain.network.features(plain.normalise(tensor)))
        ours = predict(
            model, image, options=InferenceOptions(tile=0, bf16=True), calibrated=False, extras=("mean",)
        ).mean
    assert ours is not None
    difference = (torch.from_numpy(ours[..., 0]) - 0.5) / 0.5 - reference[0, 0]
    relative = float(difference.square().mean().sqrt() / reference.std())
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for _ in range(arguments.repeats):
        began = time.perf_counter()
        with torch.inference_mode():
            plain.network.mean(plain.network.features(plain.normalise(tensor)))
        seconds["plain"].append(time.perf_counter() - began)
        began = time.perf_counter()
        predict(model, image, options=InferenceOptions(tile=0, bf16=True), calibrated=False)
        seconds["ours"].append(time.perf_counter() - began)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["ours"], strict=True)]
    error = (relative * 0.2) ** 2  # of an image whose spread is 0.2
    figures: dict[str, object] = {
        "plain_seconds": float(np.median(seconds["plain"])), "our_seconds": float(np.median(seconds["ours"])),
        "ratio": float(np.median(ratios)), "threads": torch.get_num_threads(), "relative_difference": relative,
        "db_lost_at_28.8": float(10 * np.log10(1 + error / 10**-2.88)),
    }  # fmt: skip
    if arguments.model and arguments.clean:
        trained = load_model(arguments.model).model
        files = find_images([arguments.clean])[:10]
        pairs = [synthetic_noise(read_image(f).pixels, AWGN(25 / 255), seed=0, index=i) for i, f in enumerate(files)]
        for bf16 in (False, True):
            scores = list(evaluate(trained, pairs, options=InferenceOptions(bf16=bf16)))
            figures["psnr_bf16" if bf16 else "psnr_fp32"] = summarise(scores, "float")["psnr"]
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
