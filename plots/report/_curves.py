"""The curves as data for the page: every run once, rounded, on grids of x that runs share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from seqeval import analysis

from .. import curves, style

LINE_WIDTH = 2  # pixels; dashes are in units of it
PRECISION = 1e-5  # of the range of a dataset's returns: rounding by less is invisible
DARK_COLOURS = {"#000000": "#EDEDED"}  # replacements on a dark page for colours that would be invisible


def embedded(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The data from which the page draws, as plain values.

    `grids`: lists of n.
    `styles`: label, colours and dash of each (variant, study).
    `datasets`: name, transitions, reference (lowest and highest return, or None without scores), mean return
    of the data, and segments that arrive in turn.
    `lines`: for each dataset and style, by their index, its `runs`: [seed, index of the grid, index of the
    first online point, returns], with None for a missing return. A `frozen` line does not learn online.
    """
    rows = analysis.with_values(curves.add_from_scratch(rows, datasets))
    styles = curves.line_styles(rows)
    indices = {key: index for index, key in enumerate(styles)}
    names = list(rows["dataset"].unique())
    frozen = analysis.frozen_lines(rows)
    grids: dict[tuple[int, ...], int] = {}
    lines = []
    for index, name in enumerate(names):
        dataset_rows = rows[rows["dataset"] == name]
        decimals = _decimals(dataset_rows["return_mean"])
        for (variant, study), line in dataset_rows.groupby(["variant", "study"], sort=False):
            runs = []
            for seed, run in line.sort_values("samples").groupby("seed"):
                grid = grids.setdefault(tuple(run["samples"].tolist()), len(grids))
                online = int((run["phase"] == "offline").sum())
                returns = [None if np.isnan(v) else round(v, decimals) for v in run["return_mean"]]
                runs.append([int(seed), grid, online, returns])
            lines.append(
                {
                    "dataset": index,
                    "style": indices[variant, study],
                    "frozen": (name, variant, study) in frozen,
                    "runs": runs,
                }
            )
    scored = set(rows.loc[rows["unit"] == "score", "dataset"].unique())
    return {
        "grids": [list(grid) for grid in grids],
        "styles": [_style(line_style) for line_style in styles.values()],
        "datasets": [_dataset(name, datasets[name], name in scored) for name in names],
        "lines": lines,
    }


def _style(line: style.LineStyle) -> dict[str, str]:
    """A line style as Plotly and SVG write it: `dash` is lengths in pixels, empty for a solid line."""
    lengths = () if line.dash == "-" else line.dash[1]
    return {
        "label": line.label,
        "colour": line.colour,
        "dark": DARK_COLOURS.get(line.colour, line.colour),
        "dash": ",".join(f"{LINE_WIDTH * length:g}" for length in lengths),
    }


def _dataset(name: str, dataset: Mapping[str, Any], scored: bool) -> dict[str, Any]:
    reference = dataset["reference"]
    return {
        "name": name,
        "transitions": dataset["transitions"],
        "reference": [reference["minimum"], reference["maximum"]] if scored else None,
        "mean": dataset["behaviour_return"],
        "segments": curves.segments(dataset),
    }


def _decimals(returns: pd.Series) -> int:
    """Decimals to round returns to."""
    spread = float(returns.max() - returns.min())
    return max(0, math.ceil(-math.log10(PRECISION * spread))) if spread > 0 else 5
