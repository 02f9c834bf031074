"""The drawings of the concept pages, as SVG."""

from __future__ import annotations

import io

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SEEN, HIDDEN, ONLINE, LINE = "#cfe3f5", "#eeeeee", "#fbe3c8", "#1f5f99"
START, GROW_BY, UPDATES, SIZE = 4, 1, 2, 10


def pages() -> dict[str, str]:
    return {"drawings/stream.svg": _svg(_stream), "drawings/axis.svg": _svg(_axis)}


def _svg(draw) -> str:  # type: ignore[no-untyped-def]
    """The same text at every build, so that Sphinx copies it once."""
    with mpl.rc_context({"svg.hashsalt": "seqeval", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure = Figure(figsize=(7, 3.4), layout="constrained")
        ax = figure.subplots()
        ax.spines[["top", "right"]].set_visible(False)
        draw(ax)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
    return out.getvalue()


def _stream(ax: Axes) -> None:
    """Visible transitions against updates: a staircase."""
    arrivals = (SIZE - START) // GROW_BY
    visible = START + GROW_BY * np.arange(arrivals + 1)
    edges = UPDATES * np.arange(arrivals + 2)
    ax.stairs(np.full(arrivals + 1, SIZE), edges, baseline=visible, fill=True, color=HIDDEN)
    ax.stairs(visible, edges, fill=True, color=SEEN)
    ax.stairs(visible, edges, baseline=None, color=LINE, linewidth=2)
    ax.text(edges[-1] * 0.55, START * 0.5, "visible: minibatches are sampled here", ha="center", color=LINE)
    ax.text(edges[-1] * 0.28, SIZE - 1, "has not arrived: never read", ha="center", color="#555555")
    ax.annotate(
        "the newest transition is in\nthe next minibatch",
        (edges[3] + 0.1, visible[3] - 0.1),
        (edges[4] + 0.6, visible[1] + 0.15),
        arrowprops={"arrowstyle": "->", "color": LINE},
        color=LINE,
        va="center",
    )
    ax.set(xlabel="gradient updates", ylabel="visible transitions", xlim=(0, edges[-1]), ylim=(0, SIZE))
    ax.set_yticks([0, START, START + GROW_BY, SIZE], ["0", "start", "start + grow_by", "N"])
    ax.set_xticks([0, UPDATES, 2 * UPDATES], ["0", "K", "2K"])


def _axis(ax: Axes) -> None:
    """One curve: offline and online on the same axis. The values are invented."""
    start, size, steps = 5, 70, 30
    offline = np.linspace(start, size, 9)
    online = np.linspace(size, size + steps, 5)
    ax.axvspan(start, size, color=SEEN, lw=0)
    ax.axvspan(size, size + steps, color=ONLINE, lw=0)
    scores = 55 * (1 - np.exp(-offline / 22))
    ax.plot(offline, scores, "o-", color=LINE)
    ax.plot(online, scores[-1] + 28 * (1 - np.exp(-(online - size) / 12)), "o-", color=LINE)
    ax.text((start + size) / 2, 88, "offline: logged data arrives", ha="center")
    ax.text(size + steps / 2, 93, "online: the agent acts,\none step at a time", ha="center", va="center")
    ax.annotate(
        "each point: episodes of\nthe deterministic policy",
        (offline[3], scores[3]),
        (36, 18),
        arrowprops={"arrowstyle": "->"},
    )
    ax.set(xlabel="transitions seen (n)", ylabel="score", xlim=(0, size + steps), ylim=(0, 100))
    ax.set_xticks([0, start, size, size + steps], ["0", "start", "N", "N + online steps"])
