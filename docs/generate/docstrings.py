"""Docstrings and comments of the code as text of the site."""

from __future__ import annotations

import re
from typing import Any

from seqeval.cli.algorithms import field_comments

_CODE = re.compile(r"(`[^`]*`)")
# What is plain text in a docstring and markup in reStructuredText: substitutions, links, (R, *shape).
_MARKUP = re.compile(r"(\||(?<=\w)_(?!\w)|\*(?=\w+[),]))")


def process(app: Any, what: str, name: str, given: Any, options: Any, lines: list[str]) -> None:
    """Turns a docstring into reStructuredText, in place; a class also lists the comments of its fields."""
    lines[:] = [_escaped(line) for line in _with_code_blocks(lines)]
    if what == "class" and hasattr(given, "__dataclass_fields__"):
        comments = {
            key: text
            for cls in reversed(given.__mro__)
            if hasattr(cls, "__dataclass_fields__")
            for key, text in field_comments(cls).items()
        }
        lines += ["", *(f"- `{field}`: {_escaped(text)}" for field, text in comments.items()), ""]


def table(header: list[str], rows: list[list[str]]) -> str:
    """A Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _escaped(line: str) -> str:
    if line.startswith("    "):  # of a code block
        return line
    parts = _CODE.split(line)
    return "".join(part if part.startswith("`") else _MARKUP.sub(r"\\\1", part) for part in parts)


def _with_code_blocks(lines: list[str]) -> list[str]:
    """An indented paragraph after an empty line is code, as in Markdown, unless it belongs to a list."""
    result: list[str] = []
    inside = False
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside and result and not result[-1].strip():
            result += [".. code-block:: text", ""]
            inside = True
        elif line.strip() and not indented:
            inside = False
        result.append(line)
    return result
