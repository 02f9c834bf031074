"""Sweeps: many settings of one algorithm, as a grid or drawn at random.

As text, in the place of an algorithm: `iql:expectile=0.5|0.7|0.9,temperature=1|3|10` is the grid of all nine
combinations; `td3_bc:random(12),alpha=log(0.5,10)` draws 12 settings. Each setting becomes a variant with a
name of its own, such as `iql:expectile=0.5 temperature=1`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from seqeval.errors import UserError

if TYPE_CHECKING:
    import numpy as np

MAX_VARIANTS = 1000
DIGITS = 3  # significant digits of a number drawn at random
ITEMS = re.compile(r",(?![^(]*\))")  # a comma outside brackets
_CALL = re.compile(r"(\w+)\((.*)\)")


@dataclass(frozen=True)
class Uniform:
    """A range that a random search draws from uniformly; whole numbers if both ends are."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self)
        if not self.low < self.high:
            raise UserError(f"{self}: the first end of a range must be below the second")

    def __str__(self) -> str:
        return f"uniform({self.low},{self.high})"

    def draw(self, rng: np.random.Generator) -> str:
        if isinstance(self.low, int) and isinstance(self.high, int):
            return str(rng.integers(self.low, self.high + 1))
        return f"{rng.uniform(self.low, self.high):.{DIGITS}g}"


@dataclass(frozen=True)
class LogUniform:
    """A range of positive numbers whose logarithm a random search draws uniformly."""

    low: float
    high: float

    def __post_init__(self) -> None:
        _check_ends(self)
        if not 0 < self.low < self.high:
            raise UserError(
                f"{self}: the ends of a logarithmic range must be positive, the first below the second"
            )

    def __str__(self) -> str:
        return f"log({self.low},{self.high})"

    def draw(self, rng: np.random.Generator) -> str:
        return f"{math.exp(rng.uniform(math.log(self.low), math.log(self.high))):.{DIGITS}g}"


def _check_ends(span: Uniform | LogUniform) -> None:
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in (span.low, span.high)):
        raise UserError(f"{span}: the ends of a range must be finite numbers")


Range = Uniform | LogUniform
_RANGES: dict[str, type[Range]] = {"uniform": Uniform, "log": LogUniform}


@dataclass(frozen=True)
class Sweep:
    """The settings of an algorithm to try; an element of `Study.algorithms`.

    `Sweep("iql", {"expectile": [0.5, 0.7, 0.9]})` is a grid; with `random`, so many settings are drawn from
    lists and ranges, `Sweep("td3_bc", {"alpha": LogUniform(0.5, 10)}, random=12)`, by default from the ranges
    that the algorithm declares. Its text, `str(sweep)`, is what the command line takes.
    """

    algorithm: str | type  # as in `Study.algorithms`
    settings: Mapping[str, Sequence[Any] | Range] = field(default_factory=dict)
    random: int | None = None
    seed: int = 0  # of the random search

    def __post_init__(self) -> None:
        if not self.settings and self.random is None:
            raise UserError(f"Sweep({self.algorithm!r}): give values of a setting, or random=12")
        for name, values in self.settings.items():
            listed = not isinstance(values, str) and isinstance(values, Iterable)
            if not isinstance(values, Range) and not (listed and len(list(values))):
                raise UserError(
                    f"Sweep({self.algorithm!r}): {name} must be a list of values, or a range, not {values!r}"
                )

    def __str__(self) -> str:
        items = [] if self.random is None else [f"random({self.random},seed={self.seed})"]
        for name, values in self.settings.items():
            text = str(values) if isinstance(values, Range) else "|".join(map(_text, values))
            items.append(f"{name}={text}")
        return f"{self.algorithm}:{','.join(items)}"


def _text(value: Any) -> str:
    return str(tuple(value)).replace(" ", "") if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class Candidate:
    """A setting of a sweep."""

    values: Mapping[str, str]  # of every setting that is given, as text
    # Of those that differ between candidates: "expectile=0.5 temperature=1". It has no comma, so that
    # `name=` can give it.
    label: str


def candidates(
    text: str, items: Sequence[str], declared: Mapping[str, str], algorithm: str
) -> list[Candidate] | None:
    """The settings of a sweep, from the items `key=value` of its text; None if the text is no sweep.

    `declared` holds the ranges that the algorithm declares. Raises UserError for an invalid sweep.
    """
    search = [item for item in items if item.startswith("random(")]
    parts = [item.partition("=") for item in items if item not in search]
    pairs = [(key, value.strip()) for key, equals, value in parts if equals]
    swept = {key: value for key, value in pairs if key != "name" and ("|" in value or _CALL.fullmatch(value))}
    if not search and not swept:
        return None
    fixed = {key: value for key, value in pairs if key not in swept and key != "name"}
    try:
        if len({key for key, _ in pairs}) < len(pairs):
            raise UserError("a setting is given twice")
        if not search:
            return _grid(swept, fixed)
        if len(search) > 1:
            raise UserError("random(…) is given more than once")
        return _random(*_count_and_seed(search[0]), swept, fixed, declared, algorithm)
    except UserError as error:
        raise UserError(f"algorithm {text!r}: {error}") from None


def _grid(swept: Mapping[str, str], fixed: Mapping[str, str]) -> list[Candidate]:
    """All combinations of the listed values."""
    for key, value in swept.items():
        if isinstance(choices(key, value), Range):
            raise UserError(
                f"{key}={value} is a range; say how many settings to draw: random(12),{key}={value}"
            )
    lists = [_listed(key, value) for key, value in swept.items()]
    count = math.prod(map(len, lists))
    if count > MAX_VARIANTS:
        raise UserError(f"a grid of {count} settings is more than {MAX_VARIANTS}; draw some with random(…)")
    return [_candidate(dict(zip(swept, values, strict=True)), fixed) for values in product(*lists)]


def _random(
    count: int,
    seed: int,
    swept: Mapping[str, str],
    fixed: Mapping[str, str],
    declared: Mapping[str, str],
    algorithm: str,
) -> list[Candidate]:
    """Settings drawn at random, all different, from the given lists and ranges or else the declared ones."""
    from seqeval.seeding import stream  # imports NumPy, which --help does not need

    swept = swept or {key: value for key, value in declared.items() if key not in fixed}
    if not swept:
        others = "for other settings" if declared else "for a random search"
        raise UserError(
            f"{algorithm} declares no ranges {others}; give some, as in random({count}),"
            "learning_rate=log(1e-4,1e-3)"
        )
    drawn_from = {key: choices(key, value) for key, value in swept.items()}
    rng = stream(seed, "sweep", algorithm)
    found: dict[str, Candidate] = {}
    for _ in range(100 * count):
        drawn = {
            key: choice.draw(rng) if isinstance(choice, Range) else choice[rng.integers(len(choice))]
            for key, choice in drawn_from.items()
        }
        candidate = _candidate(drawn, fixed)
        found.setdefault(candidate.label, candidate)
        if len(found) == count:
            return list(found.values())
    raise UserError(f"random({count}): there are only {len(found)} different settings to draw")


def _candidate(drawn: Mapping[str, str], fixed: Mapping[str, str]) -> Candidate:
    return Candidate({**fixed, **drawn}, " ".join(f"{key}={value}" for key, value in drawn.items()))


def choices(key: str, value: str) -> list[str] | Range:
    """The listed values of a setting, or the range that they are drawn from. Raises UserError."""
    return _range(key, value) if _CALL.fullmatch(value) else _listed(key, value)


def _listed(key: str, value: str) -> list[str]:
    values = [one.strip() for one in value.split("|")]
    if "" in values:
        raise UserError(f"{key}={value}: a value between two | is empty")
    if len(set(values)) < len(values):
        raise UserError(f"{key}={value}: a value is listed twice")
    return values


def _range(key: str, value: str) -> Range:
    call = _CALL.fullmatch(value)
    assert call is not None
    if call[1] not in _RANGES:
        raise UserError(f"{key}={value}: a range is {' or '.join(f'{name}(0.5,10)' for name in _RANGES)}")
    try:
        low, high = (float(end) if set(end) & set(".eE") else int(end) for end in call[2].split(","))
    except ValueError:
        raise UserError(f"{key}={value}: a range has two numbers, as in {call[1]}(0.5,10)") from None
    return _RANGES[call[1]](low, high)


def _count_and_seed(text: str) -> tuple[int, int]:
    """Of `random(12)` or `random(12,seed=1)`."""
    found = re.fullmatch(r"random\((\d+)(?:,seed=(\d+))?\)", text)
    if found is None or not 0 < int(found[1]) <= MAX_VARIANTS:
        raise UserError(
            f"{text!r}: a random search is random(12) or random(12,seed=1), of 1 to {MAX_VARIANTS} settings"
        )
    return int(found[1]), int(found[2] or 0)
