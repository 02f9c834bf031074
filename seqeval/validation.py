"""Checks the values of dataclasses against their type hints. Imports no torch and no data."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import fields
from functools import cache, wraps
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from seqeval.errors import UserError, nearest

T = TypeVar("T")

_NAMES = {int: "a whole number", float: "a number", bool: "True or False", str: "a string", NoneType: "None"}
_PLURALS = {int: "whole numbers", float: "numbers", bool: "True or False", str: "strings"}
_ALIASES = {"gpu": "cuda", "sd": "std"}  # other words for a choice, which are not similar to it
_LONGEST = 100  # characters of a value in a message


def check_fields(settings: Any, group: str = "") -> None:
    """Replaces the value of each field of a frozen dataclass by that of `convert`, or raises UserError.

    Called first in `__post_init__`. A field of a type that `convert` does not know must hold an instance of
    it. `group` precedes the names of fields in messages.
    """
    cls: Any = type(settings)
    hints = _hints(cls)
    for field in fields(settings):
        name = f"{group}.{field.name}" if group else field.name
        value, hint = getattr(settings, field.name), hints[field.name]
        try:
            object.__setattr__(settings, field.name, convert(value, hint))
        except TypeError:
            if not _is_instance(value, hint):
                raise UserError(f"{name}: must be {describe(hint)}, not {_shown(value)}") from None
        except ValueError as error:
            raise UserError(f"{name}: {error}") from None


def refuse_unknown_keywords(cls: type[T]) -> type[T]:
    """Makes a dataclass raise UserError, with the nearest field, for a keyword that is no field of it."""
    construct = cls.__init__

    @wraps(construct)
    def checked(self: T, *values: Any, **keywords: Any) -> None:
        known = cls.__dataclass_fields__  # type: ignore[attr-defined]
        if unknown := [name for name in keywords if name not in known]:
            raise UserError(
                f"{cls.__name__}: has no setting {unknown[0]!r}{nearest(unknown[0], known)}; "
                f"its settings are {', '.join(known)}"
            )
        construct(self, *values, **keywords)

    cls.__init__ = checked  # type: ignore[method-assign, assignment]
    return cls


def convert(value: Any, hint: Any) -> Any:
    """The value as bool, int, float, str, None, one of a Literal, or a tuple of these: what the hint says.

    Accepts NumPy's scalars and arrays for numbers and tuples of numbers, lists for tuples, whole numbers for
    floats, and paths for strings. Raises ValueError for other values, with a message that says what is
    allowed and what may be meant, and TypeError for a hint of another type.
    """
    try:
        return _converted(value, hint)
    except ValueError:
        text = f"must be {describe(hint)}, not {_shown(value)}{_advice(value, hint)}"
    raise ValueError(text)


def describe(hint: Any) -> str:
    """The values that a hint allows: `a whole number or None`."""
    texts: list[str] = []
    for kind in _members(hint):
        if get_origin(kind) is Literal:
            texts += map(repr, get_args(kind))
        elif get_origin(kind) is tuple:
            item, *others = get_args(kind)
            several = _PLURALS.get(item, describe(item))
            if others != [...]:
                several = ", ".join(describe(part) for part in (item, *others))
            texts.append(f"a tuple of {several}")
        else:
            texts.append(_NAMES.get(kind) or (_with_article(kind) if isinstance(kind, type) else str(kind)))
    return " or ".join(filter(None, [", ".join(texts[:-1]), texts[-1]]))


def _with_article(kind: type) -> str:
    return f"{'an' if kind.__name__[0] in 'AEIOU' else 'a'} {kind.__name__}"


def _converted(value: Any, hint: Any) -> Any:
    if hasattr(value, "tolist") and not isinstance(value, type):  # of NumPy
        value = value.tolist()
    if len(kinds := _members(hint)) > 1:
        fitting = [kind for kind in kinds if _fits(value, kind)]
        if not fitting:
            raise ValueError
        return _converted(value, fitting[0])
    if get_origin(hint) is tuple:
        return _converted_to_tuple(value, get_args(hint))
    if get_origin(hint) is Literal:
        if not any(value == choice and type(value) is type(choice) for choice in get_args(hint)):
            raise ValueError
        return value
    if hint not in _NAMES:
        raise TypeError(f"{hint} is not a type of settings")
    if hint is float and type(value) is int:
        value = float(value)
    if hint is str and isinstance(value, os.PathLike):
        value = os.fspath(value)
    if type(value) is not hint or (hint is float and math.isnan(value)):
        raise ValueError
    return value


def _converted_to_tuple(value: Any, items: Sequence[Any]) -> tuple[Any, ...]:
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise ValueError
    if items[-1] is Ellipsis:
        items = (items[0],) * len(value)
    return tuple(_converted(part, item) for part, item in zip(value, items, strict=True))


def _advice(value: Any, hint: Any) -> str:
    """What the user may have meant."""
    kinds = _members(hint)
    choices = [choice for kind in kinds if get_origin(kind) is Literal for choice in get_args(kind)]
    words = [choice for choice in choices if isinstance(choice, str)]
    if isinstance(value, str) and (meant := _ALIASES.get(value.lower())) in words:
        return f"; did you mean {meant!r}?"
    if isinstance(value, str) and (found := nearest(value, words)):
        return found
    for kind in kinds:
        if get_origin(kind) is tuple and _fits((value,), kind):
            return f"; write ({value!r},)"
        if kind is bool and str(value).capitalize() in ("True", "False"):
            return f"; write {str(value).capitalize()}"
        for number in _numbers(value) if kind in (int, float) else ():
            if _fits(number, kind):
                return f"; write {number!r}"
    return ""


def _numbers(value: Any) -> list[int | float]:
    """The numbers that a text, or a float without a fraction, may stand for."""
    found: list[int | float] = []
    if isinstance(value, float) and value.is_integer():
        found.append(int(value))
    for kind in (int, float) if isinstance(value, str) else ():
        try:
            found.append(kind(value))
        except ValueError:
            continue
    return found


def _fits(value: Any, hint: Any) -> bool:
    try:
        _converted(value, hint)
    except ValueError:
        return False
    return True


def _is_instance(value: Any, hint: Any) -> bool:
    """Whether a value is of a type that `convert` does not know; True if only its use can tell."""
    kinds = [get_origin(kind) or kind for kind in _members(hint)]
    if Any in kinds or not all(isinstance(kind, type) for kind in kinds):
        return True
    return isinstance(value, tuple(kinds))


def _members(hint: Any) -> tuple[Any, ...]:
    """The types of a union; the type itself for any other."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def _shown(value: Any) -> str:
    """The value in one line, shortened if it is long."""
    text = " ".join(repr(value).split())
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return get_type_hints(cls)
