"""`seqeval algorithms ...` and `seqeval check`."""

from __future__ import annotations

import dataclasses
import inspect
import re
import textwrap

import tyro
from rich.markup import escape
from rich.table import Table

from seqeval.errors import UserError

from ._terminal import plain_console


def list_algorithms() -> None:
    """The algorithms known by name, of the suite and of installed packages, and the actions they learn."""
    from seqeval import plugins

    for name in plugins.names():
        try:
            found = plugins.find(name)
            first_line = _about_algorithm(found).partition("\n")[0]
            about = f"{', '.join(found.action_spaces):20}  {first_line}"
        except UserError as error:  # a package that is broken hides no other
            about = f"cannot be used: {error}"
        print(f"{name:10} {about}")


def show_algorithm(name: tyro.conf.Positional[str]) -> None:
    """What an algorithm is and what can be set about it.

    Args:
        name: Its name, or path/to/file.py:Class.
    """
    from seqeval import plugins

    found = plugins.find(name)
    if fault := plugins.config_fault(found):
        raise UserError(f"algorithm {name!r}: {fault}")
    print(_about_algorithm(found))
    when = "offline and online" if found.learns_online else "offline alone"
    print(f"\nLearns {' or '.join(found.action_spaces)} actions, {when}.")
    print(f'\nSettings, as in "{name}:key=value,key=value,name=what-to-call-it":')
    comments = {key: text for cls in reversed(found.Config.__mro__) for key, text in _comments(cls).items()}
    table = Table(box=None, show_header=False, pad_edge=False)
    for _ in range(3):
        table.add_column(no_wrap=True)
    defaults = found.Config()
    for field in dataclasses.fields(defaults):
        kind = field.type.__name__ if isinstance(field.type, type) else str(field.type)
        default = repr(getattr(defaults, field.name))
        table.add_row(*map(escape, (f"  {field.name}", kind, default, comments.get(field.name, ""))))
    plain_console(stderr=False).print(table)


def check_algorithm(algorithm: tyro.conf.Positional[str]) -> int:
    """Check that an algorithm keeps to the contract of seqeval.algorithm, in a few seconds, without data.

    Args:
        algorithm: path/to/file.py:Class, or a name; with settings, if wanted, as in `run`.
    """
    from seqeval import check

    results = []
    for result in check.examine(algorithm):
        results.append(result.status)
        print(f"{result.status:8} {result.title}{result.message and ': '}{result.message}", flush=True)
    print(", ".join(f"{results.count(status)} {status}" for status in dict.fromkeys(results)))
    return int("failed" in results)


def _about_algorithm(found: type) -> str:
    """What an algorithm's class says of it, or else its file."""
    return inspect.cleandoc(found.__doc__ or getattr(inspect.getmodule(found), "__doc__", None) or "")


def _comments(config: type) -> dict[str, str]:
    """The comment behind each field of a dataclass, from its source; where it has none, as the fields have it
    in their metadata."""
    if config is object:
        return {}
    try:
        source = textwrap.dedent(inspect.getsource(config))
    except (OSError, TypeError):  # it was made by a function
        return {f.name: f.metadata["comment"] for f in dataclasses.fields(config) if "comment" in f.metadata}
    return dict(re.findall(r"^    (\w+): .*?  # (.*)$", source, re.MULTILINE))


app = tyro.extras.SubcommandApp()
app.command(name="list")(list_algorithms)
app.command(name="show")(show_algorithm)
