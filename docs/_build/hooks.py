"""What MkDocs does beside its plugins: the page of the command line, and formulas as MathML. No scripts from elsewhere.

A formula `$...$` or `$$...$$` is LaTeX in the page, so that code hosts show it, too; here it becomes MathML, which
browsers draw themselves.
"""

import html
import re
import sys
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
GENERATED = {"reference/cli.md": "command_line"}
"""Pages that are made when the site is built, by functions of benchmarks/docs_reference.py."""
FORMULA = re.compile(
    r'<(?P<tag>span|div) class="arithmatex">\\(?P<open>[(\[])(?P<latex>.*?)\\[)\]]</(?P=tag)>', re.DOTALL
)


def on_files(files: Files, config: Any) -> Files:
    """Add the generated pages."""
    sys.path.insert(0, str(ROOT / "benchmarks"))
    import docs_reference

    for path, function in GENERATED.items():
        files.append(File.generated(config, path, content=getattr(docs_reference, function)()))
    return files


def on_page_content(content: str, **_: Any) -> str:
    """Turn formulas into MathML."""
    return FORMULA.sub(_mathml, content)


def _mathml(found: re.Match[str]) -> str:
    latex = html.unescape(found["latex"]).strip()
    return convert(latex, display="block" if found["open"] == "[" else "inline")
