"""The curves as data for the page: every run once, rounded, on grids of x that runs share."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import to_hex, to_rgb

from seqeval import analysis

from .. import DEFAULTS, _folding, _selection, curves, style

LINE_WIDTH = 2  # pixels; dashes are in units of it
PRECISION = 1e-5  # of the range of a dataset's returns: rounding by less is invisible
TRAINING_TIME = "training time (s)"
DARK_PAGE, LEAST_CONTRAST = "#141517", 4.0  # colours with less contrast to a dark page are lightened


def embedded(rows: pd.DataFrame, datasets: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The data from which the page draws, as plain values.

    `grids`: lists of n.
    `styles`: label, colours and dash of each (variant, study).
    `datasets`: name, transitions, reference (lowest and highest return, or None without scores), mean return
    of the data, and segments that arrive in turn.
    `metrics`: names of the numbers that were logged besides returns.
    `hidden`: the indices of the styles that are not shown at first, settings of a large sweep.
    `lines`: for each dataset and style, by their index, its `runs`: [seed, index of the grid, index of the
    first online point, returns, metrics], with None for a missing number. The last are lists in the order of
    `metrics`, or None if the run has no such number. A `frozen` line does not learn online.
    """
    order = _selection.order(rows, "dataset", DEFAULTS)
    sweeps = _folding.large_sweeps(rows, analysis.studies_of(rows), DEFAULTS)
    rows = analysis.with_values(curves.add_from_scratch(with_metrics(rows), datasets))
    metrics = [
        name
        for name in rows
        if (name.startswith((analysis.PREFIX, "train/")) and rows[name].notna().any())
        or name == TRAINING_TIME
    ]
    styles = curves.line_styles(rows)
    indices = {key: index for index, key in enumerate(styles)}
    names = [name for name in order if name in set(rows["dataset"])]
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
                runs.append([int(seed), grid, online, returns, [_rounded(run[name]) for name in metrics]])
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
        "styles": [embedded_style(line_style) for line_style in styles.values()],
        "metrics": metrics,
        "hidden": _hidden(rows, styles, sweeps),
        "datasets": [_dataset(name, datasets[name], name in scored) for name in names],
        "lines": lines,
    }


def _hidden(
    rows: pd.DataFrame, styles: style.LineStyles, sweeps: Mapping[tuple[str, str], list[str]]
) -> list[int]:
    """The settings of large sweeps that are not the best ones at the end of the data on any dataset."""
    thin = [_folding.folded(part, styles, sweeps) for _, part in rows.groupby("dataset")]
    return [i for i, key in enumerate(styles) if all(of_panel[key].thin for of_panel in thin)]


def embedded_style(line: style.LineStyle) -> dict[str, str]:
    """A line style as Plotly and SVG write it: `dash` is lengths in pixels, empty for a solid line."""
    lengths = () if line.dash == "-" else line.dash[1]
    return {
        "label": line.label,
        "colour": line.colour,
        "dark": _lightened(line.colour),
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


def with_metrics(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the training time of each run up to each point, in seconds, if rows have it."""
    if "train_seconds" not in rows:
        return rows
    ordered = rows.sort_values("samples", kind="stable")
    return rows.assign(**{TRAINING_TIME: ordered.groupby([*analysis.LINE, "seed"])["train_seconds"].cumsum()})


def _rounded(values: pd.Series) -> list[float | None] | None:
    """Numbers with four significant digits; None instead of a list if there is none."""
    finite = np.isfinite(values)
    if not finite.any():
        return None
    return [
        float(f"{value:.4g}") if is_finite else None for value, is_finite in zip(values, finite, strict=True)
    ]


def _lightened(colour: str) -> str:
    """A colour that can be seen on a dark page: mixed with white until it has enough contrast."""

    def luminance(rgb: np.ndarray) -> float:
        linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        return float(linear @ (0.2126, 0.7152, 0.0722))

    if colour == "#000000":
        return "#EDEDED"  # grey lines are published runs
    rgb = np.array(to_rgb(colour))
    while (luminance(rgb) + 0.05) / (luminance(np.array(to_rgb(DARK_PAGE))) + 0.05) < LEAST_CONTRAST:
        rgb = rgb + 0.05 * (1 - rgb)
    return to_hex(rgb).upper()


def _decimals(returns: pd.Series) -> int:
    """Decimals to round returns to."""
    spread = float(returns.max() - returns.min())
    return max(0, math.ceil(-math.log10(PRECISION * spread))) if spread > 0 else 5
