"""How the value at the end of the data depends on K (updates between two arrivals) and γ (transitions that
arrive at once): a heat map for each dataset and algorithm, from studies that differ in nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seqeval import analysis
from seqeval.errors import UserError

from . import style

COLOURS = "viridis"
AXES = {"K": "protocol.updates_per_growth", "gamma": "protocol.grow_by"}


def plot(frame: pd.DataFrame, ax: Axes | None = None, scale: tuple[float, float] | None = None) -> Axes:
    """One dataset and algorithm: [K, gamma, unit, mean]. `scale` are the values of the darkest and of the
    lightest colour, by default the lowest and the highest."""
    ax = style.axes(style.TEXT_WIDTH / 3, 1.4) if ax is None else ax
    low, high = scale or (frame["mean"].min(), frame["mean"].max())
    grid = frame.pivot(index="K", columns="gamma", values="mean")  # sorted both ways
    ax.imshow(grid, cmap=COLOURS, vmin=low, vmax=high, aspect="auto", origin="lower")
    for (row, column), value in np.ndenumerate(grid.to_numpy()):
        if np.isnan(value):
            continue
        text = f"{value:.1f}" if frame["unit"].iloc[0] == "score" else f"{value:.4g}"
        ink = "#000000" if high > low and (value - low) / (high - low) > 0.6 else "#FFFFFF"
        ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=ink)
    ax.set_xticks(range(grid.shape[1]), grid.columns)
    ax.set_yticks(range(grid.shape[0]), grid.index)
    ax.tick_params(length=0)
    ax.grid(visible=False)
    ax.spines[:].set_visible(False)
    return ax


def figure(rows: pd.DataFrame, studies: Mapping[str, Mapping[str, Any]]) -> tuple[Figure, list[str]]:
    """A row of panels a dataset, with one scale of colours, and in it a panel an algorithm. No notes.

    Raises UserError where the studies differ in more than K and γ, or not in these.
    """
    _check(studies)
    table = analysis.last_points(rows[rows["phase"] == "offline"])
    for axis, key in AXES.items():
        values = {name: _settings(study)[key] for name, study in studies.items()}
        table[axis] = table["study"].map(values)
    datasets, variants = list(rows["dataset"].unique()), list(rows["variant"].unique())
    longest = 0.06 * max(map(len, variants))
    width = 0.2 + len(variants) * max(0.4 * table["gamma"].nunique(), 0.9, longest)
    height = 0.75 + 0.26 * table["K"].nunique()
    with style.context():
        size = min(style.TEXT_WIDTH, max(3.4, width)), 0.5 + height * len(datasets)
        drawn = Figure(figsize=size)
        parts = drawn.subfigures(len(datasets), 1, squeeze=False)[:, 0]
        for part, dataset in zip(parts, datasets, strict=True):
            of = table[table["dataset"] == dataset]
            axes = part.subplots(1, len(variants), sharey=True, squeeze=False)[0]
            for ax, variant in zip(axes, variants, strict=True):
                plot(of[of["variant"] == variant], ax, (of["mean"].min(), of["mean"].max()))
                ax.set(title=variant, xlabel="γ")
            axes[0].set_ylabel("K", rotation=0, va="center")
            part.suptitle(f"{dataset} ({of['unit'].iloc[0]})", fontsize=8)
        drawn.supxlabel(
            f"mean of {style.seeds(rows)} at the end of the data, colours per dataset\n"
            "K: updates between arrivals, γ: transitions that arrive at once",
            fontsize=7,
        )
    return drawn, []


def _check(studies: Mapping[str, Mapping[str, Any]]) -> None:
    """Raises UserError unless the studies differ in K and γ, and in these alone."""
    if len(studies) < 2:
        raise UserError("sensitivity: name several run directories, one for each pair of K and γ")
    (first, settings), *others = ((name, _settings(study)) for name, study in studies.items())
    if settings["protocol.regime"] != "stream":
        raise UserError(
            f"sensitivity: {first} is of the regime {settings['protocol.regime']}, without K and γ"
        )
    pairs = {tuple(settings[key] for key in AXES.values()): first}
    for name, theirs in others:
        for key in settings | theirs:
            if key not in AXES.values() and settings.get(key) != theirs.get(key):
                here, there = (repr(each[key]) if key in each else "missing" for each in (settings, theirs))
                raise UserError(
                    f"sensitivity: {key} is {here} in {first} and {there} in {name}; studies may differ in K "
                    "and γ alone"
                )
        pair = tuple(theirs[key] for key in AXES.values())
        if pair in pairs:
            raise UserError(f"sensitivity: {pairs[pair]} and {name} are both of K = {pair[0]}, γ = {pair[1]}")
        pairs[pair] = name


def _settings(study: Mapping[str, Any]) -> dict[str, Any]:
    """All that makes a study's numbers, by name."""
    groups = {group: study.get(group, {}) for group in ("protocol", "online", "evaluation")}
    for name, about in study["datasets"].items():
        groups[name] = {"digest": about["digest"], "reference": about["reference"]}
    for name, about in study["algorithms"].items():
        # Of a class in a file what the file holds counts, not where it lies.
        code = {"code": about["code"]} if "code" in about else {"algorithm": about["algorithm"]}
        groups[name] = code | about["config"]
    return {f"{group}.{key}": value for group, values in groups.items() for key, value in values.items()}
