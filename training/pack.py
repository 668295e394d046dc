"""Put a trained model into the package, in half precision and with its card.

Usage: python training/pack.py gray|photo|jpeg-photo [--runs DIR] [--student FILE] [--teacher] [--measured FILE]
Teacher and student are those of runs/ship_NAME (training/make.py), or the student is that of FILE. Without a run they
are those of the built-in model.
FILE is benchmarks/results/quality.json. models.md is generated from the cards. Without a name only models.md is
written.
"""

import argparse
import json
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import skimage.data
import torch

from dbsn.evaluation.evaluate import synthetic_noise
from dbsn.intensity import to_gray, to_pixels
from dbsn.noise.families import AWGN
from dbsn.noise.mixtures import JPEGNoise
from dbsn.store import builtin
from dbsn.store.model_file import load_model
from dbsn.store.tensors import in_half_precision, load_tensors, save_tensors
from dbsn.tensors import as_tensor
from dbsn.training.distill import recalibrate
from dbsn.training.pairs import Pairs

MODELS = Path(__file__).parent.parent / "docs" / "reference" / "models.md"
HELD_OUT = ("astronaut", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "moon", "page", "rocket")
WHITE = {level: AWGN(level / 255) for level in (10, 25, 50)}
SHARED = {
    seed: JPEGNoise(photon=0.5, std=level / 255, luma_blur=blur, chroma_blur=2 * blur, chroma=0.5, quality=quality)
    for seed, (level, blur, quality) in enumerate([(4, 0.6, 95), (8, 0.8, 90), (16, 1.0, 80)])
}
"""Photographs of scikit-image and, by seed, the noise to recalibrate uncertainty on: independent, or as in JPEGs."""
DATA = (
    "292 photographs under free licences: 244 busy crops and 48 wallpapers (Budgie, Lomiri, MATE, Pop!_OS); each patch"
    " shrunk by another factor and with other noise (math.md, N5)"
)
TERMS = (
    "images CC0, public domain, CC-BY, CC-BY-SA, BSD-2 and GPL-2+, named in dbsn/store/weights/CREDITS.md; weights "
    "Apache-2.0"
)
CREDITS = """## The photographs they were trained on

Wallpapers of four desktops, shrunk to about 900 pixels on the shorter side, by the names of their files.

- Budgie, CC0: {budgie}.
- Lomiri, CC-BY or CC-BY-SA, by the authors in the names: {lomiri}.
- MATE, GPL-2 or later: {mate}.
- Pop!_OS, public domain: {popos}.

The 244 crops that `gray` learned from as well are named in `src/dbsn/store/weights/CREDITS.md`, part of the wheel.
"""
IMAGES = {
    "budgie": (
        "abstract spiral", "beacon street sunset", "blue periwinkle", "canyon wren", "casa mila", "extreme desert hike",
        "lake sherburne", "oakland zoo otters", "perched osprey", "piazza gae aulenti", "roman colosseum",
        "singaporean cityscape", "tea gardens", "the spices of life",
    ),
    "lomiri": (
        "Bridge by Sander Klootwijk", "Dragonfly by Bolly", "Kleiber by Lukas Baubkus", "Picture 0B by freespace",
        "Picture 1A by freespace", "Wine by Jakkub Mede", "aitzgorri by Aitzol Berasategi", "free by Peter Nerlich",
        "friends by Aitzol Berasategi", "greentock by Peter Nerlich", "life by Aitzol Berasategi",
        "picosdeeuropa by Aitzol Berasategi", "seeding by Clements Engelhardt", "sunset by Aitzol Berasategi",
    ),
    "mate": (
        "Aqua", "Blinds", "Dune", "FreshFlower", "Garden", "GreenMeadow", "LadyBird", "RainDrops", "Storm", "TwoWings",
        "Wood", "YellowFlower",
    ),
    "popos": (
        "jad limcaco 183877", "jared evans 119758", "kait herzog 8242", "nasa 45068", "nasa 89127",
        "samuel zeller 337041", "sean afnan 244576", "tony webster 97532",
    ),
}  # fmt: skip
ANY = "Gaussian of any level up to 60 of 255, Poisson-Gaussian, heteroscedastic, correlated between channels"
JPEG = "up to 25 of 255 before it is spread over neighbouring pixels, colour more than brightness, and compressed"
CARDS = {
    "gray": ("gray images with noise that is independent from pixel to pixel, from none to strong", True, ANY),
    "photo": ("colour images with noise that is independent from pixel to pixel, from none to strong", True, ANY),
    "jpeg-photo": ("photographs as cameras write them: JPEG, with noise that neighbouring pixels share", False, JPEG),
}


def pack(name: str, runs: Path, *, student: Path | None, with_teacher: bool) -> None:
    """Write a built-in model's file from its runs or a student's file; old measured figures stay until replaced."""
    run, ships = runs / f"ship_{name}", builtin.WEIGHTS / f"{name}.safetensors"

    def made(part: str) -> Path:
        file = run / part / "model.safetensors"
        if not file.exists() and not ships.exists():
            raise SystemExit(f"{file}: neither trained nor built-in. Run: python training/make.py {name} --part {part}")
        return file if file.exists() else ships

    tensors, of_student = load_tensors(student or made("student"))
    parts = {key: value for key, value in tensors.items() if key.startswith("student/")}
    header = {"student": of_student["student"], "about": {"student": {"step": _step(of_student, "student")}}}
    if with_teacher:
        tensors, of_teacher = load_tensors(made("teacher"))
        parts |= {key: value for key, value in tensors.items() if not key.startswith("student/")}
        header |= {"model": of_teacher["model"]}
        header["about"] |= {"teacher": {"step": _step(of_teacher, "teacher")}}
    small = in_half_precision(parts)
    purpose, independent, noise = CARDS[name]
    known = builtin.card(name).measured if name in builtin.names() else {}
    steps = [f"make.py {name}", f"pack.py {name}{' --teacher' if with_teacher else ''}"]
    card = builtin.Card(
        name=name,
        channels=header["student"]["channels"],
        purpose=purpose,
        independent=independent,
        noise=noise,
        data=DATA,
        terms=TERMS,
        made_by="; ".join(f"python training/{step}" for step in steps),
        measured=known,
    )
    builtin.WEIGHTS.mkdir(exist_ok=True)
    header["about"] |= {builtin.CARD: asdict(card)}
    for part in {"model", "student"} & header.keys():
        header[part]["stretches"] = True
    with tempfile.TemporaryDirectory() as folder:  # what ships is replaced by what has been read again
        trial = Path(folder) / "trial.safetensors"
        save_tensors(trial, small, header)
        recalibrated = load_model(trial).student
    assert recalibrated is not None
    recalibrate(recalibrated, held_out_pairs(header["student"]["channels"], independent=independent))
    assert recalibrated.spread is not None
    small["student/spread.factor"] = recalibrated.spread.factor
    save_tensors(builtin.WEIGHTS / f"{name}.safetensors", small, header)


def held_out_pairs(channels: int, *, independent: bool) -> list[Pairs]:
    """Photographs of scikit-image, held out from training, with white noise of three levels, or JPEG noise."""
    pairs = []
    for number, name in enumerate(HELD_OUT):
        photograph = getattr(skimage.data, name)()
        if channels == 3 and photograph.ndim == 2:
            continue
        pixels = to_pixels(photograph if photograph.ndim == 3 else photograph[..., None])
        clean = np.ascontiguousarray((to_gray(pixels) if channels == 1 else pixels)[:512, :512])
        for seed, noise in (WHITE if independent else SHARED).items():
            pair = synthetic_noise(clean, noise, seed=seed, index=number)
            target = as_tensor(pair.clean)
            power = noise.variance(target).mean((1, 2, 3), keepdim=True)
            pairs.append(
                Pairs(
                    noisy=as_tensor(pair.noisy), target=target, noise_var=power, error_unit=power,
                    valid=torch.ones_like(target[:, :1]), first=0,
                )
            )  # fmt: skip
    return pairs


def _step(header: dict[str, Any], part: str) -> int:
    """The step of the best weights of a run or of a built-in model."""
    about = header["about"]
    return int(about["step"] if "step" in about else about[part]["step"])


def write_measured(name: str, rows: list[dict[str, Any]]) -> None:
    """Write the results of benchmarks/quality/quality.py into a built-in model's card."""
    tensors, header = load_tensors(builtin.path_of(name))
    header["about"][builtin.CARD]["measured"] = {
        f"{row['set']} {row['noise']}": f"{row['psnr']:.2f} dB, SSIM {row['ssim']:.4f} ({row['images']} images)"
        for row in sorted(rows, key=lambda row: row["images"])
        if row["method"] == name
    }
    save_tensors(builtin.path_of(name), tensors, header)


def cards() -> str:
    """The text of models.md."""
    lines = [
        "# Models that come with dbsn",
        "",
        "Made from the cards in the model files by `python training/pack.py`.",
        "",
    ]
    for name in builtin.names():
        card = builtin.card(name)
        lines += [f"## {name}", "", f"For {card.purpose}.", ""]
        facts = {"Takes out": card.noise, "Trained on": card.data, "Terms": card.terms, "Made by": f"`{card.made_by}`"}
        facts |= {"File": f"{builtin.path_of(name).stat().st_size / 1e6:.1f} MB, sha256 `{builtin.sha256(name)}`"}
        lines += [f"- **{what}**: {said}" for what, said in (facts | card.measured).items()] + [""]
    return "\n".join([*lines, CREDITS.format(**{kind: ", ".join(every) for kind, every in IMAGES.items()})])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", choices=CARDS)
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--student", type=Path, help="a model file with the student, instead of a run")
    parser.add_argument("--teacher", action="store_true", help="include the teacher")
    parser.add_argument("--measured", type=Path)
    arguments = parser.parse_args()
    if arguments.model and arguments.measured:
        write_measured(arguments.model, json.loads(arguments.measured.read_text()))
    elif arguments.model:
        pack(arguments.model, arguments.runs, student=arguments.student, with_teacher=arguments.teacher)
    MODELS.write_text(cards())


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
