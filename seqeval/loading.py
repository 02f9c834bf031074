"""Loads what users can add to the suite: algorithms, evaluators, launchers, figures. Imports no torch.

An object of a `Kind` has one of these names:

- `file`: defined in a file of the kind's built-in package;
- `file:member`: the same, where the file defines a family: it has a function `names()`, and a function
  `find(member)` that returns None for an unknown member;
- `path/to/file.py:Name`: defined in a file of the user;
- `name`: registered by an installed package in the kind's entry-point group, as `package.module:Name`.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from seqeval.errors import UserError, nearest, type_and_message

_executed: dict[str, tuple[ModuleType, str]] = {}  # by file: its module, and the sha256 of what was executed
_loading: set[str] = set()  # files that are being executed
_PATH = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]*\.py)(?::|$)")


@dataclass(frozen=True)
class Kind:
    """A kind of object that can be added, and where its objects are found."""

    noun: str  # in messages, such as "algorithm"
    package: str  # of the built-in ones, such as "seqeval.algos"; files that start with _ are skipped
    group: str  # of entry points, such as "seqeval.algorithms"
    defined_in: Callable[[ModuleType], Mapping[str, Any]]  # objects of the kind in a module, by name
    fault: Callable[[Any], str | None]  # why an object is not usable: "has no act"; None if it is
    hyphens: bool = False  # whether names have hyphens where files have underscores


def class_kind(noun: str, package: str, group: str, base: Any, contract: str, hyphens: bool = False) -> Kind:
    """A kind whose objects are concrete subclasses of `base`; `contract` says so in messages."""

    def is_subclass(value: Any) -> bool:
        return isinstance(value, type) and issubclass(value, base)

    def defined_in(module: ModuleType) -> dict[str, Any]:
        found = vars(module).items()
        return {k: v for k, v in found if is_subclass(v) and v.__module__ == module.__name__}

    def fault(value: Any) -> str | None:
        if not is_subclass(value):
            return f"is not {contract}"
        if inspect.isabstract(value):
            return f"has no {' and no '.join(sorted(value.__abstractmethods__))}"
        return None

    return Kind(noun, package, group, defined_in, fault, hyphens)


def names(kind: Kind) -> list[str]:
    """The names of the built-in objects and of those that installed packages register, sorted."""
    found = importlib.metadata.entry_points(group=kind.group).names
    for file in _files(kind):
        module = _module(kind, file)
        if is_family(kind, file):
            found |= {f"{file}:{member}" for member in module.names()}
        elif kind.defined_in(module):
            found.add(file)
    return sorted(found)


def load(kind: Kind, name: str) -> Any:
    """The object of a name. A built-in one takes precedence over one of an installed package.

    Raises UserError if the name is not known, if its file or package cannot be loaded, if several packages
    register it, or if the object has a fault.
    """
    if path := split_path(name):
        location, value = f"{path[0]}: {path[1]}", _load_from_file(kind, *path)
    elif (value := _load_built_in(kind, name)) is not None:
        location = name
    elif values := _registered(kind, name):
        location, value = f"{kind.noun} {name!r} ({values[0]})", _load_registered(kind, name, values)
    else:
        known = names(kind)
        raise UserError(
            f"{kind.noun} {name!r} is not known{nearest(name, known)}; known {kind.noun}s: {', '.join(known)}"
        )
    if fault := kind.fault(value):
        raise UserError(f"{location} {fault}")
    return value


def reference(cls: type, package: str) -> str:
    """The name of a class for `load`: that of a built-in one in `package`, otherwise path/to/file.py:Name.

    Raises UserError if no other process could find the class by such a name.
    """
    parent, _, file = cls.__module__.rpartition(".")
    if parent == package:
        return f"{file}:{cls.__name__}" if hasattr(sys.modules[cls.__module__], "names") else file
    if "." in cls.__qualname__:
        raise UserError(
            f"class {cls.__qualname__}: is defined inside a function or another class, where other processes "
            "cannot find it; move it to the top level of its file"
        )
    path = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if path is None or not Path(path).is_file():
        raise UserError(
            f"class {cls.__name__}: is defined in a notebook or an interactive session, where the processes "
            "that run jobs cannot find it; write it to a file, for example with %%writefile mine.py in its "
            f"cell, and name it 'mine.py:{cls.__name__}'"
        )
    return f"{Path(path).resolve()}:{cls.__name__}"


def split_path(name: str) -> tuple[str, str] | None:
    """The absolute path and what follows the colon in `path/to/file.py:Name`; None for any other name."""
    found = _PATH.match(name)
    return (str(Path(found[1]).expanduser().resolve()), name[found.end() :]) if found else None


def is_built_in(kind: Kind, name: str) -> bool:
    """Whether a name is that of a built-in object; nothing is imported for this."""
    return split_path(name) is None and name.partition(":")[0] in _files(kind)


def is_family(kind: Kind, file: str) -> bool:
    """Whether the objects of a built-in file are named `file:member`."""
    return file in _files(kind) and hasattr(_module(kind, file), "names")


def refuse_shadowed(kind: Kind, name: str) -> None:
    """Raises UserError if an installed package registers the name of a built-in object."""
    file = name.partition(":")[0]
    if file in _files(kind) and (values := _registered(kind, file)):
        raise UserError(
            f"{kind.noun} {file!r} is built in, but packages register {', '.join(values)} under the "
            f"same name in {kind.group}; rename or uninstall them"
        )


def load_file(file: str) -> ModuleType:
    """The module of a file, which is executed once per process.

    `file` is an absolute path. Raises UserError if the file cannot be read or raises an exception.
    """
    if file in _executed:
        return _executed[file][0]
    if file in _loading:
        raise UserError(
            "a study runs while the file of its algorithm is loaded; in a script, call run and rows under "
            "`if __name__ == '__main__':`"
        )
    source = _source(file)
    stem = re.sub(r"\W", "_", Path(file).stem)
    module = ModuleType(f"seqeval_plugin_{stem}_{hashlib.sha256(file.encode()).hexdigest()[:8]}")
    module.__file__ = file
    sys.modules[module.__name__] = module  # dataclasses and pickle look it up there
    _loading.add(file)
    try:
        # importlib would use stale bytecode if a file of the same size was saved a moment ago.
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[module.__name__]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        if isinstance(error, SyntaxError) and error.filename == file:
            lines = [error.lineno]
        location = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{location}: {type_and_message(error)}") from error
    finally:
        _loading.remove(file)
    _executed[file] = module, hashlib.sha256(source).hexdigest()
    return module


def code_sha256(name: str) -> str | None:
    """The sha256 of the code of `path/to/file.py:Name`; None for any other name.

    The code is what this process has executed, otherwise what the file holds now; it is not executed for
    this. Raises UserError if the file cannot be read.
    """
    if (path := split_path(name)) is None:
        return None
    file = path[0]
    return _executed[file][1] if file in _executed else hashlib.sha256(_source(file)).hexdigest()


def _source(file: str) -> bytes:
    try:
        path = Path(file)
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe or a device may have no end
            raise UserError(f"{file}: not a file; check the path in path/to/file.py:Name")
        return path.read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; check the path in path/to/file.py:Name") from error


@cache
def _files(kind: Kind) -> list[str]:
    modules = pkgutil.iter_modules(importlib.import_module(kind.package).__path__)
    names = [module.name for module in modules if not module.ispkg and not module.name.startswith("_")]
    return [name.replace("_", "-") for name in names] if kind.hyphens else names


def _module(kind: Kind, file: str) -> ModuleType:
    return importlib.import_module(f"{kind.package}.{file.replace('-', '_')}")


def _registered(kind: Kind, name: str) -> list[str]:
    """What installed packages register under a name, as `package.module:Name`."""
    return sorted({point.value for point in importlib.metadata.entry_points(group=kind.group, name=name)})


def _load_built_in(kind: Kind, name: str) -> Any | None:
    file, _, member = name.partition(":")
    if is_family(kind, file):
        return _module(kind, file).find(member)
    return next(iter(kind.defined_in(_module(kind, name)).values()), None) if name in _files(kind) else None


def _load_registered(kind: Kind, name: str, values: list[str]) -> Any:
    if len(values) > 1:
        raise UserError(
            f"{kind.noun} {name!r} is registered by several installed packages: {', '.join(values)}; "
            "uninstall all but one"
        )
    try:
        return importlib.metadata.EntryPoint(name, values[0], kind.group).load()
    except Exception as error:
        raise UserError(f"{kind.noun} {name!r} ({values[0]}): {type_and_message(error)}") from error


def _load_from_file(kind: Kind, file: str, name: str) -> Any:
    module = load_file(file)
    if name not in vars(module):
        defined = kind.defined_in(module)
        member, comma, settings = name.partition(",")
        hint = nearest(name, defined)
        if comma and member in defined:
            hint = f"; settings follow a colon: {Path(file).name}:{member}:{settings}"
        fault = f"there is no {name!r} in this file" if name else f"the name of the {kind.noun} is missing"
        written = "path/to/file.py:Name" if name else f"{Path(file).name}:{next(iter(defined), 'Name')}"
        raise UserError(
            f"{file}: {fault}{hint}; write {written} (its {kind.noun}s: {', '.join(defined) or 'none'})"
        )
    return vars(module)[name]
