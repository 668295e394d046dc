"""Make the tables of benchmarks.md and paper.md from benchmarks/results.

quality.py, speed.py and paper.py write the results.
Usage: python benchmarks/tables.py (writes them); tests/unit/test_tables.py fails where the two differ.
"""

import csv
import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
WITHOUT_BF16 = RESULTS / "speed_avx2.json"
"""What speed.py measured on a processor without fast bfloat16."""
NAMES = {
    "awgn:15": "white, 15", "awgn:25": "white, 25", "awgn:50": "white, 50", "hg:40,10": "HG 40, 10", "mg:75": "MG 75",
    "own": "its own",
}  # fmt: skip
SETS = {
    "bsd68": "gray", "set12": "gray", "cbsd68": "photo",
    "real_w2s": "gray", "real_sidd_small": "photo", "real_cc15": "jpeg-photo",
}  # fmt: skip
"""Images, and the model that is for them."""
Row = dict[str, Any]


def quality(rows: list[Row]) -> str:
    """PSNR / SSIM of our models (blind) and of BM3D (given the noise level), for each set and noise."""
    lines = ["| images | noise (of 255) | ours, blind | BM3D, told the level | gain |", "|---|---|---|---|---|"]
    found = _widest(rows)
    for folder, model in SETS.items():
        for noise, name in NAMES.items():
            ours, theirs = (found.get((folder, noise, method)) for method in (model, "BM3D"))
            if not ours:
                continue
            # a difference only where the same images were measured
            same = theirs if theirs and theirs["images"] == ours["images"] else None
            name += ", affine" if ours.get("protocol") == "affine" else ""
            gain = f"{ours['psnr'] - same['psnr']:+.2f} dB" if same else ""
            lines.append(f"| {folder} ({ours['images']}) | {name} | {_shown(ours)} | {_shown(same)} | {gain} |")
        clean = found.get((folder, "awgn:0", model))
        if clean:
            least = f", {clean['least_psnr']:.1f} at least" if "least_psnr" in clean else ""
            lines.append(f"| {folder} ({clean['images']}) | none | {clean['psnr']:.1f} dB against itself{least} | | |")
    return "\n".join(lines)


def _widest(rows: list[Row]) -> dict[tuple[str, str, str], Row]:
    """The row of each set, noise and method: the one with most images that all methods have measured."""
    by_count = dict[tuple[str, str, int], list[Row]]()
    for row in rows:
        by_count.setdefault((row["set"], row["noise"], row["images"]), []).append(row)
    found = dict[tuple[str, str, str], Row]()
    for group in sorted(by_count.values(), key=lambda group: (len(group), group[0]["images"])):
        found |= {(row["set"], row["noise"], row["method"]): row for row in group}
    return found


def _shown(row: Row | None) -> str:
    return f"{row['psnr']:.2f} / {row['ssim']:.4f}" if row else ""


def speed(rows: list[Row]) -> str:
    """The measured speeds, one line each, with fast bfloat16 and without."""
    others = {row["what"]: row for row in json.loads(WITHOUT_BF16.read_text())}
    whats = list(dict.fromkeys([row["what"] for row in rows] + list(others)))
    known = {row["what"]: row for row in rows}
    lines = ["| what | with fast bfloat16 | AVX2 alone |", "|---|---|---|"]
    lines += [f"| {what} | {_facts(known.get(what))} | {_facts(others.get(what))} |" for what in whats]
    return "\n".join(lines)


def _facts(row: Row | None) -> str:
    """One measurement in words."""
    facts, row = [], row or {}
    if "times_as_fast_as_float32" in row:
        facts.append(f"{row['times_as_fast_as_float32']:.2g} times as fast as float32")
    if "megapixels_per_second" in row:
        facts.append(f"{row['megapixels_per_second']:.2f} megapixels a second")
    if "seconds_per_megapixel" in row:
        facts.append(f"{row['seconds_per_megapixel']:.2f} s a megapixel")
    if "share_of_roof" in row:
        facts.append(f"{100 * row['share_of_roof']:.0f} % of {row['roof_gflops']:.0f} GFLOP/s")
    if "ratio" in row:
        facts.append(f"takes {row['ratio']:.3g} times as long as ours")
    if "peak_gib" in row:
        facts.append(f"{row['seconds']:.1f} s, {row['peak_gib']:.2f} GiB at most")
    return ", ".join(facts)


PUBLISHED = {
    "gray15": ("gray, white 15", 31.07, 31.24, 31.86, 31.82),
    "gray25": ("gray, white 25", 28.57, 28.88, 29.41, 29.38),
    "gray50": ("gray, white 50", 25.62, 25.81, 26.53, 26.51),
    "gray-hg": ("gray, HG 40, 10", 23.84, 29.13, 30.16, 30.10),
    "colour15": ("colour, white 15", 33.52, 33.56, 34.08, 34.02),
    "colour25": ("colour, white 25", 30.71, 30.61, 31.40, 31.40),
    "colour50": ("colour, white 50", 27.38, 27.41, 28.26, 28.25),
    "colour-hg": ("colour, HG 40, 10", 23.21, 30.53, 32.10, 31.72),
    "colour-mg": ("colour, MG 75", 24.07, 26.48, 26.89, 26.81),
}
"""What it is; and PSNR by Wu et al. 2020, tables 1 and 2 (BSD68, CBSD68): BM3D, D-BSN (stage 1), N2C, full method."""
STAGE_1, FULL, N2C, ORIENTED = "stage 1", "full", "N2C", ", 8 orientations"
"""What figures of ours are called in paper.json."""


def paper(rows: list[Row]) -> str:
    """The paper's tables with ours beside its columns, the better of each pair in bold."""
    heads = ("noise", "BM3D", "D-BSN", "ours", "ours, x 8", "N2C", "ours", "full", "ours", "ours, x 8")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    found = {(row["setting"], row["method"]): round(row["psnr"], 2) for row in rows}
    for setting, (name, bm3d, *theirs) in PUBLISHED.items():
        cells = [name, f"{bm3d:.2f}"]
        for method, their in zip((STAGE_1, N2C, FULL), theirs, strict=True):
            ours, oriented = found.get((setting, method)), found.get((setting, method + ORIENTED))
            cells += [_in_bold(their, than=ours), _in_bold(ours, than=their)]
            cells += [] if method == N2C else ["" if oriented is None else f"{oriented:.2f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _in_bold(figure: float | None, *, than: float | None) -> str:
    """A figure, in bold if it is better than another; empty if there is none."""
    if figure is None:
        return ""
    return f"**{figure:.2f}**" if than is not None and figure > than else f"{figure:.2f}"


def paper_cost(rows: list[Row]) -> str:
    """The cost of each of our figures."""
    heads = ("", "begins with", "steps", "minutes", "cores", "parameters", "MFLOP a pixel", "PSNR", "SSIM")
    heads += ("its mean", "with the true noise", "level (true)")
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    others = [name for name in dict.fromkeys(row["setting"] for row in rows) if name not in PUBLISHED]
    for row in sorted(rows, key=lambda row: ([*others, *PUBLISHED].index(row["setting"]), row["method"])):
        if row["method"].endswith(ORIENTED):
            continue
        extras = ("mean_psnr", "oracle_psnr", "noise_std_255", "true_noise_std_255")
        mean, oracle, level, true = (f"{row[name]:.2f}" if name in row else "" for name in extras)
        cells = [f"{row['setting']}, {row['method']}", row["begins"], row["steps"], row["minutes"], row["cores"]]
        cells += [f"{row['parameters'] / 1e6:.2f} M", f"{row['mflop_per_pixel']:.2f}"]
        cells += [f"{row['psnr']:.2f}", f"{row['ssim']:.4f}", mean, oracle, f"{level} ({true})" if level else ""]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


SIZES = {"gray-start": "grid-flat", "gray25-dbsn": "D-BSN, full size"}
"""Settings whose blind-spot networks learn the same from random weights."""
_MINUTES, _PFLOP = (5, 10, 20, 30, 40), (0.1, 0.2, 0.4, 0.6)


def paper_networks(rows: list[Row]) -> str:
    """Held-out likelihood of two blind-spot networks at equal minutes, and at equal operations of the training."""
    found = {row["setting"]: row for row in rows if row["method"] == STAGE_1 and row["setting"] in SIZES}
    curves = {name: _curve(row) for name, row in found.items()}
    lines = [f"| | {' | '.join(SIZES.values())} |", "|---" * (1 + len(SIZES)) + "|"]
    for unit, places in (("minutes", _MINUTES), ("PFLOP", _PFLOP)):
        for place in places:
            cells = [_at(curves.get(name, []), unit, place) for name in SIZES]
            lines.append(f"| after {place} {unit} | {' | '.join(cells)} |")
    for what, form in (("minutes", ".0f"), ("steps", ""), ("mflop_per_pixel", ".2f"), ("psnr", ".2f"), ("ssim", ".4f")):
        cells = [f"{found[name][what]:{form}}" if name in found else "" for name in SIZES]
        lines.append(f"| {what.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _curve(row: Row) -> list[Row]:
    """Minutes, operations and held-out likelihood of a stage 1, from its log."""
    with (ROOT / "benchmarks" / "paper" / "models" / row["setting"] / "blind.csv").open(newline="") as file:
        looks = [line for line in csv.DictReader(file) if line["validation"]]
    step = 3 * row["mflop_per_pixel"] * row["pixels_per_step"] / 1e9  # backward is two; M8 adds a little
    return [
        {"minutes": float(look["seconds"]) / 60, "PFLOP": step * int(look["step"]), "nll": float(look["validation"])}
        for look in looks
    ]


def _at(curve: list[Row], unit: str, place: float) -> str:
    """Interpolate the likelihood between the measured ones; None before the first and after the last."""
    later = next((i for i, look in enumerate(curve) if look[unit] >= place), 0)
    if not later:
        return ""
    one, other = curve[later - 1], curve[later]
    share = (place - one[unit]) / (other[unit] - one[unit])
    return f"{one['nll'] + share * (other['nll'] - one['nll']):.4f}"


TABLES = {
    "docs/reference/benchmarks.md": {"quality": ("quality", quality), "speed": ("speed", speed)},
    "docs/explanation/paper.md": {
        "paper": ("paper", paper),
        "cost": ("paper", paper_cost),
        "networks": ("paper", paper_networks),
    },
}
"""By document and by the name between `<!-- -->`: which results, and the table they make."""


def with_tables(document: str, text: str) -> str:
    """A document's text with today's tables."""
    for name, (results, table) in TABLES[document].items():
        path = RESULTS / f"{results}.json"
        if not path.exists():
            continue
        begin, end = f"<!-- {name} -->\n", f"<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = f"{before}{begin}{table(json.loads(path.read_text()))}\n{end}{after}"
    return text


if __name__ == "__main__":
    for document in TABLES:
        (ROOT / document).write_text(with_tables(document, (ROOT / document).read_text()))
