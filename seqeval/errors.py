"""The one exception that is the user's to mend."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Something the user can put right: one line that says what, where and what to do.

    The command line prints the line and exits with code 2. Anything else that is raised is a bug of ours
    and keeps its traceback.
    """


def nearest(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'a' or 'b'?`, or an empty string where nothing comes near."""
    cased = {name.lower(): name for name in known}
    near = [cased[name] for name in difflib.get_close_matches(word.lower(), cased, n=3, cutoff=0.6)]
    return f"; did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
