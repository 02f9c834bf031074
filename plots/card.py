"""The card of a dataset as a figure: returns, lengths, rewards, actions, and returns in the order of the
file."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, MaxNLocator, PercentFormatter

from seqeval.analysis import card
from seqeval.analysis.card import Card, Histogram

from . import style

COLOUR, INCOMPLETE = style.COLOURS[0], style.COLOURS[1]
MANY = 2000  # episodes above which the points are rasterized in the PDF
RIDGE = 0.9  # height of the tallest histogram of actions, in units of their distance


def figure(about: Card) -> Figure:
    """The figure of a card, in scores if the dataset has reference returns, otherwise in returns.

    Episodes are the complete ones, or all if none is complete. The panel in the order of the file also
    shows the others, hollow.
    """
    unit, values = (
        ("return", about.dataset.episode_returns) if about.scores is None else ("score", about.scores)
    )
    counted = about.counted
    with style.context():
        drawn = Figure(figsize=(style.TEXT_WIDTH, 3.3))
        axes = drawn.subplot_mosaic([["returns", "lengths", "rewards"], ["order", "order", "actions"]])
        sizes = f"{_spaced(len(about.dataset))} transitions, {_spaced(len(values))} episodes"
        drawn.suptitle(f"{about.dataset.name}: {sizes}", fontsize="medium")

        bars(axes["returns"], card.histogram(values[counted]))
        mean = float(values[counted].mean())
        axes["returns"].axvline(mean, color="#666666", linestyle="--", linewidth=0.9)
        axes["returns"].set(xlabel=f"{unit} (dashed: mean, {mean:.1f})", ylabel="episodes")
        bars(axes["lengths"], card.histogram(about.lengths[counted]))
        axes["lengths"].set(xlabel="steps", ylabel="episodes")
        bars(axes["rewards"], about.rewards)
        axes["rewards"].set(xlabel="reward", ylabel="transitions")

        in_order(axes["order"], values, about)
        hollow = "" if about.dataset.episode_complete.all() else " (hollow: incomplete episodes)"
        axes["order"].set(xlabel=f"transition, in the order of the file{hollow}", ylabel=unit)
        if about.discrete:
            shares(axes["actions"], about.actions[0])
        elif len(about.actions) == 1:
            density(axes["actions"], about.actions[0])
        else:
            ridges(axes["actions"], about.actions)
    return drawn


def bars(ax: Axes, histogram: Histogram) -> None:
    """Draw a histogram with its counts on the y axis."""
    ax.stairs(*histogram, fill=True, color=COLOUR, alpha=0.8)
    ax.set_ylim(0)
    ax.grid(visible=False, axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    ax.yaxis.set_major_formatter(EngFormatter(sep=""))


def in_order(ax: Axes, values: np.ndarray, about: Card) -> None:
    """Draw a point per episode, with `values` (E,) on the y axis, where the episode begins in the file."""
    first = np.cumsum(about.lengths) - about.lengths
    size, many = float(np.clip(2000 / len(values), 1, 8)), len(values) > MANY
    complete = about.dataset.episode_complete
    ax.scatter(first[complete], values[complete], s=size, color=COLOUR, alpha=0.7, lw=0, rasterized=many)
    hollow = {"facecolors": "none", "edgecolors": INCOMPLETE, "linewidths": 0.7, "clip_on": False}
    ax.scatter(first[~complete], values[~complete], s=max(size, 6), **hollow)
    ax.set_xlim(0, about.lengths.sum())
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))


def shares(ax: Axes, histogram: Histogram) -> None:
    """Draw the share of each discrete action."""
    heights = histogram.counts / histogram.counts.sum()
    ax.bar((histogram.edges[:-1] + histogram.edges[1:]) / 2, heights, color=COLOUR, alpha=0.8)
    ax.set(xlabel="action", ylabel="share of transitions", ylim=0)
    ax.grid(visible=False, axis="x")
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))


def density(ax: Axes, histogram: Histogram) -> None:
    """Draw the share of the transitions in each bin of the only action dimension, between its bounds."""
    shares = Histogram(histogram.counts / histogram.counts.sum(), histogram.edges)
    bars(ax, shares)
    ax.set(xlabel="action, between its bounds", ylabel="share of transitions", xlim=histogram.edges[[0, -1]])
    ax.yaxis.set_major_locator(MaxNLocator(4))
    ax.yaxis.set_major_formatter(PercentFormatter(1))


def ridges(ax: Axes, histograms: tuple[Histogram, ...]) -> None:
    """Draw a histogram per action dimension, the first at the top, all at one scale, between the bounds."""
    highest = max(histogram.counts.max() for histogram in histograms)
    for dimension, histogram in enumerate(histograms):
        base = len(histograms) - 1 - dimension
        edges = np.linspace(-1, 1, len(histogram.edges))
        tops = base + RIDGE * histogram.counts / highest
        ax.stairs(tops, edges, baseline=base, fill=True, color=COLOUR, alpha=0.8)
    labelled = range(0, len(histograms), -(-len(histograms) // 8))
    ax.set_yticks([len(histograms) - 1 - dimension for dimension in labelled], list(map(str, labelled)))
    ax.set_xticks([-1, 0, 1], ["low", "middle", "high"])
    ax.set(xlabel="action (between its bounds)", ylabel="dimension", xlim=(-1, 1), ylim=(0, len(histograms)))


def _spaced(count: int) -> str:
    """A number with a thin space between groups of three digits."""
    return f"{count:,}".replace(",", "\u2009")
