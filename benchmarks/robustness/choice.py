"""How far the automatically chosen built-in model is from the best one, on images of all kinds.

Usage: python -m benchmarks.robustness.choice [--data DIR] [--crops N] [--only NAME] [--csv FILE]
It prints a line for each image and crop: the PSNR of each built-in model, that of the automatic choice, and the regret,
which is the best one's PSNR minus the chosen one's. Without DIR only images made from scikit-image's pictures are used.
Mosaics are left out: they are recognised before a model is picked (tests/unit/test_mosaic.py).
"""

import argparse
import csv
import io
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import skimage.data
from PIL import Image
from scipy.ndimage import convolve, gaussian_filter, zoom

from dbsn.batch.model_choice import ModelPicker
from dbsn.denoiser import Denoiser
from dbsn.intensity import OF_255, to_gray, to_pixels
from dbsn.io.formats import read_image
from dbsn.store import builtin

SIDE, CROPPED = 320, (200, 150, 256)
COLOUR = (
    "astronaut",
    "coffee",
    "chelsea",
    "rocket",
    "motorcycle",
    "retina",
    "hubble_deep_field",
    "immunohistochemistry",
)
GRAY = ("camera", "brick", "grass", "gravel", "cell", "moon")
HALVED = {*COLOUR, *GRAY} - {"astronaut", "coffee", "motorcycle", "camera"}  # JPEGs themselves, or noisy
LUMA = np.array([[0.299, 0.587, 0.114], [-0.1687, -0.3313, 0.5], [0.5, -0.4187, -0.0813]])
CROSS, SQUARE = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]]) / 4, np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]]) / 4


@dataclass(frozen=True)
class Pair:
    """A noisy image and what it should be, both uint8 or floats of 0 to 1, (h, w, c)."""

    kind: str
    name: str
    noisy: np.ndarray
    clean: np.ndarray
    affine: bool = False
    """Whether the clean one was stretched by itself; then gain and offset are fitted before PSNR."""


def photograph(name: str) -> np.ndarray:
    picture = skimage.data.stereo_motorcycle()[0] if name == "motorcycle" else getattr(skimage.data, name)()
    picture = picture.reshape(*picture.shape[:2], -1)[..., :3]
    if name in HALVED:
        rows, columns = (side // 2 for side in picture.shape[:2])
        picture = in_8_bits(picture[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).mean((1, 3)))
    top, left = (max(0, length - SIDE) // 2 for length in picture.shape[:2])
    return np.ascontiguousarray(picture[top:, left:][:SIDE, :SIDE])


def in_8_bits(pixels: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)


def through_jpeg(image: np.ndarray, quality: int, subsampling: int = 2) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(image.squeeze()).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file)).reshape(image.shape)


def spread_noise(shape: tuple[int, ...], std: float, sigma: float, seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(size=shape), (sigma, sigma, 0))
    return std * noise / noise.std()


def white_noise(shape: tuple[int, ...], std: float, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, std, shape)


def camera(clean: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A photograph as a camera makes it of noisy and of noise-free light: mosaic, development, JPEG."""
    random = np.random.default_rng(seed)
    light = (clean / 255.0) ** 2.2 / np.array([random.uniform(1.3, 2.5), 1.0, random.uniform(1.3, 2.5)])
    gains = light.max((0, 1)) / np.maximum(((clean / 255.0) ** 2.2).max((0, 1)), 1e-6)
    shot = np.exp(random.uniform(np.log(2e-4), np.log(4e-3)))
    read = np.exp(2.18 * np.log(shot) + 1.2)
    noisy = np.clip(light + random.normal(size=light.shape) * np.sqrt(light * shot + read), 0, 1)
    softness, chroma, share = random.uniform(0.6, 1.6), random.uniform(0.5, 3), random.uniform(0.5, 1)
    mask = np.zeros(light.shape)
    mask[::2, ::2, 0] = mask[1::2, 1::2, 2] = mask[::2, 1::2, 1] = mask[1::2, ::2, 1] = 1

    def developed(seen: np.ndarray) -> np.ndarray:
        kernels = (SQUARE, CROSS, SQUARE)
        full = np.stack([convolve(seen[..., i] * mask[..., i], kernels[i], mode="mirror") for i in range(3)], 2) / gains
        parts = np.clip(full, 0, 1) ** (1 / 2.2) @ LUMA.T
        parts[..., 0] = (1 - share) * parts[..., 0] + share * gaussian_filter(parts[..., 0], softness)
        parts[..., 1:] = gaussian_filter(parts[..., 1:], (chroma, chroma, 0))
        return in_8_bits(255 * parts @ np.linalg.inv(LUMA).T)

    return through_jpeg(developed(noisy), int(random.integers(75, 98)), int(random.choice([0, 2]))), developed(light)


def made() -> Iterator[Pair]:
    """Images made from scikit-image's pictures."""
    for seed, name in enumerate(COLOUR):
        clean = photograph(name)
        for std, quality in ((3.5, 75), (2.0, 60), (2.5, 85), (6.0, 92))[seed % 2 :: 2]:
            noisy = in_8_bits(clean + spread_noise(clean.shape, std, 1.6, seed))
            yield Pair("spread noise, JPEG", f"{name} {std:g} q{quality}", through_jpeg(noisy, quality), clean)
        noisy, developed = camera(photograph(name), seed)
        yield Pair("camera JPEG", name, noisy, developed)
        for std in ((5, 20), (10, 40), (2, 25), (15, 50))[seed % 4]:
            yield Pair("white noise", f"{name} {std}", in_8_bits(clean + white_noise(clean.shape, std, seed)), clean)
        quality = (95, 85, 75, 60)[seed % 4]
        yield Pair("clean JPEG", f"{name} q{quality}", through_jpeg(clean, quality), clean)
        std = (4, 8, 15, 25)[seed % 4]
        noisy = through_jpeg(in_8_bits(clean + white_noise(clean.shape, std, seed)), (90, 80, 95, 75)[seed // 2 % 4])
        yield Pair("white noise, JPEG", f"{name} {std}", noisy, clean)
        if seed % 2 == 0:
            yield Pair("clean", name, clean, clean)
            small = in_8_bits(clean[::2, ::2] + white_noise(clean[::2, ::2].shape, 12, seed))
            large = zoom(small.astype(float), (2, 2, 1), order=1)
            yield Pair(
                "enlarged", name, in_8_bits(large), in_8_bits(zoom(clean[::2, ::2].astype(float), (2, 2, 1), order=1))
            )
        else:
            yield Pair("film grain", name, in_8_bits(clean + spread_noise(clean.shape, 12, 0.9, seed)), clean)
            gray = to_gray(clean.astype(float))
            yield Pair("white noise, gray", name, in_8_bits(gray + white_noise(gray.shape, 15, seed)), in_8_bits(gray))
    for seed, name in enumerate(GRAY):
        clean = photograph(name)
        std = (10, 25, 5, 15, 30, 20)[seed]
        yield Pair("white noise, gray", f"{name} {std}", in_8_bits(clean + white_noise(clean.shape, std, seed)), clean)
        noisy = in_8_bits(clean + spread_noise(clean.shape, (3.5, 6)[seed % 2], 1.6, seed))
        yield Pair("spread noise, gray JPEG", name, through_jpeg(noisy, (75, 90)[seed % 2]), clean)
        yield Pair("clean, gray", name, clean, clean)
        small = in_8_bits(clean[::2, ::2] + white_noise(clean[::2, ::2].shape, 12, seed))
        large = zoom(small.astype(float), (2, 2, 1), order=1)
        yield Pair(
            "enlarged, gray", name, in_8_bits(large), in_8_bits(zoom(clean[::2, ::2].astype(float), (2, 2, 1), order=1))
        )


def recorded(data: Path) -> Iterator[Pair]:
    """Real noise with its clean image."""
    for folder, every, kind in (("real_cc15", 1, "cc15"), ("real_sidd_small", 8, "SIDD"), ("real_w2s", 3, "W2S")):
        for path in sorted((data / folder / "noisy").iterdir())[::every]:
            noisy, clean = (read_image(data / folder / which / path.name).samples for which in ("noisy", "clean"))
            yield Pair(kind, path.stem[:24], noisy[:SIDE, :SIDE], clean[:SIDE, :SIDE], affine=kind == "W2S")


def crops(pair: Pair, most: int) -> Iterator[Pair]:
    yield pair
    random = np.random.default_rng(len(pair.name))
    for number in range(most):
        side = min(CROPPED[number % len(CROPPED)], *pair.noisy.shape[:2])
        top, left = (int(random.integers(0, length - side + 1)) for length in pair.noisy.shape[:2])
        part = (slice(top, top + side), slice(left, left + side))
        yield Pair(
            pair.kind, f"{pair.name} [{top}:+{side},{left}:+{side}]", pair.noisy[part], pair.clean[part], pair.affine
        )


def quality(result: np.ndarray, pair: Pair) -> float:
    """PSNR against the clean image in dB; at most 50, for beyond (0.8 of 255) nobody sees a difference."""
    result, clean = (to_pixels(each).astype(np.float64) for each in (result, pair.clean))
    if pair.affine:
        gain, offset = np.polyfit(result.ravel(), clean.ravel(), 1)
        result = gain * result + offset
    return min(50.0, float(-10 * np.log10(((result - clean) ** 2).mean() + 1e-12)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    parser.add_argument("--crops", type=int, default=2, help="of each image, beside the whole one")
    parser.add_argument("--only", default="", help="images whose kind or name contains this")
    parser.add_argument("--csv", type=Path)
    arguments = parser.parse_args()
    picker, models = ModelPicker(None), {name: Denoiser.load(name) for name in builtin.names()}
    rows, seconds = [], []
    pairs = [*made(), *(recorded(arguments.data) if arguments.data.is_dir() else ())]
    for whole in (pair for pair in pairs if arguments.only in f"{pair.kind} {pair.name}"):
        for number, pair in enumerate(crops(whole, arguments.crops)):
            begun = time.perf_counter()
            chosen = str(picker.pick(pair.noisy, OF_255)[1].model)
            seconds.append(time.perf_counter() - begun)
            fits = {builtin.name_for(pair.noisy.shape[2], independent=each, to_apply=True) for each in (True, False)}
            scores = {name: quality(models[name].denoise(pair.noisy), pair) for name in sorted(fits)}
            rows.append((number > 0, pair, chosen, scores, max(scores.values()) - scores[chosen]))
            figures = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
            line = (
                pair.kind,
                pair.name,
                f"noisy {quality(pair.noisy, pair):.2f}",
                figures,
                f"{chosen} {rows[-1][-1]:.2f}",
            )
            print(*line, sep=" | ", flush=True)
    for title, part in (("images", [row for row in rows if not row[0]]), ("crops", [row for row in rows if row[0]])):
        if regrets := [row[-1] for row in part]:
            beyond = sum(regret > 0.3 for regret in regrets)
            worst = f"worst {max(regrets):.2f} dB, {beyond} above 0.3 dB"
            print(f"{len(part)} {title}: mean {np.mean(regrets):.3f} dB, {worst}")
    print(f"choosing: median {1000 * np.median(seconds):.0f} ms")
    if arguments.csv:
        with arguments.csv.open("w", newline="") as file:
            csv.writer(file).writerows(
                (pair.kind, pair.name, chosen, *scores.values(), regret) for _, pair, chosen, scores, regret in rows
            )


if __name__ == "__main__":
    main()
