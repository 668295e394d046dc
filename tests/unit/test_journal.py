"""The ledger of a folder: what stands in it survives any interruption, and says how and from what it was made."""

import os
from pathlib import Path

import pytest

from dbsn.batch.journal import Journal, Provenance, State, fingerprint


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x.png").write_text("x")
    return tmp_path / "in" / "x.png"


def make(journal: Journal, result: Path, made: Provenance, *, error: str | None = None) -> None:
    journal.begin(result)
    result.parent.mkdir(exist_ok=True)
    result.write_text(f"{made.settings} of {made.source.name}")
    journal.end(result, made, seconds=1.25, noise=("25.5", "of 255"), error=error, model="model gray")


def test_a_result_is_known_by_what_it_was_made_of_and_with(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "a" / "x.png", Provenance("m", source))
    make(Journal(tmp_path), tmp_path / "y, z.png", Provenance("m", source), error="damaged, or so")
    lines = (tmp_path / "denoise.csv").read_text().splitlines()
    when, digest = source.stat().st_mtime_ns, fingerprint(tmp_path / "a" / "x.png")
    assert lines == [
        "file,status,seconds,noise,noise unit,made with,made from,of,error,model,is",
        "a/x.png,begun,,,,,,,,,",
        f"a/x.png,done,1.25,25.5,of 255,m,{source},{when},,model gray,{digest}",
        '"y, z.png",begun,,,,,,,,,',
        f'"y, z.png",failed,1.25,25.5,of 255,m,{source},{when},"damaged, or so",model gray,',
    ]
    journal, result = Journal(tmp_path), tmp_path / "a" / "x.png"
    assert journal.state(result, Provenance("m", source)) is State.MADE
    assert journal.state(tmp_path / "y, z.png", Provenance("m", source)) is State.MISSING
    assert journal.state(result, Provenance("n", source)) is State.OUTDATED
    journal.check(result, Provenance("n", source))
    other = Provenance("m", tmp_path / "other.png")
    assert journal.state(result, other) is State.OF_ANOTHER
    with pytest.raises(FileExistsError, match=r"x.png: was made of another file. Add --overwrite"):
        journal.check(result, other)
    result.write_text("edited")
    with pytest.raises(FileExistsError, match=r"x.png: was changed since dbsn made it. Add --overwrite"):
        journal.check(result, Provenance("n", source))
    assert journal.state(result, Provenance("m", source)) is State.MADE, "the edit stays"
    (tmp_path / "other.png").touch()
    with pytest.raises(FileExistsError, match=r"other.png: exists already and is not in denoise.csv"):
        journal.check(tmp_path / "other.png", Provenance("m", source))
    result.unlink()
    assert journal.state(result, Provenance("m", source)) is State.MISSING


def test_a_result_is_made_again_when_its_source_has_changed(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("m", source))
    later = source.stat().st_mtime_ns + 10**9
    os.utime(source, ns=(later, later))
    assert Journal(tmp_path).state(tmp_path / "x.png", Provenance("m", source)) is State.OUTDATED


def test_a_result_in_a_folder_is_known_by_what_is_in_it(tmp_path: Path, source: Path) -> None:
    (tmp_path / "x.zarr").mkdir()
    (tmp_path / "x.zarr" / "0").write_text("chunk")
    before = fingerprint(tmp_path / "x.zarr")
    assert fingerprint(tmp_path / "x.zarr") == before
    (tmp_path / "x.zarr" / "0").write_text("another")
    assert fingerprint(tmp_path / "x.zarr") != before


@pytest.mark.parametrize("torn", ["", "y.png,do", "y.png,done,1.25,25.5", "\n", "\n\n"])
def test_what_is_torn_or_empty_counts_as_not_made(tmp_path: Path, source: Path, torn: str) -> None:
    made = Provenance("m", source)
    make(Journal(tmp_path), tmp_path / "x.png", made)
    Journal(tmp_path).begin(tmp_path / "y.png")
    with (tmp_path / "denoise.csv").open("a") as file:
        file.write(torn)
    journal = Journal(tmp_path)
    assert journal.state(tmp_path / "x.png", made) is State.MADE
    assert journal.state(tmp_path / "y.png", made) is not State.MADE


def test_a_ledger_from_before_there_was_a_model_goes_on_in_its_own_columns(tmp_path: Path, source: Path) -> None:
    head = "file,status,seconds,noise,noise unit,made with,made from,of,error"
    when = source.stat().st_mtime_ns
    (tmp_path / "denoise.csv").write_text(f"{head}\nx.png,done,1.25,25.5,of 255,m,{source},{when},\n")
    (tmp_path / "x.png").touch()
    journal, made = Journal(tmp_path), Provenance("m", source)
    assert journal.state(tmp_path / "x.png", made) is State.MADE
    assert journal.state(tmp_path / "x.png", Provenance("n", source)) is State.UNKNOWN
    make(journal, tmp_path / "y.png", made)
    rows = (tmp_path / "denoise.csv").read_text().splitlines()
    assert {row.count(",") for row in rows} == {8}, "one table, for every program that reads it"
    assert Journal(tmp_path).state(tmp_path / "y.png", made) is State.MADE


def test_an_empty_ledger_gets_its_head(tmp_path: Path, source: Path) -> None:
    (tmp_path / "denoise.csv").touch()
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("m", source))
    assert Journal(tmp_path).state(tmp_path / "x.png", Provenance("m", source)) is State.MADE
    assert (tmp_path / "denoise.csv").read_text().startswith("file,status")


def test_the_last_word_on_a_file_counts(tmp_path: Path, source: Path) -> None:
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("a", source))
    make(Journal(tmp_path), tmp_path / "x.png", Provenance("b", source))
    assert Journal(tmp_path).state(tmp_path / "x.png", Provenance("b", source)) is State.MADE


def test_two_processes_may_share_a_folder(tmp_path: Path, source: Path) -> None:
    first, second = Journal(tmp_path), Journal(tmp_path)
    made = Provenance("m", source)
    first.begin(tmp_path / "a.png")
    second.begin(tmp_path / "b.png")
    for journal, name in ((second, "b.png"), (first, "a.png")):
        (tmp_path / name).touch()
        journal.end(tmp_path / name, made, seconds=1.0, noise=("", ""), error=None)
    assert all(Journal(tmp_path).state(tmp_path / name, made) is State.MADE for name in ("a.png", "b.png"))


def test_names_that_are_no_text_are_kept(tmp_path: Path, source: Path) -> None:
    odd = tmp_path / "m\udcff.png"
    make(Journal(tmp_path), odd, Provenance("m", source))
    assert Journal(tmp_path).state(odd, Provenance("m", source)) is State.MADE
