"""One look for every figure: sizes for a paper, colours that colour-blind readers can tell apart."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

TEXT_WIDTH = 5.5  # inches: a NeurIPS page

# Okabe & Ito's palette (https://jfly.uni-koeln.de/color/), its yellow left out: too pale for a line on white.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
# An algorithm that comes with the suite always has the same colour, whatever else is drawn.
OWN = {"bc": COLOURS[6], "td3_bc": COLOURS[0], "iql": COLOURS[1], "awac": COLOURS[2], "cql": COLOURS[3]}
DASHES = ("-", (0, (4, 1.2)), (0, (1, 1)), (0, (4, 1, 1, 1)))

RC = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.labelsize": 8,
    "legend.fontsize": 8,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.grid": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "lines.linewidth": 1.3,
    "figure.constrained_layout.use": True,
    "pdf.fonttype": 42,  # text that stays text
    "svg.fonttype": "none",
}


def line_styles(lines: Iterable[str]) -> dict[str, tuple[str, object]]:
    """A colour and a dash for each line, in the order of first sight: colours first, then dashes."""
    names = list(dict.fromkeys(lines))
    taken = {OWN[name] for name in names if name in OWN}
    free = [colour for colour in COLOURS if colour not in taken]
    others = [name for name in names if name not in OWN]
    styles: dict[str, tuple[str, object]] = {name: (OWN[name], "-") for name in names if name in OWN}
    palette = free + [c for c in COLOURS if c not in free]
    for index, name in enumerate(others):
        dash = DASHES[(index // len(palette) + (index % len(palette) >= len(free))) % len(DASHES)]
        styles[name] = (palette[index % len(palette)], dash)
    return styles


def save(figure: Figure, path: Path) -> list[Path]:
    """Saves a figure as PNG and as PDF beside each other (`path` with either ending), or as `path` says
    where it ends otherwise. Returns what was written."""
    paths = (
        [path.with_suffix(ending) for ending in (".png", ".pdf")]
        if path.suffix in (".png", ".pdf")
        else [path]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    for file in paths:
        # No time of day in the file: the same rows give the same bytes.
        metadata = {"CreationDate": None} if file.suffix == ".pdf" else None
        figure.savefig(file, dpi=300, metadata=metadata)
    return paths


def context() -> mpl.rc_context:  # type: ignore[name-defined]
    return mpl.rc_context(RC)
