"""The ledger of a folder: what stands in it survives any interruption, and says how and from what it was made."""

import os
from pathlib import Path

import pytest

from dbsn.batch.journal import Journal, Provenance


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_text("x")
    return tmp_path / "in" / "x.png"


def make(journal: Journal, result: Path, made: Provenance, *, error: str | None = None) -> None:
    journal.begin(result)
    journal.end(result, made, seconds=1.25, noise=("25.5", "of 255"), error=error, model="model gray")


def test_a_result_is_known_by_what_it_was_made_of_and_with(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "a" / "x.png", Provenance("m", source))
    make(Journal(tmp_path), tmp_path / "y, z.png", Provenance("m", source), error="damaged, or so")
    lines = (tmp_path / "denoise.csv").read_text().splitlines()
    when = source.stat().st_mtime_ns
    assert lines == [
        "file,status,seconds,noise,noise unit,made with,made from,of,error,model",
        "a/x.png,begun,,,,,,,,",
        f"a/x.png,done,1.25,25.5,of 255,m,{source},{when},,model gray",
        '"y, z.png",begun,,,,,,,,',
        f'"y, z.png",failed,1.25,25.5,of 255,m,{source},{when},"damaged, or so",model gray',
    ]
    journal = Journal(tmp_path)
    assert journal.is_made(tmp_path / "a" / "x.png", Provenance("m", source))
    assert not journal.is_made(tmp_path / "y, z.png", Provenance("m", source))
    with pytest.raises(FileExistsError, match=r"x.png: made with m, not n. Add --overwrite"):
        journal.is_made(tmp_path / "a" / "x.png", Provenance("n", source))
    with pytest.raises(FileExistsError, match=r"x.png: made from .*x.png, not .*other.png. Add --overwrite"):
        journal.is_made(tmp_path / "a" / "x.png", Provenance("m", tmp_path / "other.png"))
    with pytest.raises(FileExistsError, match=r"other.png: exists already and is not in denoise.csv"):
        journal.is_made(tmp_path / "other.png", Provenance("m", source))


def test_a_result_is_made_again_when_its_source_has_changed(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("m", source))
    later = source.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))
    assert not Journal(tmp_path).is_made(tmp_path / "x.png", Provenance("m", source))


@pytest.mark.parametrize("torn", ["", "y.png,do", "y.png,done,1.25,25.5", "\n", "\n\n"])
def test_what_is_torn_or_empty_counts_as_not_made(tmp_path: Path, source: Path, torn: str) -> None:
    made = Provenance("m", source)
    make(Journal(tmp_path), tmp_path / "x.png", made)
    Journal(tmp_path).begin(tmp_path / "y.png")
    with (tmp_path / "denoise.csv").open("a") as file:
        file.write(torn)
    journal = Journal(tmp_path)
    assert journal.is_made(tmp_path / "x.png", made)
    assert not journal.is_made(tmp_path / "y.png", made)


def test_a_ledger_from_before_there_was_a_model_goes_on_in_its_own_columns(tmp_path: Path, source: Path) -> None:
    head = "file,status,seconds,noise,noise unit,made with,made from,of,error"
    when = source.stat().st_mtime_ns
    (tmp_path / "denoise.csv").write_text(f"{head}\nx.png,done,1.25,25.5,of 255,m,{source},{when},\n")
    journal, made = Journal(tmp_path), Provenance("m", source)
    assert journal.is_made(tmp_path / "x.png", made)
    make(journal, tmp_path / "y.png", made)
    rows = (tmp_path / "denoise.csv").read_text().splitlines()
    assert {row.count(",") for row in rows} == {8}, "one table, for every program that reads it"
    assert Journal(tmp_path).is_made(tmp_path / "y.png", made)


def test_an_empty_ledger_gets_its_head(tmp_path: Path, source: Path) -> None:
    (tmp_path / "denoise.csv").touch()
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("m", source))
    assert Journal(tmp_path).is_made(tmp_path / "x.png", Provenance("m", source))
    assert (tmp_path / "denoise.csv").read_text().startswith("file,status")


def test_the_last_word_on_a_file_counts(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("a", source))
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("b", source))
    assert Journal(tmp_path).is_made(tmp_path / "x.png", Provenance("b", source))


def test_two_processes_may_share_a_folder(tmp_path: Path, source: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    made = Provenance("m", source)
    first.begin(tmp_path / "a.png")
    second.begin(tmp_path / "b.png")
    for journal, name in ((second, "b.png"), (first, "a.png")):
        journal.end(tmp_path / name, made, seconds=1.0, noise=("", ""), error=None)
    assert all(Journal(tmp_path).is_made(tmp_path / name, made) for name in ("a.png", "b.png"))


def test_names_that_are_no_text_are_kept(tmp_path: Path, source: Path) -> None:
    odd = tmp_path / "m\udcff.png"
    make(Journal(tmp_path), odd, Provenance("m", source))
    assert Journal(tmp_path).is_made(odd, Provenance("m", source))
