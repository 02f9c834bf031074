"""Algorithms found by name or in a file, and the variants of them that a study asks for.

Names are those of the files in `seqeval.algos`, and those that installed packages register in the
entry-point group `seqeval.algorithms` as `package.module:Class`. `path/to/mine.py:MyAlgo` is a class in a
file.

A file of `seqeval.algos` may hold a family of algorithms, made as they are asked for: then it has a function
`names`, and a function `find` that takes one of these, and `family:Member` is the name of one.
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import importlib.util
import inspect
import pkgutil
import re
import sys
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from seqeval.algorithm import Algorithm, Config, SingleAlgorithm
from seqeval.errors import UserError, nearest
from seqeval.replicated import replicate

LONGEST_NAME = 100  # characters: a name is a folder too
GROUP = "seqeval.algorithms"
RESERVED = ("algorithm", "code", "name")  # what a variant is told by beside its settings
_FILE = re.compile(r"((?:[A-Za-z]:[\\/])?[^:]*\.py)(?::|$)")


@dataclass(frozen=True)
class Variant:
    """An algorithm with its hyperparameters, under the name that rows and legends give it.

    `algorithm` is what `find` takes; a path in it is absolute.
    """

    name: str
    algorithm: str
    config: Config

    def settings(self) -> dict[str, Any]:
        """As plain values, for the run directory; of a class in a file also the sha256 of the file."""
        code = {"code": _load(_file(self.algorithm))[1]} if _file(self.algorithm) else {}
        return {"algorithm": self.algorithm, **code, "config": asdict(self.config)}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its settings: a fresh process must load a file before it can have what it defines."""
        return restore, (self.name, self.settings())


def names() -> list[str]:
    """The algorithms that come with the suite, and those that installed packages add."""
    own = {name for file in _own_files() for name in _names_in(file)}
    return sorted(own | _entry_points().keys())


def find(name: str) -> type[Algorithm]:
    """The class of an algorithm, by name or as `path/to/mine.py:MyAlgo`.

    A `SingleAlgorithm` comes wrapped, so that it is built as any other. Raises UserError where there is none,
    or where what is there cannot be loaded or is no algorithm.
    """
    if _FILE.match(name):
        return _find_in_file(name)
    file, _, member = name.partition(":")
    if _is_family(file):
        if (made := _own_module(file).find(member)) is not None:
            return _usable(made, name)
    elif name in _own_files():
        (found,) = _algorithms_in(_own_module(name))
        return _usable(found, name)
    if name in _entry_points():
        return _find_entry_point(name)
    known = names()
    raise UserError(f"algorithm {name!r} is not known{nearest(name, known)}; there are {', '.join(known)}")


def split(text: str) -> tuple[str, str]:
    """What names the algorithm, a path made absolute, and the text of its settings."""
    if in_file := _FILE.match(text):
        name, _, given = text[in_file.end() :].partition(":")
        return f"{Path(in_file[1]).expanduser().resolve()}:{name}", given
    name, _, given = text.partition(":")
    if _is_family(name) and given:
        member, _, given = given.partition(":")
        name = f"{name}:{member}"
    return name, given


def config_fault(found: type[Algorithm]) -> str | None:
    """What keeps an algorithm's `Config` from being set from a text and stored, in words; None if nothing."""
    config: Any = found.Config
    if not (isinstance(config, type) and issubclass(config, Config)):
        return "its Config must extend seqeval.algorithm.Config"
    if not is_dataclass(config) or "__dataclass_params__" not in vars(config):
        return "its Config must be decorated with @dataclass(frozen=True)"
    if reserved := {field.name for field in fields(config)}.intersection(RESERVED):
        return f"its Config must not have a field called {' or '.join(sorted(reserved))}"
    try:
        hints, values = get_type_hints(config), config()
    except Exception as error:
        return f"its Config must construct without arguments, but there is {_in_a_line(error)}"
    for field in fields(config):
        try:
            _typed(getattr(values, field.name), hints[field.name])
        except ValueError:
            return (
                f"its Config's {field.name} = {getattr(values, field.name)!r} is not of its type, or of none "
                "that is stored: bool, int, float, str, Literal, a tuple of them, or one of them | None"
            )
    return None


def _own_files() -> list[str]:
    package = importlib.import_module("seqeval.algos")
    return [m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_")]


def _own_module(file: str) -> ModuleType:
    return importlib.import_module(f"seqeval.algos.{file}")


def _is_family(file: str) -> bool:
    return file in _own_files() and hasattr(_own_module(file), "names")


def _names_in(file: str) -> list[str]:
    return [f"{file}:{member}" for member in _own_module(file).names()] if _is_family(file) else [file]


def _entry_points() -> dict[str, set[str]]:
    """What installed packages register: the values of each name."""
    found: dict[str, set[str]] = {}
    for point in importlib.metadata.entry_points(group=GROUP):
        found.setdefault(point.name, set()).add(point.value)
    return found


def _refuse_shadowed(name: str) -> None:
    """Raises UserError where a package registers the name of an algorithm of the suite.

    The suite's goes before it, but whoever asks for it in a study may mean the other.
    """
    name = name.partition(":")[0]
    if name in _own_files() and (clash := _entry_points().get(name)):
        raise UserError(
            f"algorithm {name!r} comes with the suite, and installed packages register "
            f"{', '.join(sorted(clash))} under the same name in {GROUP}: rename that, or uninstall them"
        )


def _find_entry_point(name: str) -> type[Algorithm]:
    values = sorted(_entry_points()[name])
    if len(values) > 1:
        raise UserError(
            f"algorithm {name!r} is registered by more than one installed package: {', '.join(values)}; "
            "uninstall all but one"
        )
    try:
        value = next(iter(importlib.metadata.entry_points(group=GROUP, name=name))).load()
    except Exception as error:
        raise UserError(f"algorithm {name!r} ({values[0]}): {_in_a_line(error)}") from error
    return _usable(value, f"algorithm {name!r} ({values[0]})")


def _find_in_file(reference: str) -> type[Algorithm]:
    file, name = _file(reference), split(reference)[0].rpartition(":")[2]
    module, _ = _load(file)
    there = [value.__name__ for value in _algorithms_in(module)]
    if name not in vars(module):
        raise UserError(
            f"{file}: no {name!r} in it{nearest(name, there)}; an algorithm is path/to/file.py:Name, and the "
            f"file has {', '.join(there) or 'none'}"
        )
    return _usable(vars(module)[name], f"{file}: {name}")


def _file(reference: str) -> str:
    """The absolute path of the file that an algorithm is in; empty where it goes by a name."""
    return split(reference)[0].rpartition(":")[0] if _FILE.match(reference) else ""


@cache
def _load(file: str) -> tuple[ModuleType, str]:
    """The module of a file, executed once a process, and the sha256 of what was executed.

    Raises UserError where the file cannot be read or raises.
    """
    try:
        source = Path(file).read_bytes()
    except OSError as error:
        raise UserError(f"{file}: {error.strerror}; an algorithm is path/to/file.py:Name") from error
    stem = re.sub(r"\W", "_", Path(file).stem)
    spec = importlib.util.spec_from_file_location(
        f"seqeval_plugin_{stem}_{hashlib.sha256(file.encode()).hexdigest()[:8]}", file
    )
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses and pickle look it up there
    try:
        # Not by the spec's loader: it takes bytecode of before where a file of the same size was just saved.
        exec(compile(source, file, "exec", dont_inherit=True), vars(module))
    except (Exception, SystemExit) as error:
        del sys.modules[spec.name]
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        if isinstance(error, SyntaxError) and error.filename == file:
            lines = [error.lineno]
        where = f"{file}, line {lines[-1]}" if lines else file
        raise UserError(f"{where}: {_in_a_line(error)}") from error
    return module, hashlib.sha256(source).hexdigest()


def _in_a_line(error: BaseException) -> str:
    text = error.msg if isinstance(error, SyntaxError) else str(error)
    return ": ".join(filter(None, [type(error).__name__, " ".join(text.split())]))


def _algorithms_in(module: ModuleType) -> list[type]:
    """The algorithm classes that a module itself defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, Algorithm | SingleAlgorithm)
        and value.__module__ == module.__name__
    ]


def _usable(value: Any, where: str) -> type[Algorithm]:
    """The class to build. Raises UserError where it is no algorithm or lacks a method."""
    if not (isinstance(value, type) and issubclass(value, Algorithm | SingleAlgorithm)):
        raise UserError(f"{where} is neither an Algorithm nor a SingleAlgorithm of seqeval.algorithm")
    if inspect.isabstract(value):
        raise UserError(f"{where} has no {' and no '.join(sorted(value.__abstractmethods__))}")
    return replicate(value) if issubclass(value, SingleAlgorithm) else value


def parse(text: str) -> Variant:
    """The variant of `iql`, `iql:expectile=0.9,name=iql-0.9` or `path/to/mine.py:MyAlgo:alpha=2`.

    Without a `name` a variant is called what the text says, less a path. Raises UserError for a value that
    the algorithm's config does not have, that is of another type, or that the config refuses.
    """
    algorithm, given = split(text)
    found = find(algorithm)
    _refuse_shadowed(algorithm)
    if fault := config_fault(found):
        raise UserError(f"algorithm {algorithm!r}: {fault}")
    config = found.Config()
    hints = {field.name: get_type_hints(type(config))[field.name] for field in fields(config)}
    texts: dict[str, str] = {}
    for item in re.split(r",(?![^(]*\))", given) if given else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"algorithm {text!r}: {item!r} is not of the form key=value; tuples are (8,8)")
        if key in texts:
            raise UserError(f"algorithm {text!r}: {key} is given twice")
        if key not in {"name", *hints}:
            raise UserError(
                f"algorithm {text!r}: {algorithm} has no {key!r}{nearest(key, hints)}; "
                f"`seqeval algorithms show {algorithm}` lists what it has"
            )
        texts[key] = value
    short = f"{algorithm.rpartition(':')[2]}:{given}".removesuffix(":") if _file(algorithm) else text
    name = texts.pop("name", short)
    if not 0 < len(name) <= LONGEST_NAME:
        raise UserError(
            f"algorithm {text!r}: its name must have 1 to {LONGEST_NAME} characters; give one, name=…"
        )
    try:
        changes = {key: _parse_value(key, value, hints[key]) for key, value in texts.items()}
        return Variant(name, algorithm, replace(config, **changes))
    except UserError as error:
        raise UserError(f"algorithm {text!r}: {error}") from None


def parse_all(texts: Sequence[str]) -> list[Variant]:
    """The variants of a study. Raises UserError where two have one name."""
    variants: dict[str, Variant] = {}
    for variant in map(parse, texts):
        if variant.name in variants:
            raise UserError(f"algorithms: two variants are called {variant.name!r}; give one another name=")
        variants[variant.name] = variant
    return list(variants.values())


def restore(name: str, settings: dict[str, Any]) -> Variant:
    """The variant that `Variant.settings` was taken of, possibly by way of JSON.

    Raises UserError where the algorithm is not there any more or has become another.
    """
    algorithm = settings["algorithm"]
    config_class = find(algorithm).Config
    if "code" in settings and settings["code"] != _load(_file(algorithm))[1]:
        raise UserError(f"{name}: {_file(algorithm)} is no longer the file that it was then; put that back")
    hints = get_type_hints(config_class)
    try:
        values = {key: _typed(value, hints[key]) for key, value in settings["config"].items()}
    except (KeyError, ValueError) as error:
        raise UserError(f"{name}: its settings are not those of {algorithm!r} as it is now") from error
    return Variant(name, algorithm, config_class(**values))


def _parse_value(key: str, text: str, kind: Any) -> Any:
    """A value of a type from its text. Raises UserError where it is of another."""
    if kind is str:
        return text.strip("'\"")
    try:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            value = text  # a word without quotes
        return _typed(value, kind)
    except ValueError:
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        raise UserError(f"{key} must be {wanted}, not {text!r}") from None


def _typed(value: Any, kind: Any) -> Any:
    """The value as its type has it: a list as a tuple, a whole number as a float. Raises ValueError."""
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        items = get_args(kind)
        if items[-1] is Ellipsis:
            items = (items[0],) * len(value)
        return tuple(_typed(part, item) for part, item in zip(value, items, strict=True))
    if get_origin(kind) is Literal and any(value == c and type(value) is type(c) for c in get_args(kind)):
        return value
    if get_origin(kind) in (Union, UnionType):
        for choice in get_args(kind):
            try:
                return _typed(value, choice)
            except ValueError:
                continue
    if kind is float and type(value) is int:
        return float(value)
    if kind not in (bool, int, float, str, NoneType):
        raise ValueError(f"{kind} is no type of a setting")
    if type(value) is not kind:
        raise ValueError(f"{value!r} is of another type")
    return value
