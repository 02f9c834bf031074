"""Finds algorithms, and reads the variants of them that a study asks for.

The name of an algorithm is that of its file in `seqeval.algos` (`iql`), that of a member of a family there
(`sb3:SAC`), `path/to/file.py:MyAlgo` for a class in a file of yours, or a name that an installed package
registers in the entry-point group `seqeval.algorithms`. A variant adds settings to such a name:
`iql:expectile=0.9,name=iql-0.9`; a sweep stands for many variants (`sweeps`).
"""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from itertools import chain
from typing import Any, get_type_hints

from seqeval import loading, sweeps
from seqeval.algorithm import Algorithm, Config, SingleAlgorithm
from seqeval.errors import UserError, nearest, type_and_message
from seqeval.recipes import Recipe
from seqeval.replicated import Replicated, replicate
from seqeval.validation import convert

MAX_NAME_LENGTH = 100  # characters: a variant's name is also a folder
RESERVED = ("algorithm", "code", "name", "sweep")  # keys stored or given next to the settings of a variant


@dataclass(frozen=True)
class Variant:
    """An algorithm with its hyperparameters, under the name that rows and legends give it.

    `algorithm` is a name for `find`; a path in it is absolute.
    """

    name: str
    algorithm: str
    config: Config
    sweep: str | None = None  # the name of the sweep that it belongs to
    given: frozenset[str] = dataclasses.field(
        default=frozenset(), compare=False
    )  # settings that the user gave
    # What the user gave, with the path of a file made absolute; the variants of a sweep share it.
    text: str | None = dataclasses.field(default=None, compare=False)

    def settings(self) -> dict[str, Any]:
        """As plain values, for the study directory; for a class in a file also the sha256 of its code."""
        sha256 = loading.code_sha256(self.algorithm)
        code = {"code": sha256} if sha256 else {}
        sweep = {} if self.sweep is None else {"sweep": self.sweep}
        text = {} if self.text is None else {"text": self.text}
        return {"algorithm": self.algorithm, **code, **sweep, **text, "config": asdict(self.config)}

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as its settings: a new process must load the file before it can unpickle its classes."""
        return restore, (self.name, self.settings())


ALGORITHMS = loading.class_kind(
    "algorithm",
    "seqeval.algos",
    "seqeval.algorithms",
    Algorithm | SingleAlgorithm,
    "an Algorithm or a SingleAlgorithm of seqeval.algorithm",
)


def names() -> list[str]:
    """The names of the built-in algorithms and of those that installed packages register."""
    return loading.names(ALGORITHMS)


def find(name: str) -> type[Algorithm]:
    """The class of an algorithm; a `SingleAlgorithm` comes wrapped as an `Algorithm` of R agents.

    Raises UserError if there is none of this name, if it cannot be loaded, or if it is not an algorithm.
    """
    found = loading.load(ALGORITHMS, name)
    return replicate(found) if issubclass(found, SingleAlgorithm) else found


def split(text: str) -> tuple[str, str]:
    """The name of the algorithm (a path made absolute) and the text of its settings."""
    if path := loading.split_path(text):
        name, _, settings = path[1].partition(":")
        return f"{path[0]}:{name}", settings
    name, _, settings = text.partition(":")
    if settings and loading.is_family(ALGORITHMS, name):
        member, _, settings = settings.partition(":")
        name = f"{name}:{member}"
    return name, settings


def config_fault(found: type[Algorithm]) -> str | None:
    """Why the `Config` of an algorithm cannot be set from a text and stored in a study; None if it can."""
    config: Any = found.Config
    if not (isinstance(config, type) and issubclass(config, Config)):
        return "its Config must extend seqeval.algorithm.Config"
    if not is_dataclass(config) or "__dataclass_params__" not in vars(config):
        return "its Config must be decorated with @dataclass(frozen=True)"
    if reserved := {field.name for field in fields(config)}.intersection(RESERVED):
        return f"its Config must not have a field called {' or '.join(sorted(reserved))}"
    if bare := _without_annotation(config):
        return f"its Config's {bare} has no type, so it is not a setting; write {bare}: int = …, or its type"
    try:
        hints, values = get_type_hints(config), config()
    except Exception as error:
        return f"its Config must construct without arguments, but raises {type_and_message(error)}"
    for field in fields(config):
        try:
            convert(getattr(values, field.name), hints[field.name])
        except ValueError as error:  # a Config with a __post_init__ of its own
            return f"its Config's {field.name} {error}"
        except TypeError:
            return (
                f"its Config's {field.name} is of the type {field.type}; use bool, int, float, str, Literal, "
                "a tuple of these, these | None"
            )
    return _declaration_fault(found, hints)


def _declaration_fault(found: type[Algorithm], hints: Mapping[str, Any]) -> str | None:
    """What is wrong with the `batchable` and `ranges` of a Config; None if they are valid."""
    config: Any = found.Config
    if not isinstance(config.batchable, tuple):
        return f"its Config's batchable must be a tuple of names, not {config.batchable!r}"
    if config.batchable and issubclass(found, Replicated):
        return "its Config must not declare batchable settings, since it is a SingleAlgorithm: batchable = ()"
    settings = {field.name for field in fields(config)}
    for name in config.batchable:
        if name not in settings or hints[name] not in (int, float, float | None) or hasattr(Config, name):
            kind = "is not a number of the algorithm's own" if name in settings else "does not exist"
            return f"its Config declares {name!r} batchable, a setting that {kind}"
    for name, text in config.ranges.items():
        if name not in settings:
            return f"its Config declares a range of {name!r}, a setting that does not exist"
        try:
            sweeps.choices(name, text)
        except UserError as error:
            return f"its Config declares an invalid range: {error}"
    return None


def _without_annotation(config: type) -> str | None:
    """The first value of a Config that lacks a type, which dataclasses ignore."""
    parents = [parent for parent in config.__mro__ if issubclass(parent, Config) and parent is not Config]
    typed = {name for parent in parents for name in vars(parent).get("__annotations__", {})}
    for parent in parents:
        for name, value in vars(parent).items():
            inherited = name.startswith("_") or hasattr(Config, name)
            if not (inherited or name in typed or callable(value) or hasattr(value, "__get__")):
                return name
    return None


def parse(text: str) -> Variant:
    """The variant of `iql`, `iql:expectile=0.9,name=iql-0.9` or `path/to/file.py:MyAlgo:alpha=2`.

    Without `name=` a variant is named by the text itself, less the path of a file. Raises UserError for an
    unknown setting, for a value of a wrong type, and for a value that the config refuses.
    """
    algorithm, settings = split(text)
    found = find(algorithm)
    loading.refuse_shadowed(ALGORITHMS, algorithm)
    if fault := config_fault(found):
        raise UserError(f"algorithm {algorithm!r}: {fault}")
    config, hints = found.Config(), get_type_hints(found.Config)
    types = {field.name: hints[field.name] for field in fields(config)}
    values: dict[str, str] = {}
    for item in sweeps.ITEMS.split(settings) if settings else []:
        key, equals, value = item.partition("=")
        if not equals:
            raise UserError(f"algorithm {text!r}: {item!r} is not of the form key=value (tuples: key=(8,8))")
        if key in values:
            raise UserError(f"algorithm {text!r}: {key} is given twice")
        if key not in {"name", *types}:
            raise UserError(
                f"algorithm {text!r}: {algorithm} has no setting {key!r}{nearest(key, types)}; "
                f"`seqeval algorithms show {algorithm}` lists its settings"
            )
        values[key] = value
    path = loading.split_path(text)
    name = _checked_name(text, values.pop("name", path[1].removesuffix(":") if path else text))
    try:
        changes = {key: parse_value(key, value, types[key]) for key, value in values.items()}
        return Variant(
            name, algorithm, replace(config, **changes), given=frozenset(changes), text=_absolute(text)
        )
    except UserError as error:
        raise UserError(f"algorithm {text!r}: {error}") from None


def _absolute(text: str) -> str:
    """The text of a variant with the path of a file made absolute."""
    path = loading.split_path(text)
    return f"{path[0]}:{path[1]}" if path else text


def _checked_name(text: str, name: str) -> str:
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise UserError(
            f"algorithm {text!r}: the name of a variant must have 1 to {MAX_NAME_LENGTH} characters; "
            "set one with name=…"
        )
    return name


def expand(text: str) -> list[Variant]:
    """The variants of a sweep such as `iql:expectile=0.5|0.7`, or the one variant of any other text.

    Raises UserError as `parse` does, and for an invalid sweep.
    """
    algorithm, settings = split(text)
    items = sweeps.ITEMS.split(settings) if settings else []
    found = sweeps.candidates(text, items, find(algorithm).Config.ranges, algorithm)
    if found is None:
        return [parse(text)]
    start = text[: len(text) - len(settings)]  # "iql:"
    path = loading.split_path(start)
    sweep = (path[1] if path else start).removesuffix(":")
    for item in items:
        if item.startswith("name="):
            sweep = _checked_name(text, item.removeprefix("name="))
    variants: dict[Config, Variant] = {}
    for candidate in found:
        given = ",".join(f"{key}={value}" for key, value in candidate.values.items())
        variant = parse(f"{start}{given}")
        name = _checked_name(text, f"{sweep}:{candidate.label}")
        if (other := variants.get(variant.config)) is not None:
            raise UserError(f"algorithm {text!r}: {other.name!r} and {name!r} are the same setting")
        variants[variant.config] = replace(variant, name=name, sweep=sweep, text=_absolute(text))
    return list(variants.values())


def parse_all(texts: Sequence[str]) -> list[Variant]:
    """The variants of a study. Raises UserError if two have the same name."""
    variants: dict[str, Variant] = {}
    for variant in chain.from_iterable(map(expand, texts)):
        if variant.name in variants:
            raise UserError(f"algorithms: two variants are named {variant.name!r}; rename one with name=…")
        variants[variant.name] = variant
    return list(variants.values())


def with_recipe(variant: Variant, recipe: Recipe) -> Variant:
    """The variant with the settings of a recipe; those that the user gave stay."""
    hints, given = get_type_hints(type(variant.config)), variant.given
    changes = {key: convert(value, hints[key]) for key, value in recipe.settings.items() if key not in given}
    return replace(variant, config=replace(variant.config, **changes))


def refuse_changed(name: str, settings: dict[str, Any]) -> None:
    """Raises UserError if the code of a variant is not that of its recorded settings. Executes nothing."""
    algorithm = settings["algorithm"]
    if settings.get("code") != loading.code_sha256(algorithm):
        file = algorithm.rpartition(":")[0]
        raise UserError(f"{name}: {file} has changed since the study started; restore the earlier file")


def restore(name: str, settings: dict[str, Any]) -> Variant:
    """The variant whose `settings` these are, possibly read back from JSON.

    Raises UserError if the algorithm no longer exists or has changed; a changed file is not executed.
    """
    algorithm = settings["algorithm"]
    refuse_changed(name, settings)
    config_class = find(algorithm).Config
    refuse_changed(name, settings)  # it may have been changed while it was read
    hints = get_type_hints(config_class)
    try:
        values = {key: convert(value, hints[key]) for key, value in settings["config"].items()}
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{name}: {algorithm!r} no longer has the settings that the study recorded"
        ) from error
    config = config_class(**values)
    return Variant(name, algorithm, config, settings.get("sweep"), text=settings.get("text"))


def parse_value(key: str, text: str, kind: Any) -> Any:
    """The value of a type that a text gives. Raises UserError if it is of another type."""
    if kind is str:
        return text.strip("'\"")
    try:
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, TypeError):
            value = text  # a word without quotes
        return convert(value, kind)
    except ValueError as error:
        raise UserError(f"{key} {error}") from None
