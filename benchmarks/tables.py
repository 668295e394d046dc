"""README's tables of quality and speed, made from benchmarks/results (quality.py and speed.py write those).

Usage: python benchmarks/tables.py (writes README.md); tests/unit/test_tables.py fails where the two differ.
"""

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
README, RESULTS = ROOT / "README.md", ROOT / "benchmarks" / "results"
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
    """PSNR / SSIM of ours, blind, and of BM3D, told the noise level, for each set and noise."""
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
    """The row of each set, noise and method: that of most images, where all methods have measured as many of them."""
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
    """What was measured of speed, a line each."""
    lines = ["| what | |", "|---|---|"]
    for row in rows:
        facts = []
        if "megapixels_per_second" in row:
            facts.append(f"{row['megapixels_per_second']:.2f} megapixels a second")
        if "seconds_per_megapixel" in row:
            facts.append(f"{row['seconds_per_megapixel']:.2f} s a megapixel")
        if "share_of_roof" in row:
            facts.append(f"{100 * row['share_of_roof']:.0f} % of the fastest convolution here")
        if "ratio" in row:
            facts.append(f"takes {row['ratio']:.3g} times as long as ours")
        if "peak_gib" in row:
            facts.append(f"{row['seconds']:.1f} s, {row['peak_gib']:.2f} GiB at most")
        lines.append(f"| {row['what']} | {', '.join(facts)} |")
    return "\n".join(lines)


TABLES = {"quality": quality, "speed": speed}


def with_tables(text: str) -> str:
    """README's text with today's tables."""
    for name, table in TABLES.items():
        path = RESULTS / f"{name}.json"
        if not path.exists():
            continue
        begin, end = f"<!-- {name} -->\n", f"\n<!-- /{name} -->"
        before, _, rest = text.partition(begin)
        _, _, after = rest.partition(end)
        text = before + begin + table(json.loads(path.read_text())) + end + after
    return text


if __name__ == "__main__":
    README.write_text(with_tables(README.read_text()))
