"""What a rule of the contract is, what is reported of it, and how rules state what they expect."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from seqeval.check.subject import Subject
from seqeval.check.tracing import leaves

Status = Literal["ok", "failed", "skipped"]
EXACT = (0.0, 0.0)  # rtol and atol
FLOAT32 = (1e-4, 1e-5)  # for sums in another order
FLOAT32_LONG = (1e-2, 1e-3)  # the same after a long training, in which such differences grow
FLOAT64 = (0.0, 1e-9)  # shows even differences that Adam hides in float32


class ContractError(Exception):
    """A breach of the contract: what was expected, and what the plug-in does instead."""

    def __init__(self, expected: str, got: object) -> None:
        super().__init__(f"expected {expected}, got {got}")
        self.expected, self.got = expected, str(got)


@dataclass(frozen=True)
class Rule:
    """One rule. `check` takes the subject of an algorithm or of an evaluator; it raises ContractError, or
    whatever the plug-in itself raises."""

    name: str
    title: str
    contract: str  # the file and the place in it that state it
    needs: tuple[Rule, ...]  # rules that must hold before this one can be checked
    check: Callable[[Any], None]


@dataclass(frozen=True)
class Result:
    """The result of one rule."""

    rule: Rule
    status: Status
    expected: str = ""  # of a rule that failed
    got: str = ""
    cause: Rule | None = None  # of a rule that was skipped: the rule that failed before

    @property
    def name(self) -> str:
        return self.rule.name

    @property
    def message(self) -> str:
        """Empty unless the rule failed."""
        return f"expected {self.expected}, got {self.got}" if self.status == "failed" else ""


def rule(title: str, contract: str, *needs: Rule) -> Callable[[Callable[[Subject], None]], Rule]:
    """Makes a function the check of a rule on algorithms, of the same name."""
    return lambda check: Rule(check.__name__, title, f"seqeval/algorithm.py, {contract}", needs, check)


def expect(condition: bool, expected: str, got: object) -> None:
    """Raises ContractError unless a condition holds."""
    if not condition:
        raise ContractError(expected, got)


def expect_equal(one: Any, other: Any, expected: str, tolerance: tuple[float, float] = EXACT) -> None:
    """Raises ContractError if two nested values differ."""
    found = difference(one, other, tolerance)
    expect(found is None, expected, found)


def difference(one: Any, other: Any, tolerance: tuple[float, float] = EXACT) -> str | None:
    """Describes the first value in which two nested values differ; None if they are equal."""
    left, right = leaves(one), leaves(other)
    for path in left | right:
        if path not in left or path not in right:
            return f"{path} in only one of them"
    for path, a in left.items():
        b = right[path]
        if not (isinstance(a, Tensor) and isinstance(b, Tensor)):
            if type(a) is not type(b) or not np.array_equal(a, b):
                return f"{path} {a!r} and {b!r}"
        elif a.shape != b.shape:
            return f"{path or 'shapes'} {tuple(a.shape)} and {tuple(b.shape)}"
        elif not torch.allclose(a.double(), b.double(), *tolerance, equal_nan=True):
            return f"{path or 'values'} different by {(a.double() - b.double()).abs().max().item():.2g}"
    return None


def differing(one: Mapping[str, Any], other: Mapping[str, Any]) -> list[str]:
    """The paths of the values that differ, or that are in only one, sorted."""
    absent = object()
    return sorted(
        path
        for path in one.keys() | other.keys()
        if difference({path: one.get(path, absent)}, {path: other.get(path, absent)}) is not None
    )
