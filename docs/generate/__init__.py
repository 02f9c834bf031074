"""A Sphinx extension: writes the pages that come from the code into docs/generated before Sphinx reads.

One file for each kind of page. A page is written only if its text has changed, so that Sphinx does not read
it again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import algorithms, api, commands, docstrings, drawings, sources

OUT = Path(__file__).parents[1] / "generated"


def pages() -> dict[str, str]:
    """The text of every generated page, by its path below docs/generated."""
    return algorithms.pages() | sources.pages() | commands.pages() | api.pages() | drawings.pages()


def write(app: Any) -> None:
    """Writes the pages that have changed, and removes those of things that no longer exist."""
    written = pages()
    for name, text in written.items():
        path = OUT / name
        if not path.exists() or path.read_text() != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    for path in OUT.rglob("*.*"):
        if str(path.relative_to(OUT)) not in written:
            path.unlink()


def setup(app: Any) -> dict[str, Any]:
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", docstrings.process)
    return {"parallel_read_safe": True}
