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
    algorithm's config does not have or that is of another type.
    """
    algorithm, _, given = text.partition(":")
    config = find(algorithm).Config()
    hints = get_type_hints(type(config))
    name, changes = text, {}
    for item in re.split(r",(?![^(]*\))", given) if given else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"algorithm {text!r}: {item!r} is not of the form key=value")
        if key == "name":
            name = value
        elif key not in hints or key not in {field.name for field in fields(config)}:
            raise UserError(
                f"algorithm {text!r}: {algorithm} has no {key!r}{nearest(key, hints)}; "
                f"`seqeval algorithms show {algorithm}` lists what it has"
            )
        else:
            try:
                changes[key] = _coerce(value, hints[key])
            except (ValueError, SyntaxError):
                wanted = getattr(hints[key], "__name__", hints[key])
                raise UserError(f"algorithm {text!r}: {key} must be {wanted}, not {value!r}") from None
    if not name:
        raise UserError(f"algorithm {text!r}: the name is empty")
    return Variant(name, algorithm, replace(config, **changes))


def parse_all(texts: Sequence[str]) -> list[Variant]:
    """The variants of a study. Raises UserError where two have one name."""
    variants: dict[str, Variant] = {}
    for variant in map(parse, texts):
        if variant.name in variants:
            raise UserError(f"algorithms: two variants are called {variant.name!r}; give one another name=")
        variants[variant.name] = variant
    return list(variants.values())


def restore(name: str, settings: dict[str, Any]) -> Variant:
    """The variant that `Variant.settings` was taken of."""
    config_class = find(settings["algorithm"]).Config
    hints = get_type_hints(config_class)
    values = {key: _coerce(repr(value), hints[key]) for key, value in settings["config"].items()}
    return Variant(name, settings["algorithm"], config_class(**values))


def _coerce(text: str, kind: Any) -> Any:
    """A value of a type from its text. Raises ValueError or SyntaxError where it is of another."""
    if kind is str:
        return text.strip("'\"")
    value = ast.literal_eval(text)
    if get_origin(kind) is tuple:
        item, *_ = get_args(kind)
        return (
            tuple(_coerce(repr(part), item) for part in value)
            if isinstance(value, list | tuple)
            else _no(value)
        )
    if kind is float and type(value) is int:
        return float(value)
    return value if type(value) is kind else _no(value)


def _no(value: Any) -> Any:
    raise ValueError(f"{value!r} is of another type")
