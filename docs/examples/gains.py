"""A figure: the gain of each run from its first point to the end of the data, one dot per seed."""

from matplotlib.figure import Figure
from seqeval.plots import FigureKind


def figure(rows, options):
    drawn = Figure(figsize=(5.5, 2.5), layout="constrained")
    ax = drawn.subplots()
    for place, (variant, group) in enumerate(rows.groupby("variant", sort=False)):
        runs = group.sort_values("samples").groupby(["study", "dataset", "seed"])["score"]
        gains = runs.last() - runs.first()
        ax.plot([place] * len(gains), gains, "o", alpha=0.6)
        ax.text(place, 1.02, str(variant), transform=ax.get_xaxis_transform(), ha="center")
    ax.axhline(0, color="grey", linewidth=0.8)
    ax.set(ylabel="gain in score", xticks=[])
    ax.margins(x=0.2)
    return drawn


FIGURE = FigureKind(figure, scores=True)
