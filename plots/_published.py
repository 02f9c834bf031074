"""Published runs behind the curves of a study, thin and grey, and the axis of those that have another x."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.markers import TICKUP
from matplotlib.ticker import EngFormatter
from matplotlib.transforms import offset_copy

from . import style

HEIGHT = 26  # points: of the axis above a panel
DOTS = {"marker": "o", "mew": 0}


def has_own_axis(published: pd.DataFrame | None) -> bool:
    """Whether the offline x of these runs is not the data seen, but updates on the full dataset."""
    return (
        published is not None
        and "full_data_updates" in published
        and bool(published["full_data_updates"].notna().any())
    )


def plot(ax: Axes, published: pd.DataFrame, colours: Mapping[str, str]) -> None:
    """Draws the runs at their column `x`, and their mean as far as all seeds go, with dots in the colour of
    the algorithm. Where only means are published, their interval is drawn in place of the runs."""
    for algorithm, runs in published.groupby("algorithm", sort=False):
        for _, run in runs.groupby("seed"):
            ax.plot(run["x"], run["score"], color=style.LIGHT_GREY, linewidth=0.4, zorder=1.2)
            if "low" in run and run["low"].notna().any():
                ax.fill_between(run["x"], run["low"], run["high"], color=style.LIGHT_GREY, alpha=0.5, lw=0)
        scores = runs.pivot(index="x", columns="seed", values="score").dropna()
        dots = DOTS | {"ms": 1.6, "mfc": colours[str(algorithm)], "markevery": max(1, len(scores) // 25)}
        ax.plot(scores.index, scores.mean(axis=1), color=style.GREY, linewidth=0.8, zorder=1.3, **dots)


def add_axis(ax: Axes, published: pd.DataFrame, start: float, end: float) -> None:
    """Writes ticks and a label above the offline part of a panel, from `start` to `end`, for published runs
    whose offline x is the number of updates. They are correct on an axis of any scale, which a secondary axis
    of Matplotlib is not."""
    updates = published["full_data_updates"].max()
    at_top = ax.get_xaxis_transform()
    figure = ax.get_figure(root=True)
    for share, align in ((0.0, "left"), (0.5, "center"), (1.0, "right")):
        place = start + share * (end - start)
        tick = {"marker": TICKUP, "ms": 3, "color": style.GREY, "transform": at_top, "clip_on": False}
        ax.plot([place], [1.0], **tick)
        text = EngFormatter(sep="")(share * updates)
        above = offset_copy(at_top, figure, y=4, units="points")
        ax.text(place, 1.0, text, transform=above, ha=align, va="bottom", fontsize="small", color=style.GREY)
    above = offset_copy(at_top, figure, y=13, units="points")
    words = {"transform": above, "ha": "center", "va": "bottom", "fontsize": "small", "color": style.GREY}
    ax.text((start + end) / 2, 1.0, "grey: updates on all data", **words)


def legend(published: pd.DataFrame) -> dict[str, Line2D]:
    """The entry of the legend."""
    name = published["source"].iloc[0] if "source" in published else "published runs"
    return {f"{name} (dots: mean)": Line2D([], [], color=style.GREY, lw=0.8, ms=2, **DOTS)}


def footer(published: pd.DataFrame | None) -> str:
    """A sentence on an x axis that means something else."""
    if published is None or not has_own_axis(published):
        return ""
    return (
        f"\nGrey, {published['source'].iloc[0]}: offline, x is the number of updates on the full dataset "
        "(upper axis), not data seen; only the ends of the offline phases can be compared"
    )
