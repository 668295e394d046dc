"""The tables of the documentation are those of the measured results."""

import importlib.util
import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def tables():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("tables", ROOT / "benchmarks" / "tables.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("document", ["docs/reference/benchmarks.md", "docs/explanation/paper.md"])
def test_documents_have_the_figures_that_were_measured(tables, document: str) -> None:  # type: ignore[no-untyped-def]
    text = (ROOT / document).read_text()
    assert all(f"<!-- {name} -->" in text for name in tables.TABLES[document])
    assert tables.with_tables(document, text) == text, "python benchmarks/tables.py makes them again"
    for name in tables.TABLES[document]:
        before, _, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        empty = f"{before}<!-- {name} -->\n{end}{after}"
        assert tables.with_tables(document, empty) == text, "also where there was none"


def test_a_difference_is_shown_only_where_the_same_images_were_measured(tables) -> None:  # type: ignore[no-untyped-def]
    def row(method: str, decibels: float, images: int) -> dict[str, object]:
        return {"set": "bsd68", "noise": "awgn:25", "method": method, "psnr": decibels, "ssim": 0.8, "images": images}

    assert "+0.50 dB" in tables.quality([row("gray", 29, 68), row("BM3D", 28.5, 68)])
    assert "dB" not in tables.quality([row("gray", 29, 68), row("BM3D", 28.5, 17)])


def test_ours_stands_beside_the_papers_figure_the_better_in_bold(tables) -> None:  # type: ignore[no-untyped-def]
    def row(setting: str, method: str, decibels: float) -> dict[str, object]:
        return {"setting": setting, "method": method, "psnr": decibels}

    rows = [row("gray25", "stage 1", 28.904), row("gray25", "full", 29.2), row("colour-hg", "N2C", 32.5)]
    rows.append(row("gray25", "stage 1, 8 orientations", 28.95))
    lines = tables.paper(rows).splitlines()
    assert "| gray, white 25 | 28.57 | 28.88 | **28.90** | 28.95 | 29.41 |  | **29.38** | 29.20 |  |" in lines
    assert "| colour, HG 40, 10 | 23.21 | 30.53 |  |  | 32.10 | **32.50** | 31.72 |  |  |" in lines


def test_networks_are_compared_at_equal_minutes_and_operations(tables, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    for name, seconds in (("gray-start", 60), ("gray25-dbsn", 120)):
        log = [f"{step},{seconds * step},{look}" for step, look in ((1, ""), (4, -1.0), (8, -1.4), (16, -1.5))]
        (tmp_path / "benchmarks" / "paper" / "models" / name).mkdir(parents=True)
        path = tmp_path / "benchmarks" / "paper" / "models" / name / "blind.csv"
        path.write_text("\n".join(["step,seconds,validation", *log]) + "\n")
    monkeypatch.setattr(tables, "ROOT", tmp_path)
    usual = {"method": "stage 1", "steps": 16, "minutes": 16.0, "psnr": 28.0, "ssim": 0.8}
    rows = [
        usual | {"setting": name, "mflop_per_pixel": cost, "pixels_per_step": 1e7 / cost}
        for name, cost in (("gray-start", 2), ("gray25-dbsn", 10))
    ]
    lines = tables.paper_networks(rows).splitlines()
    assert "| after 5 minutes | -1.1000 |  |" in lines
    assert "| after 10 minutes | -1.4250 | -1.1000 |" in lines
    assert "| after 0.2 PFLOP | -1.2667 | -1.2667 |" in lines, "a step is 0.03 PFLOP"


def test_every_result_says_where_it_was_measured() -> None:
    for path in (ROOT / "benchmarks" / "results").glob("*.json"):
        for row in json.loads(path.read_text()):
            assert all(row[name] for name in ("machine", "commit", "versions")), (path.name, row)
