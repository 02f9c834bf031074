"""The rows as the page holds them: every run once, rounded, on grids of x that runs share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqeval import analysis

from .. import curves, style

WIDTH = 2  # of a line on the screen, in pixels; dashes are in units of it
FINE = 1e-5  # of the spread of a dataset's returns: rounding by less shows nowhere
DARK = {"#000000": "#EDEDED"}  # colours that would not be seen on a dark page, and what is drawn instead


def embedded(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the page draws from, as plain values.

    `grids`: lists of n. `looks`: label, colours and dash of each (variant, study). `datasets`: name,
    transitions, reference (lowest and highest return of the scale, or None where there are no scores), the
    data's own mean return, and segments where they arrive in turn. `lines`: each of a dataset and a look, by
    number, with its `runs`: [seed, number of the grid, number of the first online point, returns], None where
    there is no return. A line is `frozen` where it does not learn online.
    """
    rows = analysis.with_values(curves.beside_data(rows, datasets))
    styles = curves.styles_of(rows)
    numbers = {key: number for number, key in enumerate(styles)}
    names = list(rows["dataset"].unique())
    frozen = analysis.frozen_lines(rows)
    grids: dict[tuple[int, ...], int] = {}
    lines = []
    for name in names:
        mine = rows[rows["dataset"] == name]
        digits = _digits(mine["return_mean"])
        for (variant, study), line in mine.groupby(["variant", "study"], sort=False):
            runs = []
            for seed, run in line.sort_values("samples").groupby("seed"):
                grid = grids.setdefault(tuple(run["samples"].tolist()), len(grids))
                online = int((run["phase"] == "offline").sum())
                runs.append([int(seed), grid, online, [_rounded(v, digits) for v in run["return_mean"]]])
            lines.append(
                {
                    "dataset": names.index(name),
                    "look": numbers[variant, study],
                    "frozen": (name, variant, study) in frozen,
                    "runs": runs,
                }
            )
    scored = set(rows.loc[rows["unit"] == "score", "dataset"].unique())
    return {
        "grids": [list(grid) for grid in grids],
        "looks": [
            {"label": look.label, "colour": look.colour, "dark": dark(look.colour), "dash": dash(look)}
            for look in styles.values()
        ],
        "datasets": [_about(name, datasets[name], name in scored) for name in names],
        "lines": lines,
    }


def dark(colour: str) -> str:
    """A colour as it is on a dark page."""
    return DARK.get(colour, colour)


def dash(look: style.Line) -> str:
    """As Plotly and SVG write it: lengths in pixels; empty for a line without gaps."""
    if look.dash == "-":
        return ""
    _, lengths = look.dash
    return ",".join(f"{WIDTH * length:g}" for length in lengths)


def _about(name: str, about: Mapping[str, Any], scored: bool) -> dict[str, Any]:
    reference = about["reference"]
    return {
        "name": name,
        "transitions": about["transitions"],
        "reference": [reference["minimum"], reference["maximum"]] if scored else None,
        "mean": about["behaviour_return"],
        "segments": curves.segments_of(about),
    }


def _digits(returns: pd.Series) -> int:
    """Decimals to round returns to."""
    spread = float(returns.max() - returns.min())
    return max(0, math.ceil(-math.log10(FINE * spread))) if spread > 0 else 5


def _rounded(value: float, digits: int) -> float | None:
    return None if np.isnan(value) else round(value, digits)
