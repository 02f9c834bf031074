"""The page of the command line: the help text of every command."""

from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stdout, suppress
from unittest import mock

from seqeval import cli

_SUBCOMMANDS = re.compile(r"^usage: [\w ]+\[-h\] \{([\w,-]+)\}", re.MULTILINE)


def pages() -> dict[str, str]:
    sections = [
        "# Command line",
        "",
        "What `seqeval COMMAND --help` prints, for every command. A flag that takes a value shows its type; "
        "`--flag, --no-flag` is a switch.",
        "",
    ]
    for command, text in _commands([]):
        title = " ".join(["seqeval", *command])
        sections += [f"## {title}", "", "```text", text.rstrip(), "```", ""]
    return {"commands.md": "\n".join(sections)}


def _commands(command: list[str]) -> list[tuple[list[str], str]]:
    """A command with its help text, and all below it."""
    text = _help(command)
    found = _SUBCOMMANDS.search(text)
    below = found[1].split(",") if found else []
    return [(command, text), *(entry for name in below for entry in _commands([*command, name]))]


def _help(command: list[str]) -> str:
    out = io.StringIO()
    size = {"COLUMNS": "100", "LINES": "40", "NO_COLOR": "1"}
    with mock.patch.dict(os.environ, size), redirect_stdout(out), suppress(SystemExit):
        cli.main([*command, "--help"])
    return out.getvalue()
