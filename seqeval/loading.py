"""Loads objects from files (`path/to/file.py:NAME`) and from the entry points of installed packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import re
import sys
import traceback
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seqeval.errors import UserError, nearest

FILE_REFERENCE = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]*\.py)(?::|$)")


def load_reference(reference: str) -> Any:
    """The object that `path/to/file.py:NAME` refers to.

    Raises UserError if the file cannot be read, fails to run, or does not define NAME.
    """
    match = FILE_REFERENCE.match(reference)
    assert match is not None
    module, _ = load_file(str(Path(match[1]).expanduser().resolve()))
    name = reference[match.end() :]
    if name not in vars(module):
        raise UserError(
            f"{match[1]}: defines no {name!r}{nearest(name, vars(module))}; give path/to/file.py:NAME"
        )
    return vars(module)[name]


@cache
def load_file(path: str) -> tuple[ModuleType, str]:
    """The module in a file, run once per process, and the sha256 of the source that was run.

    Raises UserError if the file cannot be read or fails to run.
    """
    try:
        source = Path(path).read_bytes()
    except OSError as error:
        raise UserError(f"{path}: {error.strerror}; give path/to/file.py:NAME") from error
    stem = re.sub(r"\W", "_", Path(path).stem)
    digest = hashlib.sha256(path.encode()).hexdigest()[:8]
    spec = importlib.util.spec_from_file_location(f"seqeval_plugin_{stem}_{digest}", path)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    try:
        # Not through the spec's loader: it may use stale bytecode if a file of the same size was just saved.
        exec(compile(source, path, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == path]
        if isinstance(error, SyntaxError) and error.filename == path:
            lines = [error.lineno]
        where = f"{path}, line {lines[-1]}" if lines else path
        raise UserError(f"{where}: {error_line(error)}") from error
    return module, hashlib.sha256(source).hexdigest()


def entry_points(group: str) -> dict[str, set[str]]:
    """The values that installed packages register in a group, by name."""
    found: dict[str, set[str]] = {}
    for point in importlib.metadata.entry_points(group=group):
        found.setdefault(point.name, set()).add(point.value)
    return found


def load_entry_point(group: str, name: str) -> Any:
    """The object registered under a name of a group.

    Raises UserError if several packages register the name, or if the object cannot be loaded.
    """
    values = sorted(entry_points(group)[name])
    if len(values) > 1:
        raise UserError(
            f"{name!r} in {group} is registered by more than one installed package: {', '.join(values)}; "
            "uninstall all but one"
        )
    try:
        return next(iter(importlib.metadata.entry_points(group=group, name=name))).load()
    except Exception as error:
        raise UserError(f"{name!r} in {group} ({values[0]}): {error_line(error)}") from error


def error_line(error: BaseException) -> str:
    """An exception's type and message on one line."""
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join(filter(None, [type(error).__name__, " ".join(text.split())]))
