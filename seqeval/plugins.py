"""Algorithms found by name, and the variants of them that a study asks for."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, get_args, get_origin, get_type_hints

from seqeval.algorithm import Algorithm, Config
from seqeval.errors import UserError, nearest

LONGEST_NAME = 100  # characters: a name is a folder too


@dataclass(frozen=True)
class Variant:
    """An algorithm with its hyperparameters, under the name that rows and legends give it."""

    name: str
    algorithm: str
    config: Config

    def settings(self) -> dict[str, Any]:
        """As plain values, for the run directory."""
        return {"algorithm": self.algorithm, "config": asdict(self.config)}


def names() -> list[str]:
    """The algorithms that come with the suite."""
    package = importlib.import_module("seqeval.algos")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if not m.name.startswith("_"))


def find(name: str) -> type[Algorithm]:
    """The class of an algorithm. Raises UserError where there is none of that name."""
    if name not in names():
        raise UserError(
            f"algorithm {name!r} is not known{nearest(name, names())}; there are {', '.join(names())}"
        )
    module = importlib.import_module(f"seqeval.algos.{name}")
    (found,) = (
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, Algorithm) and value.__module__ == module.__name__
    )
    return found


def parse(text: str) -> Variant:
    """The variant of `iql` or `iql:expectile=0.9,name=iql-0.9`.

    Without a `name` a variant is called what the text says. Raises UserError for a value that the
    algorithm's config does not have, that is of another type, or that the config refuses.
    """
    algorithm, _, given = text.partition(":")
    config = find(algorithm).Config()
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
    name = texts.pop("name", text)
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
    """The variant that `Variant.settings` was taken of, possibly by way of JSON."""
    config_class = find(settings["algorithm"]).Config
    hints = get_type_hints(config_class)
    values = {key: _typed(value, hints[key]) for key, value in settings["config"].items()}
    return Variant(name, settings["algorithm"], config_class(**values))


def _parse_value(key: str, text: str, kind: Any) -> Any:
    """A value of a type from its text. Raises UserError where it is of another."""
    if kind is str:
        return text.strip("'\"")
    try:
        return _typed(ast.literal_eval(text), kind)
    except (ValueError, SyntaxError, TypeError):
        wanted = kind.__name__ if isinstance(kind, type) else str(kind)
        raise UserError(f"{key} must be {wanted}, not {text!r}") from None


def _typed(value: Any, kind: Any) -> Any:
    """The value as its type has it: a list as a tuple, a whole number as a float. Raises ValueError."""
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        items = get_args(kind)
        if items[-1] is Ellipsis:
            items = (items[0],) * len(value)
        return tuple(_typed(part, item) for part, item in zip(value, items, strict=True))
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        raise ValueError(f"{value!r} is of another type")
    return value
