"""Printing, shared by all commands."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterable
from typing import Any

from rich.console import Console

from seqeval.errors import printable


def plain_console(stderr: bool) -> Console:
    """A console that uses 200 columns instead of 80 if the output is piped or logged."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def print_notes(notes: Iterable[str]) -> None:
    """Prints notes on a result to standard error, one per line."""
    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def print_facts(facts: dict[str, Any]) -> None:
    """Prints one `name  value` line per entry, wrapped to the width of a terminal if there is one."""
    width = max(map(len, facts))
    console = Console()
    for key, value in facts.items():
        line = printable(f"{key:{width}}  {value}")
        if console.is_terminal:
            line = textwrap.fill(line, console.width, subsequent_indent=" " * (width + 2))
        print(line)
