"""The exception for errors that the user can correct."""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterable

LONGEST_LINE = 2000  # characters that are printed of a line with text from files


class UserError(Exception):
    """An error that the user can correct. Its message is one line: what is wrong, where, and what to do.

    The command line prints the line and exits with code 2. Every exception other than this and `PluginError`
    is a bug and keeps its traceback.
    """

    several_lines = False  # whether the message has a line for each of several errors


def printable(text: str) -> str:
    """A line that a terminal shows as it is: control characters, which names and attributes of files may
    hold, are written as escapes, and a long line is shortened."""
    shown = text if len(text) <= LONGEST_LINE else f"{text[:LONGEST_LINE]}…"
    if shown.isprintable():
        return shown
    return "".join(c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in shown)


class PluginError(Exception):
    """The code of a plug-in or of an environment raised an exception while a study ran.

    The message holds the frames of the traceback that lie in that code; `traceback` is the whole of it. The
    command line prints the message and exits with code 3.
    """

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message, traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return str(self.args[0])


def nearest(word: str, known: Iterable[str]) -> str:
    """The hint `; did you mean 'a' or 'b'?` with up to three similar known words; empty if there are none."""
    cased = {name.lower(): name for name in known}
    similar = [cased[name] for name in difflib.get_close_matches(word.lower(), cased, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(name) for name in similar)}?" if similar else ""


def one_line(error: BaseException) -> str:
    """The first line of an exception's message; its type if there is no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def type_and_message(error: BaseException) -> str:
    """The type and the whole message of an exception, in one line: for errors in a plug-in's code."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join(filter(None, [type(error).__name__, " ".join(text.split())]))
