"""The documentation is readable, its links lead somewhere, and its commands are those of the program."""

import ast
import importlib.util
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from dbsn.cli import help as help_pages
from dbsn.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted([*DOCS.rglob("*.md"), *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"))])
MOST_WORDS = 40
LONGEST_LINE = 120
LONGEST_ENTRY = 40
GENERATED = {DOCS / "reference" / "cli.md"}
"""Pages that exist only in the site."""
CARDS = {DOCS / "reference" / "models.md"}
"""Pages that are made from model files, with lists of names as long as they are."""
WRITTEN = [page for page in PAGES if page not in CARDS]
FENCE = re.compile(r"^( *)(```|~~~).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
INLINE_CODE = re.compile(r"`[^`\n]+`")
LINK = re.compile(r"!?\[(?P<text>[^\]]*)\]\((?P<target>[^)\s]+)\)")
MATH = re.compile(r"\$\$.+?\$\$|\$[^$\n]+\$", re.DOTALL)
EXAMPLE = re.compile(r"^ *>>> .*?(?:\n *\n|\Z)", re.MULTILINE | re.DOTALL)
ENTRY_OF_SECTION = re.compile(r"^( *(?:[\w, *]+ : .+|-{3,}|[\w*]+:))$", re.MULTILINE)
ENDS = re.compile(r"(?<=[.!?])[\"')*]*\s+")


@pytest.fixture(scope="module")
def reference():  # type: ignore[no-untyped-def]
    spec = importlib.util.spec_from_file_location("docs_reference", ROOT / "benchmarks" / "docs_reference.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def parsers(reference):  # type: ignore[no-untyped-def]
    return reference.parsers()


def prose(text: str) -> Iterator[str]:
    """The sentences of a page: of paragraphs, list items, headings and cells of tables."""
    text = re.sub(r"<!--.*?-->", "", FENCE.sub("", text), flags=re.DOTALL)
    text = MATH.sub("x", INLINE_CODE.sub("code", text))
    text = LINK.sub(lambda found: found["text"], text)
    blocks, block = [], list[str]()
    for line in [*text.splitlines(), ""]:
        is_start = re.match(r"\s*([-*+]|\d+\.)\s|#|!!!|:", line)
        if not line.strip() or is_start or line.lstrip().startswith("|"):
            blocks.append(" ".join(block))
            block = []
        if line.lstrip().startswith("|"):
            blocks += line.split("|")
        else:
            block.append(re.sub(r"^\s*([-*+]|\d+\.)\s", "", line))
    for each in blocks:
        yield from ENDS.split(each.strip())


def commands(text: str) -> Iterator[str]:
    """Lines of the shell in a page that call dbsn, and those within a sentence."""
    for block in re.findall(r"^ *```(?:bash|sh|console)?\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL):
        yield from re.findall(r"^ *(?:\$ )?(dbsn .+)$", block.replace("\\\n", " "), re.MULTILINE)
    yield from re.findall(r"`(dbsn [a-z][^`\n]*)`", FENCE.sub("", text))


def anchors(page: Path) -> set[str]:
    """What a link can name within a page."""
    text = page.read_text()
    titles = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    titles = [LINK.sub(lambda found: found["text"], title) for title in titles]
    slugs = [re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", title.lower()).strip()) for title in titles]
    return {*slugs, *re.findall(r"\{ ?#([\w-]+)", text), *re.findall(r'id="([\w-]+)"', text)}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_no_sentence_is_longer_than_forty_words(page: Path) -> None:
    long = [each for each in prose(page.read_text()) if len(each.split()) > MOST_WORDS]
    assert not long, f"{len(long)}: split at the second thought: {long[0]}"


def docstrings(file: Path) -> Iterator[tuple[int, str]]:
    """The docstrings of a module, with those of its constants and fields, and their lines."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, inspect.cleandoc(node.value.value)


@pytest.mark.parametrize("file", sorted((ROOT / "src" / "dbsn").rglob("*.py")), ids=name)
def test_no_sentence_of_a_docstring_is_longer_than_forty_words(file: Path) -> None:
    long = [
        f"{file.name}:{line}: {sentence}"
        for line, text in docstrings(file)
        for sentence in prose(ENTRY_OF_SECTION.sub(r"\1\n\n", EXAMPLE.sub("", text)))
        if len(sentence.split()) > MOST_WORDS
    ]
    assert not long, f"{len(long)}: split at the second thought: {long[0]}"


@pytest.mark.parametrize("page", WRITTEN, ids=name)
def test_no_line_of_prose_is_longer_than_a_screen(page: Path) -> None:
    lines = re.sub(r"<!--.*?-->", "", FENCE.sub("", page.read_text())).splitlines()
    long = [line for line in lines if len(line) > LONGEST_LINE and not re.match(r"\s*(\||!\[|\$\$)", line)]
    assert not long, long[0]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    for found in LINK.finditer(MATH.sub("", INLINE_CODE.sub("", FENCE.sub("", page.read_text())))):
        place, _, anchor = found["target"].partition("#")
        if "://" in place or place.startswith("mailto:"):
            continue
        file = (page.parent / place).resolve() if place else page
        if file in GENERATED:
            assert page.is_relative_to(DOCS), f"{found['target']}: exists only in the site"
            continue
        assert file.exists(), found["target"]
        assert not anchor or anchor in anchors(file), found["target"]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_are_those_of_the_program(page: Path, reference, parsers) -> None:  # type: ignore[no-untyped-def]
    if page.name == "messages.md":
        return  # mistakes, kept by test_messages.py
    for command in commands(page.read_text()):
        _, *words = shlex.split(command, comments=True)
        if words[0].startswith("-") or words[0] == "COMMAND":
            assert words[0] in {"--help", "--version", "--tyro-print-completion", "COMMAND"}, command
            continue
        assert words[0] in parsers, command
        known = help_pages.flags(parsers[words[0]]) | {"--help", "--help-all"}
        unknown = [word for word in words[1:] if re.match(r"--?[a-z]", word) and word.split("=")[0] not in known]
        assert not unknown, f"{command}: {unknown}"


def test_every_example_of_the_reference_is_a_command(reference, parsers) -> None:  # type: ignore[no-untyped-def]
    assert set(COMMANDS) == set(parsers)
    page = reference.command_line()
    assert all(f"## dbsn {name}" in page for name in parsers)
    assert all(f"| {status} |" in page for status in (0, 1, 2, 130, 141)), "exit statuses are documented"
    for command, kind in COMMANDS.items():
        for example in kind.layout.examples:
            flags = [word for word in example.split() if word.startswith("-")]
            assert example in page
            assert example.split()[1] == command
            assert set(flags) <= help_pages.flags(parsers[command]), example
        for option in help_pages.options(parsers[command]):
            assert option.name in page


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text()
    pages = [page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")]
    assert not [page for page in pages if page not in navigation]


def test_the_index_of_the_lab_notes_has_every_entry(reference) -> None:  # type: ignore[no-untyped-def]
    assert (DOCS / "lab" / "index.md").read_text() == reference.lab_index(), "python benchmarks/docs_reference.py"
    for subject in (DOCS / "lab").glob("*.md"):
        text = subject.read_text()
        entries = re.split(r"^## ", text, flags=re.MULTILINE)[1:] if subject.name != "index.md" else []
        assert len(list(reference.ENTRY.finditer(text))) == len(entries), f"{subject}: date, question and verdict"
        assert all(len(entry.rstrip().splitlines()) <= LONGEST_ENTRY for entry in entries), subject


def test_sentences_are_counted_as_a_reader_does() -> None:
    text = "# A title\n\nOne two `three four` five. Six.\n\n- seven\n- eight $a + b$ 2.5\n\n| nine ten | x |\n"
    counts = [len(each.split()) for each in prose(text) if each.strip()]
    assert counts == [3, 4, 1, 1, 3, 2, 1]
