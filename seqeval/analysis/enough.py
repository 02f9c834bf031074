"""Are there enough seeds? Sequential tests of all comparisons of a study, on each dataset.

The scores of each variant's seeds, in ascending order of the seeds, are those that AdaStop (`adastop`) draws,
`per_interim` at a time. The probability that any comparison of a dataset is decided wrongly, after any
interim, is at most alpha, as long as alpha, interims and per_interim do not depend on the scores.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from seqeval.errors import UserError, nearest
from seqeval.seeding import stream

from .adastop import Decision, Interim, adastop
from .statistics import STATISTICS


@dataclass(frozen=True)
class Design:
    """What is fixed before the test."""

    value: str = "final"  # a statistic of runs
    alpha: float = 0.05
    interims: int = 5
    per_interim: int = 5  # seeds of each variant

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1:
            raise UserError(f"alpha: must be between 0 and 1, not {self.alpha}")
        for name, least in (("interims", 1), ("per_interim", 2)):
            if getattr(self, name) < least:
                raise UserError(f"{name}: must be at least {least}, not {getattr(self, name)}")


@dataclass(frozen=True)
class Comparison:
    """A comparison of two variants on a dataset, after the interims that there are seeds for."""

    first: str
    second: str
    decision: Decision  # `larger`: the first has higher scores
    interims: int  # that it was part of
    difference: float | None  # of the means over the seeds of these interims; None before the first


@dataclass(frozen=True)
class SequentialTest:
    """The comparisons of a dataset."""

    dataset: str
    unit: str
    comparisons: Sequence[Comparison]
    missing: Mapping[str, Sequence[int]]  # the seeds that the next interim needs, of each open variant
    needed: int  # seeds of each open variant after the next interim

    @property
    def decided(self) -> bool:
        return all(comparison.decision != "continue" for comparison in self.comparisons)


def sequential_tests(rows: pd.DataFrame, design: Design, against: str | None = None) -> list[SequentialTest]:
    """The test of each dataset of a study; `rows` must be complete.

    It compares all pairs of variants, or each with `against`. Raises UserError for fewer than two variants.
    """
    values = STATISTICS[design.value].compute(rows)
    names = list(values["variant"].unique())
    if against is not None and against not in names:
        raise UserError(
            f"against: no {against!r} among the variants{nearest(against, names)}; choose from: "
            f"{', '.join(map(str, names))}"
        )
    found = []
    for (dataset, unit), part in values.groupby(["dataset", "unit"], sort=False):
        scores = {
            str(variant): of_variant.sort_values("seed").set_index("seed")["value"]
            for variant, of_variant in part.groupby("variant", sort=False)
        }
        if len(scores) < 2 or against not in (None, *scores):
            raise UserError(f"{dataset}: there are no two variants to compare")
        found.append(_test(str(dataset), str(unit), scores, design, against))
    if not found:
        raise UserError(f"no run has a value of the statistic {design.value}")
    return found


def _test(
    dataset: str, unit: str, scores: Mapping[str, pd.Series], design: Design, against: str | None
) -> SequentialTest:
    names, n = list(scores), design.per_interim
    pairs = list(combinations(range(len(names)), 2))
    if against is not None:
        first = names.index(against)
        pairs = [(first, other) for other in range(len(names)) if other != first]
    interims = _interims([of_variant.to_numpy() for of_variant in scores.values()], pairs, design, dataset)
    comparisons = []
    for place, (i, j) in enumerate(pairs):
        tested = sum(interim.statistics[place] is not None for interim in interims)
        means = [scores[names[agent]].to_numpy()[: tested * n].mean() if tested else None for agent in (i, j)]
        comparisons.append(
            Comparison(
                names[i],
                names[j],
                interims[-1].decisions[place] if interims else "continue",
                tested,
                None if means[0] is None or means[1] is None else float(means[0] - means[1]),
            )
        )
    open_names = {
        name
        for comparison in comparisons
        if comparison.decision == "continue"
        for name in (comparison.first, comparison.second)
    }
    needed = (len(interims) + 1) * n
    missing = {name: _next_seeds(scores[name].index.tolist(), needed) for name in names if name in open_names}
    return SequentialTest(dataset, unit, comparisons, missing, needed)


def _interims(
    scores: Sequence[np.ndarray], pairs: Sequence[tuple[int, int]], design: Design, dataset: str
) -> list[Interim]:
    """The interims for which every open comparison has its scores. A variant whose comparisons are decided
    needs no more."""
    longest = max(map(len, scores))
    padded = [np.concatenate([s, np.full(longest - len(s), np.nan)]) for s in scores]
    rng = stream(0, "adastop", dataset)
    found = []
    for interim in adastop(padded, pairs, design.per_interim, design.interims, design.alpha, rng):
        if any(value is not None and np.isnan(value) for value in interim.statistics):
            break
        found.append(interim)
    return found


def _next_seeds(present: Sequence[int], needed: int) -> list[int]:
    """Seeds that follow the present ones, up to `needed` seeds in all."""
    start = max(present, default=-1) + 1
    return list(range(start, start + needed - len(present)))
