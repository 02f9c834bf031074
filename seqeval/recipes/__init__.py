"""Recipes: the settings that authors publish for a dataset.

ALGORITHM.csv holds those of an algorithm, made by experiments/make_recipes.py. To add recipes for another
algorithm, add its table there. Columns:

- `dataset`: a name, a shell pattern (`hopper-*`), or `*` for defaults that are not tuned for a dataset
- `phase`: `offline`, `finetune` (offline, then online) or `online` (online with offline data)
- `setting`, `value`: of our algorithm; no setting where it has no counterpart, and `note` says why
- `parameter`: the authors' own parameter and value
- `source`: repository:path; the repository that comes first in the file is preferred
- `note`: remarks, such as a conflict between sources

A recipe takes one source, never a mix of two: the first that names the dataset, by its name or by a pattern.
Within it a name wins over a pattern, a longer pattern over a shorter one, and any over `*`.
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from importlib.resources import files
from typing import Any

Row = dict[str, str]


@dataclass(frozen=True)
class Recipe:
    """Published settings of an algorithm for a dataset."""

    source: str  # repository
    phase: str  # of the published settings
    settings: dict[str, Any]
    origins: dict[str, str]  # setting -> the authors' parameter and value, the file, remarks
    without: dict[str, str]  # the authors' parameter and value -> why it has no setting here


def exists(algorithm: str) -> bool:
    """Whether there are recipes for an algorithm."""
    return bool(_table(algorithm))


def datasets(algorithm: str) -> list[str]:
    """The datasets that an algorithm's recipes name, without patterns."""
    return list(dict.fromkeys(row["dataset"] for row in _table(algorithm) if not _is_pattern(row)))


def find(algorithm: str, dataset: str, online: bool = False) -> Recipe | None:
    """The recipe of an algorithm for a dataset; None if nobody published one.

    With `online`, an online phase follows: settings for it are preferred over those for training offline.
    """
    name = normalized(dataset)
    for phase in ("finetune", "online", "offline") if online else ("offline",):
        rows = [row for row in _table(algorithm) if row["phase"] == phase and _matches(row, name)]
        sources = [_repository(row) for row in rows if row["dataset"] != "*"]
        if sources:
            return _recipe([row for row in rows if _repository(row) == sources[0]], sources[0], phase)
    return None


def _recipe(rows: Sequence[Row], source: str, phase: str) -> Recipe:
    """The recipe of the rows of one source that match a dataset."""
    settings: dict[str, Any] = {}
    origins: dict[str, str] = {}
    without: dict[str, str] = {}
    for row in sorted(rows, key=_precedence):
        if not row["setting"]:
            without[row["parameter"]] = row["note"]
            continue
        settings[row["setting"]] = ast.literal_eval(row["value"])
        path, note = row["source"].partition(":")[2], row["note"]
        origins[row["setting"]] = f"{row['parameter']} in {path}" + (f" ({note})" if note else "")
    return Recipe(source, phase, settings, origins, without)


@cache
def _table(algorithm: str) -> tuple[Row, ...]:
    """The rows of an algorithm's recipes; none if it has no table."""
    path = files(__name__) / f"{algorithm}.csv"
    if not re.fullmatch(r"\w+", algorithm) or not path.is_file():
        return ()
    return tuple(csv.DictReader(path.read_text().splitlines()))


def _matches(row: Row, name: str) -> bool:
    return fnmatchcase(name, normalized(row["dataset"]))


def _precedence(row: Row) -> tuple[bool, int]:
    """Larger for a row that wins: a name, then patterns by length, then `*`."""
    return not _is_pattern(row), len(row["dataset"])


def _is_pattern(row: Row) -> bool:
    return bool(re.search(r"[*?\[]", row["dataset"]))


def _repository(row: Row) -> str:
    return row["source"].partition(":")[0]


def normalized(dataset: str) -> str:
    """D4RL writes hopper_medium-v2 in the names of its files and hopper-medium-v2 elsewhere."""
    return dataset.lower().replace("_", "-")
