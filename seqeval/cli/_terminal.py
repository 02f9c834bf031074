"""What every command prints with."""

from __future__ import annotations

import textwrap
from typing import Any

from rich.console import Console


def plain_console(stderr: bool) -> Console:
    """A console that does not squeeze what is piped or logged into 80 columns."""
    console = Console(stderr=stderr)
    return console if console.is_terminal else Console(stderr=stderr, width=200)


def print_facts(facts: dict[str, Any]) -> None:
    """A fact a line; where people read it on a terminal, in lines that fit there."""
    width = max(map(len, facts))
    console = Console()
    for key, value in facts.items():
        line = f"{key:{width}}  {value}"
        if console.is_terminal:
            line = textwrap.fill(line, console.width, subsequent_indent=" " * (width + 2))
        print(line)
