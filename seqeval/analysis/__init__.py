"""From rows to statistics: pure functions of the table that `storage.frame` gives.

rows        what a line is at every x, and whether its seeds are all there
measures    one number a run: final value, area, gain and drop online, forgetting
summaries   measures over seeds and over datasets: mean, median, IQM, optimality gap, profile, improvement
along       the same at every x; ranks, samples to a level, overtaking
bootstrap   the estimators and their intervals
"""

from .along import along, overtakings, ranks, samples_to
from .measures import areas, at, drops, finals, forgetting, gains
from .rows import (
    LINE,
    comparable,
    complete,
    curves,
    final,
    frozen,
    incomplete,
    shortfalls,
    unevaluated,
    unfinished,
    variants,
    with_planned,
    with_values,
    without_those,
)
from .summaries import across, difference, improvement, labels, means, profile

__all__ = [
    "LINE",
    "across",
    "along",
    "areas",
    "at",
    "comparable",
    "complete",
    "curves",
    "difference",
    "drops",
    "final",
    "finals",
    "forgetting",
    "frozen",
    "gains",
    "improvement",
    "incomplete",
    "labels",
    "means",
    "overtakings",
    "profile",
    "ranks",
    "samples_to",
    "shortfalls",
    "unevaluated",
    "unfinished",
    "variants",
    "with_planned",
    "with_values",
    "without_those",
]
