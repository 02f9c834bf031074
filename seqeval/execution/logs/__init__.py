"""Where the rows of a study are also written while it runs: one file for each, with a class `Log`;
`Execution.log` names the file."""

from __future__ import annotations

import importlib
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from seqeval.execution.storage import StudyDirectory


class RowLog(ABC):
    """Writes the rows of a study, which begin with those that are stored already. A context manager."""

    def __init__(self, out: StudyDirectory) -> None:
        """Raises UserError if the log cannot be written."""
        self._out = out

    def __enter__(self) -> Self:
        for row in self._out.rows():
            self.add(row)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Completes what has been written."""

    @abstractmethod
    def add(self, row: Mapping[str, Any]) -> None:
        """Writes the numbers of a row, which has the fields of `Row`."""


def find(name: str) -> type[RowLog]:
    """The class of a log. Raises UserError if its package is not installed."""
    return importlib.import_module(f"{__name__}.{name}").Log


def finite_numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Score, return, losses and metrics of a row, those that are finite."""
    numbers = (
        {"score": row["score"], "return_mean": row["return_mean"]}
        | {f"train/{key}": value for key, value in row["metrics"].items()}
        | {f"eval/{key}": value for key, value in row["evaluations"].items()}
    )
    return {name: value for name, value in numbers.items() if value is not None and math.isfinite(value)}
