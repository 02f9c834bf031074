"""Performance profile at the end of the data: the share of an algorithm's runs above each score, and the band
of its 95 % interval (Agarwal et al. 2021, arXiv 2108.13264)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from seqeval import analysis

from . import style


def plot(
    frame: pd.DataFrame, ax: Axes | None = None, looks: Mapping[tuple[str, str], style.Line] | None = None
) -> Axes:
    """What `analysis.performance_profile` gives, as steps. `looks` are by variant and study."""
    ax = style.axes(*style.PANEL) if ax is None else ax
    for line, look in style.each_line(frame, looks):
        style.draw(ax, "level", line, look, steps=True)
    ax.set(xlabel="score τ at the end of the data", ylabel="share of runs above τ", ylim=(-0.01, 1.01))
    ax.set_xlim(frame["level"].min(), frame["level"].max())
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """The profiles of complete rows, and a note for each thing to know of what is in them."""
    looks = style.lines_over_datasets(rows)
    rows, notes = analysis.comparable_rows(rows)
    finals = analysis.final_values(rows)
    # A share changes at the score of a run and nowhere else: with these levels the steps are exact.
    scores = np.unique(finals["value"])
    margin = 0.02 * (scores[-1] - scores[0]) or 1.0
    table = analysis.performance_profile(finals, [scores[0] - margin, *scores, scores[-1] + margin])
    return style.panel(plot, table, looks, style.counts(rows)), notes
