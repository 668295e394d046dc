"""The ledger of a folder: what stands in it survives any interruption, and says how it was made."""

from pathlib import Path

import pytest

from dbsn.ledger import Ledger


def made(ledger: Ledger, result: Path, *, made_with: str = "a", error: str | None = None) -> None:
    ledger.begin(result)
    ledger.end(seconds=1.25, noise_std=0.1, made_with=made_with, error=error)


def test_a_result_is_known_by_what_it_was_made_with(tmp_path: Path) -> None:
    made(Ledger(tmp_path), tmp_path / "in" / "x.png")
    made(Ledger(tmp_path), tmp_path / "y, z.png", error="damaged, or so")
    assert (tmp_path / "denoise.csv").read_text() == (
        "file,status,seconds,noise of 255,made with,error\n"
        "in/x.png,done,1.25,25.50,a,\n"
        '"y, z.png",failed,1.25,25.50,a,"damaged, or so"\n'
    )
    ledger = Ledger(tmp_path)
    assert ledger.is_made(tmp_path / "in" / "x.png", "a")
    assert not ledger.is_made(tmp_path / "y, z.png", "a")
    with pytest.raises(FileExistsError, match=r"x.png was made with a, not with b; --overwrite"):
        ledger.is_made(tmp_path / "in" / "x.png", "b")
    with pytest.raises(FileExistsError, match=r"other.png exists already and is not in denoise.csv"):
        ledger.is_made(tmp_path / "other.png", "a")


@pytest.mark.parametrize("torn", ["", "do", "done,1.25,25.50"])
def test_a_torn_line_counts_as_interrupted_and_is_ended(tmp_path: Path, torn: str) -> None:
    made(Ledger(tmp_path), tmp_path / "x.png")
    Ledger(tmp_path).begin(tmp_path / "y.png")
    with (tmp_path / "denoise.csv").open("a") as file:
        file.write(torn)
    ledger = Ledger(tmp_path)
    assert ledger.is_made(tmp_path / "x.png", "a")
    assert not ledger.is_made(tmp_path / "y.png", "a")
    made(ledger, tmp_path / "z.png")
    again = Ledger(tmp_path)
    assert again.is_made(tmp_path / "z.png", "a")
    made(again, tmp_path / "y.png")
    assert Ledger(tmp_path).is_made(tmp_path / "y.png", "a")
    assert (tmp_path / "denoise.csv").read_text().endswith("\n")


def test_the_last_word_on_a_file_counts(tmp_path: Path) -> None:
    made(Ledger(tmp_path), tmp_path / "x.png", made_with="a")
    made(Ledger(tmp_path), tmp_path / "x.png", made_with="b")
    assert Ledger(tmp_path).is_made(tmp_path / "x.png", "b")
